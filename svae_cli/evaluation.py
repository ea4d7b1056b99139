"""How good the trained model's answers are, beside simple baselines: scores as rows, and what they say in words."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from svae_cli import baselines, holdout, metrics, prediction
from svae_cli.data.gaps import GapPattern
from svae_cli.data.seasonality import detect_periods
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.holdout import MODEL, Held, Reference
from svae_cli.models.fitted import FittedModel

_LEVEL = 0.01  # a difference in CRPS below this share is not worth a word
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
        horizon: steps of a forecast; None takes 24, or a quarter of the longest series if that is less.
        origins: forecasts of each series.
        context: steps before an origin that are shown.
        per_channel: a row for every channel too.
        baselines: methods to compare with; None takes all that apply.
        season: steps in a season for the seasonal baselines; None looks for one.
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
    season = options.season or _season(fitted, data)
    rows, words, pit = [], [], []
    for label, held in _all_held(fitted, data, options, target, season):
        part = _rows(held, label, fitted)
        rows += [row for row in part if options.per_channel or row["channel"] == "all"]
        words += _words(part)
        shares = metrics.pit(held.truth, held.predictions[MODEL])
        pit.append({**label, "method": MODEL, "shares": shares.tolist()})
    if season is not None:
        words.append(f"The seasonal baselines repeat every {season} steps.")
    return Evaluation(rows, words, pit)


def _season(fitted: FittedModel, data: SeriesSet) -> int | None:
    longest = max(data.lengths)
    periods = detect_periods(data, fitted.scaler, longest=longest / 3)
    chosen = np.argsort([-n for n in data.lengths], kind="stable")[:_SEASON_SERIES]
    return baselines.season_length([data.read(int(i)) for i in chosen], periods)


def _all_held(
    fitted: FittedModel, data: SeriesSet, options: EvaluationOptions, target: SeriesSet | None, season: int | None
) -> Iterator[tuple[dict[str, Any], Held]]:
    """What the rows are called, and the values held back for them, one task and pattern after the other."""
    levels = () if fitted.settings.likelihood == "gaussian" else tuple(metrics.LEVELS.tolist())
    impute = partial(prediction.impute, fitted, quantiles=levels, seed=options.seed, batch_size=options.batch_size)
    fills = _reference(fitted, options, baselines.IMPUTERS, season)
    if target is not None:
        yield _label("impute", pattern="target"), holdout.hold_out_target(data, target, impute, fills)
    elif options.task != "forecast":
        window = options.window or fitted.settings.window or max(data.lengths)
        for pattern in options.patterns:
            held = [
                holdout.hold_out_gaps(
                    data,
                    impute,
                    fills,
                    pattern=pattern,
                    rate=options.mask_rate,
                    window=window,
                    repeat=repeat,
                    seed=options.seed,
                )
                for repeat in range(options.repeats)
            ]
            yield _label("impute", pattern=pattern, rate=options.mask_rate), holdout.join_held(held)
    if options.task != "impute" and target is None:
        horizon = options.horizon or max(1, min(24, max(data.lengths) // 4))

        def forecast(past: SeriesSet, horizon: int) -> Iterator[Any]:
            return prediction.forecast(fitted, past, horizon=horizon, quantiles=levels, seed=options.seed)

        yield (
            _label("forecast", horizon=horizon),
            holdout.hold_out_future(
                data,
                forecast,
                _reference(fitted, options, baselines.FORECASTERS, season),
                origins=holdout.choose_origins(data.lengths, horizon, options.origins),
                horizon=horizon,
                context=options.context,
            ),
        )


def _reference(
    fitted: FittedModel, options: EvaluationOptions, known: tuple[str, ...], season: int | None
) -> Reference:
    asked = known if options.baselines is None else tuple(m for m in known if m in options.baselines)
    methods = tuple(m for m in asked if m != "seasonal" or season is not None)
    return Reference(methods, fitted.scaler.mean, fitted.scaler.std, season)


def _label(
    task: str, *, pattern: str | None = None, rate: float | None = None, horizon: int | None = None
) -> dict[str, Any]:
    return {"task": task, "pattern": pattern, "rate": rate, "horizon": horizon}


# ------------------------------------------------------------------------------------------------ rows


def _rows(held: Held, label: dict[str, Any], fitted: FittedModel) -> list[dict[str, Any]]:
    shift, scale = np.asarray(fitted.scaler.mean)[held.channel], np.asarray(fitted.scaler.std)[held.channel]
    standard = Held(
        (held.truth - shift) / scale,
        held.channel,
        {method: p.scaled(shift, scale) for method, p in held.predictions.items()},
    )
    rows = _scored(standard, label, "standard", "all", fitted) + _scored(held, label, "natural", "all", fitted)
    for d, name in enumerate(fitted.channels):
        chosen = held.channel == d
        if chosen.any():
            rows += _scored(held.at(chosen), label, "natural", name, fitted)
    return rows


def _scored(held: Held, label: dict[str, Any], scale: str, channel: str, fitted: FittedModel) -> list[dict[str, Any]]:
    """One row a method; all are scored by quantiles if the model's distributions are."""
    by_quantiles = held.predictions[MODEL].quantiles is not None
    likelihood = fitted.settings.likelihood
    rows = []
    for method, predicted in held.predictions.items():
        same = replace(predicted, quantiles=predicted.levels()) if by_quantiles else predicted
        row = {**label, "scale": scale, "channel": channel, "method": method, "n": int(held.truth.size)}
        row |= metrics.score(held.truth, same, likelihood=likelihood)
        if likelihood == "poisson" and held.truth.any():
            row["bits_per_spike"] = metrics.bits_per_spike(predicted.mean, held.truth, channel=held.channel)
        rows.append(row)
    best = min((row["crps"] for row in rows if row["method"] != MODEL), default=None)
    for row in rows:
        row["crps_skill"] = 1 - row["crps"] / best if best else None
    return rows


# ------------------------------------------------------------------------------------------------ words


def _words(rows: list[dict[str, Any]]) -> list[str]:
    """Who is best over all, in which channels a baseline is better, and whether the intervals hold."""
    overall = {row["method"]: row for row in rows if row["channel"] == "all" and row["scale"] == "standard"}
    model = overall.pop(MODEL)
    where = _where(model)
    words = []
    if overall:
        best = min(overall.values(), key=lambda row: row["crps"])
        words.append(_comparison(where, model, best))
        words += _lost_channels(where, rows)
    cover = model["cov90"]
    if not 0.85 <= cover <= 0.95:
        words.append(
            f"{where}: the 90 % intervals cover {100 * cover:.0f} % of the values; they are "
            f"{'too narrow' if cover < 0.9 else 'wider than they need to be'}."
        )
    return words


def _where(row: dict[str, Any]) -> str:
    if row["task"] == "forecast":
        return f"Forecasts of {row['horizon']} steps"
    if row["pattern"] == "target":
        return "Imputation, against the given true values"
    return f"Imputation, pattern {row['pattern']}, {100 * row['rate']:.0f} % hidden"


def _comparison(where: str, model: dict[str, Any], best: dict[str, Any]) -> str:
    ours, theirs, name = model["crps"], best["crps"], best["method"]
    if ours < theirs * (1 - _LEVEL):
        share = 100 * (1 - ours / theirs)
        return (
            f"{where}: {MODEL} is best, CRPS {ours:.3g}, {share:.0f} % below the best baseline ({name} {theirs:.3g})."
        )
    if ours <= theirs * (1 + _LEVEL):
        return f"{where}: {MODEL} is level with the baseline {name}, CRPS {ours:.3g} and {theirs:.3g}."
    return f"{where}: the baseline {name} would have been better, CRPS {theirs:.3g} against {ours:.3g} of {MODEL}."


def _lost_channels(where: str, rows: list[dict[str, Any]]) -> list[str]:
    """The channels in which a baseline beats the model, with its name."""
    channels = list(dict.fromkeys(row["channel"] for row in rows if row["channel"] != "all"))
    lost = []
    for channel in channels:
        scores = {row["method"]: row["crps"] for row in rows if row["channel"] == channel}
        ours = scores.pop(MODEL)
        best = min(scores, key=lambda method: scores[method])
        if scores[best] < ours * (1 - _LEVEL):
            lost.append(f"{channel} ({best})")
    if not lost or len(channels) == 1:
        return []
    shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return [f"{where}: in {len(lost)} of {len(channels)} channels a baseline would have been better: {shown}."]
