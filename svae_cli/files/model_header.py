"""What a model file says about its model, readable without jax: settings, names, scaler, history."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from svae_cli import __version__
from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import TimeAxis
from svae_cli.data.warp import Warp
from svae_cli.errors import ModelError, UsageError
from svae_cli.files import safe

FORMAT = "svae-model-1"
PARAMS = "params"
_WARP = "scaler/warp"
_TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class ModelHeader:
    """Everything in a model file but the parameters.

    Attributes:
        settings: resolved; enough, with the sizes below, to rebuild the model.
        channels: names of the channels.
        units: their units.
        channel_shape: height, width and colours where a step is a frame.
        inputs: names of known inputs.
        scaler: between the data's units and the model's.
        choices: what was chosen for the user, and why.
        history: one row a report of training.
        split: which part of the data was held out.
        fingerprint: of the training data.
        time: the grid of the training data, or None.
    """

    settings: Settings
    channels: tuple[str, ...]
    units: tuple[str, ...]
    channel_shape: tuple[int, ...]
    inputs: tuple[str, ...]
    scaler: Scaler
    choices: dict[str, str]
    history: list[dict[str, Any]]
    split: dict[str, Any]
    fingerprint: str
    time: TimeAxis | None


def write_header(file: h5py.File, header: ModelHeader) -> None:
    """Write everything but the parameters into an empty file."""
    file.attrs["svae_format"] = FORMAT
    file.attrs["svae_version"] = __version__
    file.attrs["settings"] = json.dumps(header.settings.to_json(), sort_keys=True)
    file.attrs["fingerprint"] = header.fingerprint
    if header.time is not None:
        file.attrs["time"] = json.dumps(asdict(header.time), sort_keys=True)
    for name in ("channels", "units", "inputs"):
        file.create_dataset(name, data=np.array(getattr(header, name), dtype=object), dtype=_TEXT)
    file.create_dataset("channel_shape", data=np.array(header.channel_shape, np.int64))
    file.create_dataset("scaler/mean", data=np.asarray(header.scaler.mean, np.float64))
    file.create_dataset("scaler/std", data=np.asarray(header.scaler.std, np.float64))
    if header.scaler.warp is not None:
        for name, values in asdict(header.scaler.warp).items():
            file.create_dataset(f"{_WARP}/{name}", data=np.asarray(values, np.float64))
    file.create_dataset("training/choices", data=json.dumps(header.choices), dtype=_TEXT)
    file.create_dataset("training/split", data=json.dumps(header.split), dtype=_TEXT)
    _write_history(file.create_group("training/history"), header.history)


def _write_history(group: h5py.Group, history: Sequence[dict[str, Any]]) -> None:
    """One dataset a column; a number that a row lacks is NaN, a text is empty."""
    for name in dict.fromkeys(name for row in history for name in row):
        cells = [row.get(name) for row in history]
        if any(isinstance(cell, str) for cell in cells):
            group.create_dataset(name, data=np.array([cell or "" for cell in cells], dtype=object), dtype=_TEXT)
        else:
            group.create_dataset(name, data=np.array([np.nan if c is None else c for c in cells], np.float64))


def read_header(path: Path) -> ModelHeader:
    """Read everything but the parameters.

    Raises:
        ModelError: the file is not a model, is of another format, or is damaged.
    """
    with safe.open_file(path, name=str(path), error=ModelError) as file:
        return header_of(file, str(path))


def header_of(file: h5py.File, where: str) -> ModelHeader:
    """The header of an open model file; see ``read_header``."""
    check_format(file, where)
    names = {name: _texts(file, name, where) for name in ("channels", "units", "inputs")}
    width, shape = len(names["channels"]), tuple(int(n) for n in _numbers(file, "channel_shape", where))
    mean, std = _numbers(file, "scaler/mean", where), _numbers(file, "scaler/std", where)
    sizes = {len(names["units"]), len(mean), len(std), int(np.prod(shape)) if shape else width}
    if sizes != {width} or not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ModelError(f"{width} channels, but units or scaler do not fit them", where=where, hint="train it again")
    settings, warp = _settings(file, where), _warp(file, width, where)
    if (settings.transform == "power") != (warp is not None):
        raise ModelError("its settings and its scaler disagree on a transform", where=where, hint="train it again")
    return ModelHeader(
        settings=settings,
        channels=names["channels"],
        units=names["units"],
        channel_shape=shape,
        inputs=names["inputs"],
        scaler=Scaler(mean=mean, std=std, warp=warp),
        choices=_json(_text(file, "training/choices", where), dict, where),
        history=_history(file, where),
        split=_json(_text(file, "training/split", where), dict, where),
        fingerprint=str(safe.attribute(file, "fingerprint") or ""),
        time=_time(file, where),
    )


def _warp(file: h5py.File, width: int, where: str) -> Warp | None:
    if not isinstance(safe.follow(file, _WARP, error=ModelError), h5py.Group):
        return None
    numbers = {"zero": np.zeros(width), "unit": np.ones(width)}  # what files had before there was a choice
    older = all(safe.follow(file, f"{_WARP}/{name}", error=ModelError) is None for name in numbers)
    names = [field.name for field in fields(Warp) if not (older and field.name in numbers)]
    warp = Warp(**numbers | {name: _numbers(file, f"{_WARP}/{name}", where) for name in names})
    problem = warp.problem(width)
    if problem:
        raise ModelError(f"scaler/warp: {problem}", where=where, hint="train it again")
    return warp


def check_format(file: h5py.File, where: str) -> None:
    """Refuse a file that is not a model of this format.

    Raises:
        ModelError: it is something else.
    """
    stated = safe.attribute(file, "svae_format")
    if stated == FORMAT:
        return
    if isinstance(stated, str) and stated.startswith("svae-model"):
        hint = f"a newer svae; this is {__version__}"
        raise ModelError(f"{where} has model format {stated}; this svae reads {FORMAT}", hint=hint)
    kind = "an svae result" if isinstance(stated, str) else "an HDF5 file, but not a model"
    raise ModelError(f"{where} is {kind}", hint="the order is MODEL DATA: svae impute model.svae data.h5")


def _settings(file: h5py.File, where: str) -> Settings:
    plain = _json(safe.attribute(file, "settings"), dict, where)
    try:
        return Settings.from_json(plain)
    except (UsageError, TypeError) as problem:
        raise ModelError(f"its settings make no sense: {str(problem).splitlines()[0]}", where=where) from problem


def _time(file: h5py.File, where: str) -> TimeAxis | None:
    text = safe.attribute(file, "time")
    if text is None:
        return None
    plain = _json(text, dict, where)
    try:
        return TimeAxis(float(plain["start"]), float(plain["step"]), str(plain["units"]))
    except (KeyError, TypeError, ValueError) as problem:
        raise ModelError("its time grid makes no sense", where=where) from problem


def _json(text: Any, kind: type, where: str) -> Any:
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as problem:
        raise ModelError("a part of the header is missing or damaged", where=where, hint="train it again") from problem
    if not isinstance(value, kind):
        raise ModelError("a part of the header is damaged", where=where, hint="train it again")
    return value


def _dataset(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    node = safe.follow(file, name, error=ModelError)
    if not isinstance(node, h5py.Dataset):
        raise ModelError(f"{name} is missing", where=where, hint="train it again")
    safe.check_dataset(node, error=ModelError)
    return node


def _texts(file: h5py.File, name: str, where: str) -> tuple[str, ...]:
    node = _dataset(file, name, where)
    with safe.reading(name, error=ModelError):
        if node.ndim != 1 or h5py.check_string_dtype(node.dtype) is None:
            raise ModelError(f"{name} is not a list of names", where=where)
        values = node[()]
    return tuple(str(safe.as_text(v)) for v in values)


def _text(file: h5py.File, name: str, where: str) -> str:
    node = _dataset(file, name, where)
    with safe.reading(name, error=ModelError):
        if node.shape != () or h5py.check_string_dtype(node.dtype) is None:
            raise ModelError(f"{name} is not a text", where=where)
        value = node[()]
    return str(safe.as_text(value))


def _numbers(file: h5py.File, name: str, where: str) -> np.ndarray:
    node = _dataset(file, name, where)
    if node.ndim != 1 or node.dtype.kind not in "iuf":
        raise ModelError(f"{name} is not a list of numbers", where=where)
    return safe.read(node, error=ModelError).astype(np.float64)


def _history(file: h5py.File, where: str) -> list[dict[str, Any]]:
    group = safe.follow(file, "training/history", error=ModelError)
    if not isinstance(group, h5py.Group):
        raise ModelError("training/history is missing", where=where)
    columns: dict[str, list[Any]] = {}
    for name, node in safe.children(group, error=ModelError).items():
        if isinstance(node, h5py.Dataset) and node.ndim == 1:
            path = f"training/history/{name}"
            is_text = node.dtype.kind == "O"
            columns[name] = list(_texts(file, path, where)) if is_text else _numbers(file, path, where).tolist()
    rows = min((len(column) for column in columns.values()), default=0)
    table = [{name: column[i] for name, column in columns.items()} for i in range(rows)]
    return [{name: cell for name, cell in row.items() if cell == cell and cell != ""} for row in table]


def count_parameters(path: Path) -> int:
    """How many numbers the parameters of a model file are."""
    with safe.open_file(path, name=str(path), error=ModelError) as file:
        group = safe.follow(file, PARAMS, error=ModelError)
        if not isinstance(group, h5py.Group):
            raise ModelError("it holds no parameters", where=str(path), hint="train it again")
        return sum(int(d.size or 0) for d in safe.datasets(group, error=ModelError).values())
