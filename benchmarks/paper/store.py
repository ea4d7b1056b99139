"""Results in a JSON file that grows run by run, with the machine they were made on."""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Store:
    """Runs by name; a run that is there is not made again.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.runs: dict[str, dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else {}

    def make(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Make the run ``name`` unless it is there, and save."""
        if name in self.runs:
            return
        print(f"{name} ...", flush=True)
        begin = time.monotonic()
        found = run()
        self.runs[name] = {**found, "wall_seconds": round(time.monotonic() - begin, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": _machine(), "runs": self.runs}, indent=1)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(text + "\n")
        temporary.replace(self.path)


def _machine() -> dict[str, Any]:
    import jax

    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
    }
