"""Open what a command works on: data with its notes told, and a model on its device."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from svae_cli.cli.console import Console
from svae_cli.cli.options import Computing, Reading
from svae_cli.data.series import SeriesSet

if TYPE_CHECKING:
    from svae_cli.models.fitted import FittedModel


@contextmanager
def open_data(spec: str, reading: Reading, console: Console) -> Iterator[SeriesSet]:
    """The series of a file, with what is to be known about their reading said aloud.

    Raises:
        DataError: the data cannot be used.
    """
    from svae_cli.files.readers import open_series

    with open_series(spec, reading.options()) as opened:
        for note in opened.notes:
            console.say(f"note: {note}")
        yield opened.data


def open_model(path: Path, computing: Computing) -> "FittedModel":
    """A trained model, on the device and in the precision asked for; without that, in its own precision.

    Raises:
        ModelError: the file is not a model or is damaged.
        DeviceError: the device is not there.
    """
    from svae_cli.files.model_header import read_header

    computing.prepare(read_header(path).settings.precision)
    from svae_cli.files.model_file import load_model

    return load_model(path)


def levels_of(fitted: "FittedModel", asked: tuple[float, ...]) -> tuple[float, ...]:
    """The quantiles that were asked for; without any, the median and a 90 % interval where channels are bent."""
    return asked if asked or fitted.scaler.warp is None else (0.05, 0.5, 0.95)


def input_paths(*specs: str | Path) -> list[Path]:
    """The files behind what was named, which no output may replace."""
    from svae_cli.files.readers import split_spec

    return [path for spec in specs if str(path := split_spec(str(spec))[0]) != "-"]


def checked_of(
    fitted: "FittedModel",
    series: SeriesSet,
    asked: bool | None,  # noqa: FBT001
    console: Console,
    *,
    horizon: int | None = None,
) -> bool:
    """Whether to test the answers on the data; says so where that was left out for its cost."""
    from svae_cli import prediction

    checked = prediction.is_checked(fitted.model, series, asked=asked, horizon=horizon)
    if asked is None and not checked and prediction.can_check(fitted.model):
        console.say("answers are the model's own; --self-check tests them on these data, in 12 times the time")
    return checked
