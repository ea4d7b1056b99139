"""Building models: the full model around a linear one, and empty models to load parameters into."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from svae_cli.config import Settings
from svae_cli.models.decoder import LinearDecoder, NetworkDecoder
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.frames import FrameDecoder, FrameEncoder
from svae_cli.models.lags import LagRegression
from svae_cli.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    PoissonLikelihood,
    StudentTLikelihood,
)
from svae_cli.models.links import log_link, logit_link, signal_variance
from svae_cli.models.network import Network
from svae_cli.models.posteriors import ChainFamily, RecurrentFamily
from svae_cli.models.recognition import FrameRecognition, PotentialRecognition, Recognition
from svae_cli.models.residual import ResidualChains
from svae_cli.models.season import SeasonMemory
from svae_cli.models.svae import SVAE, gaussian_noise


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
        initial_mean=np.zeros(latent_dim),
        initial_cov=np.eye(latent_dim),
        transition=transition,
        bias=np.zeros(latent_dim),
        input_matrix=np.zeros((latent_dim, n_inputs)),
        noise_cov=noise_cov,
        dtype=dtype,
        stable=stable,
    )
    return SVAE(
        dynamics=dynamics,
        recognition=Recognition.at_anchor(len(loadings), latent_dim, jnp.dtype(dtype)),
        decoder=LinearDecoder(loadings=jnp.asarray(loadings, dtype), offset=jnp.asarray(offset, dtype)),
        likelihood=GaussianLikelihood(log_variance=jnp.asarray(np.log(noise_variance), dtype)),
        optimism=jnp.ones((), dtype),  # an array, as in models from files: a number would be compiled anew
    )


def full_model(
    linear: SVAE,
    settings: Settings,
    *,
    mean: np.ndarray,
    std: np.ndarray,
    channel_shape: tuple[int, ...] = (),
    residual: ResidualChains | None = None,
    season: SeasonMemory | None = None,
    lags: LagRegression | None = None,
    optimism: float = 1.0,
) -> SVAE:
    """The model that the settings ask for, beginning as the best linear-Gaussian one.

    For Gaussian noise the result predicts exactly as ``linear`` does. For counts and binary values the linear model is
    of standardised values; its loadings are carried over to the log rate or log odds (``links``). A posterior other
    than the SVAE's begins with random networks: only prior, decoder and noise are carried over.

    Args:
        linear: the linear start.
        settings: resolved: recognition, decoder, likelihood, posterior, hidden widths, seed.
        mean: of each channel, in the data's units.
        std: of each channel, in the data's units.
        channel_shape: of frames.
        residual: of the channels, in standardised units, if the settings ask for it.
        season: the memory of other cycles, in standardised units, if the settings ask for it.
        lags: the regression on last values, if the settings ask for it.
        optimism: as in ``SVAE``.
    """
    likelihood, loadings, offset, spread = _likelihood(linear, settings, mean, std)
    n_channels, latent_dim = loadings.shape
    keys = jr.split(jr.fold_in(jr.key(settings.seed), 0x11F7), 2)
    decoder = LinearDecoder(loadings=loadings, offset=offset)
    if settings.decoder != "linear":
        network = FrameDecoder(latent_dim, channel_shape, keys[1]) if settings.decoder == "conv" else None
        if network is None:
            network = Network(latent_dim, n_channels, settings.hidden, keys[1], zero_output=True)
        decoder = NetworkDecoder(loadings=loadings, offset=offset, network=network)
    if settings.posterior == "svae":
        recognition = _potentials(settings, loadings, spread, channel_shape, keys[0])
    else:
        n_inputs = linear.dynamics.input_matrix.shape[1]
        recognition = _family(settings, loadings, n_inputs, channel_shape, keys[0])
    chains, memory = None, None
    if settings.residual_chains == "on":
        some = jnp.full(n_channels, 0.5)
        chains = ResidualChains.of(some, some) if residual is None else residual
    if settings.season:
        memory = season
        if memory is None:
            memory = SeasonMemory.unknown(n_channels, settings.season, settings.short_season or 0)
        memory = memory.in_units(mean, std) if settings.standardize == "none" else memory
    model = SVAE(
        dynamics=linear.dynamics,
        recognition=recognition,
        decoder=decoder,
        likelihood=likelihood,
        residual=chains,
        season=memory,
        lags=lags if settings.lags else None,
        optimism=jnp.asarray(optimism),
    )
    return as_dtype(model, loadings.dtype)


def _potentials(
    settings: Settings, loadings: Array, spread: Array, channel_shape: tuple[int, ...], key: Key[Array, ""]
) -> PotentialRecognition:
    """Recognition that begins as the likelihood's own potentials."""
    (n_channels, latent_dim), dtype = loadings.shape, loadings.dtype
    if settings.recognition == "conv":
        encoder = FrameEncoder(channel_shape, 0, latent_dim + 1, settings.hidden[-1], key, zero_output=True)
        pixels = Recognition.at_anchor(n_channels, latent_dim, dtype, spread=spread)
        return FrameRecognition(pixels=pixels, encoder=encoder)
    return Recognition.at_anchor(
        n_channels,
        latent_dim,
        dtype,
        hidden=settings.hidden if settings.recognition == "mlp" else None,
        by_values=settings.likelihood != "gaussian",
        spread=spread,
        key=key,
    )


def _family(
    settings: Settings, loadings: Array, n_inputs: int, channel_shape: tuple[int, ...], key: Key[Array, ""]
) -> ChainFamily | RecurrentFamily:
    """A posterior by networks alone, with random parameters."""
    (n_channels, latent_dim), width = loadings.shape, settings.hidden[-1]
    first, second = jr.split(key)
    if settings.recognition == "conv":
        step = FrameEncoder(channel_shape, n_inputs, width, width, first, zero_output=False)
    else:
        between = settings.hidden[:-1] if settings.recognition == "mlp" else ()
        step = Network(2 * n_channels + n_inputs, width, between, first, zero_output=False)
    if settings.posterior == "rnn-ar":
        return RecurrentFamily.build(step, width, latent_dim, second)
    assert settings.posterior != "svae"
    return ChainFamily.build(settings.posterior, step, width, latent_dim, second)


def skeleton(settings: Settings, *, n_channels: int, n_inputs: int, channel_shape: tuple[int, ...] = ()) -> SVAE:
    """A model of the right structure and sizes, to load parameters into: its arrays are ``jax.ShapeDtypeStruct``.

    Args:
        settings: fully resolved.
        n_channels: D.
        n_inputs: U.
        channel_shape: of frames.
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
    half, one = np.full(n_channels, 0.5), np.ones(n_channels)

    def build() -> SVAE:
        lags = LagRegression.unknown(n_channels, settings.lags, settings.season or 0) if settings.lags else None
        return full_model(linear, settings, mean=half, std=one, channel_shape=channel_shape, lags=lags)

    return eqx.filter_eval_shape(build)  # to compute what is read anyhow would be dozens of little programs


def with_potentials(model: SVAE) -> SVAE:
    """The same model, with the likelihood's own potentials in place of another family's networks, or of frames'.

    A frame decoder is left with its linear part: before it is trained, that is all of it, and far cheaper.
    """
    if not isinstance(model.recognition, ChainFamily | RecurrentFamily | FrameRecognition):
        return model
    n_channels, latent_dim = model.decoder.loadings.shape
    decoder, spread = model.decoder, None
    if isinstance(model.likelihood, PoissonLikelihood | BernoulliLikelihood):
        spread = jnp.asarray(signal_variance(model.dynamics, np.asarray(decoder.loadings)))
    exact = Recognition.at_anchor(n_channels, latent_dim, decoder.loadings.dtype, spread=spread)
    if isinstance(decoder, NetworkDecoder) and isinstance(decoder.network, FrameDecoder):
        decoder = LinearDecoder(loadings=decoder.loadings, offset=decoder.offset)
    return SVAE(
        dynamics=model.dynamics,
        recognition=exact,
        decoder=decoder,
        likelihood=model.likelihood,
        residual=model.residual,
        season=model.season,
        lags=model.lags,
        optimism=model.optimism,
    )


def as_dtype(model: SVAE, dtype: jnp.dtype) -> SVAE:
    """The same model with all its parameters in ``dtype``."""
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda p: p.astype(dtype), parameters), rest)


class _Start(NamedTuple):
    """A likelihood with the loadings, the offset and the spread of predictors that go with it."""

    likelihood: Likelihood
    loadings: Float[Array, "channel state"]
    offset: Float[Array, " channel"]
    spread: Float[Array, " channel"]


def _likelihood(linear: SVAE, settings: Settings, mean: np.ndarray, std: np.ndarray) -> _Start:
    loadings, offset = linear.decoder.loadings, linear.decoder.offset
    unknown = jnp.ones_like(offset)
    log_variance = gaussian_noise(linear)
    if settings.standardize == "none" and settings.likelihood in ("gaussian", "student-t"):
        scale = jnp.asarray(std, loadings.dtype)
        loadings, offset = loadings * scale[:, None], offset * scale + jnp.asarray(mean, loadings.dtype)
        log_variance = log_variance + 2 * jnp.log(scale)
    if settings.likelihood == "gaussian":
        if settings.noise is not None:
            unit = np.ones_like(std) if settings.standardize == "none" else std
            log_variance = jnp.asarray(2 * np.log(settings.noise / unit), loadings.dtype)
        return _Start(GaussianLikelihood(log_variance=log_variance), loadings, offset, unknown)
    if settings.likelihood == "student-t":
        freedom = jnp.full_like(log_variance, np.log(8.0))  # 10 degrees of freedom: 4/5 of the variance is the scale's
        likelihood = StudentTLikelihood(log_variance=log_variance + np.log(0.8), log_freedom=freedom)
        return _Start(likelihood, loadings, offset, unknown)
    counts = settings.likelihood == "poisson"
    with jax.ensure_compile_time_eval():  # in a skeleton, which computes nothing else, too
        link = (log_link if counts else logit_link)(linear.dynamics, np.asarray(loadings), mean, std)
    slope, usual, spread = (jnp.asarray(a, loadings.dtype) for a in (link.slope, link.offset, link.spread))
    likelihood = PoissonLikelihood() if counts else BernoulliLikelihood()
    return _Start(likelihood, loadings * slope[:, None], usual + slope * offset, spread)
