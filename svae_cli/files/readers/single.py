"""One dataset: whether it could be the series, the meaning of its dimensions, and what goes with it."""

import h5py

from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import beside, labels
from svae_cli.files.readers.source import ArrayBlock, Axes, ReadOptions, Recording, check_numeric

PREFERRED = ("data", "X", "x", "observations")
"""Names that are taken for the series without being told."""

_ANSWERS = ("mean", "latent_mean")


def preferred_in(file: h5py.File) -> tuple[str, ...]:
    """``PREFERRED``; of a result of svae that holds no data, such as a forecast, what it says instead."""
    is_result = str(safe.attribute(file, "svae_format") or "").startswith("svae-result")
    return (*PREFERRED, *_ANSWERS) if is_result else PREFERRED


def could_be(node: safe.Node) -> bool:
    """Whether a node is a dataset that a person could mean: of numbers, or of something said to be wrong later."""
    vlen = isinstance(node, h5py.Dataset) and h5py.check_vlen_dtype(node.dtype) not in (None, str, bytes)
    return isinstance(node, h5py.Dataset) and node.shape is not None and (node.dtype.kind in "iufbcV" or vlen)


def is_candidate(dataset: h5py.Dataset) -> bool:
    """Whether a dataset could be the series if nobody names one: numbers in 2 to 5 dimensions, or rows of numbers."""
    if not could_be(dataset) or labels.is_scale(dataset):
        return False
    if h5py.check_vlen_dtype(dataset.dtype) is not None:
        return dataset.ndim in (1, 2)
    return dataset.dtype.kind in "iufb" and 2 <= dataset.ndim <= 5


def read_dataset(dataset: h5py.Dataset, options: ReadOptions, *, folder: h5py.Group | None = None) -> Recording:
    """One dataset with the names, mask, lengths, inputs and times that go with it.

    Args:
        dataset: the values.
        options: what the caller says about them.
        folder: the group in which masks, inputs and times are looked for; default the dataset's own.
    """
    safe.check_dataset(dataset)
    check_numeric(dataset)
    place = safe.parent(dataset) if folder is None else folder
    axes, notes = _axes(dataset, options)
    block = ArrayBlock(dataset, axes, labels.decoding(dataset, options.missing_value))
    recording = Recording(
        blocks=(block,),
        keys=labels.series_names(dataset, axes) if "n" in axes else ("0",),
        layout="batch" if "n" in axes else "vector" if axes == "t" else "single",
        channels=labels.channel_names(dataset, axes),
        units=labels.channel_units(dataset, axes),
        notes=notes,
    )
    recording = beside.with_mask(recording, place, options, block)
    recording = beside.with_lengths(recording, place, options, block)
    recording = beside.with_inputs(recording, place, options, block)
    return beside.with_time(recording, place, options, dataset, axes)


def _axes(dataset: h5py.Dataset, options: ReadOptions) -> tuple[Axes, tuple[str, ...]]:
    if options.axes is not None:
        return options.axes, ()
    named = labels.axes_from_names(labels.dimension_names(dataset))
    if named is not None:
        return named, ()
    axes = labels.default_axes(dataset.ndim)
    if axes is None:
        raise DataError(f"has shape {dataset.shape}", where=f"dataset {dataset.name}", hint="1 to 5 dimensions")
    if labels.is_matlab(dataset):
        if dataset.ndim == 2 and 1 in dataset.shape:  # MATLAB has no vectors: a row or column is one channel
            return ("dt" if dataset.shape[0] == 1 else "td"), ()
        shown = dataset.shape[::-1]
        return axes[::-1], (f"MATLAB file: read as size {shown} in MATLAB's order; --axes states another",)
    if axes == "td" and dataset.shape[1] > dataset.shape[0]:
        shape = f"{dataset.name} {dataset.shape} has more channels than steps"
        return axes, (f"{shape}; if time is the second dimension, say --axes dt",)
    return axes, ()
