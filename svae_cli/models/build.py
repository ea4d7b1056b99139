"""Building models: the full model around a linear one, and empty models to load parameters into."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from svae_cli.config import Settings
from svae_cli.models.decoder import LinearDecoder, MLPDecoder
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    PoissonLikelihood,
    StudentTLikelihood,
)
from svae_cli.models.network import Network
from svae_cli.models.recognition import Recognition
from svae_cli.models.svae import SVAE

_MIN_LOG_RATE = -7.0  # a channel's usual log rate to start from; about one count in a thousand bins


def linear_model(
    *,
    transition: np.ndarray,
    noise_cov: np.ndarray,
    loadings: np.ndarray,
    offset: np.ndarray,
    noise_variance: np.ndarray,
    n_inputs: int,
    stable: bool,
    dtype: np.dtype,
) -> SVAE:
    """A linear-Gaussian SVAE with unit initial covariance, zero bias and exact recognition.

    Args:
        transition: A, (state, state).
        noise_cov: Q, (state, state).
        loadings: C, (channel, state).
        offset: d, (channel,).
        noise_variance: diagonal of R, (channel,).
        n_inputs: number of known inputs.
        stable: hold A's largest singular value at 1 or below.
        dtype: of the parameters.
    """
    latent_dim = len(transition)
    dynamics = Dynamics.from_moments(
        initial_mean=jnp.zeros(latent_dim, dtype),
        initial_cov=jnp.eye(latent_dim, dtype=dtype),
        transition=jnp.asarray(transition, dtype),
        bias=jnp.zeros(latent_dim, dtype),
        input_matrix=jnp.zeros((latent_dim, n_inputs), dtype),
        noise_cov=jnp.asarray(noise_cov, dtype),
        stable=stable,
    )
    return SVAE(
        dynamics=dynamics,
        recognition=Recognition.at_anchor(len(loadings), latent_dim, jnp.dtype(dtype)),
        decoder=LinearDecoder(loadings=jnp.asarray(loadings, dtype), offset=jnp.asarray(offset, dtype)),
        likelihood=GaussianLikelihood(log_variance=jnp.asarray(np.log(noise_variance), dtype)),
    )


def full_model(linear: SVAE, settings: Settings, *, mean: np.ndarray, std: np.ndarray) -> SVAE:
    """The model that the settings ask for, beginning as the best linear-Gaussian one.

    For Gaussian noise the result predicts exactly as ``linear`` does. For counts and binary values the linear model is
    of standardised values; its loadings are carried over to the log rate or log odds by the slope of that link at the
    channel's mean.

    Args:
        linear: the linear start.
        settings: resolved: recognition, decoder, likelihood, hidden widths, seed.
        mean: of each channel, in the data's units.
        std: of each channel, in the data's units.
    """
    likelihood, loadings, offset = _likelihood(linear, settings, mean, std)
    n_channels, latent_dim = loadings.shape
    keys = jr.split(jr.fold_in(jr.key(settings.seed), 0x11F7), 2)
    hidden = settings.hidden if settings.recognition == "mlp" else None
    decoder = LinearDecoder(loadings=loadings, offset=offset)
    if settings.decoder == "mlp":
        network = Network(latent_dim, n_channels, settings.hidden, keys[1], zero_output=True)
        decoder = MLPDecoder(loadings=loadings, offset=offset, network=network)
    model = SVAE(
        dynamics=linear.dynamics,
        recognition=Recognition.at_anchor(
            n_channels,
            latent_dim,
            loadings.dtype,
            hidden=hidden,
            by_values=settings.likelihood != "gaussian",
            key=keys[0],
        ),
        decoder=decoder,
        likelihood=likelihood,
    )
    return as_dtype(model, loadings.dtype)


def skeleton(settings: Settings, *, n_channels: int, n_inputs: int) -> SVAE:
    """A model of the right structure and sizes, to load parameters into.

    Args:
        settings: fully resolved.
        n_channels: D.
        n_inputs: U.
    """
    dim = settings.latent_dim or 1
    linear = linear_model(
        transition=np.eye(dim),
        noise_cov=np.eye(dim),
        loadings=np.zeros((n_channels, dim)),
        offset=np.zeros(n_channels),
        noise_variance=np.ones(n_channels),
        n_inputs=n_inputs,
        stable=settings.stable,
        dtype=np.dtype(settings.precision),
    )
    return full_model(linear, settings, mean=np.full(n_channels, 0.5), std=np.ones(n_channels))


def as_dtype(model: SVAE, dtype: jnp.dtype) -> SVAE:
    """The same model with all its parameters in ``dtype``."""
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda p: p.astype(dtype), parameters), rest)


def _likelihood(linear: SVAE, settings: Settings, mean: np.ndarray, std: np.ndarray) -> tuple[Likelihood, ...]:
    """The likelihood with the loadings and offset that go with it."""
    loadings, offset = linear.decoder.loadings, linear.decoder.offset
    log_variance = linear.likelihood.log_variance
    if settings.likelihood == "gaussian":
        return GaussianLikelihood(log_variance=log_variance), loadings, offset
    if settings.likelihood == "student-t":
        freedom = jnp.full_like(log_variance, np.log(8.0))  # 10 degrees of freedom: 4/5 of the variance is the scale's
        return StudentTLikelihood(log_variance=log_variance + np.log(0.8), log_freedom=freedom), loadings, offset
    if settings.likelihood == "poisson":
        usual = np.maximum(np.log(np.maximum(mean, 1e-12)), _MIN_LOG_RATE)
        slope, likelihood = std / np.exp(usual), PoissonLikelihood()
    else:
        share = np.clip(mean, 0.01, 0.99)
        usual, slope, likelihood = np.log(share / (1 - share)), std / (share * (1 - share)), BernoulliLikelihood()
    slope, usual = jnp.asarray(slope, loadings.dtype), jnp.asarray(usual, loadings.dtype)
    return likelihood, loadings * slope[:, None], usual + slope * offset
