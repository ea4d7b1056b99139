"""Spike counts of neurons that are driven by a Lorenz system, as in the LFADS benchmark (Sussillo et al. 2016)."""

import numpy as np
from jaxtyping import Float

from svae_cli.data.simulate.simulation import PARAMETERS, Simulation, stream
from svae_cli.errors import UsageError

_BIN = 0.01  # seconds
_TOP_RATE = 100.0  # spikes a second
_SUBSTEPS = 4
_SETTLING = 500  # bins until a random start is on the attractor


def simulate_lorenz_spikes(
    *,
    series: int,
    steps: int,
    seed: int,
    channels: int = 30,
    trials: int = 20,
    base_rate: float = 10.0,
    speed: float = 1.0,
) -> Simulation:
    """Poisson counts in bins of 10 ms; log rates are linear in the three standardised Lorenz coordinates.

    Trials of one condition share their latent path. Truth: ``condition`` (series,), ``latents`` (condition, time, 3),
    ``rates`` (condition, time, channel) in expected counts a bin, ``loadings`` (channel, 3).

    Args:
        series: number of trials in all.
        steps: bins in each.
        seed: of all randomness.
        channels: neurons.
        trials: trials of each condition.
        base_rate: rate in spikes a second where the Lorenz coordinates are at their mean.
        speed: Lorenz time in 10 ms, relative to 0.01.

    Raises:
        UsageError: an option that is not positive.
    """
    if min(channels, trials, base_rate, speed) <= 0:
        raise UsageError(
            f"channels {channels}, trials {trials}, base rate {base_rate}, speed {speed}; expected more than 0"
        )
    rng = stream(seed, PARAMETERS)
    direction = rng.normal(size=(channels, 3))
    loadings = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    conditions = -(-series // trials)
    starts = rng.normal(size=(conditions, 3)) * 5 + np.array([0.0, 0.0, 25.0])
    latents = _standardised(lorenz(starts, steps + _SETTLING, 0.01 * speed)[:, _SETTLING:])
    rates = np.minimum(base_rate * np.exp(latents @ loadings.T), _TOP_RATE) * _BIN
    condition = np.arange(series) // trials
    counts = np.stack([stream(seed, 1 + i).poisson(rates[condition[i]]) for i in range(series)])
    truth = {
        "condition": condition.astype(np.int32),
        "latents": latents.astype(np.float32),
        "rates": rates.astype(np.float32),
        "loadings": loadings,
    }
    return Simulation(counts.astype(np.float32), truth, {"bin_seconds": _BIN, "units": "spikes per bin"})


def lorenz(start: Float[np.ndarray, "path 3"], steps: int, dt: float) -> Float[np.ndarray, "path time 3"]:
    """Paths of the Lorenz system (10, 28, 8/3) from given starts, by Runge and Kutta's fourth order."""
    paths = np.empty((len(start), steps, 3))
    state, h = start, dt / _SUBSTEPS
    for t in range(steps):
        paths[:, t] = state
        for _ in range(_SUBSTEPS):
            a = _slope(state)
            b = _slope(state + h / 2 * a)
            c = _slope(state + h / 2 * b)
            d = _slope(state + h * c)
            state = state + h / 6 * (a + 2 * b + 2 * c + d)
    return paths


def _slope(state: np.ndarray) -> np.ndarray:
    x, y, z = state.T
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)


def _standardised(paths: np.ndarray) -> np.ndarray:
    """Coordinates with about mean 0 and variance 1 over the attractor, by its known moments."""
    return (paths - np.array([0.0, 0.0, 23.55])) / np.array([7.92, 9.01, 8.62])
