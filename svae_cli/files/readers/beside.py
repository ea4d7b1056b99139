"""What lies beside a dataset and belongs to it: a mask, lengths, known inputs, times."""

from collections.abc import Sequence
from dataclasses import replace

import h5py
import numpy as np

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import labels, times
from svae_cli.files.readers.source import ArrayBlock, Axes, ReadOptions, Recording, check_numeric

_MASKS = ("mask", "observed", "missing", "missing_mask", "indicating_mask")


def find(folder: h5py.Group, name: str, what: str) -> h5py.Dataset:
    """A dataset that the caller names, looked for in the folder first and then from the root.

    Raises:
        DataError: there is none.
    """
    for path in (f"{folder.name}/{name}", name):
        node = safe.follow(folder.file, path)
        if isinstance(node, h5py.Dataset):
            safe.check_dataset(node)
            check_numeric(node)
            return node
    listed = ", ".join(list(safe.datasets(folder))[:8])
    raise DataError(f"no dataset {name!r} for {what}", where=str(folder.name), hint=f"there are: {listed}")


def with_mask(recording: Recording, folder: h5py.Group, options: ReadOptions, block: ArrayBlock) -> Recording:
    """Add the mask that the caller names, or that an imputation by svae itself holds.

    Raises:
        DataError: the mask does not fit the values.
    """
    dataset, axes = block.dataset, block.axes
    if options.mask is None:
        own = _own_mask(dataset)
        if own is not None:
            note = "an svae result: values that it filled in count as missing (its dataset 'observed')"
            return replace(recording, masks=(ArrayBlock(own, axes),), notes=(*recording.notes, note))
        unused = [n for n in _MASKS if getattr(safe.child(folder, n), "shape", None) == dataset.shape]
        notes = [f"mask {n} is not used; say --observed {n} or --missing {n}, whichever 1 means" for n in unused]
        return replace(recording, notes=(*recording.notes, *notes))
    mask = find(folder, options.mask, "the mask")
    for names in (axes, "".join(a for a in axes if a in "nt"), "t"):
        if mask.shape == tuple(s for s, a in zip(dataset.shape, axes, strict=True) if a in names):
            chosen = "".join(a for a in axes if a in names)
            return replace(recording, masks=(ArrayBlock(mask, chosen),), mask_means=options.mask_means)
    raise DataError(
        f"mask {mask.name} has shape {mask.shape}, the values {dataset.shape}", hint="one mask value a value"
    )


def _own_mask(dataset: h5py.Dataset) -> h5py.Dataset | None:
    """``observed`` beside ``data`` in a result of svae: what it filled in is not an observation."""
    folder, _, name = (dataset.name or "").rpartition("/")
    if name != "data" or not str(safe.attribute(dataset.file, "svae_format") or "").startswith("svae-result"):
        return None
    mask = safe.follow(dataset.file, f"{folder}/observed")
    return mask if isinstance(mask, h5py.Dataset) and mask.shape == dataset.shape else None


def with_lengths(recording: Recording, folder: h5py.Group, options: ReadOptions, block: ArrayBlock) -> Recording:
    """Add the lengths of padded series that the caller names, or that lie beside the values as ``lengths``.

    Raises:
        DataError: they do not fit the series.
    """
    if "n" not in block.axes:
        return recording
    notes = recording.notes
    if options.lengths is not None:
        dataset = find(folder, options.lengths, "the lengths")
    else:
        found = [safe.child(folder, n) for n in ("lengths", "length")]
        fitting = [
            d for d in found if isinstance(d, h5py.Dataset) and d.shape == (block.count,) and d.dtype.kind in "iu"
        ]
        if not fitting:
            return recording
        dataset = fitting[0]
        notes = (*notes, f"lengths of the series from {dataset.name}")
    lengths = safe.read(dataset)
    if lengths.shape != (block.count,) or not ((lengths >= 1) & (lengths <= block.steps)).all():
        raise DataError(
            f"lengths have shape {lengths.shape} and lie between {lengths.min(initial=0)} and {lengths.max(initial=0)}",
            where=str(dataset.name),
            hint=f"one length a series ({block.count}), each from 1 to {block.steps}",
        )
    return replace(recording, lengths=tuple(int(n) for n in lengths), notes=notes)


def with_inputs(recording: Recording, folder: h5py.Group, options: ReadOptions, block: ArrayBlock) -> Recording:
    """Add the known inputs that the caller names.

    Raises:
        DataError: they do not reach over the series, or the series are to be put on another grid.
    """
    if options.inputs is None:
        return recording
    if options.regrid is not None:
        raise DataError("--regrid cannot be used together with --inputs", hint="put both on one grid in the file")
    dataset = find(folder, options.inputs, "the inputs")
    axes = {1: "t", 2: "td", 3: "ntd"}.get(dataset.ndim)
    if axes == "td" and "d" not in block.axes and dataset.shape[0] == block.count > 1:
        axes = "nt"
    if axes is None:
        raise DataError(f"inputs have shape {dataset.shape}", where=str(dataset.name), hint="(series, time, input)")
    inputs = ArrayBlock(dataset, axes)
    if inputs.steps < block.steps or inputs.count not in (1, block.count):
        raise DataError(
            f"inputs of shape {dataset.shape} do not reach over {block.count} series of {block.steps} steps",
            where=str(dataset.name),
            hint="(series, time, input) or (time, input), with at least as many steps as the values",
        )
    names = labels.channel_names(dataset, axes) if "d" in axes else None
    return replace(recording, inputs=(inputs,), input_names=names)


def with_time(
    recording: Recording, folder: h5py.Group, options: ReadOptions, dataset: h5py.Dataset, axes: Axes
) -> Recording:
    """Add the time grid that a dimension scale, a dataset beside the values, or attributes state."""
    steps = recording.blocks[0].steps
    scale = labels.dimension_scale(dataset, axes.index("t"))
    nodes = [scale, *(safe.child(folder, n) for n in times.NAMES)]
    fitting = [n for n in nodes if isinstance(n, h5py.Dataset) and n.shape == (steps,) and not _is_blank_scale(n)]
    stamps = next((s for n in fitting if (s := times.read_stamps(n, steps)) is not None), None)
    if stamps is None:
        if options.regrid is not None:
            raise DataError("--regrid needs times, and there are none", where=str(dataset.name), hint=_time_names())
        unread = [f"the times in {n.name} are not used: they are neither numbers nor ISO texts" for n in fitting]
        time = times.from_rate(dataset) or times.from_rate(folder)
        return replace(recording, time=time, notes=(*recording.notes, *unread[:1]))
    return put_on_grid(recording, [stamps] * len(recording.keys), options, where=str(dataset.name))


def _is_blank_scale(node: h5py.Dataset) -> bool:
    return str(safe.attribute(node, "NAME")).startswith("This is a netCDF dimension but not")


def _time_names() -> str:
    return f"store them beside the values as one of {', '.join(times.NAMES)}"


def put_on_grid(recording: Recording, stamps: Sequence[times.Stamps], options: ReadOptions, *, where: str) -> Recording:
    """Check that the times are regular, or make them so with ``--regrid``."""
    if options.regrid is None:
        grids = [times.grid(s, where=where) for s in {id(s): s for s in stamps}.values()]
        return replace(recording, time=common_grid(grids))
    placed = {id(s): times.regrid(s, options.regrid, where=where) for s in stamps}
    time = common_grid([grid for grid, _ in placed.values()])
    steps = [placed[id(s)][1] for s in stamps]
    if recording.lengths is not None:
        steps = [
            index[: np.flatnonzero(index == n - 1)[0] + 1] for index, n in zip(steps, recording.lengths, strict=True)
        ]
    return replace(recording, time=time, steps=steps, lengths=None)


def common_grid(grids: Sequence[TimeAxis]) -> TimeAxis:
    """One grid for all series: their common step, and their start where they share it (else 0).

    Raises:
        DataError: series with different steps.
    """
    first = grids[0]
    for other in grids[1:]:
        if not np.isclose(other.step, first.step, rtol=times.TOLERANCE):
            raise DataError(
                f"series have different time steps: {first.step:.6g} and {other.step:.6g}",
                hint=f"--regrid {max(first.step, other.step):.6g} puts all on one grid",
            )
    same = all(other.start == first.start for other in grids)
    return first if same else TimeAxis(0.0, first.step, first.units)
