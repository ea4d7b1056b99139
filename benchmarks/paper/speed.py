"""Seconds of a smoothing and of a training step against the number of steps, for each kernel and each family."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.paper.common import FAMILIES, markdown
from benchmarks.paper.store import Store
from svae_cli.config import Settings
from svae_cli.inference import LinearGaussianPrior, Potential, smooth
from svae_cli.models.build import full_model, linear_model

_BATCH, _DIM, _WIDTH = 10, 5, 10
_REPEATS = 5


def run(store: Store, options: argparse.Namespace) -> None:
    lengths = (100, 300) if options.quick else (100, 1000, 10_000)
    for steps in lengths:
        for method in ("sequential", "parallel", "auto"):
            name = f"smooth|{method}|{steps}"
            if options.only in name:
                store.make(name, lambda m=method, t=steps: _smoothing(m, t))
        for family in FAMILIES:
            name = f"train step|{family}|{steps}"
            if options.only in name:
                store.make(name, lambda f=family, t=steps: _training(f, t))


def _timed(function: Callable, *arguments: Any) -> dict[str, float]:
    """Seconds of the first call (compiling it) and the median of the next ones."""
    begin = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    first = time.perf_counter() - begin
    spent = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        spent.append(time.perf_counter() - begin)
    return {"first": first, "median": float(np.median(spent))}


def _smoothing(method: str, steps: int) -> dict[str, float]:
    """Log normaliser, means and covariances of a batch of series."""
    rng = np.random.default_rng(0)
    prior = LinearGaussianPrior.from_moments(
        initial_mean=np.zeros(_DIM, np.float32),
        initial_cov=np.eye(_DIM, dtype=np.float32),
        dynamics=(0.95 * np.linalg.qr(rng.normal(size=(_DIM, _DIM)))[0]).astype(np.float32),
        bias=np.zeros(_DIM, np.float32),
        noise_cov=0.1 * np.eye(_DIM, dtype=np.float32),
    )
    precision = jnp.asarray(rng.gamma(1.0, size=(_BATCH, steps, _DIM)), jnp.float32)
    shift = jnp.asarray(rng.normal(size=(_BATCH, steps, _DIM)), jnp.float32)

    @jax.jit
    def call(precision, shift):
        def one(j, h):
            found = smooth(prior, Potential(j, h), method=method)
            return found.log_normalizer, found.means, found.covariances

        return jax.vmap(one)(precision, shift)

    return _timed(call, precision, shift)


def _training(family: str, steps: int) -> dict[str, float]:
    """Bound and its gradient for a batch of series, linear decoder."""
    rng = np.random.default_rng(0)
    linear = linear_model(
        transition=0.95 * np.linalg.qr(rng.normal(size=(_DIM, _DIM)))[0],
        noise_cov=0.1 * np.eye(_DIM),
        loadings=rng.normal(size=(_WIDTH, _DIM)),
        offset=np.zeros(_WIDTH),
        noise_variance=np.ones(_WIDTH),
        n_inputs=0,
        stable=False,
        dtype=np.dtype(np.float32),
    )
    asked = Settings(posterior=family, recognition="linear", decoder="linear", likelihood="gaussian", hidden=(32,))
    model = full_model(linear, asked, mean=np.zeros(_WIDTH), std=np.ones(_WIDTH))
    values = jnp.asarray(rng.normal(size=(_BATCH, steps, _WIDTH)), jnp.float32)
    observed, inputs = jnp.ones(values.shape, bool), jnp.zeros((_BATCH, steps, 0), jnp.float32)

    @eqx.filter_jit
    def call(model, values):
        def loss(model):
            keys = jax.random.split(jax.random.key(0), _BATCH)
            terms = jax.vmap(lambda v, o, u, k: model.elbo(v, o, jnp.zeros_like(o), u, k))(
                values, observed, inputs, keys
            )
            return jnp.sum(terms.kl - terms.log_likelihood)

        return eqx.filter_value_and_grad(loss)(model)

    return _timed(call, model, values)


def table(runs: dict[str, dict[str, Any]]) -> str:
    lengths = sorted({int(name.rpartition("|")[2]) for name in runs})
    head = ["what", "kernel or posterior", *[f"T={t}" for t in lengths], "first call"]
    rows = []
    for name in dict.fromkeys(n.rpartition("|")[0] for n in runs):
        found = [runs.get(f"{name}|{t}") for t in lengths]
        milliseconds = ["-" if f is None else f"{1e3 * f['median']:.1f} ms" for f in found]
        first = [f["first"] for f in found if f is not None]
        rows.append([*name.split("|"), *milliseconds, f"{np.median(first):.1f} s"])
    return markdown(head, rows)
