"""The installed program, and work that one worker of the tests does for all."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROGRAM = Path(sys.executable).with_name("svae")
SMALL = "--latent-dim 2 --start random --recognition linear --decoder linear --epochs 1 --window 20 --batch-size 8"
"""Options of a training that takes a moment."""
LONG = ("--epochs", "2000", "--checkpoint-every", "0.1s")
"""Options of a training that lasts until it is stopped, and can be resumed from its first moments on."""


def small_data() -> np.ndarray:
    """12 series of 40 steps and 2 channels, 10 % missing."""
    rng = np.random.default_rng(0)
    phase = np.arange(12)[:, None, None]
    steps = np.arange(40)[None, :, None]
    values = np.sin(steps / 5 + phase) + np.array([0.0, 5.0]) + 0.1 * rng.standard_normal((12, 40, 2))
    values[rng.random(values.shape) < 0.1] = np.nan
    return values.astype("f4")


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
