"""``svae forecast``: predict steps beyond the end, with uncertainty."""

from typing import Annotated

import typer

from svae_cli.cli.options import (
    Computing,
    DataArg,
    ModelArg,
    Quantiles,
    Reading,
    Samples,
    SelfCheck,
    Talking,
    Writing,
    expanded,
    parse_quantiles,
    stem_of,
)

SHORT = "Predict the next steps, with uncertainty."
EXAMPLES = """
  svae forecast rec.svae rec.h5 -H 24                  write rec.forecast.h5
  svae forecast rec.svae rec.h5 -H 24 --quantiles 0.05,0.5,0.95 --samples 100 -o next.h5
  svae forecast rec.svae rec.h5 -H 24 --origin 500 --format csv | head
"""


@expanded
def command(
    model: ModelArg,
    data: DataArg,
    *,
    horizon: Annotated[int, typer.Option("--horizon", "-H", min=1, metavar="N", help="Steps to predict.")],
    origin: Annotated[
        int | None,
        typer.Option("--origin", metavar="N", help="Predict from after this many steps; negative counts from the end."),
    ] = None,
    quantiles: Quantiles = None,
    samples: Samples = 0,
    self_check: SelfCheck = None,
    writing: Writing,
    reading: Reading,
    computing: Computing,
    talking: Talking,
) -> None:
    """Predict the next steps of every series: mean and standard deviation, in the data's own units."""
    console = talking.console()
    asked_levels = parse_quantiles(quantiles)
    target, format = writing.target(stem=stem_of(data), suffix="forecast")
    from svae_cli.cli.opening import checked_of, input_paths, levels_of, open_data, open_model
    from svae_cli.files.atomic import check_target

    check_target(target, force=writing.force, inputs=input_paths(model, data))
    with open_data(data, reading, console) as series:
        fitted = open_model(model, computing)
        levels = levels_of(fitted, asked_levels)
        from svae_cli import prediction
        from svae_cli.cli.following import Count, tell_written
        from svae_cli.files.results import Header, sha256_of, write_results

        checked = checked_of(fitted, series, self_check, console, horizon=horizon)
        asked = {"horizon": horizon, "origin": origin, "samples": samples, "self_check": checked}
        header = Header.like(
            "forecast",
            series,
            settings={"command": "forecast", **asked, "model": fitted.settings.to_json()},
            lengths=(horizon,) * len(series),
            starts=tuple(n if origin is None else origin if origin >= 0 else n + origin for n in series.lengths),
            quantiles=levels,
            seed=computing.seed,
            model_sha256=sha256_of(model),
        )
        predictions = prediction.forecast(
            fitted,
            series,
            quantiles=levels,
            **asked,
            seed=computing.seed,
            batch_size=computing.batch_size,
        )
        total = sum(header.lengths)
        count = Count(predictions, total=total, stage="forecast", console=console, channels=series.channels)
        write_results(target, header, count, format=format, force=writing.force)
    tell_written(console, target, f"{horizon} steps forecast for {count.series} series", {
        "series": count.series, "horizon": horizon, "ignored": count.ignored,
    })  # fmt: skip
