"""Exact smoothing of a linear-Gaussian chain under Gaussian potentials: the public functions, for one series."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from svae_cli.inference.covariances import conditionals, filter_covariances, smooth_covariances
from svae_cli.inference.gaussian import Gaussian, Potential
from svae_cli.inference.grid import Method, Plan
from svae_cli.inference.means import deviations, filter_means, smooth_means
from svae_cli.inference.prior import LinearGaussianPrior
from svae_cli.precision import full_precision


class Posterior(eqx.Module):
    """q(x_1..T), the chain times its potentials, normalised.

    Attributes:
        log_normalizer: log of the integral of p(x) prod_t psi_t(x_t).
        means: E[x_t].
        covariances: Cov(x_t).
        filtered: x_t given the potentials of steps 1..t.
        prior_entropy: of p(x_1..T), in nats.
        log_det: sum_t log det(I + predicted covariance x precision): twice the nats of volume that the potentials took.
        gains: of x_{t+1} in E[x_t | x_{t+1}, potentials 1..t]; 0 at the last step.
        inner: Cov(x_t | x_{t+1}, potentials 1..t); at the last step the filtered covariance.
        plan: how time was gone through.
    """

    log_normalizer: Float[Array, ""]
    means: Float[Array, "time latent"]
    covariances: Float[Array, "time latent latent"]
    filtered: Gaussian
    prior_entropy: Float[Array, ""]
    log_det: Float[Array, ""]
    gains: Float[Array, "time latent latent"]
    inner: Float[Array, "time latent latent"]
    plan: Plan = eqx.field(static=True)

    @property
    @full_precision
    def cross_covariances(self) -> Float[Array, "transition latent latent"]:
        """Cov(x_t, x_{t+1})."""
        return self.gains[..., :-1, :, :] @ self.covariances[..., 1:, :, :]

    def entropy(self) -> Float[Array, ""]:
        """Differential entropy of q over the whole path, in nats."""
        return self.prior_entropy - self.log_det / 2

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "sample time latent"]:
        """Joint paths from q, differentiable in the prior and the potentials."""
        return self.means[None] + _deviations(self.gains, self.inner, key, n, self.plan)


def _deviations(gains, inner, key, n, plan):
    steps, k = inner.shape[:2]
    noise = jr.normal(key, (steps, k, n), inner.dtype)
    (paths,) = deviations(k, plan)(*(x[None] for x in (gains, inner, noise)))
    return jnp.moveaxis(paths[0], -1, 0)


def _symmetric(x):
    return (x + jnp.swapaxes(x, -1, -2)) / 2


def _definite(precision):
    """Precisions with their diagonal raised by K roundings: one rounded from a singular one may be indefinite."""
    share = precision.shape[-1] * jnp.finfo(precision.dtype).eps
    precision = _symmetric(precision)
    return precision + share * precision * jnp.eye(precision.shape[-1], dtype=precision.dtype)[None]


def _timed(x, rank: int):
    """A leading time axis of length 1 for what is constant."""
    return x if x.ndim == rank + 1 else x[None]


class Chain(eqx.Module):
    """A prior and potentials as the lane functions take them: one lane, a time axis that may have length 1."""

    initial_mean: Array
    initial_cov: Array
    dynamics: Array
    bias: Array
    noise_cov: Array
    precision: Array
    shift: Array
    diagonal: bool = eqx.field(static=True)
    plan: Plan = eqx.field(static=True)

    @property
    def latent_dim(self) -> int:
        """Number of latent states K."""
        return self.shift.shape[-1]

    def filter_covariances(self):
        """Filtered covariances, their roots, log determinants."""
        run = filter_covariances(self.latent_dim, self.plan, diagonal=self.diagonal)
        return run(self.initial_cov, self.dynamics, self.noise_cov, self.precision)

    def filter_means(self, cov):
        """Filtered means and the quadratic part of log Z."""
        run = filter_means(self.latent_dim, self.plan, diagonal=self.diagonal)
        return run(self.initial_mean, self.dynamics, self.bias, self.precision, self.shift, cov)

    def conditionals(self, cov, root):
        """Gains and inner covariances of x_t given x_{t+1}."""
        return conditionals(self.latent_dim, self.plan)(cov, self.dynamics, self.noise_cov, jax.lax.stop_gradient(root))

    def smooth_means(self, means, gains):
        """Smoothed means."""
        return smooth_means(self.latent_dim, self.plan)(means, self.dynamics, self.bias, gains)[0]


def chain_of(prior: LinearGaussianPrior, potentials: Potential, plan: Plan) -> Chain:
    """The chain of one series."""
    arrays = (
        prior.initial_mean[None],
        _symmetric(prior.initial_cov)[None],
        _timed(prior.dynamics, 2),
        _timed(prior.bias, 1),
        _symmetric(_timed(prior.noise_cov, 2)),
        potentials.precision if potentials.diagonal else _definite(potentials.precision),
        potentials.shift,
    )
    return Chain(*(x[None] for x in arrays), diagonal=potentials.diagonal, plan=plan)


def log_normalizer_of(quadratic, log_det) -> Float[Array, ""]:
    """Log Z from its parts, one a step."""
    return jnp.sum(quadratic) - jnp.sum(log_det) / 2


def _log_det(cov):
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(cov), axis1=-2, axis2=-1)), axis=-1)


def smooth_chain(chain: Chain, filtered_means, gains, inner):
    """(smoothed means, smoothed covariances) without the lane axis."""
    covariances = smooth_covariances(chain.latent_dim, chain.plan)(gains, inner)[0][0]
    return chain.smooth_means(filtered_means, gains)[0], covariances


def prior_entropy(prior: LinearGaussianPrior, steps: int) -> Float[Array, ""]:
    """Differential entropy of the prior over whole paths, in nats."""
    k = prior.latent_dim
    noise = _log_det(_symmetric(prior.noise_cov))
    noise = noise * (steps - 1) if noise.ndim == 0 else jnp.sum(noise)
    log_2pi = jnp.log(2 * jnp.pi).astype(noise.dtype)
    return (steps * k * (1 + log_2pi) + _log_det(_symmetric(prior.initial_cov)) + noise) / 2


def smooth(prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto") -> Posterior:
    """The exact posterior over states given one Gaussian potential a step; batch it with ``jax.vmap``.

    References: docs/message-passing.md; Särkkä, "Bayesian Filtering and Smoothing", chapters 4 and 8.
    """
    chain = chain_of(prior, potentials, Plan(method))
    return posterior_of(chain, prior_entropy(prior, len(potentials.shift)))


def posterior_of(chain: Chain, entropy: Float[Array, ""]) -> Posterior:
    """All moments of a chain whose prior has this ``entropy``."""
    cov, root, log_det = chain.filter_covariances()
    filtered, quadratic = chain.filter_means(cov)
    gains, inner = chain.conditionals(cov, root)
    means, covariances = smooth_chain(chain, filtered, gains, inner)
    return Posterior(
        log_normalizer=log_normalizer_of(quadratic, log_det),
        means=means,
        covariances=covariances,
        filtered=Gaussian(filtered[0], cov[0]),
        prior_entropy=entropy,
        log_det=jnp.sum(log_det),
        gains=gains[0],
        inner=inner[0],
        plan=chain.plan,
    )


def log_normalizer(prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto") -> Float[Array, ""]:
    """Log of the integral of p(x) prod_t psi_t(x_t); its gradient costs one backward pass."""
    chain = chain_of(prior, potentials, Plan(method))
    cov, _, log_det = chain.filter_covariances()
    _, quadratic = chain.filter_means(cov)
    return log_normalizer_of(quadratic, log_det)


def sample(
    prior: LinearGaussianPrior, potentials: Potential, key: PRNGKeyArray, n: int, *, method: Method = "auto"
) -> Float[Array, "sample time latent"]:
    """Joint paths from the posterior, without its smoothed covariances."""
    chain = chain_of(prior, potentials, Plan(method))
    cov, root, _ = chain.filter_covariances()
    filtered, _ = chain.filter_means(cov)
    gains, inner = chain.conditionals(cov, root)
    means = chain.smooth_means(filtered, gains)[0]
    return means[None] + _deviations(gains[0], inner[0], key, n, chain.plan)


def kl_divergence(posterior: Posterior, potentials: Potential) -> Float[Array, ""]:
    """KL(q || p) = sum_t E_q[log psi_t(x_t)] - log Z: no second pass over the prior."""
    return potentials.expected_log(posterior.means, posterior.covariances) - posterior.log_normalizer
