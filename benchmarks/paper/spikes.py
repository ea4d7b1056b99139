"""Spike counts of neurons driven by a Lorenz system: rates recovered, and neurons never seen at test time predicted."""

import argparse
from typing import Any

import numpy as np

from benchmarks.paper.common import FAMILIES, epochs_for, grouped, markdown, spread, train
from benchmarks.paper.store import Store
from svae_cli import prediction
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.data.simulate import Simulation, simulate

_HELD_OUT = 8  # of 30 neurons


def run(store: Store, options: argparse.Namespace) -> None:
    count, steps = (100, 100) if options.quick else (600, 800)
    families = ("svae", "rnn-mf") if options.quick else FAMILIES
    for seed in range(options.seeds):
        made = simulate("lorenz-spikes", series=count, steps=100, seed=seed)
        for family, masking in (*((family, "mixed") for family in families), ("svae", "none")):
            name = f"{family}|{masking}|{seed}"
            if options.only in name:
                longest = options.steps or steps
                store.make(name, lambda m=made, f=family, p=masking, s=seed, n=longest: _one(m, f, p, s, n))


def _one(made: Simulation, family: str, masking: str, seed: int, steps: int) -> dict[str, Any]:
    counts = np.asarray(made.data, np.float64)
    is_test = np.arange(len(counts)) % 5 == 0
    learn = counts[~is_test]
    held = max(2, len(learn) // 10)
    data, valid = (SeriesSet.from_arrays(list(part)) for part in (learn[held:], learn[:held]))
    settings = Settings(
        posterior=family,
        latent_dim=6,
        hidden=(64,),
        recognition="mlp",
        decoder="mlp",
        likelihood="poisson",
        objective="elbo",
        mask_pattern=masking,
        window=100,
        batch_size=16,
        linear_steps=200,
        patience=1000,
        seed=seed,
    )
    trained = train(data, valid, settings.changed(epochs=epochs_for(data, settings, steps)))
    rates = np.asarray(made.truth["rates"], np.float64)[made.truth["condition"]][is_test]
    test = counts[is_test]
    shown = test.copy()
    shown[:, :, -_HELD_OUT:] = np.nan
    smooth = np.stack(
        [p.mean for p in prediction.impute(trained.fitted, SeriesSet.from_arrays(list(test)), reconstruct=True)]
    )
    filled = np.stack([p.mean for p in prediction.impute(trained.fitted, SeriesSet.from_arrays(list(shown)))])
    unseen = slice(-_HELD_OUT, None)
    return {
        "rate_r2": 1 - float(((smooth - rates) ** 2).sum() / ((rates - rates.mean(axis=(0, 1))) ** 2).sum()),
        "bits": bits_per_spike(filled[..., unseen], test[..., unseen], learn[..., unseen].mean(axis=(0, 1))),
        "best_bits": bits_per_spike(rates[..., unseen], test[..., unseen], learn[..., unseen].mean(axis=(0, 1))),
        "curve": trained.curve,
        "seconds": round(trained.seconds, 1),
        "failure": trained.failure,
    }


def bits_per_spike(rates: np.ndarray, counts: np.ndarray, constant: np.ndarray) -> float:
    """Poisson log likelihood of point predictions above that of each neuron's mean rate, in bits per spike.

    Reference: Pei et al. (2021), Neural Latents Benchmark, section 4.
    """
    rates, constant = np.maximum(rates, 1e-6), np.maximum(constant, 1e-6)
    gain = counts * (np.log(rates) - np.log(constant)) - (rates - constant)
    return float(gain.sum() / counts.sum() / np.log(2))


def table(runs: dict[str, dict[str, Any]]) -> str:
    head = ["posterior", "masking", "rate R²", "bits/spike, unseen neurons", "with the true rates", "train s"]
    rows = []
    for name, found in grouped(runs).items():
        scores = [spread([run[k] for run in found]) for k in ("rate_r2", "bits", "best_bits")]
        rows.append([*name.split("|"), *scores, spread([run["seconds"] for run in found], 0)])
    return markdown(head, rows)
