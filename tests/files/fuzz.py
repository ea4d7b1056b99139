"""Damage files at random and read them: the only outcomes allowed are values, or an error that the user can mend.

Run as a program, so that a crash or a hang of the HDF5 library is seen too: ``python fuzz.py FOLDER SEED COUNT``. Each
case runs in a process of its own with bounded time and memory; one line is printed for each case that fails.
"""

import os
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from svae_cli.errors import SvaeError
from svae_cli.files.model_header import read_header
from svae_cli.files.readers import open_series
from svae_cli.files.survey import describe, survey

SECONDS = 20
BYTES = 3 << 30


def read_data(path: Path) -> None:
    """What ``inspect`` does to data."""
    with open_series(str(path)) as opened:
        describe(opened.data, survey(opened.data))


def read_model(path: Path) -> None:
    """What ``inspect`` does to a model; parameters are read by the same functions."""
    read_header(path)
    with h5py.File(path) as file:
        from svae_cli.files import safe

        for dataset in safe.datasets(file).values():
            safe.check_dataset(dataset)
            if dataset.dtype.kind == "f":
                safe.read(dataset)


READERS = {".svae": read_model}


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bits, random bytes, runs of zeros or ones, cuts, and stretches copied elsewhere."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        # Most of the structure lies in the first kilobytes: half of all damage goes there.
        reach = len(data) if rng.random() < 0.5 else min(len(data), 2048)
        at, kind = int(rng.integers(reach)), rng.integers(6)
        length = int(rng.integers(1, 17))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + length] = rng.bytes(length)
        elif kind == 2:
            data[at : at + length] = b"\x00" * length
        elif kind == 3:
            data[at : at + length] = b"\xff" * length
        elif kind == 4 and rng.random() < 0.3:
            del data[at:]
            data += b"\x00"
        else:
            source = int(rng.integers(len(data)))
            data[at : at + length] = data[source : source + length]
    return bytes(data)


def attempt(path: Path, content: bytes) -> str:
    """Read one damaged file in a child process; how it ended."""
    path.write_bytes(content)
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        try:
            READERS.get(path.suffix, read_data)(path)
        except SvaeError:
            os._exit(3)
        except BaseException as problem:
            sys.stderr.write(f"{type(problem).__name__}: {problem}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if path.read_bytes() != content:
        return "changed the file"
    return {0: "read", 3: "refused"}.get(code, f"exit {code}" if code >= 0 else signal.Signals(-code).name)


def main(folder: Path, seed: int, count: int) -> None:
    """Damage every file of the folder ``count`` times; failing files are kept beside them."""
    outcomes: Counter = Counter()
    for original in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("case")):
        content = original.read_bytes()
        for case in range(count):
            rng = np.random.default_rng([seed, case, len(content)])
            path = folder / f"case{original.suffix}"
            ended = attempt(path, damage(content, rng))
            outcomes[ended] += 1
            if ended not in ("read", "refused"):
                kept = folder / f"failed-{original.stem}-{seed}-{case}{original.suffix}.keep"
                kept.write_bytes(path.read_bytes())
                print(f"FAILED {original.name} seed {seed} case {case}: {ended}", flush=True)
            path.unlink()
    print(dict(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
