"""Data that nobody wants but somebody has: each trains to finite answers, or is refused in words."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from processes import SMALL, small_data


def constant(values):
    values[..., 1] = np.where(np.isnan(values[..., 1]), np.nan, 7.0)


def all_missing_series(values):
    values[3] = np.nan


def tiny_units(values):
    values *= np.float32(1e-12)


def far_from_zero(values):
    values += np.float32(3e6)


def one_outlier(values):
    values[2, 5, 0] = 1e6


def one_value_a_channel(values):
    values[1:, :, 1] = np.nan
    values[0, 1:, 1] = np.nan
    values[:, 0, 1] = 3.0


@pytest.mark.parametrize(
    "spoil", [constant, all_missing_series, tiny_units, far_from_zero, one_outlier, one_value_a_channel]
)
def test_odd_data_train_to_finite_answers(svae, tmp_path: Path, spoil):
    values = small_data()
    spoil(values)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = values
    found = svae("train", "d.h5", "-o", "m.svae", *SMALL.split(), cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    found = svae("impute", "m.svae", "d.h5", "-o", "f.h5", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    with h5py.File(tmp_path / "f.h5") as file:
        data, std = file["data"][...], file["std"][...]
    seen = ~np.isnan(values)
    assert np.isfinite(data).all()
    assert np.isfinite(std).all()
    np.testing.assert_array_equal(data[seen], values[seen])
    scale = np.nanstd(values[..., 0]) + 1e-30
    assert np.abs(data[..., 0] - np.nanmean(values[..., 0])).max() < 1e3 * scale


def huge(values):
    values[0, 0, 0] = 1e300
    return "channel 'channel_0' has values too large to scale"


def empty_channel(values):
    values[..., 1] = np.nan
    return "channel 'channel_1' has no observed value"


def nothing(values):
    values[...] = np.nan
    return "has no observed value"


def infinite(values):
    values[1, 2, 0] = np.inf
    return "infinite"


@pytest.mark.parametrize("spoil", [huge, empty_channel, nothing, infinite])
def test_hopeless_data_are_refused_in_words(svae, tmp_path: Path, spoil):
    values = small_data().astype(float)
    said = spoil(values)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = values
    found = svae("train", "d.h5", "-q", *SMALL.split(), cwd=tmp_path)
    assert found.returncode == 3
    assert said in found.stderr
    assert found.stderr.count("\n") <= 3
    assert found.stderr.startswith("svae: ")
    assert not list(tmp_path.glob("*.svae*"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 2, 1), (1, 3, 1)])
def test_hardly_any_data_are_refused_in_words(svae, tmp_path: Path, shape):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    found = svae("train", "d.h5", "-q", *SMALL.split(), cwd=tmp_path)
    assert found.returncode == 3, found.stderr
    assert found.stderr.startswith("svae: ")


def test_a_training_that_leaves_the_finite_numbers_exits_with_5_and_keeps_the_last_good_model(
    svae, trained: Path, tmp_path: Path
):
    wild = ("--learning-rate", "1e30", "--prior-learning-rate", "1e30", "--epochs", "20")
    options = SMALL.replace("--epochs 1 ", "").split()
    found = svae("train", str(trained / "d.h5"), "-o", "m.svae", "-q", *options, *wild, cwd=tmp_path)
    assert found.returncode == 5
    warned, *error = found.stderr.splitlines()
    assert warned.startswith("warning: the objective or its gradient became nan in step ")
    assert error[0].startswith("svae: the objective or its gradient became nan in step ")
    assert error[1].startswith("try: a smaller --learning-rate")
    assert svae("impute", "m.svae", str(trained / "d.h5"), "-o", "f.h5", cwd=tmp_path).returncode == 0
    with h5py.File(tmp_path / "f.h5") as file:
        assert np.isfinite(file["data"][...]).all()
