"""Series too long to keep: exact smoothing in pieces, in bounded memory.

One pass forwards keeps only what enters each piece; the pass backwards filters a piece again, smooths it given the
first state of the piece after it, and hands it over before it turns to the piece before.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from svae_cli.inference.gaussian import Gaussian, Potential
from svae_cli.inference.grid import Method, Plan
from svae_cli.inference.means import deviations
from svae_cli.inference.prior import LinearGaussianPrior
from svae_cli.inference.smooth import chain_of, log_normalizer_of, smooth_chain
from svae_cli.precision import full_precision


class PiecePosterior(eqx.Module):
    """The posterior of consecutive steps of a longer series, given the whole of it.

    Attributes:
        means: smoothed.
        covariances: smoothed.
        filtered: each state given the series up to its step.
        gains: of x_{t+1} in E[x_t | x_{t+1}, what came before].
        inner: Cov(x_t | x_{t+1}, what came before).
        after: the state that follows the last step, given the whole series.
        plan: how time was gone through.
    """

    means: Float[Array, "time latent"]
    covariances: Float[Array, "time latent latent"]
    filtered: Gaussian
    gains: Float[Array, "time latent latent"]
    inner: Float[Array, "time latent latent"]
    after: Gaussian
    plan: Plan = eqx.field(static=True)

    @full_precision
    def sample(
        self, key: PRNGKeyArray, n: int, ends: Float[Array, "sample latent"] | None = None
    ) -> Float[Array, "sample time latent"]:
        """Joint paths that lead to the given states after the piece; None draws those from ``after``."""
        own_key, end_key = jr.split(key)
        if ends is None:
            ends = jr.multivariate_normal(end_key, self.after.mean, self.after.cov, (n,), method="svd")
        steps, k = self.means.shape
        noise = jr.normal(own_key, (1, steps, k, n), self.means.dtype)
        # Deviations that end at 0 after the piece, plus what the true end leads to.
        own = deviations(k, self.plan)(self.gains[None], self.inner[None], noise)[0][0]
        led = (ends - self.after.mean[None]).T
        carried = jax.lax.scan(lambda d, gain: (gain @ d, gain @ d), led, self.gains, reverse=True)[1]
        return self.means[None] + jnp.moveaxis(own + carried, -1, 0)


def filter_piece(
    prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto"
) -> tuple[Gaussian, Float[Array, ""]]:
    """(the state after the piece given it and all before, log Z of the piece).

    Args:
        prior: the chain from the piece's first state on, which is distributed as the series before it says.
        potentials: of the piece.
        method: see ``smooth``.
    """
    chain = chain_of(prior, _one_more(potentials), Plan(method))
    cov, _, log_det = chain.filter_covariances()
    means, quadratic = chain.filter_means(cov)
    return Gaussian(means[0, -1], cov[0, -1]), log_normalizer_of(quadratic, log_det)


def smooth_piece(
    prior: LinearGaussianPrior, potentials: Potential, after: Gaussian, *, method: Method = "auto"
) -> PiecePosterior:
    """The posterior of a piece, given what the whole series says about the state after it.

    Args:
        prior: as for ``filter_piece``.
        potentials: of the piece.
        after: the state after the piece, given the whole series.
        method: see ``smooth``.
    """
    chain = chain_of(prior, _one_more(potentials), Plan(method))
    cov, root, _ = chain.filter_covariances()
    filtered, _ = chain.filter_means(cov)
    gains, inner = chain.conditionals(cov, root)
    ended = filtered.at[0, -1].set(after.mean), inner.at[0, -1].set(after.cov)
    means, covariances = smooth_chain(chain, ended[0], gains, ended[1])
    return PiecePosterior(
        means=means[:-1],
        covariances=covariances[:-1],
        filtered=Gaussian(filtered[0, :-1], cov[0, :-1]),
        gains=gains[0, :-1],
        inner=inner[0, :-1],
        after=after,
        plan=chain.plan,
    )


def _one_more(potentials: Potential) -> Potential:
    """A step more, about which nothing is known."""
    return Potential(*(jnp.concatenate([x, jnp.zeros_like(x[:1])]) for x in (potentials.precision, potentials.shift)))


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
        ahead, log_z = _filter(local, _cut(potentials, start, piece), method=method)
        heads.append(ahead)
        total += float(log_z)
    return LongPosterior(total, _backward_pieces(prior, potentials, heads, starts, piece, method))


def _backward_pieces(prior, potentials, heads, starts, piece, method) -> Iterator[Piece]:
    steps = potentials.shift.shape[0]
    later = heads[-1]
    for i in reversed(range(len(starts))):
        local = _cut_prior(prior, heads[i], starts[i], piece, steps)
        found = _smooth(local, _cut(potentials, starts[i], piece), later, method=method)
        later = Gaussian(found.means[0], found.covariances[0])
        count = min(piece, steps - starts[i])
        yield Piece(starts[i], Gaussian(found.means[:count], found.covariances[:count]))


def _cut(potentials: Potential, start: int, piece: int) -> Potential:
    """A piece; steps beyond the end have zero potentials and change nothing."""

    def cut(x):
        part = np.asarray(x[start : start + piece])
        return jnp.asarray(np.pad(part, [(0, piece - len(part))] + [(0, 0)] * (part.ndim - 1)))

    return Potential(cut(potentials.precision), cut(potentials.shift))


def _cut_prior(prior: LinearGaussianPrior, head: Gaussian, start: int, piece: int, steps: int) -> LinearGaussianPrior:
    """The chain from step ``start``, given what is known there; beyond the end the last transition is repeated."""

    def cut(x: Array, rank: int):
        if x.ndim == rank or steps == 1:
            return x
        return x[np.minimum(np.arange(start, start + piece), steps - 2)]

    moving = cut(prior.dynamics, 2), cut(prior.bias, 1), cut(prior.noise_cov, 2)
    return LinearGaussianPrior(head.mean, head.cov, *moving)


_filter = jax.jit(filter_piece, static_argnames="method")
_smooth = jax.jit(smooth_piece, static_argnames="method")
