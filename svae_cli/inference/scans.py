"""The three recursions over time that everything else is made of, over lanes.

riccati       P_t = ((A P_{t-1} A' + Q)^-1 + J_t)^-1     forwards
congruence    S_t = G_t S_{t+1} G_t' + V_t               backwards or forwards
affine        x_t = G_t x_{t+1} + g_t                    backwards or forwards

Each runs step by step over all lanes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from svae_cli.inference.lanes import Layout, join_time


class Filtered(NamedTuple):
    """What the covariance filter leaves, (time, lanes) in the layout's order.

    Attributes:
        cov: filtered covariances P_t.
        root: upper'^-1 of the predicted covariances; (predicted)^-1 = root' root.
        log_det: log det(I + predicted J_t).
    """

    cov: jax.Array
    root: jax.Array
    log_det: jax.Array


def conjugated(layout: Layout, upper, precision, *, diagonal: bool):
    """Upper J upper'."""
    if diagonal:
        return layout.mm(layout.columns(upper, precision), layout.t(upper))
    return layout.mm(layout.mm(upper, precision), layout.t(upper))


def condition(layout: Layout, predicted, precision, *, diagonal: bool):
    """(factor C, root, log_det): a covariance given one potential is C'C, without inverting or subtracting."""
    prior = layout.factor(predicted)
    size = predicted.shape[-2]
    scaled = conjugated(layout, prior.upper, precision, diagonal=diagonal)
    gain = layout.factor(layout.eye(size, predicted.dtype) + scaled)
    return layout.mm(gain.inverse, prior.upper), prior.inverse, gain.log_det


def _per_step(*arrays):
    """Split into the arrays that vary (to scan over) and a function that puts all together again."""
    varying = [x if x.shape[0] > 1 else None for x in arrays]

    def join(slices):
        return [x[0] if v is None else s for x, v, s in zip(arrays, varying, slices, strict=True)]

    return varying, join


def widen(layout: Layout, x, lanes: int):
    """Broadcast the lane axis."""
    shape = list(x.shape)
    shape[layout.lane_axis if x.ndim >= 3 else -1] = lanes
    return jnp.broadcast_to(x, shape)


def riccati(layout: Layout, initial_cov, dynamics, noise_cov, precision, *, diagonal: bool) -> Filtered:
    """Filter the covariances.

    Args:
        layout: of all arrays.
        initial_cov: time axis 1.
        dynamics: time axis T-1 or 1 (constant); lane axis 1 if shared.
        noise_cov: likewise.
        precision: matrices, or vectors if ``diagonal``; time axis T.
        diagonal: what ``precision`` holds.
    """
    steps = precision.shape[0]
    ahead = [_one_more(x) for x in (dynamics, noise_cov)]
    varying, join = _per_step(*ahead, precision)
    shapes = [x.shape[1:] for x in (initial_cov, dynamics, noise_cov)]
    if not diagonal:
        shapes.append(precision.shape[1:])
    start = jnp.broadcast_to(initial_cov[0], jnp.broadcast_shapes(*shapes))
    if diagonal:
        start = jnp.broadcast_to(start, jax.eval_shape(layout.rows, precision[0], start).shape)

    def step(predicted, slices):
        a, q, j = join(slices)
        factor, root, log_det = condition(layout, predicted, j, diagonal=diagonal)
        spread = layout.mm(factor, layout.t(a))
        ahead = layout.mm(layout.t(spread), spread) + q
        return ahead, (layout.mm(layout.t(factor), factor), root, log_det)

    _, path = jax.lax.scan(step, start, varying, length=steps)
    return Filtered(*path)


def _one_more(x):
    """The last state has no transition: repeat one, so that every step has one; a constant stays as it is."""
    if x.shape[0] == 0:
        return jnp.zeros((1, *x.shape[1:]), x.dtype)
    return x if x.shape[0] == 1 else jnp.concatenate([x, x[-1:]])


def congruence(layout: Layout, gains, inner, *, reverse: bool):
    """S_t = G_t S_{t+1} G_t' + V_t, or forwards S_{t+1} = G_t S_t G_t' + V_{t+1}.

    Args:
        layout: of all arrays.
        gains: (T-1, ...) matrices.
        inner: (T, ...) matrices V; the recursion starts at its last (first) step.
        reverse: backwards in time.
    """
    if inner.shape[0] == 1:
        return inner
    start, rest = (inner[-1], inner[:-1]) if reverse else (inner[0], inner[1:])

    def step(state, slices):
        gain, extra = slices
        state = layout.mm(layout.mm(gain, state), layout.t(gain)) + extra
        return state, state

    lanes = max(layout.lanes(gains), layout.lanes(inner))
    start = widen(layout, start, lanes)
    _, path = jax.lax.scan(step, start, (gains, rest), reverse=reverse)
    return join_time(path, start[None]) if reverse else join_time(start[None], path)


def affine(layout: Layout, gains, offsets, *, reverse: bool):
    """x_t = G_t x_{t+1} + g_t, or forwards x_{t+1} = G_t x_t + g_{t+1}; see ``congruence``."""
    if offsets.shape[0] == 1:
        return offsets
    start, rest = (offsets[-1], offsets[:-1]) if reverse else (offsets[0], offsets[1:])

    def step(state, slices):
        gain, extra = slices
        state = layout.mv(gain, state) + extra
        return state, state

    start = jnp.broadcast_to(start, jax.eval_shape(layout.mv, gains[0], start).shape)
    start = jnp.broadcast_to(start, jnp.broadcast_shapes(start.shape, rest.shape[1:]))

    _, path = jax.lax.scan(step, start, (gains, rest), reverse=reverse)
    return join_time(path, start[None]) if reverse else join_time(start[None], path)
