"""Exact smoothing of a linear-Gaussian chain under Gaussian potentials: the plain form, one filter and one smoother."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from svae_cli.inference.gaussian import Gaussian, Potential
from svae_cli.inference.prior import LinearGaussianPrior

Method = Literal["auto", "sequential", "parallel"]


class Posterior(eqx.Module):
    """q(x_1..T), the chain times its potentials, normalised.

    Attributes:
        log_normalizer: log of the integral of p(x) prod_t psi_t(x_t).
        means: E[x_t].
        covariances: Cov(x_t).
        cross_covariances: Cov(x_t, x_{t+1}).
        filtered: x_t given the potentials of steps 1..t.
        prior_entropy: of p(x_1..T).
        log_det_gain: how many nats of log volume the potentials took away, twice.
        gains: of x_{t+1} in E[x_t | x_{t+1}, potentials 1..t]; the last is 0.
        offsets: E[x_t | x_{t+1} = 0, potentials 1..t].
        noise_factors: lower factors of Cov(x_t | x_{t+1}, potentials 1..t).
    """

    log_normalizer: Float[Array, ""]
    means: Float[Array, "time latent"]
    covariances: Float[Array, "time latent latent"]
    cross_covariances: Float[Array, "transition latent latent"]
    filtered: Gaussian
    prior_entropy: Float[Array, ""]
    log_det_gain: Float[Array, ""]
    gains: Float[Array, "time latent latent"]
    offsets: Float[Array, "time latent"]
    noise_factors: Float[Array, "time latent latent"]

    def entropy(self) -> Float[Array, ""]:
        """Differential entropy of q over the whole path, in nats."""
        return self.prior_entropy - self.log_det_gain / 2

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "sample time latent"]:
        """Joint paths from q, differentiable in the prior and the potentials."""
        noise = jr.normal(key, (n, *self.means.shape), self.means.dtype)
        inner = jnp.einsum("tij,stj->sti", self.noise_factors, noise) + self.offsets[None]

        def step(later, step_inputs):
            gain, offset = step_inputs
            state = later @ gain.T + offset
            return state, state

        start = jnp.zeros_like(inner[:, 0])
        _, path = jax.lax.scan(step, start, (self.gains, jnp.moveaxis(inner, 1, 0)), reverse=True)
        return jnp.moveaxis(path, 0, 1)


def _symmetric(x):
    return (x + jnp.swapaxes(x, -1, -2)) / 2


def _factor(cov):
    """Lower factor of a covariance that rounding may have left slightly indefinite."""
    k = cov.shape[-1]
    floor = jnp.finfo(cov.dtype).eps * jnp.trace(cov, axis1=-2, axis2=-1)
    return jnp.linalg.cholesky(_symmetric(cov) + floor[..., None, None] * jnp.eye(k, dtype=cov.dtype))


def _update(mean, cov, precision, shift):
    """Condition N(mean, cov) on one potential, without inverting either."""
    k = mean.shape[-1]
    factor = _factor(cov)
    scaled = jnp.linalg.cholesky(jnp.eye(k, dtype=cov.dtype) + _symmetric(factor.T @ precision @ factor))
    half = jax.scipy.linalg.solve_triangular(scaled, factor.T, lower=True)
    updated = half.T @ half
    residual = shift - precision @ mean
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(scaled)))
    log_scale = -log_det / 2 + residual @ updated @ residual / 2 + (shift + residual) @ mean / 2
    return mean + updated @ residual, updated, log_scale, log_det


def _entropy(initial_cov, noise_cov):
    dim = initial_cov.shape[-1] * (noise_cov.shape[0] + 1)
    log_dets = jnp.linalg.slogdet(initial_cov)[1] + jnp.sum(jnp.linalg.slogdet(noise_cov)[1])
    return (dim * (1 + jnp.log(2 * jnp.pi)) + log_dets) / 2


def smooth(prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto") -> Posterior:
    """The exact posterior over states given one Gaussian potential a step; batch it with ``jax.vmap``.

    References: Särkkä, "Bayesian Filtering and Smoothing", chapters 4 and 8.
    """
    del method
    steps = potentials.shift.shape[0]
    precision = jax.vmap(jnp.diag)(potentials.precision) if potentials.diagonal else potentials.precision
    dynamics, bias, noise = prior.transitions(steps - 1)

    first = _update(prior.initial_mean, prior.initial_cov, precision[0], potentials.shift[0])

    def forward(carry, inputs):
        mean, cov = carry
        a, b, q, j, h = inputs
        predicted = a @ mean + b, _symmetric(a @ cov @ a.T) + q
        new_mean, new_cov, log_scale, log_det = _update(*predicted, j, h)
        factor = _factor(predicted[1])
        gain = jax.scipy.linalg.cho_solve((factor, True), a @ cov).T
        rest = jnp.eye(len(mean), dtype=mean.dtype) - gain @ a
        inner = _symmetric(rest @ cov @ rest.T + gain @ q @ gain.T)
        conditional = gain, mean - gain @ predicted[0], inner
        return (new_mean, new_cov), ((new_mean, new_cov), conditional, log_scale, log_det)

    inputs = dynamics, bias, noise, precision[1:], potentials.shift[1:]
    _, (filtered, (gains, offsets, inner), log_scales, log_dets) = jax.lax.scan(forward, first[:2], inputs)
    filtered = Gaussian(*(jnp.concatenate([a[None], b]) for a, b in zip(first[:2], filtered, strict=True)))

    def backward(later, inputs):
        mean, cov = later
        gain, offset, rest = inputs
        cross = gain @ cov
        state = gain @ mean + offset, _symmetric(cross @ gain.T) + rest
        return state, (state, cross)

    last = filtered.mean[-1], filtered.cov[-1]
    _, ((means, covs), cross) = jax.lax.scan(backward, last, (gains, offsets, inner), reverse=True)
    inner = jnp.concatenate([inner, filtered.cov[-1:]])
    return Posterior(
        log_normalizer=first[2] + jnp.sum(log_scales),
        means=jnp.concatenate([means, last[0][None]]),
        covariances=jnp.concatenate([covs, last[1][None]]),
        cross_covariances=cross,
        filtered=filtered,
        prior_entropy=_entropy(prior.initial_cov, noise),
        log_det_gain=first[3] + jnp.sum(log_dets),
        gains=jnp.concatenate([gains, jnp.zeros_like(inner[-1:])]),
        offsets=jnp.concatenate([offsets, last[0][None]]),
        noise_factors=jax.vmap(_factor)(inner),
    )


def log_normalizer(prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto") -> Float[Array, ""]:
    """log of the integral of p(x) prod_t psi_t(x_t)."""
    return smooth(prior, potentials, method=method).log_normalizer


def sample(
    prior: LinearGaussianPrior, potentials: Potential, key: PRNGKeyArray, n: int, *, method: Method = "auto"
) -> Float[Array, "sample time latent"]:
    """Joint paths from the posterior, without its covariances."""
    return smooth(prior, potentials, method=method).sample(key, n)


def kl_divergence(posterior: Posterior, potentials: Potential) -> Float[Array, ""]:
    """KL(q || p) = sum_t E_q[log psi_t(x_t)] - log Z: no second pass over the prior."""
    return potentials.expected_log(posterior.means, posterior.covariances) - posterior.log_normalizer
