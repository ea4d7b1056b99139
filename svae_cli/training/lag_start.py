"""The lag regression by ridge regression: one map for all channels, to which each channel's own is shrunk.

How far is decided by the last fifth of the examples, given the others, and by the first fifth; so is how maps that look
back less and less far are mixed (Breiman, "Stacked regressions", 1996), and whether the regression is worth having: it
must beat both the last value and the last season there.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.models.lags import LagRegression, lags_of_maps, steps_ahead
from svae_cli.training.lag_moments import Moments, moments_in_parts, total, whole_series
from svae_cli.training.season_choice import predicts_by_itself

_SEASONAL = 672  # steps looked back on, at least, in whole seasons: four weeks of hours
_PLAIN = 48  # without a season
_LONGEST = 720  # longer seasons are not looked back on
_PART = 6  # of the longest series is looked back on at most
_FEWEST = 8  # lags worth a regression
_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean square of a lag
_NUMBERS = 15_000_000  # in the products of lags of all channels, of which three sets are in memory
_SAY = 0.05  # of the map that looks back farthest, below which it is not worth its room
_WORTH = 0.97  # squared errors relative to those of the better simple way, above which there is no regression
_CHANCE = 0.5  # over the root of the number of windows: random walks gain as much now and then
_MOST_OPTIMISM = 4.0


def resolve_lags(
    settings: Settings, data: SeriesSet, scaler: Scaler, choices: dict[str, str]
) -> tuple[Settings, LagRegression | None]:
    """How far a regression looks back, and the regression, if there is to be one.

    Args:
        settings: with a season, or 0 for none.
        data: what is learned from.
        scaler: to the model's units.
        choices: the reason is added to it.

    Raises:
        UsageError: more lags are asked for than the series can show or memory can hold, or any of frames or counts.
    """
    if settings.lags and not predicts_by_itself(settings, data):
        raise UsageError("a regression is of channels with Gaussian noise, not of frames or counts", hint="--lags 0")
    longest = max(series.length for series in whole_series(data))
    most = min(longest // 2, math.isqrt(_NUMBERS // data.n_channels))
    if settings.lags is not None and settings.lags > most:
        raise UsageError(
            f"--lags is {settings.lags}; series of up to {longest} steps and {data.n_channels} channels allow {most}",
            hint=f"--lags {most} at most, or --lags 0",
        )
    if settings.lags == 0 or not predicts_by_itself(settings, data):
        return settings.changed(lags=0), None
    season = settings.season or 0
    lags = settings.lags or usual_lags(season, longest, data.n_channels)
    if lags < _FEWEST and settings.lags is None:
        return settings.changed(lags=0), None
    found = _regression(data, scaler, lags, season, always=settings.lags is not None)
    if found is None:
        return settings.changed(lags=0), None
    regression, left = found
    lags = regression.lags
    choices["lags"] = (
        f"{lags} steps: a regression on them has a say in forecasts; alone it leaves {left:.0%} of the squared error "
        "of the last value or season"
    )
    return settings.changed(lags=lags), jax.tree.map(lambda a: jnp.asarray(a, settings.precision), regression)


def usual_lags(season: int, longest: int, n_channels: int) -> int:
    """Whole seasons that make four weeks of hours or more, as far as the series show them several times; else 0."""
    most = min(longest // _PART, math.isqrt(_NUMBERS // n_channels))
    if not season:
        return min(_PLAIN, most)
    if season > min(most, _LONGEST):
        return 0  # it could not know the last season
    return min(-(-_SEASONAL // season), most // season) * season


def _regression(
    data: SeriesSet, scaler: Scaler, lags: int, season: int, *, always: bool
) -> tuple[LagRegression, float] | None:
    """It and what it leaves of the simple ways' squared errors; None if that is too much, or cannot be told.

    Args:
        data: what is learned from.
        scaler: to the model's units.
        lags: of the map that looks back farthest; all are asked for the same examples.
        season: steps of a cycle; 0 without.
        always: there is to be one, of so many lags.
    """
    ahead = steps_ahead(lags)
    parts = first, middle, last = moments_in_parts(data, scaler, lags, ahead, season)
    folds = _Fold(middle, first, last), _Fold(middle, last, first)
    maps = [_Maps.fitted([[m.of_last(n) for m in part] for part in parts], lags) for n in lags_of_maps(lags, season)]
    maps = maps if always else [m for m in maps if folds[0].learned_from >= 2 * m.lags <= folds[1].learned_from]
    if not maps or not (always or all(fold.asked for fold in folds)):
        return None
    square, linear = _products(maps, folds)
    shares = [mixture(square[k:, k:], linear[k:]) for k in range(len(maps))]
    kept = 0 if always else next(k for k, share in enumerate(shares) if share[0] >= _SAY or k == len(maps) - 1)
    mixed = [_Maps.mixed(maps[k:], shares[k]) for k in range(kept, len(maps))]
    remains = [fold.left(own) / fold.simple(season) for fold, own in zip(folds, mixed[0].learned, strict=True)]
    useful = np.mean(remains) < min(_WORTH, 1 - _chance(parts)) and max(remains) < 1
    if not (always or useful):
        return None
    found = tuple(jnp.asarray(m.final[:, -m.lags :]) for m in mixed)
    return LagRegression(found, jnp.asarray([m.optimism(folds) for m in mixed])), float(np.mean(remains))


def _chance(parts: tuple[list[Moments], ...]) -> float:
    """By what share errors differ by chance: of what judges, first and last, windows that do not overlap count."""
    windows = sum(m.count for part in (parts[0], parts[-1]) for m in part) / parts[0][0].both.shape[1] / len(parts[0])
    return _CHANCE / math.sqrt(max(windows, 1.0))


@dataclass(frozen=True)
class _Fold:
    """What is learned from, two parts, and what judges it: moments of each channel."""

    some: list[Moments]
    others: list[Moments]
    judged: list[Moments]

    def learned(self, channel: int) -> Moments:
        """Of what a channel learns from."""
        return self.some[channel] + self.others[channel]

    @property
    def whole(self) -> Moments:
        """The same of all channels together."""
        return total(self.some) + total(self.others)

    @property
    def learned_from(self) -> float:
        """Examples in it."""
        return sum(m.count for m in (*self.some, *self.others))

    @property
    def asked(self) -> list[int]:
        """Channels that can judge."""
        return [d for d, moments in enumerate(self.judged) if moments.came > 0]

    def left(self, maps: Float[np.ndarray, "channel lag ahead"] | list[np.ndarray]) -> float:
        """Mean over channels of squared errors relative to those of the last value."""
        return float(np.mean([self.judged[d].errors(maps[d]) / self.judged[d].came for d in self.asked] or [1.0]))

    def optimism(self, maps: Float[np.ndarray, "channel lag ahead"]) -> float:
        """Mean over channels of the log of what maps leave of the errors of the last value, judged over learned."""
        asked = [d for d in self.asked if self.learned(d).came > 0]
        parts = [(m.errors(maps[d]) / m.came for m in (self.judged[d], self.learned(d))) for d in asked]
        return float(np.mean([np.log(judged / learned) for judged, learned in parts] or [0.0]))

    def simple(self, season: int) -> float:
        """The same of the last value or the last season, the better one."""
        lags, ahead = self.judged[0].both.shape
        repeated = _last_season(lags, ahead, season)
        better = [min(1.0, self.judged[d].errors(repeated) / self.judged[d].came) for d in self.asked]
        return float(np.mean(better or [1.0]))


def _last_season(lags: int, ahead: int, season: int) -> Float[np.ndarray, "lag ahead"]:
    """The map that repeats the last season; that of the last value without one."""
    weights = np.zeros((lags, ahead))
    if 0 < season <= lags:
        weights[lags - season + np.arange(ahead) % season, np.arange(ahead)] = 1.0
    return weights


@dataclass(frozen=True)
class _Maps:
    """Maps of each channel that look equally far back, in arrays of as many lags as the longest: zeros before.

    Attributes:
        lags: how far they look back.
        final: learned from all.
        learned: without what judges, for each fold.
    """

    lags: int
    final: Float[np.ndarray, "channel lag ahead"]
    learned: Float[np.ndarray, "fold channel lag ahead"]

    @classmethod
    def fitted(cls, parts: list[list[Moments]], room: int) -> "_Maps":
        """By the moments of the first fifth of the examples, of the middle and of the last fifth."""
        first, middle, last = parts
        nothing, width = np.zeros(first[0].both.shape), len(first)
        folds = [_Fold(middle, first, last), _Fold(middle, last, first)]
        wholes = [fold.whole for fold in folds]
        tried = {r: [whole.ridge(r, nothing) for whole in wholes] for r in _RIDGES}
        ridge = min(_RIDGES, key=lambda r: sum(f.left([m] * width) for f, m in zip(folds, tried[r], strict=True)))
        shared, maps, own = (wholes[0] + total(last)).ridge(ridge, nothing), [], []
        for d in range(width):
            learned, known = [fold.learned(d) for fold in folds], first[d] + middle[d] + last[d]
            options: dict[float | None, list[np.ndarray]] = {None: tried[ridge]}
            for r in _RIDGES if known.count else ():
                options[r] = [part.ridge(r, m) for part, m in zip(learned, tried[ridge], strict=True)]
            best = min(
                options, key=lambda r: sum(f.judged[d].errors(m) for f, m in zip(folds, options[r], strict=True))
            )
            maps.append(shared if best is None else known.ridge(best, shared))
            own.append(options[best])
        farther = (room - len(nothing), 0), (0, 0)
        final, learned = np.stack(maps), np.swapaxes(np.array(own), 0, 1)
        return cls(len(nothing), np.pad(final, ((0, 0), *farther)), np.pad(learned, ((0, 0), (0, 0), *farther)))

    @classmethod
    def mixed(cls, maps: list["_Maps"], shares: Float[np.ndarray, " map"]) -> "_Maps":
        """Sums of maps, the first of which looks back farthest."""
        final, learned = np.stack([m.final for m in maps]), np.stack([m.learned for m in maps])
        return cls(maps[0].lags, np.tensordot(shares, final, 1), np.tensordot(shares, learned, 1))

    def optimism(self, folds: tuple[_Fold, _Fold]) -> float:
        """Squared errors where they did not learn over those where they did."""
        logs = [fold.optimism(learned) for fold, learned in zip(folds, self.learned, strict=True)]
        return float(np.clip(np.exp(np.mean(logs)), 1.0, _MOST_OPTIMISM))


def _products(
    maps: list[_Maps], folds: tuple[_Fold, _Fold]
) -> tuple[Float[np.ndarray, "map map"], Float[np.ndarray, " map"]]:
    """Of what maps say with each other, and with what came, where they did not learn: means over channels."""
    square, linear, asked = np.zeros((len(maps), len(maps))), np.zeros(len(maps)), 0
    for f, fold in enumerate(folds):
        for d in fold.asked:
            said, judge = np.stack([m.learned[f, d] for m in maps]), fold.judged[d]
            square += np.einsum("mla,nla->mn", said, judge.lags @ said) / judge.came
            linear += np.einsum("mla,la->m", said, judge.both) / judge.came
            asked += 1
    return square / max(asked, 1), linear / max(asked, 1)


def mixture(square: Float[np.ndarray, "map map"], linear: Float[np.ndarray, " map"]) -> Float[np.ndarray, " map"]:
    """The shares, 0 or more and of sum 1, of the smallest ``shares @ square @ shares - 2 * linear @ shares``.

    Of few maps all subsets are tried: with those of shares above 0 known, the equations are linear.
    """
    size, best, least = len(linear), np.zeros(len(linear)), math.inf
    jitter = 1e-9 * np.trace(square) / size + 1e-12
    for chosen in (list(c) for n in range(1, size + 1) for c in combinations(range(size), n)):
        bordered = np.ones((len(chosen) + 1, len(chosen) + 1))
        bordered[:-1, :-1], bordered[-1, -1] = square[np.ix_(chosen, chosen)] + jitter * np.eye(len(chosen)), 0.0
        shares = np.zeros(size)
        shares[chosen] = np.linalg.solve(bordered, [*linear[chosen], 1.0])[:-1]
        value = shares @ square @ shares - 2 * linear @ shares
        if shares.min() >= 0 and value < least:
            best, least = shares, value
    return best
