"""Series too long to keep: exact smoothing in pieces, in bounded memory.

One pass forwards keeps only what enters each piece; the pass backwards filters a piece again, smooths it given the
first state of the piece after it, and hands it over before it turns to the piece before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from svae_cli.inference.gaussian import Gaussian, Potential
from svae_cli.inference.grid import Method, Plan
from svae_cli.inference.prior import LinearGaussianPrior
from svae_cli.inference.smooth import chain_of, log_normalizer_of, smooth_chain


@dataclass(frozen=True)
class Piece:
    """Smoothed moments of the steps from ``start`` on.

    Attributes:
        start: first step of the piece.
        marginals: smoothed means (n, K) and covariances (n, K, K).
    """

    start: int
    marginals: Gaussian


@dataclass(frozen=True)
class LongPosterior:
    """The posterior of a long series.

    Attributes:
        log_normalizer: log Z, summed in double precision over the pieces.
        pieces: the smoothed pieces, from the LAST to the first, each computed when it is asked for.
    """

    log_normalizer: float
    pieces: Iterator[Piece]


def smooth_long(
    prior: LinearGaussianPrior, potentials: Potential, *, piece: int = 8192, method: Method = "auto"
) -> LongPosterior:
    """``smooth`` for one series of any length, with the memory of one ``piece``.

    Args:
        prior: the chain.
        potentials: best as NumPy arrays, or memory-mapped ones: a piece at a time is moved to the device.
        piece: steps at once.
        method: see ``smooth``.
    """
    steps = potentials.shift.shape[0]
    starts = range(0, steps, piece)
    heads, total = [Gaussian(prior.initial_mean, prior.initial_cov)], 0.0
    for start in starts:
        local = _cut_prior(prior, heads[-1], start, piece, steps)
        ahead, log_z = _forward(local, _cut(potentials, start, piece), method=method)
        heads.append(ahead)
        total += float(log_z)
    return LongPosterior(total, _backward_pieces(prior, potentials, heads, starts, piece, method))


def _backward_pieces(prior, potentials, heads, starts, piece, method) -> Iterator[Piece]:
    steps = potentials.shift.shape[0]
    later = heads[-1]
    for i in reversed(range(len(starts))):
        local = _cut_prior(prior, heads[i], starts[i], piece, steps)
        marginals = _smooth_piece(local, _cut(potentials, starts[i], piece), later, method=method)
        later = Gaussian(marginals.mean[0], marginals.cov[0])
        count = min(piece, steps - starts[i])
        yield Piece(starts[i], Gaussian(marginals.mean[:count], marginals.cov[:count]))


def _cut(potentials: Potential, start: int, piece: int) -> Potential:
    """A piece and one step more, which has a zero potential, as have the steps beyond the end: they change nothing."""

    def cut(x):
        part = np.asarray(x[start : start + piece])
        return jnp.asarray(np.pad(part, [(0, piece + 1 - len(part))] + [(0, 0)] * (part.ndim - 1)))

    return Potential(cut(potentials.precision), cut(potentials.shift))


def _cut_prior(prior: LinearGaussianPrior, head: Gaussian, start: int, piece: int, steps: int) -> LinearGaussianPrior:
    """The chain from step ``start``, given what is known there; beyond the end the last transition is repeated."""

    def cut(x: Array, rank: int):
        if x.ndim == rank or steps == 1:
            return x
        return x[np.minimum(np.arange(start, start + piece), steps - 2)]

    moving = cut(prior.dynamics, 2), cut(prior.bias, 1), cut(prior.noise_cov, 2)
    return LinearGaussianPrior(head.mean, head.cov, *moving)


@partial(jax.jit, static_argnames="method")
def _forward(prior: LinearGaussianPrior, potentials: Potential, *, method: Method):
    """(the first state after the piece, given the piece; log Z of the piece)."""
    chain = chain_of(prior, potentials, Plan(method))
    cov, _, log_det = chain.filter_covariances()
    means, quadratic = chain.filter_means(cov)
    return Gaussian(means[0, -1], cov[0, -1]), log_normalizer_of(quadratic, log_det)


@partial(jax.jit, static_argnames="method")
def _smooth_piece(prior: LinearGaussianPrior, potentials: Potential, later: Gaussian, *, method: Method) -> Gaussian:
    """Smoothed moments of the piece and the state after it, whose own are given."""
    chain = chain_of(prior, potentials, Plan(method))
    cov, root, _ = chain.filter_covariances()
    means, _ = chain.filter_means(cov)
    gains, inner = chain.conditionals(cov, root)
    means, inner = means.at[0, -1].set(later.mean), inner.at[0, -1].set(later.cov)
    return Gaussian(*smooth_chain(chain, means, gains, inner))
