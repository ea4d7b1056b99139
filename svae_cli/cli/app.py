"""The program: its commands, and the one boundary where errors become three lines and an exit code."""

import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from svae_cli import __version__
from svae_cli.cli import encode, evaluate, forecast, impute, inspect, plot, sample, simulate, train
from svae_cli.cli.console import tell_error
from svae_cli.errors import DeviceError, Interrupted, OutputError, SvaeError, UsageError

_USAGE_ERROR = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_MODULES: dict[str, ModuleType] = {
    "train": train,
    "impute": impute,
    "forecast": forecast,
    "evaluate": evaluate,
    "encode": encode,
    "sample": sample,
    "simulate": simulate,
    "inspect": inspect,
    "plot": plot,
}
_ELSEWHERE = "Any option can also come from a variable (SVAE_SEED) or from --config FILE.toml; the flag wins."


class Command(TyperCommand):
    """A command whose help begins with examples, and whose options can also come from ``SVAE_*`` variables."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        parameters: list[Any] = list(self.params)
        for parameter in parameters:
            parameter.show_envvar = False  # the closing line of the help says it once

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse with the same environment variables in every command: ``SVAE_SEED``, not ``SVAE_TRAIN_SEED``."""
        ctx.auto_envvar_prefix = "SVAE"
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, then what other programs write."""
        formatter.write(_MODULES[self.name or ""].EXAMPLES.strip("\n") + "\n\n")
        super().format_help(ctx, formatter)


class Commands(TyperGroup):
    """The group of commands, which keeps the order in which they are listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of a day's work, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a reader of standard output that has gone is no error, a full disk behind it is one."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(0) from None
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            _discard_stdout()
            raise OutputError(f"standard output could not be written: {problem.strerror}") from problem
        return result


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, so that Python does not stumble over it as it ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fill gaps in and forecast multichannel time series in HDF5 files, with uncertainty.",
    epilog="First steps: svae train rec.h5, then svae impute rec.svae rec.h5.  More: svae COMMAND -h",
)


def _show_version(value: bool) -> None:  # noqa: FBT001  (Typer's signature)
    if value:
        print(f"svae {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


for _name, _module in _MODULES.items():
    app.command(_name, cls=Command, short_help=_module.SHORT, epilog=_ELSEWHERE)(_module.command)


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    leave_on_signals()
    debug = "--debug" in given
    try:
        code = app(args=given, prog_name="svae", standalone_mode=False)
    except Exception as problem:
        if debug:
            traceback.print_exc()
        error = _as_svae_error(problem)
        tell_error(error if error is not None else _bug(problem))
        code = error.exit_code if error is not None else SvaeError.exit_code
    sys.exit(code if isinstance(code, int) else 0)


class _Stop(SystemExit):
    """What leaves the process after a signal."""


def leave_on_signals() -> None:
    """From now on SIGINT and SIGTERM leave the process, wherever it is."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    sys.unraisablehook = _raised_in_vain


def _raised_in_vain(unraisable: Any) -> None:
    """A signal that came while an object was cleared away has not left, as nothing does from there: it comes again.

    To the main thread, which may be waiting for input by then.
    """
    problem = unraisable.exc_value
    if not isinstance(problem, _Stop) or not isinstance(problem.code, int):
        sys.__unraisablehook__(unraisable)
        return
    again = threading.Timer(0.001, signal.pthread_kill, [threading.main_thread().ident, problem.code - 128])
    again.daemon = True
    again.start()


def _stopped(number: int, frame: FrameType | None) -> None:
    """SIGINT or SIGTERM outside of training: leave through every ``finally``, so that no temporary file stays.

    While HDF5 is writing through Python code, it is left to finish that first.
    """
    sink_module = sys.modules.get("svae_cli.files.sink")
    sink = None if sink_module is None else sink_module.writing_sink(frame)
    if sink is None:
        raise _Stop(128 + number)
    sink.exit_code = 128 + number


def _as_svae_error(problem: Exception) -> SvaeError | None:
    """The user's error that an exception stands for, or None for a bug."""
    if isinstance(problem, SvaeError):
        return problem
    if isinstance(problem, _USAGE_ERROR):
        return _usage(problem)
    if isinstance(problem, typer.Abort):
        return Interrupted("interrupted", signal_number=signal.SIGINT)
    if isinstance(problem, MemoryError) or "RESOURCE_EXHAUSTED" in str(problem):
        return DeviceError("out of memory", hint="a smaller --batch-size or --window, or --device cpu")
    if isinstance(problem, RuntimeError) and "Unable to initialize backend" in str(problem):
        return DeviceError(f"the device is not available: {str(problem).splitlines()[0]}", hint="--device cpu")
    return None


def _usage(problem: Any) -> UsageError:
    command = problem.ctx.command_path if getattr(problem, "ctx", None) is not None else "svae"
    if type(problem).__name__ == "NoArgsIsHelpError":
        return UsageError("no command", hint="svae --help")
    message = " ".join(problem.format_message().split()).rstrip(".")
    message = re.sub(r"( Did you mean .*\?)\1", r"\1", message)  # some releases of Typer say it twice
    return UsageError(message[:1].lower() + message[1:], hint=f"{command} --help")


def _bug(problem: Exception) -> SvaeError:
    return SvaeError(f"a bug in svae ({type(problem).__name__}: {problem})", hint="rerun with --debug and report it")
