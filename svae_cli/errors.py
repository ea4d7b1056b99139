"""The errors that a user can mend, each with the exit code of the process.

SvaeError               1   (the base; anything else that escapes is a bug in svae)
├── UsageError          2   the command line does not make sense
├── DataError           3   the input data are unusable
├── ModelError          4   the model file is unusable, or does not fit the data
├── NumericalError      5   the computation left the finite numbers
├── OutputError         6   the output was refused or could not be written
├── DeviceError         7   device or memory
├── ThresholdError      8   a ``--fail-under`` was not met
└── Interrupted   130/143   stopped by a signal, work saved
"""


class SvaeError(Exception):
    """A failure that the user can mend, told in three short lines.

    Args:
        what: what is wrong, with the numbers and names that were found.
        where: the file, dataset, channel or option concerned.
        hint: what to try, best as a command to type.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None):
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"in: {self.where}")
        if self.hint:
            lines.append(f"try: {self.hint}")
        return "\n".join(lines)


class UsageError(SvaeError):
    """The command line does not make sense."""

    exit_code = 2


class DataError(SvaeError):
    """The input data are unusable."""

    exit_code = 3


class ModelError(SvaeError):
    """The model file is unusable, or does not fit the data."""

    exit_code = 4


class NumericalError(SvaeError):
    """The computation left the finite numbers."""

    exit_code = 5


class OutputError(SvaeError):
    """The output was refused or could not be written."""

    exit_code = 6


class DeviceError(SvaeError):
    """The device is absent, or memory ran out."""

    exit_code = 7


class ThresholdError(SvaeError):
    """A score is worse than ``--fail-under`` asked for."""

    exit_code = 8


class Interrupted(SvaeError):
    """Stopped by a signal after saving; the exit code is 128 plus the signal's number."""

    def __init__(self, what: str, *, signal_number: int, hint: str | None = None):
        super().__init__(what, hint=hint)
        self.exit_code = 128 + signal_number
