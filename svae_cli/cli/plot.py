"""``svae plot``: a picture of a data, model or result file."""

from pathlib import Path
from typing import Annotated

import typer

from svae_cli.cli.options import Reading, Talking, expanded, stem_of
from svae_cli.errors import UsageError

SHORT = "A picture of a file."
EXAMPLES = """
  svae plot rec.imputed.h5 -o gaps.png                 data, fillings and their uncertainty
  svae plot rec.svae -o training.svg                   the training curve
  svae plot rec.h5                                     a small picture in the terminal
"""


@expanded
def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Data, model or result.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FIG.png|svg", help="Default: text in the terminal.")
    ] = None,
    series: Annotated[str | None, typer.Option("--series", metavar="KEY", help="Which; default the first.")] = None,
    channels: Annotated[int, typer.Option("--channels", min=1, help="How many.", show_default=True)] = 6,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing picture.")] = False,
    reading: Reading,
    talking: Talking,
) -> None:
    """Draw data with gaps, imputations and forecasts with their uncertainty, latent states, or a training curve."""
    console = talking.console()
    from svae_cli.cli.opening import input_paths
    from svae_cli.files.atomic import STDOUT, check_target
    from svae_cli.files.pictures import read_picture

    if out is not None and out != STDOUT and out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{out} is not a .png, .svg or .pdf", hint=f"-o {stem_of(file)}.png")
    if out is not None:
        check_target(out, force=force, inputs=input_paths(file))
    picture = read_picture(file, reading.options(), series=series, channels=channels)
    from svae_cli import plots

    if out is None:
        console.result(plots.as_text(picture), {"kind": picture.kind, "panels": [p.title for p in picture.panels]})
        return
    plots.draw(picture, out, force=force)
    console.result(str(out), {"output": str(out), "kind": picture.kind})
