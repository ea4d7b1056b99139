"""Comparison posteriors and frames through training, files and answers."""

from dataclasses import replace
from itertools import islice

import jax
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.files.model_file import load_model, save_model
from svae_cli.training.fit import fit
from svae_cli.training.plan import make_plan

pytestmark = pytest.mark.usefixtures("relaxed_promotion")
QUICK = Settings(
    latent_dim=2, window=12, batch_size=8, em_steps=2, linear_steps=20, epochs=8, hidden=(8,), noise=0.1,
    recognition="conv", decoder="conv", mask_pattern="mixed", learning_rate=1e-2, precision="float64",
)  # fmt: skip


def frames(count=16, steps=12, height=5, width=6, seed=0):
    """A bright column that wanders to and fro."""
    rng = np.random.default_rng(seed)
    place = 2.5 + 2 * np.sin(np.arange(steps) / 2 + rng.uniform(0, 6, size=(count, 1)))
    column = np.exp(-((np.arange(width) - place[..., None]) ** 2))
    values = np.repeat(column[:, :, None], height, axis=2) + 0.1 * rng.normal(size=(count, steps, height, width))
    values[:, 6] = np.nan
    return replace(
        SeriesSet.from_arrays(list(values.reshape(count, steps, height * width))), channel_shape=(height, width)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_for_users")  # else convolutions take minutes
def test_frames_train_and_answer_from_the_saved_file(tmp_path):
    data = frames()
    state = list(fit(data, QUICK.changed(start="random")))[-1].state
    assert max(r["elbo"] for r in state.history) > state.history[0]["elbo"]
    std = state.plan.start_scaler.std
    np.testing.assert_allclose(np.exp(state.model.likelihood.log_variance / 2) * std, 0.1, rtol=1e-12)
    save_model(tmp_path / "m.svae", state.fitted)
    model = load_model(tmp_path / "m.svae")
    for a, b in zip(jax.tree.leaves(model.model), jax.tree.leaves(state.best), strict=True):
        np.testing.assert_array_equal(a, b)
    ahead = next(prediction.forecast(model, data.subset([0, 1]), horizon=3))
    assert ahead.mean.shape == (3, 30)
    assert np.all(ahead.std >= 0.1 - 1e-9)


@pytest.mark.slow
def test_a_network_posterior_trains_and_answers_from_the_saved_file(tmp_path):
    rows = frames().read
    data = SeriesSet.from_arrays([rows(i)[:, 6:12] for i in range(16)])
    asked = QUICK.changed(posterior="rnn-ar", recognition="linear", decoder="linear", hidden=(5,), noise=None)
    state = list(fit(data, asked))[-1].state
    assert state.plan.settings.objective == "elbo"
    # The linear stage is judged by the exact posterior: under the family's random networks it would score like noise.
    linear = [r["elbo"] for r in state.history if r["stage"] == "linear"]
    full = [r["elbo"] for r in state.history if r["stage"] == "full"]
    assert min(linear) > full[0] + 0.5
    assert max(full) > full[0]
    save_model(tmp_path / "m.svae", state.fitted)
    model, few = load_model(tmp_path / "m.svae"), data.subset([0, 1])
    filled = next(prediction.impute(model, few, samples=2))
    assert filled.samples.shape[-1] == 6
    assert np.all(filled.std[6] > 0)
    filtered = next(prediction.encode(model, few, filtered=True))
    smoothed = next(prediction.encode(model, few))
    assert np.any(filtered.mean[:-1] != smoothed.mean[:-1])


def test_frames_choose_convolutions_and_others_refuse_them():
    open_settings = QUICK.changed(recognition="auto", decoder="auto")
    data = frames(count=60)
    chosen = make_plan(data, open_settings).settings
    assert (chosen.recognition, chosen.decoder) == ("conv", "conv")
    with pytest.raises(UsageError, match="not frames"):
        make_plan(replace(data, channel_shape=()), QUICK)


@pytest.mark.parametrize("changes", [{"objective": "predictive"}, {"hidden": ()}], ids=lambda c: ",".join(c))
def test_what_a_network_posterior_cannot_do_is_refused(changes):
    with pytest.raises(UsageError):
        Settings(posterior="rnn-mf", **changes)


def test_values_that_are_not_standardized_begin_as_the_linear_model():
    rng = np.random.default_rng(0)
    data = SeriesSet.from_arrays(list(30 + 5 * rng.normal(size=(12, 20, 2)).cumsum(axis=1)))
    asked = Settings(latent_dim=2, window=20, batch_size=8, em_steps=2, recognition="linear", decoder="linear",
                     precision="float64", likelihood="gaussian")  # fmt: skip
    answers = []
    for standardize in ("channel", "none"):
        *_, last = islice(fit(data, asked.changed(standardize=standardize)), 2)
        answers.append(next(prediction.forecast(last.state.fitted, data, horizon=3)))
    np.testing.assert_allclose(answers[0].mean, answers[1].mean, rtol=1e-6)
    np.testing.assert_allclose(answers[0].std, answers[1].std, rtol=1e-6)
