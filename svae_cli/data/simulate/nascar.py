"""A car on an oval track: two straights and two turns, a recurrent switching linear system (Linderman et al. 2017)."""

import numpy as np
from jaxtyping import Float, Int

from svae_cli.data.simulate.simulation import PARAMETERS, Simulation, stream
from svae_cli.errors import UsageError

_SHARPNESS = 100.0
_TURNS = ((2.0, 0.0, np.pi / 24), (-2.0, 0.0, np.pi / 48))  # centre and angle a step, clockwise
_STRAIGHTS = ((0.1, 0.0), (-0.25, 0.0))  # way a step
# which of the four is driven: the largest of these functions of the position, nearly always
_WEIGHTS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
_OFFSETS = np.array([-2.0, -2.0, 0.0, 0.0])


def simulate_nascar(
    *,
    series: int,
    steps: int,
    seed: int,
    channels: int = 10,
    dynamics_noise: float = 1e-4,
    emission_noise: float = 1e-2,
) -> Simulation:
    """Linear Gaussian observations of a point that drives around the track.

    Truth: ``latents`` (series, time, 2), ``states`` (series, time) of 0 and 1 (turns), 2 and 3 (straights),
    ``emission`` (channel, 2), ``offset`` (channel,).

    Args:
        series: number of series.
        steps: steps in each.
        seed: of all randomness.
        channels: observed channels.
        dynamics_noise: variance of the position's noise.
        emission_noise: variance of the observations' noise.

    Raises:
        UsageError: no channels, or a negative variance.
    """
    if channels < 1 or min(dynamics_noise, emission_noise) < 0:
        raise UsageError(
            f"channels {channels}, noise variances {dynamics_noise} and {emission_noise}; "
            "expected a channel at least, and variances of 0 or more"
        )
    rng = stream(seed, PARAMETERS)
    emission, offset = rng.normal(size=(channels, 2)), rng.normal(size=channels)
    streams = [stream(seed, 1 + i) for i in range(series)]
    start = np.array([s.uniform(-1, 1, size=2) + (0.0, 1.5) for s in streams])
    choice = np.stack([s.gumbel(size=(steps, 4)) for s in streams])
    noise = np.stack([s.normal(size=(steps, 2 + channels)) for s in streams])
    latents, states = drive(start, choice, np.sqrt(dynamics_noise) * noise[:, :, :2])
    data = latents @ emission.T + offset + np.sqrt(emission_noise) * noise[:, :, 2:]
    truth = {"latents": latents.astype(np.float32), "states": states, "emission": emission, "offset": offset}
    attributes = {"dynamics_noise": dynamics_noise, "emission_noise": emission_noise}
    return Simulation(data.astype(np.float32), truth, attributes)


def drive(
    start: Float[np.ndarray, "series 2"],
    choice: Float[np.ndarray, "series time 4"],
    noise: Float[np.ndarray, "series time 2"],
) -> tuple[Float[np.ndarray, "series time 2"], Int[np.ndarray, "series time"]]:
    """Positions, and the state that led from each to the next.

    Args:
        start: first positions.
        choice: Gumbel noise that draws the states.
        noise: added to the position at each step.
    """
    turn, shift = _moves()
    latents, states = np.empty(noise.shape), np.empty(noise.shape[:2], np.int8)
    position = start
    for t in range(noise.shape[1]):
        latents[:, t] = position
        state = np.argmax(_SHARPNESS * (position @ _WEIGHTS.T + _OFFSETS) + choice[:, t], axis=1)
        states[:, t] = state
        position = (turn[state] @ position[:, :, None])[:, :, 0] + shift[state] + noise[:, t]
    return latents, states


def _moves() -> tuple[Float[np.ndarray, "4 2 2"], Float[np.ndarray, "4 2"]]:
    """Matrix and shift of each state."""
    turns, shifts = [], []
    for x, y, angle in _TURNS:
        centre = np.array([x, y])
        turns.append(np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]))
        shifts.append(centre - turns[-1] @ centre)
    for way in _STRAIGHTS:
        turns.append(np.eye(2))
        shifts.append(np.array(way))
    return np.stack(turns), np.stack(shifts)
