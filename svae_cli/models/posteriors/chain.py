"""Gaussian chains given step by step: their moments, their samples and their exact divergence from the prior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from svae_cli.inference import LinearGaussianPrior


class Chain(eqx.Module):
    """x_t = dynamics_t x_{t-1} + bias_t + factor_t noise_t, with x_0 = 0; row t is the step INTO t.

    Attributes:
        dynamics: zero in the first row.
        bias: the first row is the mean of the first state.
        factor: Cholesky factors of the noise's covariance, lower triangular with a positive diagonal.
    """

    dynamics: Float[Array, "time state state"]
    bias: Float[Array, "time state"]
    factor: Float[Array, "time state state"]

    @classmethod
    def of_prior(cls, prior: LinearGaussianPrior, steps: int) -> "Chain":
        """The prior, whose noise must be constant in time, as a chain of ``steps`` steps."""
        dim = prior.latent_dim
        dynamics, bias, _ = prior.transitions(steps - 1)
        factor = jnp.broadcast_to(jnp.linalg.cholesky(prior.noise_cov), (steps - 1, dim, dim))
        first = jnp.linalg.cholesky(prior.initial_cov)
        return cls(
            dynamics=jnp.concatenate([jnp.zeros((1, dim, dim), dynamics.dtype), dynamics]),
            bias=jnp.concatenate([prior.initial_mean[None], bias]),
            factor=jnp.concatenate([first[None], factor]),
        )

    def continued_by(self, other: "Chain", last: Int[Array, ""]) -> "Chain":
        """This chain up to the step ``last``, the other one's steps after it (from the start if ``last`` is -1)."""
        beyond = jnp.arange(len(self.bias)) > last
        pick = lambda own, its: jnp.where(beyond.reshape(-1, *[1] * (own.ndim - 1)), its, own)  # noqa: E731
        return jax.tree.map(pick, self, other)

    def moments(self) -> tuple[Float[Array, "time state"], Float[Array, "time state state"]]:
        """Means and covariances of all states."""

        def step(carry, row: Chain):
            mean, cov = carry
            mean = row.dynamics @ mean + row.bias
            cov = row.dynamics @ cov @ row.dynamics.T + row.factor @ row.factor.T
            return (mean, cov), (mean, cov)

        start = jnp.zeros_like(self.bias[0]), jnp.zeros_like(self.factor[0])
        return jax.lax.scan(step, start, self)[1]

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "sample time state"]:
        """Joint paths, differentiable in the chain."""
        steps, dim = self.bias.shape
        noise = jr.normal(key, (steps, n, dim), self.bias.dtype)

        def step(states, row):
            chain, shock = row
            states = states @ chain.dynamics.T + chain.bias[None, :] + shock @ chain.factor.T
            return states, states

        return jnp.moveaxis(jax.lax.scan(step, jnp.zeros((n, dim), self.bias.dtype), (self, noise))[1], 0, 1)


class ChainPosterior(eqx.Module):
    """q(x) as a chain, with its moments.

    Attributes:
        chain: the steps.
        means: E[x_t].
        covariances: Cov(x_t).
    """

    chain: Chain
    means: Float[Array, "time state"]
    covariances: Float[Array, "time state state"]

    @classmethod
    def of(cls, chain: Chain) -> "ChainPosterior":
        """The posterior that ``chain`` describes."""
        return cls(chain, *chain.moments())

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "sample time state"]:
        """Joint paths, differentiable."""
        return self.chain.sample(key, n)

    def kl_from(self, prior: LinearGaussianPrior) -> Float[Array, ""]:
        """KL(q || p), exact.

        Step by step, KL(q(x_t | x_{t-1}) || p(x_t | x_{t-1})) averaged over q(x_{t-1}) ~ N(m, P): the difference of the
        two conditional means is D x_{t-1} + d, whose second moment is D P D' + (D m + d)(D m + d)'.
        """
        chain = self.chain
        reference = Chain.of_prior(prior, len(chain.bias))
        before = lambda a: jnp.concatenate([jnp.zeros_like(a[:1]), a[:-1]])  # noqa: E731
        change = chain.dynamics - reference.dynamics
        error = jnp.einsum("tij,tj->ti", change, before(self.means)) + chain.bias - reference.bias
        spread = change @ before(self.covariances) @ jnp.swapaxes(change, 1, 2)
        return divergence(reference, chain.factor, spread + error[:, :, None] * error[:, None, :])


def divergence(
    reference: Chain, factor: Float[Array, "time state state"], error: Float[Array, "time state state"]
) -> Float[Array, ""]:
    """Sum over steps of the divergence between Gaussians of covariance factor factor' and the reference's noise.

    Args:
        reference: the prior; its noise is constant after the first step.
        factor: Cholesky factors of the posterior's conditional covariances.
        error: expected outer products of the differences between the conditional means.
    """
    second = factor @ jnp.swapaxes(factor, 1, 2) + error
    first = _trace_in(reference.factor[0], second[:1])
    later = _trace_in(reference.factor[1], second[1:]) if len(second) > 1 else 0.0
    log_dets = jnp.sum(_log_diagonal(reference.factor)) - jnp.sum(_log_diagonal(factor))
    return 0.5 * (first + later - error.shape[0] * error.shape[1]) + log_dets


def _trace_in(factor: Float[Array, "state state"], second: Float[Array, "n state state"]) -> Float[Array, ""]:
    """Sum of tr((factor factor')^-1 second_n): only the sum over n matters."""
    return jnp.trace(jax.scipy.linalg.cho_solve((factor, True), jnp.sum(second, axis=0)))


def _log_diagonal(factor: Float[Array, "*n state state"]) -> Float[Array, "*n state"]:
    return jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1))
