"""Lag regression: the next values of a channel as a linear map of its own last ones, relative to the last.

A model of states goes on by its dynamics, one step after the other; a regression of what came on what was known is
tied to no dynamics. It is the NLinear of Zeng et al., "Are Transformers effective for time series forecasting?" (AAAI
2023), here fitted in closed form, as a mixture of maps that look back more and less far (``training/lag_start.py``).
It has a say in forecasts as far as it was right (``prediction/forecast_check.py``).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_AHEAD = 24  # steps of a map, at most: with more, forecasts of 96 steps were no better


class LagRegression(eqx.Module):
    """Maps for each channel, for as many steps as are known; they do not learn by gradients.

    Attributes:
        maps: from the last values, less the very last one, the oldest first, to the next ones, less the same; the first
            looks back farthest, each other one about half as far as the one before.
        optimism: squared errors on what a map was not learned from, relative to those on what it was; 1 or more.
    """

    maps: tuple[Float[Array, "channel _ ahead"], ...]
    optimism: Float[Array, " map"]

    @property
    def lags(self) -> int:
        """Steps looked back on at most."""
        return self.maps[0].shape[1]

    @property
    def ahead(self) -> int:
        """Steps that the maps go ahead."""
        return self.maps[0].shape[2]

    def fitting(self, known: Int[Array, ""]) -> Int[Array, ""]:
        """Which map looks back on so many steps, or fewer; the last one if none does."""
        lags = jnp.asarray([m.shape[1] for m in self.maps], known.dtype)
        return jnp.minimum(jnp.sum(known < lags), len(self.maps) - 1)

    def covered(self, known: Int[Array, ""]) -> Float[Array, ""]:
        """The share of what the fitting map looks back on that is known."""
        return jnp.minimum(1.0, known / self.maps[-1].shape[1])

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

    def continued(
        self, past: Float[Array, "lag channel"], known: Int[Array, ""], steps: int
    ) -> Float[Array, "ahead channel"]:
        """The next steps; beyond those of a map it goes on from its own forecasts.

        What is farther from the known values than these are from each other is drawn back to that.

        Args:
            past: the last values, all of them known or filled in.
            known: how many steps there were; of maps that look back on no more the one that does so farthest is asked.
            steps: how many are asked for.
        """
        low, high = (bound(past, axis=0, keepdims=True) for bound in (jnp.min, jnp.max))
        room = high - low
        maps = jnp.stack([_longer(m, self.lags) for m in self.maps])[self.fitting(known)]

        def block(before: Array, _: None) -> tuple[Array, Array]:
            found = before[-1:] + jnp.einsum("lc,cla->ac", before - before[-1:], maps)
            found = jnp.clip(found, low - room, high + room)
            return jnp.concatenate([before, found])[self.ahead :], found

        _, blocks = jax.lax.scan(block, past, None, length=-(-steps // self.ahead))
        return blocks.reshape(-1, past.shape[1])[:steps]

    @classmethod
    def unknown(cls, n_channels: int, lags: int, season: int) -> "LagRegression":
        """Maps to be filled in, such as with a file's: those of the last value."""
        maps = tuple(jnp.zeros((n_channels, back, steps_ahead(lags))) for back in lags_of_maps(lags, season))
        return cls(maps, jnp.ones(len(maps)))


def steps_ahead(lags: int) -> int:
    """How far the maps go that look back so many steps."""
    return min(_AHEAD, lags)


def lags_of_maps(lags: int, season: int) -> list[int]:
    """It and half of it, and half of that: whole seasons, as far as a map looks back as many steps as it goes ahead."""
    found, least = [lags], max(steps_ahead(lags), season, 1)
    while (half := found[-1] // (2 * max(season, 1)) * max(season, 1)) >= least:
        found.append(half)
    return found


def _longer(maps: Float[Array, "*n lag ahead"], lags: int) -> Float[Array, "*n longer ahead"]:
    """The same maps with weights of 0 for the steps before those that they look back on."""
    return jnp.pad(maps, (*((0, 0) for _ in maps.shape[:-2]), (lags - maps.shape[-2], 0), (0, 0)))
