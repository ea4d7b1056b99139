"""SVAE: prior, recognition, decoder and likelihood joined; its posterior, its bound and its predictions.

The posteriors that the paper compares with take the place of recognition; all else is shared.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key

from svae_cli.inference import Gaussian, PiecePosterior, Posterior, Potential, kl_divergence, smooth
from svae_cli.models.decoder import Decoder, LinearDecoder
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.frames import FrameDecoder
from svae_cli.models.lags import LagRegression
from svae_cli.models.likelihoods import GaussianLikelihood, Likelihood
from svae_cli.models.posteriors import ChainFamily, ChainPosterior, PathPosterior, RecurrentFamily
from svae_cli.models.posteriors.recurrent import PATHS
from svae_cli.models.recognition import PotentialRecognition
from svae_cli.models.residual import ResidualChains
from svae_cli.models.season import Remembered, SeasonMemory
from svae_cli.precision import full_precision

_FRAME_PAIRS = 2  # pairs of states that stand for a step's posterior where decoding one is costly
_MOST_WANDER = 1e6  # times the variance of a channel, a step: more than enough

AnyPosterior = Posterior | ChainPosterior | PathPosterior
"""Each has ``means``, ``covariances`` and ``sample(key, n)``."""

HasMoments = AnyPosterior | PiecePosterior
"""Each has ``means`` and ``covariances``."""


class Inference(eqx.Module):
    """What is inferred about one series.

    Attributes:
        posterior: q(x).
        kl: KL(q || p), exact but for ``PathPosterior``, where it is averaged over its paths.
    """

    posterior: AnyPosterior
    kl: Float[Array, ""]


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
        recognition: observations to potentials, or to a posterior by networks alone.
        decoder: latent states to predictors.
        likelihood: predictors to observations.
        residual: what lasts of each channel's noise, or None if it is white.
        season: what other cycles say of each value, or None if nothing is remembered.
        lags: what each channel's own last values say of the next ones, for forecasts, or None.
        optimism: squared errors of forecasts of what was not learned from, relative to those of what was; 1 or more.
    """

    dynamics: Dynamics
    recognition: PotentialRecognition | ChainFamily | RecurrentFamily
    decoder: Decoder
    likelihood: Likelihood
    residual: ResidualChains | None = None
    season: SeasonMemory | None = None
    lags: LagRegression | None = None
    optimism: Float[Array, ""] | float = 1.0

    @full_precision
    def potentials(self, values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]) -> Potential:
        """What the observed values say of each step's state, as a Gaussian potential.

        Raises:
            TypeError: the posterior is not the SVAE's, so it has no potentials.
        """
        if isinstance(self.recognition, ChainFamily | RecurrentFamily):
            raise TypeError(f"Expected recognition by potentials; got {type(self.recognition).__name__}")
        return self.recognition(values, observed, self.decoder, self.likelihood)

    def posterior(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
    ) -> AnyPosterior:
        """q(x | observed values); see ``infer``."""
        return self.infer(values, observed, inputs).posterior

    @full_precision
    def infer(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
        *,
        key: Key[Array, ""] | None = None,
        paths: int = PATHS,
    ) -> Inference:
        """q(x | observed values) and KL(q || p): by message passing, or by the networks of another family.

        Args:
            values: one series; entries not observed are ignored, but must be finite.
            observed: what may be seen.
            inputs: known inputs, zero columns if there are none.
            key: for the paths of a posterior that has no closed form; by default always the same.
            paths: how many.
        """
        prior = self.dynamics.prior(inputs)
        if isinstance(self.recognition, ChainFamily):
            chain = self.recognition.posterior(prior, values, observed, inputs)
            return Inference(posterior=chain, kl=chain.kl_from(prior))
        if isinstance(self.recognition, RecurrentFamily):
            key = jr.key(0) if key is None else key
            drawn = self.recognition.posterior(prior, values, observed, inputs, key=key, paths=paths)
            return Inference(posterior=drawn, kl=drawn.kl)
        potentials = self.potentials(values, observed)
        posterior = smooth(prior, potentials)
        return Inference(posterior=posterior, kl=kl_divergence(posterior, potentials))

    @full_precision
    def filtered(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
    ) -> Gaussian:
        """Each state given the observations up to its step.

        Message passing has it in passing. The other families look at the whole series, so they are asked anew for each
        step, with all that comes later hidden.
        """
        posterior = self.posterior(values, observed, inputs)
        if isinstance(posterior, Posterior):
            return posterior.filtered
        step = jnp.arange(len(values))

        def up_to(now):
            found = self.posterior(values, observed & (step <= now)[:, None], inputs)
            return Gaussian(found.means[now], found.covariances[now])

        return jax.lax.map(up_to, step)

    @full_precision
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
        found = self.infer(values, observed & ~hidden, inputs, key=key, paths=samples)
        posterior = found.posterior
        seen = jnp.where(observed, values, 0.0)
        if isinstance(self.decoder, LinearDecoder):
            mean, variance = self.predictor_moments(posterior)
            log_prob = self.likelihood.expected_log_prob(seen, mean, variance)
        else:
            states = posterior.paths if isinstance(posterior, PathPosterior) else posterior.sample(key, samples)
            predictor = jax.vmap(jax.vmap(self.decoder))(states)
            log_prob = jnp.mean(self.likelihood.log_prob(jnp.broadcast_to(seen, predictor.shape), predictor), axis=0)
        return Elbo(
            log_likelihood=jnp.sum(jnp.where(observed, log_prob, 0.0)),
            kl=found.kl,
            count=jnp.sum(observed).astype(values.dtype),
        )

    @full_precision
    def predictor_moments(
        self, posterior: HasMoments, points: Float[Array, "point time state"] | None = None
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """Mean and variance of the predictor under q: exact for a linear decoder, from points otherwise.

        The linear part is always exact; only the network's part is averaged over the points.

        Args:
            posterior: q.
            points: states that stand for q with equal weights, in pairs mean +- something; default: the cubature rule
                of degree 3, or a few fixed pairs where a state decodes to a frame.
        """
        loadings, offset = self.decoder.loadings, self.decoder.offset
        linear_mean = posterior.means @ loadings.T + offset[None, :]
        linear_variance = jnp.sum((posterior.covariances @ loadings.T) * loadings.T[None], axis=-2)
        if isinstance(self.decoder, LinearDecoder):
            return linear_mean, linear_variance
        if points is None:
            frames = isinstance(self.decoder.network, FrameDecoder)
            points = cubature_points(posterior.means, posterior.covariances, pairs=_FRAME_PAIRS if frames else None)
        bend = jax.vmap(jax.vmap(self.decoder.network))(points)
        mean = jnp.mean(bend, axis=0)
        straight = (points - posterior.means[None]) @ loadings.T
        whole = jnp.mean((straight + bend - mean[None]) ** 2, axis=0)
        # The points' own spread stands in for the exact one where both describe the linear part.
        variance = linear_variance + whole - jnp.mean(straight**2, axis=0)
        return linear_mean + mean, jnp.maximum(variance, 0.1 * whole)

    @full_precision
    def wander(self) -> Float[Array, " channel"]:
        """Variance that a step adds to each channel and that never returns, by the decoder's loadings; finite."""
        loadings = self.decoder.loadings
        added = jnp.sum((loadings @ self.dynamics.wander) * loadings, axis=1)
        most = jnp.asarray(_MOST_WANDER, added.dtype)
        return jnp.clip(jnp.nan_to_num(added, nan=_MOST_WANDER, posinf=_MOST_WANDER), 0, most)

    def with_residual(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        predictor: tuple[Float[Array, "time channel"], Float[Array, "time channel"]],
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """The predictor's moments once the residuals of the observed values have spoken, if they have a say.

        The variance is reduced by what is then known of the noise, so alone it may be negative; with the likelihood's
        own variance added it is not.
        """
        if self.residual is None:
            return predictor
        mean, variance = predictor
        residuals = jnp.where(observed, values - mean, 0.0)
        shift, certainty = self.residual.smooth(residuals, observed, gaussian_noise(self))
        return mean + shift, variance - certainty

    def with_season(
        self,
        predictor: tuple[Float[Array, "time channel"], Float[Array, "time channel"]],
        remembered: Remembered,
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """The predictor's moments once other cycles have spoken, if they have a say; see ``with_residual``."""
        if self.season is None:
            return predictor
        noise = jnp.exp(gaussian_noise(self))[None, :]
        mean, variance = self.season.combine(predictor[0], predictor[1] + noise, remembered)
        return mean, variance - noise

    def informed(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        predictor: tuple[Float[Array, "time channel"], Float[Array, "time channel"]],
        around: Float[Array, "longer channel"] | None = None,
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """The predictor's moments with all that a whole series says beside the shared states.

        Args:
            values: finite everywhere.
            observed: which of them count.
            predictor: moments by the states alone.
            around: of a window: what lies around it; see ``SeasonMemory.remember``.
        """
        predictor = self.with_residual(values, observed, predictor)
        if self.season is None:
            return predictor
        return self.with_season(predictor, self.season.remember(values, observed, around))


def gaussian_noise(model: SVAE) -> Float[Array, " channel"]:
    """Log noise variances of a model with Gaussian noise.

    Raises:
        TypeError: another likelihood.
    """
    if not isinstance(model.likelihood, GaussianLikelihood):
        raise TypeError(f"Expected a Gaussian likelihood; got {type(model.likelihood).__name__}")
    return model.likelihood.log_variance


def cubature_points(
    means: Float[Array, "time state"], covariances: Float[Array, "time state state"], *, pairs: int | None = None
) -> Float[Array, "point time state"]:
    """The 2 K points of the spherical cubature rule for each step's Gaussian.

    Args:
        means: of the states.
        covariances: of the states.
        pairs: only so many pairs, along fixed directions drawn once from a standard Gaussian.
    """
    latent_dim = means.shape[-1]
    jitter = 1e-6 / latent_dim * jnp.trace(covariances, axis1=-2, axis2=-1)[:, None, None]
    factors = jnp.linalg.cholesky(covariances + jitter * jnp.eye(latent_dim, dtype=means.dtype)[None])
    if pairs is None:
        steps = jnp.sqrt(jnp.asarray(latent_dim, means.dtype)) * jnp.moveaxis(factors, -1, 0)
    else:
        directions = jr.normal(jr.key(0), (pairs, latent_dim), means.dtype)
        steps = jnp.einsum("tij,pj->pti", factors, directions)
    return jnp.concatenate([means[None] + steps, means[None] - steps])
