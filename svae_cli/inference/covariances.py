"""The part of inference that no shift and no bias touches: filtered, conditional and smoothed covariances.

Chains whose precisions are shared share all of this too, so a batch of fully observed series pays for it once.

Gradients are written out. With E = I - P J = (I + predicted J)^-1, the closed loop F = E A and M = J E, small changes
obey

    d P = E (A dP_before A' + dQ + ...) E' - P dJ P           d log det(I + predicted J) = tr(M d predicted) + tr(P dJ)

so the adjoint of the filter is one backward ``congruence`` with gains F', and the adjoint of smoothing one forward
``congruence`` with the smoothing gains transposed; everything else is local to a step.
"""

from functools import cache

import jax.numpy as jnp

from svae_cli.inference.batching import lane_function
from svae_cli.inference.lanes import append_zero, join_time, layout_for, product_like, summed_like, symmetric
from svae_cli.inference.scans import congruence, riccati


def _sides(layout, precision, matrix, *, diagonal: bool):
    """Matrix times J."""
    return layout.columns(matrix, precision) if diagonal else layout.mm(matrix, precision)


def closed_loop(layout, cov, precision, dynamics, *, diagonal: bool):
    """(P J, E, F): E = I - P J at every step, F = E A at all but the first."""
    seen = _sides(layout, precision, cov, diagonal=diagonal)
    rest = layout.eye(cov.shape[-2], cov.dtype)[None] - seen
    return seen, rest, layout.mm(rest[1:], dynamics)


def _filter_backward(layout, args, outputs, cotangents, *, diagonal: bool):
    initial_cov, dynamics, noise_cov, precision = args
    cov, root, _ = outputs
    cov_bar, _, log_det_bar = cotangents
    mm, t = layout.mm, layout.t
    seen, rest, loop = closed_loop(layout, cov, precision, dynamics, diagonal=diagonal)
    # M = J E = E'J E + J P predicted^-1 P J: no cancellation, whether J is tiny or huge.
    half = mm(root, seen)
    information = mm(_sides(layout, precision, t(rest), diagonal=diagonal), rest) + mm(t(half), half)
    information = layout.scaled(log_det_bar, information)
    into = mm(mm(t(dynamics), information[1:]), dynamics) if cov.shape[0] > 1 else information[:0]
    outer = symmetric(layout, cov_bar) + append_zero(into)
    total = congruence(layout, t(loop), outer, reverse=True)
    predicted_bar = mm(mm(t(rest), total), rest) + information
    precision_bar = layout.scaled(log_det_bar, cov) - mm(mm(cov, total), cov)
    if diagonal:
        precision_bar = layout.diagonal(precision_bar)
    moved = mm(dynamics, cov[:-1])
    return (
        summed_like(predicted_bar[:1], initial_cov),
        product_like(layout, 2 * predicted_bar[1:], moved, dynamics),
        summed_like(predicted_bar[1:], noise_cov),
        summed_like(precision_bar, precision),
    )


@cache
def filter_covariances(latent_dim: int, *, diagonal: bool):
    """A lane function (initial_cov, dynamics, noise_cov, precision) -> (filtered cov, root, log_det).

    ``root`` is for ``conditionals``; no gradient flows through it.
    """
    layout = layout_for(latent_dim)

    def forward(*args):
        filtered = riccati(layout, *(layout.enter(x) for x in args), diagonal=diagonal)
        return tuple(layout.leave(x) for x in filtered), ()

    def backward(args, outputs, _saved, cotangents):
        enter = [tuple(layout.enter(x) for x in group) for group in (args, outputs, cotangents)]
        return tuple(layout.leave(x) for x in _filter_backward(layout, *enter, diagonal=diagonal))

    return lane_function(forward, backward)


def _conditionals_forward(layout, cov, dynamics, root):
    half = layout.mm(root[1:], layout.mm(dynamics, cov[:-1]))
    gains = layout.mm(layout.t(half), root[1:])
    inner = cov[:-1] - layout.mm(layout.t(half), half)
    return gains, join_time(inner, cov[-1:])


def _conditionals_backward(layout, args, outputs, cotangents):
    cov, dynamics, noise_cov, root = args
    gains, _ = outputs
    gains_bar, inner_bar = cotangents
    mm, t = layout.mm, layout.t
    inner_bar = symmetric(layout, inner_bar)
    weighted = mm(inner_bar[:-1], gains)
    cross_bar = mm(mm(gains_bar, t(root[1:])), root[1:]) - 2 * weighted
    predicted_bar = -symmetric(layout, mm(t(gains), cross_bar + weighted))
    moved_bar = mm(predicted_bar, dynamics)
    cov_bar = inner_bar[:-1] + symmetric(layout, mm(cross_bar, dynamics)) + mm(t(dynamics), moved_bar)
    return (
        summed_like(join_time(cov_bar, inner_bar[-1:]), cov),
        product_like(layout, cross_bar + 2 * t(moved_bar), cov[:-1], dynamics),
        summed_like(predicted_bar, noise_cov),
        jnp.zeros_like(root),
    )


@cache
def conditionals(latent_dim: int):
    """A lane function (filtered cov, dynamics, noise_cov, root) -> (gains, inner).

    x_t given x_{t+1} and the potentials up to t has mean linear in x_{t+1} with ``gains`` and covariance ``inner``; the
    last ``inner`` is the last filtered covariance.
    """
    layout = layout_for(latent_dim)

    def forward(cov, dynamics, noise_cov, root):
        del noise_cov  # enters through root; an argument for its gradient's sake
        outs = _conditionals_forward(layout, *(layout.enter(x) for x in (cov, dynamics, root)))
        return tuple(layout.leave(x) for x in outs), ()

    def backward(args, outputs, _saved, cotangents):
        enter = [tuple(layout.enter(x) for x in group) for group in (args, outputs, cotangents)]
        return tuple(layout.leave(x) for x in _conditionals_backward(layout, *enter))

    return lane_function(forward, backward)


@cache
def smooth_covariances(latent_dim: int):
    """A lane function (gains, inner) -> (smoothed covariances,)."""
    layout = layout_for(latent_dim)

    def forward(gains, inner):
        return (layout.leave(congruence(layout, layout.enter(gains), layout.enter(inner), reverse=True)),), ()

    def backward(args, outputs, _saved, cotangents):
        gains, inner = (layout.enter(x) for x in args)
        cov, cov_bar = layout.enter(outputs[0]), symmetric(layout, layout.enter(cotangents[0]))
        total = congruence(layout, layout.t(gains), cov_bar, reverse=False)
        gains_bar = 2 * layout.mm(layout.mm(total[:-1], gains), cov[1:])
        return layout.leave(summed_like(gains_bar, gains)), layout.leave(summed_like(total, inner))

    return lane_function(forward, backward)
