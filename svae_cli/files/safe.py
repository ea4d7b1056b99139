"""Untrusted HDF5: opened read-only, never followed out of the file, and measured before anything is allocated."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]

from svae_cli.errors import DataError, SvaeError
from svae_cli.files.heaps import has_endless_heap

MAX_OBJECTS = 100_000
"""Groups and datasets that a walk visits before it gives up on a file."""

MAX_LINKS = 16
"""Soft links followed for one name."""

MAX_ATTRIBUTE_BYTES = 1 << 20
"""Attributes larger than this are ignored."""

ALLOCATION_SLACK = 64 << 20
"""Bytes that any dataset may claim, whatever the file's size."""

COMPRESSION_LIMIT = 1100
"""A dataset may claim this many times the bytes of its file; deflate reaches 1032."""

CACHE_BYTES = 64 << 20

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, NotImplementedError)
Node = h5py.Group | h5py.Dataset


@contextmanager
def reading(where: str, *, error: type[SvaeError] = DataError) -> Iterator[None]:
    """Translate what h5py raises for a damaged file; nothing but calls of h5py belongs in the block.

    Raises:
        SvaeError: of the kind asked for.
    """
    try:
        yield
    except _DAMAGE as problem:
        said = (str(problem).strip("'\"").splitlines() or [type(problem).__name__])[0]
        raise error(f"cannot be read ({said})", where=where, hint="the file is damaged: copy it again") from problem


def open_file(path: Path, *, name: str, error: type[SvaeError] = DataError) -> h5py.File:
    """Open an HDF5 file for reading only.

    Args:
        path: the file.
        name: what to call it in messages.
        error: the kind of error to raise.
    """
    _check_is_hdf5(path, name, error)
    if has_endless_heap(path):
        raise error(f"{name} is damaged in its variable-length data", hint="copy it again from where it came")
    try:
        return h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=100_003)
    except _DAMAGE as problem:
        said = str(problem).splitlines()[0]
        hint = "close the program that writes it" if "lock" in said else "copy it again from where it came"
        raise error(f"{name} is truncated or damaged ({said})", hint=hint) from problem


def _check_is_hdf5(path: Path, name: str, error: type[SvaeError]) -> None:
    if not path.exists():
        raise error(f"{name} does not exist", hint="check the name and the folder")
    if path.is_dir():
        raise error(f"{name} is a folder", hint="name an HDF5 file in it")
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
    except OSError as problem:
        raise error(f"{name} cannot be read: {problem.strerror}") from problem
    if not beginning:
        hint = "see what the command before the pipe says" if name == "standard input" else "copy it again"
        raise error(f"{name} is empty", hint=hint)
    if not h5py.is_hdf5(path):
        raise error(
            f"{name} is not an HDF5 file (it begins with {beginning!r})", hint="svae reads HDF5: .h5, .nc, .nwb"
        )


def file_size(file: h5py.File) -> int:
    """Bytes of the open file."""
    with reading("/"):
        return int(file.id.get_filesize())


def follow(file: h5py.File, path: str, *, error: type[SvaeError] = DataError) -> Node | None:
    """The object of a path inside the file, or None; soft links are resolved step by step within the file.

    Raises:
        SvaeError: the path leaves the file through an external link, or goes round in circles.
    """
    parts, here, links = [p for p in path.split("/") if p and p != "."], [""], 0
    while parts:
        part = parts.pop(0)
        parent_path = "/".join(here) or "/"
        with reading(parent_path, error=error):
            parent = file[parent_path]
            link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) and part in parent else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise error(
                "an external link leads out of the file; it is not followed", where=f"{path} -> {link.filename}"
            )
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > MAX_LINKS:
                raise error("soft links go round in circles", where=path)
            target = [p for p in link.path.split("/") if p and p != "."]
            here = [""] if link.path.startswith("/") else here
            parts = target + parts
            continue
        here = [*here, part]
    with reading(path, error=error):
        found = file["/".join(here) or "/"]
    if isinstance(found, h5py.Dataset) and not _has_known_type(found):
        raise error("holds numbers of a type that NumPy does not know", where=path)
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def children(group: h5py.Group, *, error: type[SvaeError] = DataError) -> dict[str, Node]:
    """Groups and datasets directly inside, by name.

    Links out of the file, broken and circular ones, and datasets of types that NumPy has not are left out.
    """
    found: dict[str, Node] = {}
    with reading(group.name or "/", error=error):
        for name in list(group)[:MAX_OBJECTS]:
            node = _linked(group, name)
            if node is not None:
                found[name] = node
    return found


def child(group: h5py.Group, name: str, *, error: type[SvaeError] = DataError) -> Node | None:
    """What ``children`` has under a name, without looking at the others: there may be thousands."""
    with reading(group.name or "/", error=error):
        return _linked(group, name) if name in group else None


def _linked(group: h5py.Group, name: str) -> Node | None:
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.HardLink):
        node = group[name]
    elif isinstance(link, h5py.SoftLink):
        node = _try_follow(group, link)
    else:
        node = None
    if isinstance(node, h5py.Group) or (isinstance(node, h5py.Dataset) and _has_known_type(node)):
        return node
    return None


def _has_known_type(dataset: h5py.Dataset) -> bool:
    """Whether NumPy has the type of a dataset; damaged files, and a few sound ones, hold types that it has not."""
    try:
        return dataset.dtype is not None
    except (TypeError, ValueError):
        return False


def parent(node: Node) -> h5py.Group:
    """The group in which a node lies under the name that it was found by."""
    with reading(node.name or "/"):
        found = node.parent
        if not isinstance(found, h5py.Group):
            raise ValueError("the parent is not a group")
        return found


def _try_follow(group: h5py.Group, link: h5py.SoftLink) -> Node | None:
    path = link.path if link.path.startswith("/") else f"{group.name}/{link.path}"
    try:
        return follow(group.file, path)
    except DataError:
        return None


def datasets(group: h5py.Group, *, error: type[SvaeError] = DataError) -> dict[str, h5py.Dataset]:
    """All datasets below a group by path, each object once.

    Raises:
        SvaeError: more than ``MAX_OBJECTS`` objects.
    """
    found: dict[str, h5py.Dataset] = {}
    seen: set[Any] = set()
    waiting: list[tuple[str, Node]] = [((group.name or "/").rstrip("/"), group)]
    while waiting:
        path, node = waiting.pop(0)
        with reading(path or "/", error=error):
            info = h5o.get_info(node.id)
            mark = (info.fileno, info.addr)
        if mark in seen:
            continue
        seen.add(mark)
        if len(seen) > MAX_OBJECTS:
            raise error(f"more than {MAX_OBJECTS} objects", where=path, hint="name one dataset: FILE.h5:/path")
        if isinstance(node, h5py.Dataset):
            found[path] = node
        else:
            waiting += [(f"{path}/{name}", child) for name, child in children(node, error=error).items()]
    return found


def check_dataset(dataset: h5py.Dataset, *, error: type[SvaeError] = DataError) -> None:
    """Refuse a dataset whose values lie outside the file, or that claims more than the file can hold.

    Raises:
        SvaeError: external storage, a virtual dataset, an absurd size, or a filter that is not installed.
    """
    where = dataset.name or "a dataset"
    with reading(where, error=error):
        outside, virtual = dataset.external, dataset.is_virtual
        shape, chunks, itemsize = dataset.shape, dataset.chunks, dataset.dtype.itemsize
    if outside:
        raise error("the values lie in another file (external storage), which is not read", where=where)
    if virtual:
        raise error("a virtual dataset reads other files, which svae does not do", where=where, hint="h5repack it")
    if shape is None:
        raise error("the dataset has no values (null dataspace)", where=where)
    limit = max(ALLOCATION_SLACK, COMPRESSION_LIMIT * file_size(dataset.file))
    claimed = itemsize * max(math.prod(shape), math.prod(chunks or ()))
    if claimed > limit:
        raise error(
            f"claims {claimed:,} bytes (shape {shape}, chunks {chunks}) in a file of {file_size(dataset.file):,}",
            where=where,
            hint="the file is damaged, sparse or hostile; write the values out in full",
        )
    _check_filters(dataset, where, error)


def _check_filters(dataset: h5py.Dataset, where: str, error: type[SvaeError]) -> None:
    with reading(where, error=error):
        plist = dataset.id.get_create_plist()
        codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if missing:
        try:
            import hdf5plugin  # noqa: F401  (registers its filters as it is imported)  # pyright: ignore
        except ImportError:
            raise error(
                f"compressed with HDF5 filter {missing[0]}, which is not installed",
                where=where,
                hint="pip install 'svae-cli[filters]'",
            ) from None
        if not all(h5py.h5z.filter_avail(code) for code in missing):
            raise error(f"compressed with HDF5 filter {missing[0]}, which hdf5plugin does not know", where=where)


def read(dataset: h5py.Dataset, selection: Any = (), *, error: type[SvaeError] = DataError) -> np.ndarray:
    """Values of a checked dataset, in native byte order.

    Raises:
        SvaeError: the stored bytes are damaged.
    """
    with reading(dataset.name or "a dataset", error=error):
        values = np.asarray(dataset[selection])
    return values.astype(values.dtype.newbyteorder("="), copy=False) if values.dtype.kind in "iuf" else values


def attribute(node: Node, name: str) -> Any:
    """An attribute as a str, a number, an array of them, or None where absent, damaged or very large."""
    try:
        if name not in node.attrs:
            return None
        if node.attrs.get_id(name).get_storage_size() > MAX_ATTRIBUTE_BYTES:
            return None
        return as_text(node.attrs[name])
    except _DAMAGE:
        return None


def as_text(value: Any) -> Any:
    """Bytes to str, also inside arrays and one-element arrays to scalars; anything else as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        value = np.array([as_text(v) for v in value.ravel()], dtype=object).reshape(value.shape)
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.ravel()[0].item() if value.dtype.kind != "O" else value.ravel()[0]
    return value.item() if isinstance(value, np.generic) else value


def strings(dataset: h5py.Dataset, count: int) -> tuple[str, ...] | None:
    """The texts of a short dataset of ``count`` strings, or None if it is something else."""
    with reading(dataset.name or "a dataset"):
        if dataset.shape != (count,) or dataset.dtype.kind not in "SO" or count * dataset.dtype.itemsize > 1 << 26:
            return None
        if dataset.dtype.kind == "O" and h5py.check_string_dtype(dataset.dtype) is None:
            return None
        values = dataset[()]
    return tuple(str(as_text(v)) for v in values)
