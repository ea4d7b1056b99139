"""From functions over explicit lanes to functions of one series that ``vmap``, ``grad`` and ``jit`` like any other.

A lane function takes arrays with a leading lane axis, of length 1 where all lanes share the array, and computes all
lanes at once in its own layout. ``jax.vmap`` of the single-series function lands in ONE call with as many lanes as
there are series, however the transformations are nested; what does not depend on the series stays shared.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from svae_cli.precision import full_precision


def _merge(x, *, batched: bool, size: int, lanes: int):
    """Fold a batch axis into the lane axis; a fully shared array stays shared."""
    own = x.shape[1] if batched else x.shape[0]
    if not batched and own == 1:
        return x
    inner = x.shape[2:] if batched else x.shape[1:]
    x = x if batched else jnp.broadcast_to(x[None], (size, own, *inner))
    return jnp.broadcast_to(x, (size, lanes, *inner)).reshape(size * lanes, *inner)


def _over_lanes(function: Callable) -> Callable:
    @custom_vmap
    def call(*args):
        return function(*args)

    @call.def_vmap
    def _rule(size, in_batched, *args):
        lanes = max(x.shape[b] for x, b in zip(args, map(int, in_batched), strict=True))
        merged = [_merge(x, batched=b, size=size, lanes=lanes) for x, b in zip(args, in_batched, strict=True)]

        def split(out, own):
            if out.shape[0] != size * lanes:
                return out
            out = out.reshape(size, lanes, *out.shape[1:])
            return out if own == lanes else out[:, :1]

        outs = call(*merged)
        flags = jax.tree.map(lambda out: out.shape[0] == size * lanes, outs)
        if lanes == 1:
            return jax.tree.map(lambda out: split(out, 1), outs), flags
        single = [jax.ShapeDtypeStruct(x.shape[int(b) :], x.dtype) for x, b in zip(args, in_batched, strict=True)]
        own = jax.tree.map(lambda out: out.shape[0], jax.eval_shape(function, *single))
        return jax.tree.map(split, outs, own), flags

    # Derivatives of a rule (second derivatives of the whole) go through the plain function.
    @jax.custom_vjp
    def differentiable(*args):
        return call(*args)

    differentiable.defvjp(lambda *args: (call(*args), args), lambda args, cts: jax.vjp(function, *args)[1](cts))
    return differentiable


def lane_function(forward: Callable, backward: Callable) -> Callable:
    """A function over lanes with its own gradient rule.

    Args:
        forward: (*args) -> (outputs, saved), tuples of arrays with a leading lane axis.
        backward: (args, outputs, saved, cotangents) -> one cotangent an argument, a lane each: ``vmap`` sums those of a
            shared argument itself where that is meant (in grad of vmap, not in vmap of grad).
    """
    forward, backward = full_precision(forward), full_precision(backward)
    primal = _over_lanes(lambda *args: forward(*args)[0])
    with_saved = _over_lanes(forward)

    @jax.custom_vjp
    def function(*args):
        return primal(*args)

    def rule_forward(*args):
        outputs, saved = with_saved(*args)
        return outputs, (args, outputs, saved)

    def rule_backward(kept, cotangents):
        leaves, structure = jax.tree.flatten((*kept, tuple(cotangents)))
        call = _over_lanes(lambda *flat: backward(*jax.tree.unflatten(structure, flat)))
        return call(*leaves)

    function.defvjp(rule_forward, rule_backward)
    return function
