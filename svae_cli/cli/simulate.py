"""``svae simulate``: series whose truth is known."""

from typing import Annotated, Literal

import typer

from svae_cli.cli.options import Talking, Writing, expanded

SHORT = "Make series whose truth is known."
EXAMPLES = """
  svae simulate lds -o lds.h5                          write series and the truth behind them
  svae simulate pendulum --series 50 --steps 200 --gap-rate 0.3 --gap-pattern block -o gaps.h5
"""


@expanded
def command(
    kind: Annotated[
        Literal["lds", "pendulum", "lorenz-spikes", "nascar", "bouncing-ball"],
        typer.Argument(metavar="KIND", help="lds, pendulum, lorenz-spikes, nascar or bouncing-ball."),
    ],
    *,
    series: Annotated[int, typer.Option("--series", "-N", min=1, help="How many.", show_default=True)] = 100,
    steps: Annotated[int, typer.Option("--steps", "-T", min=1, help="Steps of each.", show_default=True)] = 200,
    gap_rate: Annotated[float, typer.Option("--gap-rate", help="Share of values removed.", show_default=True)] = 0.0,
    gap_pattern: Annotated[
        Literal["point", "block", "channel", "tail"],
        typer.Option("--gap-pattern", help="Which values are removed.", show_default=True),
    ] = "point",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every random choice.", show_default=True)] = 0,
    writing: Writing,
    talking: Talking,
) -> None:
    """Make series with a known truth, with gaps if asked; the complete ones are then in truth/data."""
    console = talking.console()
    target, format = writing.target(stem=kind, suffix="simulated")
    import numpy as np

    from svae_cli.cli.following import tell_written
    from svae_cli.data.gaps import hide
    from svae_cli.data.series import SeriesSet
    from svae_cli.data.simulate import simulate
    from svae_cli.files.atomic import check_target
    from svae_cli.files.results import Header, write_results

    check_target(target, force=writing.force)
    made = simulate(kind, series=series, steps=steps, seed=seed)
    values = np.asarray(made.data, np.float32)
    hidden = hide(np.isfinite(values), gap_pattern, gap_rate, np.random.default_rng([seed, 1]))
    truth = {f"truth/{name}": np.asarray(array) for name, array in made.truth.items()}
    if hidden.any():
        truth["truth/data"] = values
    shown = np.where(hidden, np.float32(np.nan), values)
    settings = {"command": "simulate", "kind": kind, "gap_rate": gap_rate, "gap_pattern": gap_pattern}
    header = Header.like(
        "simulation", SeriesSet.from_arrays(list(shown)), settings={**settings, **made.attributes}, seed=seed
    )
    write_results(target, header, iter(shown), format=format, force=writing.force, extra=truth)
    tell_written(console, target, f"{series} series of {steps} steps and {values.shape[2]} channels", {
        "series": series, "steps": steps, "channels": values.shape[2], "missing": int(hidden.sum()),
    })  # fmt: skip
