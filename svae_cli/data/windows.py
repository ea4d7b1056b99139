"""Windows: equal stretches cut from series of any length, as arrays that a network can take."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_IN_MEMORY = 1 << 29  # bytes of values kept in memory; larger data are read from the file window by window


@dataclass(frozen=True)
class Batch:
    """Windows in model units. What lies beyond a series' end looks like any other missing value.

    Attributes:
        values: 0 where not observed.
        observed: True where there is a value.
        inputs: known inputs; no columns if there are none.
        around: the windows with what lies before and after them in their series, NaN where there is nothing; no steps
            if the model looks at windows alone.
        steps: number of real steps of each window, the rest is padding.
    """

    values: Float[np.ndarray, "window time channel"]
    observed: Bool[np.ndarray, "window time channel"]
    inputs: Float[np.ndarray, "window time input"]
    around: Float[np.ndarray, "window longer channel"]
    steps: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(*(a[rows] for a in self.arrays), steps=self.steps[rows])

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(values, observed, inputs, around)."""
        return self.values, self.observed, self.inputs, self.around

    @property
    def alike(self) -> bool:
        """True if every window has the same gaps, so that covariances can be computed once for all."""
        return bool((self.observed == self.observed[:1]).all() and self.inputs.shape[2] == 0)


class WindowReader:
    """Cuts windows of ``length`` steps from ``data``, changed to model units.

    Args:
        data: the series.
        scaler: change of units.
        length: steps in a window; a shorter series is padded with missing values.
        dtype: of the arrays.
        margin: steps before and after each window that are given with it; see ``Batch.around``.

    Attributes:
        in_memory: whether all values are held in memory.
    """

    def __init__(self, data: SeriesSet, scaler: Scaler, *, length: int, dtype: np.dtype, margin: int = 0):
        self.data = data
        self.scaler = scaler
        self.length = length
        self.margin = margin
        self.dtype = np.dtype(dtype)
        whole = data if data.uncut is None or not margin else data.uncut[0]
        self.in_memory = sum(whole.lengths) * data.n_channels * 8 <= _IN_MEMORY
        self._read = data.in_memory(around=margin > 0) if self.in_memory else data
        room = np.maximum(np.asarray(data.lengths) - length, 0) + 1
        self._ends = np.cumsum(room)

    @property
    def n_starts(self) -> int:
        """Number of different windows."""
        return int(self._ends[-1])

    def draw(self, seed: int, step: int, count: int) -> Batch:
        """``count`` windows at random, every offset of every series alike; a function of (seed, step) only."""
        rng = np.random.default_rng([seed, step])
        drawn = rng.integers(self.n_starts, size=count)
        series = np.searchsorted(self._ends, drawn, side="right")
        starts = drawn - np.concatenate([[0], self._ends])[series]
        return self.cut(series, starts)

    def spread(self, limit: int) -> Batch:
        """At most ``limit`` windows that follow each other without overlap, evenly chosen over the data."""
        places = [
            (i, s)
            for i, length in enumerate(self.data.lengths)
            for s in range(0, max(length - self.length, 0) + 1, self.length)
        ]
        chosen = np.unique(np.linspace(0, len(places) - 1, min(limit, len(places))).round().astype(int))
        series, starts = np.array([places[c] for c in chosen]).T
        return self.cut(series, starts)

    def cut(self, series: np.ndarray, starts: np.ndarray) -> Batch:
        """The windows at the given series and offsets."""
        shape = (len(series), self.length)
        raw = np.full((*shape, self.data.n_channels), np.nan)
        inputs = np.zeros((*shape, self.data.n_inputs), self.dtype)
        steps = np.empty(len(series), int)
        for row, (i, start) in enumerate(zip(series.tolist(), starts.tolist(), strict=True)):
            stop = min(start + self.length, self.data.lengths[i])
            steps[row] = stop - start
            raw[row, : stop - start] = self._read.read(i, start, stop)
            if self.data.n_inputs:
                inputs[row, : stop - start] = self.data.read_inputs(i, start, stop)
        observed = ~np.isnan(raw)
        values = np.where(observed, self.scaler.to_model(raw), 0.0).astype(self.dtype)
        around = self._around(series, starts)
        return Batch(values=values, observed=observed, inputs=inputs, steps=steps, around=around)

    def _around(self, series: np.ndarray, starts: np.ndarray) -> Float[np.ndarray, "window longer channel"]:
        if not self.margin:
            return np.zeros((len(series), 0, self.data.n_channels), self.dtype)
        longer = np.empty((len(series), self.length + 2 * self.margin, self.data.n_channels), self.dtype)
        for row, (i, start) in enumerate(zip(series.tolist(), (starts - self.margin).tolist(), strict=True)):
            longer[row] = self.scaler.to_model(self._read.read_around(i, start, start + longer.shape[1]))
        return longer


Made = TypeVar("Made")


class Prefetched(Generic[Made]):
    """What belongs to consecutive steps, each made while the one before is worked on; the last one may be asked again.

    Args:
        make: gives what belongs to a step, as a function of the step alone.
    """

    def __init__(self, make: Callable[[int], Made]):
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="windows")
        self._next: tuple[int, Future[Made]] | None = None
        self._last: tuple[int, Made] | None = None

    def of_step(self, step: int) -> Made:
        """What belongs to a step; the next one's is begun."""
        if self._last is not None and self._last[0] == step:
            return self._last[1]
        expected, future = self._next or (-1, None)
        made = future.result() if future is not None and expected == step else self._make(step)
        self._next = step + 1, self._pool.submit(self._make, step + 1)
        self._last = step, made
        return made


def batches(batch: Batch, size: int) -> Iterator[Batch]:
    """Pieces of ``size`` windows; the last is padded with empty windows, so that nothing is compiled twice."""
    for first in range(0, len(batch), size):
        piece = batch[slice(first, first + size)]
        missing = size - len(piece)
        if missing:
            pad = [(0, missing)]
            piece = Batch(
                values=np.pad(piece.values, [*pad, (0, 0), (0, 0)]),
                observed=np.pad(piece.observed, [*pad, (0, 0), (0, 0)]),
                inputs=np.pad(piece.inputs, [*pad, (0, 0), (0, 0)]),
                steps=np.pad(piece.steps, pad),
                around=np.pad(piece.around, [*pad, (0, 0), (0, 0)]),
            )
        yield piece
