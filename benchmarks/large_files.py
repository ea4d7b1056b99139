"""Commands on a file larger than memory should hold: seconds and the most memory that was resident.

    python benchmarks/large_files.py                               one series of 400,000 steps, 32 channels
    python benchmarks/large_files.py --series 16 --steps 2000000 --skip impute               4.1 GB
    python benchmarks/large_files.py --channels 512 --steps 2000000 --latent-dim 8           4.1 GB
    python benchmarks/large_files.py --series 5000 --steps 1600 --channels 128 --latent-dim 8   4.1 GB

The file is random walks with 5 % of its values missing, written piece by piece to a temporary folder.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

_PIECE = 20_000


def main() -> None:
    """Write the file, run the commands, print."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data, model = Path(folder) / "large.h5", Path(folder) / "large.svae"
        _write(data, options)
        print(
            f"{data.stat().st_size / 1e9:.1f} GB: {options.series} x {options.steps} x {options.channels}", flush=True
        )
        size = [] if options.latent_dim is None else ["--latent-dim", str(options.latent_dim)]
        train = ["train", str(data), "-o", str(model), "--time-limit", options.time_limit, *size]
        impute = ["impute", str(model), str(data), "-o", str(Path(folder) / "filled.h5")]
        for command in (["inspect", str(data)], train, impute):
            if command[0] not in options.skip.split(","):
                print(_run(command), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--latent-dim", type=int, default=None, help="default: what svae chooses")
    parser.add_argument("--time-limit", default="60s", help="of training")
    parser.add_argument("--skip", default="", help="commands left out: inspect, train, impute; comma-separated")
    parser.add_argument("--folder", default=None, help="where the temporary folder is made; 5 times the file")
    return parser.parse_args()


def _write(path: Path, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    shape = (options.series, options.steps, options.channels)
    mix = rng.standard_normal((6, options.channels)).astype(np.float32)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", shape, np.float32, chunks=(1, min(2048, options.steps), options.channels))
        for i in range(options.series):
            state = np.zeros(6, np.float32)
            for start in range(0, options.steps, _PIECE):
                count = min(_PIECE, options.steps - start)
                walk = state + np.cumsum(rng.standard_normal((count, 6), np.float32), axis=0)
                state = 0.5 * walk[-1]  # pulled back now and then, so that it stays where it is
                values = 0.1 * walk @ mix + rng.standard_normal((count, options.channels), np.float32)
                values[rng.random(values.shape, np.float32) < 0.05] = np.nan
                data[i, start : start + count] = values


def _run(command: list[str]) -> str:
    """One line: the command, its wall time, processor seconds a second, its peak of resident memory."""
    program = shutil.which("svae") or str(Path(sys.executable).parent / "svae")
    begin = time.perf_counter()
    child = subprocess.Popen([program, *command, "-q"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begin
    resident = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    code = os.waitstatus_to_exitcode(status)
    busy = (usage.ru_utime + usage.ru_stime) / seconds
    return (
        f"svae {command[0]}: {seconds:.0f} s, {busy:.1f} cores busy, {resident / 1e6:.0f} MB resident at most, "
        f"exit code {code}"
    )


if __name__ == "__main__":
    main()
