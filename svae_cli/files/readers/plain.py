"""Plain HDF5: one dataset of 1 to 5 dimensions, a group of ragged series, or variable-length rows.

netCDF-4 files (dimension scales, packed integers) and MATLAB v7.3 files (reversed axes) are read here too: they differ
from plain ones by attributes of the dataset, which ``labels`` knows.
"""

from collections.abc import Sequence
from dataclasses import replace

import h5py
import numpy as np

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import labels, times
from svae_cli.files.readers.source import (
    ArrayBlock,
    Axes,
    Block,
    Decoding,
    ListBlock,
    Recording,
    ReadOptions,
    check_numeric,
)

PREFERRED = ("data", "X", "x", "observations")
"""Names that are taken for the series without being told."""

_MASKS = ("mask", "observed", "missing", "missing_mask", "indicating_mask")


def recognises(file: h5py.File) -> bool:
    """Every HDF5 file is at least plain."""
    return True


def read(file: h5py.File, options: ReadOptions, name: str) -> Recording:
    """Find the series and what describes them.

    Raises:
        DataError: none or several candidates, or something about the chosen one cannot be read.
    """
    node = choose(file, options, name)
    return read_node(file, node, options, name)


def read_node(file: h5py.File, node: safe.Node, options: ReadOptions, name: str) -> Recording:
    """A dataset, or a group of series, as a recording."""
    if isinstance(node, h5py.Group):
        return _read_group(node, options, name)
    if h5py.check_vlen_dtype(node.dtype) is not None:
        return _read_rows(node, options)
    return read_dataset(node, options)


def choose(file: h5py.File, options: ReadOptions, name: str) -> safe.Node:
    """The dataset or group that holds the series, named by the caller or the only one that could be.

    Raises:
        DataError: the named one does not exist; there is none; or there are several.
    """
    if options.dataset is not None:
        found = safe.follow(file, options.dataset)
        if found is None:
            listed = ", ".join(list(safe.datasets(file))[:8]) or "none"
            raise DataError(f"{name} has no {options.dataset!r}", hint=f"its datasets: {listed}")
        return found
    inside = safe.children(file)
    for preferred in PREFERRED:
        if preferred in inside and (isinstance(inside[preferred], h5py.Group) or _could_be(inside[preferred])):
            return inside[preferred]
    found = {path: d for path, d in safe.datasets(file).items() if _is_candidate(d)}
    if len(found) == 1:
        return next(iter(found.values()))
    if (group := _ragged_group(file, found)) is not None:
        return group
    raise _ambiguous(file, found, name)


def _could_be(node: safe.Node) -> bool:
    vlen = isinstance(node, h5py.Dataset) and h5py.check_vlen_dtype(node.dtype) not in (None, str, bytes)
    return isinstance(node, h5py.Dataset) and node.shape is not None and (node.dtype.kind in "iufbcV" or vlen)


def _is_candidate(dataset: h5py.Dataset) -> bool:
    if not _could_be(dataset) or safe.attribute(dataset, "CLASS") == "DIMENSION_SCALE":
        return False
    if h5py.check_vlen_dtype(dataset.dtype) is not None:
        return dataset.ndim in (1, 2)
    return dataset.dtype.kind in "iufb" and 2 <= dataset.ndim <= 5


def _ragged_group(file: h5py.File, found: dict[str, h5py.Dataset]) -> h5py.Group | None:
    folders = {path.rsplit("/", 1)[0] for path in found}
    widths = {d.shape[1:] for d in found.values()}
    if len(found) > 1 and len(folders) == 1 and len(widths) == 1 and folders != {""}:
        if all(d.ndim == 2 for d in found.values()):
            return next(iter(found.values())).parent
    return _group_of_recordings(file, found)


def _group_of_recordings(file: h5py.File, found: dict[str, h5py.Dataset]) -> h5py.Group | None:
    """The group whose every member holds one dataset of the same name: ``/trials/a/data``, ``/trials/b/data``."""
    split = [path.rsplit("/", 2) for path in found]
    if len(found) < 2 or any(len(parts) != 3 for parts in split) or len({(p[0], p[2]) for p in split}) != 1:
        return None
    if len({d.shape[1:] for d in found.values()}) != 1 or any(d.ndim != 2 for d in found.values()):
        return None
    node = safe.follow(file, split[0][0] or "/")
    return node if isinstance(node, h5py.Group) else None


def _ambiguous(file: h5py.File, found: dict[str, h5py.Dataset], name: str) -> DataError:
    if not found:
        one = [p for p, d in safe.datasets(file).items() if _could_be(d) and d.ndim == 1]
        hint = f"{name}:{one[0]} is one series of one channel" if one else "numbers of shape (series, time, channel)"
        return DataError(f"{name} has no numeric dataset of 2 to 5 dimensions", hint=hint)
    listed = [f"{path} {d.shape} {d.dtype.str.lstrip('<>|=')}" for path, d in list(found.items())[:8]]
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    path = next(iter(found))
    return DataError(
        f"{name} has {len(found)} datasets that could be the series: {', '.join(listed)}{more}",
        hint=f"name one: {name}:{path}" + (f", or the whole group: {name}:{path.rsplit('/', 1)[0] or '/'}"),
    )


def read_dataset(dataset: h5py.Dataset, options: ReadOptions, *, beside: h5py.Group | None = None) -> Recording:
    """One dataset with the names, mask, lengths, inputs and times that go with it.

    Args:
        dataset: the values.
        options: what the caller says about them.
        beside: the group in which masks, inputs and times are looked for; default the dataset's own.
    """
    safe.check_dataset(dataset)
    check_numeric(dataset)
    folder = dataset.parent if beside is None else beside
    axes, notes = _axes(dataset, options)
    block = ArrayBlock(dataset, axes, labels.decoding(dataset, options.missing_value))
    recording = Recording(
        blocks=(block,),
        keys=labels.series_names(dataset, axes) if "n" in axes else ("0",),
        layout="batch" if "n" in axes else "vector" if axes == "t" else "single",
        channels=labels.channel_names(dataset, axes),
        units=labels.channel_units(dataset, axes),
        notes=notes,
    )
    recording = _with_mask(recording, folder, options)
    recording = _with_lengths(recording, folder, options, block)
    recording = _with_inputs(recording, folder, options)
    return with_time(recording, folder, options, dataset, axes)


def _axes(dataset: h5py.Dataset, options: ReadOptions) -> tuple[Axes, tuple[str, ...]]:
    if options.axes is not None:
        return options.axes, ()
    named = labels.axes_from_names(labels.dimension_names(dataset))
    if named is not None:
        return named, ()
    axes = labels.default_axes(dataset.ndim)
    if axes is None:
        raise DataError(f"has shape {dataset.shape}", where=f"dataset {dataset.name}", hint="1 to 5 dimensions")
    if labels.is_matlab(dataset):
        if dataset.ndim == 2 and 1 in dataset.shape:  # MATLAB has no vectors: a row or column is one channel
            return ("dt" if dataset.shape[0] == 1 else "td"), ()
        shown = dataset.shape[::-1]
        return axes[::-1], (f"MATLAB file: read as size {shown} in MATLAB's order; --axes states another",)
    if axes == "td" and dataset.shape[1] > dataset.shape[0]:
        shape = f"{dataset.name} {dataset.shape} has more channels than steps"
        return axes, (f"{shape}; if time is the second dimension, say --axes dt",)
    return axes, ()


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


def _with_mask(recording: Recording, folder: h5py.Group, options: ReadOptions) -> Recording:
    block = recording.blocks[0]
    assert isinstance(block, ArrayBlock)
    shape, axes = block.dataset.shape, block.axes
    if options.mask is None:
        if _is_own_result(folder) and (own := safe.children(folder).get("observed")) is not None:
            note = "an svae result: values that it filled in count as missing (its dataset 'observed')"
            own_block = ArrayBlock(own, axes) if isinstance(own, h5py.Dataset) and own.shape == shape else None
            return (
                recording
                if own_block is None
                else replace(recording, masks=(own_block,), notes=(*recording.notes, note))
            )
        unused = [n for n in _MASKS if getattr(safe.children(folder).get(n), "shape", None) == shape]
        hint = [f"{folder.name.rstrip('/')}/{n} has the shape of the values and is not used: --observed {n} or "
                f"--missing {n} would" for n in unused]  # fmt: skip
        return replace(recording, notes=(*recording.notes, *hint))
    mask = find(folder, options.mask, "the mask")
    for names in (axes, "".join(a for a in axes if a in "nt"), "t"):
        if mask.shape == tuple(s for s, a in zip(shape, axes, strict=True) if a in names):
            chosen = "".join(a for a in axes if a in names)
            return replace(recording, masks=(ArrayBlock(mask, chosen),), mask_means=options.mask_means)
    raise DataError(f"mask {mask.name} has shape {mask.shape}, the values {shape}", hint="one mask value a value")


def _is_own_result(folder: h5py.Group) -> bool:
    return str(safe.attribute(folder.file, "svae_format") or "").startswith("svae-result")


def _with_lengths(recording: Recording, folder: h5py.Group, options: ReadOptions, block: ArrayBlock) -> Recording:
    if "n" not in block.axes:
        return recording
    notes = recording.notes
    if options.lengths is not None:
        dataset = find(folder, options.lengths, "the lengths")
    else:
        inside = safe.children(folder)
        found = [inside.get(n) for n in ("lengths", "length")]
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


def _with_inputs(recording: Recording, folder: h5py.Group, options: ReadOptions) -> Recording:
    if options.inputs is None:
        return recording
    block = recording.blocks[0]
    dataset = find(folder, options.inputs, "the inputs")
    axes = {1: "t", 2: "td", 3: "ntd"}.get(dataset.ndim)
    if axes == "td" and isinstance(block, ArrayBlock) and "d" not in block.axes and dataset.shape[0] == block.count > 1:
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
    inside = safe.children(folder)
    nodes = [scale, *(inside.get(n) for n in times.NAMES)]
    fitting = [n for n in nodes if isinstance(n, h5py.Dataset) and n.shape == (steps,) and not _is_blank_scale(n)]
    stamps = next((s for n in fitting if (s := times.read_stamps(n, steps)) is not None), None)
    if stamps is None:
        if options.regrid is not None:
            raise DataError("--regrid needs times, and there are none", where=str(dataset.name), hint=_time_names())
        return replace(recording, time=times.from_rate(dataset) or times.from_rate(folder))
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
    return replace(recording, time=time, steps=[placed[id(s)][1] for s in stamps], lengths=None)


def common_grid(grids: Sequence[TimeAxis]) -> TimeAxis:
    """One grid for all series: their common step, and their start where they share it (else 0).

    Raises:
        DataError: series with different steps.
    """
    first = grids[0]
    for other in grids[1:]:
        if not np.isclose(other.step, first.step, rtol=times.TOLERANCE) and other.step != 1.0:
            raise DataError(
                f"series have different time steps: {first.step:.6g} and {other.step:.6g}",
                hint=f"--regrid {max(first.step, other.step):.6g} puts all on one grid",
            )
    same = all(other.start == first.start for other in grids)
    return first if same else TimeAxis(0.0, first.step, first.units)


def _read_group(group: h5py.Group, options: ReadOptions, name: str) -> Recording:
    items = _group_items(group, name)
    deeper = replace(options, dataset=None)
    notes: dict[str, None] = {}
    parts: list[Recording] = []
    for node, folder in items.values():
        part = read_dataset(node, deeper, beside=folder) if folder is not None else _lone(node, deeper)
        notes.update(dict.fromkeys(part.notes))
        parts.append(part)
    grids = [part.time for part in parts if part.time is not None]
    regridded = [part.steps[0] for part in parts if part.steps is not None]
    return Recording(
        blocks=[b for part in parts for b in part.blocks],
        keys=tuple(items),
        layout="group",
        channels=parts[0].channels or _group_channels(group, parts[0]),
        units=parts[0].units,
        masks=[m for part in parts for m in part.masks or ()] or None,
        mask_means=options.mask_means,
        inputs=[u for part in parts for u in part.inputs or ()] or None,
        input_names=parts[0].input_names,
        time=common_grid(grids) if len(grids) == len(parts) else times.from_rate(group),
        steps=regridded or None,
        notes=tuple(notes),
    )


def _lone(dataset: h5py.Dataset, options: ReadOptions) -> Recording:
    """A member of a group of bare datasets: nothing beside it belongs to it alone."""
    safe.check_dataset(dataset)
    check_numeric(dataset)
    axes = options.axes or {1: "t", 2: "td"}[dataset.ndim]
    block: Block = ArrayBlock(dataset, axes, labels.decoding(dataset, options.missing_value))
    units = labels.channel_units(dataset, axes)
    return Recording((block,), ("0",), "group", units=units, time=times.from_rate(dataset))


def _group_channels(group: h5py.Group, part: Recording) -> tuple[str, ...] | None:
    count = int(np.prod(part.blocks[0].step_shape))
    listed = safe.attribute(group, "channel_names")
    if isinstance(listed, np.ndarray) and listed.shape == (count,):
        return tuple(str(v) for v in listed)
    for place in (group, group.parent):
        for name in ("channel_names", "channels", "channel"):
            node = safe.children(place).get(name)
            if isinstance(node, h5py.Dataset) and (names := safe.strings(node, count)) is not None:
                return names
    return None


def _group_items(group: h5py.Group, name: str) -> dict[str, tuple[h5py.Dataset, h5py.Group | None]]:
    """The series of a group by key, each with the folder in which what belongs to it lies (None for bare datasets)."""
    inside = safe.children(group)
    ignored = set(times.NAMES) | {"channel", "channels", "channel_names", "lengths", "length"}
    bare: dict[str, tuple[h5py.Dataset, h5py.Group | None]] = {
        key: (d, None)
        for key, d in inside.items()
        if isinstance(d, h5py.Dataset) and _could_be(d) and d.ndim in (1, 2) and key not in ignored
        and safe.attribute(d, "CLASS") != "DIMENSION_SCALE"
    }  # fmt: skip
    two = {key: item for key, item in bare.items() if item[0].ndim == 2}
    if two or bare:
        return two or bare
    items: dict[str, tuple[h5py.Dataset, h5py.Group | None]] = {}
    for key, folder in inside.items():
        if not isinstance(folder, h5py.Group):
            continue
        members = safe.children(folder)
        chosen = [members[n] for n in PREFERRED if isinstance(members.get(n), h5py.Dataset)]
        chosen = chosen or [d for d in members.values() if isinstance(d, h5py.Dataset) and _is_candidate(d)]
        if len(chosen) != 1 and not (chosen and chosen[0].name.rsplit("/", 1)[-1] in PREFERRED):
            raise DataError(f"{len(chosen)} datasets could be the series", where=f"{name}:{folder.name}")
        if isinstance(chosen[0], h5py.Dataset):
            items[key] = (chosen[0], folder)
    if not items:
        raise DataError("the group holds no series", where=f"{name}:{group.name}", hint="2-D datasets (time, channel)")
    return items


def _read_rows(dataset: h5py.Dataset, options: ReadOptions) -> Recording:
    safe.check_dataset(dataset)
    decode: Decoding = labels.decoding(dataset, options.missing_value)
    if np.dtype(h5py.check_vlen_dtype(dataset.dtype)).kind not in "iufb" or dataset.ndim not in (1, 2):
        raise DataError(
            f"has shape {dataset.shape} of {dataset.dtype}", where=str(dataset.name), hint="rows of numbers"
        )
    rows = [ListBlock(dataset, i, decode) for i in range(dataset.shape[0])]
    return Recording(rows, tuple(str(i) for i in range(len(rows))), "group", time=times.from_rate(dataset))
