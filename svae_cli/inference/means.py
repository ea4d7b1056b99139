"""Means, the log normaliser's quadratic part, and sample paths, given the covariances.

All are affine recursions over time whose adjoints are affine recursions the other way; gradients are written out.
"""

from functools import cache

import jax
import jax.numpy as jnp

from svae_cli.inference.batching import lane_function
from svae_cli.inference.covariances import closed_loop
from svae_cli.inference.grid import Grid, Plan
from svae_cli.inference.lanes import symmetric
from svae_cli.inference.scans import affine


def _times(layout, precision, vector, *, diagonal: bool):
    return precision * vector if diagonal else layout.mv(precision, vector)


def _filter_forward(grid: Grid, initial_mean, dynamics, bias, precision, shift, cov, *, diagonal: bool):
    layout = grid.layout
    _, rest, loop = closed_loop(grid, cov, precision, dynamics, diagonal=diagonal)
    pushed = _pushed(grid, initial_mean, bias, shift)
    means = affine(grid, loop, layout.mv(cov, shift) + layout.mv(rest, pushed), reverse=False)
    predicted = grid.behind(layout.mv(dynamics, means) + bias, initial_mean)
    residual = shift - _times(layout, precision, predicted, diagonal=diagonal)
    quadratic = layout.dot(residual, layout.mv(cov, residual)) + layout.dot(shift + residual, predicted)
    return means, quadratic / 2


def _pushed(grid: Grid, initial_mean, bias, like):
    """What enters each step apart from the previous mean: the initial mean, then biases."""
    return grid.behind(jnp.broadcast_to(bias, like.shape), initial_mean)


def _filter_backward(grid: Grid, args, means, cotangents, *, diagonal: bool):
    initial_mean, dynamics, bias, precision, shift, cov = args
    means_bar, q_bar = cotangents
    layout, scaled, mv = grid.layout, grid.layout.scaled_vector, grid.layout.mv
    _, _, loop = closed_loop(grid, cov, precision, dynamics, diagonal=diagonal)
    predicted = grid.behind(mv(dynamics, means) + bias, initial_mean)
    residual = shift - _times(layout, precision, predicted, diagonal=diagonal)
    direct = scaled(q_bar, shift - _times(layout, precision, means, diagonal=diagonal))
    into = mv(layout.t(dynamics), grid.ahead(direct))
    total = affine(grid, layout.t(grid.ahead(loop)), means_bar + into, reverse=True)
    weighted = mv(cov, total)
    predicted_bar = total - _times(layout, precision, weighted, diagonal=diagonal) + direct
    step, later = means - predicted, grid.ahead(predicted_bar)
    if diagonal:
        precision_bar = -weighted * predicted - scaled(q_bar, means**2 - step**2) / 2
    else:
        precision_bar = layout.outer(scaled(q_bar, step), step) - layout.outer(scaled(q_bar, means), means)
        precision_bar = symmetric(layout, precision_bar / 2 - layout.outer(weighted, predicted))
    cov_bar = symmetric(layout, layout.outer(total + scaled(q_bar, residual) / 2, residual))
    rest = layout.outer(later, means), later, precision_bar, weighted + scaled(q_bar, means), cov_bar
    return predicted_bar, *rest


@cache
def filter_means(latent_dim: int, plan: Plan, *, diagonal: bool):
    """A lane function (initial_mean, dynamics, bias, precision, shift, filtered cov) -> (filtered means, quadratic).

    log Z = sum_t (quadratic_t - log_det_t / 2).
    """

    def enter(grid, args):
        initial_mean, dynamics, *rest = args
        initial_mean = grid.layout.enter(initial_mean)
        return initial_mean, grid.enter(dynamics, copies=True), *(grid.enter(x) for x in rest)

    def forward(*args):
        grid = Grid.of(latent_dim, plan, args[4].shape[1], args[1:])
        return tuple(grid.leave(x) for x in _filter_forward(grid, *enter(grid, args), diagonal=diagonal)), ()

    def backward(args, outputs, _saved, cotangents):
        grid = Grid.of(latent_dim, plan, args[4].shape[1], args[1:], outputs, cotangents)
        inside = enter(grid, args), grid.enter(outputs[0]), tuple(grid.enter(x) for x in cotangents)
        first, *bars = _filter_backward(grid, *inside, diagonal=diagonal)
        return grid.leave_first(first), *(grid.leave(x, like) for x, like in zip(bars, args[1:], strict=True))

    return lane_function(forward, backward)


@cache
def smooth_means(latent_dim: int, plan: Plan):
    """A lane function (filtered means, dynamics, bias, gains) -> (smoothed means,)."""

    def enter(grid, args):
        means, dynamics, bias, gains = args
        return grid.enter(means), grid.enter(dynamics, copies=True), grid.enter(bias), grid.enter(gains)

    def forward(*args):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args)
        means, dynamics, bias, gains = enter(grid, args)
        moved = grid.layout.mv(dynamics, means) + bias
        return (grid.leave(affine(grid, gains, means - grid.layout.mv(gains, moved), reverse=True)),), ()

    def backward(args, outputs, _saved, cotangents):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args, outputs, cotangents)
        means, dynamics, bias, gains = enter(grid, args)
        smoothed, smoothed_bar = grid.enter(outputs[0]), grid.enter(cotangents[0])
        layout, mv = grid.layout, grid.layout.mv
        total = affine(grid, layout.t(grid.behind(gains)), smoothed_bar, reverse=False)
        pulled = mv(layout.t(gains), total)
        moved = mv(dynamics, means) + bias
        bars = (
            total - mv(layout.t(dynamics), pulled),
            -layout.outer(pulled, means),
            -pulled,
            layout.outer(total, grid.ahead(smoothed) - moved),
        )
        return tuple(grid.leave(x, like) for x, like in zip(bars, args, strict=True))

    return lane_function(forward, backward)


def _factor_steps(layout, inner):
    """(upper factor, its transposed inverse) of the covariance at every step."""

    def step(_, cov):
        factored = layout.factor(cov, layout.eye(cov.shape[-2], cov.dtype))
        return None, (factored.upper, factored.solved)

    return jax.lax.scan(step, None, inner)[1]


@cache
def deviations(latent_dim: int, plan: Plan):
    """A lane function (gains, inner, noise) -> (deviations,) of sample paths from the smoothed means.

    ``noise`` and the result are (lane, time, latent, sample).
    """

    def forward(*args):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args)
        gains, inner, noise = (grid.enter(x) for x in args)
        upper, inverse = _factor_steps(grid.layout, inner)
        offsets = grid.layout.mm(grid.layout.t(upper), noise)
        paths = affine(grid, gains, offsets, reverse=True, columns=True)
        return (grid.leave(paths),), (grid.leave(upper), grid.leave(inverse))

    def backward(args, outputs, saved, cotangents):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args, outputs, saved, cotangents)
        gains, noise, upper, inverse = (grid.enter(x) for x in (args[0], args[2], *saved))
        paths, paths_bar = grid.enter(outputs[0]), grid.enter(cotangents[0])
        layout, mm, tm, t = grid.layout, grid.layout.mm, grid.layout.tm, grid.layout.t
        total = affine(grid, t(grid.behind(gains)), paths_bar, reverse=False, columns=True)
        gains_bar = mm(total, t(grid.ahead(paths)))
        # Cholesky's adjoint: with B the cotangent of the lower factor, V_bar = L^-T lower(L'B, diagonal halved) L^-1.
        pulled = mm(upper, total)
        half = mm(pulled, t(noise)) * _halved(layout, inverse)
        inner_bar = symmetric(layout, tm(inverse, mm(half, inverse)))
        return grid.leave(gains_bar), grid.leave(inner_bar), grid.leave(pulled)

    return lane_function(forward, backward)


def _halved(layout, like):
    size = like.shape[-2]
    mask = jnp.tril(jnp.ones((size, size), like.dtype)) - jnp.eye(size, dtype=like.dtype) / 2
    return mask.reshape(1, *layout.eye(size, like.dtype).shape)
