"""Does the linear start pay? Steps and seconds to a given validation bound, with it and without.

    python -m benchmarks.start [--steps 600] [--out benchmarks/results/start.json]

Both runs see the same windows and have the same model. "linear" is EM and then the exact likelihood; "random" trains
the full model from small random loadings on the bound, with nothing hidden. The target is the best bound of the random
run.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import h5py
import jax

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.training.fit import fit
from svae_cli.training.plan import make_plan

SAMPLES = Path(__file__).parent.parent / "sample_data"
SETS = ("nyc_weather", "swiss_rivers", "basic_motions")


def read(name):
    with h5py.File(SAMPLES / f"{name}.h5") as file:
        return SeriesSet.from_arrays(list(file["data"][...]), source=name)


def trace(data, settings):
    """[(gradient steps, seconds, validation bound)], EM iterations counted as steps too."""
    begin, em_steps, rows = time.monotonic(), 0, []
    for progress in fit(data, settings):
        report = progress.report
        if report.stage == "em":
            em_steps = report.step
        if report.valid is not None:
            rows.append((em_steps + report.step, time.monotonic() - begin, report.valid.elbo))
        if report.stage == "full" and settings.start == "linear":
            break
    return rows


def compare(name, steps):
    """One row of the table."""
    data = read(name)
    common = Settings(objective="elbo", mask_pattern="none", patience=10**6)
    linear = trace(data, common.changed(linear_steps=steps))
    per_epoch = make_plan(data, common.changed(epochs=1)).sizes.full_steps
    random = trace(data, common.changed(start="random", epochs=max(1, steps // per_epoch)))
    target = max(bound for _, _, bound in random)
    reached = next(((s, t) for s, t, bound in linear if bound >= target), (None, None))
    at = next((s, t) for s, t, bound in random if bound == target)
    return {
        "data": name,
        "target": target,
        "linear_steps": reached[0],
        "linear_seconds": reached[1],
        "random_steps": at[0],
        "random_seconds": at[1],
        "linear_best": max(bound for _, _, bound in linear),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/start.json"))
    options = parser.parse_args()
    rows = []
    print("| data | bound reached at random | random: steps, s | linear start: steps, s | its best |")
    print("|---|---|---|---|---|")
    for name in SETS:
        row = compare(name, options.steps)
        rows.append(row)
        linear = "-" if row["linear_steps"] is None else f"{row['linear_steps']}, {row['linear_seconds']:.0f}"
        print(
            f"| {name} | {row['target']:.3f} | {row['random_steps']}, {row['random_seconds']:.0f} | {linear} "
            f"| {row['linear_best']:.3f} |",
            flush=True,
        )
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "jax": jax.__version__}
    options.out.write_text(
        json.dumps({"command": "python -m benchmarks.start", "machine": machine, "rows": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
