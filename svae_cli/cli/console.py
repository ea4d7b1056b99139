"""Talk to the person: everything here goes to standard error; only ``result`` writes to standard output."""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svae_cli.errors import SvaeError

_EVERY_SECONDS = 5.0


def tell_error(error: SvaeError) -> None:
    """Three short lines at most: what, where, what to try; control characters of hostile names are escaped."""
    lines = [f"svae: {error.what}"]
    lines += [f"in: {error.where}"] if error.where else []
    lines += [f"try: {error.hint}"] if error.hint else []
    print("\n".join(printable(line) for line in lines), file=sys.stderr)


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey made visible."""
    joined = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in joined)


@dataclass(frozen=True)
class Console:
    """What is said, and how loudly.

    Attributes:
        quiet: say nothing but errors and warnings.
        verbose: say more.
        as_json: the result is one JSON object.
    """

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False

    def say(self, text: str = "") -> None:
        """A line for the person."""
        if not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """A line for the person who asked for more."""
        if self.verbose and not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A line that is not silenced by ``--quiet``."""
        print(f"warning: {printable(text)}", file=sys.stderr, flush=True)

    def result(self, text: str, summary: Mapping[str, Any]) -> None:
        """The answer of the command: plain text, or with ``--json`` one object."""
        print(json.dumps(_plain(summary), allow_nan=False) if self.as_json else text)


def _plain(value: Any) -> Any:
    """What JSON can say: NumPy's numbers as Python's, numbers that are not finite as null, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, float):
        return number if math.isfinite(number) else None
    return number if number is None or isinstance(number, int | str) else str(number)


class ProgressLine:
    """How far a long task is: a live bar on a terminal, else a plain line every few seconds, all on standard error.

    Args:
        console: where plain lines go, and whether any do.
        plain_after: seconds before the first plain line; short tasks stay silent.
    """

    def __init__(self, console: Console, *, plain_after: float = 0.0):
        self._console = console
        self._last = time.monotonic() - _EVERY_SECONDS + plain_after
        self._bar: Any = None
        self._task: Any = None
        self._stage = ""

    def __enter__(self) -> "ProgressLine":
        if sys.stderr.isatty() and not self._console.quiet:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[score]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=RichConsole(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, stage: str, step: int, steps: int, note: str) -> None:
        """Step ``step`` of ``steps`` is done; ``note`` says how well it goes."""
        if self._bar is not None:
            if stage != self._stage:
                self._task = self._bar.add_task(stage, total=steps, score="")
            self._bar.update(self._task, completed=step, total=steps, score=note)
        elif time.monotonic() - self._last >= _EVERY_SECONDS:
            self._console.say(f"{stage}: {step}/{steps}  {note}")
            self._last = time.monotonic()
        self._stage = stage
