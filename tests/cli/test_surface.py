"""The surface: help, exit codes, the form of errors, streams, and where options come from."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from processes import PROGRAM

from svae_cli.cli.compiled import _prune, compile_sooner
from svae_cli.cli.train import Fitting
from svae_cli.config import Settings

COMMANDS = ("train", "impute", "forecast", "evaluate", "encode", "sample", "simulate", "inspect", "plot")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = np.arange(24, dtype="f4").reshape(2, 4, 3)
    return tmp_path


def test_help_loads_nothing_slow(environment: dict[str, str]):
    code = (
        "import sys; sys.argv = ['svae', '--help']\n"
        "from svae_cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(found.stderr.split())
    assert "Commands:" in found.stdout
    assert "typer" in loaded
    assert loaded.isdisjoint({"jax", "jaxlib", "equinox", "optax", "numpy", "h5py", "rich"})
    assert len(loaded) < 300  # 180 or so: no other package that takes its time has come in either


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_begins_with_examples(svae, command: str):
    found = svae(command, "-h")
    assert found.returncode == 0
    assert found.stderr == ""
    assert found.stdout.splitlines()[0].startswith(f"  svae {command} ")
    assert f"Usage: svae {command}" in found.stdout


def test_the_program_lists_its_commands_in_order(svae):
    lines = svae("--help").stdout.splitlines()
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line.startswith("  ")]
    assert tuple(listed[: len(COMMANDS)]) == COMMANDS
    assert svae("--version").stdout.startswith("svae ")


def test_python_m_is_the_same_program(environment: dict[str, str]):
    found = subprocess.run(
        [sys.executable, "-m", "svae_cli", "--version"], capture_output=True, text=True, env=environment
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("svae ")


@pytest.mark.parametrize(
    ("arguments", "code", "stderr"),
    [
        ([], 2, "svae: no command\ntry: svae --help\n"),
        (["trian"], 2, "svae: no such command 'trian'. Did you mean 'train'?\ntry: svae --help\n"),
        (["train"], 2, "svae: missing argument 'DATA'\ntry: svae train --help\n"),
        (["train", "d.h5", "--dpeth", "3"], 2, None),
        (["train", "d.h5", "--mask-rate", "2"], 2,
         "svae: --mask-rate is 2.0; expected 0 up to, not including, 1\n"),
        (["train", "d.h5", "--hidden", "a"], 2,
         "svae: --hidden is 'a'; expected whole numbers separated by commas\ntry: --hidden 64,64\n"),
        (["train", "d.h5", "--time-limit", "soon"], 2,
         "svae: --time-limit is 'soon'; expected a duration\ntry: --time-limit 30m\n"),
        (["train", "d.h5", "-o", "-"], 2, None),
        (["train", "d.h5", "--resume"], 2,
         "svae: d.svae.ckpt does not exist: nothing to resume\ntry: leave --resume out\n"),
        (["inspect", "none.h5"], 3, "svae: none.h5 does not exist\ntry: check the name and the folder\n"),
        (["inspect", "d.h5:/no"], 3, "svae: d.h5 has no '/no'\ntry: its datasets: /data\n"),
        (["inspect", "d.h5", "--observed", "a", "--missing", "b"], 2,
         "svae: --observed and --missing name two masks\ntry: give one of them\n"),
        (["impute", "d.h5", "d.h5"], 4,
         "svae: d.h5 is an HDF5 file, but not a model\ntry: the order is MODEL DATA: svae impute model.svae data.h5\n"),
        (["impute", "none.svae", "d.h5"], 4, "svae: none.svae does not exist\ntry: check the name and the folder\n"),
        (["impute", "d.h5", "d.h5", "--quantiles", "0.9,0.1"], 2, None),
        (["train", "d.h5", "-o", "d.h5"], 6,
         "svae: d.h5 is the input itself, which is never changed\ntry: choose another name with -o\n"),
        (["simulate", "lds", "-o", "d.h5"], 6,
         "svae: d.h5 exists\ntry: add --force to replace it, or choose another name with -o\n"),
        (["simulate", "lds", "-o", "no/such/x.h5"], 6, None),
        (["plot", "d.h5", "-o", "x.gif"], 2, "svae: x.gif is not a .png, .svg or .pdf\ntry: -o d.png\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_every_refusal_has_its_exit_code_and_at_most_three_lines(svae, data: Path, arguments, code: int, stderr):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    found = svae(*arguments, cwd=data)
    assert found.returncode == code
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) <= 3
    assert found.stderr.startswith("svae: ")
    assert "Traceback" not in found.stderr
    if stderr is not None:
        assert found.stderr == stderr
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_a_bug_is_one_line_without_debug_and_a_traceback_with_it(environment: dict[str, str], data: Path):
    broken = (
        "import svae_cli.files.kinds as k, sys; k.kind_of = None; from svae_cli.cli.app import run; run(sys.argv[1:])"
    )
    for extra in ([], ["--debug"]):
        command = [sys.executable, "-c", broken, "inspect", "d.h5", *extra]
        found = subprocess.run(command, cwd=data, capture_output=True, text=True, env=environment, check=False)
        assert found.returncode == 1
        assert "a bug in svae (TypeError" in found.stderr
        assert "rerun with --debug" in found.stderr
        assert ("Traceback" in found.stderr) == bool(extra)


def test_a_reader_that_leaves_early_is_no_error(environment: dict[str, str], tmp_path: Path):
    command = f"{PROGRAM} simulate lds --series 200 --steps 200 --format csv | head -n 2"
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert found.returncode == 0
    assert found.stdout.splitlines()[0] == "series,time,channel,value"
    assert "Traceback" not in found.stderr


def test_results_go_through_pipes_in_both_directions(environment: dict[str, str], data: Path):
    command = f"{PROGRAM} simulate lds --series 2 --steps 9 -o - | {PROGRAM} inspect - --json"
    found = subprocess.run(
        ["bash", "-c", command], cwd=data, capture_output=True, text=True, env=environment, check=False
    )
    assert '"series": 2' in found.stdout
    assert svae_files(data) == ["d.h5"]


def svae_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_options_come_from_flags_then_variables_then_the_file(svae, tmp_path: Path):
    (tmp_path / "c.toml").write_text("seed = 5\nseries = 2\n[simulate]\nsteps = 7\n[train]\nhidden = [8, 8]\n")

    def simulated(*flags: str, **variables: str) -> tuple[tuple[int, ...], int]:
        found = svae("simulate", "lds", "-o", "x.h5", "--force", *flags, cwd=tmp_path, env=variables)
        assert found.returncode == 0, found.stderr
        with h5py.File(tmp_path / "x.h5") as file:
            return file["data"].shape[:2], int(file.attrs["seed"])

    assert simulated("--config", "c.toml") == ((2, 7), 5)
    assert simulated("--config", "c.toml", SVAE_STEPS="8") == ((2, 8), 5)
    assert simulated("--config", "c.toml", "--steps", "9", SVAE_STEPS="8", SVAE_SEED="6") == ((2, 9), 6)
    assert simulated(SVAE_CONFIG="c.toml") == ((2, 7), 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "no command has an option 'colour'"),
        ("[simulate]\nepochs = 3", "svae simulate has no option 'epochs'"),
        ("[simulat]\nsteps = 3", "[simulat] is not a command"),
        ("steps =", "is not TOML"),
        ("steps = 'many'", "invalid value for '--steps'"),
    ],
)
def test_mistakes_in_a_configuration_file_are_named(svae, tmp_path: Path, text: str, said: str):
    (tmp_path / "c.toml").write_text(text)
    found = svae("simulate", "lds", "-o", "x.h5", "--config", "c.toml", cwd=tmp_path)
    assert found.returncode == 2
    assert said in found.stderr
    assert svae_files(tmp_path) == ["c.toml"]


def test_quiet_says_nothing_and_json_is_one_object(svae, data: Path):
    found = svae("simulate", "lds", "-o", "x.h5", "-q", cwd=data)
    assert (found.stdout, found.stderr) == ("x.h5\n", "")
    found = svae("simulate", "lds", "-o", "y.h5", "--json", "-q", cwd=data)
    assert json.loads(found.stdout)["series"] == 100
    found = svae("inspect", "d.h5", "--json", cwd=data)
    assert json.loads(found.stdout)["channels"][0]["max"] == 21.0


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
@pytest.mark.parametrize("format", ["h5", "csv"])
def test_a_full_device_is_an_output_error(svae, tmp_path: Path, format: str):
    found = svae("simulate", "lds", "--format", format, "-o", "/dev/full", cwd=tmp_path)
    assert found.returncode == 6
    assert "No space left on device" in found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_a_file_that_grows_too_large_leaves_the_old_one(environment: dict[str, str], tmp_path: Path):
    (tmp_path / "x.h5").write_bytes(b"old")
    command = f"ulimit -f 20; {PROGRAM} simulate lds --series 100 --steps 500 -o x.h5 --force"
    found = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert found.returncode == 6, found.stderr
    assert found.stderr.startswith("svae: x.h5 could not be written")
    assert (tmp_path / "x.h5").read_bytes() == b"old"
    assert svae_files(tmp_path) == ["x.h5"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_half_file(environment: dict[str, str], tmp_path: Path, number: signal.Signals):
    command = [PROGRAM, "simulate", "lds", "--series", "3000", "--steps", "100", "-o", "x.h5"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(name.endswith(".part") for name in os.listdir(tmp_path)):
        assert time.monotonic() < deadline
        assert process.poll() is None, "finished before it could be stopped"
        time.sleep(0.005)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert svae_files(tmp_path) == []
    assert stderr == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_an_object_is_cleared_away_is_not_lost(environment: dict[str, str], number: signal.Signals):
    script = f"""
import signal, time
from svae_cli.cli.app import leave_on_signals
class Cleared:
    def __del__(self):
        signal.raise_signal({int(number)})
        time.sleep(0.01)  # the signal's handler runs here at the latest
leave_on_signals()
cleared = Cleared()
del cleared
time.sleep(300)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert found.returncode == 128 + number
    assert found.stderr == ""


@pytest.mark.parametrize("kind", ["lds", "pendulum", "lorenz-spikes", "nascar", "bouncing-ball"])
def test_every_kind_is_simulated_with_gaps(svae, tmp_path: Path, kind: str):
    found = svae("simulate", kind, "--series", "2", "--steps", "12", "--gap-rate", "0.3", "-o", "x.h5", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    with h5py.File(tmp_path / "x.h5") as file:
        data, complete = file["data"][...], file["truth/data"][...]
        assert json.loads(file.attrs["settings"])["kind"] == kind
    gaps = np.isnan(data)
    assert 0 < gaps.mean() < 0.7
    assert np.array_equal(data[~gaps], complete[~gaps])


def test_options_of_a_kind_are_its_own(svae, tmp_path: Path):
    svae("simulate", "lds", "--latent-dim", "3", "--channels", "4", "-N", "2", "-T", "5", "-o", "x.h5", cwd=tmp_path)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["data"].shape == (2, 5, 4)
        assert file["truth/latents"].shape == (2, 5, 3)
    found = svae("simulate", "lds", "--trials", "4", "-o", "y.h5", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr.startswith("svae: lds has no option --trials\ntry: one of --size")


@pytest.mark.slow
def test_compiled_programs_are_kept_and_old_ones_go(svae, folder: Path, environment: dict[str, str]):
    env = {"XDG_CACHE_HOME": str(folder / "cache"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    bare = {name: value for name, value in environment.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def run():
        command = [PROGRAM, "sample", "m.svae", "-T", "6", "-o", "new.h5", "--force"]
        return subprocess.run(command, cwd=folder, env={**bare, **env}, capture_output=True, text=True, check=False)

    assert run().returncode == 0
    kept = [path for path in (folder / "cache").rglob("*") if path.is_file()]
    assert kept
    first = (folder / "new.h5").read_bytes()
    for path in kept:
        path.write_bytes(b"damaged")
    found = run()
    assert (found.returncode, found.stderr.count("Warning")) == (0, 0)
    assert (folder / "new.h5").read_bytes() == first
    _prune(folder / "cache", most=0)
    assert not [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_xla_compiles_sooner_and_obeys_what_the_user_says(monkeypatch):
    from svae_cli.cli import compiled

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    for jaxlib, given, expected in (
        ("0.9.2", "", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"),
        ("0.11.0", "", "--xla_backend_optimization_level=1"),
        ("0.11.0", "--a=2", "--a=2 --xla_backend_optimization_level=1"),
        ("0.11.0", "--xla_backend_optimization_level=3", "--xla_backend_optimization_level=3"),
    ):
        monkeypatch.setenv("XLA_FLAGS", given)
        monkeypatch.setattr(compiled, "version", lambda name, found=jaxlib: found)
        compile_sooner()
        assert os.environ["XLA_FLAGS"] == expected
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(compiled, "entry_points", lambda group: ["xla_cuda12"])
    for given, expected in (
        ("", "--xla_gpu_autotune_level=0"),
        ("--xla_gpu_autotune_level=4", "--xla_gpu_autotune_level=4"),
    ):
        monkeypatch.setenv("XLA_FLAGS", given)
        compile_sooner()
        assert os.environ["XLA_FLAGS"] == expected


def test_no_home_is_no_obstacle(folder: Path, environment: dict[str, str]):
    bare = {name: value for name, value in environment.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    (folder / "file").touch()
    command = [PROGRAM, "sample", "m.svae", "-T", "6", "-o", "new.h5"]
    env = {**bare, "XDG_CACHE_HOME": str(folder / "file")}
    found = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_every_setting_is_an_option_of_train():
    elsewhere = {"seed", "precision", "batch_size"}  # shared with other commands
    assert {f.name for f in fields(Settings)} == {f.name for f in fields(Fitting)} | elsewhere
