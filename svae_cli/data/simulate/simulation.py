"""Simulation: what every simulator returns, and where its randomness comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

PARAMETERS = 0
"""Name of the random stream for parameters, see ``stream``."""


@dataclass(frozen=True)
class Simulation:
    """Simulated series, and the truth behind them.

    Attributes:
        data: the series, or frames (series, time, height, width); float32, NaN where a gap was asked for.
        truth: latent states, parameters and whatever else is true, by name.
        attributes: what was simulated and with which settings; plain numbers and strings.
    """

    data: Float[np.ndarray, "series time *channel"]
    truth: Mapping[str, np.ndarray]
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)


def stream(seed: int, which: int) -> np.random.Generator:
    """Random numbers for the parameters (``PARAMETERS``) or for series ``which - 1``.

    Each series has a stream of its own, so that more series leave the earlier ones as they were.
    """
    return np.random.default_rng([seed, which])
