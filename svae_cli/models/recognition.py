"""Recognition: from the observed values of one time step to a Gaussian potential over its latent state.

Every observed channel adds the potential of one pseudo-observation, so a channel that is missing adds exactly nothing
and a step with nothing observed gives the zero potential (docs/model.md, section 4). The pseudo-observations start as
the likelihood's own (``Anchor``), which is exact for a linear-Gaussian decoder; what is learned here is the departure
from them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key

from svae_cli.inference import Potential
from svae_cli.models.decoder import Decoder
from svae_cli.models.frames import FrameEncoder
from svae_cli.models.likelihoods import Likelihood
from svae_cli.models.network import Network

_MAX_FRAME_CHANGE = 7.0  # a frame's pixels count as independent at first; together they may count down to 1/1000
_MAX_LOG_CHANGE = 3.0  # a network may change a channel's precision by a factor of at most exp(3) = 20


class Recognition(eqx.Module):
    """Pseudo-observations a channel, corrected by optional networks that see values (gaps as 0) and their mask.

    For Gaussian data the precisions are corrected by the mask alone: which channels can be relied on when others are
    missing. Windows with the same gaps then share all covariances, as in the linear model, and training is many times
    faster. For counts and heavy tails the precision follows the values too.

    Attributes:
        loadings: departure of the loadings from the decoder's.
        scale: relative departure of the scale.
        offset: departure of the offset.
        log_precision: departure of the log precision.
        log_spread: logarithm of the predictors' variances that the anchor presumes; of no effect for Gaussian noise.
        shift: network from (values, mask) of a step to corrections of its pseudo-observations; None for linear
            recognition.
        reliability: network from (mask) or (values, mask) to corrections of the log precisions; None likewise.
    """

    loadings: Float[Array, "channel state"]
    scale: Float[Array, " channel"]
    offset: Float[Array, " channel"]
    log_precision: Float[Array, " channel"]
    log_spread: Float[Array, " channel"]
    shift: Network | None
    reliability: Network | None

    def __call__(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        decoder: Decoder,
        likelihood: Likelihood,
    ) -> Potential:
        """One potential a step, from the values marked as observed and from those only.

        Args:
            values: one series; entries that are not observed are ignored, but must be finite.
            observed: what recognition may see.
            decoder: its linear part is what the pseudo-observations are of.
            likelihood: gives the pseudo-observations to start from.
        """
        seen = jnp.where(observed, values, 0.0)
        mask = observed.astype(seen.dtype)
        loadings = decoder.loadings + self.loadings
        anchor = likelihood.anchor(seen, decoder.offset, jnp.exp(self.log_spread))
        pseudo = (1 + self.scale)[None, :] * anchor.pseudo - self.offset[None, :]
        log_precision = jnp.broadcast_to(anchor.log_precision + self.log_precision[None, :], mask.shape)
        if self.shift is not None:
            pseudo = pseudo + jax.vmap(self.shift)(jnp.concatenate([seen, mask], axis=-1))
        if self.reliability is not None:
            narrow = self.reliability.n_in == mask.shape[-1]
            change = jax.vmap(self.reliability)(mask if narrow else jnp.concatenate([seen, mask], axis=-1))
            log_precision = log_precision + _MAX_LOG_CHANGE * jnp.tanh(change / _MAX_LOG_CHANGE)
        precision = jnp.where(observed, jnp.exp(log_precision), 0.0)
        outer = loadings[:, :, None] * loadings[:, None, :]
        return Potential(
            precision=jnp.tensordot(precision, outer, axes=1),
            shift=(precision * jnp.where(observed, pseudo, 0.0)) @ loadings,
        )

    @classmethod
    def at_anchor(
        cls,
        n_channels: int,
        latent_dim: int,
        dtype: jnp.dtype,
        *,
        hidden: tuple[int, ...] | None = None,
        by_values: bool = False,
        spread: Float[Array, " channel"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> "Recognition":
        """Recognition that begins as the anchor itself.

        Args:
            n_channels: D.
            latent_dim: K.
            dtype: of the parameters.
            hidden: widths of the networks' hidden layers; None leaves them out.
            by_values: the precisions may depend on the values too.
            spread: variances of the predictors; 1 by default.
            key: for the networks' first layers; by default always the same.
        """
        shift = reliability = None
        if hidden is not None:
            first, second = jr.split(jr.key(0) if key is None else key)
            shift = Network(2 * n_channels, n_channels, hidden, first, zero_output=True)
            sees = 2 * n_channels if by_values else n_channels
            reliability = Network(sees, n_channels, hidden, second, zero_output=True)
        return cls(
            loadings=jnp.zeros((n_channels, latent_dim), dtype),
            scale=jnp.zeros(n_channels, dtype),
            offset=jnp.zeros(n_channels, dtype),
            log_precision=jnp.zeros(n_channels, dtype),
            log_spread=jnp.zeros(n_channels, dtype) if spread is None else jnp.log(spread).astype(dtype),
            shift=shift,
            reliability=reliability,
        )


class FrameRecognition(eqx.Module):
    """Recognition of frames: the pixels' own potentials, moved and weighted in latent space by a convolutional network.

    With J and h from the pixels, the network's mean shift m and log weight w give the potential of precision exp(w) J
    and mean (mean of the pixels' potential) + m. Where no pixel is observed it is zero as ever.

    Attributes:
        pixels: one pseudo-observation a pixel, exact for a linear decoder.
        encoder: from (values, mask) of a frame to (m, w); its output starts at zero.
    """

    pixels: Recognition
    encoder: FrameEncoder

    def __call__(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        decoder: Decoder,
        likelihood: Likelihood,
    ) -> Potential:
        """One potential a step; see ``Recognition``."""
        linear = self.pixels(values, observed, decoder, likelihood)
        seen = jnp.where(observed, values, 0.0)
        change = jax.vmap(self.encoder)(jnp.concatenate([seen, observed.astype(seen.dtype)], axis=-1))
        shift, weight = change[:, :-1], change[:, -1]
        weight = jnp.exp(_MAX_FRAME_CHANGE * jnp.tanh(weight / _MAX_FRAME_CHANGE))
        return Potential(
            precision=weight[:, None, None] * linear.precision,
            shift=weight[:, None] * (linear.shift + jnp.einsum("tij,tj->ti", linear.precision, shift)),
        )


PotentialRecognition = Recognition | FrameRecognition
