"""Training loses nothing: signals, kills, resumption, refusals to resume something else."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from processes import PROGRAM, wait_for


@pytest.fixture
def interrupted(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the folder with a stopped training."""
    for name in ("d.h5", "m.svae", "m.svae.ckpt"):
        shutil.copy(stopped / name, tmp_path / name)
    return tmp_path


def test_a_termination_saves_all_work_and_says_how_to_go_on(stopped: Path):
    code, stdout, *stderr = (stopped / "said").read_text().splitlines()
    assert (code, stdout) == ("143", "")
    assert stderr[-2:] == ["svae: interrupted; all work is saved", "try: svae train d.h5 -o m.svae --resume"]
    assert sorted(os.listdir(stopped)) == ["d.h5", "m.svae", "m.svae.ckpt", "said"]


def test_a_second_interrupt_quits_at_once(environment: dict[str, str], folder: Path, small: tuple[str, ...]):
    command = [
        PROGRAM,
        "train",
        "d.h5",
        "-o",
        "new.svae",
        *small,
        "--epochs",
        "2000",
        "--checkpoint-every",
        "0.1s",
        "-q",
    ]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(folder / "new.svae.ckpt", process)
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
    found = svae("train", "d.h5", "-o", "m.svae", "--resume", "--dry-run", cwd=interrupted)
    assert (found.returncode, found.stdout.split(" with ")[0].strip()) == (0, "would go on")
    with h5py.File(interrupted / "m.svae.ckpt", "r+") as file:
        chosen = json.loads(file.attrs["chosen"])
        file.attrs["chosen"] = json.dumps(chosen | {"window": 7})
    found = svae("train", "d.h5", "-o", "m.svae", "--resume", cwd=interrupted)
    assert (found.returncode, "begun by an svae that chooses otherwise: window 7, now " in found.stderr) == (4, True)
    (interrupted / "m.svae.ckpt").write_bytes(before)
    with h5py.File(interrupted / "d.h5", "r+") as file:
        file["data"][0, 0, 0] = 9.0
    for more in ((), ("--dry-run",)):
        found = svae("train", "d.h5", "-o", "m.svae", "--resume", *more, cwd=interrupted)
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(environment: dict[str, str], folder: Path):
    script = Path(__file__).with_name("kills.py")
    found = subprocess.run(
        [sys.executable, script, folder, "3", "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_training_interrupted_after_its_last_step_ends_when_resumed(
    svae, environment: dict[str, str], trained: Path, tmp_path: Path, small: tuple[str, ...]
):
    script = """
import sys
from svae_cli.cli import app, training_run

close = training_run.Saved.save
training_run.Saved.save = lambda self, state, *, finished: close(self, state, finished=False)
app.run(sys.argv[1:])
"""
    arguments = ["train", str(trained / "d.h5"), "-o", "m.svae", *small]
    command = [sys.executable, "-c", script, *arguments]
    first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "m.svae.ckpt").exists()
    found = svae("train", str(trained / "d.h5"), "-o", "m.svae", "--resume", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "m.svae"
    assert not (tmp_path / "m.svae.ckpt").exists()
