"""Model files: back as they were, compared leaf by leaf by name, readable without jax."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import TimeAxis
from svae_cli.data.warp import Warp
from svae_cli.errors import ModelError, OutputError
from svae_cli.files.model_file import load_model, save_model
from svae_cli.files.model_header import count_parameters, read_header
from svae_cli.files.tree import named_leaves, read_tree, write_tree
from svae_cli.models.build import skeleton
from svae_cli.models.fitted import FittedModel

WARP = Warp(
    np.array([0.2, 1.0]), -np.ones(2), np.ones(2), np.array([0.1, 0.0]), np.array([0.8, 1.0]), np.zeros(2), np.ones(2)
)


def make(**changes) -> FittedModel:
    settings = Settings(
        latent_dim=2, hidden=(3,), recognition="mlp", decoder="mlp", likelihood="gaussian", precision="float64"
    ).changed(**changes)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = skeleton(settings, n_channels=2, n_inputs=0)
    arrays, rest = eqx.partition(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    leaves, structure = jax.tree.flatten(arrays)
    rng = np.random.default_rng(0)
    drawn = [jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype) for leaf in leaves]
    return FittedModel(
        model=eqx.combine(jax.tree.unflatten(structure, drawn), rest),
        settings=settings,
        scaler=Scaler(mean=np.array([1.0, 2.0]), std=np.array([0.5, 3.0])),
        channels=("µ", "b"),
        units=("mV", ""),
        choices={"latent_dim": "2: because"},
        history=({"stage": "linear", "score": -1.5, "best": True}, {"stage": "full", "train": 0.25, "score": -1.0}),
        split={"kind": "series", "held_out": ["3"]},
        fingerprint="abc",
        time=TimeAxis(1.0, 0.1, "seconds"),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_model(tmp_path / "m.svae", make())
    return tmp_path / "m.svae"


def load(path: Path) -> FittedModel:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return load_model(path)


def test_everything_comes_back(path: Path):
    before, after = make(), load(path)
    assert named_leaves(before.model).keys() == named_leaves(after.model).keys()
    for name, leaf in named_leaves(before.model).items():
        np.testing.assert_array_equal(named_leaves(after.model)[name], leaf, err_msg=name)
    np.testing.assert_array_equal(after.scaler.mean, before.scaler.mean)
    np.testing.assert_array_equal(after.scaler.std, before.scaler.std)
    for name in ("settings", "channels", "units", "choices", "split", "fingerprint", "time", "inputs", "channel_shape"):
        assert getattr(after, name) == getattr(before, name)
    assert after.history == before.history
    assert count_parameters(path) == sum(np.size(leaf) for leaf in named_leaves(before.model).values())


def test_a_power_transform_comes_back(tmp_path: Path):
    before = make(transform="power")
    save_model(tmp_path / "w.svae", replace(before, scaler=replace(before.scaler, warp=WARP)))
    warp = load(tmp_path / "w.svae").scaler.warp
    assert warp is not None
    for name, values in vars(WARP).items():
        np.testing.assert_array_equal(getattr(warp, name), values)


def test_a_transform_of_before_channels_could_be_counted_from_zero_is_read(tmp_path):
    before = make(transform="power")
    save_model(tmp_path / "w.svae", replace(before, scaler=replace(before.scaler, warp=WARP)))
    with h5py.File(tmp_path / "w.svae", "a") as file:
        del file["scaler/warp/zero"], file["scaler/warp/unit"]
    warp = load(tmp_path / "w.svae").scaler.warp
    assert warp is not None
    np.testing.assert_array_equal([warp.zero, warp.unit], [np.zeros(2), np.ones(2)])


def test_a_model_of_before_it_knew_what_it_had_learned_by_heart_is_read(path: Path):
    with h5py.File(path, "r+") as file:
        del file["params/optimism"]
    found = load(path).model
    assert float(found.optimism) == 1.0
    assert found.optimism.dtype == found.decoder.offset.dtype
    np.testing.assert_array_equal(found.decoder.offset, make().model.decoder.offset)


def test_equal_models_are_equal_bytes(path: Path, tmp_path: Path):
    save_model(tmp_path / "again.svae", make())
    assert (tmp_path / "again.svae").read_bytes() == path.read_bytes()


def test_an_existing_model_is_refused_without_force(path: Path):
    with pytest.raises(OutputError, match="exists"):
        save_model(path, make())
    save_model(path, make(), force=True)


def test_every_leaf_has_a_dataset_of_its_own_name(path: Path):
    with h5py.File(path) as file:
        names: list[str] = []
        file["params"].visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    assert sorted(names) == sorted(named_leaves(make().model))


def test_leaves_are_matched_by_name_and_not_by_order(tmp_path: Path):
    one, two = {"a": np.arange(3.0), "b": np.zeros(3)}, {"b": np.zeros(3), "a": np.arange(3.0)}
    with h5py.File(tmp_path / "t.h5", "w") as file:
        write_tree(file.create_group("x"), two)
    with h5py.File(tmp_path / "t.h5") as file:
        found = read_tree(file["x"], {"a": np.ones(3), "b": np.ones(3)}, where="t")
    np.testing.assert_array_equal(found["a"], one["a"])
    np.testing.assert_array_equal(found["b"], one["b"])


def test_trees_of_numbers_keys_and_nothing(tmp_path: Path):
    tree = {
        "n": 3,
        "x": 0.5,
        "flag": True,
        "key": jax.random.key(7),
        "none": None,
        "list": [np.float32(1), jnp.ones(2)],
    }
    with h5py.File(tmp_path / "t.h5", "w") as file:
        write_tree(file.create_group("x"), tree)
    with h5py.File(tmp_path / "t.h5") as file:
        found = read_tree(file["x"], jax.tree.map(lambda leaf: leaf, tree), where="t")
    assert (found["n"], found["x"], found["flag"], found["none"]) == (3, 0.5, True, None)
    assert type(found["n"]) is int
    assert jax.random.normal(found["key"]) == jax.random.normal(jax.random.key(7))


def edit(path: Path, change) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _swap(file: h5py.File) -> None:
    file["params"].move("decoder/loadings", "decoder/spare")


def _reshape(file: h5py.File) -> None:
    values = file["params/decoder/loadings"][()].T
    del file["params/decoder/loadings"]
    file["params/decoder/loadings"] = np.vstack([values, values])


def _narrow(file: h5py.File) -> None:
    values = file["params/decoder/offset"][()]
    del file["params/decoder/offset"]
    file["params/decoder/offset"] = values.astype("f4")


def _link_out(file: h5py.File) -> None:
    del file["params/decoder/offset"]
    file["params/decoder/offset"] = h5py.ExternalLink("other.h5", "/x")


def _huge(file: h5py.File) -> None:
    file.attrs["settings"] = json.dumps({**json.loads(file.attrs["settings"]), "latent_dim": 10**7})


def _wide(file: h5py.File) -> None:
    file.attrs["settings"] = json.dumps({**json.loads(file.attrs["settings"]), "hidden": [10**6, 10**6]})


def _unknown_setting(file: h5py.File) -> None:
    file.attrs["settings"] = json.dumps({"colour": "red"})


def _negative_scale(file: h5py.File) -> None:
    file["scaler/std"][0] = -1.0


def _transform_without_powers(file: h5py.File) -> None:
    file.attrs["settings"] = json.dumps({**json.loads(file.attrs["settings"]), "transform": "power"})


def _warp(**changed: np.ndarray):
    def change(file: h5py.File) -> None:
        _transform_without_powers(file)
        for name, values in {**vars(WARP), **changed}.items():
            file[f"scaler/warp/{name}"] = values

    return change


def _drop_setting_of_warp(file: h5py.File) -> None:
    _warp()(file)
    file.attrs["settings"] = json.dumps({**json.loads(file.attrs["settings"]), "transform": "none"})


def _not_json(file: h5py.File) -> None:
    file.attrs["settings"] = "{"


def _newer(file: h5py.File) -> None:
    file.attrs["svae_format"] = "svae-model-99"


def _drop(name: str):
    def change(file: h5py.File) -> None:
        del file[name]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_swap, "decoder/loadings is missing (1 missing, 1 too many)"),
        (_reshape, "expected (2, 2) and float64"),
        (_narrow, "type float32; expected (2,) and float64"),
        (_link_out, "decoder/offset is missing"),
        (_huge, "ask for arrays of 100,000,000,000,000 numbers"),
        (_wide, "ask for arrays of 1,000,000,000,000 numbers"),
        (_unknown_setting, "unknown setting 'colour'"),
        (_negative_scale, "units or scaler do not fit"),
        (_transform_without_powers, "disagree on a transform"),
        (_drop_setting_of_warp, "disagree on a transform"),
        (_warp(power=np.array([0.5, 3.0])), "scaler/warp: expected powers from 0 to 2"),
        (_warp(scale=np.array([np.nan, 1.0])), "scaler/warp: expected 2 finite numbers each"),
        (_warp(low=np.zeros(3)), "scaler/warp: expected 2 finite numbers each"),
        (_not_json, "a part of the header is missing or damaged"),
        (_newer, "has model format svae-model-99; this svae reads svae-model-1"),
        (_drop("channels"), "channels is missing"),
        (_drop("params"), "it holds no parameters"),
        (_drop("training/history"), "training/history is missing"),
        (_drop("scaler/mean"), "scaler/mean is missing"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_defect_of_a_model_file_is_named(path: Path, change, said: str):
    edit(path, change)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert said in str(caught.value)


def test_other_files_are_not_taken_for_models(tmp_path: Path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = np.zeros((2, 3))
    with pytest.raises(ModelError, match="an HDF5 file, but not a model"):
        read_header(tmp_path / "d.h5")
    with pytest.raises(ModelError, match="does not exist"):
        read_header(tmp_path / "none.svae")


def test_the_header_is_read_without_jax(path: Path, svae):
    assert json.loads(svae("inspect", path, "--json").stdout)["channels"] == ["µ", "b"]
    code = """
import sys
from dataclasses import replace
from pathlib import Path
from svae_cli.files.model_header import read_header
read_header(Path(sys.argv[1]))
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, path], check=True)
