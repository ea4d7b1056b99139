"""Exact smoothing of a linear-Gaussian chain under Gaussian potentials: the public functions, for one series."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from svae_cli.inference.covariances import conditionals, filter_covariances, smooth_covariances
from svae_cli.inference.gaussian import Gaussian, Potential
from svae_cli.inference.grid import Method
from svae_cli.inference.means import deviations, filter_means, smooth_means
from svae_cli.inference.prior import LinearGaussianPrior


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
    """

    log_normalizer: Float[Array, ""]
    means: Float[Array, "time latent"]
    covariances: Float[Array, "time latent latent"]
    filtered: Gaussian
    prior_entropy: Float[Array, ""]
    log_det: Float[Array, ""]
    gains: Float[Array, "time latent latent"]
    inner: Float[Array, "time latent latent"]
    method: Method = eqx.field(static=True)

    @property
    def cross_covariances(self) -> Float[Array, "transition latent latent"]:
        """Cov(x_t, x_{t+1})."""
        return self.gains[..., :-1, :, :] @ self.covariances[..., 1:, :, :]

    def entropy(self) -> Float[Array, ""]:
        """Differential entropy of q over the whole path, in nats."""
        return self.prior_entropy - self.log_det / 2

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "sample time latent"]:
        """Joint paths from q, differentiable in the prior and the potentials."""
        return self.means[None] + _deviations(self.gains, self.inner, self.filtered.cov, key, n, self.method)


def _deviations(gains, inner, cov, key, n, method):
    steps, k = inner.shape[:2]
    scale = jax.lax.stop_gradient(jnp.diagonal(cov, axis1=-2, axis2=-1))
    noise = jr.normal(key, (steps, k, n), inner.dtype)
    (paths,) = deviations(k, method)(*(x[None] for x in (gains, inner, scale, noise)))
    return jnp.moveaxis(paths[0], -1, 0)


def _symmetric(x):
    return (x + jnp.swapaxes(x, -1, -2)) / 2


def _timed(x, rank: int):
    """A leading time axis of length 1 for what is constant."""
    return x if x.ndim == rank + 1 else x[None]


class _Chain(eqx.Module):
    """A prior and potentials as the lane functions take them: one lane, a time axis that may have length 1."""

    initial_mean: Array
    initial_cov: Array
    dynamics: Array
    bias: Array
    noise_cov: Array
    precision: Array
    shift: Array
    diagonal: bool = eqx.field(static=True)
    method: Method = eqx.field(static=True)

    @property
    def latent_dim(self) -> int:
        return self.shift.shape[-1]

    def filter_covariances(self):
        run = filter_covariances(self.latent_dim, self.method, diagonal=self.diagonal)
        return run(self.initial_cov, self.dynamics, self.noise_cov, self.precision)

    def filter_means(self, cov):
        run = filter_means(self.latent_dim, self.method, diagonal=self.diagonal)
        return run(self.initial_mean, self.dynamics, self.bias, self.precision, self.shift, cov)

    def conditionals(self, cov, root):
        return conditionals(self.latent_dim, self.method)(
            cov, self.dynamics, self.noise_cov, jax.lax.stop_gradient(root)
        )

    def smooth_means(self, means, gains):
        return smooth_means(self.latent_dim, self.method)(means, self.dynamics, self.bias, gains)[0]


def _chain(prior: LinearGaussianPrior, potentials: Potential, method: Method) -> _Chain:
    arrays = (
        prior.initial_mean[None],
        _symmetric(prior.initial_cov)[None],
        _timed(prior.dynamics, 2),
        _timed(prior.bias, 1),
        _symmetric(_timed(prior.noise_cov, 2)),
        potentials.precision if potentials.diagonal else _symmetric(potentials.precision),
        potentials.shift,
    )
    return _Chain(*(x[None] for x in arrays), diagonal=potentials.diagonal, method=method)


def _log_normalizer(quadratic, log_det):
    return jnp.sum(quadratic) - jnp.sum(log_det) / 2


def _log_det(cov):
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(cov), axis1=-2, axis2=-1)), axis=-1)


def _prior_entropy(chain: _Chain):
    steps, k = chain.shift.shape[1:]
    noise = _log_det(chain.noise_cov[0])
    noise = noise[0] * (steps - 1) if len(noise) == 1 else jnp.sum(noise)
    return (steps * k * (1 + jnp.log(2 * jnp.pi).astype(noise.dtype)) + _log_det(chain.initial_cov[0, 0]) + noise) / 2


def smooth(prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto") -> Posterior:
    """The exact posterior over states given one Gaussian potential a step; batch it with ``jax.vmap``.

    References: docs/message-passing.md; Särkkä, "Bayesian Filtering and Smoothing", chapters 4 and 8.
    """
    chain = _chain(prior, potentials, method)
    cov, root, log_det = chain.filter_covariances()
    filtered, quadratic = chain.filter_means(cov)
    gains, inner = chain.conditionals(cov, root)
    return Posterior(
        log_normalizer=_log_normalizer(quadratic, log_det),
        means=chain.smooth_means(filtered, gains)[0],
        covariances=smooth_covariances(chain.latent_dim, method)(gains, inner)[0][0],
        filtered=Gaussian(filtered[0], cov[0]),
        prior_entropy=_prior_entropy(chain),
        log_det=jnp.sum(log_det),
        gains=gains[0],
        inner=inner[0],
        method=method,
    )


def log_normalizer(prior: LinearGaussianPrior, potentials: Potential, *, method: Method = "auto") -> Float[Array, ""]:
    """Log of the integral of p(x) prod_t psi_t(x_t); its gradient costs one backward pass."""
    chain = _chain(prior, potentials, method)
    cov, _, log_det = chain.filter_covariances()
    _, quadratic = chain.filter_means(cov)
    return _log_normalizer(quadratic, log_det)


def sample(
    prior: LinearGaussianPrior, potentials: Potential, key: PRNGKeyArray, n: int, *, method: Method = "auto"
) -> Float[Array, "sample time latent"]:
    """Joint paths from the posterior, without its smoothed covariances."""
    chain = _chain(prior, potentials, method)
    cov, root, _ = chain.filter_covariances()
    filtered, _ = chain.filter_means(cov)
    gains, inner = chain.conditionals(cov, root)
    means = chain.smooth_means(filtered, gains)[0]
    return means[None] + _deviations(gains[0], inner[0], cov[0], key, n, method)


def kl_divergence(posterior: Posterior, potentials: Potential) -> Float[Array, ""]:
    """KL(q || p) = sum_t E_q[log psi_t(x_t)] - log Z: no second pass over the prior."""
    return potentials.expected_log(posterior.means, posterior.covariances) - posterior.log_normalizer
