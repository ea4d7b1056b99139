"""What the trained model answers, one series at a time, in the data's own units; plain NumPy."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


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


@dataclass(frozen=True)
class LatentPath:
    """The posterior of one series' latent states.

    Attributes:
        key: the series' name.
        mean: posterior means.
        cov: posterior covariances.
    """

    key: str
    mean: Float[np.ndarray, "time latent"]
    cov: Float[np.ndarray, "time latent latent"]
