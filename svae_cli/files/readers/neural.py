"""Tensors of neural recordings in parts: lfads-torch, the Neural Latents Benchmark, and PyPOTS' splits.

The part to learn from is read unless another one is named; NLB's held-out neurons are channels of their own, missing
in the part for evaluation.
"""

from dataclasses import replace

import h5py

from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import single
from svae_cli.files.readers.joined import AbsentBlock, JoinedBlock
from svae_cli.files.readers.source import ArrayBlock, Block, ReadOptions, Recording

_PARTS = {
    "train_encod_data": "valid_encod_data",  # lfads-torch
    "train_X": "val_X",  # PyPOTS, flat
    "train/X": "val/X",  # PyPOTS, nested
}
_HELD_IN = "spikes_heldin"
_HELD_OUT = "spikes_heldout"


def recognises(file: h5py.File) -> bool:
    """Whether the file holds one of the parts under its known name."""
    return any(_dataset(file, name) is not None for name in (*_PARTS, f"train_{_HELD_IN}", f"eval_{_HELD_IN}"))


def read(file: h5py.File, options: ReadOptions, name: str) -> Recording:
    """The part to learn from, or for NLB the part named ``train`` or ``eval``.

    Raises:
        DataError: the part cannot be read.
    """
    if options.dataset is not None:
        return read_benchmark(file, options.dataset, options)
    for train, valid in _PARTS.items():
        dataset = _dataset(file, train)
        if dataset is not None:
            recording = single.read_dataset(dataset, options)
            note = f"read {train}" + (
                f"; validate with --val {name}:{valid}" if _dataset(file, valid) is not None else ""
            )
            return replace(recording, notes=(note, *recording.notes))
    part = "train" if _dataset(file, f"train_{_HELD_IN}") is not None else "eval"
    return read_benchmark(file, part, options)


def names_part(file: h5py.File, dataset: str) -> bool:
    """Whether ``train`` or ``eval`` is asked of a file of the benchmark, instead of a dataset."""
    return dataset in ("train", "eval") and _dataset(file, f"{dataset}_{_HELD_IN}") is not None


def read_benchmark(file: h5py.File, part: str, options: ReadOptions) -> Recording:
    """Held-in neurons, then held-out ones: recorded in training, missing in evaluation."""
    held_in = _dataset(file, f"{part}_{_HELD_IN}")
    if held_in is None:
        raise DataError(f"there is no {part}_{_HELD_IN}", where=str(file.name))
    recording = single.read_dataset(held_in, replace(options, dataset=None))
    parts: list[Block] = list(recording.blocks)
    own, other = _dataset(file, f"{part}_{_HELD_OUT}"), _dataset(file, f"train_{_HELD_OUT}")
    notes = [f"read {part}_{_HELD_IN}"]
    if own is not None:
        safe.check_dataset(own)
        parts.append(ArrayBlock(own, "ntd"))
        notes.append(f"with {part}_{_HELD_OUT} as further channels")
    elif other is not None:
        first = recording.blocks[0]
        parts.append(AbsentBlock(first.count, first.steps, other.shape[2:], first.dtype))
        notes.append(f"with the {other.shape[2]} held-out neurons missing")
    widths = [part.step_shape[0] for part in parts]
    names = [f"heldin_{d}" for d in range(widths[0])] + [f"heldout_{d}" for d in range(sum(widths[1:]))]
    return replace(recording, blocks=(JoinedBlock(parts),), channels=names, units=None, notes=(", ".join(notes),))


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    node = safe.follow(file, name)
    return node if isinstance(node, h5py.Dataset) and node.ndim == 3 else None
