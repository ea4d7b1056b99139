"""The three recursions over time that everything else is made of, over the lanes of a grid.

riccati       P_t = ((A P_{t-1} A' + Q)^-1 + J_t)^-1     forwards
congruence    S_t = G_t S_{t+1} G_t' + V_t               backwards or forwards
affine        x_t = G_t x_{t+1} + g_t                    backwards or forwards

With more than one chunk: eliminate the inside of every chunk, all chunks at once; solve the short chain of chunks; run
all chunks again from what enters them.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from svae_cli.inference.grid import Grid
from svae_cli.inference.lanes import Layout

_MUCH = 0.1  # of the precision of I, that a part of a potential may cost
_PARTS = 4  # of a potential, at most


class Filtered(NamedTuple):
    """What the covariance filter leaves, in the grid's layout.

    Attributes:
        cov: filtered covariances P_t.
        root: upper'^-1 of the predicted covariances; (predicted)^-1 = root' root.
        log_det: log det(I + predicted J_t).
    """

    cov: jax.Array
    root: jax.Array
    log_det: jax.Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def root_of(layout: Layout, predicted, root):
    """``root``, known already, as a function of the covariance with predicted^-1 = root' root.

    The gradient is right for whatever uses root' root only: d(S^-1) = -S^-1 dS S^-1. It is what second derivatives
    need where a gradient rule uses the root; where nobody differentiates the rule, ``predicted`` is never computed.
    """
    del layout, predicted
    return root


def _root_forward(layout, predicted, root):
    del layout, predicted
    return root, root


def _root_backward(layout, root, root_bar):
    weighed = layout.mm(layout.tm(root, root_bar), layout.tm(root, root))
    return -(weighed + layout.t(weighed)) / 4, jnp.zeros_like(root)


root_of.defvjp(_root_forward, _root_backward)


def times_precision(layout: Layout, matrix, precision, *, diagonal: bool):
    """Matrix times J."""
    return layout.columns(matrix, precision) if diagonal else layout.mm(matrix, precision)


def _too_much(most):
    return most > _MUCH / jnp.finfo(most.dtype).eps


def condition(layout: Layout, predicted, precision, *, diagonal: bool, parts: int):
    """(factor C, root, log_det, most): a covariance U'U given one potential is C'C, without inverting or subtracting.

    Where U J U' is so large that next to it rounding leaves nothing of I, what J says nothing of comes out at random,
    and the filter may be lost within two steps. The potential is then taken in up to ``parts``, a little of it first:
    after that no direction is left in which the rest says as much. ``most`` is what it is about: the largest entry of
    U J U' in any lane, of the last part.
    """
    prior = layout.factor(predicted, layout.eye(predicted.shape[-2], predicted.dtype))
    how = _How(layout, diagonal, parts)
    found: Any = (_at_once if parts == 1 else _in_parts)(how, prior.upper, precision)
    factor, log_det, most = found
    return factor, prior.solved, log_det, most


class _How(NamedTuple):
    layout: Layout
    diagonal: bool
    parts: int


def _at_once(how: _How, factor, precision):
    """(factor C, log_det, most) of ``condition``."""
    return _taken(how, _nothing_taken(how, factor, precision), precision)[:3]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_parts(how: _How, factor, precision):
    """The same; its derivatives, which second derivatives of the whole need, are those of the loop written out."""
    begin = _nothing_taken(how, factor, precision)
    end = jax.lax.while_loop(lambda state: jnp.any(state[3] > 0), lambda state: _taken(how, state, precision), begin)
    return end[:3]


def _in_parts_forward(how, *args):
    return _in_parts(how, *args), args


def _in_parts_backward(how, args, cotangents):
    return jax.vjp(partial(_written_out, how), *args)[1](cotangents)


def _written_out(how: _How, factor, precision):
    state = _nothing_taken(how, factor, precision)
    for _ in range(how.parts):
        state = _taken(how, state, precision)
    return state[:3]


_in_parts.defvjp(_in_parts_forward, _in_parts_backward)


def _nothing_taken(how: _How, factor, precision):
    """(factor, log_det, most, what is left, parts taken) before the first part."""
    layout = how.layout
    factor = _filled(factor, layout.columns(factor, precision) if how.diagonal else precision)
    nothing = 0 * layout.largest(layout.diagonal(factor))
    return factor, nothing, jnp.max(nothing), nothing + 1, 0


def _taken(how: _How, state, precision):
    """The same after one more part."""
    factor, log_det, _, left, taken = state
    layout = how.layout
    eye = layout.eye(factor.shape[-2], factor.dtype)
    said = layout.mt(times_precision(layout, factor, precision, diagonal=how.diagonal), factor)
    most = left * layout.largest(layout.diagonal(said))
    divided = _too_much(most) & (taken + 1 < how.parts)
    part = jnp.where(divided, left * jax.lax.rsqrt(jnp.maximum(most, 1)), left)
    part = jax.lax.stop_gradient(part)  # in the end all are taken, whatever they are
    gain = layout.factor(eye + layout.scaled(part, said), factor)
    return gain.solved, log_det + gain.log_det, jnp.max(most), left - part, taken + 1


def _varying(arrays):
    """What to scan over, and a function that puts it together with what is constant in time."""
    moving = [x if x.shape[0] > 1 else None for x in arrays]

    def join(slices):
        return [x[0] if m is None else s for x, m, s in zip(arrays, moving, slices, strict=True)]

    return moving, join


def _filled(start, *others):
    """``start`` with the lanes of the others."""
    return jnp.broadcast_to(start, jnp.broadcast_shapes(start.shape, *(x.shape for x in others)))


def _predict(layout, factor, dynamics, noise_cov):
    """A C'C A' + Q."""
    spread = layout.mt(dynamics, factor)
    return layout.mt(spread, spread) + noise_cov


def riccati(grid: Grid, *arrays, diagonal: bool) -> Filtered:
    """Filter the covariances.

    Away from the CPU a loop whose length is not known beforehand waits for the host at each step: there potentials are
    taken in parts only if they cannot be taken at once.

    Args:
        grid: of the chain.
        arrays: the first predicted covariance, dynamics and their noise, where those of step t lead to step t+1 or are
            constant, and precisions.
        diagonal: the precisions are vectors.
    """
    if _loops_at_will():
        return _riccati(grid, *arrays, diagonal=diagonal, parts=_PARTS)[0]
    at_once, most = _riccati(grid, *arrays, diagonal=diagonal, parts=1)
    in_parts = _too_much(most) | ~jnp.isfinite(most)
    if grid.axis is not None:  # devices wait for each other in what follows, so all must go the same way
        in_parts = jax.lax.pmax(in_parts.astype(jnp.int32), grid.axis) > 0
    return jax.lax.cond(in_parts, lambda: _riccati(grid, *arrays, diagonal=diagonal, parts=_PARTS)[0], lambda: at_once)


def _loops_at_will() -> bool:
    return jax.default_backend() == "cpu"


def _riccati(grid: Grid, initial_cov, dynamics, noise_cov, precision, *, diagonal: bool, parts: int):
    """(what ``riccati`` gives, the largest ``most``)."""
    layout = grid.layout
    moving, join = _varying((dynamics, noise_cov, precision))
    matrix = precision[0] if not diagonal else layout.columns(initial_cov[0], precision[0])
    start, most = _filled(initial_cov[0], dynamics[0], noise_cov[0], matrix), jnp.zeros((), initial_cov.dtype)
    if not grid.whole:
        start, most = _heads_of_riccati(grid, start, (dynamics, noise_cov, precision), diagonal=diagonal, parts=parts)

    def step(predicted, slices):
        a, q, j = join(slices)
        factor, root, log_det, most = condition(layout, predicted, j, diagonal=diagonal, parts=parts)
        return _predict(layout, factor, a, q), (layout.tm(factor, factor), root, log_det, most)

    *found, mosts = jax.lax.scan(step, start, moving, length=grid.length)[1]
    return Filtered(*found), jnp.maximum(most, jnp.max(mosts))


def _heads_of_riccati(grid: Grid, start, arrays, *, diagonal: bool, parts: int):
    """(the predicted covariance at the head of every chunk, the largest ``most``)."""
    layout = grid.layout
    dynamics, noise_cov, precision = arrays
    inner, product, information, most = _eliminate(grid, start, arrays, diagonal=diagonal, parts=parts)
    last = [x[0] if x.shape[0] == 1 else x[-1] for x in (dynamics, noise_cov)]
    ends = [grid.heads(jnp.broadcast_to(x, start.shape)) for x in last]
    elements = *ends, *(grid.heads(x) for x in (inner, product, information))

    def step(predicted, element):
        a, q, inner, product, information = element
        factor, _, _, most = condition(layout, predicted, information, diagonal=False, parts=parts)
        carried = layout.mt(product, factor)
        cov = layout.mt(carried, carried) + inner
        return layout.mt(layout.mm(a, cov), a) + q, (predicted, most)

    # Every chunk holds a copy of the initial covariance; the first chunk's is the chain's.
    predicted, mosts = jax.lax.scan(step, grid.heads(start)[0], elements)[1]
    return grid.unheads(predicted), jnp.maximum(most, jnp.max(mosts))


def _eliminate(grid: Grid, start, arrays, *, diagonal: bool, parts: int):
    """Each chunk as seen from its first state x, before that state's potential.

    Returns (inner, product, information, most): given x, the last state has covariance ``inner`` and a mean that moves
    with ``product``; all potentials of the chunk together weigh x by ``information``; the largest ``most``.
    """
    layout, mm, tm, t = grid.layout, grid.layout.mm, grid.layout.tm, grid.layout.t
    moving, join = _varying(arrays)
    moving = [None if m is None else (m[:-1] if i < 2 else m[1:]) for i, m in enumerate(moving)]
    eye = jnp.broadcast_to(layout.eye(start.shape[-2], start.dtype), start.shape)
    first = arrays[2][0]

    def step(state, slices):
        factor, product, information = state
        a, q, j = join(slices)
        product = mm(a, product)
        predicted = _predict(layout, factor, a, q)
        factor, root, _, most = condition(layout, predicted, j, diagonal=diagonal, parts=parts)
        seen = mm(times_precision(layout, tm(factor, factor), j, diagonal=diagonal), product)
        half, product = mm(root, seen), product - seen
        weighed = times_precision(layout, t(product), j, diagonal=diagonal)
        information = information + mm(weighed, product) + tm(half, half)
        return (factor, product, information), most

    information = layout.columns(eye, first) if diagonal else jnp.broadcast_to(first, start.shape)
    begin = jnp.zeros_like(start), eye, information
    (factor, product, information), mosts = jax.lax.scan(step, begin, moving, length=grid.length - 1)
    return tm(factor, factor), product, information, jnp.max(mosts, initial=0)


def congruence(grid: Grid, gains, inner, *, reverse: bool):
    """S_t = G_t S_{t+1} G_t' + V_t from zero at the end; or forwards S_t = G_t S_{t-1} G_t' + V_t."""
    layout = grid.layout

    def advance(state, gain, extra):
        return layout.mt(layout.mm(gain, state), gain) + extra

    return _recursion(grid, advance, gains, inner, reverse=reverse)


def affine(grid: Grid, gains, offsets, *, reverse: bool, columns: bool = False):
    """x_t = G_t x_{t+1} + g_t from zero at the end; or forwards x_t = G_t x_{t-1} + g_t.

    States are vectors, or matrices of several ``columns``.
    """
    product = grid.layout.mm if columns else grid.layout.mv

    def advance(state, gain, extra):
        return product(gain, state) + extra

    return _recursion(grid, advance, gains, offsets, reverse=reverse)


def _recursion(grid: Grid, advance, gains, extras, *, reverse: bool):
    zero = jnp.zeros_like(jax.eval_shape(advance, extras[0], gains[0], extras[0]))

    def step(state, slices):
        state = advance(state, *slices)
        return state, state

    def path(start, gains, extras):
        return jnp.asarray(jax.lax.scan(step, start, (gains, extras), reverse=reverse)[1])

    if grid.whole:
        return path(zero, gains, extras)
    layout = grid.layout
    eye = jnp.broadcast_to(layout.eye(gains.shape[-2], gains.dtype), gains.shape[1:])
    product = jax.lax.scan(lambda p, g: (layout.mm(g, p), None), eye, gains, reverse=reverse)[0]
    total = jax.lax.scan(lambda x, slices: (advance(x, *slices), None), zero, (gains, extras), reverse=reverse)[0]
    heads = grid.heads(zero)
    chain = path(heads[0], grid.heads(product), grid.heads(total))
    entering = (chain[1:], heads[:1]) if reverse else (heads[:1], chain[:-1])
    return path(grid.unheads(jnp.concatenate(entering)), gains, extras)
