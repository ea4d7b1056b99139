"""One loop over all looks says what glitches, check and posterior say one by one."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.models.fitted import FittedModel
from svae_cli.models.lags import LagRegression
from svae_cli.prediction.forecast_check import ForecastPasses
from svae_cli.prediction.gap_check import GapPasses
from svae_cli.prediction.glitches import without_glitches
from svae_cli.prediction.looks import looked_at
from svae_cli.prediction.self_check import checked, predicted
from tests.training.waves import CHANNELS, in_model_units, wave_model, waves, with_season

pytestmark = pytest.mark.usefixtures("relaxed_promotion")


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [False, True])
def test_one_loop_says_what_the_parts_say(fitted, ahead):
    """Of gaps, and of forecasts with a season and a regression."""
    model = fitted.model
    if ahead:
        model = with_season(fitted, 7).model
        maps = 0.1 * np.random.default_rng(8).standard_normal((CHANNELS, 12, 4)).astype(np.float32)
        lags = LagRegression((jnp.asarray(maps),), jnp.full(1, 1.5, jnp.float32))
        model = eqx.tree_at(lambda m: m.lags, model, lags, is_leaf=lambda x: x is None)
    raw = waves(1, 50, seed=3)[0]
    raw[10, 2] += 40
    raw[4:8, 5] = raw[43:] = np.nan
    series, start = in_model_units(fitted, raw), jnp.asarray(43)

    def passes(values):
        return ForecastPasses(model, values, start, 7) if ahead else GapPasses(model, values, start)

    @jax.jit
    def apart(values, observed, inputs):
        known = without_glitches(model, values, observed, inputs)
        check = checked(model, values, known, inputs, passes(values))
        return known, check, predicted(model, values, known, inputs)[0]

    @jax.jit
    def at_once(values, observed, inputs):
        return looked_at(model, values, observed, inputs, passes(values))

    found, expected = at_once(*series), apart(*series)
    assert not found[0][10, 2]
    assert int(jnp.sum(series[1] & ~found[0])) == 1
    assert float(jnp.max(expected[1].shares)) > 0
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
