"""Network: a plain multilayer perceptron whose last layer can start at zero."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

LAYERS = (eqx.nn.Linear, eqx.nn.Conv, eqx.nn.ConvTranspose, eqx.nn.GRUCell)
"""What networks are made of, as against the parameters of prior, decoder and noise that have a meaning of their own."""


class Network(eqx.Module):
    """Linear layers with SiLU between them.

    Attributes:
        layers: the linear layers, input first.
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, n_in: int, n_out: int, hidden: tuple[int, ...], key: Key[Array, ""], *, zero_output: bool):
        widths = (n_in, *hidden, n_out)
        keys = jr.split(key, len(widths) - 1)
        layers = [eqx.nn.Linear(a, b, key=k) for a, b, k in zip(widths[:-1], widths[1:], keys, strict=True)]
        if zero_output:
            layers[-1] = jax.tree.map(jnp.zeros_like, layers[-1])
        self.layers = tuple(layers)

    @property
    def n_in(self) -> int:
        """Length of the input vector."""
        return self.layers[0].weight.shape[1]

    def __call__(self, x: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
        """The network's output for one input vector."""
        for layer in self.layers[:-1]:
            x = jax.nn.silu(layer(x))
        return self.layers[-1](x)
