"""Networks for frames: a convolutional encoder of one frame, and a transposed-convolutional decoder to one.

A frame is a step's channels in row-major order: height, width and, if there are any, colours.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

_WIDTHS = (16, 32)  # channels after each halving of the frame


class FrameEncoder(eqx.Module):
    """Two strided convolutions over (values, mask) and two dense layers, the first of which sees other inputs too.

    Attributes:
        convolutions: each halves height and width.
        dense: to a hidden layer.
        output: to the result.
        shape: height, width, colours.
    """

    convolutions: tuple[eqx.nn.Conv2d, ...]
    dense: eqx.nn.Linear
    output: eqx.nn.Linear
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        channel_shape: tuple[int, ...],
        n_inputs: int,
        n_out: int,
        width: int,
        key: Key[Array, ""],
        *,
        zero_output: bool,
    ):
        keys = jr.split(key, 4)
        self.shape = frame_shape(channel_shape)
        height, across, colours = self.shape
        sizes = (2 * colours, *_WIDTHS)
        self.convolutions = tuple(
            eqx.nn.Conv2d(a, b, 3, stride=2, padding=1, key=k)
            for a, b, k in zip(sizes[:-1], sizes[1:], keys[:2], strict=True)
        )
        flat = _WIDTHS[-1] * _quarter(height) * _quarter(across)
        self.dense = eqx.nn.Linear(flat + n_inputs, width, key=keys[2])
        output = eqx.nn.Linear(width, n_out, key=keys[3])
        self.output = jax.tree.map(jnp.zeros_like, output) if zero_output else output

    def __call__(self, row: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
        """The result for one step: its values, their mask, then other inputs, in one vector."""
        height, across, colours = self.shape
        size = height * across * colours
        planes = row[: 2 * size].reshape(2, height, across, colours)
        found = jnp.moveaxis(planes, -1, 1).reshape(2 * colours, height, across)
        for layer in self.convolutions:
            found = jax.nn.silu(layer(found))
        whole = jnp.concatenate([found.reshape(-1), row[2 * size :]])
        return self.output(jax.nn.silu(self.dense(whole)))


class FrameDecoder(eqx.Module):
    """A dense layer and two transposed convolutions, from a latent state to a frame; the last layer starts at zero.

    Attributes:
        dense: to a small image of many channels.
        first: doubles height and width.
        second: doubles them again.
        shape: height, width, colours.
    """

    dense: eqx.nn.Linear
    first: eqx.nn.ConvTranspose2d
    second: eqx.nn.ConvTranspose2d
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(self, latent_dim: int, channel_shape: tuple[int, ...], key: Key[Array, ""]):
        keys = jr.split(key, 3)
        self.shape = frame_shape(channel_shape)
        height, across, colours = self.shape
        small, large = _WIDTHS
        self.dense = eqx.nn.Linear(latent_dim, large * _quarter(height) * _quarter(across), key=keys[0])
        self.first = eqx.nn.ConvTranspose2d(large, small, 4, stride=2, padding=1, key=keys[1])
        second = eqx.nn.ConvTranspose2d(small, colours, 4, stride=2, padding=1, key=keys[2])
        self.second = jax.tree.map(jnp.zeros_like, second)

    def __call__(self, state: Float[Array, " state"]) -> Float[Array, " channel"]:
        """The frame as one vector."""
        height, across, _ = self.shape
        small = self.dense(state).reshape(-1, _quarter(height), _quarter(across))
        found = self.second(jax.nn.silu(self.first(jax.nn.silu(small))))
        return jnp.moveaxis(found, 0, -1)[:height, :across].reshape(-1)


def frame_shape(channel_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and number of colours of (height, width) or (height, width, colours)."""
    return (channel_shape[0], channel_shape[1], channel_shape[2] if len(channel_shape) > 2 else 1)


def _quarter(size: int) -> int:
    """Half of half, rounded up each time."""
    return -(-size // 4)
