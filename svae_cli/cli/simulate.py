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
        typer.Option("--gap-pattern", help="Which values are removed; of frames, whole ones.", show_default=True),
    ] = "point",
    size: Annotated[
        Literal["small", "medium", "large"] | None, typer.Option("--size", help="lds: of the system (medium).")
    ] = None,
    latent_dim: Annotated[int | None, typer.Option("--latent-dim", min=1, help="lds: latent states.")] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", min=1, help="lds, lorenz-spikes, nascar: observed channels.")
    ] = None,
    dynamics_noise: Annotated[
        float | None, typer.Option("--dynamics-noise", help="lds, nascar: variance of the states' noise.")
    ] = None,
    emission_noise: Annotated[
        float | None, typer.Option("--emission-noise", help="lds, nascar: variance of the observation noise.")
    ] = None,
    pixel_noise: Annotated[
        float | None, typer.Option("--pixel-noise", help="pendulum: standard deviation of a pixel's noise (0.1).")
    ] = None,
    push: Annotated[float | None, typer.Option("--push", help="pendulum: strength of random pushes (0.1).")] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="lorenz-spikes: trials of each condition (20).")
    ] = None,
    base_rate: Annotated[
        float | None, typer.Option("--base-rate", help="lorenz-spikes: mean rate in spikes per second (10).")
    ] = None,
    speed: Annotated[float | None, typer.Option("--speed", help="lorenz-spikes: of the attractor (1).")] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", help="bouncing-ball: standard deviation of observation noise (0.05).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every random choice.", show_default=True)] = 0,
    writing: Writing,
    talking: Talking,
) -> None:
    """Make series with a known truth, with gaps if asked; the complete ones are then in truth/data."""
    given = {
        "size": size, "latent_dim": latent_dim, "channels": channels, "dynamics_noise": dynamics_noise,
        "emission_noise": emission_noise, "pixel_noise": pixel_noise, "push": push, "trials": trials,
        "base_rate": base_rate, "speed": speed, "noise": noise,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    console = talking.console()
    target, format = writing.target(stem=kind, suffix="simulated")
    import numpy as np

    from svae_cli.cli.following import tell_written
    from svae_cli.data.series import SeriesSet
    from svae_cli.data.simulate import simulate
    from svae_cli.files.atomic import check_target
    from svae_cli.files.results import Header, write_results

    check_target(target, force=writing.force)
    gaps = gap_pattern if gap_rate else "none"
    made = simulate(kind, series=series, steps=steps, seed=seed, gaps=gaps, gap_rate=gap_rate, **options)
    frame = made.data.shape[3:] and made.data.shape[2:]
    flat = made.data.reshape(*made.data.shape[:2], -1)
    asked = {"command": "simulate", **options, **made.attributes}
    data = SeriesSet.from_arrays(list(flat))
    header = Header.like("simulation", data, settings=asked, channel_shape=frame, seed=seed)
    truth = {f"truth/{name}": np.asarray(array) for name, array in made.truth.items()}
    write_results(target, header, iter(flat), format=format, force=writing.force, extra=truth)
    shape = " x ".join(map(str, frame)) + " pixels" if frame else f"{flat.shape[2]} channels"
    tell_written(console, target, f"{series} series of {steps} steps and {shape}", {
        "series": series, "steps": steps, "channels": flat.shape[2], "missing": int(np.isnan(flat).sum()),
    })  # fmt: skip
