"""Posteriors that are Gaussian chains read off networks: mean field, linear autoregressive, temporal convolution."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key

from svae_cli.inference import LinearGaussianPrior
from svae_cli.models.frames import FrameEncoder
from svae_cli.models.network import Network
from svae_cli.models.posteriors.chain import Chain, ChainPosterior
from svae_cli.models.posteriors.features import BidirectionalGRU, Features, TemporalConvolution

_MIN_SCALE = 1e-3  # of a conditional standard deviation, in latent units
ChainKind = Literal["rnn-mf", "rnn-ar-linear", "tcn"]


class SequenceEncoder(eqx.Module):
    """Features of every step of a series from its visible values, their mask and the known inputs.

    Attributes:
        step: encodes one step.
        along: looks along time.
    """

    step: Network | FrameEncoder
    along: Features

    def __call__(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
        last: Int[Array, ""],
    ) -> Float[Array, "time feature"]:
        """Features; values that are not observed have no influence."""
        seen = jnp.where(observed, values, 0.0)
        rows = jnp.concatenate([seen, observed.astype(seen.dtype), inputs], axis=-1)
        return self.along(jax.nn.silu(jax.vmap(self.step)(rows)), last)


class Conditional(eqx.Module):
    """Heads that give the mean and the Cholesky factor of a Gaussian.

    Attributes:
        location: to the mean.
        spread: to the factor; starts at a multiple of the identity.
    """

    location: Network
    spread: Network

    def __init__(self, n_in: int, dim: int, hidden: tuple[int, ...], key: Key[Array, ""]):
        first, second = jr.split(key)
        self.location = Network(n_in, dim, hidden, first, zero_output=False)
        self.spread = Network(n_in, dim * dim, hidden, second, zero_output=True)

    def __call__(
        self, features: Float[Array, " feature"]
    ) -> tuple[Float[Array, " state"], Float[Array, "state state"]]:
        """Mean and factor."""
        mean = self.location(features)
        raw = self.spread(features).reshape(len(mean), len(mean))
        diagonal = jax.nn.softplus(jnp.diagonal(raw)) + _MIN_SCALE
        return mean, jnp.tril(raw, -1) + jnp.diag(diagonal)


class ChainFamily(eqx.Module):
    """q(x) = prod_t N(x_t; A_t x_{t-1} + b_t, L_t L_t'), all read off features of the whole series.

    After the last observed step q goes on as the prior does: there the networks have nothing to add.

    Attributes:
        encoder: to features.
        conditional: heads to b_t and L_t.
        dynamics: head to A_t, starting at zero; None for mean field, where A_t = 0.
    """

    encoder: SequenceEncoder
    conditional: Conditional
    dynamics: Network | None

    def chain(
        self,
        prior: LinearGaussianPrior,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
    ) -> Chain:
        """The posterior's chain.

        Args:
            prior: takes over after the last observed step.
            values: one series; entries not observed are ignored, but must be finite.
            observed: what may be seen.
            inputs: known inputs.
        """
        last = last_observed(observed)
        features = self.encoder(values, observed, inputs, last)
        bias, factor = jax.vmap(self.conditional)(features)
        dynamics = jnp.zeros_like(factor)
        if self.dynamics is not None:
            later = jax.vmap(self.dynamics)(features[1:]).reshape(factor[1:].shape)
            dynamics = jnp.concatenate([dynamics[:1], later])
        return Chain(dynamics, bias, factor).continued_by(Chain.of_prior(prior, len(values)), last)

    def posterior(
        self,
        prior: LinearGaussianPrior,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        inputs: Float[Array, "time input"],
    ) -> ChainPosterior:
        """The posterior; arguments as for ``chain``."""
        return ChainPosterior.of(self.chain(prior, values, observed, inputs))

    @classmethod
    def build(
        cls, kind: ChainKind, step: Network | FrameEncoder, width: int, latent_dim: int, key: Key[Array, ""]
    ) -> "ChainFamily":
        """A family with random networks.

        Args:
            kind: which.
            step: encodes one step to ``width`` numbers.
            width: of the features and of the heads' hidden layer.
            latent_dim: K.
            key: for the networks.
        """
        first, second, third = jr.split(key, 3)
        along = TemporalConvolution(width, first) if kind == "tcn" else BidirectionalGRU(width, first)
        dynamics = None
        if kind != "rnn-mf":
            dynamics = Network(along.n_out, latent_dim * latent_dim, (width,), third, zero_output=True)
        return cls(
            encoder=SequenceEncoder(step=step, along=along),
            conditional=Conditional(along.n_out, latent_dim, (width,), second),
            dynamics=dynamics,
        )


def last_observed(observed: Bool[Array, "time channel"]) -> Int[Array, ""]:
    """Index of the last step with a value, -1 if there is none."""
    seen = jnp.any(observed, axis=1)
    return jnp.max(jnp.where(seen, jnp.arange(len(seen)), -1))
