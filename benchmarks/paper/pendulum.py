"""A pendulum seen as noisy frames: what the latents know, and how far the model sees, with and without masking."""

import argparse
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.paper.common import FAMILIES, epochs_for, grouped, markdown, model_inputs, spread, train
from benchmarks.paper.store import Store
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.data.simulate import Simulation, simulate
from svae_cli.models.fitted import FittedModel

_NOISE = 0.1
_SEEN = 50
_PATHS = 50
_HORIZONS = (1, 5, 10, 20, 50)


def run(store: Store, options: argparse.Namespace) -> None:
    # Half of the series train, half test; every family begins from nothing. 300 steps are 4 to 9 minutes of one core.
    count, steps = (40, 60) if options.quick else (120, 300)
    families = ("svae", "rnn-mf") if options.quick else FAMILIES
    for seed in range(options.seeds):
        made = simulate("pendulum", series=count, steps=100, seed=seed, pixel_noise=_NOISE)
        for family in families:
            for masking in ("none", "window"):
                name = f"{family}|{masking}|{seed}"
                if options.only in name:
                    longest = options.steps or steps
                    store.make(name, lambda m=made, f=family, p=masking, s=seed, n=longest: _one(m, f, p, s, n))


def _one(made: Simulation, family: str, masking: str, seed: int, steps: int) -> dict[str, Any]:
    side = made.data.shape[2]
    values = made.data.reshape(*made.data.shape[:2], -1)
    cut = len(values) // 2
    held = max(2, cut // 10)
    parts = (values[held:cut], values[:held])
    data, valid = (replace(SeriesSet.from_arrays(list(p)), channel_shape=(side, side)) for p in parts)
    settings = Settings(
        posterior=family,
        latent_dim=8,
        hidden=(64,),
        recognition="conv",
        decoder="conv",
        likelihood="gaussian",
        noise=_NOISE,
        objective="elbo",
        mask_pattern=masking,
        mask_rate=0.3,
        stable=True,
        window=100,
        batch_size=10,
        start="random",
        patience=1000,
        seed=seed,
    )
    trained = train(data, valid, settings.changed(epochs=epochs_for(data, settings, steps)))
    return {
        **_decoded(trained.fitted, made, values, cut),
        **_ahead(trained.fitted, values[cut : cut + 20]),
        "curve": trained.curve,
        "seconds": round(trained.seconds, 1),
        "failure": trained.failure,
    }


def _decoded(fitted: FittedModel, made: Simulation, values: np.ndarray, cut: int) -> dict[str, float]:
    """R^2 of (sin, cos) of the angle and of the velocity, by a linear map of latent means fitted on training series."""
    encode = eqx.filter_jit(lambda model, v, o, u: jax.lax.map(lambda a: model.posterior(*a).means, (v, o, u)))
    means = np.asarray(encode(fitted.model, *model_inputs(fitted, values)))
    design = np.concatenate([means, np.ones((*means.shape[:2], 1))], axis=-1)
    angle = made.truth["angle"]
    targets = np.stack([np.sin(angle), np.cos(angle), made.truth["velocity"]], axis=-1)
    learn, test = (slice(None, cut), slice(cut, None))
    weights = np.linalg.lstsq(design[learn].reshape(-1, design.shape[-1]), targets[learn].reshape(-1, 3), rcond=None)[0]
    error = ((design[test] @ weights - targets[test]) ** 2).mean(axis=(0, 1))
    score = 1 - error / targets[test].var(axis=(0, 1))
    return {"angle_r2": float(score[:2].mean()), "velocity_r2": float(score[2])}


def _ahead(fitted: FittedModel, values: np.ndarray) -> dict[str, Any]:
    """E_q[log p(frame)] per pixel in the data's units after the first 50 frames, by horizon."""
    seen, observed, inputs = model_inputs(fitted, values)
    visible = observed & (jnp.arange(values.shape[1]) < _SEEN)[None, :, None]

    @eqx.filter_jit
    def score(model, v, o, u, keys):
        def one(row):
            frames, shown, known, key = row
            states = model.posterior(frames, shown, known).sample(key, _PATHS)[:, _SEEN:]

            def path(state):
                return jnp.mean(model.likelihood.log_prob(frames[_SEEN:], jax.vmap(model.decoder)(state)), axis=-1)

            return jnp.mean(jax.lax.map(path, states), axis=0)

        return jax.lax.map(one, (v, o, u, keys))

    found = np.asarray(score(fitted.model, seen, visible, inputs, jax.random.split(jax.random.key(0), len(values))))
    by_horizon = found.mean(axis=0) - float(np.mean(np.log(fitted.scaler.std)))
    return {"ahead": by_horizon.tolist()}


def table(runs: dict[str, dict[str, Any]]) -> str:
    head = ["posterior", "masking", "angle R²", "velocity R²", *[f"log p at +{h}" for h in _HORIZONS], "train s"]
    rows = []
    for name, found in grouped(runs).items():
        scores = [spread([run["ahead"][h - 1] for run in found]) for h in _HORIZONS]
        decoded = [spread([run[k] for run in found]) for k in ("angle_r2", "velocity_r2")]
        rows.append([*name.split("|"), *decoded, *scores, spread([run["seconds"] for run in found], 0)])
    return markdown(head, rows)
