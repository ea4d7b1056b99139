"""The tasks: what may be learned from, what is asked, what is true. Values are scaled by the training part before."""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from svae_cli.data.series import SeriesSet

PATTERNS = ("point10", "point50", "block", "dropout")
_SEED = 20261122
_ORIGINS = 60  # forecasts of a task at most


@dataclass(frozen=True)
class Question:
    """One line of the table.

    Attributes:
        name: as in ``peers.json``.
        kind: "impute", "forecast" or "spikes".
        shown: what the model sees; each series is a problem of its own.
        truth: (series, time, channel), NaN where nothing is known; of the horizon for forecasts.
        asked: True where the answer is scored.
    """

    name: str
    kind: str
    shown: SeriesSet
    truth: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True)
class Problem:
    """One training, and the questions that the model then answers.

    Attributes:
        name: of the training.
        train: what it may learn from.
        questions: what is asked.
    """

    name: str
    train: SeriesSet
    questions: tuple[Question, ...]


def problems(tasks: Path, bench: Path) -> dict[str, Callable[[], Problem]]:
    """The problems by name, each loaded when called."""
    with_gaps = {f"impute/{name}": _loader(_impute, tasks, name) for name in ("etth1", "italy_air")}
    return {
        **with_gaps,
        "forecast/etth1": _loader(_forecast, tasks, "etth1"),
        "spikes/rat_motor_cortex": _loader(_spikes, tasks, "rat_motor_cortex", False),
        "spikes-time/rat_motor_cortex": _loader(_spikes, tasks, "rat_motor_cortex", True),
        "published/etth1": _loader(_tsi, bench, "etth1", 48),
        "published/italy_air": _loader(_tsi, bench, "italy_air", 12),
        "published/beijing_air": _loader(_tsi, bench, "beijing_air", 24),
        "published/physionet2012_a": _loader(_tsi, bench, "physionet2012_a", 48),
        "published/etth1-h96": _loader(_ltsf, bench, "etth1", 96, (8640, 11520, 14400)),
        "published/exchange_rate-h96": _loader(_ltsf, bench, "exchange_rate", 96, None),
        "published/illness_ili-h24": _loader(_ltsf, bench, "illness_ili", 24, None),
        "published/mocap35": _loader(_mocap, bench),
        "few-rows/beijing_air": _loader(_few_rows, bench),
    }


def _loader(make: Callable[..., Problem], *arguments: object) -> Callable[[], Problem]:
    return lambda: make(*arguments)


def _series(arrays: Iterator[np.ndarray] | np.ndarray, **more: object) -> SeriesSet:
    return SeriesSet.from_arrays([np.asarray(a, np.float32) for a in arrays], **more)


# ------------------------------------------------------------------------------------------------ the task files


def _impute(tasks: Path, name: str) -> Problem:
    questions = []
    for pattern in PATTERNS:
        with np.load(tasks / f"impute_{name}_{pattern}.npz") as part:
            train = part["train"]
            questions.append(
                Question(
                    f"impute/{name}/{pattern}",
                    "impute",
                    _series(part["test_input"]),
                    part["test_target"],
                    part["test_mask"],
                )
            )
    return Problem(f"impute/{name}", _series(train[None]), tuple(questions))


def _forecast(tasks: Path, name: str) -> Problem:
    with np.load(tasks / f"forecast_{name}.npz") as part:
        train = np.concatenate([part["train"], part["val"]])
        context, target = _series(part["context"]), part["target"]
        horizons = [int(h) for h in part["horizons"]]
    questions = [_ahead(f"forecast/{name}/h{h}", context, target[:, :h]) for h in horizons]
    return Problem(f"forecast/{name}", _series(train[None]), tuple(questions))


def _ahead(name: str, context: SeriesSet, target: np.ndarray) -> Question:
    return Question(name, "forecast", context, target, np.isfinite(target))


def _spikes(tasks: Path, name: str, with_time: bool) -> Problem:
    """Learn from all neurons; at test the held-out ones are missing channels."""
    with np.load(tasks / f"neural_{name}.npz") as part:
        train = np.concatenate([part["train"], part["val"]])
        test, heldout = part["test"], part["heldout"]
    steps = train.shape[1]
    bumps = _bumps(steps, 20) if with_time else None
    shown = np.where(heldout, np.nan, test)
    asked = np.broadcast_to(heldout, test.shape)
    question = Question(
        f"spikes{'-time' if with_time else ''}/{name}",
        "spikes",
        _series(shown, inputs=None if bumps is None else [bumps] * len(shown)),
        test,
        asked,
    )
    learned = _series(train, inputs=None if bumps is None else [bumps] * len(train))
    return Problem(f"spikes{'-time' if with_time else ''}/{name}", learned, (question,))


def _bumps(steps: int, count: int) -> np.ndarray:
    """Time within the trial as known inputs: smooth bumps that sum to about 1."""
    centre = np.linspace(0, steps - 1, count)
    width = centre[1] - centre[0]
    bump = np.exp(-0.5 * np.square((np.arange(steps)[:, None] - centre) / (0.7 * width)))
    return (bump / bump.sum(axis=1, keepdims=True)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ published protocols


def _data(bench: Path, name: str) -> np.ndarray:
    with h5py.File(bench / f"{name}.h5") as file:
        return np.asarray(file["data"][...], np.float64)


def _standard(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    flat = train.reshape(-1, train.shape[-1])
    std = np.nanstd(flat, axis=0)
    return (values - np.nanmean(flat, axis=0)) / np.where(std > 1e-6, std, 1.0)


def _tsi(bench: Path, name: str, window: int) -> Problem:
    """TSI-Bench as far as it is known to us: 60/20/20 % in time, or of the patients; the training part is complete.

    Italy keeps its -200 codes, Beijing's stations stand side by side as channels; test windows do not overlap.
    """
    data = _data(bench, name)
    rng = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
    if name == "physionet2012_a":
        data = data[rng.permutation(len(data))]
        first, last = int(0.6 * len(data)), int(0.8 * len(data))
        scaled = _standard(data, data[:first])
        train, test = _series(scaled[:last]), scaled[last:]
    else:
        data = np.where(np.isnan(data), -200.0, data) if name == "italy_air" else data
        data = np.moveaxis(data, 0, 1).reshape(data.shape[1], -1)
        first, last = int(0.6 * len(data)), int(0.8 * len(data))
        scaled = _standard(data, data[:first])
        rest = scaled[last:]
        count = len(rest) // window
        train, test = _series(scaled[None, :last]), rest[: count * window].reshape(count, window, -1)
    questions = []
    for rate in (10, 50, 90):
        hidden = rng.random(test.shape) < rate / 100
        asked = hidden & np.isfinite(test)
        shown = _series(np.where(hidden, np.nan, test))
        questions.append(Question(f"published/{name}/point{rate}", "impute", shown, test, asked))
    return Problem(f"published/{name}", train, tuple(questions))


def _few_rows(bench: Path) -> Problem:
    """350 rows of 132 channels, a fifth of their values missing: to be filled by what is learned from themselves."""
    data = _data(bench, "beijing_air")
    rows = np.moveaxis(data, 0, 1).reshape(data.shape[1], -1)[:350]
    truth = _standard(rows, rows)[None]
    hidden = np.random.default_rng([_SEED, 350]).random(truth.shape) < 0.2
    shown = _series(np.where(hidden, np.nan, truth))
    question = Question("few-rows/beijing_air/point20", "impute", shown, truth, hidden & np.isfinite(truth))
    return Problem("few-rows/beijing_air", shown, (question,))


def _ltsf(bench: Path, name: str, horizon: int, borders: tuple[int, int, int] | None) -> Problem:
    """LTSF-Linear's protocol: scaled by the training part; every test window in theirs, about 60 of them here."""
    data = _data(bench, name)[0]
    steps = len(data)
    first, last, end = borders or (int(0.7 * steps), steps - int(0.2 * steps), steps)
    scaled = _standard(data, data[:first])
    origins = np.arange(last, end - horizon + 1, max(1, math.ceil((end - horizon - last) / _ORIGINS)))
    context = min(336, last)
    shown = _series([scaled[o - context : o] for o in origins])
    target = np.stack([scaled[o : o + horizon] for o in origins])
    question = _ahead(f"published/{name}/h{horizon}", shown, target)
    return Problem(f"published/{name}-h{horizon}", _series(scaled[None, :last]), (question,))


def _mocap(bench: Path) -> Problem:
    """16 walks to learn from, 3 to stop by (both are given to training), 4 to be continued; natural units."""
    with h5py.File(bench / "mocap35.h5") as file:
        data, split = np.asarray(file["data"][...], np.float64), file["split"].asstr()[...]
    train, test = data[split != "test"], data[split == "test"]
    questions = [_ahead(f"published/mocap35/see{n}", _series(test[:, :n]), test[:, n:]) for n in (3, 200)]
    return Problem("published/mocap35", _series(train), tuple(questions))
