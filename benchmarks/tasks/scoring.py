"""The scores of answers to a question."""

import numpy as np

from benchmarks.tasks.problems import Question
from svae_cli import metrics

_Q19 = np.round(np.arange(0.05, 0.951, 0.05), 2)


def score(question: Question, mean: np.ndarray, std: np.ndarray) -> dict[str, float]:
    """Scores of predictive means and deviations, both shaped like the question's truth."""
    if question.kind == "spikes":
        heldout = question.asked[0, 0]
        counts = question.truth[..., heldout].astype(np.float64)
        return {
            "bits_per_spike": metrics.bits_per_spike(mean[..., heldout], counts),
            "mse": float(np.square(mean[..., heldout] - counts).mean()),
        }
    truth = question.truth[question.asked].astype(np.float64)
    predicted = metrics.Predictive(mean[question.asked], std[question.asked])
    scores = metrics.score(truth, predicted)
    quantiles = predicted.levels()[:, np.isin(metrics.LEVELS, _Q19)]
    scores["crps_q19"] = float(metrics.crps_quantiles(quantiles, _Q19, truth).mean())
    return scores | {"mse": scores["rmse"] ** 2, "n": int(truth.size)}
