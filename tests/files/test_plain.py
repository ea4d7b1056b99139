"""Plain HDF5: what is chosen, how it is read, and what every unusable file says."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import ReadOptions, open_series
from svae_cli.files.readers import source as source_module

X = np.arange(24, dtype="f4").reshape(2, 4, 3)


def write(path: Path, **datasets) -> str:
    """A file with these datasets; double underscores in a name are slashes."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return str(path)


def read_all(spec: str, **options) -> list[np.ndarray]:
    with open_series(spec, ReadOptions(**options)) as opened:
        return [opened.data.read(i) for i in range(len(opened.data))]


def error(spec: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_all(spec, **options)
    return str(caught.value)


@settings(max_examples=40, deadline=None)
@given(
    values=hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", "<i2", "u1", "?", "<i4"]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
        elements={"allow_nan": True, "allow_infinity": False} | {},
    )
    | hnp.arrays("<i8", hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.integers(-(2**50), 2**50))
)
def test_every_number_comes_back_exactly(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray):
    spec = write(tmp_path_factory.mktemp("r") / "r.h5", data=values)
    shape = {1: (1, -1, 1), 2: (1, *values.shape), 3: values.shape}[values.ndim]
    found = np.stack(read_all(spec))
    np.testing.assert_array_equal(found.astype("f8"), values.reshape(shape).astype("f8"))
    wide = values.dtype.kind in "iu" and values.dtype.itemsize > 2 or values.dtype.itemsize == 8
    assert found.dtype == (np.float64 if wide else np.float32)


@pytest.mark.parametrize("axes", ["ntd", "ndt", "tnd", "tdn", "dnt", "dtn"])
def test_axes_state_the_order_of_dimensions(tmp_path: Path, axes: str):
    order = ["ntd".index(a) for a in axes]
    spec = write(tmp_path / "r.h5", data=X.transpose(order))
    np.testing.assert_array_equal(read_all(spec, axes=axes), X)


@pytest.mark.parametrize("axes", ["nd", "ntdx", "ntt", "nth", "nhd", ""])
def test_axes_that_do_not_fit_are_refused(tmp_path: Path, axes: str):
    assert "do not fit shape (2, 4, 3)" in error(write(tmp_path / "r.h5", data=X), axes=axes)


def test_windows_of_large_files_are_read_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source_module, "IN_MEMORY_BYTES", 0)
    spec = write(tmp_path / "r.h5", data=X)
    with open_series(spec) as opened:
        np.testing.assert_array_equal(opened.data.read(1, 1, 3), X[1, 1:3])
    np.testing.assert_array_equal(read_all(spec), X)


def test_a_preferred_name_wins_and_others_need_naming(tmp_path: Path):
    np.testing.assert_array_equal(read_all(write(tmp_path / "a.h5", X=X, other=X[0])), X)
    spec = write(tmp_path / "b.h5", lfp=X, spk=np.zeros((4, 5, 6), "u1"))
    assert error(spec) == (
        "b.h5 has 2 datasets that could be the series: /lfp (2, 4, 3) f4, /spk (4, 5, 6) u1\n"
        "try: name one, b.h5:/lfp, or a group of series, b.h5:/"
    )
    np.testing.assert_array_equal(read_all(spec + ":/lfp"), X)
    np.testing.assert_array_equal(read_all(spec, dataset="lfp"), X)
    assert "b.h5 has no 'emg'\ntry: its datasets: /lfp, /spk" in error(spec + ":emg")


def test_the_only_dataset_needs_no_name(tmp_path: Path):
    np.testing.assert_array_equal(read_all(write(tmp_path / "a.h5", deep__down=X, label=np.zeros(2))), X)


def test_frames_are_flattened_to_channels(tmp_path: Path):
    frames = np.arange(2 * 3 * 4 * 5, dtype="u1").reshape(2, 3, 4, 5)
    with open_series(write(tmp_path / "a.h5", frames=frames)) as opened:
        assert opened.data.channel_shape == (4, 5)
        assert opened.data.n_channels == 20
        np.testing.assert_array_equal(opened.data.read(1, 2, 3)[0], frames[1, 2].ravel())


@pytest.mark.parametrize("name", ["s{}", "g__s{}", "g__s{}__data"])
def test_many_series_are_read_without_listing_them_for_each(tmp_path: Path, monkeypatch, name: str):
    """Listing a thousand for each of a thousand takes minutes."""
    spec = write(tmp_path / "many.h5", **{name.format(i): X[0] for i in range(30)})
    asked, listed = safe.children, []
    monkeypatch.setattr(safe, "children", lambda group, **more: listed.append(len(group)) or asked(group, **more))
    assert len(read_all(f"{spec}:/{'g' if name.startswith('g') else ''}")) == 30
    assert sum(n for n in listed if n > 1) < 5 * 30


def test_a_group_is_a_ragged_set_keyed_by_name(tmp_path: Path):
    a, b = X[0], X[1, :2]
    for spec in (write(tmp_path / "a.h5", data__a=a, data__b=b), write(tmp_path / "b.h5", trials__a=a, trials__b=b)):
        with open_series(spec) as opened:
            assert (opened.data.keys, opened.data.lengths, opened.data.layout) == (("a", "b"), (4, 2), "group")
            np.testing.assert_array_equal(opened.data.read(1), b)
    spec = write(tmp_path / "c.h5", a=a, b=b)
    assert "2 datasets that could be" in error(spec)
    np.testing.assert_array_equal(read_all(spec + ":/")[1], b)


def test_a_folder_a_recording_has_its_own_mask_times_and_inputs(tmp_path: Path):
    spec = write(
        tmp_path / "a.h5",
        s__one__data=X[0], s__one__seen=np.eye(4, 3), s__one__time=[3.0, 4, 5, 6], s__one__u=np.ones((6, 1)),
        s__two__data=X[1, :2], s__two__seen=np.ones((2, 3)), s__two__time=[3.0, 4], s__two__u=np.zeros((2, 1)),
    )  # fmt: skip
    with open_series(spec, ReadOptions(mask="seen", inputs="u")) as opened:
        data = opened.data
        np.testing.assert_array_equal(data.read(0), np.where(np.eye(4, 3), X[0], np.nan))
        np.testing.assert_array_equal(data.read(1), X[1, :2])
        assert data.time == TimeAxis(3.0, 1.0)
        assert data.input_lengths == (6, 2)
        np.testing.assert_array_equal(data.read_inputs(0, 0, 6), np.ones((6, 1)))


def test_bare_series_take_masks_and_inputs_by_their_key(tmp_path: Path):
    spec = write(tmp_path / "a.h5", x__a=X[0], x__b=X[1], gap__a=np.eye(4, 3), gap__b=np.zeros((4, 3)),
                 u__a=np.zeros((4, 1)), u__b=np.ones((4, 1)))  # fmt: skip
    found = read_all(spec, mask="gap", mask_means="missing", inputs="u")
    np.testing.assert_array_equal(found[0], np.where(np.eye(4, 3), np.nan, X[0]))
    np.testing.assert_array_equal(found[1], X[1])


def test_rows_of_variable_length(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        one = file.create_dataset("rows", (2,), h5py.vlen_dtype(np.float32))
        one[0], one[1] = np.float32([1, 2, 3]), np.float32([4])
        two = file.create_dataset("two", (1, 2), h5py.vlen_dtype(np.int16))
        two[0, 0], two[0, 1] = [1, 2], [3, 4]
    found = read_all(str(tmp_path / "a.h5") + ":rows")
    np.testing.assert_array_equal(found[0][:, 0], [1, 2, 3])
    np.testing.assert_array_equal(found[1][:, 0], [4])
    np.testing.assert_array_equal(read_all(str(tmp_path / "a.h5") + ":two")[0], [[1, 3], [2, 4]])


def test_padded_series_end_at_their_lengths(tmp_path: Path):
    for name, options in (("lengths", {}), ("n_steps", {"lengths": "n_steps"})):
        with open_series(write(tmp_path / f"{name}.h5", data=X, **{name: [4, 2]}), ReadOptions(**options)) as opened:
            assert opened.data.lengths == (4, 2)
    spec = write(tmp_path / "bad.h5", data=X, ends=[4, 5])
    assert "each from 1 to 4" in error(spec, lengths="ends")


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4), (4,)])
def test_masks_of_both_polarities(tmp_path: Path, shape: tuple[int, ...]):
    mask = np.random.default_rng(0).random(shape) < 0.5
    full = np.broadcast_to(mask[..., None] if mask.ndim < 3 else mask, X.shape)
    spec = write(tmp_path / "a.h5", data=X, m=mask)
    np.testing.assert_array_equal(read_all(spec, mask="m"), np.where(full, X, np.nan))
    np.testing.assert_array_equal(read_all(spec, mask="m", mask_means="missing"), np.where(full, np.nan, X))


def test_a_mask_is_never_used_unasked_but_mentioned(tmp_path: Path):
    with open_series(write(tmp_path / "a.h5", data=X, mask=X > 3)) as opened:
        np.testing.assert_array_equal(opened.data.read(0), X[0])
        assert opened.notes == ("mask mask is not used; say --observed mask or --missing mask, whichever 1 means",)
    assert "the values (2, 4, 3)" in error(write(tmp_path / "b.h5", data=X, m=np.zeros((2, 3))), mask="m")
    assert "no dataset 'm' for the mask" in error(write(tmp_path / "c.h5", data=X), mask="m")


def test_numbers_that_stand_for_gaps(tmp_path: Path):
    values = X.copy()
    values[0, 0] = [-200, -999, 1e20]
    spec = write(tmp_path / "a.h5", data=values)
    with h5py.File(spec, "r+") as file:
        file["data"].attrs["_FillValue"] = np.float32(-999)
        file["data"].attrs["missing_value"] = np.array([1e20], "f4")
    found = read_all(spec, missing_value=-200)
    assert np.isnan(found[0][0]).all()
    assert np.isfinite(found[0][1:]).all()


def test_infinity_is_counted_and_placed(tmp_path: Path):
    values = X.copy()
    values[1, 2, 0] = np.inf
    values[1, 3, 2] = -np.inf
    assert error(write(tmp_path / "a.h5", data=values)) == (
        "2 infinite values, the first at series 1, step 2, channel 0\nin: a.h5\n"
        "try: store missing values as NaN, or name the number that stands for them: --missing-value X"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((3, 2), "c8"), "complex numbers"),
        (np.zeros((3, 2), [("a", "f4")]), "compound type"),
        (np.array([[b"a"], [b"b"]]), "text"),
        (np.zeros((0, 2)), "has 0 steps"),
        (np.zeros((2, 0, 3)), "has 0 steps"),
        (np.zeros((4, 0)), "a step has no values"),
        (np.zeros((1, 1, 1, 1, 1, 1)), "1 to 5 dimensions"),
        (np.float32(3.0), "has shape ()"),
        (h5py.Empty("f4"), "null dataspace"),
    ],
    ids=["complex", "compound", "text", "empty", "no steps", "no channels", "six dimensions", "scalar", "null"],
)
def test_what_is_not_a_series_is_named(tmp_path: Path, values, said: str):
    spec = write(tmp_path / "a.h5", values=values)
    assert said in error(spec + ":values")


def test_single_steps_channels_and_huge_values_are_read(tmp_path: Path):
    np.testing.assert_array_equal(read_all(write(tmp_path / "a.h5", data=np.full((1, 1, 1), 1e300))), [[[1e300]]])
    np.testing.assert_array_equal(read_all(write(tmp_path / "b.h5", data=np.full((1, 2, 1), np.nan))), [[[np.nan]] * 2])


def test_names_units_and_times_are_found(tmp_path: Path):
    spec = write(tmp_path / "a.h5", data=X, channel_names=[b"x", "µ".encode(), b"z"], series_names=[b"p", b"q"],
                 time=[b"2020-01-01 00:00", b"2020-01-01 06:00", b"2020-01-01 12:00", b"2020-01-01 18:00"])  # fmt: skip
    with h5py.File(spec, "r+") as file:
        file["data"].attrs["units"] = "mV"
    with open_series(spec) as opened:
        assert opened.data.channels == ("x", "µ", "z")
        assert opened.data.keys == ("p", "q")
        assert opened.data.units == ("mV",) * 3
        assert opened.data.time == TimeAxis(0.0, 6.0, "hours since 2020-01-01 00:00:00")


def test_a_rate_is_a_time_grid(tmp_path: Path):
    spec = write(tmp_path / "a.h5", data=X)
    with h5py.File(spec, "r+") as file:
        file["data"].attrs.update(rate=250.0, starting_time=1.5)
    with open_series(spec) as opened:
        assert opened.data.time == TimeAxis(1.5, 0.004, "seconds")


def test_uneven_times_name_the_worst_gap_and_can_be_regridded(tmp_path: Path):
    times = np.array([0.0, 1.0, 2.0, 5.0])
    spec = write(tmp_path / "a.h5", data=X, time=times)
    message = error(spec)
    assert "1 of 3 steps differ from the usual 1; the worst is 3, after step 2 (time 2)" in message
    assert "--regrid 1" in message
    found = read_all(spec, regrid=1.0)
    expected = np.full((2, 6, 3), np.nan)
    expected[:, [0, 1, 2, 5]] = X
    np.testing.assert_array_equal(found, expected)
    assert "puts 2 values on steps that are taken, first 1 beside 0" in error(spec, regrid=4.0)
    assert "needs times" in error(write(tmp_path / "b.h5", data=X), regrid=1.0)


def test_times_that_fall_are_refused(tmp_path: Path):
    assert "times do not rise: 2 is followed by 1" in error(write(tmp_path / "a.h5", data=X, time=[0.0, 2, 1, 3]))


def test_float32_times_far_from_zero_are_still_even(tmp_path: Path):
    times = (1.6e4 + 0.01 * np.arange(4)).astype("f4")
    with open_series(write(tmp_path / "a.h5", data=X, time=times)) as opened:
        assert opened.data.time is not None
        assert opened.data.time.step == pytest.approx(0.01, rel=0.5)


def test_inputs_reach_beyond_the_end_and_must_be_known(tmp_path: Path):
    inputs = np.arange(12.0).reshape(6, 2)
    with open_series(write(tmp_path / "a.h5", data=X, u=inputs), ReadOptions(inputs="u")) as opened:
        assert opened.data.n_inputs == 2
        assert opened.data.input_lengths == (6, 6)
        np.testing.assert_array_equal(opened.data.read_inputs(1, 4, 6), inputs[4:])
    short = write(tmp_path / "b.h5", data=X, u=inputs[:3])
    assert "do not reach over 2 series of 4 steps" in error(short, inputs="u")
    inputs[1] = np.nan
    spec = write(tmp_path / "c.h5", data=X, u=inputs)
    with (
        open_series(spec, ReadOptions(inputs="u")) as opened,
        pytest.raises(DataError, match="known inputs are missing"),
    ):
        opened.data.read_inputs(0)


def test_a_wide_matrix_is_read_as_it_is_with_a_warning(tmp_path: Path):
    with open_series(write(tmp_path / "a.h5", data=np.zeros((2, 9)))) as opened:
        assert opened.data.lengths == (2,)
        assert opened.notes == (
            "/data (2, 9) has more channels than steps; if time is the second dimension, say --axes dt",
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "does not exist"), (b"", "is empty"), (b"a,b\n1,2\n", "is not an HDF5 file (it begins with b'a,b")],
)
def test_files_that_are_not_hdf5(tmp_path: Path, content: bytes | None, said: str):
    if content is not None:
        (tmp_path / "a.h5").write_bytes(content)
    assert f"a.h5 {said}" in error(str(tmp_path / "a.h5"))


def test_a_file_with_a_colon_in_its_name_is_found(tmp_path: Path):
    np.testing.assert_array_equal(read_all(write(tmp_path / "a:b.h5", data=X)), X)


def test_reading_never_changes_the_file(tmp_path: Path):
    spec = write(tmp_path / "a.h5", data=X)
    before = Path(spec).read_bytes()
    read_all(spec)
    assert Path(spec).read_bytes() == before
