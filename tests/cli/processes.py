"""The installed program, and work that one worker of the tests does for all."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("svae")
LONG = ("--epochs", "2000", "--checkpoint-every", "0.1s")
"""Options of a training that lasts until it is stopped, and can be resumed from its first moments on."""


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Fill a folder by one worker while the others wait for it."""
    done = folder.with_name(folder.name + ".done")
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 240
        while not done.exists():
            assert time.monotonic() < deadline, f"{folder} was not made"
            time.sleep(0.1)
        return folder
    make(folder)
    done.touch()
    return folder


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)
