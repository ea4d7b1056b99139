"""Tables: our answers among those of other methods, and mean ranks over tasks."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

_COLUMNS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mse": "MSE",
    "crps": "CRPS",
    "crps_q19": "CRPS q19",
    "bits_per_spike": "bits/spike",
    "cov90": "cov90",
    "width90": "width90",
    "fit_seconds": "fit s",
}
_RANKED = ("mae", "crps_q19", "bits_per_spike")
_HIGHER_IS_BETTER = ("bits_per_spike",)

_SAME = {
    "mean": ("baseline mean",),
    "linear": ("baseline linear",),
    "locf": ("baseline last",),
    "naive": ("baseline last",),
    "repeat-last": ("baseline last",),
    "seasonal-naive-24": ("baseline seasonal",),
}
"""Our baselines that are another's method, which gave the same numbers; shown once."""

Runs = dict[str, dict[str, dict[str, Any]]]
"""``runs[question][variant|seed]`` is the scores of one run."""


def peers(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """``methods[question][method]`` is the scores of another method."""
    return {name: task["methods"] for name, task in json.loads(path.read_text())["tasks"].items()}


def tables(runs: Runs, methods: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Markdown: a table a question, ours in bold with the spread over seeds, then mean ranks."""
    parts = [_table(question, _everyone(question, runs, methods)) for question in runs]
    return "\n\n".join([*parts, *_ranks(runs, methods)]) + "\n"


def _everyone(question: str, runs: Runs, methods: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Scores by method: the others as they are, ours as lists over seeds."""
    ours = defaultdict(lambda: defaultdict(list))
    for key, scores in runs[question].items():
        variant, _ = key.split("|")
        for name in _COLUMNS:
            if name in scores:
                ours[_title(variant)][name].append(scores[name])
    others = methods.get(question.replace("spikes-time/", "spikes/"), {})
    known = {ours_too for name in others for ours_too in _SAME.get(name, ())}
    return {**others, **{name: scores for name, scores in ours.items() if name not in known}}


def _title(variant: str) -> str:
    return variant if variant.startswith("baseline ") else f"**svae {variant}**"


def _table(question: str, everyone: dict[str, dict[str, Any]]) -> str:
    names = [name for name in _COLUMNS if any(name in scores for scores in everyone.values())]
    first = next(name for name in ("bits_per_spike", "mae", "mse") if name in names)
    sign = -1 if first in _HIGHER_IS_BETTER else 1
    order = sorted(everyone, key=lambda m: sign * _mean(everyone[m].get(first, sign * np.inf)))
    lines = [f"### {question}", "", "| method | " + " | ".join(_COLUMNS[n] for n in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    lines += [f"| {m} | " + " | ".join(_cell(everyone[m].get(n), n) for n in names) + " |" for m in order]
    return "\n".join(lines)


def _mean(value: Any) -> float:
    return float(np.mean(value))


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    digits = 0 if name.endswith("seconds") else 4
    spread = f" ± {np.std(value, ddof=1):.{digits}f}" if isinstance(value, list) and len(value) > 1 else ""
    return f"{_mean(value):.{digits}f}{spread}"


def _ranks(runs: Runs, methods: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Mean rank of each method over the tasks of a family that it did all of, by MAE and by CRPS."""
    parts = []
    for family in ("impute", "forecast", "published"):
        questions = [q for q in runs if q.startswith(family + "/") and q in methods]
        for name in _RANKED:
            scores = [
                {m: _mean(s[name]) for m, s in _everyone(q, runs, methods).items() if name in s} for q in questions
            ]
            if not scores or not all(scores):
                continue
            ranked = {m: np.mean([_rank(m, one) for one in scores]) for m in scores[0] if all(m in s for s in scores)}
            if len(ranked) > 1:
                listed = [f"| {m} | {ranked[m]:.2f} |" for m in sorted(ranked, key=lambda m: ranked[m])]
                title = f"### Mean rank over {len(questions)} tasks of {family}, {_COLUMNS[name]}"
                parts.append("\n".join([title, "", "| method | rank |", "|---|---|", *listed]))
    return parts


def _rank(method: str, scores: dict[str, float]) -> float:
    """1 for the lowest score; ties share the mean of their ranks."""
    mine = scores[method]
    below = sum(value < mine for value in scores.values())
    equal = sum(value == mine for value in scores.values())
    return below + (equal + 1) / 2
