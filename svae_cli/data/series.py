"""SeriesSet: a collection of multichannel series, read as needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

Layout = Literal["batch", "single", "vector", "group"]
"""How the file held the series: (series, time, channel), (time, channel), (time,), or one 2-D dataset a series."""

Fetch = Callable[[int, int, int], np.ndarray]
"""``fetch(index, start, stop)`` gives steps ``start`` to ``stop`` of one series as (time, channel), NaN = missing."""


@dataclass(frozen=True)
class TimeAxis:
    """A regular time grid, ``start + step * index`` in ``units``.

    Attributes:
        start: the first step's time.
        step: the time between steps.
        units: in CF form where known (``"hours since 2013-01-01"``), else free text or empty.
    """

    start: float = 0.0
    step: float = 1.0
    units: str = ""

    def at(self, first: int, count: int) -> Float[np.ndarray, " time"]:
        """The times of ``count`` steps beginning with index ``first``."""
        return self.start + self.step * np.arange(first, first + count, dtype=np.float64)


@dataclass(frozen=True)
class SeriesSet:
    """Series that share their channels, of any lengths; values are read only when asked for.

    Attributes:
        keys: one name a series; results are written under the same names.
        lengths: steps in each series.
        channels: one name a channel, also when frames are flattened to channels.
        units: physical unit of each channel, empty where unknown.
        fetch: reads a stretch of one series; see ``Fetch``.
        dtype: float32 or float64, what results are written in.
        inputs: names of known inputs (covariates); empty if there are none.
        fetch_inputs: reads the inputs as ``fetch`` reads the values, without NaN; it also serves steps beyond the end
            where the file has them.
        input_lengths: steps of inputs available for each series; at least ``lengths``.
        channel_shape: height, width (and colours) if a step is a frame; empty for plain channels.
        layout: how the file held the series, so that results can be written likewise.
        time: the time grid, if the file has one.
        source: what to call the data in messages: a file name, without its folders.
        uncut: of series that were cut out of others: those, and where in them each begins (index, first step).
    """

    keys: tuple[str, ...]
    lengths: tuple[int, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    fetch: Fetch
    dtype: np.dtype = np.dtype(np.float32)
    inputs: tuple[str, ...] = ()
    fetch_inputs: Fetch | None = None
    input_lengths: tuple[int, ...] = ()
    channel_shape: tuple[int, ...] = ()
    layout: Layout = "batch"
    time: TimeAxis | None = None
    source: str = "data"
    uncut: "tuple[SeriesSet, tuple[tuple[int, int], ...]] | None" = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_channels(self) -> int:
        """Observed channels, D; a frame counts its pixels."""
        return len(self.channels)

    @property
    def n_inputs(self) -> int:
        """Known inputs, U."""
        return len(self.inputs)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "time channel"]:
        """Values of one series, NaN where missing; ``stop=None`` reads to the end."""
        return self.fetch(index, start, self.lengths[index] if stop is None else stop)

    def read_around(self, index: int, start: int, stop: int) -> Float[np.ndarray, "time channel"]:
        """Values of one series, which may go beyond its ends: NaN there, or what the series it was cut from has."""
        if self.uncut is not None:
            whole, places = self.uncut
            index, first = places[index]
            return whole.read_around(index, start + first, stop + first)
        values = np.full((stop - start, self.n_channels), np.nan)
        begin, end = max(start, 0), min(stop, self.lengths[index])
        if begin < end:
            values[begin - start : end - start] = self.read(index, begin, end)
        return values

    def in_memory(self, *, around: bool = False) -> "SeriesSet":
        """The same series with all values read at once; with those ``around`` them, as far as they were cut out."""
        if self.uncut is not None and around:
            whole, places = self.uncut
            held = whole.in_memory(around=True)
            return replace(
                self,
                fetch=lambda i, start, stop: held.fetch(places[i][0], start + places[i][1], stop + places[i][1]),
                uncut=(held, places),
            )
        values = [self.read(i) for i in range(len(self))]
        return replace(self, fetch=lambda i, start, stop: values[i][start:stop], uncut=None)

    def read_inputs(self, index: int, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "time input"]:
        """Known inputs of one series; an array without columns if there are none."""
        stop = self.lengths[index] if stop is None else stop
        if self.fetch_inputs is None:
            return np.zeros((stop - start, 0), self.dtype)
        return self.fetch_inputs(index, start, stop)

    def subset(self, indices: Sequence[int]) -> "SeriesSet":
        """The chosen series, still read as needed."""
        chosen = tuple(int(i) for i in indices)
        fetch, fetch_inputs = self.fetch, self.fetch_inputs
        return replace(
            self,
            keys=tuple(self.keys[i] for i in chosen),
            lengths=tuple(self.lengths[i] for i in chosen),
            input_lengths=tuple(self.input_lengths[i] for i in chosen) if self.input_lengths else (),
            fetch=lambda i, start, stop: fetch(chosen[i], start, stop),
            fetch_inputs=None if fetch_inputs is None else lambda i, start, stop: fetch_inputs(chosen[i], start, stop),
            uncut=None if self.uncut is None else (self.uncut[0], tuple(self.uncut[1][i] for i in chosen)),
        )

    def between(self, starts: Sequence[int], stops: Sequence[int]) -> "SeriesSet":
        """The same series cut to ``starts[i]:stops[i]``, still read as needed."""
        first = tuple(int(s) for s in starts)
        fetch, fetch_inputs = self.fetch, self.fetch_inputs
        return replace(
            self,
            lengths=tuple(int(b) - a for a, b in zip(first, stops, strict=True)),
            input_lengths=tuple(n - a for n, a in zip(self.input_lengths, first, strict=True))
            if self.input_lengths
            else (),
            fetch=lambda i, start, stop: fetch(i, start + first[i], stop + first[i]),
            fetch_inputs=None
            if fetch_inputs is None
            else lambda i, start, stop: fetch_inputs(i, start + first[i], stop + first[i]),
            uncut=(self, tuple(enumerate(first))),
        )

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[np.ndarray],
        *,
        inputs: Sequence[np.ndarray] | None = None,
        keys: Sequence[str] | None = None,
        channels: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        source: str = "data",
    ) -> "SeriesSet":
        """Series already in memory, each (time, channel) with NaN where missing.

        Args:
            arrays: one array a series, all with the same number of channels.
            inputs: known inputs of each series, (time or longer, input).
            keys: names of the series; default "0", "1", ...
            channels: names of the channels; default "channel_0", ...
            units: units of the channels.
            source: what to call the data in messages.
        """
        kept = [np.asarray(a) for a in arrays]
        width = kept[0].shape[1]
        held = None if inputs is None else [np.asarray(u) for u in inputs]
        return cls(
            keys=tuple(keys) if keys is not None else tuple(str(i) for i in range(len(kept))),
            lengths=tuple(len(a) for a in kept),
            channels=tuple(channels) if channels is not None else tuple(f"channel_{d}" for d in range(width)),
            units=tuple(units) if units is not None else ("",) * width,
            fetch=lambda i, start, stop: kept[i][start:stop],
            dtype=np.dtype(np.float64) if kept[0].dtype == np.float64 else np.dtype(np.float32),
            inputs=() if held is None else tuple(f"input_{u}" for u in range(held[0].shape[1])),
            fetch_inputs=None if held is None else lambda i, start, stop: held[i][start:stop],
            input_lengths=() if held is None else tuple(len(u) for u in held),
            layout="batch",
            source=source,
        )
