"""A small model of ten channels that are three slow waves, and data for it."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.files.model_file import load_model, save_model
from svae_cli.models.fitted import FittedModel
from svae_cli.models.season import SeasonMemory
from svae_cli.prediction.forecast_check import forecast_check
from svae_cli.prediction.gap_check import gap_check
from svae_cli.training.fit import fit

CHANNELS = 10


def wave_model(shared: Path) -> FittedModel:
    """Trained in a hurry, once for all tests of a run as a rule: the next one finds it in the folder."""
    if (file := shared / "waves.svae").exists():
        return load_model(file)
    settings = Settings(
        latent_dim=3,
        window=40,
        linear_steps=10,
        em_steps=5,
        epochs=1,
        recognition="linear",
        decoder="linear",
        season=0,
        lags=0,
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        *_, last = fit(SeriesSet.from_arrays(list(waves(8, 60, seed=1))), settings)
    save_model(file, last.state.fitted, force=True)
    return load_model(file)


def waves(series: int, steps: int, *, seed: int, noise: float = 0.1) -> np.ndarray:
    """Three slow waves of random phase, seen by all channels in noise."""
    rng, loadings = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(3, CHANNELS))
    phase = rng.uniform(0, 2 * np.pi, (series, 1, 3))
    waves = np.sin(np.arange(steps)[None, :, None] * np.array([0.11, 0.23, 0.37]) + phase)
    return waves @ loadings + noise * rng.standard_normal((series, steps, CHANNELS))


def in_model_units(fitted: FittedModel, raw: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    scaled = fitted.scaler.to_model(raw)
    return (
        jnp.asarray(np.nan_to_num(scaled), jnp.float32),
        jnp.asarray(~np.isnan(raw)),
        jnp.zeros((len(raw), 0), jnp.float32),
    )


@eqx.filter_jit
def predicted(model, values, seen, inputs):
    """Mean and variance of every value given those that are seen."""
    predictor = model.predictor_moments(model.posterior(values, seen, inputs))
    return model.likelihood.predictive_moments(*model.informed(values, seen, predictor))


check_forecast, check_gaps = eqx.filter_jit(forecast_check), eqx.filter_jit(gap_check)
"""Compiled as a whole; operation by operation takes longer."""


def with_season(fitted: FittedModel, period: int) -> FittedModel:
    """One whose season memory has learned nothing, but knows the period."""
    memory = SeasonMemory.unknown(CHANNELS, period).astype(np.dtype(np.float32))
    model = eqx.tree_at(lambda m: m.season, fitted.model, memory, is_leaf=lambda a: a is None)
    return replace(fitted, model=model)


def loud_half(steps: int, period: int) -> tuple[np.ndarray, np.ndarray]:
    """One series whose noise is ten times as large in half of each cycle, but in channel 3; and where that is."""
    rng = np.random.default_rng(8)
    loud = np.arange(steps) % period < period // 2
    noise = np.where(loud, 3.0, 0.3)[:, None] * rng.standard_normal((steps, CHANNELS))
    noise[:, 3] = 0.3 * rng.standard_normal(steps)
    return waves(1, steps, seed=9)[0] + noise, loud
