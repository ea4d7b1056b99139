"""Dialects of HDF5, each from a file by the library that writes it, where that library can be installed."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files.readers import ReadOptions, open_series

X = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("f4")


def read(spec: str, **options):
    with open_series(spec, ReadOptions(**options)) as opened:
        return opened, [opened.data.read(i) for i in range(len(opened.data))]


def error(spec: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(spec, **options)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ netCDF-4


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_xarray_packed_integers_with_named_dimensions(tmp_path: Path, engine: str):
    xarray = pytest.importorskip("xarray")
    values = X.copy()
    values[0, 2, 1] = np.nan
    dataset = xarray.Dataset(
        {"wind": (("channel", "time", "station"), values.transpose(2, 1, 0), {"units": "m/s"})},
        {
            "time": np.datetime64("2020-01-01T00") + 3 * np.arange(6) * np.timedelta64(1, "h"),
            "channel": ["u", "v", "w"],
        },
    )
    packed = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 0.5, "_FillValue": -32768}
    dataset.to_netcdf(tmp_path / "a.nc", engine=engine, encoding={"wind": packed})
    opened, found = read(str(tmp_path / "a.nc"), axes="dtn")
    with xarray.open_dataset(tmp_path / "a.nc", engine=engine) as back:
        expected = back["wind"].values.transpose(2, 1, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isnan(found[0][2, 1])
    assert opened.data.channels == ("u", "v", "w")
    assert opened.data.units == ("m/s",) * 3
    assert opened.data.time == TimeAxis(0.0, 3.0, "hours since 2020-01-01 00:00:00")


@pytest.mark.parametrize("dims", [("time", "channel"), ("channel", "time"), ("sensor", "time")])
def test_netcdf_dimension_names_order_a_matrix(tmp_path: Path, dims: tuple[str, str]):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as file:
        for name, size in zip(dims, (4, 9), strict=True):
            file.createDimension(name, size)
        file.createVariable("v", "f8", dims)[:] = np.arange(36.0).reshape(4, 9)
    opened, found = read(str(tmp_path / "a.nc"))
    expected = np.arange(36.0).reshape(4, 9)
    np.testing.assert_array_equal(found[0], expected if dims[0] == "time" else expected.T)
    assert opened.notes == ()


def test_netcdf_unlimited_time_and_default_fill(tmp_path: Path):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("time", None)
        file.createDimension("x", 2)
        clock = file.createVariable("time", "i4", ("time",))
        clock.units = "days since 2000-01-01"
        clock[:] = [10, 11, 12]
        variable = file.createVariable("v", "f4", ("time", "x"), fill_value=-1.0)
        variable[:] = np.ma.masked_equal([[1.0, 2], [3, -1], [5, 6]], -1)
    opened, found = read(str(tmp_path / "a.nc"))
    np.testing.assert_array_equal(found[0], [[1, 2], [3, np.nan], [5, 6]])
    assert opened.data.time == TimeAxis(10.0, 1.0, "days since 2000-01-01")


# ------------------------------------------------------------------------------------------------ NWB


def nwb_file(path: Path, *, series: int = 1) -> np.ndarray:
    """Raw counts that pynwb stored with conversion, channel factors, offset and rate, and a table of trials."""
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("s", "id", datetime(2024, 1, 1, tzinfo=UTC))
    raw = np.arange(80, dtype="i2").reshape(40, 2)
    for i in range(series):
        options = {"unit": "volts", "starting_time": 1.0, "rate": 10.0, "conversion": 0.5, "offset": 2.0}
        file.add_acquisition(pynwb.TimeSeries(name=f"lfp{i}", data=raw, **options))
    file.add_trial(start_time=1.5, stop_time=2.5)
    file.add_trial(start_time=3.0, stop_time=4.2)
    file.add_trial(start_time=100.0, stop_time=101.0)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return raw * 0.5 + 2.0


@pytest.mark.filterwarnings("ignore")
def test_nwb_time_series_in_units_on_its_clock(tmp_path: Path):
    expected = nwb_file(tmp_path / "a.nwb")
    opened, found = read(str(tmp_path / "a.nwb"))
    np.testing.assert_array_equal(found[0], expected)
    assert opened.data.units == ("volts", "volts")
    assert opened.data.time == TimeAxis(1.0, 0.1, "seconds")
    assert opened.data.keys == ("lfp0",)


@pytest.mark.filterwarnings("ignore")
def test_nwb_trials_cut_the_recording(tmp_path: Path):
    expected = nwb_file(tmp_path / "a.nwb")
    opened, found = read(str(tmp_path / "a.nwb"), trials="trials")
    assert opened.data.lengths == (10, 12)
    np.testing.assert_array_equal(found[0], expected[5:15])
    np.testing.assert_array_equal(found[1], expected[20:32])
    assert opened.notes == ("1 of 3 trials lie outside the recording",)
    assert "no table of intervals 'runs'" in error(str(tmp_path / "a.nwb"), trials="runs")


@pytest.mark.filterwarnings("ignore")
def test_nwb_with_several_series_needs_a_name(tmp_path: Path):
    expected = nwb_file(tmp_path / "a.nwb", series=2)
    assert error(str(tmp_path / "a.nwb")) == (
        "a.nwb has 2 TimeSeries: /acquisition/lfp0 (40, 2), /acquisition/lfp1 (40, 2)\n"
        "try: name one: a.nwb:/acquisition/lfp0"
    )
    for name in ("/acquisition/lfp1", "/acquisition/lfp1/data"):
        np.testing.assert_array_equal(read(f"{tmp_path}/a.nwb:{name}")[1][0], expected)


@pytest.mark.filterwarnings("ignore")
def test_nwb_electrical_series_with_factors_and_uneven_timestamps(tmp_path: Path):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("s", "id", datetime(2024, 1, 1, tzinfo=UTC))
    device = file.create_device("d")
    group = file.create_electrode_group("g", description="d", location="l", device=device)
    for _ in range(2):
        file.add_electrode(location="l", group=group)
    region = file.create_electrode_table_region([0, 1], "all")
    stamps = np.array([0.0, 0.1, 0.2, 0.5])
    data = np.arange(8.0).reshape(4, 2)
    file.add_acquisition(
        pynwb.ecephys.ElectricalSeries(
            name="e", data=data, electrodes=region, timestamps=stamps, conversion=2.0, channel_conversion=[1.0, 10.0]
        )
    )
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(file)
    assert "--regrid 0.1" in error(str(tmp_path / "a.nwb"))
    found = read(str(tmp_path / "a.nwb"), regrid=0.1)[1][0]
    np.testing.assert_array_equal(found[[0, 1, 2, 5]], data * 2.0 * [1.0, 10.0])
    assert np.isnan(found[3:5]).all()


# ------------------------------------------------------------------------------------------------ pandas


def test_pandas_frame_keeps_order_of_columns_and_dates(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    index = pandas.date_range("2020-01-01", periods=5, freq="15min")
    frame = pandas.DataFrame(
        {"b": np.arange(5.0), "n": np.arange(5, dtype="i8"), "a": [0.5, np.nan, 1, 2, 3]}, index=index
    )
    frame.to_hdf(tmp_path / "a.h5", key="df", format="fixed")
    opened, found = read(str(tmp_path / "a.h5"))
    np.testing.assert_array_equal(found[0], frame.to_numpy())
    assert opened.data.channels == ("b", "n", "a")
    assert opened.data.time == TimeAxis(0.0, 15.0, "minutes since 2020-01-01 00:00:00")


def test_pandas_series_and_several_tables(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    series = pandas.Series(np.arange(4.0), name="s")
    series.to_hdf(tmp_path / "a.h5", key="one", format="fixed")
    pandas.DataFrame({"x": [1.0, 2.0]}).to_hdf(tmp_path / "a.h5", key="two", format="fixed")
    assert error(str(tmp_path / "a.h5")) == "a.h5 has 2 tables: one, two\ntry: name one: a.h5:/one"
    np.testing.assert_array_equal(read(f"{tmp_path}/a.h5:/one")[1][0][:, 0], series)
    np.testing.assert_array_equal(read(f"{tmp_path}/a.h5:two")[1][0][:, 0], [1, 2])


@pytest.mark.filterwarnings("ignore")
def test_pandas_tables_and_text_columns_are_refused_with_the_way_out(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "name": pandas.Series(["a", "b"], dtype=object)})
    frame.to_hdf(tmp_path / "a.h5", key="df", format="fixed")
    assert "columns that are not numbers: name" in error(str(tmp_path / "a.h5"))
    frame[["x"]].to_hdf(tmp_path / "b.h5", key="df", format="table")
    assert "format='fixed'" in error(str(tmp_path / "b.h5"))


# ------------------------------------------------------------------------------------------------ others


@pytest.mark.filterwarnings("ignore::DeprecationWarning:hdf5storage")
@pytest.mark.filterwarnings("ignore:The chararray class is deprecated")
def test_matlab_dimensions_come_reversed(tmp_path: Path):
    hdf5storage = pytest.importorskip("hdf5storage")
    hdf5storage.savemat(str(tmp_path / "a.mat"), {"x": X.astype("f8"), "v": np.arange(5.0)}, format="7.3")
    opened, found = read(str(tmp_path / "a.mat") + ":x")
    np.testing.assert_array_equal(found, X)
    assert opened.notes == ("MATLAB file: read as size (2, 6, 3) in MATLAB's order; --axes states another",)
    np.testing.assert_array_equal(read(str(tmp_path / "a.mat") + ":x", axes="dtn")[1], X)
    np.testing.assert_array_equal(read(str(tmp_path / "a.mat") + ":v")[1][0][:, 0], np.arange(5.0))


@pytest.mark.parametrize("name", ["Blosc", "Zstd", "LZ4"])
def test_compressed_with_filters_of_hdf5plugin(tmp_path: Path, name: str):
    """Written and read in processes of their own: PyTables and netCDF4 bring filters of the same numbers."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HDF5")}
    pytest.importorskip("hdf5plugin")
    made = f"""
import h5py, hdf5plugin, numpy as np
with h5py.File("a.h5", "w") as file:
    values = np.arange(36, dtype="f4").reshape(2, 6, 3)
    file.create_dataset("data", data=values, chunks=(1, 6, 3), compression=hdf5plugin.{name}())
"""
    reading = """
from svae_cli.files.readers import open_series
with open_series("a.h5") as opened:
    print(opened.data.read(1).sum())
"""
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, check=True, env=own)
    options = {"cwd": tmp_path, "check": True, "env": own, "capture_output": True, "text": True}
    found = subprocess.run([sys.executable, "-c", reading], **options)
    assert float(found.stdout) == np.arange(18, 36).sum()


def test_pytables_arrays(tmp_path: Path):
    tables = pytest.importorskip("tables")
    with tables.open_file(str(tmp_path / "a.h5"), "w") as file:
        file.create_carray("/", "signal", obj=X)
    np.testing.assert_array_equal(read(str(tmp_path / "a.h5"))[1], X)


@pytest.mark.parametrize(
    ("train", "valid"), [("train_encod_data", "valid_encod_data"), ("train_X", "val_X"), ("train/X", "val/X")]
)
def test_lfads_torch_and_pypots_parts(tmp_path: Path, train: str, valid: str):
    """Written with h5py, as both projects write theirs."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[train], file[valid] = X, X[:1]
        file[train.replace("encod", "recon").replace("X", "X_ori")] = X
    opened, found = read(str(tmp_path / "a.h5"))
    np.testing.assert_array_equal(found, X)
    assert opened.notes == (f"read {train}; validate with --val a.h5:{valid}",)
    np.testing.assert_array_equal(read(f"{tmp_path}/a.h5:{valid}")[1], X[:1])


def test_pypots_flat_dictionary(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["X_ori"], file["y"] = X, X, np.zeros(2)
    np.testing.assert_array_equal(read(str(tmp_path / "a.h5"))[1], X)


def test_neural_latents_benchmark_held_out_neurons_are_missing_channels(tmp_path: Path):
    """Written with h5py, as nlb_tools does."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_spikes_heldin"], file["train_spikes_heldout"] = X[..., :2], X[..., 2:]
        file["eval_spikes_heldin"] = X[:1, :, :2]
    opened, found = read(str(tmp_path / "a.h5"))
    np.testing.assert_array_equal(found, X)
    assert opened.data.channels == ("heldin_0", "heldin_1", "heldout_0")
    evaluation = read(f"{tmp_path}/a.h5:eval")[1]
    np.testing.assert_array_equal(evaluation[0][:, :2], X[0, :, :2])
    assert np.isnan(evaluation[0][:, 2]).all()
    np.testing.assert_array_equal(read(f"{tmp_path}/a.h5:train_spikes_heldin")[1], X[..., :2])


WRITTEN = Path(__file__).parent / "written"
"""By the writers of nlb_tools and PyPOTS themselves; its README says how."""


def test_nlb_tools_own_file():
    counts = np.arange(3 * 5 * 4).reshape(3, 5, 4) % 7.0
    np.testing.assert_array_equal(read(f"{WRITTEN}/nlb_tools.h5")[1], counts)
    evaluation = np.stack(read(f"{WRITTEN}/nlb_tools.h5:eval")[1])
    np.testing.assert_array_equal(evaluation[..., :3], counts[:2, :, :3])
    assert np.isnan(evaluation[..., 3]).all()


def test_pypots_own_files():
    values = np.sin(np.arange(3 * 6 * 2)).reshape(3, 6, 2)
    values[0, 2, 1] = np.nan
    np.testing.assert_array_equal(read(f"{WRITTEN}/pypots.h5")[1], values[:2])
    np.testing.assert_array_equal(read(f"{WRITTEN}/pypots.h5:val/X")[1], values[2:])
    np.testing.assert_array_equal(read(f"{WRITTEN}/pypots_flat.h5")[1], values)


def test_trials_of_other_dialects_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = X
    assert "--trials cuts NWB recordings only" in error(str(tmp_path / "a.h5"), trials="trials")
