"""``svae train``: fit a model."""

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from svae_cli.cli.options import (
    Computing,
    DataArg,
    Reading,
    Talking,
    expanded,
    parse_duration,
    parse_widths,
    stem_of,
)
from svae_cli.config import (
    DecoderKind,
    LikelihoodKind,
    MaskPattern,
    ObjectiveKind,
    PosteriorKind,
    Preset,
    PriorUpdate,
    RecognitionKind,
    ResidualKind,
    Settings,
    SpikeKind,
    SplitKind,
    Standardization,
    StartKind,
    StatesKind,
    TransformKind,
)

SHORT = "Fit a model."
EXAMPLES = """
  svae train rec.h5                                    write rec.svae
  svae train rec.h5:/lfp -o lfp.svae --time-limit 30m
  svae train rec.h5 --resume                           go on after a stop
"""


@dataclass(frozen=True)
class Fitting:
    """What is trained and how; see ``svae_cli.config.Settings``."""

    preset: Annotated[Preset, typer.Option("--preset", help="How long to train.", show_default=True)] = Settings.preset
    latent_dim: Annotated[int | None, typer.Option("--latent-dim", help="Latent states; default chosen.")] = None
    states: Annotated[
        StatesKind, typer.Option("--states", help="Shared by channels, or a level and a slope for each.")
    ] = Settings.states
    hidden: Annotated[
        str, typer.Option("--hidden", metavar="W,W", help="Widths of hidden layers.", show_default=True)
    ] = ",".join(map(str, Settings.hidden))
    recognition: Annotated[RecognitionKind, typer.Option("--recognition", help="Network from data to potentials.")] = (
        Settings.recognition
    )
    decoder: Annotated[DecoderKind, typer.Option("--decoder", help="Network from states to data.")] = Settings.decoder
    likelihood: Annotated[LikelihoodKind, typer.Option("--likelihood", help="Of an observation.")] = Settings.likelihood
    posterior: Annotated[PosteriorKind, typer.Option("--posterior", help="Family; svae is the paper's.")] = (
        Settings.posterior
    )
    residual_chains: Annotated[
        ResidualKind, typer.Option("--residual-chains", help="An autoregression of its own for each channel.")
    ] = Settings.residual_chains
    season: Annotated[
        int | None, typer.Option("--season", metavar="STEPS", help="A cycle to remember; default found; 0 for none.")
    ] = None
    short_season: Annotated[
        int | None, typer.Option("--short-season", metavar="STEPS", help="A shorter one within it, as days of a week.")
    ] = None
    lags: Annotated[
        int | None, typer.Option("--lags", metavar="STEPS", help="Last values that forecasts regress on; 0 for none.")
    ] = None
    stable: Annotated[bool, typer.Option("--stable", help="Keep the dynamics from growing.")] = Settings.stable
    unit_roots: Annotated[
        bool, typer.Option("--unit-roots/--no-unit-roots", help="Levels without a visible mean are random walks.")
    ] = Settings.unit_roots
    window: Annotated[int | None, typer.Option("--window", help="Steps in a training window; default chosen.")] = None
    epochs: Annotated[int | None, typer.Option("--epochs", help="Longest training; default chosen.")] = None
    em_steps: Annotated[
        int, typer.Option("--em-steps", help="EM iterations of the linear start.", show_default=True)
    ] = Settings.em_steps
    linear_steps: Annotated[
        int | None, typer.Option("--linear-steps", help="Gradient steps of the linear start; default chosen.")
    ] = None
    objective: Annotated[ObjectiveKind, typer.Option("--objective", help="What the full model raises.")] = (
        Settings.objective
    )
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of the networks.", show_default=True)] = (
        Settings.learning_rate
    )
    prior_learning_rate: Annotated[
        float, typer.Option("--prior-learning-rate", help="Of the dynamics.", show_default=True)
    ] = Settings.prior_learning_rate
    prior_update: Annotated[PriorUpdate, typer.Option("--prior-update", help="How the dynamics learn.")] = (
        Settings.prior_update
    )
    patience: Annotated[
        int, typer.Option("--patience", help="Rounds without improvement before stopping.", show_default=True)
    ] = Settings.patience
    mask_pattern: Annotated[MaskPattern, typer.Option("--mask-pattern", help="What training hides.")] = (
        Settings.mask_pattern
    )
    mask_rate: Annotated[float, typer.Option("--mask-rate", help="Share that training hides.", show_default=True)] = (
        Settings.mask_rate
    )
    noise: Annotated[
        float | None, typer.Option("--noise", metavar="SD", help="Fixed Gaussian noise; default learned.")
    ] = None
    start: Annotated[StartKind, typer.Option("--start", help="Begin with the best linear model or at random.")] = (
        Settings.start
    )
    standardize: Annotated[Standardization, typer.Option("--standardize", help="Scale each channel, or none.")] = (
        Settings.standardize
    )
    transform: Annotated[TransformKind, typer.Option("--transform", help="Bend skewed channels, or none.")] = (
        Settings.transform
    )
    spikes: Annotated[SpikeKind, typer.Option("--spikes", help="Skip values far from those before and after.")] = (
        Settings.spikes
    )
    val_fraction: Annotated[
        float, typer.Option("--val-fraction", help="Share held out to stop in time.", show_default=True)
    ] = Settings.val_fraction
    split: Annotated[SplitKind, typer.Option("--split", help="Hold out whole series or stretches in time.")] = (
        Settings.split
    )
    clip_norm: Annotated[float, typer.Option("--clip-norm", help="Largest norm of a gradient.", show_default=True)] = (
        Settings.clip_norm
    )
    kl_warmup: Annotated[
        int, typer.Option("--kl-warmup", help="Steps over which the KL weight rises.", show_default=True)
    ] = Settings.kl_warmup
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="30m", help="Stop after this long with the best model.")
    ] = None

    def settings(self, computing: Computing) -> Settings:
        """The settings of the training."""
        fields: dict[str, Any] = dict(vars(self))
        fields["hidden"] = parse_widths(self.hidden)
        fields["time_limit"] = parse_duration(self.time_limit)
        return Settings(
            **fields,
            precision=computing.precision or Settings.precision,
            seed=computing.seed,
            batch_size=computing.batch_size,
        )


@expanded
def command(
    ctx: typer.Context,
    data: DataArg,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="MODEL.svae", help="Default: the data's name with .svae.")
    ] = None,
    val: Annotated[str | None, typer.Option("--val", metavar="FILE[:DSET]", help="Validation data.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from MODEL.svae.ckpt.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    log: Annotated[Path | None, typer.Option("--log", metavar="FILE.jsonl", help="One line a report.")] = None,
    checkpoint_every: Annotated[
        str, typer.Option("--checkpoint-every", metavar="1m", help="Time between checkpoints.", show_default=True)
    ] = "1m",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model.")] = False,
    fitting: Fitting,
    reading: Reading,
    computing: Computing,
    talking: Talking,
) -> None:
    """Fit a model to series with gaps. MODEL.svae holds the best model so far at any time."""
    console = talking.console()
    settings = fitting.settings(computing)
    every = parse_duration(checkpoint_every) or 60.0
    target = out or Path(f"{stem_of(data).lstrip('-') or 'model'}.svae")
    from svae_cli.cli import training_run
    from svae_cli.cli.opening import open_data

    validation = "" if val is None else f" --val {shlex.quote(val)}"
    typed, model = shlex.quote(data), shlex.quote(str(target))
    again = f"svae train {typed} -o {model}{validation}{reading.as_flags()} --resume"
    asked = f"{model} {'FILE' if data == '-' else typed}{reading.as_flags()}"
    then = f"svae impute {asked}, or svae evaluate {asked}"
    run = training_run.Run(
        target=target, force=force, log=log, checkpoint_every=every, console=console, again=again, then=then
    )
    with open_data(data, reading, console) as series:
        run.check(data=data, validation=val, resume=resume)
        computing.prepare(settings.precision)
        if resume:  # reading a checkpoint takes jax, and only it knows the precision
            settings = run.resumed_settings(settings, explicit=_explicit(ctx))
            computing.prepare(settings.precision)
        act = partial(run.describe if dry_run else run.fit, resume=resume)
        if val is None:
            act(series, None, settings)
        else:
            with open_data(val, reading, console) as validation:
                act(series, validation, settings)


def _explicit(ctx: typer.Context) -> set[str]:
    """Names of the options that the caller gave by flag, environment or configuration file."""
    return {name for name in ctx.params if (s := ctx.get_parameter_source(name)) is not None and s.name != "DEFAULT"}
