"""Readers: one file a dialect of HDF5; each finds the series in a file and says what describes them."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import h5py

from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import neural, nwb, pandas, plain
from svae_cli.files.readers.assemble import assemble
from svae_cli.files.readers.source import ReadOptions

__all__ = ["Opened", "ReadOptions", "open_series", "split_spec"]

DIALECTS = (nwb, pandas, neural, plain)
"""In the order of asking; each has ``recognises(file)`` and ``read(file, options, name)``."""


@dataclass(frozen=True)
class Opened:
    """Series of an open file.

    Attributes:
        data: the series, valid while the file is open.
        notes: what the user should hear about how they were read.
    """

    data: SeriesSet
    notes: tuple[str, ...]


def split_spec(spec: str) -> tuple[Path, str | None]:
    """``FILE``, ``FILE:/path/in/file`` or ``-`` as a file and a dataset; a file whose name has a colon is found too."""
    if spec == "-" or Path(spec).exists() or ":" not in spec:
        return Path(spec), None
    name, _, inside = spec.rpartition(":")
    return Path(name), inside or None


@contextmanager
def open_series(spec: str, options: ReadOptions | None = None) -> Iterator[Opened]:
    """Open the series of a file, to be read as needed while the block lasts.

    Args:
        spec: ``FILE.h5``, ``FILE.h5:/path/to/dataset``, or ``-`` for standard input.
        options: how to read it where the file does not say.

    Raises:
        DataError: the file or the chosen dataset cannot be used; the message names what was found.
    """
    chosen = options or ReadOptions()
    path, inside = split_spec(spec)
    if inside is not None:
        if chosen.dataset is not None and chosen.dataset != inside:
            raise DataError(f"two datasets are named: {inside} and {chosen.dataset}", hint="name one")
        chosen = replace(chosen, dataset=inside)
    with seekable(path) as (source, name), safe.open_file(source, name=name) as file:
        recording = _dialect(file, chosen).read(file, chosen, name)
        yield Opened(assemble(recording, source=name), recording.notes)


def _dialect(file: h5py.File, options: ReadOptions) -> ModuleType:
    """The dialect of the file; tensors in parts are plain datasets as soon as one of them is named."""
    dialect = next(d for d in DIALECTS if d.recognises(file))
    if options.trials is not None and dialect is not nwb:
        raise DataError("--trials cuts NWB recordings only", hint="leave --trials out")
    named = options.dataset is not None and not neural.names_part(file, options.dataset)
    return plain if dialect is neural and named else dialect


@contextmanager
def seekable(path: Path) -> Iterator[tuple[Path, str]]:
    """A path that can be read at random, and its name for messages; standard input and pipes are copied to a file."""
    if path != Path("-") and not path.is_fifo():
        yield path, path.name
        return
    name = "standard input" if path == Path("-") else path.name
    if path == Path("-") and sys.stdin.isatty():
        raise DataError("standard input is a terminal", hint="pipe an HDF5 file in, or name one")
    with tempfile.NamedTemporaryFile(suffix=".h5") as copy:
        if path == Path("-"):
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with path.open("rb") as pipe:
                shutil.copyfileobj(pipe, copy)
        copy.flush()
        yield Path(copy.name), name
