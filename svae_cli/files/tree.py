"""Trees of arrays in HDF5: one named dataset a leaf, compared name by name when read.

A positional dump of leaves is not enough: two fields of the same shape would swap silently.
"""

from typing import Any

import h5py
import jax
import numpy as np

from svae_cli.errors import ModelError, SvaeError
from svae_cli.files import safe

_KEY = "prng_impl"


def write_tree(group: h5py.Group, tree: Any) -> None:
    """Write every array and number of a tree as a dataset named by its path; other leaves (functions) are left out."""
    for name, leaf in named_leaves(tree).items():
        is_key = _is_key(leaf)
        values = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        dataset = group.create_dataset(name, data=values)
        if is_key:
            dataset.attrs[_KEY] = str(jax.random.key_impl(leaf))


def read_tree(
    group: h5py.Group,
    like: Any,
    *,
    where: str,
    error: type[SvaeError] = ModelError,
    absent: dict[str, float] | None = None,
) -> Any:
    """A tree of the structure of ``like`` with the values of the file.

    Args:
        group: what ``write_tree`` wrote.
        like: a tree of the same structure; its arrays may be ``jax.ShapeDtypeStruct``.
        where: the file's name for messages.
        error: the kind of error to raise.
        absent: what all entries are of arrays that older files lack, by name.

    Raises:
        SvaeError: names, shapes or types differ, or the values are damaged.
    """
    wanted = named_leaves(like)
    found = {path.removeprefix((group.name or "").rstrip("/") + "/"): d for path, d in safe.datasets(group).items()}
    older = {name: jax.numpy.full(wanted[name].shape, v, wanted[name].dtype) for name, v in (absent or {}).items()}
    values = {name: array for name, array in older.items() if name not in found}
    wanted = {name: leaf for name, leaf in wanted.items() if name not in values}
    if set(wanted) != set(found):
        missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        named = f"{missing[0]} is missing" if missing else f"{extra[0]} is not part of it"
        raise error(f"does not hold this model: {named} ({len(missing)} missing, {len(extra)} too many)", where=where)
    values |= {name: _read_leaf(found[name], leaf, where=where, error=error) for name, leaf in wanted.items()}
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = [values.get(_name(path), leaf) for path, leaf in paths]
    return jax.tree_util.tree_unflatten(structure, leaves)


def named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays and numbers of a tree by their paths, such as ``decoder/layers/0/weight``."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in paths if hasattr(leaf, "dtype") or isinstance(leaf, int | float)}


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "value"


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _read_leaf(dataset: h5py.Dataset, like: Any, *, where: str, error: type[SvaeError]) -> Any:
    safe.check_dataset(dataset, error=error)
    is_key = _is_key(like)
    shape = (*like.shape, 2) if is_key else np.shape(like)
    dtype = np.dtype(np.uint32) if is_key else np.dtype(getattr(like, "dtype", type(like)))
    if (dataset.shape, dataset.dtype) != (shape, dtype):
        raise error(
            f"{dataset.name} has shape {dataset.shape} and type {dataset.dtype}; expected {shape} and {dtype}",
            where=where,
        )
    values = safe.read(dataset, error=error)
    if is_key:
        return jax.random.wrap_key_data(jax.numpy.asarray(values), impl=safe.attribute(dataset, _KEY) or "threefry2x32")
    if isinstance(like, bool | int | float):
        return type(like)(values.item())
    return values if isinstance(like, np.ndarray) else jax.numpy.asarray(values)
