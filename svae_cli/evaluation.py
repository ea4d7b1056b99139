"""How good the trained model's answers are, beside simple baselines: scores as rows, and what they say in words."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from svae_cli import baselines, metrics, prediction
from svae_cli.comparison import in_words, score_rows
from svae_cli.data.fingerprint import fingerprint_of as fingerprint_of
from svae_cli.data.gaps import GapPattern
from svae_cli.data.seasonality import detect_periods
from svae_cli.data.series import SeriesSet
from svae_cli.errors import ModelError, UsageError
from svae_cli.holdout import (
    MODEL,
    Held,
    Reference,
    choose_origins,
    hold_out_future,
    hold_out_gaps,
    hold_out_target,
    join_held,
)
from svae_cli.models.fitted import FittedModel
from svae_cli.results import Prediction

_SEASON_SERIES = 64  # series that the season is looked for in


@dataclass(frozen=True)
class EvaluationOptions:
    """What to score.

    Attributes:
        task: imputation, forecasts or both.
        patterns: patterns of hiding, each scored by itself; see ``svae_cli.data.gaps.hide``.
        mask_rate: share of the observed values hidden.
        repeats: drawings of each pattern.
        window: steps that the rate is a share of; None takes the training window of the model.
        horizon: steps of a forecast; None takes 24, or half of what can be scored if that is less.
        origins: forecasts of each series.
        context: steps that are shown before an origin, and before the held-out part of the training data.
        per_channel: a row for every channel too.
        baselines: methods to compare with; None takes all that apply.
        season: steps in a season for the seasonal baselines; None looks for one.
        everything: score all of the data, even if the model was trained on them.
        seed: of the drawings.
        batch_size: series predicted at once; None leaves the choice to the prediction.
    """

    task: Literal["impute", "forecast", "both"] = "both"
    patterns: tuple[GapPattern, ...] = ("point", "block")
    mask_rate: float = 0.2
    repeats: int = 1
    window: int | None = None
    horizon: int | None = None
    origins: int = 10
    context: int = 1024
    per_channel: bool = False
    baselines: tuple[str, ...] | None = None
    season: int | None = None
    everything: bool = False
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("repeats", "window", "horizon", "origins", "context", "season"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} is {value}; expected 1 or more")
        if not 0 < self.mask_rate < 1:
            raise UsageError(f"--mask-rate is {self.mask_rate}; expected between 0 and 1")
        known = {*baselines.IMPUTERS, *baselines.FORECASTERS}
        for name in self.baselines or ():
            if name not in known:
                raise UsageError(f"unknown baseline {name!r}", hint=f"one of {', '.join(sorted(known))}")


@dataclass(frozen=True)
class Evaluation:
    """The outcome.

    Attributes:
        rows: one a task, pattern or horizon, scale, channel ("all" is the mean over values) and method. Scale
            "standard" is in standard deviations of the training data, "natural" in the data's units. ``crps_skill`` is
            1 - CRPS / CRPS of the best baseline; ``bits_per_spike`` is there for counts only.
        words: what the rows say, most important first, one sentence each.
        pit: the shares of true values between the deciles that the model predicted, a row a task and pattern; all 0.1
            for honest distributions.
    """

    rows: list[dict[str, Any]]
    words: list[str]
    pit: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values."""
        return asdict(self)

    def score(self, name: str) -> float:
        """The model's worst ``name`` among its rows over all channels in standard units, for thresholds.

        Raises:
            UsageError: no such score.
        """
        rows = [r for r in self.rows if r["method"] == MODEL and r["channel"] == "all" and r["scale"] == "standard"]
        known = sorted({key for row in rows for key, value in row.items() if isinstance(value, float)})
        if name not in known:
            raise UsageError(f"there is no score called {name!r}", hint=f"one of {', '.join(known)}")
        values = [row[name] for row in rows if isinstance(row.get(name), float)]
        return min(values) if name.startswith(("crps_skill", "bits", "cov")) else max(values)


def evaluate(
    fitted: FittedModel, data: SeriesSet, options: EvaluationOptions, *, target: SeriesSet | None = None
) -> Evaluation:
    """Score a trained model on data, beside baselines that see the same values.

    Of the data that the model was trained on, only the part that training held out is scored.

    Args:
        fitted: the model.
        data: series with the model's channels.
        options: what to score.
        target: the true values behind the gaps of ``data``; then these are scored and nothing is hidden.

    Raises:
        ModelError: the data do not have the model's channels.
        DataError: the data leave nothing to score, or ``target`` does not fit.
        NumericalError: a prediction is not finite.
    """
    fitted.check_fits(data)
    all_of_it = options.everything or target is not None
    scope = _Scope(data, (0,) * len(data), ()) if all_of_it else _unseen(fitted, data, options.context)
    asking = _Asking(fitted, scope, options, options.season or _season(fitted, data))
    rows, words, pit = [], list(scope.words), []
    for label, held in asking.target(target) if target is not None else asking.tasks(words):
        part = score_rows(
            held,
            label,
            scaler=fitted.scaler,
            channels=fitted.channels,
            likelihood=fitted.settings.likelihood if fitted.scaler.warp is None else None,
        )
        rows += [row for row in part if options.per_channel or row["channel"] == "all"]
        words += in_words(part)
        shares = metrics.pit(held.truth, held.predictions[MODEL])
        pit.append({**label, "method": MODEL, "shares": shares.tolist()})
    if asking.season is not None:
        words.append(f"The seasonal baselines repeat every {asking.season} steps.")
    return Evaluation(rows, words, pit)


def _season(fitted: FittedModel, data: SeriesSet) -> int | None:
    longest = max(data.lengths)
    periods = detect_periods(data, fitted.scaler, longest=longest / 3)
    if fitted.settings.season:
        periods = (*periods, fitted.settings.season)
    chosen = np.argsort([-n for n in data.lengths], kind="stable")[:_SEASON_SERIES]
    return baselines.season_length([data.read(int(i)) for i in chosen], periods)


@dataclass(frozen=True)
class _Scope:
    """The series to score, the first step of each that may be scored, and what the user should know about it."""

    data: SeriesSet
    begins: tuple[int, ...]
    words: tuple[str, ...]


def _unseen(fitted: FittedModel, data: SeriesSet, context: int) -> _Scope:
    """All of it, or the held-out part, with context, if the model was trained on these very data."""
    split = fitted.split
    if not fitted.fingerprint or fitted.fingerprint != fingerprint_of(data) or split.get("kind") == "given":
        return _Scope(data, (0,) * len(data), ())
    what = "These are the data that the model was trained on; scored is only what training held out: "
    try:
        if split["kind"] == "series":
            held = [data.keys.index(key) for key in split["held_out"]]
            return _Scope(data.subset(held), (0,) * len(held), (f"{what}{len(held)} of {len(data)} series.",))
        parts = [(int(i), int(start), int(stop)) for i, start, stop in split["held_out"]]
        if not all(0 <= i < len(data) and 0 <= start < stop <= data.lengths[i] for i, start, stop in parts):
            raise ValueError("a stretch beyond the data")
    except (KeyError, TypeError, ValueError) as problem:
        hint = "train it again, or evaluate it on other data"
        raise ModelError("the model's record of what training held out makes no sense", hint=hint) from problem
    share = sum(stop - start for _, start, stop in parts) / sum(data.lengths)
    shown = [max(0, start - context) for _, start, _ in parts]
    near = data.subset([i for i, _, _ in parts]).between(shown, [stop for _, _, stop in parts])
    begins = tuple(start - first for (_, start, _), first in zip(parts, shown, strict=True))
    return _Scope(near, begins, (f"{what}{len(parts)} stretches, {100 * share:.0f} % of the steps.",))


@dataclass(frozen=True)
class _Asking:
    """Values held back task after task, each with what its rows are called."""

    fitted: FittedModel
    scope: _Scope
    options: EvaluationOptions
    season: int | None

    def target(self, target: SeriesSet) -> Iterator[tuple[dict[str, Any], Held]]:
        """The gaps of the data against their true values."""
        reference = self._reference(baselines.IMPUTERS)
        yield _label("impute", pattern="target"), hold_out_target(self.scope.data, target, self._impute, reference)

    def tasks(self, words: list[str]) -> Iterator[tuple[dict[str, Any], Held]]:
        """Each pattern of hiding, then the future; words say what could not be asked."""
        options = self.options
        if options.task != "forecast":
            for pattern in options.patterns:
                held = [self._gaps(pattern, repeat) for repeat in range(options.repeats)]
                yield _label("impute", pattern=pattern, rate=options.mask_rate), join_held(held)
        if options.task == "impute":
            return
        room = max(n - max(b, n // 2) for n, b in zip(self.scope.data.lengths, self.scope.begins, strict=True))
        horizon = options.horizon or max(1, min(24, room // 2))
        if options.task == "both" and horizon > room:
            words.append(f"No forecasts were scored: {horizon} steps do not fit into the {room} that could be scored.")
            return
        yield _label("forecast", horizon=horizon), self._future(horizon)

    def _gaps(self, pattern: GapPattern, repeat: int) -> Held:
        data, options = self.scope.data, self.options
        return hold_out_gaps(
            data,
            self._impute,
            self._reference(baselines.IMPUTERS),
            pattern=pattern,
            rate=options.mask_rate,
            window=options.window or self.fitted.settings.window or max(data.lengths),
            begins=self.scope.begins,
            repeat=repeat,
            seed=options.seed,
        )

    def _future(self, horizon: int) -> Held:
        lengths, options = self.scope.data.lengths, self.options
        return hold_out_future(
            self.scope.data,
            self._forecast,
            self._reference(baselines.FORECASTERS),
            origins=choose_origins(lengths, horizon, options.origins, begins=self.scope.begins),
            horizon=horizon,
            context=options.context,
        )

    def _impute(self, data: SeriesSet) -> Iterator[Prediction]:
        options = self.options
        found = prediction.impute(
            self.fitted, data, quantiles=self._levels(), seed=options.seed, batch_size=options.batch_size
        )
        return prediction.whole(found)

    def _forecast(self, past: SeriesSet, horizon: int) -> Iterator[Prediction]:
        found = prediction.forecast(
            self.fitted, past, horizon=horizon, quantiles=self._levels(), seed=self.options.seed
        )
        return prediction.whole(found)

    def _levels(self) -> tuple[float, ...]:
        return () if self.fitted.is_gaussian else tuple(metrics.LEVELS.tolist())

    def _reference(self, known: tuple[str, ...]) -> Reference:
        asked = known if self.options.baselines is None else tuple(m for m in known if m in self.options.baselines)
        methods = tuple(m for m in asked if m != "seasonal" or self.season is not None)
        return Reference(methods, self.fitted.scaler.mean, self.fitted.scaler.std, self.season)


def _label(
    task: str, *, pattern: str | None = None, rate: float | None = None, horizon: int | None = None
) -> dict[str, Any]:
    return {"task": task, "pattern": pattern, "rate": rate, "horizon": horizon}
