"""Follow results as they stream into a file: progress while it lasts, and numbers for the closing line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from svae_cli.cli.console import Console, ProgressLine
from svae_cli.results import LatentPath, Prediction


class Count:
    """Pass results through and count them; ``total`` is the number of steps to come.

    Attributes:
        series: results so far.
        values: values in them.
        missing: values that were not observed.
    """

    def __init__(
        self, rows: Iterable[Prediction | LatentPath | np.ndarray], *, total: int, stage: str, console: Console
    ):
        self._rows = rows
        self._total = total
        self._stage = stage
        self._console = console
        self.series = self.values = self.missing = self._steps = 0

    def __iter__(self) -> Iterator[Any]:
        with ProgressLine(self._console, plain_after=2.0) as progress:
            for row in self._rows:
                self.series += isinstance(row, np.ndarray) or row.start == 0
                self._steps += len(row if isinstance(row, np.ndarray) else row.mean)
                if isinstance(row, Prediction):
                    self.values += row.mean.size
                    self.missing += 0 if row.observed is None else int(np.count_nonzero(~row.observed))
                yield row
                progress.show(self._stage, self._steps, self._total, "steps")


def tell_written(console: Console, target: Path, said: str, numbers: dict[str, Any]) -> None:
    """The closing line on standard error, and the output's path (or with ``--json`` the numbers) on standard output.

    Where the result itself went to standard output, nothing else goes there.
    """
    console.say(said)
    if str(target) != "-":
        console.result(str(target), {"output": str(target), **numbers})
