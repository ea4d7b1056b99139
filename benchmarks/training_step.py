"""Milliseconds of one training step (bound and gradient, one sample, Adam), and seconds to the end of the first.

python benchmarks/training_step.py [--batch 10 --steps 200 --latent 5 --channels 10]
"""

import argparse
import time

import numpy as np

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.training.fit import initial_state
from svae_cli.training.optimizer import masked_optimizer
from svae_cli.training.plan import make_plan

NETWORKS = {
    "linear": {"recognition": "linear", "decoder": "linear"},
    "networks of 64, 64": {"recognition": "mlp", "decoder": "mlp"},
}


def measure(options: argparse.Namespace, networks: dict, gaps: float) -> tuple[float, float]:
    """(seconds of the first step with compilation, median milliseconds of the next 50)."""
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(40, options.steps, options.channels)), axis=1)
    values[rng.random(values.shape) < gaps] = np.nan
    settings = Settings(
        latent_dim=options.latent,
        window=options.steps,
        batch_size=options.batch,
        objective="elbo",
        em_steps=1,
        **networks,
    )
    plan = make_plan(SeriesSet.from_arrays(list(values)), settings)
    optimizer, model = masked_optimizer(plan), initial_state(plan).best
    arrays, times = optimizer.start(model), []
    for step in range(51):
        begin = time.perf_counter()
        model, arrays, _ = optimizer.step(model, arrays, step)
        times.append(time.perf_counter() - begin)
    return times[0], 1e3 * float(np.median(times[1:]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("batch", 10), ("steps", 200), ("latent", 5), ("channels", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print("| model | data | first step s | step ms |\n|---|---|---|---|")
    for name, networks in NETWORKS.items():
        for data, gaps in (("complete", 0.0), ("10 % missing", 0.1)):
            first, later = measure(options, networks, gaps)
            print(f"| {name} | {data} | {first:.1f} | {later:.1f} |", flush=True)


if __name__ == "__main__":
    main()
