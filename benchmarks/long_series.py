"""Exact smoothing of a very long series in pieces: seconds, and the most memory that was resident.

python benchmarks/long_series.py [--steps 1000000 --latent 16]
"""

import argparse
import resource
import time

import jax.numpy as jnp
import numpy as np

from svae_cli.inference import LinearGaussianPrior, Potential, smooth_long


def main() -> None:
    """Smooth, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--latent", type=int, default=16)
    options = parser.parse_args()
    k, rng = options.latent, np.random.default_rng(0)
    dynamics = 0.99 * np.linalg.qr(rng.normal(size=(k, k)))[0]
    moments = np.zeros(k), np.eye(k), dynamics, np.zeros(k), 0.05 * np.eye(k)
    prior = LinearGaussianPrior(*(jnp.asarray(x, jnp.float32) for x in moments))
    precision = rng.uniform(0, 2, size=(options.steps, k)).astype(np.float32)
    shift = rng.normal(size=(options.steps, k)).astype(np.float32)
    begin, largest = time.perf_counter(), 0.0
    posterior = smooth_long(prior, Potential(precision, shift))
    for piece in posterior.pieces:
        largest = max(largest, float(jnp.max(jnp.abs(piece.marginals.mean))))
    seconds = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"T = {options.steps:,}, K = {k}: {seconds:.1f} s, {memory:.2f} GB resident at most, largest mean {largest:.3f}"
    )


if __name__ == "__main__":
    main()
