"""Model files: a trained model in one HDF5 file that needs nothing else."""

from itertools import pairwise
from pathlib import Path

import h5py

from svae_cli.config import Settings
from svae_cli.errors import ModelError
from svae_cli.files import safe
from svae_cli.files.atomic import replacing
from svae_cli.files.model_header import PARAMS, ModelHeader, header_of, write_header
from svae_cli.files.sink import new_hdf5
from svae_cli.files.tree import read_tree, write_tree
from svae_cli.models.build import skeleton
from svae_cli.models.fitted import FittedModel
from svae_cli.models.lags import steps_ahead

_HARMLESS = 1 << 24
"""Arrays of so many numbers are made without asking."""


def save_model(path: Path, fitted: FittedModel, *, force: bool = False) -> None:
    """Write a model; the file appears whole or not at all.

    Raises:
        OutputError: the file exists and ``force`` is not set, or it cannot be written.
    """
    with replacing(path, force=force) as temporary, new_hdf5(temporary, path) as (file, _):
        write_model(file, fitted)


def write_model(file: h5py.File, fitted: FittedModel) -> None:
    """Write header and parameters into an open, empty file."""
    write_header(
        file,
        ModelHeader(
            settings=fitted.settings,
            channels=fitted.channels,
            units=fitted.units,
            channel_shape=fitted.channel_shape,
            inputs=fitted.inputs,
            scaler=fitted.scaler,
            choices=fitted.choices,
            history=list(fitted.history),
            split=fitted.split,
            fingerprint=fitted.fingerprint,
            time=fitted.time,
        ),
    )
    write_tree(file.create_group(PARAMS), fitted.model)


def load_model(path: Path) -> FittedModel:
    """Read a model; names, shapes and types of all its parameters must be as its settings say.

    Raises:
        ModelError: the file is not a model, is damaged, or does not hold what its settings say.
    """
    with safe.open_file(path, name=str(path), error=ModelError) as file:
        return read_model(file, str(path))


def read_model(file: h5py.File, where: str) -> FittedModel:
    """The model of an open file; see ``load_model``."""
    header = header_of(file, where)
    group = safe.follow(file, PARAMS, error=ModelError)
    if not isinstance(group, h5py.Group):
        raise ModelError("it holds no parameters", where=where, hint="train it again")
    _check_sizes(header.settings, len(header.channels), group, where)
    like = skeleton(
        header.settings,
        n_channels=len(header.channels),
        n_inputs=len(header.inputs),
        channel_shape=header.channel_shape,
    )
    return FittedModel(
        model=read_tree(group, like, where=where, absent={"optimism": 1.0}),
        settings=header.settings,
        scaler=header.scaler,
        channels=header.channels,
        units=header.units,
        channel_shape=header.channel_shape,
        inputs=header.inputs,
        choices=header.choices,
        history=tuple(header.history),
        split=header.split,
        fingerprint=header.fingerprint,
        time=header.time,
    )


def _check_sizes(settings: Settings, n_channels: int, group: h5py.Group, where: str) -> None:
    """Refuse settings that ask for larger arrays than the file holds, before anything of that size is made."""
    if settings.latent_dim is None or "auto" in (settings.recognition, settings.decoder, settings.likelihood):
        raise ModelError("its settings are not complete", where=where, hint="train it again")
    stored = sum(int(d.size or 0) for d in safe.datasets(group, error=ModelError).values())
    hidden, ends = settings.hidden, max(2 * n_channels, settings.latent_dim)
    recurrent = [6 * width * (width + ends) for width in hidden] if settings.posterior != "svae" else []
    layers = [a * b for a, b in pairwise((ends, *hidden, ends))]
    regression = (settings.lags or 0) * steps_ahead(settings.lags or 0) * n_channels
    largest = max([regression, settings.latent_dim**2, settings.latent_dim * n_channels, *layers, *recurrent])
    if largest > max(stored, _HARMLESS):
        raise ModelError(f"its settings ask for arrays of {largest:,} numbers; it holds {stored:,}", where=where)
