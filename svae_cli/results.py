"""What the trained model answers, one series at a time, in the data's own units; plain NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float

_TIME_AXIS = {"samples": 1}

Result = TypeVar("Result", bound="Prediction | LatentPath")


def join(first: Result, more: Sequence[Result]) -> Result:
    """A piece of a long series and those that follow it as one."""
    joined: dict[str, Any] = {}
    for field in fields(first):
        arrays = [getattr(part, field.name) for part in (first, *more)]
        if isinstance(arrays[0], np.ndarray):
            joined[field.name] = np.concatenate(arrays, axis=_TIME_AXIS.get(field.name, 0))
    return replace(first, **joined)


@dataclass(frozen=True)
class Prediction:
    """An imputation or a forecast of one series.

    Attributes:
        key: the series' name.
        mean: predictive mean.
        std: predictive standard deviation, observation noise included.
        quantiles: one slice a level of the caller's list, or None.
        samples: joint sample paths over time and channels, or None.
        values: (imputation) the input with its gaps filled; observed values are untouched.
        observed: (imputation) True where the input had a value.
        latent_mean: posterior means of the latent states, or None.
        latent_cov: their covariances, or None.
        ignored: known values that count as missing because they cannot be (``prediction/glitches.py``): (imputation) of
            these steps, where ``mean`` repeats them all the same, (forecast) of the known steps before, with the first
            piece; None if that was not looked for.
        start: first step of this piece among the steps answered for the series; 0 begins a series.
    """

    key: str
    mean: Float[np.ndarray, "time channel"]
    std: Float[np.ndarray, "time channel"]
    quantiles: Float[np.ndarray, "time channel quantile"] | None = None
    samples: Float[np.ndarray, "sample time channel"] | None = None
    values: Float[np.ndarray, "time channel"] | None = None
    observed: Bool[np.ndarray, "time channel"] | None = None
    latent_mean: Float[np.ndarray, "time latent"] | None = None
    latent_cov: Float[np.ndarray, "time latent latent"] | None = None
    ignored: Bool[np.ndarray, "known channel"] | None = None
    start: int = 0


@dataclass(frozen=True)
class LatentPath:
    """The posterior of one series' latent states.

    Attributes:
        key: the series' name.
        mean: posterior means.
        cov: posterior covariances.
        start: first step of this piece in the series.
    """

    key: str
    mean: Float[np.ndarray, "time latent"]
    cov: Float[np.ndarray, "time latent latent"]
    start: int = 0
