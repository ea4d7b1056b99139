"""Frames of a swinging rod with pixel noise, after the pendulum of Becker et al. (2019) and Schirmer et al. (2022).

A rod of length 1 and mass 1 hangs from the centre of the frame, starts at rest at a random angle, swings under gravity
9.81 and friction 0.1, and gets a random push at every frame. Frames come every 0.05 seconds.
"""

import numpy as np
from jaxtyping import Float

from svae_cli.data.simulate.simulation import Simulation, stream
from svae_cli.errors import UsageError

SIDE = 24
"""Pixels along a side of a frame."""

_INTERVAL = 0.05  # seconds between frames
_SUBSTEPS = 20
_GRAVITY, _FRICTION, _INERTIA = 9.81, 0.1, 1 / 3  # the moment of inertia of a rod about its end
_LENGTH, _WIDTH = 45 / 128 * SIDE, 8 / 128 * SIDE  # of the drawn rod, in pixels


def simulate_pendulum(*, series: int, steps: int, seed: int, pixel_noise: float = 0.1, push: float = 0.1) -> Simulation:
    """Frames (series, time, 24, 24), brightness 0 to 1 plus pixel noise (not clipped).

    Truth: ``angle`` (series, time) in radians, 0 hanging down, not wrapped; ``velocity`` in radians a second.
    ``render`` gives the frames without noise.

    Args:
        series: number of series.
        steps: frames in each.
        seed: of all randomness.
        pixel_noise: standard deviation of the noise of each pixel.
        push: standard deviation of the change of velocity at each frame.

    Raises:
        UsageError: a negative option.
    """
    if min(pixel_noise, push) < 0:
        raise UsageError(f"pixel noise {pixel_noise}, push {push}; expected 0 or more")
    frames = np.empty((series, steps, SIDE, SIDE), np.float32)
    angles, velocities = np.empty((series, steps)), np.empty((series, steps))
    streams = [stream(seed, 1 + i) for i in range(series)]
    start = np.array([rng.uniform(-np.pi, np.pi) for rng in streams])
    pushes = push * np.stack([rng.normal(size=steps) for rng in streams])
    angles[:], velocities[:] = swing(start, pushes)
    for i, rng in enumerate(streams):
        noise = rng.standard_normal(size=frames.shape[1:], dtype=np.float32)
        frames[i] = render(angles[i]) + np.float32(pixel_noise) * noise
    truth = {"angle": angles.astype(np.float32), "velocity": velocities.astype(np.float32)}
    return Simulation(frames, truth, {"pixel_noise": pixel_noise, "push": push, "frame_seconds": _INTERVAL})


def swing(
    start: Float[np.ndarray, " series"], pushes: Float[np.ndarray, "series time"]
) -> tuple[Float[np.ndarray, "series time"], Float[np.ndarray, "series time"]]:
    """Angles and velocities at the frames, from rest at the angles ``start``; leapfrog steps of 2.5 ms.

    Args:
        start: angles at the first frame.
        pushes: changes of velocity, applied after each frame.
    """
    angles, velocities = np.empty(pushes.shape), np.empty(pushes.shape)
    angle, velocity, h = start.copy(), np.zeros(len(start)), _INTERVAL / _SUBSTEPS
    for t in range(pushes.shape[1]):
        angles[:, t], velocities[:, t] = angle, velocity
        velocity = velocity + pushes[:, t]
        for _ in range(_SUBSTEPS):
            half = velocity + h / 2 * _acceleration(angle, velocity)
            angle = angle + h * half
            velocity = half + h / 2 * _acceleration(angle, half)
    return angles, velocities


def _acceleration(angle: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    return -(_GRAVITY * np.sin(angle) + _FRICTION * velocity) / _INERTIA


def render(angles: Float[np.ndarray, " time"]) -> Float[np.ndarray, "time 24 24"]:
    """Frames of the rod at these angles: for each pixel the share of it that the rod covers.

    A pixel is taken as a square turned along the rod, so that its share is a product of two overlaps.
    """
    centre = np.arange(SIDE) + 0.5 - SIDE / 2
    across, down = centre[None, None, :], centre[None, :, None]
    sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    along = across * sine + down * cosine
    beside = across * cosine - down * sine
    return (_overlap(along, 0.0, _LENGTH) * _overlap(beside, -_WIDTH / 2, _WIDTH / 2)).astype(np.float32)


def _overlap(centre: np.ndarray, low: float, high: float) -> np.ndarray:
    """Length of the interval from ``low`` to ``high`` inside intervals of length 1 around the centres."""
    return np.clip(np.minimum(centre + 0.5, high) - np.maximum(centre - 0.5, low), 0.0, None)
