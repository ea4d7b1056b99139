"""Warp: a power transform of each skewed channel, so that its noise is Gaussian and of one size at every level.

Concentrations, counts of patients or rates move more the higher they are. Yeo and Johnson's (2000) family straightens
that. Its power is chosen by Box and Cox's (1964) criterion, the likelihood of a regression with Gaussian noise of one
size, here of each value on the two before it and on the other channels: so channels that are sums of others, as loads
and flows are, stay as they are, and those that multiply become sums. The channel's own distribution must not say the
opposite: where a smooth movement is merely slower at some angles than at others, there is nothing to straighten.

That family bends at the mean, on the scale of all values. Where sizes differ by orders of magnitude, as among firms or
countries, the small ones lie on its straight part. If that is much less likely than Box and Cox's own family, powers of
what lies above zero, a channel is counted from zero, in units of its smallest values, and then bent; so is one of few
values, which do not tell.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

POWERS = np.round(np.arange(0.0, 2.01, 0.1), 1)
"""Powers that are tried."""

_LEAST_GAIN = 0.02  # nats a value, below which a channel stays as it is
_LEAST_TOTAL = 5.0  # nats in all: chance gains 2 in 20 channels
_FEW = 200  # steps with both neighbours before them, below which values are taken without if these are most
_LAGS = 2
_SWEEPS = 2  # each channel is chosen given the others, twice
_ROWS_A_CHANNEL = 4  # that the other channels need to be looked at
_NUMBERS = 1 << 19  # rows times channels that are looked at
_FENCE = 3.0  # interquartile ranges beyond a quartile where Tukey's far-out values begin
_CODES = 1e-3  # share of far-out values on one side that are no accident
_SKEWED = 0.1  # skewness beyond which only powers that lessen it are tried
_LEAST_NOISE = 1e-6  # of the variance: what is predicted better than that is as good as known
_SMALLEST, _UNIT = 0.01, 0.1  # share of values below one of the smallest; of it, the unit of what is counted from zero
_ROUNDING = 1e-9  # of the mean
_ORDERS_APART = 0.5  # nats a value, by which that must be likelier than counting from the mean
_SHORT, _AS_LIKELY = 300, 2.0  # values that tell families apart no better than by so many nats: zero is natural there
_NODES = np.polynomial.hermite_e.hermegauss(21)


@dataclass(frozen=True)
class Warp:
    """From standardised values z to (f(u) - centre) / scale, u = (z - zero) / unit, f Yeo and Johnson's transform.

    Beyond ``low`` and ``high`` f goes on as a straight line, so that a far future is not raised to a power. Below zero
    a channel that is counted from zero has -f(-u), so that one odd value is not the end of the world.

    Attributes:
        power: of each channel; 1 leaves a channel as it is.
        low: smallest u that is bent, at most 0.
        high: largest u that is bent, at least 0.
        centre: mean of f(u) where the power was chosen; 0 where it is 1.
        scale: standard deviation of f(u) there; 1 where the power is 1.
        zero: z that u is counted from: what is 0 in the data's units, or 0, the mean.
        unit: of u, in z; 1 of channels that are counted from the mean.
    """

    power: Float[np.ndarray, " channel"]
    low: Float[np.ndarray, " channel"]
    high: Float[np.ndarray, " channel"]
    centre: Float[np.ndarray, " channel"]
    scale: Float[np.ndarray, " channel"]
    zero: Float[np.ndarray, " channel"]
    unit: Float[np.ndarray, " channel"]

    @property
    def bent(self) -> Bool[np.ndarray, " channel"]:
        """Channels that are changed."""
        return self.power != 1

    def problem(self, width: int) -> str:
        """What is wrong with numbers from a file, or empty."""
        arrays = (self.power, self.low, self.high, self.centre, self.scale, self.zero, self.unit)
        if not all(a.shape == (width,) and np.isfinite(a).all() for a in arrays):
            return f"expected {width} finite numbers each"
        right = (self.power >= 0) & (self.power <= 2) & (self.low <= 0) & (self.high >= 0)
        right &= (self.scale > 0) & (self.unit > 0)
        return "" if right.all() else "expected powers from 0 to 2, low <= 0 <= high, positive scales and units"

    def forward(self, z: Float[np.ndarray, "*n channel"]) -> Float[np.ndarray, "*n channel"]:
        """Standardised values to model units; NaN stays NaN."""
        return self._where_bent(z, self._bend)

    def inverse(self, x: Float[np.ndarray, "*n channel"]) -> Float[np.ndarray, "*n channel"]:
        """Model units to standardised values."""
        return self._where_bent(x, self._straighten)

    def moments(
        self, mean: Float[np.ndarray, "*n channel"], std: Float[np.ndarray, "*n channel"]
    ) -> tuple[Float[np.ndarray, "*n channel"], Float[np.ndarray, "*n channel"]]:
        """Mean and standard deviation, in standardised units, of what is Gaussian in model units.

        Gauss and Hermite's rule with 21 points, counted from the median, so that nothing cancels.
        """
        mean, std = np.array(mean, np.float64), np.array(std, np.float64)
        bent = self.bent
        middle, spread = mean[..., bent], std[..., bent]
        median = self._straighten(middle, bent)
        first, second = np.zeros_like(middle), np.zeros_like(middle)
        for node, weight in zip(_NODES[0], _NODES[1] / _NODES[1].sum(), strict=True):
            away = self._straighten(middle + spread * node, bent) - median
            first += weight * away
            second += weight * away**2
        mean[..., bent] = median + first
        std[..., bent] = np.sqrt(np.maximum(second - first**2, 0.0))
        return mean, std

    def _where_bent(self, values: np.ndarray, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        changed, bent = np.array(values, np.float64), self.bent
        changed[..., bent] = change(changed[..., bent], bent)
        return changed

    def _bend(self, z: np.ndarray, bent: np.ndarray) -> np.ndarray:
        power, u = self.power[bent], (z - self.zero[bent]) / self.unit[bent]
        sign = np.where((self.unit[bent] != 1) & (u < 0), -1.0, 1.0)
        u = sign * u
        inside = np.clip(u, self.low[bent], self.high[bent])
        straight = yeo_johnson(inside, power) + _slope(inside, power) * (u - inside)
        return (sign * straight - self.centre[bent]) / self.scale[bent]

    def _straighten(self, x: np.ndarray, bent: np.ndarray) -> np.ndarray:
        power, low, high = self.power[bent], self.low[bent], self.high[bent]
        f = x * self.scale[bent] + self.centre[bent]
        sign = np.where((self.unit[bent] != 1) & (f < 0), -1.0, 1.0)
        f = sign * f
        inside = np.clip(f, yeo_johnson(low, power), yeo_johnson(high, power))
        u = yeo_johnson_inverse(inside, power)
        u = u + (f - inside) / _slope(np.clip(u, low, high), power)
        return self.zero[bent] + self.unit[bent] * sign * u


def yeo_johnson(z: Float[np.ndarray, "*n"], power: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """((1 + z)^p - 1) / p for z >= 0, -((1 - z)^(2 - p) - 1) / (2 - p) below, p the power (Yeo and Johnson, 2000)."""
    side = np.where(z < 0, 2 - power, power)
    size = np.log1p(np.abs(z))
    bent = np.where(side == 0, size, np.expm1(side * size) / np.where(side == 0, 1.0, side))
    return np.where(z < 0, -bent, bent)


def yeo_johnson_inverse(f: Float[np.ndarray, "*n"], power: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The z of a transformed value; powers from 0 to 2, for which there is always one."""
    side = np.where(f < 0, 2 - power, power)
    size = np.abs(f)
    log_size = np.where(side == 0, size, np.log1p(side * size) / np.where(side == 0, 1.0, side))
    z = np.expm1(log_size)
    return np.where(f < 0, -z, z)


def _slope(z: np.ndarray, power: np.ndarray) -> np.ndarray:
    return np.exp(_log_slope(z, power))


def _log_slope(z: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Log of the derivative of f."""
    return np.where(z < 0, -1.0, 1.0) * (power - 1) * np.log1p(np.abs(z))


def choose_warp(
    pieces: list[Float[np.ndarray, "time channel"]], zero: Float[np.ndarray, " channel"] | None = None
) -> Warp | None:
    """The warp of some standardised series, NaN where nothing was observed; None if no channel gains from one.

    Args:
        pieces: stretches of consecutive steps.
        zero: what is 0 in the data's units; None if nothing is.
    """
    unit = np.ones(pieces[0].shape[1]) if zero is None else _smallest_units(pieces, zero)
    power, start = _powers_in(unit, pieces, zero)
    if ((power == 1) & (unit != 1)).any():  # zero is no help there after all
        unit = np.where(power == 1, 1.0, unit)
        power, start = _powers_in(unit, pieces, zero)
    bent, from_zero = power != 1, unit != 1
    if not bent.any():
        return None
    pieces = [(piece - start) / unit for piece in pieces]
    joined = np.concatenate(pieces)[:, bent]
    least, most = np.nanmin(joined, axis=0), np.nanmax(joined, axis=0)
    changed = yeo_johnson(joined, power[bent])
    nothing, one = np.zeros(len(power)), np.ones(len(power))
    low, high, centre, scale = nothing.copy(), nothing.copy(), nothing.copy(), one
    low[bent], high[bent] = np.minimum(least - (most - least), 0.0), np.maximum(most + (most - least), 0.0)
    low[from_zero] = 0.0
    centre[bent], scale[bent] = np.nanmean(changed, axis=0), np.nanstd(changed, axis=0)
    return Warp(power, low, high, centre, scale, np.where(bent, start, 0.0), np.where(bent, unit, 1.0))


def _powers_in(
    unit: Float[np.ndarray, " channel"],
    pieces: list[Float[np.ndarray, "time channel"]],
    zero: Float[np.ndarray, " channel"] | None,
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, " channel"]]:
    """The powers of channels in their units, and what they are counted from."""
    from_zero = unit != 1
    start = np.zeros(len(unit)) if zero is None else np.where(from_zero, zero, 0.0)
    return choose_powers([(piece - start) / unit for piece in pieces], from_zero), start


def _smallest_units(
    pieces: list[Float[np.ndarray, "time channel"]], zero: Float[np.ndarray, " channel"]
) -> Float[np.ndarray, " channel"]:
    """The unit of channels that are counted from zero; 1 for the others.

    Nothing may be below zero, and Box and Cox's family be likelier by far than Yeo and Johnson's from the mean; as
    likely, where few values are all there are.
    """
    windows, unit = _windows(pieces), np.ones(len(zero))
    for d in range(len(zero)):
        own = windows[:, d] - zero[d]
        now = own[:, -1][~np.isnan(own[:, -1])]
        smallest = float(np.quantile(now, _SMALLEST)) if len(now) else 0.0
        if smallest <= _ROUNDING * abs(zero[d]) or now.min() < -_ROUNDING * abs(zero[d]):
            continue
        smallest *= _UNIT  # so that nearly all values lie where the family is Box and Cox's
        own = _voting(own / smallest, *_fences(own[:, -1] / smallest, from_zero=True))[1]
        if len(own) > _LAGS + 1 and np.ptp(own[:, -1]) > 0:
            known = np.ones((len(own), 1))
            gain = _log_likelihoods(own, known).max() - _log_likelihoods(own * smallest + zero[d], known).max()
            gain -= np.log(smallest)
            likelier = gain > _ORDERS_APART and gain * len(own) > _LEAST_TOTAL
            if likelier or (len(own) < _SHORT and gain * len(own) > -_AS_LIKELY):
                unit[d] = smallest
    return unit


def choose_powers(
    pieces: list[Float[np.ndarray, "time channel"]], from_zero: Bool[np.ndarray, " channel"] | None = None
) -> Float[np.ndarray, " channel"]:
    """The most likely power of each channel given those of the others; 1 where too little is gained.

    Args:
        pieces: stretches of consecutive steps.
        from_zero: channels that are counted from zero; None for none.
    """
    windows = _windows(pieces)
    power = np.ones(windows.shape[1])
    from_zero = np.zeros(len(power), bool) if from_zero is None else from_zero
    power[from_zero] = 0.0  # to begin with: as they are, their largest values would drown all else
    for _ in range(_SWEEPS):
        now = np.nan_to_num(yeo_johnson(windows[:, :, -1], power[None, :]))
        for d in range(len(power)):
            others = np.delete(now, d, axis=1)
            power[d] = _power_of(windows[:, d], others, from_zero=bool(from_zero[d]))
            now[:, d] = np.nan_to_num(yeo_johnson(windows[:, d, -1], power[d]))
    return power


def _windows(pieces: list[np.ndarray]) -> Float[np.ndarray, "row channel lag"]:
    """Values after those before them; what is before the first step of a piece is not observed."""
    every, found = 1 + sum(piece.size for piece in pieces) // _NUMBERS, []
    for piece in pieces:
        padded = np.concatenate([np.full((_LAGS, piece.shape[1]), np.nan), piece])
        found.append(np.lib.stride_tricks.sliding_window_view(padded, _LAGS + 1, axis=0)[::every])
    return np.concatenate(found)


def _power_of(
    windows: Float[np.ndarray, "row lag"], others: Float[np.ndarray, "row other"], *, from_zero: bool
) -> float:
    """The most likely power of one channel, or 1 if it gains too little.

    Far-out values have no vote, as in central normality (Raymaekers and Rousseeuw, 2021): codes for what went wrong
    would decide alone. A channel with many of them on the side that its power would stretch stays as it is.
    """
    now, (low, high) = windows[:, -1], _fences(windows[:, -1], from_zero=from_zero)
    codes = [np.sum(out) > _CODES * np.sum(~np.isnan(now)) for out in (now < low, now > high)]
    chosen, values = _voting(windows, low, high)
    if len(values) <= _LAGS + 1 or np.ptp(values[:, -1]) == 0:
        return 1.0
    known = np.ones((len(values), 1))
    if len(values) >= _ROWS_A_CHANNEL * others.shape[1]:  # fewer would be fitted, not explained
        known = np.column_stack([known, others[chosen]])
    scores = np.where(_lessen_skewness(values[:, -1]), _log_likelihoods(values, known), -np.inf)
    best, gain = int(np.argmax(scores)), float(np.max(scores) - scores[POWERS == 1][0])
    stretched = codes[0] if POWERS[best] < 1 else codes[1]
    return float(POWERS[best]) if gain > _LEAST_GAIN and gain * len(values) > _LEAST_TOTAL and not stretched else 1.0


def _lessen_skewness(values: Float[np.ndarray, " row"]) -> Bool[np.ndarray, " power"]:
    """The powers that do not make a skewed distribution more skewed."""
    centred = values - values.mean()
    skewness = float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)
    return (POWERS <= 1) if skewness > _SKEWED else (POWERS >= 1) if skewness < -_SKEWED else POWERS >= 0


def _voting(
    windows: Float[np.ndarray, "row lag"], low: float, high: float
) -> tuple[Bool[np.ndarray, " row"], Float[np.ndarray, "chosen lag"]]:
    """Which rows have neither gaps nor far-out values, and these; without the lags if they cost most of few rows."""
    windows = np.where((windows < low) | (windows > high), np.nan, windows)
    chosen = np.all(np.isfinite(windows), axis=1)
    if chosen.sum() < min(_FEW, 0.5 * np.sum(np.isfinite(windows[:, -1]))):
        windows = windows[:, -1:]
        chosen = np.all(np.isfinite(windows), axis=1)
    return chosen, windows[chosen]


def _fences(values: Float[np.ndarray, " row"], *, from_zero: bool) -> tuple[float, float]:
    """Tukey's outer fences, of the logarithms of what is counted from zero."""
    seen = values[~np.isnan(values)]
    if not len(seen):
        return -np.inf, np.inf
    first, third = np.quantile(yeo_johnson(seen, np.zeros(1)) if from_zero else seen, (0.25, 0.75))
    fences = np.array([first - _FENCE * (third - first), third + _FENCE * (third - first)])
    low, high = yeo_johnson_inverse(fences, np.zeros(2)) if from_zero else fences
    return float(low), float(high)


def _log_likelihoods(
    values: Float[np.ndarray, "row lag"], known: Float[np.ndarray, "row regressor"]
) -> Float[np.ndarray, " power"]:
    """Of regressions of the last lag on the others and on what is known, at each power; nats a value."""
    bent = yeo_johnson(values[:, :, None], POWERS)
    left = _residual(bent.reshape(len(bent), -1), known).reshape(bent.shape)
    found = []
    for p in range(len(POWERS)):
        residual = _residual(left[:, -1:, p], left[:, :-1, p])
        variance = max(float(np.mean(residual**2)), _LEAST_NOISE * float(np.var(bent[:, -1, p])))
        found.append(-0.5 * np.log(variance) + np.mean(_log_slope(values[:, -1], POWERS[p])))
    return np.array(found)


def _residual(columns: np.ndarray, regressors: np.ndarray) -> np.ndarray:
    """What a regression leaves of columns; a little ridge stands against regressors that repeat."""
    if not regressors.shape[1]:
        return columns
    gram = regressors.T @ regressors
    gram += 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return columns - regressors @ np.linalg.solve(gram, regressors.T @ columns)
