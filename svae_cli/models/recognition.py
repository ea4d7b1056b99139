"""Recognition: from the observed values of one time step to a Gaussian potential over its latent state.

Every observed channel adds the potential of one pseudo-observation, so a channel that is missing adds exactly nothing
and a step with nothing observed gives the zero potential (docs/model.md, section 4). The pseudo-observations start as
the likelihood's own (``Anchor``), which is exact for a linear-Gaussian decoder; what is learned here is the departure
from them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from svae_cli.inference import Potential
from svae_cli.models.likelihoods import Anchor
from svae_cli.models.network import Network

_MAX_LOG_CHANGE = 3.0  # a network may change a channel's precision by a factor of at most exp(3) = 20


class Recognition(eqx.Module):
    """Pseudo-observations a channel, corrected by an optional network that sees values (gaps as 0) and their mask.

    Attributes:
        loadings: departure of the loadings from the anchor's.
        scale: relative departure of the scale.
        offset: departure of the offset.
        log_precision: departure of the log precision.
        network: maps (values, mask) of a step to corrections of its pseudo-observations and their log precisions; None
            for linear recognition.
    """

    loadings: Float[Array, "channel state"]
    scale: Float[Array, " channel"]
    offset: Float[Array, " channel"]
    log_precision: Float[Array, " channel"]
    network: Network | None

    def __call__(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        anchor: Anchor,
    ) -> Potential:
        """One potential a step, from the values marked as observed and from those only.

        Args:
            values: one series; entries that are not observed are ignored, but must be finite.
            observed: what recognition may see.
            anchor: the likelihood's own pseudo-observations.
        """
        seen = jnp.where(observed, values, 0.0)
        loadings = anchor.loadings + self.loadings
        pseudo = (anchor.scale * (1 + self.scale)) * seen - (anchor.offset + self.offset)
        log_precision = jnp.broadcast_to(anchor.log_precision + self.log_precision, seen.shape)
        if self.network is not None:
            features = jnp.concatenate([seen, observed.astype(seen.dtype)], axis=-1)
            shift, change = jnp.split(jax.vmap(self.network)(features), 2, axis=-1)
            pseudo = pseudo + shift
            log_precision = log_precision + _MAX_LOG_CHANGE * jnp.tanh(change / _MAX_LOG_CHANGE)
        precision = jnp.where(observed, jnp.exp(log_precision), 0.0)
        outer = loadings[:, :, None] * loadings[:, None, :]
        return Potential(
            precision=jnp.tensordot(precision, outer, axes=1),
            shift=(precision * jnp.where(observed, pseudo, 0.0)) @ loadings,
        )

    @classmethod
    def at_anchor(
        cls, n_channels: int, latent_dim: int, hidden: tuple[int, ...] | None, key: Key[Array, ""], dtype: jnp.dtype
    ) -> "Recognition":
        """Recognition that begins as the anchor itself; ``hidden=None`` leaves the network out."""
        network = None if hidden is None else Network(2 * n_channels, 2 * n_channels, hidden, key, zero_output=True)
        return cls(
            loadings=jnp.zeros((n_channels, latent_dim), dtype),
            scale=jnp.zeros(n_channels, dtype),
            offset=jnp.zeros(n_channels, dtype),
            log_precision=jnp.zeros(n_channels, dtype),
            network=network,
        )
