"""A pendulum seen as noisy frames: what the latents know, how far the model sees and how it fills missing frames."""

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
        transform="none",
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
        **_filled(trained.fitted, values[cut : cut + 20]),
        "curve": trained.curve,
        "seconds": round(trained.seconds, 1),
        "failure": trained.failure,
    }


def _decoded(fitted: FittedModel, made: Simulation, values: np.ndarray, cut: int) -> dict[str, float]:
    """R^2 of (sin, cos) of the angle and of the velocity, by a linear map of latent means fitted on training series."""
    encode = eqx.filter_jit(lambda model, v, o, u: model.posterior(v, o, u).means)
    means = np.stack([encode(fitted.model, *series) for series in zip(*model_inputs(fitted, values), strict=True)])
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
    visible = np.broadcast_to(np.arange(values.shape[1]) < _SEEN, values.shape[:2])
    found, _ = _scored(fitted, values, visible, slice(_SEEN, None))
    return {"ahead": found.mean(axis=0).tolist()}


def _filled(fitted: FittedModel, values: np.ndarray) -> dict[str, float]:
    """Missing frames: E_q[log p] per pixel, and the root mean square error beside that of straight lines in time."""
    scores = {}
    for kind, hidden in missing_frames(*values.shape[:2]).items():
        log_prob, squares = _scored(fitted, values, ~hidden, slice(None))
        lines = np.stack([_line(series, gone) for series, gone in zip(values, hidden, strict=True)])
        scores[f"{kind}_log_prob"] = float(log_prob[hidden].mean())
        scores[f"{kind}_rmse"] = float(np.sqrt(squares[hidden].mean()))
        scores[f"{kind}_line_rmse"] = float(np.sqrt(np.square(lines - values)[hidden].mean()))
    return scores


def missing_frames(count: int, steps: int) -> dict[str, np.ndarray]:
    """What is missing (series, time): half of all frames one by one, or 20 in a row; the ends stay."""
    scattered = np.random.default_rng(0).random((count, steps)) < 0.5
    scattered[:, [0, -1]] = False
    row = np.zeros_like(scattered)
    row[:, steps // 2 - 10 : steps // 2 + 10] = True
    return {"half": scattered, "row": row}


def _line(series: np.ndarray, gone: np.ndarray) -> np.ndarray:
    step = np.arange(len(series))
    return np.stack([np.interp(step, step[~gone], pixel[~gone]) for pixel in series.T], axis=1)


def _scored(
    fitted: FittedModel, values: np.ndarray, visible: np.ndarray, steps: slice
) -> tuple[np.ndarray, np.ndarray]:
    """E_q[log p] of each frame a pixel, and the mean square error of the mean over paths, both in the data's units.

    Args:
        fitted: the model.
        values: (series, time, pixel).
        visible: (series, time).
        steps: which frames are scored.
    """
    seen, observed, inputs = model_inputs(fitted, values)
    shown = observed & jnp.asarray(visible)[:, :, None]
    scale = jnp.asarray(fitted.scaler.std, seen.dtype)

    @eqx.filter_jit  # one series at a time: XLA's convolutions are slow in loops of its own (CPU)
    def score(model, frames, shown, known, key):
        states = model.posterior(frames, shown, known).sample(key, _PATHS)[:, steps]
        decoded = jax.vmap(jax.vmap(model.decoder))(states)
        truth = jnp.broadcast_to(frames[steps], decoded.shape)
        log_prob = jnp.mean(model.likelihood.log_prob(truth, decoded), axis=(0, 2))
        error = scale * (jnp.mean(decoded, axis=0) - frames[steps])
        return log_prob, jnp.mean(error**2, axis=-1)

    keys = jax.random.split(jax.random.key(0), len(values))
    found = [score(fitted.model, *series) for series in zip(seen, shown, inputs, keys, strict=True)]
    log_prob, squares = (np.stack(a).astype(np.float64) for a in zip(*found, strict=True))
    return log_prob - float(np.mean(np.log(fitted.scaler.std))), squares


def table(runs: dict[str, dict[str, Any]]) -> str:
    head = ["posterior", "masking", "angle R²", "velocity R²", *[f"log p at +{h}" for h in _HORIZONS], "train s"]
    rows = []
    for name, found in grouped(runs).items():
        scores = [spread([run["ahead"][h - 1] for run in found]) for h in _HORIZONS]
        decoded = [spread([run[k] for run in found]) for k in ("angle_r2", "velocity_r2")]
        rows.append([*name.split("|"), *decoded, *scores, spread([run["seconds"] for run in found], 0)])
    return markdown(head, rows) + "\n\n" + _filled_table(runs)


def _filled_table(runs: dict[str, dict[str, Any]]) -> str:
    columns = [f"{kind}_{score}" for kind in missing_frames(1, 1) for score in ("log_prob", "rmse", "line_rmse")]
    head = ["posterior", "masking"]
    for kind in ("every second frame missing", "20 in a row missing"):
        head += [f"{kind}: log p", "RMSE", "RMSE of straight lines"]
    filled = {name: run for name, run in runs.items() if columns[0] in run}
    rows = [
        [*name.split("|"), *(spread([run[column] for run in found]) for column in columns)]
        for name, found in grouped(filled).items()
    ]
    return markdown(head, rows)
