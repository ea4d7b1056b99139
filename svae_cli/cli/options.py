"""Options that several commands share, written once: dataclasses whose fields become options of a command.

``expanded`` replaces a parameter annotated with one of these dataclasses by one option a field.
"""

import dataclasses
import functools
import inspect
import os
import shlex
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from svae_cli.cli.console import Console
from svae_cli.errors import UsageError

DataArg = Annotated[str, typer.Argument(metavar="DATA", help="FILE.h5, FILE.h5:/path/to/dataset, or - for stdin.")]
ModelArg = Annotated[Path, typer.Argument(metavar="MODEL", help="A model that svae train wrote.")]
OutPath = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write; - is standard output.")
]
Quantiles = Annotated[
    str | None,
    typer.Option("--quantiles", metavar="Q,Q,...", help="Levels; default 0.05,0.5,0.95 where channels are bent."),
]
SelfCheck = Annotated[
    bool | None,
    typer.Option(
        "--self-check/--no-self-check",
        help="Put the answers to the test of what the data show; by default up to 4 million values that they look at.",
    ),
]
Samples = Annotated[int, typer.Option("--samples", min=0, help="Joint sample paths over time and channels.")]


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """Give the command one option for each field of the dataclasses in its signature."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = hints[parameter.name]
        if parameter.name not in groups:
            parameters.append(parameter.replace(annotation=annotation))
            continue
        fields = get_type_hints(annotation, include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=fields[f.name])
            for f in dataclasses.fields(annotation)
        ]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{f.name: given.pop(f.name) for f in dataclasses.fields(kind)})
        function(**given)

    command.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
        sorted(parameters, key=lambda p: p.kind), return_annotation=None
    )
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    del command.__wrapped__  # pyright: ignore[reportAttributeAccessIssue]  (inspect would follow it)
    return command


def _load_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Put the values of ``--config FILE.toml`` below flags and environment variables."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            stated = tomllib.load(file)
    except OSError as problem:
        raise UsageError(f"--config {path} cannot be read: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"--config {path} is not TOML: {problem}") from problem
    ctx.default_map = {**(ctx.default_map or {}), **_config_values(ctx, path, stated)}
    return path


def _config_values(ctx: typer.Context, path: Path, stated: dict[str, Any]) -> dict[str, Any]:
    siblings: dict[str, Any] = getattr(ctx.parent.command, "commands", {}) if ctx.parent is not None else {}
    known = {name: _option_names(command) for name, command in siblings.items()}
    own = _option_names(ctx.command)
    values: dict[str, Any] = {}
    for key, value in stated.items():
        if isinstance(value, dict):
            if key not in siblings:
                raise UsageError(f"[{key}] is not a command", where=str(path), hint=f"one of {', '.join(siblings)}")
            if unknown := sorted(set(value) - set(known[key])):
                raise UsageError(f"svae {key} has no option {unknown[0]!r}", where=f"{path} [{key}]")
        elif not any(key in names for names in known.values()):
            raise UsageError(
                f"no command has an option {key!r}", where=str(path), hint="svae COMMAND --help lists them"
            )
        elif key in own:
            values[own[key]] = value
    table = stated.get(ctx.info_name or "", {})
    values.update({own[key]: value for key, value in table.items()})
    return {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in values.items()}


def _option_names(command: Any) -> dict[str, str]:
    """Kebab-case names of a command's options, as a configuration file writes them, to parameter names."""
    skipped = {"help", "config"}
    return {
        flag.lstrip("-"): p.name
        for p in command.params
        for flag in p.opts
        if flag.startswith("--") and p.name not in skipped
    }


@dataclass(frozen=True)
class Talking:
    """How the command talks."""

    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and warnings.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE.toml", help="Options from a file.", is_eager=True, callback=_load_config
        ),
    ] = None
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False

    def console(self) -> Console:
        """Where the command talks to."""
        return Console(quiet=self.quiet, verbose=self.verbose, as_json=self.as_json)


@dataclass(frozen=True)
class Reading:
    """How the data file is to be read."""

    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", metavar="NAME", help="The dataset or group of series.")
    ] = None
    axes: Annotated[
        str | None,
        typer.Option(
            "--axes", metavar="ntd", help="Dimensions in the file's order: n series, t time, d channel; h w c."
        ),
    ] = None
    observed: Annotated[str | None, typer.Option("--observed", metavar="NAME", help="Mask with 1 = value seen.")] = None
    missing: Annotated[str | None, typer.Option("--missing", metavar="NAME", help="Mask with 1 = gap.")] = None
    missing_value: Annotated[
        float | None, typer.Option("--missing-value", metavar="X", help="This number stands for a gap.")
    ] = None
    lengths: Annotated[str | None, typer.Option("--lengths", metavar="NAME", help="True lengths of padded series.")] = (
        None
    )
    inputs: Annotated[str | None, typer.Option("--inputs", metavar="NAME", help="Known inputs (covariates).")] = None
    regrid: Annotated[
        float | None, typer.Option("--regrid", metavar="DT", help="Put uneven timestamps on a grid of this step.")
    ] = None
    trials: Annotated[
        str | None, typer.Option("--trials", metavar="NAME", help="Cut at the intervals of this table (NWB).")
    ] = None

    def as_flags(self) -> str:
        """The flags that state the same again, with a space before each; for the line that tells how to resume."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return "".join(f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given.items())

    def options(self) -> Any:
        """What the readers take."""
        from svae_cli.files.readers import ReadOptions

        if self.observed is not None and self.missing is not None:
            raise UsageError("--observed and --missing name two masks", hint="give one of them")
        if self.regrid is not None and not self.regrid > 0:
            raise UsageError(f"--regrid is {self.regrid}; expected more than 0")
        return ReadOptions(
            dataset=self.dataset,
            axes=self.axes,
            mask=self.observed if self.observed is not None else self.missing,
            mask_means="missing" if self.missing is not None else "observed",
            missing_value=self.missing_value,
            lengths=self.lengths,
            inputs=self.inputs,
            regrid=self.regrid,
            trials=self.trials,
        )


@dataclass(frozen=True)
class Writing:
    """Where and how the result is written."""

    out: OutPath = None
    format: Annotated[
        Literal["h5", "csv", "jsonl"] | None,
        typer.Option("--format", help="Default: by the name of the output, else h5."),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False

    def target(self, *, stem: str, suffix: str) -> tuple[Path, Literal["h5", "csv", "jsonl"]]:
        """The file to write and its format.

        Text goes to standard output unless a file is named; HDF5 goes to ``<stem>.<suffix>.h5`` in this folder.
        """
        named = self.out if self.out is not None and str(self.out) != "-" else None
        ending = named.suffix.lstrip(".") if named is not None else ""
        by_name: dict[str, Literal["h5", "csv", "jsonl"]] = {"csv": "csv", "jsonl": "jsonl"}
        chosen: Literal["h5", "csv", "jsonl"] = self.format or by_name.get(ending, "h5")
        if chosen == "h5" and str(self.out) == "-" and sys.stdout.isatty():
            raise UsageError("HDF5 does not go to a terminal", hint="-o OUT.h5, a pipe after it, or --format csv")
        if self.out is not None:
            return self.out, chosen
        if chosen != "h5":
            return Path("-"), chosen
        if stem == "-":
            raise UsageError("data from standard input need a name for the result", hint="-o OUT.h5, or -o - | ...")
        return Path(f"{stem}.{suffix}.h5"), chosen


@dataclass(frozen=True)
class Computing:
    """On what, and how exactly, to compute."""

    device: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option("--device", help="Where to compute.", show_default=True)
    ] = "auto"
    precision: Annotated[
        Literal["float32", "float64"] | None,
        typer.Option("--precision", help="Arithmetic; default float32 when training, then the model's."),
    ] = None
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Every random choice follows from it.", show_default=True)
    ] = 0
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Series or windows at a time.")] = None

    def prepare(self, precision: str | None = None) -> None:
        """Choose device and precision; must run before anything else touches jax.

        Raises:
            DeviceError: the device is not there.
        """
        if self.device != "auto":
            os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda,rocm"}[self.device]
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA talks of its cache and its flags on standard error
        from svae_cli.cli.heap import share_heap

        share_heap()
        from svae_cli.cli.compiled import compile_sooner, keep_compiled

        compile_sooner()
        import jax

        from svae_cli.errors import DeviceError

        keep_compiled()
        jax.config.update("jax_enable_x64", (self.precision or precision) == "float64")
        try:
            found = jax.devices()[0].platform
        except RuntimeError as problem:
            raise DeviceError(
                f"no {self.device} device: {str(problem).splitlines()[0]}", hint="--device cpu"
            ) from problem
        if self.device == "gpu" and found == "cpu":
            raise DeviceError("no gpu device", hint="--device cpu, or install jax[cuda12]")


def parse_quantiles(text: str | None) -> tuple[float, ...]:
    """``0.05,0.5,0.95`` as rising numbers between 0 and 1.

    Raises:
        UsageError: anything else.
    """
    if not text:
        return ()
    levels = parse_numbers(text, "--quantiles")
    if not all(0 < q < 1 for q in levels) or list(levels) != sorted(set(levels)):
        raise UsageError(
            f"--quantiles is {text}; expected rising levels between 0 and 1", hint="--quantiles 0.05,0.5,0.95"
        )
    return levels


def parse_numbers(text: str, flag: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises:
        UsageError: something else stands there.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{flag} is {text!r}; expected numbers separated by commas") from None


def parse_widths(text: str) -> tuple[int, ...]:
    """``64,64`` as widths of hidden layers.

    Raises:
        UsageError: something else stands there.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"--hidden is {text!r}; expected whole numbers separated by commas", hint="--hidden 64,64"
        ) from None


def parse_duration(text: str | None) -> float | None:
    """``90``, ``90s``, ``30m``, ``2h``, ``1d`` or ``1h30m`` in seconds.

    Raises:
        UsageError: something else stands there.
    """
    if text is None:
        return None
    import re

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not parts or "".join(n + u for n, u in parts) != text.strip().lower():
        raise UsageError(f"--time-limit is {text!r}; expected a duration", hint="--time-limit 30m")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if seconds <= 0:
        raise UsageError(f"--time-limit is {text}; expected more than 0")
    return seconds


def stem_of(spec: str) -> str:
    """What results of this data are called: the file's name without folder and ending; ``-`` stays ``-``."""
    if spec == "-":
        return "-"
    from svae_cli.files.readers import split_spec

    path, inside = split_spec(spec)
    return path.stem if inside is None else f"{path.stem}-{inside.strip('/').replace('/', '-')}".rstrip("-")
