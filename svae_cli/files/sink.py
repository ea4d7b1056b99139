"""HDF5 written so that a full disk is an error and not a crash.

HDF5 2.0.0 and earlier crash the process when they close a file whose last writes failed. So HDF5 writes through an
object that keeps the first failure to itself and lets HDF5 finish; the failure is raised when HDF5 is done.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import h5py

from svae_cli.errors import OutputError


class Sink:
    """An open file for h5py that remembers the first failed write and swallows it and all that follow.

    Attributes:
        error: the failure, or None.
        exit_code: what to leave the process with, if a signal came while HDF5 was writing; None if none came.
    """

    def __init__(self, path: Path, target: Path):
        self.error: OSError | None = None
        self.exit_code: int | None = None
        self._target = target
        self._file = path.open("w+b", buffering=0)

    def check(self) -> None:
        """Tell of a failure, or leave because of a signal that came while HDF5 was writing.

        Raises:
            OutputError: something could not be written.
            SystemExit: a signal came.
        """
        if self.exit_code is not None:
            raise SystemExit(self.exit_code)
        if self.error is not None:
            reason = os.strerror(self.error.errno) if self.error.errno else str(self.error)
            hint = "free some space or choose another place with -o"
            raise OutputError(f"{self._target} could not be written: {reason}", hint=hint) from self.error

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data``, or remember why not."""
        view = memoryview(data).cast("B")
        try:
            while self.error is None and len(view):
                view = view[self._file.write(view) :]
        except OSError as problem:
            self.error = problem
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or remember why not."""
        try:
            return self._file.truncate(size)
        except OSError as problem:
            self.error = self.error or problem
            return size or 0

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read from the current position."""
        return self._file.readinto(buffer) or 0

    def read(self, size: int = -1) -> bytes:
        """Read from the current position."""
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def flush(self) -> None:
        """Nothing to do: the file is not buffered."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_open: list[Sink] = []


def writing_sink(frame: FrameType | None) -> Sink | None:
    """The open sink, if h5py is at work in this frame or one that called it: an exception must not be raised there.

    HDF5 calls the sink back from code that cannot pass every exception on; some would be lost, some crash it.
    """
    if not _open:
        return None
    while frame is not None:
        if frame.f_code.co_filename == __file__ or (frame.f_globals.get("__package__") or "").split(".")[0] == "h5py":
            return _open[-1]
        frame = frame.f_back
    return None


@contextmanager
def new_hdf5(path: Path, target: Path) -> Iterator[tuple[h5py.File, Sink]]:
    """A new HDF5 file to fill, and its sink, whose ``check`` tells early of a failure.

    Args:
        path: the file, which is replaced.
        target: what to call it in messages.

    Raises:
        OutputError: it could not be written in full.
    """
    try:
        sink = Sink(path, target)
    except OSError as problem:
        raise OutputError(f"{target} could not be written: {problem.strerror}") from problem
    try:
        _open.append(sink)
        try:
            with h5py.File(sink, "w") as file:
                yield file, sink
        finally:
            _open.remove(sink)
        sink.check()  # not before: from here on a signal may raise at once
    finally:
        sink.close()
