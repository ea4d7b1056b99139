"""Batching: one function of one window applied to many, sharing what the windows share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def batched(
    function: Callable[..., Any], model: Any, values: Array, observed: Array, inputs: Array, *rest: Array, groups: int
) -> Any:
    """``function(model, values, observed, inputs, *rest)`` over the leading axis of the arrays.

    Args:
        function: takes one window.
        model: shared by all.
        values: (window, time, channel).
        observed: (window, time, channel).
        inputs: (window, time, input).
        rest: further arrays with a leading window axis.
        groups: 0 treats every window by itself. Else the windows fall into so many equal groups of neighbours, and
            within a group all masks (boolean arrays) are the same and there are no inputs. Then the masks go in once a
            group, recognition gives one precision for the group, and the kernel computes its covariances once.
    """
    if not groups:
        return jax.vmap(lambda *window: function(model, *window))(values, observed, inputs, *rest)
    of_group, parts = _by_group(function, (values, observed, inputs, *rest), groups)
    found = jax.lax.map(lambda part: of_group(model, *part), parts)
    return jax.tree.map(lambda a: jnp.reshape(a, (len(values), *a.shape[2:])), found)


def summed_gradients(
    function: Callable[..., Array],
    parameters: Any,
    values: Array,
    observed: Array,
    inputs: Array,
    *rest: Array,
    groups: int,
) -> tuple[Array, Any]:
    """Sum of a scalar ``function(parameters, values, observed, inputs, *rest)`` of each window, and its gradient.

    Groups take turns with value and gradient both, so that nothing of one is stored while the next is worked on; to
    differentiate ``batched`` stores all, and takes a quarter longer to compile. Arguments as for ``batched``.
    """
    arrays = (values, observed, inputs, *rest)
    if groups:
        of_group, parts = _by_group(function, arrays, groups)
    else:
        of_group, parts = jax.vmap(function, in_axes=(None, *(0 for _ in arrays))), tuple(a[None] for a in arrays)
    both = jax.value_and_grad(lambda parameters, part: jnp.sum(of_group(parameters, *part)))
    if max(groups, 1) == 1:
        return both(parameters, tuple(a[0] for a in parts))
    zero = jax.tree.map(jnp.zeros_like, (jnp.zeros((), values.dtype), parameters))
    add = lambda total, part: (jax.tree.map(jnp.add, total, both(parameters, part)), None)  # noqa: E731
    return jax.lax.scan(add, zero, parts)[0]


def _by_group(function: Callable[..., Any], arrays: tuple[Array, ...], groups: int):
    """(function of one group of windows, arrays with a leading group axis); see ``batched``."""
    shared = [i for i, a in enumerate(arrays) if a.dtype == bool or i == 2]
    axes = [None if i in shared else 0 for i in range(len(arrays))]
    split = [jnp.reshape(a, (groups, len(a) // groups, *a.shape[1:])) for a in arrays]
    split = [a[:, 0] if i in shared else a for i, a in enumerate(split)]
    return jax.vmap(function, in_axes=(None, *axes)), tuple(split)
