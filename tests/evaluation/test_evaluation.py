"""Evaluation: rows and words for models whose quality is known beforehand."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from svae_cli import comparison, evaluation, metrics
from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError, ModelError, NumericalError, UsageError
from svae_cli.evaluation import EvaluationOptions, evaluate
from svae_cli.models.fitted import FittedModel
from svae_cli.results import Prediction

NOISE = 0.1
SCALE = np.array([1.0, 10.0])
PERIOD = 12


@pytest.fixture
def seasonal():
    """Two noisy seasonal channels on different scales, without gaps."""
    rng = np.random.default_rng(0)
    phase = 2 * np.pi * np.arange(240)[:, None] / PERIOD + np.array([0.0, 1.0])
    clean = [(np.sin(phase) + i) * SCALE for i in range(3)]
    return clean, SeriesSet.from_arrays([c + NOISE * SCALE * rng.normal(size=c.shape) for c in clean])


def fitted(likelihood="gaussian", scale=SCALE):
    return FittedModel(
        model=None,
        settings=Settings(likelihood=likelihood, window=48),
        scaler=Scaler(mean=np.array([1.0, 10.0]), std=scale),
        channels=("channel_0", "channel_1"),
        units=("", ""),
    )


def predict_with(monkeypatch, clean, *, error=0.0, spread=1.0, quantiles=None):
    """A model that knows the clean series, wrong by ``error`` and with ``spread`` times the right deviation."""
    calls = []

    def answer(key, mean, levels):
        mean, std = mean + error * SCALE, np.broadcast_to(NOISE * spread * SCALE, mean.shape)
        at = mean[..., None] + std[..., None] * stats.norm.ppf(levels) if quantiles and len(levels) else None
        return Prediction(key, mean, std, at)

    def impute(model, data, *, quantiles=(), seed=0, batch_size=None):
        calls.append(("impute", tuple(quantiles)))
        for key in data.keys:
            yield answer(key, clean[int(key)], quantiles)

    def forecast(model, data, *, horizon, quantiles=(), seed=0):
        calls.append(("forecast", tuple(quantiles)))
        for i, key in enumerate(data.keys):
            which, start = key.split("@")
            assert data.lengths[i] <= int(start)
            yield answer(key, clean[int(which)][int(start) : int(start) + horizon], quantiles)

    monkeypatch.setattr(evaluation, "prediction", SimpleNamespace(whole=iter, impute=impute, forecast=forecast))
    return calls


def row_of(outcome, **wanted):
    rows = [row for row in outcome.rows if all(row[k] == v for k, v in wanted.items())]
    assert len(rows) == 1
    return rows[0]


def test_the_right_model_is_best_and_its_scores_are_those_of_the_noise(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean)
    outcome = evaluate(fitted(), data, EvaluationOptions(horizon=6))
    for task, pattern in (("impute", "point"), ("impute", "block"), ("forecast", None)):
        row = row_of(outcome, task=task, pattern=pattern, method="svae", scale="standard", channel="all")
        np.testing.assert_allclose(row["rmse"], NOISE, rtol=0.2)
        np.testing.assert_allclose(row["crps"], NOISE / np.sqrt(np.pi), rtol=0.2)
        np.testing.assert_allclose(row["cov90"], 0.9, atol=0.06)
        np.testing.assert_allclose(row["width90"], 2 * 1.645 * NOISE, rtol=1e-3)
        assert 0 < row["crps_skill"] < 1
    first = [words for words in outcome.words if "best" in words]
    assert len(first) == 3
    assert all("svae is best" in words and "(seasonal" in words for words in first)
    assert outcome.words[-1] == f"The seasonal baselines repeat every {PERIOD} steps."


def test_natural_and_standard_scores_differ_by_the_unit(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean)
    options = EvaluationOptions(task="impute", patterns=("point",), per_channel=True)
    outcome = evaluate(fitted(), data, options)
    standard = row_of(outcome, method="svae", scale="standard", channel="all")
    channels = [row_of(outcome, method="svae", scale="natural", channel=f"channel_{d}") for d in (0, 1)]
    natural = row_of(outcome, method="svae", scale="natural", channel="all")
    weights = np.array([row["n"] for row in channels]) / standard["n"]
    np.testing.assert_allclose(weights.sum(), 1.0)
    for name in ("mae", "crps", "width80"):
        parts = np.array([row[name] for row in channels])
        np.testing.assert_allclose(standard[name], weights @ (parts / SCALE))
        np.testing.assert_allclose(natural[name], weights @ parts)
    without = evaluate(fitted(), data, EvaluationOptions(task="impute", patterns=("point",)))
    assert {row["channel"] for row in without.rows} == {"all"}


def test_a_biased_model_loses_and_the_words_say_to_whom(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean, error=3.0)
    outcome = evaluate(fitted(), data, EvaluationOptions(task="impute", patterns=("block",)))
    assert row_of(outcome, method="svae", scale="standard", channel="all")["crps_skill"] < -1
    assert "the baseline seasonal would have been better" in outcome.words[0]
    assert "in 2 of 2 channels a baseline would have been better: channel_0 (seasonal)" in outcome.words[1]


@pytest.mark.parametrize(("spread", "words"), [(0.3, "too narrow"), (3.0, "wider than they need")])
def test_wrong_intervals_are_named_and_pit_shows_them(seasonal, monkeypatch, spread, words):
    clean, data = seasonal
    predict_with(monkeypatch, clean, spread=spread)
    outcome = evaluate(fitted(), data, EvaluationOptions(task="impute", patterns=("point",)))
    assert any(words in sentence for sentence in outcome.words)
    edge = outcome.pit[0]["shares"][0] + outcome.pit[0]["shares"][-1]
    assert edge > 0.4 if spread < 1 else edge < 0.1
    np.testing.assert_allclose(sum(outcome.pit[0]["shares"]), 1.0)


def test_a_level_model_is_called_level(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean)
    options = EvaluationOptions(task="impute", patterns=("point",), baselines=("linear",))
    outcome = evaluate(fitted(), data, options)
    linear = row_of(outcome, method="linear", scale="standard", channel="all")
    assert {row["method"] for row in outcome.rows} == {"svae", "linear"}
    model = {**linear, "method": "svae", "crps": linear["crps"] * 1.005}
    assert "level with the baseline linear" in comparison.in_words([linear, model])[0]


def test_counts_are_scored_by_quantiles_and_in_bits(monkeypatch):
    rng = np.random.default_rng(3)
    rates = [np.exp(rng.normal(size=(60, 2))) for _ in range(4)]
    data = SeriesSet.from_arrays([rng.poisson(r).astype(float) for r in rates])
    asked = []

    def impute(model, data, *, quantiles=(), seed=0, batch_size=None):
        asked.append(quantiles)
        for key, r in zip(data.keys, rates, strict=True):
            yield Prediction(key, r, np.sqrt(r), stats.poisson.ppf(np.array(quantiles), r[..., None]))

    monkeypatch.setattr(evaluation, "prediction", SimpleNamespace(whole=iter, impute=impute))
    options = EvaluationOptions(task="impute", patterns=("point",), mask_rate=0.5)
    outcome = evaluate(fitted("poisson", np.ones(2)), data, options)
    assert asked == [tuple(metrics.LEVELS)]
    model = row_of(outcome, method="svae", scale="natural", channel="all")
    others = [r for r in outcome.rows if r["method"] != "svae" and r["scale"] == "natural"]
    assert model["bits_per_spike"] > 0.1
    assert model["bits_per_spike"] > max(row["bits_per_spike"] for row in others)
    assert model["nll"] < min(row["nll"] for row in others)
    assert 0.85 < model["cov90"] <= 1.0


def test_true_values_may_be_given(seasonal, monkeypatch):
    clean, data = seasonal
    holed = [data.read(i).copy() for i in range(3)]
    for values in holed:
        values[50:60] = np.nan
    predict_with(monkeypatch, clean)
    outcome = evaluate(fitted(), SeriesSet.from_arrays(holed), EvaluationOptions(), target=SeriesSet.from_arrays(clean))
    row = row_of(outcome, method="svae", scale="natural", channel="all")
    assert (row["pattern"], row["n"], row["mae"]) == ("target", 60, 0.0)
    assert "against the given true values" in outcome.words[0]


@pytest.mark.parametrize("kind", ["time", "series"])
def test_of_the_training_data_only_the_held_out_part_is_scored(seasonal, monkeypatch, kind):
    clean, data = seasonal
    split = {
        "time": {"kind": "time", "held_out": [[i, 200, 240] for i in range(3)]},
        "series": {"kind": "series", "held_out": ["1"]},
    }
    model = replace(fitted(), fingerprint=evaluation.fingerprint_of(data), split=split[kind])
    predict_with(monkeypatch, clean)
    options = EvaluationOptions(task="impute", patterns=("point",), mask_rate=0.3)
    some, everything = (evaluate(model, data, replace(options, everything=e)) for e in (False, True))
    share = some.rows[0]["n"] / everything.rows[0]["n"]
    np.testing.assert_allclose(share, 40 / 240 if kind == "time" else 1 / 3, rtol=0.2)
    assert ("3 stretches, 17 % of the steps" if kind == "time" else "1 of 3 series") in some.words[0]
    assert "trained on" not in "".join(everything.words)
    other = evaluate(replace(model, fingerprint="of other data"), data, options)
    assert other.rows == everything.rows


@pytest.mark.parametrize(
    "split",
    [
        {"kind": "time", "first_held_out": [3]},
        {"kind": "time", "held_out": [[0, 5, 10_000_000]]},
        {"kind": "time", "held_out": [[7_000, 0, 5]]},
        {"kind": "time", "held_out": 3},
        {"kind": "series", "held_out": ["no such series"]},
    ],
)
def test_a_senseless_record_of_what_was_held_out_is_named(seasonal, split):
    _, data = seasonal
    model = replace(fitted(), fingerprint=evaluation.fingerprint_of(data), split=split)
    with pytest.raises(ModelError, match="held out makes no sense"):
        evaluate(model, data, EvaluationOptions(task="impute"))


def test_forecasts_that_do_not_fit_are_left_out_in_words_or_refused(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean)
    outcome = evaluate(fitted(), data, EvaluationOptions(patterns=("point",), horizon=130))
    assert {row["task"] for row in outcome.rows} == {"impute"}
    assert "No forecasts were scored: 130 steps do not fit into the 120 that could be scored." in outcome.words
    with pytest.raises(DataError, match="horizon of 130 does not fit"):
        evaluate(fitted(), data, EvaluationOptions(task="forecast", horizon=130))


def test_a_nan_of_the_model_is_an_error(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean, error=np.nan)
    with pytest.raises(NumericalError, match="not finite"):
        evaluate(fitted(), data, EvaluationOptions(task="impute"))


def test_other_channels_are_refused(seasonal):
    with pytest.raises(ModelError, match="2 channels"):
        evaluate(fitted(), SeriesSet.from_arrays([np.zeros((9, 3))]), EvaluationOptions())


def test_more_repeats_score_more_values_and_equal_seeds_agree(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean)

    def count(**changes):
        outcome = evaluate(fitted(), data, EvaluationOptions(task="impute", patterns=("block",), **changes))
        return outcome.to_json()

    once, again, thrice = count(), count(), count(repeats=3)
    assert once == again
    assert thrice["rows"][0]["n"] == 3 * once["rows"][0]["n"]
    assert count(seed=5)["rows"][0]["mae"] != once["rows"][0]["mae"]
    assert json.loads(json.dumps(once)) == once


def test_thresholds_read_the_worst_row(seasonal, monkeypatch):
    clean, data = seasonal
    predict_with(monkeypatch, clean)
    outcome = evaluate(fitted(), data, EvaluationOptions(task="impute"))
    rows = [r for r in outcome.rows if r["method"] == "svae" and r["scale"] == "standard"]
    assert outcome.score("crps") == max(row["crps"] for row in rows)
    assert outcome.score("crps_skill") == min(row["crps_skill"] for row in rows)
    with pytest.raises(UsageError, match="no score called 'luck'"):
        outcome.score("luck")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_rate": 0.0}, "--mask-rate is 0.0"),
        ({"repeats": 0}, "--repeats is 0"),
        ({"baselines": ("best",)}, "unknown baseline 'best'"),
    ],
)
def test_senseless_options_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        EvaluationOptions(**changes)
