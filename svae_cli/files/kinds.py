"""Which kind of file a name stands for: data, a model, a checkpoint or a result."""

from pathlib import Path
from typing import Any, Literal

from svae_cli.errors import ModelError
from svae_cli.files import safe
from svae_cli.files.readers import split_spec


def kind_of(spec: str) -> Literal["data", "model", "checkpoint", "result"]:
    """The kind, from the file's own statement; ``-`` is data, since it can be read only once.

    Raises:
        DataError: the file is not HDF5 or is damaged.
    """
    path, _ = split_spec(spec)
    if str(path) == "-":
        return "data"
    with safe.open_file(path, name=path.name) as file:
        stated = str(safe.attribute(file, "svae_format") or "")
    for kind in ("model", "checkpoint", "result"):
        if stated.startswith(f"svae-{kind}"):
            return kind
    return "data"


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Where a training stands, without loading it.

    Raises:
        ModelError: the file is damaged.
    """
    with safe.open_file(path, name=path.name, error=ModelError) as file:
        stage, step, seconds = (safe.attribute(file, name) for name in ("stage", "step", "seconds"))
    if not (isinstance(stage, str) and isinstance(step, int) and isinstance(seconds, int | float)):
        raise ModelError("the checkpoint is damaged", where=path.name, hint="start anew with --force")
    return {"stage": stage, "step": step, "seconds": float(seconds)}
