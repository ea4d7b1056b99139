"""From data to answers with the installed program: what is written, where, and in which units."""

import csv
import hashlib
import io
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from processes import PROGRAM

from svae_cli.files.pictures import read_picture
from svae_cli.files.readers import ReadOptions


def values(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["data"][()]


def test_observed_values_come_back_bit_for_bit(answers: Path):
    before = values(answers / "d.h5")
    seen = ~np.isnan(before)
    with h5py.File(answers / "d.imputed.h5") as file:
        data = file["data"][()]
        np.testing.assert_array_equal(data[seen], before[seen])
        assert np.isfinite(data).all()
        np.testing.assert_array_equal(file["observed"][()], seen)
        assert file["quantiles"].shape == (12, 40, 2, 2)
        assert file["samples"].shape == (12, 3, 40, 2)
        assert file["latent_cov"].shape == (12, 40, 2, 2)
        assert (file["quantiles"][..., 0] <= file["quantiles"][..., 1]).all()
        assert [v.decode() for v in file["channel"][()]] == ["a", "b"]
        assert file.attrs["model_sha256"] == _sha256(answers / "m.svae")
        assert str(answers) not in str(dict(file.attrs))
        assert json.loads(file.attrs["settings"])["samples"] == 3
    assert 4 < np.median(data[..., 1][~seen[..., 1]]) < 6


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_runs_are_equal_bytes(svae, answers: Path, folder: Path):
    options = ("--quantiles", "0.05,0.95", "--samples", "3", "--latents")
    # A process of its own: forks share what Python orders its sets by.
    assert svae("impute", "m.svae", "d.h5", *options, cwd=folder, new=True).returncode == 0
    assert (folder / "d.imputed.h5").read_bytes() == (answers / "d.imputed.h5").read_bytes()


def test_an_imputation_feeds_a_forecast_and_head(environment: dict[str, str], folder: Path):
    script = (
        "set -o pipefail; "
        f"{PROGRAM} impute m.svae d.h5 -o - -q | {PROGRAM} forecast m.svae - -H 24 --format csv -q | head -n 3"
    )
    found = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    assert found.returncode == 0, found.stderr
    rows = list(csv.DictReader(io.StringIO(found.stdout)))
    assert [(row["series"], float(row["time"]), row["channel"]) for row in rows] == [("0", 40, "a"), ("0", 40, "b")]
    assert all(float(row["std"]) > 0 for row in rows)
    direct = svae_csv(environment, folder, "forecast", "m.svae", "d.h5", "-H", "24")
    assert [row["mean"] for row in direct[:2]] == [row["mean"] for row in rows]


def svae_csv(environment: dict[str, str], folder: Path, *arguments: str) -> list[dict[str, str]]:
    command = [PROGRAM, *arguments, "--format", "csv", "-q"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=True)
    return list(csv.DictReader(io.StringIO(found.stdout)))


def test_forecasts_continue_the_grid_and_an_origin_hides_the_rest(svae, folder: Path):
    with h5py.File(folder / "d.h5", "r+") as file:
        file["time"] = 100 + 0.5 * np.arange(40)
        file["data"][:, 30:] = 1e6
    options = ("-H", "5", "--origin", "-10", "--quantiles", "0.5", "--samples", "2")
    found = svae("forecast", "m.svae", "d.h5", *options, "-o", "f.h5", cwd=folder)
    assert found.returncode == 0, found.stderr
    with h5py.File(folder / "f.h5") as file:
        np.testing.assert_allclose(file["time"][()], 115 + 0.5 * np.arange(5))
        assert file["mean"].shape == (12, 5, 2)
        assert file["samples"].shape == (12, 2, 5, 2)
        assert np.abs(file["mean"][()]).max() < 100


def test_known_values_that_cannot_be_are_named_and_kept(svae, folder: Path):
    with h5py.File(folder / "d.h5", "r+") as file:
        file["data"][3, 17, 1] = 1e5
    for command in (("impute",), ("forecast", "-H", "3")):
        found = svae(command[0], "m.svae", "d.h5", *command[1:], "--json", cwd=folder)
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["ignored"] == 1
        assert "answers do not rely on it: b at step 17 of 3" in found.stderr
    assert values(folder / "d.imputed.h5")[3, 17, 1] == np.float32(1e5)
    with h5py.File(folder / "d.imputed.h5") as file:
        np.testing.assert_array_equal(np.argwhere(file["ignored"][()]), [[3, 17, 1]])
    assert values(folder / "d.imputed.h5")[3, 16:19:2, 1] == pytest.approx(5, abs=2)
    found = svae("impute", "m.svae", "d.h5", "--no-self-check", "--force", "--json", cwd=folder)
    assert json.loads(found.stdout)["ignored"] is None
    with h5py.File(folder / "d.imputed.h5") as file:
        assert "ignored" not in file


def test_latent_states_are_means_and_covariances(svae, answers: Path, folder: Path):
    found = svae("encode", "m.svae", "d.h5", "--filtered", "-o", "online.h5", cwd=folder)
    assert found.returncode == 0, found.stderr
    for path in (answers / "d.latents.h5", folder / "online.h5"):
        with h5py.File(path) as file:
            assert file["latent_mean"].shape == (12, 40, 2)
            cov = file["latent_cov"][()]
        np.testing.assert_allclose(cov, np.swapaxes(cov, -1, -2), rtol=1e-5, atol=1e-7)
        assert (np.linalg.eigvalsh(cov) > 0).all()


def test_new_series_are_drawn_from_a_seed(svae, answers: Path, folder: Path):
    for name, seed in (("same.h5", "1"), ("other.h5", "2")):
        found = svae("sample", "m.svae", "-T", "6", "-N", "3", "--seed", seed, "-o", name, cwd=folder)
        assert found.returncode == 0, found.stderr
    assert values(answers / "new.h5").shape == (3, 6, 2)
    assert (folder / "same.h5").read_bytes() == (answers / "new.h5").read_bytes()
    assert (values(folder / "same.h5") != values(folder / "other.h5")).all()


def test_an_evaluation_stands_next_to_baselines_and_can_fail(svae, folder: Path):
    options = ("--task", "impute", "--pattern", "point", "--repeats", "2")
    found = svae("evaluate", "m.svae", "d.h5", *options, "--json", "--fail-under", "crps_skill=-100", cwd=folder)
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)["rows"]
    assert {row["method"] for row in rows} >= {"svae", "mean", "last", "linear"}
    assert "Imputation, pattern point" in found.stderr
    found = svae("evaluate", "m.svae", "d.h5", *options, "--no-compare", "--fail-under", "crps=1e-9", cwd=folder)
    assert found.returncode == 8
    assert "Imputation, pattern point" not in found.stderr
    assert "svae: crps is" in found.stderr
    assert found.stdout.splitlines()[0].split()[:2] == ["task", "pattern"]


def test_data_that_do_not_fit_the_model_are_refused(svae, folder: Path):
    with h5py.File(folder / "other.h5", "w") as file:
        file["data"] = np.zeros((2, 5, 3))
    found = svae("impute", "m.svae", "other.h5", cwd=folder)
    assert found.returncode == 4
    assert "the model has 2 channels, the data have 3" in found.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["d.h5", "m.svae", "other.h5"]


def test_ragged_series_come_back_under_their_keys(svae, folder: Path):
    arrays = {"run 1": values(folder / "d.h5")[0], "b": values(folder / "d.h5")[1, :25]}
    with h5py.File(folder / "r.h5", "w") as file:
        for key, array in arrays.items():
            file[f"recordings/{key}"] = array
    found = svae("impute", "m.svae", "r.h5", "-o", "filled.h5", cwd=folder)
    assert found.returncode == 0, found.stderr
    with h5py.File(folder / "filled.h5") as file:
        assert set(file) == set(arrays)
        for key, array in arrays.items():
            seen = ~np.isnan(array)
            np.testing.assert_array_equal(file[key]["data"][()][seen], array[seen])


def test_every_kind_of_file_is_inspected_and_drawn(svae, answers: Path, stopped: Path, folder: Path):
    assert svae("forecast", "m.svae", "d.h5", "-H", "5", "-o", folder / "f.h5", cwd=answers).returncode == 0
    said = json.loads(svae("inspect", folder / "f.h5", "--json", cwd=answers).stdout)
    assert (said["kind"], said["steps"]["max"], len(said["channels"])) == ("result", 5, 2)
    kinds = {"d.h5": "data", "m.svae": "model", "d.imputed.h5": "result", "d.latents.h5": "result", "new.h5": "result"}
    for name, kind in kinds.items():
        found = svae("inspect", name, "--json", cwd=answers)
        assert json.loads(found.stdout)["kind"] == kind
    assert svae("inspect", "m.svae.ckpt", cwd=stopped).stdout.startswith("checkpoint: stage full, step ")
    for name in ("d.h5", "d.imputed.h5", "d.latents.h5", "new.h5"):
        found = svae("plot", name, "--channels", "1", "--series", "2", cwd=answers)
        assert found.returncode == 0, found.stderr
        assert f"{name}: series 2" in found.stdout
    found = svae("plot", answers / "d.imputed.h5", "-o", "p.png", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")
    for name in ("p.svg", "q.svg"):
        assert svae("plot", "m.svae", "-o", name, cwd=folder).returncode == 0
    assert (folder / "p.svg").read_bytes() == (folder / "q.svg").read_bytes()


def test_the_next_command_can_be_typed_as_it_stands(svae, trained: Path, tmp_path: Path, small: tuple[str, ...]):
    (tmp_path / "my data").mkdir()
    shutil.copy(trained / "d.h5", tmp_path / "my data" / "d.h5")
    found = svae("train", "my data/d.h5", "-o", "a b.svae", "--dataset", "data", *small, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (line,) = (line for line in found.stderr.splitlines() if line.startswith("next: "))
    program, *command = shlex.split(line.removeprefix("next: ").split(", or ")[0])
    assert (program, command) == ("svae", ["impute", "a b.svae", "my data/d.h5", "--dataset", "data"])
    assert svae(*command, cwd=tmp_path).returncode == 0


def test_training_says_what_it_does_logs_it_and_repeats(svae, trained: Path, folder: Path, small: tuple[str, ...]):
    assert svae("train", "d.h5", "-o", "m.svae", *small, cwd=folder).returncode == 6
    found = svae("train", "d.h5", "-o", "m.svae", "--force", "--log", "l.jsonl", "--json", *small, cwd=folder)
    assert found.returncode == 0, found.stderr
    assert found.stderr.startswith("d.h5: 12 series of 40 steps, 2 channels, 12.1 % missing\n")
    assert "likelihood: gaussian: the values are continuous" in found.stderr
    assert "next: svae impute m.svae d.h5" in found.stderr
    assert json.loads(found.stdout)["settings"]["latent_dim"] == 2
    log = [json.loads(line) for line in (folder / "l.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == log[-1]["steps"]
    assert (folder / "m.svae").read_bytes() == (trained / "m.svae").read_bytes()


def test_a_picture_shows_the_quantiles_of_its_file(answers: Path):
    picture = read_picture(str(answers / "d.imputed.h5"), ReadOptions(), series=None, channels=1)
    with h5py.File(answers / "d.imputed.h5") as file:
        low, high = np.moveaxis(file["quantiles"][0, :, 0, :], -1, 0)
    np.testing.assert_array_equal(picture.panels[0].low, low)
    np.testing.assert_array_equal(picture.panels[0].high, high)


@pytest.mark.slow
def test_a_model_of_bent_channels_writes_an_interval_unasked(svae, tmp_path: Path, small: tuple[str, ...]):
    skewed = np.exp(np.random.default_rng(0).normal(size=(6, 80, 2)))
    skewed[:, 10:13] = np.nan
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["data"] = skewed
    assert svae("train", "s.h5", *small, cwd=tmp_path).returncode == 0
    assert svae("impute", "s.svae", "s.h5", cwd=tmp_path).returncode == 0
    with h5py.File(tmp_path / "s.imputed.h5") as file:
        assert np.allclose(file["quantile"], [0.05, 0.5, 0.95])
        low, middle, high = np.moveaxis(file["quantiles"][:, 11], -1, 0)
        assert (low < middle).all()
        assert (high - middle > middle - low).all()
        assert (file["mean"][:, 11] > middle).all()
    scores = json.loads(svae("evaluate", "s.svae", "s.h5", "--task", "impute", "--json", cwd=tmp_path).stdout)
    assert all("nll" not in row and np.isfinite(row["crps"]) for row in scores["rows"])


def test_a_dry_run_says_what_it_would_choose_and_leaves_nothing(svae, folder: Path):
    found = svae("train", "d.h5", "-o", "new.svae", "--dry-run", cwd=folder)
    assert found.returncode == 0
    assert found.stdout == "would train new.svae\n"
    assert all(f"\n{name}: " in found.stderr for name in ("window", "latent_dim", "epochs", "objective"))
    record = json.loads(
        svae("train", "d.h5", "-o", "new.svae", "--dry-run", "--json", "--val", "d.h5", cwd=folder).stdout
    )
    assert record["choices"]["window"].startswith(f"{record['settings']['window']} steps")
    assert not (folder / "new.svae").exists()


def test_a_device_that_is_not_there_is_named(svae, folder: Path):
    found = svae("impute", "m.svae", "d.h5", "--device", "gpu", cwd=folder, env={"CUDA_VISIBLE_DEVICES": ""})
    assert (found.returncode, found.stdout) == (7, "")
    assert "svae: no gpu device" in found.stderr
