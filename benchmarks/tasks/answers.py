"""Training on a problem, asking the model, and scoring its answers."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks.problems import Problem, Question
from benchmarks.tasks.scoring import score
from svae_cli import metrics, prediction
from svae_cli.config import Settings
from svae_cli.files.model_file import load_model, save_model
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
    "em": {
        "latent_dim": 8,
        "em_steps": 1500,
        "linear_steps": 1,
        "epochs": 1,
        "recognition": "linear",
        "decoder": "linear",
        "season": 0,
        "residual_chains": "off",
        "transform": "none",
        "spikes": "learn",
        "unit_roots": False,
    },
}
"""Settings that differ from the defaults, by the name of the variant; "em" is a linear system by EM, asked without
checks; the one step of each of the other stages that there has to be counts only if validation prefers it."""


def answer(
    problem: Problem, variant: str, seed: int, time_limit: float | None, models: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Scores of every question of a problem, by its name, after one training.

    Args:
        problem: what to learn from, and what is asked.
        variant: a key of ``VARIANTS``.
        seed: of training and answers.
        time_limit: seconds of training, or None.
        models: folder of trained models; one that is there is asked, one that is not is trained and kept.
    """
    settings = Settings(seed=seed, time_limit=time_limit, **VARIANTS[variant])
    name = f"{problem.name.replace('/', '_')}.{variant}.{seed}" + (f".{time_limit:.0f}s" if time_limit else "")
    fitted, seconds = _trained(problem, settings, None if models is None else models / name)
    scores = {}
    for question in problem.questions:
        begun = time.perf_counter()
        asked = _ask(fitted, question, seed, self_check=False if variant == "em" else None)
        spent = time.perf_counter() - begun
        scores[question.name] = asked | {
            "fit_seconds": seconds,
            "predict_seconds": spent,
            "settings": fitted.settings.to_json(),
        }
    return scores


def _trained(problem: Problem, settings: Settings, kept: Path | None) -> tuple[FittedModel, float]:
    """The model and the seconds that its training took."""
    if kept is not None and (seconds := Path(f"{kept}.json")).exists():
        return load_model(Path(f"{kept}.svae")), json.loads(seconds.read_text())["fit_seconds"]
    begun = time.perf_counter()
    fitted = _train(problem, settings)
    spent = time.perf_counter() - begun
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_model(Path(f"{kept}.svae"), fitted, force=True)
        Path(f"{kept}.json").write_text(json.dumps({"fit_seconds": spent}))
    return fitted, spent


def _train(problem: Problem, settings: Settings) -> FittedModel:
    state = None
    for progress in fit(problem.train, settings):
        state = progress.state
    if state is None:
        raise RuntimeError(f"training on {problem.name} took no step")
    return state.fitted


def _ask(fitted: FittedModel, question: Question, seed: int, *, self_check: bool | None) -> dict[str, float]:
    levels = () if fitted.is_gaussian or question.kind == "spikes" else tuple(metrics.LEVELS.tolist())
    asked: dict[str, Any] = {"quantiles": levels, "seed": seed, "self_check": self_check}
    if question.kind == "forecast":
        horizon = question.truth.shape[1]
        answers = list(prediction.forecast(fitted, question.shown, horizon=horizon, **asked))
    else:
        answers = list(prediction.impute(fitted, question.shown, **asked))
    mean, std = (np.stack([getattr(p, name) for p in answers]).astype(np.float64) for name in ("mean", "std"))
    quantiles = [p.quantiles for p in answers if p.quantiles is not None]
    return score(question, mean, std, np.stack(quantiles).astype(np.float64) if levels else None)
