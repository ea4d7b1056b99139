"""Lag regression: the next values of a channel as a linear map of its own last ones, relative to the last.

A model of states goes on by its dynamics, one step after the other; a regression of what came on what was known is
tied to no dynamics. It is the NLinear of Zeng et al., "Are Transformers effective for time series forecasting?" (AAAI
2023), here fitted in closed form (``training/lag_start.py``). It has a say in forecasts as far as it was right
(``prediction/forecast_check.py``).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_AHEAD = 24  # steps of a map, at most: with more, forecasts of 96 steps were no better


class LagRegression(eqx.Module):
    """One map for each channel; it does not learn by gradients.

    Attributes:
        maps: from the last values, less the very last one, the oldest first, to the next ones, less the same.
        optimism: squared errors on what the maps were not learned from, relative to those on what they were; 1 or more.
    """

    maps: Float[Array, "channel lag ahead"]
    optimism: Float[Array, ""]

    @property
    def lags(self) -> int:
        """Steps looked back on."""
        return self.maps.shape[1]

    @property
    def ahead(self) -> int:
        """Steps that the maps go ahead."""
        return self.maps.shape[2]

    def last(
        self, values: Float[Array, "time channel"], origin: Int[Array, ""], period: int
    ) -> Float[Array, "lag channel"]:
        """The steps before an origin; those before the first one repeat the first cycle.

        Args:
            values: known up to the origin.
            origin: the first step that is not known; 1 or more.
            period: steps of a cycle; 1 without.
        """
        step = origin - self.lags + jnp.arange(self.lags)
        step = jnp.where(step < 0, step % period, step)
        return values[jnp.clip(step, 0, jnp.maximum(origin - 1, 0))]

    def continued(self, past: Float[Array, "lag channel"], steps: int) -> Float[Array, "ahead channel"]:
        """The next steps; beyond those of a map it goes on from its own forecasts.

        What is farther from the known values than these are from each other is drawn back to that.

        Args:
            past: the last values, all of them known or filled in.
            steps: how many are asked for.
        """
        low, high = (bound(past, axis=0, keepdims=True) for bound in (jnp.min, jnp.max))
        room = high - low

        def block(before: Array, _: None) -> tuple[Array, Array]:
            found = before[-1:] + jnp.einsum("lc,cla->ac", before - before[-1:], self.maps)
            found = jnp.clip(found, low - room, high + room)
            return jnp.concatenate([before, found])[self.ahead :], found

        _, blocks = jax.lax.scan(block, past, None, length=-(-steps // self.ahead))
        return blocks.reshape(-1, past.shape[1])[:steps]

    @classmethod
    def unknown(cls, n_channels: int, lags: int) -> "LagRegression":
        """Maps to be filled in, such as with a file's: those of the last value."""
        return cls(jnp.zeros((n_channels, lags, steps_ahead(lags))), jnp.ones(()))


def steps_ahead(lags: int) -> int:
    """How far the maps go that look back so many steps."""
    return min(_AHEAD, lags)
