"""``svae sample``: draw new series from the model."""

from typing import Annotated

import typer

from svae_cli.cli.options import Computing, ModelArg, Talking, Writing, expanded

SHORT = "Draw new series."
EXAMPLES = """
  svae sample rec.svae -T 500                          write rec.sample.h5
  svae sample rec.svae -T 500 -N 20 --seed 3 -o new.h5
"""


@expanded
def command(
    model: ModelArg,
    *,
    steps: Annotated[int, typer.Option("--steps", "-T", min=1, metavar="N", help="Steps of each series.")],
    count: Annotated[int, typer.Option("--count", "-N", min=1, metavar="N", help="Series to draw.")] = 1,
    writing: Writing,
    computing: Computing,
    talking: Talking,
) -> None:
    """Draw new series from the prior and decode them, noise included."""
    console = talking.console()
    target, format = writing.target(stem=model.stem, suffix="sample")
    from svae_cli.cli.opening import open_model
    from svae_cli.files.atomic import check_target

    check_target(target, force=writing.force, inputs=[model])
    fitted = open_model(model, computing)
    from svae_cli import prediction
    from svae_cli.cli.following import tell_written
    from svae_cli.data.series import SeriesSet
    from svae_cli.files.results import Header, sha256_of, write_results

    drawn = prediction.sample(fitted, steps=steps, count=count, seed=computing.seed).astype(fitted.settings.precision)
    series = SeriesSet.from_arrays(list(drawn), channels=fitted.channels, units=fitted.units)
    header = Header.like(
        "sample",
        series,
        settings={"command": "sample", "steps": steps, "count": count, "model": fitted.settings.to_json()},
        channel_shape=fitted.channel_shape,
        time=fitted.time,
        seed=computing.seed,
        model_sha256=sha256_of(model),
    )
    write_results(target, header, iter(drawn), format=format, force=writing.force)
    tell_written(console, target, f"{count} series of {steps} steps drawn", {"series": count, "steps": steps})
