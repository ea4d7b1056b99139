"""A linear dynamical system with Gaussian noise, and the exact likelihood of what it produced.

The three sizes are those of Zhao and Linderman (2023): a slow rotation in one plane of a random basis, all other
directions without decay.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from svae_cli.data.simulate.simulation import PARAMETERS, Simulation, stream
from svae_cli.errors import UsageError

SIZES = {"small": (3, 5, 0.01, 10.0), "medium": (5, 10, 0.1, 1.0), "large": (10, 20, 0.1, 0.1)}
"""Latent dimensions, channels, variance of the dynamics' noise and of the observations'."""

_ROTATION = np.pi / 20


@dataclass(frozen=True)
class System:
    """The parameters of a linear dynamical system.

    Attributes:
        dynamics: A of x' = A x + noise.
        dynamics_noise: variance of that noise in every direction; also of the first state.
        initial_mean: mean of the first state.
        emission: C of y = C x + offset + noise.
        offset: of the observations.
        emission_noise: variance of the observations' noise in every channel.
    """

    dynamics: Float[np.ndarray, "latent latent"]
    dynamics_noise: float
    initial_mean: Float[np.ndarray, " latent"]
    emission: Float[np.ndarray, "channel latent"]
    offset: Float[np.ndarray, " channel"]
    emission_noise: float


def simulate_lds(
    *,
    series: int,
    steps: int,
    seed: int,
    size: str = "medium",
    latent_dim: int | None = None,
    channels: int | None = None,
    dynamics_noise: float | None = None,
    emission_noise: float | None = None,
) -> Simulation:
    """A linear dynamical system drawn at random.

    Truth: ``latents``, the fields of ``System``, and the exact ``log_likelihood`` of each series; the attribute
    ``log_likelihood_per_value`` is its mean in nats.

    Args:
        series: number of series.
        steps: steps in each.
        seed: of all randomness.
        size: "small", "medium" or "large"; sets what the following do not.
        latent_dim: latent dimensions.
        channels: observed channels.
        dynamics_noise: variance of the dynamics' noise.
        emission_noise: variance of the observations' noise.

    Raises:
        UsageError: an unknown size, or a variance or a number that is not positive.
    """
    if size not in SIZES:
        raise UsageError(f"unknown size {size!r}", hint=f"one of {', '.join(SIZES)}")
    given = (latent_dim, channels, dynamics_noise, emission_noise)
    width, observed, q, r = (
        value if value is not None else usual for value, usual in zip(given, SIZES[size], strict=True)
    )
    if min(width, observed, q, r) <= 0:
        raise UsageError(
            f"an LDS with {width} latent dimensions, {observed} channels and noise variances {q} and {r}; "
            "expected positive numbers"
        )
    system = draw_system(int(width), int(observed), float(q), float(r), stream(seed, PARAMETERS))
    latents, data = _run(system, series, steps, seed)
    data = data.astype(np.float32)
    truth = {"latents": latents.astype(np.float32)} | {k: np.asarray(v) for k, v in vars(system).items()}
    return Simulation(data, truth, {"size": size})


def draw_system(width: int, observed: int, q: float, r: float, rng: np.random.Generator) -> System:
    """A random system of these dimensions and noise variances."""
    basis, _ = np.linalg.qr(rng.normal(size=(width, width)))
    rotation = np.eye(width)
    if width > 1:
        cosine, sine = np.cos(_ROTATION), np.sin(_ROTATION)
        rotation[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return System(
        dynamics=basis @ rotation @ basis.T,
        dynamics_noise=q,
        initial_mean=rng.normal(size=width),
        emission=rng.normal(size=(observed, width)),
        offset=rng.normal(size=observed),
        emission_noise=r,
    )


def _run(system: System, series: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent states (series, time, latent) and observations (series, time, channel)."""
    observed, width = system.emission.shape
    noise = np.stack([stream(seed, 1 + i).normal(size=(steps, width + observed)) for i in range(series)])
    latents = np.empty((series, steps, width))
    latents[:, 0] = system.initial_mean + np.sqrt(system.dynamics_noise) * noise[:, 0, :width]
    for t in range(1, steps):
        shock = np.sqrt(system.dynamics_noise) * noise[:, t, :width]
        latents[:, t] = latents[:, t - 1] @ system.dynamics.T + shock
    emitted = latents @ system.emission.T + system.offset
    return latents, emitted + np.sqrt(system.emission_noise) * noise[:, :, width:]


def with_log_likelihood(simulation: Simulation) -> Simulation:
    """The simulation with the exact likelihood of its data, gaps left out, among its truth."""
    truth = simulation.truth
    system = System(
        dynamics=truth["dynamics"],
        dynamics_noise=float(truth["dynamics_noise"]),
        initial_mean=truth["initial_mean"],
        emission=truth["emission"],
        offset=truth["offset"],
        emission_noise=float(truth["emission_noise"]),
    )
    exact = log_likelihood(system, simulation.data)
    count = int((~np.isnan(simulation.data)).sum())
    return Simulation(
        simulation.data,
        {**truth, "log_likelihood": exact},
        {**simulation.attributes, "log_likelihood_per_value": float(exact.sum() / max(count, 1))},
    )


def log_likelihood(system: System, data: Float[np.ndarray, "series time channel"]) -> Float[np.ndarray, " series"]:
    """Exact log p(y) of each series in nats, over its observed values only, by a Kalman filter in float64."""
    seen = ~np.isnan(data)
    width = system.emission.shape[1]
    noise = system.dynamics_noise * np.eye(width)
    mean = np.broadcast_to(system.initial_mean, (len(data), width))
    cov = np.broadcast_to(noise, (len(data), width, width))
    total = np.zeros(len(data))
    for t in range(data.shape[1]):
        residual = np.where(seen[:, t], data[:, t] - mean @ system.emission.T - system.offset, 0.0)
        precision = np.einsum("nd,dj,dk->njk", seen[:, t] / system.emission_noise, system.emission, system.emission)
        shift = residual @ system.emission / system.emission_noise
        # with P the predicted covariance and J, h the information of this step: (P^-1 + J)^-1 = (I + P J)^-1 P
        gain = np.eye(width) + cov @ precision
        filtered = np.linalg.solve(gain, cov)
        move = (filtered @ shift[:, :, None])[:, :, 0]
        count = seen[:, t].sum(axis=1)
        total -= 0.5 * count * np.log(2 * np.pi * system.emission_noise) + 0.5 * np.linalg.slogdet(gain)[1]
        total -= 0.5 * (np.square(residual).sum(axis=1) / system.emission_noise - (shift * move).sum(axis=1))
        mean = (mean + move) @ system.dynamics.T
        cov = system.dynamics @ filtered @ system.dynamics.T + noise
        cov = 0.5 * (cov + np.swapaxes(cov, 1, 2))
    return total
