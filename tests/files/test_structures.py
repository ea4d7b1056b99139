"""Files of any structure: every combination of names, shapes, types and attributes is read, or refused in words."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from svae_cli.errors import SvaeError
from svae_cli.files.kinds import kind_of
from svae_cli.files.pictures import read_picture
from svae_cli.files.readers import ReadOptions, open_series
from svae_cli.files.survey import describe, survey

_WORDS = """data X time timestamps lengths mask observed channel_names channel series units values axis0 axis1
block0_values block0_items starting_time start_time stop_time train_encod_data valid_encod_data train_X mean std
train_spikes_heldin eval_spikes_heldin train_spikes_heldout latent_mean latent_cov params"""
NAMES = tuple(_WORDS.split())
GROUPS = ("", "g", "g/h", "acquisition/t", "intervals/trials", "trials", "train", "table")
TYPES = ("f4", ">f8", "f2", "i2", "i8", "u1", "?", "c8", "S3", "text", "rows", "compound")
TRAITS = {
    "nwb_version": "2.6.0",
    "pandas_type": "frame",
    "nblocks": 1,
    "kind": "string",
    "svae_format": "svae-result-1",
    "rate": 10.0,
    "conversion": 2.0,
    "_FillValue": 1.0,
    "scale_factor": 0.5,
    "add_offset": -1.0,
    "MATLAB_class": "double",
    "units": "hours since 2000-01-01",
    "missing_value": np.array([2.0, 3.0]),
    "transposed": True,
    "channel_names": ["a", "b"],
    "starting_time": 3.0,
}
sizes = st.sampled_from((2, 3, 4, 1, 0))
nodes = st.tuples(
    st.sampled_from(GROUPS),
    st.sampled_from(("data",) * 8 + NAMES),
    st.sampled_from(("f4",) * 8 + TYPES),
    st.lists(sizes, min_size=1, max_size=4).map(tuple),
    st.lists(st.sampled_from(sorted(TRAITS)), max_size=2),
    st.booleans(),
)


def often_none(*values) -> st.SearchStrategy:
    """None in most cases, else one of the values."""
    return st.sampled_from((None,) * 8 + values)


options = st.builds(
    ReadOptions,
    dataset=often_none("data", "/g", "g/data", "/", "train", "eval", "acquisition/t", "nothing"),
    axes=often_none("ntd", "td", "dt", "t", "nt", "nthw"),
    mask=often_none("mask", "observed"),
    missing_value=often_none(0.0),
    lengths=often_none("lengths"),
    inputs=often_none("X", "time", "values"),
    regrid=often_none(0.5, 2.0),
    trials=often_none("trials"),
)


def array(kind: str, shape: tuple[int, ...]):
    """An array of the kind; numbers count up, with a NaN among the real ones."""
    count = np.arange(int(np.prod(shape))).reshape(shape)
    if kind == "text":
        return np.full(shape, "2020-01-01", dtype=object)
    if kind == "compound":
        return np.zeros(shape, [("a", "f4"), ("b", "i4")])
    values = count.astype(kind)
    if values.dtype.kind == "f" and values.size > 2:
        values[(1,) * values.ndim if min(shape) > 1 else (0,) * values.ndim] = np.nan
    return values


def add(file: h5py.File, node: tuple) -> None:
    """Put a dataset with attributes into the file, unless its name is taken."""
    group, name, kind, shape, traits, on_group = node
    path = f"{group}/{name}".lstrip("/")
    if path in file or any(isinstance(file.get(part), h5py.Dataset) for part in (group, *(group.split("/")[:1]))):
        return
    if kind == "rows":
        dataset = file.create_dataset(path, shape, h5py.vlen_dtype(np.float32))
        for index in np.ndindex(*shape):
            dataset[index] = np.arange(1 + sum(index), dtype="f4")
    elif kind == "text":
        dataset = file.create_dataset(path, data=array(kind, shape), dtype=h5py.string_dtype())
    else:
        dataset = file.create_dataset(path, data=array(kind, shape))
    owner = dataset.parent if on_group else dataset
    for trait in traits:
        owner.attrs[trait] = TRAITS[trait]


@contextmanager
def told_in_three_lines() -> Iterator[None]:
    """Nothing but an error that the user can mend may come out."""
    try:
        yield
    except SvaeError as refusal:
        lines = str(refusal).splitlines()
        if len(lines) > 3:
            raise AssertionError(lines) from refusal


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example(found=[("", "data", "f4", (0,), [], False), ("", "time", "f4", (0,), [], False)], chosen=ReadOptions())
@example(
    found=[("", "data", "f4", (0,), [], False), ("", "time", "f4", (0,), [], False)],
    chosen=ReadOptions(dataset="data", axes="t", regrid=2.0),
)
@given(found=st.lists(nodes, min_size=1, max_size=6), chosen=options)
def test_any_structure_is_read_or_refused(found: list, chosen: ReadOptions):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with h5py.File(path, "w") as file:
            for node in found:
                add(file, node)
        before = path.read_bytes()
        for attempt in (chosen, ReadOptions()):
            with told_in_three_lines(), open_series(str(path), attempt) as opened:
                data = opened.data
                describe(data, survey(data))
                for index, length in enumerate(data.lengths):
                    values = data.read(index)
                    assert values.shape == (length, data.n_channels)
                    assert values.dtype == data.dtype
                    assert data.read_inputs(index).shape == (length, data.n_inputs)
                assert len(set(data.keys)) == len(data.keys)
                assert len(data.units) == len(data.channels) == data.n_channels
        with told_in_three_lines():
            kind_of(str(path))
            read_picture(str(path), ReadOptions(), series=None, channels=2)
        assert path.read_bytes() == before
