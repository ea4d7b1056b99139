"""Programs that were traced once: the next process that asks for the same finds them on a shelf.

jax keeps what XLA compiled under a name that it makes of the program, and for that each process traces the program
anew, which takes longer than all else where the compiled one is at hand. Here the traced program itself is kept, under
a name made of what it depends on: its source, the versions, and the shapes and settings of its arguments.

Each program that XLA compiles for a CPU takes up memory maps, of which Linux allows a process 65,530; without them it
dies. A training has some 4,000, so that a loop over records of many lengths would come that far: before, all are
forgotten.
"""

import dataclasses
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp

from svae_cli.precision import Arguments, Result, full_precision

_NEVER = b""  # in place of a program that cannot be kept
_MOST = 64  # programs of a function that are remembered: training on ever other shapes must not fill the memory
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


class Shelf(Protocol):
    """Where programs of this version of everything are."""

    def get(self, name: str) -> bytes | None:
        """What was put there whole, or None."""
        ...

    def put(self, name: str, program: bytes) -> None:
        """Keep a program, if it can be."""
        ...


class _Used:
    """Of this process."""

    shelf: Shelf | None = None
    programs: list[dict[Any, Callable[..., Any]]] = []  # of each function
    maps = 0  # that were left when they were forgotten last


def keep_traced(shelf: Shelf | None) -> None:
    """Keep programs there from now on; None keeps none.

    On a shelf a program is known by its source files, so nothing in them may be changed while the process runs.
    """
    _Used.shelf = shelf


def kept(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function in ``full_precision``, compiled for the shapes of its arrays and the values of all else it is given.

    Functions that give dictionaries, lists or tuples of arrays are traced once on this machine, if there is a shelf;
    where the arguments cannot be told apart by name, or nothing is kept, once a process. Between calls there is little
    to do: modules are taken apart once, and no name is made.
    """
    programs: dict[Any, Callable[..., Any]] = {}
    _Used.programs.append(programs)

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        leaves, structure = jax.tree.flatten((args, kwargs))
        around = None if _Used.shelf is None else tuple(jax.config.values.values())
        known = (structure, around, *map(_known, leaves))
        program = programs.get(known)
        if program is None:
            _forget_if_too_many()
            program = programs[known] = _program(function, leaves, structure)
            if len(programs) > _MOST:
                programs.pop(next(iter(programs)), None)
        return program([leaf for leaf in leaves if eqx.is_array(leaf)])

    return call


def _forget_if_too_many() -> None:
    """All programs, where half of the memory maps that the process may have are taken; Linux alone counts them.

    What is left may be others': an eighth more has to be taken before they are forgotten again.
    """
    try:
        most = int(_MOST_MAPS.read_text())
        taken = _MAPS.read_bytes().count(b"\n")
        if taken > max(most // 2, _Used.maps + most // 8):
            for programs in _Used.programs:
                programs.clear()
            jax.clear_caches()
            gc.collect()
            _Used.maps = _MAPS.read_bytes().count(b"\n")
    except (OSError, ValueError):
        return


def _known(leaf: Any) -> Any:
    """What of an argument a program is made for."""
    if eqx.is_array(leaf):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
    return type(leaf), leaf


def _program(function: Callable, leaves: list[Any], structure: Any) -> Callable[..., Any]:
    """Of the arrays among the leaves; from the shelf if it is there, or can be put there."""
    plan = [None if eqx.is_array(leaf) else (leaf,) for leaf in leaves]

    def of_arrays(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        args, kwargs = structure.unflatten([next(rest) if given is None else given[0] for given in plan])
        return function(*args, **kwargs)

    plain = jax.jit(full_precision(of_arrays))
    name = None if _Used.shelf is None else _name(function, leaves, str(structure))
    if _Used.shelf is None or name is None:
        return plain
    arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
    exported = _exported(_Used.shelf, name, plain, arrays)
    # Compiled here and now: jit would compile once more when it meets the results of such a program as arguments.
    return plain if exported is None else jax.jit(exported.call).lower(arrays).compile()


def _exported(shelf: Shelf, name: str, plain: Any, arrays: list[Any]) -> jax.export.Exported | None:
    """The program of the arrays, from the shelf or traced; None if XLA cannot keep it."""
    stored = shelf.get(name)
    if stored is not None:
        _find_lapack()
        return jax.export.deserialize(bytearray(stored)) if stored != _NEVER else None
    plain.trace(arrays)  # once: its mistakes are the function's own, what follows are limits of what can be written
    try:
        exported = jax.export.export(plain)(arrays)
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
