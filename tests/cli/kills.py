"""Kill a training at random moments, resume it, and compare the model with that of an undisturbed training.

    python kills.py FOLDER COUNT SEED      FOLDER holds d.h5; prints what happened, exits 1 if the bytes differ

COUNT signals are sent, SIGKILL, SIGTERM and SIGINT in turn, each after a random time: during start, training,
validation and writing. The model file must be whole whenever it is there.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py

PROGRAM = Path(sys.executable).with_name("svae")
_SMALL = "--latent-dim 2 --hidden 4 --em-steps 3 --linear-steps 20 --epochs 15 --patience 1000"
_SMALL += " --recognition linear --decoder linear"
OPTIONS = f"{_SMALL} --window 20 --batch-size 8 --checkpoint-every 0.05s -q".split()
EXPECTED = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}


def train(folder: Path, *more: str) -> subprocess.Popen:
    """Start the program."""
    return subprocess.Popen(
        [PROGRAM, "train", "d.h5", *more], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


def check_whole(folder: Path) -> None:
    """Model and checkpoint are complete HDF5 files whenever they are there."""
    for name, marker in (("k.svae", "svae-model"), ("k.svae.ckpt", "svae-checkpoint")):
        if (folder / name).exists():
            with h5py.File(folder / name) as file:
                assert str(file.attrs["svae_format"]).startswith(marker), name


def disturb(folder: Path, number: signal.Signals, longest: float, dice: random.Random) -> str:
    """One start or resumption, stopped by a signal after a random time; what became of it."""
    resumed = (folder / "k.svae.ckpt").exists()
    options = ["--resume", "--checkpoint-every", "0.05s", "-q"] if resumed else [*OPTIONS, "--force"]
    process = train(folder, "-o", "k.svae", *options)
    time.sleep(dice.uniform(0, longest))
    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    code = process.wait(120)
    process.stderr.close()
    check_whole(folder)
    if code == 0:
        return "finished before the signal"
    assert "Traceback" not in said, said
    before_start = code == -number or (code == 1 and not said)  # before Python has set its handlers
    assert code == EXPECTED[number] or before_start, (number, code, said)
    if code == EXPECTED[number] and "--resume" in said:
        return f"{number.name}, saved"
    return f"{number.name}, {'resumed' if resumed else 'started'}"


def main(folder: Path, count: int, seed: int) -> None:
    """Send the signals, then let the training finish and compare."""
    train(folder, "-o", "reference.svae", *OPTIONS, "--force").communicate()
    begin = time.monotonic()
    train(folder, "-o", "reference.svae", *OPTIONS, "--force").communicate()
    longest = 1.1 * (time.monotonic() - begin)
    dice, outcomes = random.Random(seed), Counter()
    for i in range(count):
        outcomes[disturb(folder, list(EXPECTED)[i % 3], longest, dice)] += 1
        print(f"{i + 1}: {dict(outcomes)}", file=sys.stderr, flush=True)
    options = ["--resume"] if (folder / "k.svae.ckpt").exists() else [*OPTIONS, "--force"]
    process = train(folder, "-o", "k.svae", *options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    same = (folder / "k.svae").read_bytes() == (folder / "reference.svae").read_bytes()
    print(json.dumps({"signals": count, "seconds": longest / 1.1, "outcomes": outcomes, "same_bytes": same}))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
