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
    arrays = (values, observed, inputs, *rest)
    shared = [i for i, a in enumerate(arrays) if a.dtype == bool or i == 2]
    axes = [None if i in shared else 0 for i in range(len(arrays))]
    one_group = jax.vmap(lambda *window: function(model, *window), in_axes=axes)
    split = [jnp.reshape(a, (groups, len(a) // groups, *a.shape[1:])) for a in arrays]
    split = [a[:, 0] if i in shared else a for i, a in enumerate(split)]
    found = jax.lax.map(lambda parts: one_group(*parts), tuple(split))
    return jax.tree.map(lambda a: jnp.reshape(a, (len(values), *a.shape[2:])), found)
