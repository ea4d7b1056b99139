"""Parts of the season: sums over the steps of a series told apart by their phase.

No clock is needed: phases count from a step of the very series that is asked about. A period of 1 is no season.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_PARTS = 48  # of a season, at most: of a year's days each has too few errors


def parts_of(period: int) -> int:
    """Parts of a season that are told apart."""
    return min(period, _PARTS)


def part_at(step: Int[Array, " time"], period: int) -> Int[Array, " time"]:
    """The part of the season that each step is in; the first begins at step 0."""
    return step % period * parts_of(period) // period


def in_cycles(series: Float[Array, "*n time channel"], period: int) -> Float[Array, "*n cycle phase channel"]:
    """A series cut into cycles, the last one filled up with zeros; one shorter than a cycle has fewer phases."""
    *before, steps, channels = series.shape
    phases = min(period, steps)
    missing = -steps % phases
    padded = jnp.pad(series, [(0, 0)] * len(before) + [(0, missing), (0, 0)])
    return padded.reshape(*before, (steps + missing) // phases, phases, channels)


def in_parts(
    sums: Float[Array, "*n phase channel"], first: Int[Array, ""] | int, period: int
) -> Float[Array, "*n part channel"]:
    """Sums over phases as sums over the parts of the season.

    Args:
        sums: by phase, of which there are ``period`` or fewer.
        first: the step of the first phase, counted as in ``part_at``.
        period: steps of a season.
    """
    *before, phases, channels = sums.shape
    empty = jnp.zeros((*before, parts_of(period), channels), sums.dtype)
    return empty.at[..., part_at(first + jnp.arange(phases), period), :].add(sums)
