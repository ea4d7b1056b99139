"""Training on a problem, asking the model, and scoring its answers."""

import time
from typing import Any

import numpy as np

from benchmarks.tasks.problems import Problem, Question
from benchmarks.tasks.scoring import score
from svae_cli import metrics, prediction
from svae_cli.config import Settings
from svae_cli.models.fitted import FittedModel
from svae_cli.training.fit import fit

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"recognition": "linear", "decoder": "linear"},
    "random-start": {"start": "random"},
    "elbo": {"objective": "elbo"},
    "no-mask": {"mask_pattern": "none"},
    "tail-mask": {"mask_pattern": "tail"},
    "long-window": {"window": 336},
    "no-chains": {"residual_chains": "off"},
    "no-season": {"season": 0},
    "no-transform": {"transform": "none"},
}
"""Settings that differ from the defaults, by the name of the variant."""


def answer(problem: Problem, variant: str, seed: int, time_limit: float | None) -> dict[str, dict[str, Any]]:
    """Scores of every question of a problem, by its name, after one training."""
    settings = Settings(seed=seed, time_limit=time_limit, **VARIANTS[variant])
    begun = time.perf_counter()
    fitted = _train(problem, settings)
    seconds = time.perf_counter() - begun
    scores = {}
    for question in problem.questions:
        begun = time.perf_counter()
        asked = _ask(fitted, question, seed)
        spent = time.perf_counter() - begun
        scores[question.name] = asked | {
            "fit_seconds": seconds,
            "predict_seconds": spent,
            "settings": fitted.settings.to_json(),
        }
    return scores


def _train(problem: Problem, settings: Settings) -> FittedModel:
    state = None
    for progress in fit(problem.train, settings):
        state = progress.state
    if state is None:
        raise RuntimeError(f"training on {problem.name} took no step")
    return state.fitted


def _ask(fitted: FittedModel, question: Question, seed: int) -> dict[str, float]:
    levels = () if fitted.is_gaussian or question.kind == "spikes" else tuple(metrics.LEVELS.tolist())
    if question.kind == "forecast":
        horizon = question.truth.shape[1]
        answers = list(prediction.forecast(fitted, question.shown, horizon=horizon, quantiles=levels, seed=seed))
    else:
        answers = list(prediction.impute(fitted, question.shown, quantiles=levels, seed=seed))
    mean, std = (np.stack([getattr(p, name) for p in answers]).astype(np.float64) for name in ("mean", "std"))
    quantiles = [p.quantiles for p in answers if p.quantiles is not None]
    return score(question, mean, std, np.stack(quantiles).astype(np.float64) if levels else None)
