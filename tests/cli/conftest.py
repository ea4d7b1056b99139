"""A small data file and a model of it, made once by the installed program."""

from pathlib import Path

import h5py
import numpy as np
import pytest

SMALL = "--latent-dim 2 --start random --recognition linear --decoder linear --epochs 1 --window 20 --batch-size 8"


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Options of a training that takes a moment."""
    return tuple(SMALL.split())


def small_data() -> np.ndarray:
    """12 series of 40 steps and 2 channels, 10 % missing."""
    rng = np.random.default_rng(0)
    phase = np.arange(12)[:, None, None]
    steps = np.arange(40)[None, :, None]
    values = np.sin(steps / 5 + phase) + np.array([0.0, 5.0]) + 0.1 * rng.standard_normal((12, 40, 2))
    values[rng.random(values.shape) < 0.1] = np.nan
    return values.astype("f4")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, svae) -> Path:
    """A folder with ``d.h5`` and ``m.svae``; tests do not write into it."""
    folder = tmp_path_factory.mktemp("trained")
    with h5py.File(folder / "d.h5", "w") as file:
        file["data"] = small_data()
        file["channel_names"] = [b"a", b"b"]
    found = svae("train", "d.h5", "-o", "m.svae", *SMALL.split(), cwd=folder)
    assert found.returncode == 0, found.stderr
    return folder
