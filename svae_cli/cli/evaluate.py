"""``svae evaluate``: score a model next to baselines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from svae_cli.cli.options import Computing, DataArg, ModelArg, Reading, Talking, expanded
from svae_cli.errors import ThresholdError, UsageError

SHORT = "Score a model next to baselines."
EXAMPLES = """
  svae evaluate rec.svae rec.h5                        hide values and the future, predict, score
  svae evaluate rec.svae rec.h5 --task impute --pattern point,block --mask-rate 0.5 --repeats 5
  svae evaluate rec.svae rec.h5 --json --fail-under crps_skill=0.1
"""


@expanded
def command(
    model: ModelArg,
    data: DataArg,
    *,
    task: Annotated[
        Literal["impute", "forecast", "both"], typer.Option("--task", help="What to score.", show_default=True)
    ] = "both",
    pattern: Annotated[
        str, typer.Option("--pattern", metavar="P,P", help="point, block, channel, tail.", show_default=True)
    ] = "point,block",
    mask_rate: Annotated[float, typer.Option("--mask-rate", help="Share of values hidden.", show_default=True)] = 0.2,
    window: Annotated[
        int | None,
        typer.Option("--window", min=1, metavar="STEPS", help="Gaps in each so many steps; default as in training."),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Drawings of each pattern.")] = 1,
    horizon: Annotated[int | None, typer.Option("--horizon", "-H", min=1, help="Steps of a forecast.")] = None,
    origins: Annotated[int, typer.Option("--origins", min=1, help="Forecasts of each series.", show_default=True)] = 10,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Dataset with the true values behind the gaps.")
    ] = None,
    per_channel: Annotated[bool, typer.Option("--per-channel", help="A row for every channel too.")] = False,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="B,B", help="Compare with these only; default all that apply.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Say in words which baseline would have been better.")
    ] = True,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", metavar="SCORE=X", help="Exit with code 8 if the model's score is worse."),
    ] = None,
    reading: Reading,
    computing: Computing,
    talking: Talking,
) -> None:
    """Hide part of the data and the future, predict them, and score the model beside simple baselines."""
    console = talking.console()
    limits = _limits(fail_under or [])
    from svae_cli.cli.opening import open_data, open_model

    with open_data(data, reading, console) as series:
        fitted = open_model(model, computing)
        from svae_cli.evaluation import EvaluationOptions, evaluate

        options = EvaluationOptions(
            task=task,
            patterns=tuple(pattern.split(",")),  # pyright: ignore[reportArgumentType]  (checked where used)
            mask_rate=mask_rate,
            window=window,
            repeats=repeats,
            horizon=horizon,
            origins=origins,
            per_channel=per_channel,
            baselines=None if baseline is None else tuple(baseline.split(",")),
            seed=computing.seed,
            batch_size=computing.batch_size,
        )
        if target is None:
            outcome = evaluate(fitted, series, options)
        else:
            with open_data(data, replace(reading, dataset=target, observed=None, missing=None), console) as truth:
                outcome = evaluate(fitted, series, options, target=truth)
    console.result(_table(outcome.rows, all_columns=talking.verbose), outcome.to_json())
    for sentence in outcome.words if compare else ():
        console.say(sentence)
    _check(outcome, limits)


def _limits(texts: Sequence[str]) -> dict[str, float]:
    limits = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = float(number)
        except ValueError:
            raise UsageError(
                f"--fail-under is {text!r}; expected SCORE=NUMBER", hint="--fail-under crps_skill=0.1"
            ) from None
    return limits


def _check(outcome: Any, limits: dict[str, float]) -> None:
    """Compare the model's scores with the limits; for losses, larger is worse.

    Raises:
        ThresholdError: one is worse.
    """
    for name, limit in limits.items():
        score = outcome.score(name)
        higher_is_better = name.startswith(("crps_skill", "bits", "cov"))
        if score < limit if higher_is_better else score > limit:
            worse = "under" if higher_is_better else "over"
            raise ThresholdError(f"{name} is {score:.4g}, {worse} {limit:g}")


_SHOWN = ("task", "pattern", "horizon", "channel", "method", "n", "mae", "rmse", "crps", "crps_skill", "nll", "cov90",
          "width90", "bits_per_spike")  # fmt: skip


def _table(rows: Sequence[dict[str, Any]], *, all_columns: bool) -> str:
    """The rows as aligned columns; unless all are asked for, the main scores in standard deviations of each channel."""
    chosen = rows if all_columns else [row for row in rows if row["scale"] == "standard" or row["channel"] != "all"]
    found = dict.fromkeys(name for row in chosen for name, value in row.items() if value is not None)
    names = list(found) if all_columns else [name for name in _SHOWN if name in found]
    if not all_columns and all(row["channel"] == "all" for row in chosen):
        names.remove("channel")
    cells = [names, *([_cell(row.get(name)) for name in names] for row in chosen)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
