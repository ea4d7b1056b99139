"""Likelihoods: the distribution of one observed value given the decoder's output for it.

The decoder gives one number a channel, the *predictor*. Each likelihood knows the log density given a predictor, its
expectation when the predictor is Gaussian (exact for a linear decoder), the predictive moments, and its *anchor*: the
quadratic that stands for the log density as a function of the predictor, from which the recognition network starts.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

_LOG_2PI = float(np.log(2 * np.pi))
NOISE_FLOOR = 1e-4
"""Smallest variance of Gaussian noise that is learned, in standardised units: an error of 1 %, of up to 32 channels
(``noise_floor``). Channels that repeat
each other ask for less, and then float32 loses the direction of the likelihood's gradient (at 1e-5, not at 1e-4)."""
_FLOOR_CHANNELS = 32
_MAX_LOG_RATE = 12.0  # exp(12) counts a bin: beyond any recording, and far from float32's overflow
_NODES, _RAW_WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
_WEIGHTS = _RAW_WEIGHTS / _RAW_WEIGHTS.sum()


def noise_floor(n_channels: int) -> float:
    """Smallest variance of Gaussian noise that is learned, by the number of channels.

    Channels speak by the sum of their precisions, so where they are many each may be less sure of itself: 2 % of its
    deviation for 132, 3 % for more than 300.
    """
    return NOISE_FLOOR * min(max(1.0, n_channels / _FLOOR_CHANNELS), 10.0)


class Anchor(eqx.Module):
    """Gaussian stand-ins for the likelihoods of values: pseudo-observations of ``predictor - offset``.

    Attributes:
        pseudo: the pseudo-observations.
        log_precision: logarithms of their inverse variances; one row for all steps where values do not matter.
    """

    pseudo: Float[Array, "time channel"]
    log_precision: Float[Array, "#time channel"]


class GaussianLikelihood(eqx.Module):
    """y ~ N(predictor, variance), one learned variance a channel.

    Attributes:
        log_variance: logarithm of the noise variance.
    """

    log_variance: Float[Array, " channel"]

    def log_prob(self, values: Float[Array, "*n channel"], predictor: Float[Array, "*n channel"]) -> Array:
        """Log density of each value, in nats."""
        log_variance = jnp.broadcast_to(self.log_variance, values.shape)
        return -0.5 * (_LOG_2PI + log_variance + (values - predictor) ** 2 * jnp.exp(-log_variance))

    def expected_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Expectation of ``log_prob`` over a Gaussian predictor, in closed form."""
        precision = jnp.exp(-jnp.broadcast_to(self.log_variance, values.shape))
        return self.log_prob(values, mean) - 0.5 * variance * precision

    def predictive_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Log of the density averaged over a Gaussian predictor, in closed form."""
        total = variance + self.variance(mean)
        return -0.5 * (_LOG_2PI + jnp.log(total) + (values - mean) ** 2 / total)

    def predictive_moments(
        self, mean: Float[Array, "*n channel"], variance: Float[Array, "*n channel"]
    ) -> tuple[Float[Array, "*n channel"], Float[Array, "*n channel"]]:
        """Mean and variance of a value under a Gaussian predictor."""
        return mean, variance + self.variance(mean)

    def mean(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Expected value given the predictor."""
        return predictor

    def variance(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Variance of a value given the predictor."""
        return jnp.broadcast_to(jnp.exp(self.log_variance), predictor.shape)

    def sample(self, key: Key[Array, ""], predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """One draw for each predictor."""
        noise = jax.random.normal(key, predictor.shape, predictor.dtype)
        return predictor + noise * jnp.sqrt(self.variance(predictor))

    def anchor(
        self, values: Float[Array, "time channel"], offset: Float[Array, " channel"], spread: Float[Array, " channel"]
    ) -> Anchor:
        """The likelihood itself: it is Gaussian already, whatever the predictor's ``spread``."""
        return Anchor(pseudo=values - offset[None, :], log_precision=-self.log_variance[None, :])


class PoissonLikelihood(eqx.Module):
    """y ~ Poisson(exp(predictor)), counts per bin."""

    def log_prob(self, values: Float[Array, "*n channel"], predictor: Float[Array, "*n channel"]) -> Array:
        """Log probability of each count, in nats."""
        log_rate = jnp.minimum(predictor, _MAX_LOG_RATE)
        return values * log_rate - jnp.exp(log_rate) - jax.scipy.special.gammaln(values + 1)

    def expected_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Expectation of ``log_prob`` over a Gaussian predictor: E[exp(z)] = exp(mean + variance / 2)."""
        rate = jnp.exp(jnp.minimum(mean + 0.5 * variance, _MAX_LOG_RATE))
        return values * mean - rate - jax.scipy.special.gammaln(values + 1)

    def predictive_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Log of the probability averaged over a Gaussian predictor, by Gauss-Hermite quadrature."""
        return _log_gauss_hermite(
            lambda z: self.log_prob(jnp.broadcast_to(values[..., None], z.shape), z), mean, variance
        )

    def predictive_moments(
        self, mean: Float[Array, "*n channel"], variance: Float[Array, "*n channel"]
    ) -> tuple[Float[Array, "*n channel"], Float[Array, "*n channel"]]:
        """Mean and variance of a count under a Gaussian predictor: those of a Poisson-lognormal."""
        rate = jnp.exp(jnp.minimum(mean + 0.5 * variance, _MAX_LOG_RATE))
        return rate, rate + rate**2 * jnp.expm1(jnp.minimum(variance, _MAX_LOG_RATE))

    def mean(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Expected count given the predictor."""
        return jnp.exp(jnp.minimum(predictor, _MAX_LOG_RATE))

    def variance(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Variance of a count given the predictor: its rate."""
        return self.mean(predictor)

    def sample(self, key: Key[Array, ""], predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """One draw for each predictor."""
        return jax.random.poisson(key, self.mean(predictor)).astype(predictor.dtype)

    def anchor(
        self, values: Float[Array, "time channel"], offset: Float[Array, " channel"], spread: Float[Array, " channel"]
    ) -> Anchor:
        """Second-order expansion of each count's log probability about its own most probable predictor.

        That is the z which maximises ``y z - exp(z) - (z - offset)^2 / (2 spread)``. Expanded about the offset instead,
        a burst of counts in a channel that is mostly silent would overshoot by far.

        Args:
            values: counts.
            offset: the predictor's usual level.
            spread: its variance about that.
        """
        mean, log_spread = offset[None, :], jnp.log(spread)[None, :]
        # With w = spread * exp(z), the maximum is at w + log(w) = log(spread) + offset + spread * y.
        z = _log_of_sum(log_spread + mean + spread[None, :] * values) - log_spread
        return Anchor(pseudo=z - mean + values * jnp.exp(-z) - 1, log_precision=z)


class BernoulliLikelihood(eqx.Module):
    """y in {0, 1} with log odds ``predictor``."""

    def log_prob(self, values: Float[Array, "*n channel"], predictor: Float[Array, "*n channel"]) -> Array:
        """Log probability of each value, in nats."""
        return values * predictor - jax.nn.softplus(predictor)

    def expected_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Expectation of ``log_prob`` over a Gaussian predictor, by Gauss-Hermite quadrature."""
        return _gauss_hermite(lambda z: self.log_prob(jnp.broadcast_to(values[..., None], z.shape), z), mean, variance)

    def predictive_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Log of the probability averaged over a Gaussian predictor, by Gauss-Hermite quadrature."""
        return _log_gauss_hermite(
            lambda z: self.log_prob(jnp.broadcast_to(values[..., None], z.shape), z), mean, variance
        )

    def predictive_moments(
        self, mean: Float[Array, "*n channel"], variance: Float[Array, "*n channel"]
    ) -> tuple[Float[Array, "*n channel"], Float[Array, "*n channel"]]:
        """Mean and variance of a value under a Gaussian predictor, by Gauss-Hermite quadrature."""
        p = _gauss_hermite(self.mean, mean, variance)
        return p, p * (1 - p)

    def mean(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Probability of a one given the predictor."""
        return jax.nn.sigmoid(predictor)

    def variance(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Variance of a value given the predictor."""
        p = self.mean(predictor)
        return p * (1 - p)

    def sample(self, key: Key[Array, ""], predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """One draw for each predictor."""
        return jax.random.bernoulli(key, self.mean(predictor)).astype(predictor.dtype)

    def anchor(
        self, values: Float[Array, "time channel"], offset: Float[Array, " channel"], spread: Float[Array, " channel"]
    ) -> Anchor:
        """The quadratic bound of Jaakkola and Jordan (2000), tight at the predictor's root mean square."""
        xi = jnp.sqrt(offset**2 + spread)[None, :]
        precision = jnp.tanh(xi / 2) / (2 * xi)
        return Anchor(pseudo=(values - 0.5) / precision - offset[None, :], log_precision=jnp.log(precision))


class StudentTLikelihood(eqx.Module):
    """y ~ predictor + scale * Student-t, for data with outliers.

    Attributes:
        log_variance: logarithm of the squared scale.
        log_freedom: logarithm of the degrees of freedom beyond 2, so that the variance exists.
    """

    log_variance: Float[Array, " channel"]
    log_freedom: Float[Array, " channel"]

    @property
    def freedom(self) -> Float[Array, " channel"]:
        """Degrees of freedom, above 2."""
        return 2.0 + jnp.exp(self.log_freedom)

    def log_prob(self, values: Float[Array, "*n channel"], predictor: Float[Array, "*n channel"]) -> Array:
        """Log density of each value, in nats."""
        return self._log_prob(values, predictor, self.freedom, self.log_variance)

    def _log_prob(self, values: Array, predictor: Array, freedom: Array, log_variance: Array) -> Array:
        freedom = jnp.broadcast_to(freedom, predictor.shape)
        log_variance = jnp.broadcast_to(log_variance, predictor.shape)
        half = 0.5 * (freedom + 1)
        constant = (
            jax.scipy.special.gammaln(half)
            - jax.scipy.special.gammaln(0.5 * freedom)
            - 0.5 * (jnp.log(freedom * np.pi) + log_variance)
        )
        squared = (values - predictor) ** 2 * jnp.exp(-log_variance)
        return constant - half * jnp.log1p(squared / freedom)

    def expected_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Expectation of ``log_prob`` over a Gaussian predictor, by Gauss-Hermite quadrature."""
        freedom, log_variance = self.freedom[:, None], self.log_variance[:, None]
        return _gauss_hermite(
            lambda z: self._log_prob(jnp.broadcast_to(values[..., None], z.shape), z, freedom, log_variance),
            mean,
            variance,
        )

    def predictive_log_prob(
        self,
        values: Float[Array, "*n channel"],
        mean: Float[Array, "*n channel"],
        variance: Float[Array, "*n channel"],
    ) -> Float[Array, "*n channel"]:
        """Log of the density averaged over a Gaussian predictor, by Gauss-Hermite quadrature."""
        freedom, log_variance = self.freedom[:, None], self.log_variance[:, None]
        return _log_gauss_hermite(
            lambda z: self._log_prob(jnp.broadcast_to(values[..., None], z.shape), z, freedom, log_variance),
            mean,
            variance,
        )

    def predictive_moments(
        self, mean: Float[Array, "*n channel"], variance: Float[Array, "*n channel"]
    ) -> tuple[Float[Array, "*n channel"], Float[Array, "*n channel"]]:
        """Mean and variance of a value under a Gaussian predictor."""
        return mean, variance + self.variance(mean)

    def mean(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Expected value given the predictor."""
        return predictor

    def variance(self, predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Variance of a value given the predictor."""
        nu = self.freedom
        return jnp.broadcast_to(jnp.exp(self.log_variance) * nu / (nu - 2), predictor.shape)

    def sample(self, key: Key[Array, ""], predictor: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """One draw for each predictor."""
        noise = jax.random.t(key, jnp.broadcast_to(self.freedom, predictor.shape), predictor.shape, predictor.dtype)
        return predictor + noise * jnp.exp(0.5 * jnp.broadcast_to(self.log_variance, predictor.shape))

    def anchor(
        self, values: Float[Array, "time channel"], offset: Float[Array, " channel"], spread: Float[Array, " channel"]
    ) -> Anchor:
        """The Gaussian of the same scale, whatever the predictor's ``spread``."""
        return Anchor(pseudo=values - offset[None, :], log_precision=-self.log_variance[None, :])


Likelihood = GaussianLikelihood | PoissonLikelihood | BernoulliLikelihood | StudentTLikelihood


def _log_of_sum(total: Array) -> Array:
    """The s with exp(s) + s = ``total``, by Newton's method; exact derivatives by the last iteration alone."""
    step = lambda s: s - (jnp.exp(s) + s - total) / (jnp.exp(s) + 1)  # noqa: E731
    s = jnp.log(jnp.maximum(jax.nn.softplus(total), jnp.finfo(total.dtype).tiny))
    for _ in range(5):
        s = step(s)
    return step(jax.lax.stop_gradient(s))


def gauss_hermite_nodes(
    mean: Float[Array, "*n"], variance: Float[Array, "*n"]
) -> tuple[Float[Array, "*n node"], Float[Array, " node"]]:
    """Nodes of N(mean, variance) on a new last axis, and their weights."""
    deviation = jnp.sqrt(jnp.maximum(variance, 1e-12))[..., None]
    nodes = jnp.broadcast_to(jnp.asarray(_NODES, mean.dtype), (*mean.shape, len(_NODES)))
    return mean[..., None] + deviation * nodes, jnp.asarray(_WEIGHTS, mean.dtype)


def _gauss_hermite(function: Callable[[Array], Array], mean: Array, variance: Array) -> Array:
    """E[function(z)] for z ~ N(mean, variance)."""
    nodes, weights = gauss_hermite_nodes(mean, variance)
    return function(nodes) @ weights


def _log_gauss_hermite(log_function: Callable[[Array], Array], mean: Array, variance: Array) -> Array:
    """Log E[exp(log_function(z))] for z ~ N(mean, variance)."""
    nodes, weights = gauss_hermite_nodes(mean, variance)
    log_values = log_function(nodes)
    return jax.scipy.special.logsumexp(log_values + jnp.broadcast_to(jnp.log(weights), log_values.shape), axis=-1)
