"""Scores of predictions: how far off the point is, how good the distribution is, whether the intervals hold.

Each ``crps_*`` function scores every value by itself; ``score`` gathers the means of all scores. Lower is better,
coverage apart. The closed CRPS is in Gneiting and Raftery (2007), equation 21; bits per spike is the definition of the
Neural Latents Benchmark (Pei et al. 2021).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln, ndtr, ndtri

from svae_cli.errors import NumericalError

LEVELS = np.array([0.025, *np.round(np.arange(0.05, 0.951, 0.05), 2), 0.975])
"""Quantile levels that ``score`` needs of a prediction that is not Gaussian: 21 of them, symmetric about a half."""

INTERVALS = (50, 80, 90, 95)
"""Central intervals whose coverage and width are scored, in per cent."""

_SMALLEST_RATE = 1e-9
_SMALLEST_STD = 1e-100


@dataclass(frozen=True)
class Predictive:
    """Predicted distributions of some values.

    Attributes:
        mean: predictive means.
        std: predictive standard deviations, noise included.
        quantiles: at ``LEVELS``, where the distribution is not Gaussian; without them mean and std are the whole of it.
    """

    mean: Float[np.ndarray, " value"]
    std: Float[np.ndarray, " value"]
    quantiles: Float[np.ndarray, "value quantile"] | None = None

    def at(self, chosen: np.ndarray) -> "Predictive":
        """The chosen values only, by index or by Boolean mask."""
        quantiles = None if self.quantiles is None else self.quantiles[chosen]
        return Predictive(self.mean[chosen], self.std[chosen], quantiles)

    def scaled(self, shift: np.ndarray, scale: np.ndarray) -> "Predictive":
        """The distributions of ``(value - shift) / scale``."""
        quantiles = None if self.quantiles is None else (self.quantiles - shift[:, None]) / scale[:, None]
        return Predictive((self.mean - shift) / scale, self.std / scale, quantiles)

    def levels(self) -> Float[np.ndarray, "value quantile"]:
        """Quantiles at ``LEVELS``, those of a Gaussian if no others are known."""
        if self.quantiles is not None:
            return self.quantiles
        return self.mean[:, None] + self.std[:, None] * ndtri(LEVELS)


def score(
    truth: Float[np.ndarray, " value"], predicted: Predictive, *, likelihood: str | None = "gaussian"
) -> dict[str, float]:
    """Mean scores over values: mae, rmse, mre, crps, nll, cov50 ... cov95 and width50 ... width95.

    Args:
        truth: what was really there.
        predicted: the distributions predicted for it.
        likelihood: density behind ``nll``: "gaussian", "poisson" or "bernoulli"; the last two read the mean only. None
            leaves ``nll`` out, where moments do not tell the density.

    Raises:
        NumericalError: a prediction or a true value is not finite, or there are none.
    """
    _check(truth, predicted)
    error = np.abs(predicted.mean - truth)
    size = np.abs(truth).sum()
    if predicted.quantiles is None:
        crps = crps_gaussian(predicted.mean, predicted.std, truth)
    else:
        crps = crps_quantiles(predicted.quantiles, LEVELS, truth)
    scores = {
        "mae": float(error.mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mre": float(error.sum() / size) if size > 0 else float("nan"),
        "crps": float(crps.mean()),
    }
    if likelihood is not None:
        density = negative_log_likelihood(predicted.mean, predicted.std, truth, likelihood=likelihood)
        scores["nll"] = float(density.mean())
    return scores | _intervals(truth, predicted)


def _check(truth: np.ndarray, predicted: Predictive) -> None:
    if truth.size == 0:
        raise NumericalError("there is no value to score")
    for name, array in (("true", truth), ("predicted", predicted.mean), ("predicted", predicted.std)):
        if bad := int((~np.isfinite(array)).sum()):
            raise NumericalError(f"{bad} of {array.size} {name} values are not finite; they cannot be scored")
    if predicted.quantiles is not None and not np.isfinite(predicted.quantiles).all():
        raise NumericalError("some predicted quantiles are not finite; they cannot be scored")
    if (predicted.std < 0).any():
        raise NumericalError("some predicted standard deviations are negative; they cannot be scored")


def _intervals(truth: np.ndarray, predicted: Predictive) -> dict[str, float]:
    edges = predicted.levels()
    bounds = {}
    for percent in INTERVALS:
        tail = int(np.argmin(np.abs(LEVELS - (0.5 - percent / 200))))
        bounds[percent] = (edges[:, tail], edges[:, len(LEVELS) - 1 - tail])
    coverage = {f"cov{p}": float(((truth >= low) & (truth <= high)).mean()) for p, (low, high) in bounds.items()}
    return coverage | {f"width{p}": float((high - low).mean()) for p, (low, high) in bounds.items()}


def crps_gaussian(
    mean: Float[np.ndarray, "..."], std: Float[np.ndarray, "..."], truth: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Continuous ranked probability score of Gaussians, closed form; a std of 0 gives the absolute error."""
    std = np.maximum(std, _SMALLEST_STD)
    z = (truth - mean) / std
    density = np.exp(-0.5 * np.square(np.clip(z, -40, 40))) / np.sqrt(2 * np.pi)
    return std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def crps_quantiles(
    quantiles: Float[np.ndarray, "... quantile"],
    levels: Float[np.ndarray, " quantile"],
    truth: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """Twice the integral of the pinball loss over the level, by the trapezoid rule with a loss of 0 at levels 0 and 1.

    With 21 levels it lies up to 1 % below the exact score of a Gaussian.
    """
    error = truth[..., None] - quantiles
    loss = np.maximum(levels * error, (levels - 1) * error)
    padded = np.concatenate([[0.0], levels, [1.0]])
    return loss @ (padded[2:] - padded[:-2])


def crps_samples(samples: Float[np.ndarray, "sample ..."], truth: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """E|X - y| - E|X - X'| / 2 with the unbiased ("fair") second term; two samples at least."""
    count = len(samples)
    weights = (2.0 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
    spread = np.tensordot(weights, np.sort(samples, axis=0), axes=1)
    return np.abs(samples - truth).mean(axis=0) - spread


def negative_log_likelihood(
    mean: Float[np.ndarray, "..."],
    std: Float[np.ndarray, "..."],
    truth: Float[np.ndarray, "..."],
    *,
    likelihood: str = "gaussian",
) -> Float[np.ndarray, "..."]:
    """Minus the log density of each value, in nats, under a distribution with these moments.

    Args:
        mean: the mean; the rate for "poisson", the probability for "bernoulli".
        std: the standard deviation; read for "gaussian" only.
        truth: the values.
        likelihood: "gaussian", "poisson" or "bernoulli"; anything else is scored as Gaussian.
    """
    if likelihood == "poisson":
        rate = np.maximum(mean, _SMALLEST_RATE)
        return rate - truth * np.log(rate) + gammaln(truth + 1)
    if likelihood == "bernoulli":
        share = np.clip(mean, _SMALLEST_RATE, 1 - _SMALLEST_RATE)
        return -(truth * np.log(share) + (1 - truth) * np.log1p(-share))
    std = np.maximum(std, _SMALLEST_STD)
    return 0.5 * np.square((truth - mean) / std) + np.log(std) + 0.5 * np.log(2 * np.pi)


def pit(truth: Float[np.ndarray, " value"], predicted: Predictive) -> Float[np.ndarray, " decile"]:
    """Shares of the true values between the predicted deciles; all 0.1 if the distributions are right.

    A U shape means intervals too narrow, a hill means too wide, a slope means a bias.
    """
    _check(truth, predicted)
    deciles = predicted.levels()[:, np.isin(LEVELS, np.round(np.arange(0.1, 0.91, 0.1), 2))]
    return np.bincount((deciles < truth[:, None]).sum(axis=1), minlength=10) / truth.size


def bits_per_spike(
    rates: Float[np.ndarray, "*bin"],
    counts: Float[np.ndarray, "*bin"],
    *,
    channel: Int[np.ndarray, "*bin"] | None = None,
) -> float:
    """How many bits a spike the rates gain over each channel's own mean count.

    Args:
        rates: expected counts a bin; zero is taken as 1e-9.
        counts: observed counts; NaN bins are left out.
        channel: which channel each bin belongs to; None takes the last axis for the channels.

    Raises:
        NumericalError: a rate is not finite, or there is no spike.
    """
    if bad := int((~np.isfinite(rates)).sum()):
        raise NumericalError(f"{bad} of {rates.size} predicted rates are not finite")
    if channel is None:
        channel = np.broadcast_to(np.arange(counts.shape[-1]), counts.shape)
    seen = np.isfinite(counts)
    spikes, which = counts[seen].astype(np.float64), channel[seen]
    total = spikes.sum()
    if total == 0:
        raise NumericalError("there is no spike among the values to score")
    null = np.bincount(which, spikes) / np.maximum(np.bincount(which), 1)
    null_rate = np.maximum(null, _SMALLEST_RATE)[which]
    rate = np.maximum(rates[seen].astype(np.float64), _SMALLEST_RATE)
    return float((spikes * np.log(rate / null_rate) - (rate - null_rate)).sum() / total / np.log(2))
