"""Follow results as they stream into a file: progress while it lasts, and numbers for the closing line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from svae_cli.cli.console import Console, ProgressLine
from svae_cli.prediction.glitches import LIMIT
from svae_cli.results import LatentPath, Prediction

_PLACES = 3  # of values that are not relied on, named at most


class Count:
    """Pass results through, count them, and say what was not relied on; ``total`` is the number of steps to come.

    Attributes:
        series: results so far.
        values: values in them.
        missing: values that were not observed.
        ignored: known values that cannot be, so that answers do not rely on them; None if none was looked for.
    """

    def __init__(
        self,
        rows: Iterable[Prediction | LatentPath | np.ndarray],
        *,
        total: int,
        stage: str,
        console: Console,
        channels: tuple[str, ...] = (),
    ):
        self._rows = rows
        self._total = total
        self._stage = stage
        self._console = console
        self._channels = channels
        self.series = self.values = self.missing = self._steps = 0
        self.ignored: int | None = None
        self._places: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        with ProgressLine(self._console, plain_after=2.0) as progress:
            for row in self._rows:
                self.series += isinstance(row, np.ndarray) or row.start == 0
                self._steps += len(row if isinstance(row, np.ndarray) else row.mean)
                if isinstance(row, Prediction):
                    self.values += row.mean.size
                    self.missing += 0 if row.observed is None else int(np.count_nonzero(~row.observed))
                    self._note_ignored(row)
                yield row
                progress.show(self._stage, self._steps, self._total, "steps")
        self._tell_ignored()

    def _note_ignored(self, row: Prediction) -> None:
        if row.ignored is None:
            return
        found = np.argwhere(row.ignored)
        self.ignored = (self.ignored or 0) + len(found)
        first = row.start if row.observed is not None else 0
        for step, channel in found[: _PLACES - len(self._places)]:
            self._places.append(f"{self._channels[channel]} at step {first + step} of {row.key}")

    def _tell_ignored(self) -> None:
        """Say which known values answers do not rely on, if there are any."""
        if not self.ignored:
            return
        what, them = ("value is", "it") if self.ignored == 1 else ("values are", "them")
        more = ", ..." if self.ignored > len(self._places) else ""
        self._console.say(
            f"{self.ignored:,} known {what} more than {LIMIT:.0f} standard deviations from what all others say; answers"
            f" do not rely on {them}: {', '.join(self._places)}{more}"
        )


def tell_written(console: Console, target: Path, said: str, numbers: dict[str, Any]) -> None:
    """The closing line on standard error, and the output's path (or with ``--json`` the numbers) on standard output.

    Where the result itself went to standard output, nothing else goes there.
    """
    console.say(said)
    if str(target) != "-":
        console.result(str(target), {"output": str(target), **numbers})
