"""Random chains and potentials for the tests of this folder."""

import numpy as np


def spd(rng, *shape, floor=0.1):
    """Random positive definite matrices (*shape, K, K) given (*shape, K)."""
    *lead, k = shape
    root = rng.normal(size=(*lead, k, k)) / np.sqrt(k)
    return root @ np.swapaxes(root, -1, -2) + floor * np.eye(k)


def make_problem(seed, steps, k, *, diagonal, varying, seen=0.7):
    """(prior moments by name, precision, shift) of one series in float64; unseen steps have zero potentials."""
    rng = np.random.default_rng(seed)
    lead = (steps - 1,) if varying else ()
    prior = {
        "initial_mean": rng.normal(size=k),
        "initial_cov": spd(rng, k),
        "dynamics": rng.normal(size=(*lead, k, k)) / np.sqrt(k),
        "bias": rng.normal(size=(*lead, k)),
        "noise_cov": spd(rng, *lead, k),
    }
    precision = rng.gamma(1.0, size=(steps, k)) if diagonal else spd(rng, steps, k, floor=0.0)
    mask = rng.random(steps) < seen
    precision = precision * mask.reshape(-1, *[1] * (precision.ndim - 1))
    return prior, precision, rng.normal(size=(steps, k)) * mask[:, None]
