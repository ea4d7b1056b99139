"""Holding values back and asking for them: by the model and by the baselines, on the same values."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from svae_cli import baselines
from svae_cli.data.gaps import GapPattern, hide
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError
from svae_cli.metrics import Predictive
from svae_cli.results import Prediction

MODEL = "svae"
"""What the model is called among the methods."""

Imputer = Callable[[SeriesSet], Iterator[Prediction]]
"""The model's imputations of series with gaps, in their order; with quantiles at ``metrics.LEVELS`` or without."""

Forecaster = Callable[[SeriesSet, int], Iterator[Prediction]]
"""The model's forecasts of so many steps beyond each series' end, in their order."""


@dataclass(frozen=True)
class Held:
    """Values held back, and what each method said about them.

    Attributes:
        truth: what was really there, in the data's units.
        channel: index of each value's channel.
        predictions: by method, ``MODEL`` first.
    """

    truth: Float[np.ndarray, " value"]
    channel: Int[np.ndarray, " value"]
    predictions: dict[str, Predictive]

    def at(self, chosen: np.ndarray) -> "Held":
        """The chosen values only, by index or by Boolean mask."""
        return Held(self.truth[chosen], self.channel[chosen], {m: p.at(chosen) for m, p in self.predictions.items()})


@dataclass(frozen=True)
class Reference:
    """Which baselines to ask, and what they know beside the series.

    Attributes:
        methods: names out of ``baselines.IMPUTERS`` or ``baselines.FORECASTERS``.
        means: stand for the means of channels of which nothing is visible.
        stds: stand for the spread in channels of which nothing can be hidden again.
        season: steps in a season, or None.
    """

    methods: tuple[str, ...]
    means: Float[np.ndarray, " channel"]
    stds: Float[np.ndarray, " channel"]
    season: int | None


# ------------------------------------------------------------------------------------------------ gaps


def hold_out_gaps(
    data: SeriesSet,
    impute: Imputer,
    reference: Reference,
    *,
    pattern: GapPattern,
    rate: float,
    window: int,
    begins: Sequence[int] | None = None,
    repeat: int = 0,
    seed: int = 0,
) -> Held:
    """Hide part of what was observed and have it imputed.

    Args:
        data: the series.
        impute: the model.
        reference: the baselines.
        pattern: how gaps are drawn, see ``svae_cli.data.gaps.hide``; once in every ``window`` steps
            ("tail" once a series).
        rate: share of the values hidden.
        window: steps that ``rate`` is a share of; shorter series count as one window.
        begins: steps of each series before which nothing is hidden; they are shown.
        repeat: number of the drawing.
        seed: of the drawing.

    Raises:
        DataError: nothing was hidden, because too little is observed.
    """
    key = [seed, zlib.crc32(pattern.encode()), repeat]

    def draw(index: int, observed: np.ndarray, begin: int = 0, again: int = 0) -> np.ndarray:
        hidden = np.zeros_like(observed)
        rng = np.random.default_rng([*key, index, again])
        hidden[begin:] = hide_in_windows(observed[begin:], pattern, rate, window, rng)
        return hidden

    begins = begins or [0] * len(data)
    hidden = [draw(i, ~np.isnan(data.read(i)), begins[i]) for i in range(len(data))]
    if not any(mask.any() for mask in hidden):
        raise DataError(
            f"pattern {pattern!r} with a share of {rate} hides none of the observed values",
            where=data.source,
            hint="a larger --mask-rate, or --pattern point",
        )
    return _ask_in_gaps(_without(data, hidden), data, hidden, impute, reference, lambda i, seen: draw(i, seen, again=1))


def hold_out_target(data: SeriesSet, target: SeriesSet, impute: Imputer, reference: Reference) -> Held:
    """Have the gaps of the data imputed, and compare with a data set that has the true values.

    Raises:
        DataError: the two do not have the same series, or no gap has a true value.
    """
    if data.lengths != target.lengths or data.n_channels != target.n_channels:
        raise DataError(
            f"the true values have {len(target)} series of {target.n_channels} channels, "
            f"the data {len(data)} of {data.n_channels}, or lengths differ",
            where=target.source,
            hint="give true values of the same shape as the data",
        )
    gaps = [np.isnan(data.read(i)) for i in range(len(data))]
    hidden = [gap & ~np.isnan(target.read(i)) for i, gap in enumerate(gaps)]
    if not any(mask.any() for mask in hidden):
        raise DataError("no missing value of the data has a true value", where=target.source)

    def moved(index: int, observed: np.ndarray) -> np.ndarray:
        return np.roll(gaps[index], len(observed) // 2 + 1, axis=0) & observed

    return _ask_in_gaps(data, target, hidden, impute, reference, moved)


def hide_in_windows(
    observed: Bool[np.ndarray, "time channel"], pattern: GapPattern, rate: float, window: int, rng: np.random.Generator
) -> Bool[np.ndarray, "time channel"]:
    """``hide`` in each stretch of ``window`` steps by itself; "tail" in the last ``window`` steps only."""
    steps, width = observed.shape
    window = max(1, min(window, steps))
    if pattern == "tail":
        hidden = np.zeros_like(observed)
        hidden[steps - window :] = hide(observed[steps - window :], pattern, rate, rng)
        return hidden
    count = -(-steps // window)
    padded = np.zeros((count * window, width), bool)
    padded[:steps] = observed
    return hide(padded.reshape(count, window, width), pattern, rate, rng).reshape(-1, width)[:steps]


def _without(data: SeriesSet, hidden: Sequence[np.ndarray]) -> SeriesSet:
    def fetch(index: int, start: int, stop: int) -> np.ndarray:
        return np.where(hidden[index][start:stop], np.nan, data.fetch(index, start, stop))

    return replace(data, fetch=fetch, uncut=None)


def _ask_in_gaps(
    visible: SeriesSet,
    truth: SeriesSet,
    hidden: Sequence[np.ndarray],
    impute: Imputer,
    reference: Reference,
    hide_again: Callable[[int, np.ndarray], np.ndarray],
) -> Held:
    answers = (_one(p.mean, p.std, p.quantiles, hidden[i]) for i, p in enumerate(impute(visible)))
    predictions = {MODEL: _joined(answers)}
    series = [visible.read(i) for i in range(len(visible))]
    means = _means(series, reference.means)
    for method in reference.methods:

        def fill_one(values: np.ndarray, method: str = method) -> np.ndarray:
            return baselines.fill(values, method, means=means, period=reference.season)

        spread = baselines.spread_in_gaps(series, hide_again, fill_one, fallback=reference.stds)
        predictions[method] = _joined(
            _one(fill_one(values), np.broadcast_to(spread, values.shape), None, mask)
            for values, mask in zip(series, hidden, strict=True)
        )
    values = np.concatenate([truth.read(i)[mask] for i, mask in enumerate(hidden)]).astype(np.float64)
    return Held(values, np.concatenate([np.nonzero(mask)[1] for mask in hidden]), predictions)


# ------------------------------------------------------------------------------------------------ the future


@dataclass(frozen=True)
class Origins:
    """Where forecasts start: ``starts[j]`` is the first step forecast in series ``series[j]``."""

    series: tuple[int, ...]
    starts: tuple[int, ...]


def choose_origins(lengths: Sequence[int], horizon: int, count: int, *, begins: Sequence[int] | None = None) -> Origins:
    """Evenly spaced origins in the last fifth of each series, or as far back, up to its middle, as they need.

    Series in which the horizon does not fit behind the middle have none.

    Args:
        lengths: steps in each series.
        horizon: steps ahead.
        count: origins a series, at most.
        begins: steps of each series before which there may be no origin; from there on they spread to the end.

    Raises:
        DataError: no series has room for the horizon.
    """
    pairs, room = [], 0
    for index, length in enumerate(lengths):
        earliest = max(length // 2, 1, begins[index] if begins else 0)
        room = max(room, length - earliest)
        last = length - horizon
        first = earliest if begins and begins[index] else max(earliest, length - max(length // 5, horizon * count))
        if first <= last:
            pairs += [(index, int(start)) for start in np.unique(np.linspace(first, last, count).round().astype(int))]
    if not pairs:
        hint = f"--horizon {room}" if room else "give longer series"
        raise DataError(f"a horizon of {horizon} does not fit into the {room} steps that can be scored", hint=hint)
    return Origins(tuple(i for i, _ in pairs), tuple(start for _, start in pairs))


def hold_out_future(
    data: SeriesSet, forecast: Forecaster, reference: Reference, *, origins: Origins, horizon: int, context: int
) -> Held:
    """Cut the series at each origin and have them continued.

    Args:
        data: the series.
        forecast: the model.
        reference: the baselines.
        origins: where the cuts are.
        horizon: steps ahead.
        context: steps before an origin that are shown.

    Raises:
        DataError: nothing was observed in the steps ahead.
    """
    begins = [max(0, start - context) for start in origins.starts]
    past = data.subset(origins.series).between(begins, origins.starts)
    past = replace(past, keys=tuple(f"{data.keys[i]}@{o}" for i, o in zip(origins.series, origins.starts, strict=True)))
    ahead = [data.read(i, o, o + horizon) for i, o in zip(origins.series, origins.starts, strict=True)]
    seen = [~np.isnan(values) for values in ahead]
    if not any(mask.any() for mask in seen):
        raise DataError("no value is observed in the steps to forecast", where=data.source)
    answers = (_one(p.mean, p.std, p.quantiles, seen[j]) for j, p in enumerate(forecast(past, horizon)))
    predictions = {MODEL: _joined(answers)}
    first = {i: min(o for k, o in zip(origins.series, origins.starts, strict=True) if k == i) for i in origins.series}
    known = [data.read(i, 0, stop) for i, stop in first.items()]
    means = _means(known, reference.means)
    for method in reference.methods:
        spread = baselines.spread_ahead(known, horizon, method, means=means, period=reference.season)
        predictions[method] = _joined(
            _one(
                baselines.extend(past.read(j), horizon, method, means=means, period=reference.season),
                spread,
                None,
                seen[j],
            )
            for j in range(len(past))
        )
    truth = np.concatenate([values[mask] for values, mask in zip(ahead, seen, strict=True)]).astype(np.float64)
    return Held(truth, np.concatenate([np.nonzero(mask)[1] for mask in seen]), predictions)


# ------------------------------------------------------------------------------------------------ gathering


def _means(series: Sequence[np.ndarray], otherwise: np.ndarray) -> np.ndarray:
    """Each channel's mean over all visible values."""
    count = sum((~np.isnan(values)).sum(axis=0) for values in series)
    total = sum(np.nansum(values.astype(np.float64), axis=0) for values in series)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def _one(mean: np.ndarray, std: np.ndarray, quantiles: np.ndarray | None, chosen: np.ndarray) -> Predictive:
    return Predictive(
        mean[chosen].astype(np.float64),
        std[chosen].astype(np.float64),
        None if quantiles is None else quantiles[chosen].astype(np.float64),
    )


def _joined(parts: Iterator[Predictive]) -> Predictive:
    return join(list(parts))


def join(parts: Sequence[Predictive]) -> Predictive:
    """The predictions one after the other."""
    quantiles = [p.quantiles for p in parts if p.quantiles is not None]
    return Predictive(
        np.concatenate([p.mean for p in parts]),
        np.concatenate([p.std for p in parts]),
        np.concatenate(quantiles) if len(quantiles) == len(parts) else None,
    )


def join_held(parts: Sequence[Held]) -> Held:
    """The held values one after the other; every part asked the same methods."""
    return Held(
        np.concatenate([p.truth for p in parts]),
        np.concatenate([p.channel for p in parts]),
        {m: join([p.predictions[m] for p in parts]) for m in parts[0].predictions},
    )
