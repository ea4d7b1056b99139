"""Means, the log normaliser's quadratic part, and sample paths, given the covariances.

All are affine recursions over time whose adjoints are affine recursions the other way; gradients are written out.
"""

from functools import cache

import jax
import jax.numpy as jnp

from svae_cli.inference.batching import lane_function
from svae_cli.inference.covariances import closed_loop
from svae_cli.inference.lanes import append_zero, join_time, layout_for, outer_like, summed_like, symmetric
from svae_cli.inference.scans import affine, widen


def _times(layout, precision, vector, *, diagonal: bool):
    return precision * vector if diagonal else layout.mv(precision, vector)


def _predict(layout, initial_mean, dynamics, bias, means):
    """Predicted means at every step, given the filtered ones."""
    moved = layout.mv(dynamics, means[:-1]) + bias
    return join_time(initial_mean, moved)


def _filter_forward(layout, initial_mean, dynamics, bias, precision, shift, cov, *, diagonal: bool):
    _, rest, loop = closed_loop(layout, cov, precision, dynamics, diagonal=diagonal)
    pulled = join_time(layout.mv(rest[:1], initial_mean), layout.mv(rest[1:], bias))
    offsets = layout.mv(cov, shift) + pulled
    means = affine(layout, loop, offsets, reverse=False)
    predicted = _predict(layout, initial_mean, dynamics, bias, means)
    residual = shift - _times(layout, precision, predicted, diagonal=diagonal)
    quadratic = layout.dot(residual, layout.mv(cov, residual)) + layout.dot(shift + residual, predicted)
    return means, quadratic / 2


def _filter_backward(layout, args, outputs, cotangents, *, diagonal: bool):
    initial_mean, dynamics, bias, precision, shift, cov = args
    means, _ = outputs
    means_bar, q_bar = cotangents
    scaled, mv = layout.scaled_vector, layout.mv
    _, _, loop = closed_loop(layout, cov, precision, dynamics, diagonal=diagonal)
    predicted = _predict(layout, initial_mean, dynamics, bias, means)
    residual = shift - _times(layout, precision, predicted, diagonal=diagonal)
    direct = scaled(q_bar, shift - _times(layout, precision, means, diagonal=diagonal))
    into = append_zero(mv(layout.t(dynamics), direct[1:]))
    total = affine(layout, layout.t(loop), means_bar + into, reverse=True)
    weighted = mv(cov, total)
    predicted_bar = total - _times(layout, precision, weighted, diagonal=diagonal) + direct
    step = means - predicted
    cov_bar = outer_like(layout, total + scaled(q_bar, residual) / 2, residual, cov)
    if diagonal:
        precision_bar = -weighted * predicted - scaled(q_bar, means**2 - step**2) / 2
        precision_bar = summed_like(precision_bar, precision)
    else:
        precision_bar = -outer_like(layout, weighted, predicted, precision)
        precision_bar -= outer_like(layout, scaled(q_bar, means), means, precision) / 2
        precision_bar += outer_like(layout, scaled(q_bar, step), step, precision) / 2
        precision_bar = symmetric(layout, precision_bar)
    return (
        summed_like(predicted_bar[:1], initial_mean),
        outer_like(layout, predicted_bar[1:], means[:-1], dynamics),
        summed_like(predicted_bar[1:], bias),
        precision_bar,
        summed_like(weighted + scaled(q_bar, means), shift),
        symmetric(layout, cov_bar),
    )


@cache
def filter_means(latent_dim: int, *, diagonal: bool):
    """A lane function (initial_mean, dynamics, bias, precision, shift, filtered cov) -> (filtered means, quadratic).

    log Z = sum_t (quadratic_t - log_det_t / 2).
    """
    layout = layout_for(latent_dim)

    def forward(*args):
        outs = _filter_forward(layout, *(layout.enter(x) for x in args), diagonal=diagonal)
        return _leave(layout, outs), ()

    def backward(args, outputs, _saved, cotangents):
        enter = [tuple(layout.enter(x) for x in group) for group in (args, outputs, cotangents)]
        return _leave(layout, _filter_backward(layout, *enter, diagonal=diagonal))

    return lane_function(forward, backward)


def _leave(layout, arrays):
    return tuple(layout.leave(x) for x in arrays)


@cache
def smooth_means(latent_dim: int):
    """A lane function (filtered means, dynamics, bias, gains) -> (smoothed means,)."""
    layout = layout_for(latent_dim)

    def forward(*args):
        means, dynamics, bias, gains = (layout.enter(x) for x in args)
        moved = layout.mv(dynamics, means[:-1]) + bias
        offsets = means[:-1] - layout.mv(gains, moved)
        return (layout.leave(affine(layout, gains, join_time(offsets, means[-1:]), reverse=True)),), ()

    def backward(args, outputs, _saved, cotangents):
        means, dynamics, bias, gains = (layout.enter(x) for x in args)
        smoothed, smoothed_bar = layout.enter(outputs[0]), layout.enter(cotangents[0])
        total = affine(layout, layout.t(gains), smoothed_bar, reverse=False)
        pulled = layout.mv(layout.t(gains), total[:-1])
        moved = layout.mv(dynamics, means[:-1]) + bias
        back = append_zero(layout.mv(layout.t(dynamics), pulled))
        return _leave(
            layout,
            (
                summed_like(total - back, means),
                -outer_like(layout, pulled, jnp.broadcast_to(means[:-1], pulled.shape), dynamics),
                -summed_like(pulled, bias),
                outer_like(layout, total[:-1], smoothed[1:] - moved, gains),
            ),
        )

    return lane_function(forward, backward)


def _factor_steps(layout, inner, scale):
    """Cholesky of every inner covariance; pivots lost to rounding are raised to what ``scale`` lets one believe in."""
    floor = 4 * jnp.finfo(inner.dtype).eps * scale

    def step(_, slices):
        factored = layout.factor(*slices)
        return None, (factored.upper, factored.inverse)

    return jax.lax.scan(step, None, (inner, floor))[1]


@cache
def deviations(latent_dim: int):
    """A lane function (gains, inner, scale, noise) -> (deviations,) of sample paths from the smoothed means.

    ``noise`` and the result are (lane, time, latent, sample); ``scale`` (lane, time, latent) is the size of the numbers
    that ``inner`` is a difference of (no gradient).
    """
    layout = layout_for(latent_dim)

    def forward(gains, inner, scale, noise):
        gains, inner, scale, noise = (layout.enter(x) for x in (gains, inner, scale, noise))
        upper, inverse = _factor_steps(layout, inner, scale)
        offsets = layout.mm(layout.t(upper), noise)
        return (layout.leave(_spread(layout, gains, offsets, reverse=True)),), _leave(layout, (upper, inverse))

    def backward(args, outputs, saved, cotangents):
        gains, inner, scale, noise = (layout.enter(x) for x in args)
        upper, inverse = (layout.enter(x) for x in saved)
        paths, paths_bar = layout.enter(outputs[0]), layout.enter(cotangents[0])
        total = _spread(layout, layout.t(gains), paths_bar, reverse=False)
        gains_bar = layout.mm(total[:-1], layout.t(paths[1:]))
        # Cholesky's adjoint: with B the cotangent of the lower factor, V_bar = L^-T lower(L'B, diagonal halved) L^-1.
        pulled = layout.mm(upper, total)
        half = layout.mm(pulled, layout.t(noise)) * _halved(layout, inner)
        inner_bar = symmetric(layout, layout.mm(layout.t(inverse), layout.mm(half, inverse)))
        bars = summed_like(gains_bar, gains), summed_like(inner_bar, inner), jnp.zeros_like(scale)
        return _leave(layout, (*bars, summed_like(pulled, noise)))

    return lane_function(forward, backward)


def _halved(layout, like):
    size = like.shape[-2]
    mask = jnp.tril(jnp.ones((size, size), like.dtype)) - jnp.eye(size, dtype=like.dtype) / 2
    return mask.reshape(1, *layout.eye(size, like.dtype).shape)


def _spread(layout, gains, offsets, *, reverse: bool):
    """``affine`` with several columns a state."""
    if offsets.shape[0] == 1:
        return offsets
    start, rest = (offsets[-1], offsets[:-1]) if reverse else (offsets[0], offsets[1:])

    def step(state, slices):
        gain, extra = slices
        state = layout.mm(gain, state) + extra
        return state, state

    start = widen(layout, start, max(layout.lanes(gains), layout.lanes(offsets)))
    _, path = jax.lax.scan(step, start, (gains, rest), reverse=reverse)
    return join_time(path, start[None]) if reverse else join_time(start[None], path)
