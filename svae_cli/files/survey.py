"""A quick look through the data: what share is missing, which channels are empty or constant, what values occur."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from svae_cli.data.series import SeriesSet

_BLOCK = 65536
_DECADES = np.arange(-40, 41)  # sizes of float32
_UNEVEN = 2  # decades between the tenth of the series that move least and the tenth that move most
_MANY = 10  # series, to speak of tenths
_ENOUGH = 8  # values of a series, to speak of what it moves by


@dataclass(frozen=True)
class Survey:
    """Numbers about a collection of series.

    Attributes:
        count: observed values of each channel.
        steps: steps in all series.
        low: smallest value of each channel, NaN if it has none.
        high: largest.
        mean: mean of each channel.
        empty_series: names of series without any value.
        whole: whether all values are whole numbers of 0 or more, as counts are.
        uneven: the channels that move by more than 100 times as much in a tenth of the series as in another tenth,
            and, of channels above 0, whose logarithms do so, too.
    """

    count: np.ndarray
    steps: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    empty_series: tuple[str, ...]
    whole: bool
    uneven: tuple[int, ...] = ()

    @property
    def missing_share(self) -> float:
        """Share of values that are missing."""
        total = self.steps * len(self.count)
        return 1 - float(self.count.sum()) / total if total else 0.0

    def warnings(self, channels: tuple[str, ...]) -> list[str]:
        """What is odd about the data, one sentence each."""
        found = []
        empty = [channels[d] for d in np.flatnonzero(self.count == 0)]
        constant = [channels[d] for d in np.flatnonzero((self.count > 1) & (self.low == self.high))]
        if empty:
            found.append(f"{_listed('channel', empty)} without any value")
        if constant:
            found.append(f"{_listed('channel', constant)} constant")
        if self.empty_series:
            found.append(f"{_listed('series', list(self.empty_series))} without any value")
        if self.uneven:
            found.append(
                f"{_listed('channel', [channels[d] for d in self.uneven])}: some series move by more than 100 times as "
                "much as others, and one size of noise for all misses the small ones; scale each series beforehand"
            )
        return found


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{what} {', '.join(names[:5])}{more}"


def survey(data: SeriesSet) -> Survey:
    """Read all the data once, block by block.

    Raises:
        DataError: infinite values, or damaged data.
    """
    width = data.n_channels
    count, total = np.zeros(width, np.int64), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    empty, whole = [], True
    plain, logarithms = (np.zeros((width, len(_DECADES)), np.int64) for _ in range(2))
    for index, length in enumerate(data.lengths):
        found, least, most = np.zeros(width, np.int64), np.full(width, np.inf), np.full(width, -np.inf)
        for start in range(0, length, _BLOCK):
            block = data.read(index, start, min(start + _BLOCK, length))
            seen = ~np.isnan(block)
            here = seen.sum(axis=0)
            count, found = count + here, found + here
            total += np.where(seen, block, 0).sum(axis=0, dtype=np.float64)
            least = np.minimum(least, np.where(seen, block, np.inf).min(axis=0))
            most = np.maximum(most, np.where(seen, block, -np.inf).max(axis=0))
            values = block[seen]
            whole = whole and bool((values >= 0).all() and (values == np.floor(values)).all())
        low, high = np.minimum(low, least), np.maximum(high, most)
        _count_sizes(plain, most, least, found)
        with np.errstate(divide="ignore", invalid="ignore"):  # they count for channels above 0 alone
            _count_sizes(logarithms, np.log(most), np.log(least), np.where(least > 0, found, 0))
        if not found.any():
            empty.append(data.keys[index])
    some = count > 0
    return Survey(
        count=count,
        steps=sum(data.lengths),
        low=np.where(some, low, np.nan),
        high=np.where(some, high, np.nan),
        mean=np.where(some, total / np.maximum(count, 1), np.nan),
        empty_series=tuple(empty),
        whole=whole,
        uneven=tuple(int(d) for d in np.flatnonzero(_uneven(plain) & ((low <= 0) | _uneven(logarithms)))),
    )


def _count_sizes(sizes: np.ndarray, most: np.ndarray, least: np.ndarray, values: np.ndarray) -> None:
    """Add one series to the numbers of series by decade of their range, (channel, decade)."""
    moved = np.flatnonzero((values >= _ENOUGH) & (most > least))
    decades = np.digitize(np.log10(most[moved].astype(np.float64) - least[moved]), _DECADES[1:])
    sizes[moved, decades] += 1


def _uneven(sizes: np.ndarray) -> np.ndarray:
    """Which channels' ranges lie far apart."""
    total = sizes.sum(axis=1)
    share = np.cumsum(sizes, axis=1) / np.maximum(total, 1)[:, None]
    small, large = (np.argmax(share >= part, axis=1) for part in (0.1, 0.9))
    return (total >= _MANY) & (large - small > _UNEVEN)


def describe(data: SeriesSet, found: Survey) -> dict[str, Any]:
    """The data in plain values, as ``inspect --json`` shows them."""
    return {
        "series": len(data),
        "steps": {"min": min(data.lengths), "max": max(data.lengths), "total": found.steps},
        "channels": [
            {
                "name": name,
                "unit": unit,
                "missing": 1 - int(n) / found.steps,
                "min": _number(low),
                "max": _number(high),
                "mean": _number(mean),
            }
            for name, unit, n, low, high, mean in zip(
                data.channels, data.units, found.count, found.low, found.high, found.mean, strict=True
            )
        ],
        "inputs": list(data.inputs),
        "missing": found.missing_share,
        "dtype": str(data.dtype),
        "layout": data.layout,
        "frames": list(data.channel_shape),
        "time": None
        if data.time is None
        else {"start": data.time.start, "step": data.time.step, "units": data.time.units},
        "counts": found.whole,
        "warnings": found.warnings(data.channels),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
