"""Outputs that appear whole or not at all: a temporary file beside the target, flush, fsync, rename."""

import glob
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from svae_cli.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_ABANDONED_AFTER = 60.0  # seconds

STDOUT = Path("-")
"""The target that means standard output."""


def check_target(target: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse early, before any work is done, a target that could not or must not be written.

    Args:
        target: the file to write; ``-`` is standard output.
        force: whether an existing file may be replaced.
        inputs: files that are being read; they are never replaced, not even by force.

    Raises:
        OutputError: the target exists, is an input, or its folder is not there or cannot be written.
    """
    if target == STDOUT:
        return
    if target.is_dir():
        raise OutputError(f"{target} is a folder", hint="name a file")
    if any(_same_file(target, other) for other in inputs):
        raise OutputError(f"{target} is the input itself, which is never changed", hint="choose another name with -o")
    if target.is_file() and not force:
        raise OutputError(f"{target} exists", hint="add --force to replace it, or choose another name with -o")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if not _is_special(target) and not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be written", hint="choose another place with -o")


@contextmanager
def replacing(target: Path, *, force: bool) -> Iterator[Path]:
    """Give a path to write to; it takes the target's place when the block ends without an error.

    A failure of any kind leaves what was there before, and no temporary file. Devices and pipes, and ``-``, receive
    the finished bytes instead of being renamed over.

    Raises:
        OutputError: the target is refused (see ``check_target``) or the writing failed, such as on a full disk.
    """
    check_target(target, force=force)
    through = target == STDOUT or _is_special(target)
    final = target if through else Path(os.path.realpath(target))
    # The name comes first: a signal between making the file and entering the block would leave it behind.
    temporary = _name_beside(final, elsewhere=through)
    _clear_abandoned(temporary)
    handle = None
    try:
        with _told_as_output_error(target):
            handle = _claim(temporary)
        yield temporary
        with _told_as_output_error(target):
            _settle(temporary, final, through=through)
    finally:
        with suppress(OSError):
            temporary.unlink()
        if handle is not None:
            os.close(handle)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Translate the errors of a failed write inside the block; nothing but writing belongs in it.

    Raises:
        OutputError: the system or HDF5 could not write.
    """
    with _told_as_output_error(target):
        yield


@contextmanager
def _told_as_output_error(target: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError) as problem:  # h5py says RuntimeError where HDF5 gives no errno
        reason = getattr(problem, "strerror", None) or str(problem).splitlines()[0]
        raise OutputError(
            f"{target} could not be written: {reason}", hint="free some space or choose another place with -o"
        ) from problem


def _name_beside(final: Path, *, elsewhere: bool) -> Path:
    folder = Path(tempfile.gettempdir()) if elsewhere else final.parent
    return folder / f".{final.name.strip('.')[:40]}.{secrets.token_hex(4)}.part"


def _claim(temporary: Path) -> int:
    """Make the file, and lock it for as long as its writer lives; see ``_clear_abandoned``."""
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    if fcntl is not None:
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _clear_abandoned(temporary: Path) -> None:
    """Remove temporary files of the same target whose writer was killed: unlocked and old."""
    if fcntl is None:
        return
    stem = temporary.name[: -len("12345678.part")]
    for other in temporary.parent.glob(f"{glob.escape(stem)}????????.part"):
        with suppress(OSError):
            if time.time() - other.stat().st_mtime < _ABANDONED_AFTER:
                continue
            handle = os.open(other, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()
            finally:
                os.close(handle)


def _settle(temporary: Path, final: Path, *, through: bool) -> None:
    if final == STDOUT:
        with temporary.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    if through:
        with temporary.open("rb") as source, final.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        return
    _sync(temporary)
    temporary.chmod(stat.S_IMODE(final.stat().st_mode) if final.exists() else 0o666 & ~_umask())
    temporary.replace(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_special(target: Path) -> bool:
    return target.exists() and not target.is_file()
