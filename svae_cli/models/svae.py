"""SVAE: prior, recognition, decoder and likelihood joined; its posterior, its bound and its predictions."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from svae_cli.inference import Posterior, kl_divergence, smooth
from svae_cli.models.decoder import Decoder, LinearDecoder
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.likelihoods import Anchor, Likelihood
from svae_cli.models.recognition import Recognition


class Elbo(eqx.Module):
    """The two terms of the bound, summed over one series, in nats.

    Attributes:
        log_likelihood: E_q[log p(y | x)] over the observed values, hidden ones included.
        kl: KL(q || p).
        count: number of observed values, to divide by.
    """

    log_likelihood: Float[Array, ""]
    kl: Float[Array, ""]
    count: Float[Array, ""]

    @property
    def per_value(self) -> Float[Array, ""]:
        """The bound per observed value."""
        return (self.log_likelihood - self.kl) / jnp.maximum(self.count, 1)


class SVAE(eqx.Module):
    """The structured variational autoencoder for ONE series; batch with ``jax.vmap`` (docs/model.md).

    Attributes:
        dynamics: the linear-Gaussian prior.
        recognition: observations to potentials.
        decoder: latent states to predictors.
        likelihood: predictors to observations.
    """

    dynamics: Dynamics
    recognition: Recognition
    decoder: Decoder
    likelihood: Likelihood

    @property
    def anchor(self) -> Anchor:
        """The likelihood's Gaussian stand-in around the linear part of the decoder."""
        return self.likelihood.anchor(self.decoder.loadings, self.decoder.offset)

    def posterior(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
    ) -> Posterior:
        """q(x | observed values), by exact message passing.

        Args:
            values: one series; entries not observed are ignored, but must be finite.
            observed: what recognition may see.
            inputs: known inputs, zero columns if there are none.
        """
        potentials = self.recognition(values, observed, self.anchor)
        return smooth(self.dynamics.prior(inputs), potentials)

    def elbo(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        hidden: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
        key: Key[Array, ""],
        *,
        samples: int = 1,
    ) -> Elbo:
        """The evidence lower bound of Zhao and Linderman (2023) with self-supervised masking (their section 3.3).

        Args:
            values: one series; entries not observed are ignored, but must be finite.
            observed: real observations; all of them are scored.
            hidden: observations that recognition must not see.
            inputs: known inputs.
            key: for the reparameterised samples; not used where the expectation has a closed form.
            samples: joint samples of the latent path.
        """
        potentials = self.recognition(values, observed & ~hidden, self.anchor)
        posterior = smooth(self.dynamics.prior(inputs), potentials)
        seen = jnp.where(observed, values, 0.0)
        if isinstance(self.decoder, LinearDecoder):
            mean, variance = self.predictor_moments(posterior)
            log_prob = self.likelihood.expected_log_prob(seen, mean, variance)
        else:
            predictor = jax.vmap(jax.vmap(self.decoder))(posterior.sample(key, samples))
            log_prob = jnp.mean(self.likelihood.log_prob(jnp.broadcast_to(seen, predictor.shape), predictor), axis=0)
        return Elbo(
            log_likelihood=jnp.sum(jnp.where(observed, log_prob, 0.0)),
            kl=kl_divergence(posterior, potentials),
            count=jnp.sum(observed).astype(values.dtype),
        )

    def predictor_moments(
        self, posterior: Posterior, points: Float[Array, "point time state"] | None = None
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """Mean and variance of the predictor under q: exact for a linear decoder, from points otherwise.

        The linear part is always exact; only the network's part is averaged over the points.

        Args:
            posterior: q.
            points: states that stand for q with equal weights, in pairs mean +- something; default: the cubature rule
                of degree 3.
        """
        loadings, offset = self.decoder.loadings, self.decoder.offset
        linear_mean = posterior.means @ loadings.T + offset[None, :]
        linear_variance = jnp.sum((posterior.covariances @ loadings.T) * loadings.T[None], axis=-2)
        if isinstance(self.decoder, LinearDecoder):
            return linear_mean, linear_variance
        if points is None:
            points = cubature_points(posterior.means, posterior.covariances)
        bend = jax.vmap(jax.vmap(self.decoder.network))(points)
        mean = jnp.mean(bend, axis=0)
        straight = (points - posterior.means[None]) @ loadings.T
        whole = jnp.mean((straight + bend - mean[None]) ** 2, axis=0)
        # The points' own spread stands in for the exact one where both describe the linear part.
        variance = linear_variance + whole - jnp.mean(straight**2, axis=0)
        return linear_mean + mean, jnp.maximum(variance, 0.1 * whole)

    def predictive_moments(
        self, posterior: Posterior, points: Float[Array, "point time state"] | None = None
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """Mean and variance of an observation under q, noise included."""
        return self.likelihood.predictive_moments(*self.predictor_moments(posterior, points))


def cubature_points(
    means: Float[Array, "time state"], covariances: Float[Array, "time state state"]
) -> Float[Array, "point time state"]:
    """The 2 K points of the spherical cubature rule for each step's Gaussian."""
    latent_dim = means.shape[-1]
    jitter = 1e-6 / latent_dim * jnp.trace(covariances, axis1=-2, axis2=-1)[:, None, None]
    factors = jnp.linalg.cholesky(covariances + jitter * jnp.eye(latent_dim, dtype=means.dtype)[None])
    steps = jnp.sqrt(jnp.asarray(latent_dim, means.dtype)) * jnp.moveaxis(factors, -1, 0)
    return jnp.concatenate([means[None] + steps, means[None] - steps])
