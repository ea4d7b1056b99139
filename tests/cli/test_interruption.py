"""Training loses nothing: signals, kills, resumption, refusals to resume something else."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

PROGRAM = Path(sys.executable).with_name("svae")


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copy(trained / "d.h5", tmp_path / "d.h5")
    return tmp_path


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def interrupted(environment: dict[str, str], folder: Path, small: tuple[str, ...]) -> Path:
    """A folder with a training that SIGTERM stopped."""
    command = [PROGRAM, "train", "d.h5", "-o", "m.svae", *small, "--epochs", "2000", "--checkpoint-every", "0.1s"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(folder / "m.svae.ckpt", process)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stdout == ""
    assert stderr.splitlines()[-2:] == [
        "svae: interrupted; all work is saved",
        "try: svae train d.h5 -o m.svae --resume",
    ]
    assert sorted(os.listdir(folder)) == ["d.h5", "m.svae", "m.svae.ckpt"]
    return folder


def test_a_second_interrupt_quits_at_once(environment: dict[str, str], folder: Path, small: tuple[str, ...]):
    command = [PROGRAM, "train", "d.h5", "-o", "m.svae", *small, "--epochs", "2000", "--checkpoint-every", "0.1s", "-q"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(folder / "m.svae.ckpt", process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_resumption_refuses_what_would_not_be_the_same_training(svae, interrupted: Path):
    before = (interrupted / "m.svae.ckpt").read_bytes()
    for arguments, code, said in (
        (("--latent-dim", "3"), 2, "--latent-dim 3 contradicts the checkpoint, which was begun with 2"),
        (("--seed", "1"), 2, "--seed 1 contradicts the checkpoint, which was begun with 0"),
        (("--val", "d.h5"), 3, "the training was begun without --val"),
    ):
        found = svae("train", "d.h5", "-o", "m.svae", "--resume", *arguments, cwd=interrupted)
        assert (found.returncode, said in found.stderr) == (code, True), found.stderr
    found = svae("train", "d.h5", "-o", "m.svae", cwd=interrupted)
    assert found.returncode == 6
    with h5py.File(interrupted / "d.h5", "r+") as file:
        file["data"][0, 0, 0] = 9.0
    found = svae("train", "d.h5", "-o", "m.svae", "--resume", cwd=interrupted)
    assert (found.returncode, "not the data that the training was begun with" in found.stderr) == (3, True)
    assert (interrupted / "m.svae.ckpt").read_bytes() == before


def test_a_time_limit_ends_a_training_with_its_best_model(svae, interrupted: Path):
    found = svae("train", "d.h5", "-o", "m.svae", "--resume", "--time-limit", "0.01s", cwd=interrupted)
    assert found.returncode in (0, 2), found.stderr
    assert svae("inspect", "m.svae", cwd=interrupted).returncode == 0


@pytest.mark.parametrize("damage", ["truncated", "a model", "text"])
def test_a_damaged_checkpoint_is_refused(svae, interrupted: Path, damage: str):
    path = interrupted / "m.svae.ckpt"
    content = {
        "truncated": path.read_bytes()[:3000],
        "a model": (interrupted / "m.svae").read_bytes(),
        "text": b"not HDF5",
    }
    path.write_bytes(content[damage])
    found = svae("train", "d.h5", "-o", "m.svae", "--resume", cwd=interrupted)
    assert found.returncode == 4
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) <= 3


def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(environment: dict[str, str], folder: Path):
    script = Path(__file__).with_name("kills.py")
    found = subprocess.run(
        [sys.executable, script, folder, "3", "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
