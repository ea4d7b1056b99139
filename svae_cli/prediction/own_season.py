"""Which season a channel keeps to: the model's, or the shorter one within it, as weather has days but no weeks."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from svae_cli.models.season import SeasonMemory

Said = TypeVar("Said")


class OwnSeason(NamedTuple):
    """The seasons that the simple ways of the checks repeat.

    Attributes:
        period: steps of the model's season; None if it has none.
        within: steps of the shorter season within it, if there is one.
        shorter: channels that change less over that; one bit of each channel that what a check hides has a say in.
    """

    period: int | None
    within: int | None = None
    shorter: Bool[Array, " channel"] | bool = False

    @classmethod
    def of(
        cls, season: SeasonMemory | None, values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]
    ) -> "OwnSeason":
        """By the mean squared change over either; where too little is known to tell, the shorter one.

        Args:
            season: the model's.
            values: finite everywhere.
            observed: which of them count.
        """
        if season is None or season.within is None:
            return cls(None if season is None else season.period)
        near, far = (_change(values, observed, memory.period) for memory in (season.within, season))
        return cls(season.period, season.within.period, near <= far)

    def choose(self, said: Callable[[int | None], Said]) -> Said:
        """What is said of each channel, the last axis of all arrays, by its own season.

        Args:
            said: what seasons of so many steps say; of the same shapes for all.
        """
        if self.within is None:
            return said(self.period)
        choose = partial(jnp.where, self.shorter)
        return jax.tree.map(choose, said(self.within), said(self.period))


def _change(
    values: Float[Array, "time channel"], observed: Bool[Array, "time channel"], lag: int
) -> Float[Array, " channel"]:
    """Mean squared change over a lag; infinite where no two values are so far apart."""
    if lag >= len(values):
        return jnp.full(values.shape[1], jnp.inf, values.dtype)
    both = observed[lag:] & observed[:-lag]
    total = jnp.sum(jnp.where(both, values[lag:] - values[:-lag], 0.0) ** 2, axis=0)
    count = jnp.sum(both.astype(values.dtype), axis=0)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.inf)
