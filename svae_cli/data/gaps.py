"""Patterns of hiding: which observed values are held back, for masked training and for scoring imputations."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from svae_cli.errors import UsageError

GapPattern = Literal["none", "point", "window", "block", "channel", "tail", "mixed"]
"""What ``hide`` understands; see there. "block" is another word for "window"."""


def hide(
    observed: Bool[np.ndarray, "*series time channel"], pattern: GapPattern, rate: float, rng: np.random.Generator
) -> Bool[np.ndarray, "*series time channel"]:
    """True where an observed value is held back; never where nothing was observed.

    A series' steps are those up to its last observed one, so that padding is not taken for data. At least one step
    of a series stays visible under "window" and "tail".

        none     nothing is hidden
        point    each value by itself, with probability ``rate``
        window   one contiguous run of ``rate`` of the steps, all channels ("block" is the same)
        channel  some channels, each over its own contiguous run of about half of the steps, ``rate`` in all
        tail     the last ``rate`` of the steps, all channels
        mixed    each series draws one of point, window, channel and tail

    Args:
        observed: True where there is a value; one series or a batch of them.
        pattern: one of the above.
        rate: share hidden, 0 up to, not including, 1.
        rng: the source of all randomness.

    Raises:
        UsageError: an unknown pattern, or a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise UsageError(f"the share of hidden values is {rate}; expected 0 up to, not including, 1")
    if pattern not in ("none", "mixed", *_PATTERNS):
        raise UsageError(f"unknown gap pattern {pattern!r}", hint=f"one of none, {', '.join(_PATTERNS)}, mixed")
    seen = observed if observed.ndim == 3 else observed[None]
    if pattern == "none" or rate == 0 or seen.size == 0:
        return np.zeros_like(observed, dtype=bool)
    lengths = _lengths(seen)
    if pattern != "mixed":
        hidden = _PATTERNS[pattern](lengths, seen, rate, rng) & seen
    else:
        hidden = np.empty(seen.shape, bool)
        drawn = rng.integers(len(_MIXED), size=len(seen))
        for which, name in enumerate(_MIXED):
            rows = np.flatnonzero(drawn == which)
            if rows.size:
                hidden[rows] = _PATTERNS[name](lengths[rows], seen[rows], rate, rng) & seen[rows]
    return hidden.reshape(observed.shape)


def _lengths(seen: Bool[np.ndarray, "series time channel"]) -> Int[np.ndarray, " series"]:
    """Steps up to the last one with a value."""
    stop = np.arange(1, seen.shape[1] + 1)
    return np.max(np.where(np.any(seen, axis=2), stop, 0), axis=1)


def _share(lengths: np.ndarray, share: float) -> np.ndarray:
    """That share of the steps, at least one and leaving at least one."""
    return np.clip(np.rint(lengths * share).astype(int), 1, np.maximum(lengths - 1, 0))


def _between(first: np.ndarray, stop: np.ndarray, steps: int) -> np.ndarray:
    """True from ``first`` up to ``stop``, (series, channel or 1) both, as (series, steps, channel or 1)."""
    step = np.arange(steps, dtype=np.int32)[:, None]
    return (step >= first.astype(np.int32)[:, None]) & (step < stop.astype(np.int32)[:, None])


def _point(lengths: np.ndarray, seen: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    return rng.random(seen.shape, dtype=np.float32) < rate


def _window(lengths: np.ndarray, seen: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    run = _share(lengths, rate)
    first = (rng.random(len(seen)) * (lengths - run + 1)).astype(int)
    return np.broadcast_to(_between(first[:, None], (first + run)[:, None], seen.shape[1]), seen.shape)


def _tail(lengths: np.ndarray, seen: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    first = lengths - _share(lengths, rate)
    return np.broadcast_to(_between(first[:, None], lengths[:, None], seen.shape[1]), seen.shape)


def _channel(lengths: np.ndarray, seen: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    count, steps, width = seen.shape
    chosen = max(1, round(width * rate / max(0.5, rate**0.5)))
    run = _share(lengths, min(1.0, rate * width / chosen))[:, None]
    first = (rng.random((count, width)) * (lengths[:, None] - run + 1)).astype(int)
    rank = np.argsort(np.argsort(rng.random((count, width)), axis=1), axis=1)
    return _between(first, np.where(rank < chosen, first + run, 0), steps)


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "point": _point,
    "window": _window,
    "block": _window,
    "channel": _channel,
    "tail": _tail,
}
_MIXED = ("point", "window", "channel", "tail")
