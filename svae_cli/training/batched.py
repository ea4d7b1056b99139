"""Batching: one function of one window applied to many, sharing what the windows share."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array


def batched(
    function: Callable[..., Any], model: Any, values: Array, observed: Array, inputs: Array, *rest: Array, alike: bool
) -> Any:
    """``function(model, values, observed, inputs, *rest)`` over the leading axis of the arrays.

    Args:
        function: takes one window.
        model: shared by all.
        values: (window, time, channel).
        observed: (window, time, channel).
        inputs: (window, time, input).
        rest: further arrays with a leading window axis; masks among them are shared too if ``alike``.
        alike: every window has the same gaps and no inputs. Then the masks go in once, recognition gives one
            precision for all, and the kernel computes covariances once.
    """
    if not alike:
        return jax.vmap(lambda *window: function(model, *window))(values, observed, inputs, *rest)
    shared = [r[0] if r.dtype == bool else r for r in rest]
    axes = [None if r.dtype == bool else 0 for r in rest]
    return jax.vmap(lambda *window: function(model, *window), in_axes=(0, None, None, *axes))(
        values, observed[0], inputs[0], *shared
    )
