"""The baselines of ``svae evaluate`` on the same questions; learnt in no time, so they are run every time."""

from typing import Any

import numpy as np

from benchmarks.tasks.problems import Problem, Question
from benchmarks.tasks.scoring import score
from svae_cli import baselines
from svae_cli.data.scaler import Scaler
from svae_cli.data.seasonality import detect_periods

NAME = "baseline "
"""What the names of these methods begin with among the variants."""


def baseline_answers(problem: Problem) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores by question and baseline."""
    scaler = Scaler.measure(problem.train)
    train = [problem.train.read(i) for i in range(min(len(problem.train), 64))]
    periods = detect_periods(problem.train, scaler, longest=max(problem.train.lengths) / 3)
    season = baselines.season_length(train, periods)
    return {
        question.name: {
            f"{NAME}{method}": _answer(question, method, train, scaler, season)
            for method in (baselines.FORECASTERS if question.kind == "forecast" else baselines.IMPUTERS)
            if method != "seasonal" or season is not None
        }
        for question in problem.questions
    }


def _answer(
    question: Question, method: str, train: list[np.ndarray], scaler: Scaler, season: int | None
) -> dict[str, float]:
    shown = [question.shown.read(i) for i in range(len(question.shown))]
    if question.kind == "forecast":
        horizon = question.truth.shape[1]
        spread = baselines.spread_ahead(train, horizon, method, means=scaler.mean, period=season)
        mean = np.stack([baselines.extend(v, horizon, method, means=scaler.mean, period=season) for v in shown])
        return score(question, mean, np.broadcast_to(spread, mean.shape))

    def fill(values: np.ndarray) -> np.ndarray:
        return baselines.fill(values, method, means=scaler.mean, period=season)

    def holes_of_another(index: int, observed: np.ndarray) -> np.ndarray:
        return question.asked[(index + 1) % len(shown)] & observed

    spread = baselines.spread_in_gaps(shown, holes_of_another, fill, fallback=scaler.std)
    mean = np.stack([fill(values) for values in shown])
    return score(question, mean, np.broadcast_to(spread, mean.shape))
