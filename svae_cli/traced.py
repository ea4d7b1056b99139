"""Programs that were traced once: the next process that asks for the same finds them on a shelf.

jax keeps what XLA compiled under a name that it makes of the program, and for that each process traces the program
anew, which takes longer than all else where the compiled one is at hand. Here the traced program itself is kept, under
a name made of what it depends on: its source, the versions, and the shapes and settings of its arguments.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp

from svae_cli.precision import Arguments, Result, compiled, full_precision

_NEVER = b""  # in place of a program that cannot be kept


class Shelf(Protocol):
    """Where programs of this version of everything are."""

    def get(self, name: str) -> bytes | None:
        """What was put there whole, or None."""
        ...

    def put(self, name: str, program: bytes) -> None:
        """Keep a program, if it can be."""
        ...


class _Used:
    shelf: Shelf | None = None  # of this process


def keep_traced(shelf: Shelf | None) -> None:
    """Keep programs there from now on; None keeps none.

    On a shelf a program is known by its source files, so nothing in them may be changed while the process runs.
    """
    _Used.shelf = shelf


def kept(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``compiled``, for a function that gives dictionaries, lists or tuples of arrays: traced once on this machine.

    Where the arguments cannot be told apart by name, or nothing is kept, it is ``compiled`` and no more.
    """
    plain = compiled(function)
    programs: dict[str, Callable[..., Any] | None] = {}

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        leaves, structure = jax.tree.flatten((args, kwargs))
        name = None if _Used.shelf is None else _name(function, leaves, str(structure))
        if _Used.shelf is None or name is None:
            return plain(*args, **kwargs)
        if name not in programs:
            program = _exported(_Used.shelf, name, function, leaves, structure)
            programs[name] = None if program is None else jax.jit(program.call)
        found = programs[name]
        return plain(*args, **kwargs) if found is None else found([leaf for leaf in leaves if eqx.is_array(leaf)])

    return call


def _exported(
    shelf: Shelf, name: str, function: Callable, leaves: list[Any], structure: Any
) -> jax.export.Exported | None:
    """The program of the arrays among the leaves, from the shelf or traced; None if XLA cannot keep it."""
    stored = shelf.get(name)
    if stored is not None:
        _find_lapack()
        return jax.export.deserialize(bytearray(stored)) if stored != _NEVER else None

    def of_arrays(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        args, kwargs = structure.unflatten([next(rest) if eqx.is_array(leaf) else leaf for leaf in leaves])
        return function(*args, **kwargs)

    jitted, arrays = jax.jit(full_precision(of_arrays)), [leaf for leaf in leaves if eqx.is_array(leaf)]
    jitted.trace(arrays)  # once: its mistakes are the function's own, what follows are limits of what can be written
    try:
        exported = jax.export.export(jitted)(arrays)
        shelf.put(name, bytes(exported.serialize()))
    except (ValueError, NotImplementedError):  # an operation that XLA may change, a call of Python
        shelf.put(name, _NEVER)
        return None
    return exported


def _find_lapack() -> None:
    """What jax calls LAPACK by is set when it writes down a call; one from the shelf would jump to nowhere without."""
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), jnp.float32))


def _name(function: Callable, leaves: list[Any], structure: str) -> str | None:
    """All that a program depends on but for sources and versions; None if that cannot be told."""
    told = [_told(leaf) for leaf in leaves]
    config = sorted((name, value) for name, value in jax.config.values.items() if not name.endswith("_dir"))
    around = f"{jax.devices()[0].client.platform_version} {config}"
    if jax.device_count() > 1 or None in told or "0x" in around + structure:  # the address of something
        return None
    return "\n".join([f"{function.__module__}.{function.__qualname__}", around, structure, *map(str, told)])


def _told(leaf: Any) -> str | None:
    """What a program knows of an argument, or None."""
    if eqx.is_array(leaf):
        return f"{leaf.shape} {leaf.dtype} {getattr(leaf, 'weak_type', False)}"
    plain = isinstance(leaf, bool | int | float | str) or dataclasses.is_dataclass(leaf)
    return f"{type(leaf).__qualname__} {leaf!r}" if plain and "0x" not in repr(leaf) else None
