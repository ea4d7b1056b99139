"""A group of series of any lengths, each under its own name: bare datasets, or one folder a series."""

from dataclasses import replace

import h5py
import numpy as np

from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import beside, labels, single, times
from svae_cli.files.readers.source import ReadOptions, Recording


def ragged_group(file: h5py.File, found: dict[str, h5py.Dataset]) -> h5py.Group | None:
    """The group that the candidates are the series of, if that is beyond doubt; None otherwise.

    It is beyond doubt if all candidates are 2-D with the same channels and lie in one group that is not the root, if
    every member of one group holds one dataset of the same name, or if the file is a ragged result of svae.
    """
    if str(safe.attribute(file, "svae_format") or "").startswith("svae-result"):
        return file
    preferred = {path: d for path, d in found.items() if path.rsplit("/", 1)[-1] in single.PREFERRED}
    found = preferred if len(preferred) > 1 else found
    folders = {path.rsplit("/", 1)[0] for path in found}
    alike = len({d.shape[1:] for d in found.values()}) == 1 and all(d.ndim == 2 for d in found.values())
    if len(found) < 2 or not alike:
        return None
    if len(folders) == 1 and folders != {""}:
        return safe.parent(next(iter(found.values())))
    split = [path.rsplit("/", 2) for path in found]
    if any(len(parts) != 3 for parts in split) or len({(p[0], p[2]) for p in split}) != 1:
        return None
    node = safe.follow(file, split[0][0] or "/")
    return node if isinstance(node, h5py.Group) else None


def read_group(group: h5py.Group, options: ReadOptions, name: str) -> Recording:
    """The series of a group, each with what belongs to it.

    Raises:
        DataError: the group holds no series, or one of them is ambiguous.
    """
    items = _group_items(group, name)
    deeper = replace(options, dataset=None)
    notes: dict[str, None] = {}
    parts: list[Recording] = []
    for key, (node, folder) in items.items():
        own = deeper if folder is not None else _for_one(key, deeper)
        part = single.read_dataset(node, own, folder=folder or group)
        if len(part.keys) != 1 or part.blocks[0].count != 1:
            raise DataError(
                f"{node.name} has shape {node.shape}: several series, where one is expected",
                where=f"{name}:{group.name}",
                hint=f"name it alone: {name}:{node.name}",
            )
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
        time=beside.common_grid(grids) if len(grids) == len(parts) else times.from_rate(group),
        steps=regridded or None,
        notes=tuple(notes),
    )


def _for_one(key: str, options: ReadOptions) -> ReadOptions:
    """Options for one of several bare datasets: what belongs to it lies under its name in a group: ``/mask/<key>``."""
    mask, inputs = (None if name is None else f"{name}/{key}" for name in (options.mask, options.inputs))
    return replace(options, mask=mask, inputs=inputs)


def _group_channels(group: h5py.Group, part: Recording) -> tuple[str, ...] | None:
    count = int(np.prod(part.blocks[0].step_shape))
    listed = safe.attribute(group, "channel_names")
    if isinstance(listed, np.ndarray) and listed.shape == (count,):
        return tuple(str(v) for v in listed)
    for place in (group, safe.parent(group)):
        for name in ("channel_names", "channels", "channel"):
            node = safe.child(place, name)
            if isinstance(node, h5py.Dataset) and (names := safe.strings(node, count)) is not None:
                return names
    return None


def _group_items(group: h5py.Group, name: str) -> dict[str, tuple[h5py.Dataset, h5py.Group | None]]:
    """The series of a group by key, each with the folder in which what belongs to it lies (None for bare datasets)."""
    inside = safe.children(group)
    ignored = {*times.NAMES, "channel", "channels", "channel_names", "lengths", "length"}
    bare = {
        key: node
        for key, node in inside.items()
        if isinstance(node, h5py.Dataset) and key not in ignored and _could_be_series(node)
    }
    flat = {key: node for key, node in bare.items() if node.ndim == 2} or bare
    if flat:
        return {key: (node, None) for key, node in flat.items()}
    folders = {key: node for key, node in inside.items() if isinstance(node, h5py.Group)}
    items = {key: (_only_series(folder, name), folder) for key, folder in folders.items()}
    if not items:
        raise DataError("the group holds no series", where=f"{name}:{group.name}", hint="2-D datasets (time, channel)")
    return dict(items)


def _could_be_series(node: h5py.Dataset) -> bool:
    plain = single.could_be(node) and node.ndim in (1, 2) and h5py.check_vlen_dtype(node.dtype) is None
    return plain and not labels.is_scale(node)


def _only_series(folder: h5py.Group, name: str) -> h5py.Dataset:
    members = {key: node for key, node in safe.children(folder).items() if isinstance(node, h5py.Dataset)}
    for preferred in single.preferred_in(folder.file):
        if preferred in members:
            return members[preferred]
    chosen = [node for node in members.values() if single.is_candidate(node)]
    if len(chosen) != 1:
        raise DataError(
            f"{len(chosen)} datasets could be the series", where=f"{name}:{folder.name}", hint=f"name one: {name}:/path"
        )
    return chosen[0]
