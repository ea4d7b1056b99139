"""Features of a whole series at each of its steps, from networks that look along time.

Steps after the last observed one are outside: they look like the zeros beyond the ends, so padding a series changes
nothing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

_LAYERS = 3
_KERNEL = 9  # steps; three layers see 12 steps to either side


class BidirectionalGRU(eqx.Module):
    """Two gated recurrent units, one from each end, their states side by side.

    Attributes:
        forward: from the first step on.
        backward: from the last observed step back.
    """

    forward: eqx.nn.GRUCell
    backward: eqx.nn.GRUCell

    def __init__(self, width: int, key: Key[Array, ""]):
        first, second = jr.split(key)
        self.forward = eqx.nn.GRUCell(width, width, key=first)
        self.backward = eqx.nn.GRUCell(width, width, key=second)

    @property
    def n_out(self) -> int:
        """Length of a step's features."""
        return 2 * self.forward.hidden_size

    def __call__(self, steps: Float[Array, "time width"], last: Int[Array, ""]) -> Float[Array, "time feature"]:
        """Features of each step.

        Args:
            steps: what was seen at each step, encoded.
            last: index of the last observed step, -1 if there is none.
        """

        def onward(state, step):
            state = self.forward(step, state)
            return state, state

        def back(state, row):
            step, inside = row
            state = jnp.where(inside, self.backward(step, state), 0.0)
            return state, state

        start = jnp.zeros(self.forward.hidden_size, steps.dtype)
        inside = jnp.arange(len(steps)) <= last
        before = jax.lax.scan(onward, start, steps)[1]
        after = jax.lax.scan(back, start, (steps, inside), reverse=True)[1]
        return jnp.concatenate([before, after], axis=-1)


class TemporalConvolution(eqx.Module):
    """Three convolutions along time with SiLU between them: a finite window around each step.

    Attributes:
        layers: the convolutions.
    """

    layers: tuple[eqx.nn.Conv1d, ...]

    def __init__(self, width: int, key: Key[Array, ""]):
        keys = jr.split(key, _LAYERS)
        self.layers = tuple(eqx.nn.Conv1d(width, width, _KERNEL, padding=_KERNEL // 2, key=k) for k in keys)

    @property
    def n_out(self) -> int:
        """Length of a step's features."""
        return self.layers[0].out_channels

    def __call__(self, steps: Float[Array, "time width"], last: Int[Array, ""]) -> Float[Array, "time feature"]:
        """Features of each step; see ``BidirectionalGRU``."""
        inside = (jnp.arange(len(steps)) <= last)[None, :]
        found = steps.T
        for layer in self.layers:
            found = jax.nn.silu(layer(jnp.where(inside, found, 0.0)))
        return found.T


Features = BidirectionalGRU | TemporalConvolution
