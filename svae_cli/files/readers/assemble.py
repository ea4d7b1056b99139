"""Joining what a dialect found into one SeriesSet that is read as needed."""

from collections.abc import Callable

import numpy as np

from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError
from svae_cli.files.readers.source import Block, Recording


def assemble(recording: Recording, *, source: str) -> SeriesSet:
    """Join the blocks into one collection, read as needed.

    Raises:
        DataError: blocks with different channels, or empty ones.
    """
    rows = [(block, row) for block in recording.blocks for row in range(block.count)]
    shape = _common_shape(recording, source)
    lengths = _lengths(recording, rows)
    width = int(np.prod(shape))
    fetch_inputs, n_inputs, input_lengths = _inputs(recording, rows)
    dtype = np.result_type(*{block.dtype for block in recording.blocks})
    return SeriesSet(
        keys=tuple(recording.keys),
        lengths=lengths,
        channels=tuple(recording.channels or _names("channel", shape)),
        units=tuple(recording.units or ("",) * width),
        fetch=_fetch(recording, rows, dtype, source),
        dtype=dtype,
        inputs=tuple(recording.input_names or [f"input_{u}" for u in range(n_inputs)]),
        fetch_inputs=fetch_inputs,
        input_lengths=input_lengths,
        channel_shape=shape if len(shape) > 1 else (),
        layout=recording.layout,
        time=recording.time,
        source=source,
    )


def _names(stem: str, shape: tuple[int, ...]) -> list[str]:
    if len(shape) == 1:
        return [f"{stem}_{d}" for d in range(shape[0])]
    return ["pixel_" + "_".join(map(str, index)) for index in np.ndindex(*shape)]


def _common_shape(recording: Recording, source: str) -> tuple[int, ...]:
    if not recording.blocks or not len(recording.keys):
        raise DataError("no series", where=source)
    shapes = {block.step_shape: key for key, block in zip(_first_keys(recording), recording.blocks, strict=True)}
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise DataError(
            f"series have different channels: {first} has {one}, {second} has {other}",
            where=source,
            hint=f"name a group whose series agree, or one series: {source}:/{first}",
        )
    shape = next(iter(shapes))
    if 0 in shape:
        raise DataError(f"a step has no values (shape {shape})", where=source)
    return shape


def _first_keys(recording: Recording) -> list[str]:
    firsts = np.cumsum([0, *(block.count for block in recording.blocks)])[:-1]
    return [str(recording.keys[min(i, len(recording.keys) - 1)]) for i in firsts]


def _lengths(recording: Recording, rows: list[tuple[Block, int]]) -> tuple[int, ...]:
    if recording.steps is not None:
        return tuple(len(index) for index in recording.steps)
    found = [block.steps for block, _ in rows] if recording.lengths is None else recording.lengths
    lengths = tuple(int(n) for n in found)
    for key, length in zip(recording.keys, lengths, strict=True):
        if length < 1:
            raise DataError(f"series {key} has {length} steps", hint="leave empty series out")
    return lengths


def _fetch(
    recording: Recording, rows: list[tuple[Block, int]], dtype: np.dtype, source: str
) -> Callable[[int, int, int], np.ndarray]:
    masks = None if recording.masks is None else [(b, r) for b in recording.masks for r in range(b.count)]
    if masks is not None and len(masks) == 1 < len(rows):
        masks = masks * len(rows)

    def stretch(index: int, start: int, stop: int) -> np.ndarray:
        block, row = rows[index]
        values = block.read(row, start, stop)
        if masks is not None:
            marked = masks[index][0].read(masks[index][1], start, stop) != 0
            seen = marked if recording.mask_means == "observed" else ~marked
            values = np.where(seen, values, np.nan).astype(values.dtype)
        return values.astype(dtype, copy=False)

    def fetch(index: int, start: int, stop: int) -> np.ndarray:
        if recording.steps is None:
            values = stretch(index, start, stop)
        else:
            chosen = recording.steps[index][start:stop]
            values = np.full((len(chosen), int(np.prod(rows[index][0].step_shape))), np.nan, dtype)
            if (seen := chosen >= 0).any():
                first, last = int(chosen[seen].min()), int(chosen[seen].max())
                values[seen] = stretch(index, first, last + 1)[chosen[seen] - first]
        if np.isinf(values).any():
            _refuse_infinity(fetch_all=stretch, recording=recording, rows=rows, source=source)
        return values

    return fetch


def _refuse_infinity(*, fetch_all: Callable, recording: Recording, rows: list[tuple[Block, int]], source: str) -> None:
    count, first = 0, ""
    for index, (block, _) in enumerate(rows):
        for start in range(0, block.steps, 65536):
            bad = np.argwhere(np.isinf(fetch_all(index, start, min(start + 65536, block.steps))))
            if len(bad) and not first:
                first = f"series {recording.keys[index]}, step {start + bad[0][0]}, channel {bad[0][1]}"
            count += len(bad)
    raise DataError(
        f"{count} infinite value{'s' if count != 1 else ''}, the first at {first}",
        where=source,
        hint="store missing values as NaN, or name the number that stands for them: --missing-value X",
    )


def _inputs(
    recording: Recording, rows: list[tuple[Block, int]]
) -> tuple[Callable[[int, int, int], np.ndarray] | None, int, tuple[int, ...]]:
    if recording.inputs is None:
        return None, 0, ()
    held = [(block, row) for block in recording.inputs for row in range(block.count)]
    held = held * len(rows) if len(held) == 1 else held

    def fetch(index: int, start: int, stop: int) -> np.ndarray:
        values = held[index][0].read(held[index][1], start, stop)
        if not np.isfinite(values).all():
            raise DataError(
                f"known inputs are missing or infinite between steps {start} and {stop}",
                where=f"series {recording.keys[index]}",
                hint="inputs must be known at every step",
            )
        return values

    return fetch, int(np.prod(held[0][0].step_shape)), tuple(block.steps for block, _ in held)
