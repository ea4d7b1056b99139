"""Validation: how well hidden values of held-out windows are predicted, and the bound on the observed ones."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from svae_cli.data.windows import Batch, batches
from svae_cli.models.likelihoods import GaussianLikelihood, StudentTLikelihood
from svae_cli.models.svae import SVAE
from svae_cli.traced import kept
from svae_cli.training.batched import batched

_LEAST_CRPS = 1e-4  # a window that is predicted without error at all, such as a constant one, decides nothing


@dataclass(frozen=True)
class Validation:
    """Scores of one model on the validation windows.

    Attributes:
        elbo: evidence lower bound per observed value, nothing hidden, in nats.
        score: what decides which model is best, higher is better: for continuous data minus the geometric mean over
            windows of the mean CRPS of their hidden values in model units, so that windows with single gaps count as
            much as those with long ones; for counts and binary values the mean log predictive probability in nats.
        coverage: share of hidden values inside their 90 % interval (Gaussian of the predictive moments).
    """

    elbo: float
    score: float
    coverage: float


def validate(model: SVAE, windows: Batch, hidden: np.ndarray, *, batch_size: int) -> Validation:
    """Score ``model``; deterministic."""
    bound, _, _, observed, _ = _by_window(model, windows, np.zeros_like(hidden), batch_size).sum(axis=0)
    parts = _by_window(model, windows, hidden, batch_size)
    _, _, inside, _, scored = parts.sum(axis=0)
    return Validation(
        elbo=float(bound / max(observed, 1)),
        score=_score(parts[:, 1], parts[:, 4], by_crps=_has_crps(model)),
        coverage=float(inside / max(scored, 1)),
    )


def _score(scores: np.ndarray, counts: np.ndarray, *, by_crps: bool) -> float:
    if not by_crps:
        return float(scores.sum() / max(counts.sum(), 1))
    asked = counts > 0
    losses = -scores[asked] / counts[asked]
    return -float(np.exp(np.mean(np.log(np.maximum(losses, _LEAST_CRPS))))) if asked.any() else 0.0


def _has_crps(model: SVAE) -> bool:
    return isinstance(model.likelihood, GaussianLikelihood | StudentTLikelihood)


def _by_window(model: SVAE, windows: Batch, hidden: np.ndarray, batch_size: int) -> np.ndarray:
    """A row a window; see ``_window_sums``."""
    rows = []
    for at, piece in enumerate(batches(windows, batch_size)):
        mask = np.zeros_like(piece.observed)
        part = hidden[at * batch_size : (at + 1) * batch_size]
        mask[: len(part)] = part
        sums = _sums(model, *map(jnp.asarray, (*piece.arrays, mask)))
        rows.append(np.asarray(sums, np.float64)[: len(part)])
    return np.concatenate(rows)


@kept
def _sums(model: SVAE, values: Array, observed: Array, inputs: Array, around: Array, hidden: Array) -> Array:
    return batched(_window_sums, model, values, observed, inputs, around, hidden, groups=0)


def _window_sums(model: SVAE, values: Array, observed: Array, inputs: Array, around: Array, hidden: Array) -> Array:
    """Bound and score with some values hidden, values inside their interval; numbers of observed and scored values."""
    found = model.infer(values, observed & ~hidden, inputs)
    predictor = model.predictor_moments(found.posterior)
    seen = jnp.where(observed, values, 0.0)
    log_likelihood = jnp.where(observed, model.likelihood.expected_log_prob(seen, *predictor), 0.0)
    predictor = model.informed(values, observed & ~hidden, predictor, around)
    mean, variance = model.likelihood.predictive_moments(*predictor)
    deviation = jnp.sqrt(variance)
    scored = hidden & observed
    target = jnp.where(scored, values, mean)
    if _has_crps(model):
        score = -_crps(target, mean, deviation)
    else:
        score = model.likelihood.predictive_log_prob(seen, *predictor)
    inside = jnp.abs(target - mean) <= 1.6448536 * deviation
    return jnp.stack(
        [
            jnp.sum(log_likelihood) - found.kl,
            jnp.sum(jnp.where(scored, score, 0.0)),
            jnp.sum(scored & inside).astype(values.dtype),
            jnp.sum(observed).astype(values.dtype),
            jnp.sum(scored).astype(values.dtype),
        ]
    )


def _crps(value: Array, mean: Array, deviation: Array) -> Array:
    """Continuous ranked probability score of a Gaussian (Gneiting and Raftery, 2007, equation 21)."""
    z = (value - mean) / deviation
    density = jnp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return deviation * (z * jax.scipy.special.erf(z / np.sqrt(2)) + 2 * density - 1 / np.sqrt(np.pi))
