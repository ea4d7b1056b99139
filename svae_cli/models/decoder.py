"""Decoders: from a latent state to one predictor a channel, always with a linear part that training starts from."""

import equinox as eqx
from jaxtyping import Array, Float

from svae_cli.models.frames import FrameDecoder
from svae_cli.models.network import Network


class LinearDecoder(eqx.Module):
    """predictor = C x + d.

    Attributes:
        loadings: C.
        offset: d.
    """

    loadings: Float[Array, "channel state"]
    offset: Float[Array, " channel"]

    def __call__(self, state: Float[Array, " state"]) -> Float[Array, " channel"]:
        """The predictor at one state."""
        return self.loadings @ state + self.offset


class NetworkDecoder(eqx.Module):
    """predictor = C x + d + network(x); the network's last layer starts at zero.

    Attributes:
        loadings: C.
        offset: d.
        network: the nonlinear part.
    """

    loadings: Float[Array, "channel state"]
    offset: Float[Array, " channel"]
    network: Network | FrameDecoder

    def __call__(self, state: Float[Array, " state"]) -> Float[Array, " channel"]:
        """The predictor at one state."""
        return self.loadings @ state + self.offset + self.network(state)


Decoder = LinearDecoder | NetworkDecoder
