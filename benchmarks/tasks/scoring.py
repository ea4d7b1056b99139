"""The scores of answers to a question."""

import numpy as np

from benchmarks.tasks.problems import Question
from svae_cli import metrics

_Q19 = np.round(np.arange(0.05, 0.951, 0.05), 2)


def score(
    question: Question, mean: np.ndarray, std: np.ndarray, quantiles: np.ndarray | None = None
) -> dict[str, float]:
    """Scores of predictive means and deviations shaped like the question's truth, and quantiles at the last axis.

    Without quantiles the distributions are Gaussian.
    """
    if question.kind == "spikes":
        heldout = question.asked[0, 0]
        counts = question.truth[..., heldout].astype(np.float64)
        return {
            "bits_per_spike": metrics.bits_per_spike(mean[..., heldout], counts),
            "mse": float(np.square(mean[..., heldout] - counts).mean()),
        }
    truth = question.truth[question.asked].astype(np.float64)
    asked = None if quantiles is None else quantiles[question.asked]
    predicted = metrics.Predictive(mean[question.asked], std[question.asked], asked)
    scores = metrics.score(truth, predicted)
    nineteen = predicted.levels()[:, np.isin(metrics.LEVELS, _Q19)]
    scores["crps_q19"] = float(metrics.crps_quantiles(nineteen, _Q19, truth).mean())
    return scores | {"mse": scores["rmse"] ** 2, "n": int(truth.size)}
