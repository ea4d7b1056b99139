"""Run an experiment of the paper with this program and print its tables.

    python -m benchmarks.paper lds --quick          synthetic linear dynamical system, small, minutes
    python -m benchmarks.paper pendulum             frames of a pendulum, with and without masking
    python -m benchmarks.paper spikes               counts of neurons driven by a Lorenz system
    python -m benchmarks.paper speed --quick        a smoothing and a training step against the number of steps

Finished runs are kept in OUT/paper_EXPERIMENT.json and not repeated; ``--table`` only prints.
"""

import argparse
from pathlib import Path

from benchmarks.paper.store import Store
from svae_cli.cli.compiled import compile_sooner

HERE = Path(__file__).parent.parent
EXPERIMENTS = ("lds", "pendulum", "spikes", "speed")


def main() -> None:
    options = _options()
    compile_sooner()  # as the program does
    import jax

    jax.config.update("jax_enable_x64", options.experiment == "lds")  # for the exact answers; models stay in float32
    from benchmarks.paper import lds, pendulum, speed, spikes

    experiment = {"lds": lds, "pendulum": pendulum, "spikes": spikes, "speed": speed}[options.experiment]
    suffix = "_quick" if options.quick else ""
    store = Store(options.out / f"paper_{options.experiment}{suffix}.json")
    if not options.table:
        experiment.run(store, options)
    print(experiment.table(store.runs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--quick", action="store_true", help="the smallest size, few steps")
    parser.add_argument("--seeds", type=int, default=None, help="how many; default 3, or 1 with --quick")
    parser.add_argument("--steps", type=int, default=None, help="longest training, in steps; default by experiment")
    parser.add_argument("--only", default="", help="runs whose names contain this: posterior|masking|seed or alike")
    parser.add_argument("--data", type=Path, default=None, help="folder of synth_lds_*.h5; default: simulated anew")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    options = parser.parse_args()
    options.seeds = options.seeds or (1 if options.quick else 3)
    return options


if __name__ == "__main__":
    main()
