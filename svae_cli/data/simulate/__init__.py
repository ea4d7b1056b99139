"""Simulated series with the truth behind them, for tests, tutorials and comparisons."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from svae_cli.data.gaps import GapPattern, hide
from svae_cli.data.simulate.bouncing_ball import simulate_bouncing_ball
from svae_cli.data.simulate.lds import simulate_lds, with_log_likelihood
from svae_cli.data.simulate.lorenz_spikes import simulate_lorenz_spikes
from svae_cli.data.simulate.nascar import simulate_nascar
from svae_cli.data.simulate.pendulum import simulate_pendulum
from svae_cli.data.simulate.simulation import Simulation, stream
from svae_cli.errors import UsageError

KINDS: dict[str, Callable[..., Simulation]] = {
    "lds": simulate_lds,
    "pendulum": simulate_pendulum,
    "lorenz-spikes": simulate_lorenz_spikes,
    "nascar": simulate_nascar,
    "bouncing-ball": simulate_bouncing_ball,
}
"""The simulators by name; their keyword arguments are the options."""

__all__ = ["KINDS", "Simulation", "options_of", "simulate"]

_GAPS = 2**31 - 1  # the stream that gaps are drawn from


def simulate(
    kind: str, *, series: int, steps: int, seed: int, gaps: GapPattern = "none", gap_rate: float = 0.2, **options: Any
) -> Simulation:
    """Simulated series of one kind; equal arguments give equal numbers.

    Args:
        kind: one of ``KINDS``.
        series: number of series.
        steps: steps in each.
        seed: every random choice follows from it.
        gaps: pattern of missing values (``svae_cli.data.gaps.hide``); in frames, whole frames go missing. The series
            without gaps are then kept as ``truth["data"]``.
        gap_rate: share of the values that go missing.
        options: the kind's own; see ``options_of``.

    Raises:
        UsageError: an unknown kind, option or pattern, or a number out of range.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if series < 1 or steps < 1:
        raise UsageError(f"{series} series of {steps} steps; expected 1 or more of each")
    if unknown := sorted(set(options) - set(options_of(kind))):
        known = ", ".join(_flag(name) for name in options_of(kind))
        raise UsageError(f"{kind} has no option {_flag(unknown[0])}", hint=f"one of {known}")
    plain = KINDS[kind](series=series, steps=steps, seed=seed, **options)
    done = _with_gaps(plain, gaps, gap_rate, seed)
    if kind == "lds":
        done = with_log_likelihood(done)
    made = {"kind": kind, "seed": seed, "gaps": gaps} | ({} if gaps == "none" else {"gap_rate": gap_rate})
    return Simulation(done.data, done.truth, {**made, **done.attributes})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def options_of(kind: str) -> dict[str, Any]:
    """The options of a kind beside series, steps and seed, with their defaults."""
    signature = inspect.signature(KINDS[kind])
    return {k: p.default for k, p in signature.parameters.items() if k not in ("series", "steps", "seed")}


def _with_gaps(simulation: Simulation, gaps: GapPattern, rate: float, seed: int) -> Simulation:
    if gaps == "none":
        return simulation
    data = simulation.data
    frames = data.ndim > 3
    observed = np.ones(data.shape[:2] + ((1,) if frames else data.shape[2:]), bool)
    hidden = hide(observed, gaps, rate, stream(seed, _GAPS))
    holed = np.where(hidden.reshape(hidden.shape + (1,) * (data.ndim - 3)), np.float32(np.nan), data)
    return Simulation(holed, {**simulation.truth, "data": data}, simulation.attributes)
