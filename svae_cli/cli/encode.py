"""``svae encode``: posterior latent states."""

from typing import Annotated

import typer

from svae_cli.cli.options import Computing, DataArg, ModelArg, Reading, Talking, Writing, expanded, stem_of

SHORT = "Posterior latent states."
EXAMPLES = """
  svae encode rec.svae rec.h5                          write rec.latents.h5
  svae encode rec.svae rec.h5 --filtered -o online.h5  each step knows only the past
"""


@expanded
def command(
    model: ModelArg,
    data: DataArg,
    *,
    filtered: Annotated[bool, typer.Option("--filtered", help="Given the past only, not the whole series.")] = False,
    writing: Writing,
    reading: Reading,
    computing: Computing,
    talking: Talking,
) -> None:
    """Write the means and covariances of the latent states of every series, smoothed or filtered."""
    console = talking.console()
    target, format = writing.target(stem=stem_of(data), suffix="latents")
    from svae_cli.cli.opening import input_paths, open_data, open_model
    from svae_cli.files.atomic import check_target

    check_target(target, force=writing.force, inputs=input_paths(model, data))
    with open_data(data, reading, console) as series:
        fitted = open_model(model, computing)
        from svae_cli import prediction
        from svae_cli.cli.following import Count, tell_written
        from svae_cli.files.results import Header, sha256_of, write_results

        header = Header.like(
            "encoding",
            series,
            settings={"command": "encode", "filtered": filtered, "model": fitted.settings.to_json()},
            seed=computing.seed,
            model_sha256=sha256_of(model),
        )
        paths = prediction.encode(fitted, series, filtered=filtered, batch_size=computing.batch_size)
        count = Count(paths, total=sum(header.lengths), stage="encode", console=console)
        write_results(target, header, count, format=format, force=writing.force)
    kind = "filtered" if filtered else "smoothed"
    tell_written(console, target, f"{kind} latent states of {count.series} series", {"series": count.series})
