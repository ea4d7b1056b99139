"""Result files: read back exactly, valid netCDF-4, equal bytes, whole or not at all."""

import csv
import dataclasses
import io
import json
import os
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from svae_cli.data.series import SeriesSet, TimeAxis
from svae_cli.errors import OutputError
from svae_cli.files.readers import open_series
from svae_cli.files.results import Header, write_results
from svae_cli.results import LatentPath, Prediction

fcntl = pytest.importorskip("fcntl")

LENGTHS = {"batch": (5, 5), "padded": (5, 3), "group": (5, 3), "single": (7,)}


def make(kind: str, dtype: str = "f4"):
    """A header and imputations of random series, some values of which are missing."""
    rng = np.random.default_rng(1)
    lengths = LENGTHS[kind]
    arrays = [rng.standard_normal((n, 2)).astype(dtype) for n in lengths]
    data = SeriesSet.from_arrays(arrays, keys=[f"rec {i}" for i in range(len(arrays))], channels=["µ", "b"])
    header = Header.like(
        "imputation",
        data,
        settings={"a": 1},
        quantiles=(0.1, 0.9),
        layout="group" if kind == "group" else "batch",
        units=("mV", "mV"),
        time=TimeAxis(2.0, 0.5, "hours since 2001-01-01"),
    )
    rows = [
        Prediction(
            key=key,
            mean=array,
            std=np.abs(array),
            quantiles=np.stack([array - 1, array + 1], axis=-1),
            samples=np.stack([array, array + 2, array - 2]),
            values=array,
            observed=array > 0,
            ignored=array > 1,
            latent_mean=array[:, :1],
            latent_cov=np.ones((len(array), 1, 1), dtype),
        )
        for key, array in zip(data.keys, arrays, strict=True)
    ]
    return header, rows


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("kind", list(LENGTHS))
def test_xarray_opens_results_with_named_dimensions(tmp_path: Path, kind: str, engine: str):
    xarray = pytest.importorskip("xarray")
    header, rows = make(kind)
    path = tmp_path / "r.h5"
    write_results(path, header, rows, format="h5", force=False)
    grouped = kind == "group"
    for index, row in enumerate(rows):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            group = header.keys[index] if grouped else None
            with xarray.open_dataset(path, engine=engine, group=group) as found:
                read = found.load()
        assert read["mean"].dims == (("time", "channel") if grouped else ("series", "time", "channel"))
        assert list(read["channel"].values) == ["µ", "b"]
        assert list(read["quantile"].values) == [0.1, 0.9]
        assert read["mean"].attrs["units"] == "mV"
        assert str(read["time"].values[0]).startswith("2001-01-01T02:00")
        one = read if grouped else read.sel(series=header.keys[index])
        one = one.isel(time=slice(0, len(row.mean)))
        np.testing.assert_array_equal(one["data"], row.values)
        np.testing.assert_array_equal(one["observed"], row.observed)
        np.testing.assert_array_equal(one["ignored"], row.ignored)
        np.testing.assert_array_equal(one["quantiles"], row.quantiles)
        np.testing.assert_array_equal(one["samples"], row.samples)
        np.testing.assert_array_equal(one["latent_cov"], row.latent_cov)


@pytest.mark.parametrize("kind", list(LENGTHS))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_svae_reads_its_own_results_with_filled_values_missing(tmp_path: Path, kind: str, dtype: str):
    header, rows = make(kind, dtype)
    path = tmp_path / "r.h5"
    write_results(path, header, rows, format="h5", force=False)
    with open_series(str(path)) as opened:
        data = opened.data
        assert data.keys == header.keys
        assert data.lengths == header.lengths
        assert data.channels == header.channels
        assert data.units == header.units
        assert data.dtype == np.dtype(dtype)
        assert data.time == header.time
        assert data.layout == header.layout
        for index, row in enumerate(rows):
            assert row.values is not None
            np.testing.assert_array_equal(data.read(index), np.where(row.observed, row.values, np.nan))


def test_equal_results_are_equal_bytes(tmp_path: Path):
    for name in ("a.h5", "b.h5"):
        header, rows = make("batch")
        write_results(tmp_path / name, header, rows, format="h5", force=False)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_chunks_keep_channels_together_and_masks_are_flags(tmp_path: Path):
    header, rows = make("batch")
    write_results(tmp_path / "r.h5", header, rows, format="h5", force=False)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["data"].chunks == (1, 5, 2)
        assert (file["data"].compression, file["data"].shuffle) == ("gzip", True)
        assert file["observed"].dtype == np.uint8
        assert list(file["observed"].attrs["flag_values"]) == [0, 1]
        assert file["observed"].attrs["flag_meanings"] == "missing observed"
        assert file["ignored"].dtype == np.uint8
        assert file["ignored"].attrs["flag_meanings"] == "not_ignored ignored"
        assert json.loads(file.attrs["settings"]) == {"a": 1}


def test_frames_are_written_as_frames(tmp_path: Path):
    rng = np.random.default_rng(0)
    arrays = [rng.random((4, 6)) for _ in range(2)]
    data = SeriesSet.from_arrays(arrays)
    header = Header.like("sample", data, settings={}, channel_shape=(2, 3))
    write_results(tmp_path / "r.h5", header, iter(arrays), format="h5", force=False)
    with h5py.File(tmp_path / "r.h5") as file:
        np.testing.assert_array_equal(file["data"][()], np.stack(arrays).reshape(2, 4, 2, 3))
        assert [dim[0].name for dim in file["data"].dims] == ["/series", "/time", "/y", "/x"]


def test_only_missing_leaves_observed_values_out(tmp_path: Path):
    header, rows = make("batch")
    write_results(tmp_path / "r.h5", header, rows, format="h5", force=False, only_missing=True)
    write_results(tmp_path / "r.csv", header, rows, format="csv", force=False, only_missing=True)
    observed = np.stack([row.observed for row in rows])
    with h5py.File(tmp_path / "r.h5") as file:
        np.testing.assert_array_equal(np.isnan(file["mean"][()]), observed)
        np.testing.assert_array_equal(file["data"][()], np.stack([row.values for row in rows]))
    table = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert len(table) == np.count_nonzero(~observed)


@pytest.mark.parametrize("kind", ["batch", "padded", "group"])
def test_tables_have_one_row_a_value(tmp_path: Path, kind: str):
    header, rows = make(kind)
    write_results(tmp_path / "r.csv", header, rows, format="csv", force=False)
    write_results(tmp_path / "r.jsonl", header, rows, format="jsonl", force=False)
    table = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    objects = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert list(table[0]) == list(objects[0]) == ["series", "time", "channel", "mean", "std", "q0.1", "q0.9"]
    assert len(table) == len(objects) == 2 * sum(header.lengths)
    means = np.concatenate([row.mean.ravel() for row in rows])
    np.testing.assert_array_equal(np.float32([line["mean"] for line in table]), means)
    np.testing.assert_array_equal(np.float32([line["mean"] for line in objects]), means)
    assert [float(line["time"]) for line in table[:4]] == [2.0, 2.0, 2.5, 2.5]


def test_encodings_have_a_row_a_latent_state(tmp_path: Path):
    data = SeriesSet.from_arrays([np.zeros((2, 1))])
    cov = np.array([[[4.0, 0], [0, 9.0]]] * 2)
    path = LatentPath(key="0", mean=np.arange(4.0).reshape(2, 2), cov=cov)
    write_results(tmp_path / "r.csv", Header.like("encoding", data, settings={}), [path], format="csv", force=False)
    assert (tmp_path / "r.csv").read_text().splitlines() == [
        "series,time,latent,mean,std",
        "0,0.0,0,0.0,2.0",
        "0,0.0,1,1.0,3.0",
        "0,1.0,0,2.0,2.0",
        "0,1.0,1,3.0,3.0",
    ]


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path):
    header, rows = make("batch")
    target = tmp_path / "r.h5"
    target.write_bytes(b"old")

    def failing():
        yield rows[0]
        raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        write_results(target, header, failing(), format="h5", force=True)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.h5"]


def test_an_existing_file_is_refused_without_force(tmp_path: Path):
    header, rows = make("batch")
    (tmp_path / "r.h5").write_bytes(b"old")
    with pytest.raises(OutputError, match="exists"):
        write_results(tmp_path / "r.h5", header, rows, format="h5", force=False)
    write_results(tmp_path / "r.h5", header, rows, format="h5", force=True)
    assert h5py.is_hdf5(tmp_path / "r.h5")


def test_forecasts_from_different_ends_count_from_the_end(tmp_path: Path):
    data = SeriesSet.from_arrays([np.zeros((5, 1)), np.zeros((8, 1))])
    header = Header.like("forecast", data, settings={}, lengths=(3, 3), starts=(5, 8), time=TimeAxis(0, 2.0, "seconds"))
    rows = [Prediction(key=k, mean=np.zeros((3, 1)), std=np.ones((3, 1))) for k in data.keys]
    write_results(tmp_path / "r.h5", header, rows, format="h5", force=False)
    write_results(tmp_path / "r.csv", header, rows, format="csv", force=False)
    with h5py.File(tmp_path / "r.h5") as file:
        np.testing.assert_array_equal(file["time"][()], [2, 4, 6])
    assert [line.split(",")[:2] for line in (tmp_path / "r.csv").read_text().splitlines()[1:]] == [
        ["0", "10.0"], ["0", "12.0"], ["0", "14.0"], ["1", "16.0"], ["1", "18.0"], ["1", "20.0"],
    ]  # fmt: skip


def test_what_a_killed_writer_left_is_cleared_and_what_another_writes_is_not(tmp_path: Path):
    header, rows = make("single")
    killed, alive, fresh = (tmp_path / f".x.h5.{name}.part" for name in ("00000000", "11111111", "22222222"))
    for path in (killed, alive, fresh):
        path.touch()
    for path in (killed, alive):
        os.utime(path, (0, 0))
    with alive.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_results(tmp_path / "x.h5", header, rows, format="h5", force=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, fresh.name, "x.h5"])


@pytest.mark.parametrize("kind", ["batch", "group"])
@pytest.mark.parametrize("format", ["h5", "csv"])
def test_a_series_in_pieces_makes_the_same_file(tmp_path: Path, kind: str, format: str):
    header, rows = make(kind)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    write_results(whole, header, rows, format=format, force=False)
    write_results(pieces, header, [part for row in rows for part in cut(row, 2)], format=format, force=False)
    assert pieces.read_bytes() == whole.read_bytes()


def cut(row: Prediction, at: int) -> list[Prediction]:
    """The steps before and from ``at`` on."""

    def part(place: slice, start: int) -> Prediction:
        axes = {"samples": (slice(None), place)}
        arrays = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
        cuts = {n: a[axes.get(n, place)] for n, a in arrays.items() if isinstance(a, np.ndarray)}
        return dataclasses.replace(row, **cuts, start=start)

    return [part(slice(at), 0), part(slice(at, None), at)]
