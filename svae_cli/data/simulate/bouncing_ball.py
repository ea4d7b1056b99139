"""A ball that bounces between two walls without loss (the setting of Ansari et al. 2023)."""

import numpy as np

from svae_cli.data.simulate.simulation import Simulation, stream
from svae_cli.errors import UsageError

_INTERVAL = 0.1


def simulate_bouncing_ball(*, series: int, steps: int, seed: int, noise: float = 0.05) -> Simulation:
    """Noisy positions between walls at -1 and 1, one channel, every 0.1 seconds; speeds from 0.05 to 0.5.

    Truth: ``position`` (series, time), ``velocity`` (series, time).

    Args:
        series: number of series.
        steps: steps in each.
        seed: of all randomness.
        noise: standard deviation of the observations' noise.

    Raises:
        UsageError: a negative noise.
    """
    if noise < 0:
        raise UsageError(f"--noise is {noise}; expected 0 or more")
    streams = [stream(seed, 1 + i) for i in range(series)]
    start = np.array([s.uniform(-1, 1) for s in streams])
    speed = np.array([s.uniform(0.05, 0.5) * s.choice([-1.0, 1.0]) for s in streams])
    # unfolded, the path is straight; the walls fold it with period 4
    way = np.mod(start[:, None] + 1 + speed[:, None] * _INTERVAL * np.arange(steps), 4.0)
    position = np.where(way < 2, way - 1, 3 - way)
    velocity = speed[:, None] * np.where(way < 2, 1.0, -1.0)
    errors = np.stack([s.normal(size=steps) for s in streams])
    data = (position + noise * errors)[:, :, None].astype(np.float32)
    truth = {"position": position.astype(np.float32), "velocity": velocity.astype(np.float32)}
    return Simulation(data, truth, {"noise": noise, "interval_seconds": _INTERVAL})
