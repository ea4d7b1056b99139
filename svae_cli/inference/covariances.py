"""The part of inference that no shift and no bias touches: filtered, conditional and smoothed covariances.

Chains whose precisions are shared share all of this too, so a batch of fully observed series pays for it once.

Gradients are written out. With E = I - P J = (I + predicted J)^-1, the closed loop F = E A and M = J E, small changes
obey

    dP = E d(predicted) E' - P dJ P           d log det(I + predicted J) = tr(M d(predicted)) + tr(P dJ)

so the adjoint of the filter is one backward ``congruence`` with gains F', and the adjoint of smoothing one forward
``congruence`` with the smoothing gains transposed; everything else is local to a step.
"""

from functools import cache

import jax.numpy as jnp

from svae_cli.inference.batching import lane_function
from svae_cli.inference.grid import Grid, Plan
from svae_cli.inference.lanes import symmetric
from svae_cli.inference.scans import congruence, riccati, root_of, times_precision


def closed_loop(grid: Grid, cov, precision, dynamics, *, diagonal: bool):
    """(P J, E, F): E_t = I - P_t J_t and F_t = E_t A_{t-1}."""
    layout = grid.layout
    seen = times_precision(layout, cov, precision, diagonal=diagonal)
    rest = layout.eye(cov.shape[-2], cov.dtype)[None] - seen
    return seen, rest, layout.mm(rest, grid.behind(dynamics))


def _filter_backward(grid: Grid, args, outputs, cotangents, *, diagonal: bool):
    initial_cov, dynamics, noise_cov, precision = args
    cov, root, _ = outputs
    cov_bar, _, log_det_bar = cotangents
    layout, mm, tm, t = grid.layout, grid.layout.mm, grid.layout.tm, grid.layout.t
    seen, rest, loop = closed_loop(grid, cov, precision, dynamics, diagonal=diagonal)
    predicted = grid.behind(mm(mm(dynamics, cov), t(dynamics)) + noise_cov, initial_cov)
    root = root_of(layout, predicted, root)
    # M = J E = E'J E + J P predicted^-1 P J: no cancellation, whether J is tiny or huge.
    half = mm(root, seen)
    information = mm(times_precision(layout, t(rest), precision, diagonal=diagonal), rest) + tm(half, half)
    information = layout.scaled(log_det_bar, information)
    into = mm(tm(dynamics, grid.ahead(information)), dynamics)
    total = congruence(grid, t(grid.ahead(loop)), symmetric(layout, cov_bar) + into, reverse=True)
    predicted_bar = mm(tm(rest, total), rest) + information
    precision_bar = layout.scaled(log_det_bar, cov) - mm(mm(cov, total), cov)
    if diagonal:
        precision_bar = layout.diagonal(precision_bar)
    later = grid.ahead(predicted_bar)
    return predicted_bar, 2 * mm(later, mm(dynamics, cov)), later, precision_bar


@cache
def filter_covariances(latent_dim: int, plan: Plan, *, diagonal: bool):
    """A lane function (initial_cov, dynamics, noise_cov, precision) -> (filtered cov, root, log_det).

    ``root`` is for ``conditionals``; no gradient flows through it.
    """

    def enter(grid, args):
        initial_cov, dynamics, noise_cov, precision = args
        moving = (grid.enter(dynamics, copies=True), grid.enter(noise_cov, copies=True), grid.enter(precision))
        return grid.enter(initial_cov), *moving

    def forward(*args):
        grid = Grid.of(latent_dim, plan, args[3].shape[1], args[1:])
        return tuple(grid.leave(x) for x in riccati(grid, *enter(grid, args), diagonal=diagonal)), ()

    def backward(args, outputs, _saved, cotangents):
        grid = Grid.of(latent_dim, plan, args[3].shape[1], args[1:], outputs, cotangents)
        inside = [tuple(grid.enter(x) for x in group) for group in (outputs, cotangents)]
        predicted, *bars = _filter_backward(grid, enter(grid, args), *inside, diagonal=diagonal)
        return grid.leave_first(predicted), *(grid.leave(x, like) for x, like in zip(bars, args[1:], strict=True))

    return lane_function(forward, backward)


def _root_ahead(grid: Grid, cov, dynamics, noise_cov, root):
    layout = grid.layout
    predicted = layout.mm(layout.mm(dynamics, cov), layout.t(dynamics)) + noise_cov
    return root_of(layout, predicted, grid.ahead(root))


def _conditionals_forward(grid: Grid, cov, dynamics, noise_cov, root):
    layout, mm, t = grid.layout, grid.layout.mm, grid.layout.t
    later = _root_ahead(grid, cov, dynamics, noise_cov, root)
    gains = mm(mm(mm(cov, t(dynamics)), t(later)), later)
    rest = layout.eye(cov.shape[-2], cov.dtype)[None] - mm(gains, dynamics)
    # As a sum of squares: cov - gains predicted gains' would leave rounding errors of the size of cov.
    inner = mm(mm(rest, cov), t(rest)) + mm(mm(gains, noise_cov), t(gains))
    return gains, symmetric(layout, inner)


def _conditionals_backward(grid: Grid, args, gains, cotangents):
    cov, dynamics, noise_cov, root = args
    gains_bar, inner_bar = cotangents
    layout, mm, tm, t = grid.layout, grid.layout.mm, grid.layout.tm, grid.layout.t
    inner_bar = symmetric(layout, inner_bar)
    later = _root_ahead(grid, cov, dynamics, noise_cov, root)
    weighted = mm(inner_bar, gains)
    cross_bar = mm(mm(gains_bar, t(later)), later) - 2 * weighted
    predicted_bar = -symmetric(layout, tm(gains, cross_bar + weighted))
    moved_bar = mm(predicted_bar, dynamics)
    cov_bar = inner_bar + symmetric(layout, mm(cross_bar, dynamics)) + tm(dynamics, moved_bar)
    return cov_bar, mm(t(cross_bar) + 2 * moved_bar, cov), predicted_bar


@cache
def conditionals(latent_dim: int, plan: Plan):
    """A lane function (filtered cov, dynamics, noise_cov, root) -> (gains, inner), as many as there are steps.

    x_t given x_{t+1} and the potentials up to t has a mean linear in x_{t+1} with ``gains`` and covariance ``inner``;
    the last gain is 0 and the last ``inner`` the last filtered covariance.
    """

    def enter(grid, args):
        cov, dynamics, noise_cov, root = args
        return grid.enter(cov), grid.enter(dynamics, copies=True), grid.enter(noise_cov, copies=True), grid.enter(root)

    def forward(*args):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args)
        return tuple(grid.leave(x) for x in _conditionals_forward(grid, *enter(grid, args))), ()

    def backward(args, outputs, _saved, cotangents):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args, outputs, cotangents)
        inside = tuple(grid.enter(x) for x in cotangents)
        bars = _conditionals_backward(grid, enter(grid, args), grid.enter(outputs[0]), inside)
        return *(grid.leave(x, like) for x, like in zip(bars, args[:3], strict=True)), jnp.zeros_like(args[3])

    return lane_function(forward, backward)


@cache
def smooth_covariances(latent_dim: int, plan: Plan):
    """A lane function (gains, inner) -> (smoothed covariances,)."""

    def forward(gains, inner):
        grid = Grid.of(latent_dim, plan, gains.shape[1], (gains, inner))
        return (grid.leave(congruence(grid, grid.enter(gains), grid.enter(inner), reverse=True)),), ()

    def backward(args, outputs, _saved, cotangents):
        grid = Grid.of(latent_dim, plan, args[0].shape[1], args, outputs, cotangents)
        gains, cov, cov_bar = (grid.enter(x) for x in (args[0], *outputs, *cotangents))
        layout = grid.layout
        earlier = layout.t(grid.behind(gains))
        total = congruence(grid, earlier, symmetric(layout, cov_bar), reverse=False)
        gains_bar = 2 * layout.mm(layout.mm(total, gains), grid.ahead(cov))
        return grid.leave(gains_bar), grid.leave(total)

    return lane_function(forward, backward)
