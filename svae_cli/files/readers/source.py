"""What a dialect finds in a file: blocks of series that are read as needed, and what describes them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import h5py
import numpy as np

from svae_cli.data.series import Layout, TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe

IN_MEMORY_BYTES = 256 << 20
"""A dataset of at most this size is read once, whole; windows of larger ones are read as needed."""

Axes = str
"""One letter a dimension in the file's order: n series, t time, d channel; h height, w width, c colour of frames."""


@dataclass(frozen=True)
class ReadOptions:
    """How the caller says the file is to be read; None leaves it to the file.

    Attributes:
        dataset: path of a dataset or group in the file.
        axes: meaning of the dimensions in the file's order, such as "ntd" or "dtn".
        mask: name of a dataset that says which values there are.
        mask_means: whether 1 in the mask is a value ("observed") or a gap ("missing").
        missing_value: a number that stands for a gap.
        lengths: name of a dataset with the true length of each padded series.
        inputs: name of a dataset of known inputs.
        regrid: put the values on a regular time grid with this step.
        trials: name of a table of trials to cut a long recording into (NWB: "trials").
    """

    dataset: str | None = None
    axes: Axes | None = None
    mask: str | None = None
    mask_means: Literal["observed", "missing"] = "observed"
    missing_value: float | None = None
    lengths: str | None = None
    inputs: str | None = None
    regrid: float | None = None
    trials: str | None = None


class Block(Protocol):
    """Series of equal length that lie together in the file."""

    @property
    def count(self) -> int:
        """Series in the block."""
        ...

    @property
    def steps(self) -> int:
        """Steps of each."""
        ...

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of one step: (channel,), or height, width and colours."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64, what ``read`` gives."""
        ...

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Steps of one series as (time, channel), NaN = missing."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How stored numbers become values: ``raw * scale + offset``, with some raw numbers standing for gaps."""

    missing: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0

    def dtype(self, stored: np.dtype) -> np.dtype:
        """float32 where that holds every stored number exactly, else float64."""
        packed = self.scale != 1.0 or self.offset != 0.0
        narrow = stored.kind in "iub" and stored.itemsize <= 2 or stored.kind == "f" and stored.itemsize <= 4
        return np.dtype(np.float32 if narrow and not packed else np.float64)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """The values of stored numbers, NaN where one stands for a gap."""
        values = raw.astype(self.dtype(raw.dtype))
        gaps = np.zeros(raw.shape, bool)
        for code in self.missing:
            gaps |= raw == np.asarray(code).astype(raw.dtype) if raw.dtype.kind == "f" else raw == code
        if self.scale != 1.0 or self.offset != 0.0:
            values = values * self.scale + self.offset
        values[gaps] = np.nan
        return values


@dataclass
class ArrayBlock:
    """One dataset with the meaning of its dimensions.

    Raises:
        DataError: the stored type is not numeric, or the axes do not fit the dimensions.
    """

    dataset: h5py.Dataset
    axes: Axes
    decoding: Decoding = field(default_factory=Decoding)
    _whole: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_numeric(self.dataset)
        check_axes(self.axes, self.dataset)
        self._sizes = dict(zip(self.axes, self.dataset.shape, strict=True))
        self._frame = [a for a in "hwcd" if a in self._sizes]
        kept = [a for a in self.axes if a != "n"]
        self._order = [kept.index(a) for a in ["t", *self._frame]]
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Series in the block."""
        return self._sizes.get("n", 1)

    @property
    def steps(self) -> int:
        """Steps of each."""
        return self._sizes["t"]

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of one step."""
        return tuple(self._sizes[a] for a in self._frame) or (1,)

    @property
    def dtype(self) -> np.dtype:
        """Type of what ``read`` gives."""
        return self.decoding.dtype(self.dataset.dtype)

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Steps of one series as (time, channel)."""
        where = {"n": row, "t": slice(start, stop)}
        selection = tuple(where.get(a, slice(None)) for a in self.axes)
        raw = self._source(selection).transpose(self._order)
        return self.decoding(raw.reshape(raw.shape[0], -1))

    def _source(self, selection: tuple) -> np.ndarray:
        if self.dataset.nbytes > IN_MEMORY_BYTES:
            return safe.read(self.dataset, selection)
        with self._lock:
            if self._whole is None:
                self._whole = safe.read(self.dataset)
        return self._whole[selection]


@dataclass(frozen=True)
class ListBlock:
    """Variable-length rows: each element of the dataset is one series of one channel."""

    dataset: h5py.Dataset
    row: int
    decoding: Decoding = Decoding()
    count: int = 1

    @property
    def steps(self) -> int:
        """Steps of the row."""
        return len(self._values())

    @property
    def step_shape(self) -> tuple[int, ...]:
        """One channel, or as many as the row has columns of rows."""
        return (1,) if self.dataset.ndim == 1 else (self.dataset.shape[1],)

    @property
    def dtype(self) -> np.dtype:
        """Type of what ``read`` gives."""
        return self.decoding.dtype(element_dtype(self.dataset))

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Steps of the row as (time, channel)."""
        return self.decoding(self._values()[start:stop])

    def _values(self) -> np.ndarray:
        raw = safe.read(self.dataset, self.row)
        if self.dataset.ndim == 1:
            return np.asarray(raw.item() if raw.dtype == object and raw.ndim == 0 else raw)[:, None]
        columns = [np.asarray(column) for column in raw]
        if len({len(column) for column in columns}) > 1:
            raise DataError("channels of one series have different lengths", where=f"{self.dataset.name}[{self.row}]")
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Recording:
    """One file as a dialect understands it.

    Attributes:
        blocks: the series, block after block.
        keys: one name a series.
        layout: how the file holds them.
        channels: names of the channels, or None.
        units: units of the channels, or None.
        masks: blocks of the same shape as ``blocks`` (or with one channel), or None; 1 = ``mask_means``.
        mask_means: polarity of the masks.
        lengths: true lengths of padded series, or None.
        inputs: one block a series block (or one for all), or None.
        input_names: their names, or None.
        time: the grid, or None.
        steps: where timestamps were put on a grid: for each series the row of each grid step, -1 = none.
        notes: what the user should hear about the reading.
    """

    blocks: Sequence[Block]
    keys: Sequence[str]
    layout: Layout
    channels: Sequence[str] | None = None
    units: Sequence[str] | None = None
    masks: Sequence[Block] | None = None
    mask_means: Literal["observed", "missing"] = "observed"
    lengths: Sequence[int] | None = None
    inputs: Sequence[Block] | None = None
    input_names: Sequence[str] | None = None
    time: TimeAxis | None = None
    steps: Sequence[np.ndarray] | None = None
    notes: tuple[str, ...] = ()


def check_numeric(dataset: h5py.Dataset) -> None:
    """Refuse types that are not plain numbers.

    Raises:
        DataError: complex, compound, text, or other types.
    """
    if dataset.dtype.kind in "iufb" and dataset.dtype.itemsize <= 8:
        return
    names = {
        "c": "complex numbers",
        "V": "a compound type",
        "S": "text",
        "O": "text or references",
        "f": "long doubles",
    }
    hint = "store real and imaginary part as two channels" if dataset.dtype.kind == "c" else "name a numeric dataset"
    raise DataError(
        f"holds {names.get(dataset.dtype.kind, 'a type')} ({dataset.dtype}), not numbers svae can read",
        where=f"dataset {dataset.name}",
        hint=hint,
    )


def element_dtype(dataset: h5py.Dataset) -> np.dtype:
    """The type of the numbers in a dataset, also of one with variable-length rows."""
    return np.dtype(h5py.check_vlen_dtype(dataset.dtype) or dataset.dtype)


def check_axes(axes: Axes, dataset: h5py.Dataset) -> None:
    """Refuse axes that do not fit the dataset.

    Raises:
        DataError: unknown or repeated letters, no time, or the wrong number of them.
    """
    frames = set(axes) & set("hwc")
    fits = len(axes) == dataset.ndim and len(set(axes)) == len(axes) and not set(axes) - set("ntdhwc") and "t" in axes
    if not fits or ("d" in axes and frames) or (frames and not {"h", "w"} <= frames):
        raise DataError(
            f"axes {axes!r} do not fit shape {dataset.shape}",
            where=f"dataset {dataset.name}",
            hint="--axes with one letter a dimension: n series, t time, d channel, or h w c for frames; such as ntd",
        )
