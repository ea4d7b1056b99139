"""A small data file and a model of it, made once by the installed program."""

import shutil
import signal
import subprocess
from pathlib import Path

import h5py
import pytest
from processes import LONG, PROGRAM, SMALL, make_once, small_data, wait_for


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Options of a training that takes a moment."""
    return tuple(SMALL.split())


@pytest.fixture(scope="session")
def trained(shared: Path, svae) -> Path:
    """A folder with data ``d.h5`` and model ``m.svae``; tests do not write into it."""

    def make(folder: Path) -> None:
        with h5py.File(folder / "d.h5", "w") as file:
            file["data"] = small_data()
            file["channel_names"] = [b"a", b"b"]
        found = svae("train", "d.h5", "-o", "m.svae", *SMALL.split(), cwd=folder)
        assert found.returncode == 0, found.stderr

    return make_once(shared / "trained", make)


@pytest.fixture(scope="session")
def answers(shared: Path, trained: Path, svae) -> Path:
    """A folder with what the model says about the data: ``d.imputed.h5``, ``d.latents.h5``, ``new.h5``."""

    def make(folder: Path) -> None:
        for name in ("d.h5", "m.svae"):
            shutil.copy(trained / name, folder / name)
        for arguments in (
            ("impute", "m.svae", "d.h5", "--quantiles", "0.05,0.95", "--samples", "3", "--latents"),
            ("encode", "m.svae", "d.h5"),
            ("sample", "m.svae", "-T", "6", "-N", "3", "--seed", "1", "-o", "new.h5"),
        ):
            found = svae(*arguments, cwd=folder)
            assert found.returncode == 0, found.stderr
            assert found.stdout.strip() in ("d.imputed.h5", "d.latents.h5", "new.h5")

    return make_once(shared / "answers", make)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder to write into."""
    for name in ("d.h5", "m.svae"):
        shutil.copy(trained / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="session")
def stopped(shared: Path, trained: Path, svae, environment: dict[str, str]) -> Path:
    """A folder with a training that SIGTERM stopped: ``d.h5``, ``m.svae``, ``m.svae.ckpt``."""

    def make(folder: Path) -> None:
        shutil.copy(trained / "d.h5", folder / "d.h5")
        command = [PROGRAM, "train", "d.h5", "-o", "m.svae", *SMALL.split(), *LONG]
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
        wait_for(folder / "m.svae.ckpt", process)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        (folder / "said").write_text(f"{process.returncode}\n{stdout}\n{stderr}")

    return make_once(shared / "stopped", make)
