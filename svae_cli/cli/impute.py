"""``svae impute``: fill gaps, with uncertainty."""

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

SHORT = "Fill gaps, with uncertainty."
EXAMPLES = """
  svae impute rec.svae rec.h5                          write rec.imputed.h5
  svae impute rec.svae rec.h5 --quantiles 0.05,0.95 --samples 100 -o filled.h5
  svae impute rec.svae rec.h5 --format csv --only-missing | head
"""


@expanded
def command(
    model: ModelArg,
    data: DataArg,
    *,
    quantiles: Quantiles = None,
    samples: Samples = 0,
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="The model's mean at observed values too.")
    ] = False,
    latents: Annotated[bool, typer.Option("--latents", help="Posterior latent states too.")] = False,
    only_missing: Annotated[bool, typer.Option("--only-missing", help="Predictions for the gaps alone.")] = False,
    self_check: SelfCheck = None,
    writing: Writing,
    reading: Reading,
    computing: Computing,
    talking: Talking,
) -> None:
    """Fill the gaps of every series: data, mean and standard deviation, in the data's own units.

    Observed values come back bit for bit.
    """
    console = talking.console()
    asked_levels = parse_quantiles(quantiles)
    target, format = writing.target(stem=stem_of(data), suffix="imputed")
    from svae_cli.cli.opening import checked_of, input_paths, levels_of, open_data, open_model
    from svae_cli.files.atomic import check_target

    check_target(target, force=writing.force, inputs=input_paths(model, data))
    with open_data(data, reading, console) as series:
        fitted = open_model(model, computing)
        levels = levels_of(fitted, asked_levels)
        from svae_cli import prediction
        from svae_cli.cli.following import Count, tell_written
        from svae_cli.files.results import Header, sha256_of, write_results

        checked = checked_of(fitted, series, self_check, console)
        asked = {"samples": samples, "reconstruct": reconstruct, "latents": latents, "self_check": checked}
        header = Header.like(
            "imputation",
            series,
            settings={"command": "impute", "only_missing": only_missing, **asked, "model": fitted.settings.to_json()},
            quantiles=levels,
            seed=computing.seed,
            model_sha256=sha256_of(model),
        )
        predictions = prediction.impute(
            fitted,
            series,
            quantiles=levels,
            **asked,
            seed=computing.seed,
            batch_size=computing.batch_size,
        )
        count = Count(predictions, total=sum(header.lengths), stage="impute", console=console, channels=series.channels)
        write_results(target, header, count, format=format, force=writing.force, only_missing=only_missing)
    tell_written(console, target, f"{count.missing:,} of {count.values:,} values filled in {count.series} series", {
        "series": count.series, "values": count.values, "filled": count.missing, "ignored": count.ignored,
    })  # fmt: skip
