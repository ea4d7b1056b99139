"""Glitches: values that cannot be are found, honest ones beside them are not, and answers do without them."""

from pathlib import Path

import jax
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.precision import compiled
from svae_cli.prediction import pieces
from svae_cli.prediction.glitches import without_glitches
from tests.training.waves import CHANNELS, in_model_units, wave_model, waves

pytestmark = pytest.mark.usefixtures("relaxed_promotion")

PLACES = [(9, 1), (20, 3), (20, 4), (21, 6), (41, 0), (49, 8)]
"""(step, channel) of glitches: alone, two at once, one after the other, the last step."""

LOOK = compiled(without_glitches)


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


def glitchy(truth: np.ndarray, places=PLACES, size: float = 15.0) -> np.ndarray:
    shown = truth.copy()
    for number, (step, channel) in enumerate(places):
        shown[step, channel] += size * (-1) ** number
    return shown


def ignored(fitted: FittedModel, raw: np.ndarray) -> set[tuple[int, int]]:
    values, observed, inputs = in_model_units(fitted, raw)
    kept = LOOK(fitted.model, values, observed, inputs)
    assert not (kept & ~observed).any()
    return {(int(t), int(c)) for t, c in np.argwhere(np.asarray(observed & ~kept))}


@pytest.mark.parametrize("size", [15.0, 1e4])
def test_values_that_cannot_be_are_found_and_honest_ones_beside_them_are_not(fitted, size):
    truth = waves(1, 50, seed=3)[0]
    truth[np.random.default_rng(1).random(truth.shape) < 0.2] = np.nan
    for step, channel in PLACES:
        truth[step, channel] = 0.0
    assert ignored(fitted, glitchy(truth, size=size)) >= set(PLACES)
    assert len(ignored(fitted, glitchy(truth, size=size))) == len(PLACES)


def test_clean_series_stay_whole_and_empty_ones_empty(fitted):
    assert all(not ignored(fitted, raw) for raw in waves(4, 50, seed=4))
    assert not ignored(fitted, np.full((50, CHANNELS), np.nan))


def test_where_many_are_impossible_it_is_the_model_that_is_wrong(fitted):
    truth = waves(1, 50, seed=3)[0]
    many = [(step, 2) for step in range(4, 50, 9)] + [(30, 5)]
    assert ignored(fitted, glitchy(truth, many)) == {(30, 5)}
    assert not ignored(fitted, truth + 40.0 * np.random.default_rng(0).standard_normal(truth.shape))


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_levels_that_moved_are_no_glitches(fitted, steps):
    """At the end of a record, or for several steps; one step at the end can be either, and is taken for a glitch."""
    truth = waves(1, 50, seed=3)[0]
    moved = truth.copy()
    moved[-steps:, 2] += 8.0
    assert not ignored(fitted, moved)
    if steps > 2:
        moved = truth.copy()
        moved[20 : 20 + steps, 2] += 8.0
        assert not ignored(fitted, moved)


def test_numbers_whose_squares_leave_float32_are_glitches_like_others(fitted):
    truth = waves(1, 50, seed=3)[0]
    assert ignored(fitted, glitchy(truth, [(9, 1), (30, 2), (31, 7)], size=1e30)) == {(9, 1), (30, 2), (31, 7)}


def test_the_only_value_of_a_channel_can_be_one(fitted):
    truth = waves(1, 50, seed=3)[0]
    truth[:30, 4] = truth[31:, 4] = np.nan
    assert ignored(fitted, glitchy(truth, [(30, 4)])) == {(30, 4)}


def test_answers_are_those_of_the_series_without_glitches(fitted):
    truth = waves(2, 50, seed=3)
    truth[:, 18:24, 2] = np.nan
    without = truth.copy()
    without[1][tuple(np.transpose(PLACES))] = np.nan
    shown = np.stack([truth[0], glitchy(truth[1])])
    given = SeriesSet.from_arrays(list(shown))
    expected = list(prediction.impute(fitted, SeriesSet.from_arrays(list(without)), reconstruct=True))
    found = list(prediction.impute(fitted, given, reconstruct=True))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.std, other.std)
    assert not found[0].ignored.any()
    assert {tuple(place) for place in np.argwhere(found[1].ignored)} == set(PLACES)
    # The file keeps what it held, and says that it was observed.
    np.testing.assert_array_equal(found[1].values[found[1].observed], shown[1][~np.isnan(shown[1])].astype(np.float64))
    plain = list(prediction.impute(fitted, given, self_check=False))
    assert plain[1].ignored is None
    worse, better = (
        np.abs(p.mean - truth[1])[np.isnan(without[1]) & ~np.isnan(truth[1])].mean() for p in (plain[1], expected[1])
    )
    assert better < 0.5 < worse
    ahead = [list(prediction.forecast(fitted, s, horizon=5)) for s in (given, SeriesSet.from_arrays(list(without)))]
    np.testing.assert_array_equal(ahead[0][1].mean, ahead[1][1].mean)
    assert ahead[0][1].ignored.shape == (50, CHANNELS)
    assert ahead[0][1].ignored.sum() == len(PLACES)


@pytest.mark.slow
def test_a_series_in_pieces_is_looked_at_piece_by_piece(fitted, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers.STEPS_AT_ONCE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers._NUMBERS_AT_ONCE", 1)
    jax.clear_caches()
    places = [(9, 1), (63, 4), (64, 5), (119, 0), (129, 3)]
    truth = waves(1, 130, seed=6)[0]
    truth[70:80, 2] = np.nan
    without = truth.copy()
    without[tuple(np.transpose(places))] = np.nan
    given, clean = (SeriesSet.from_arrays([a]) for a in (glitchy(truth, places), without))
    for found, expected in zip(prediction.impute(fitted, given), prediction.impute(fitted, clean), strict=True):
        filled = ~found.observed
        np.testing.assert_array_equal(found.mean[filled], expected.mean[filled])
    (whole,) = prediction.whole(prediction.impute(fitted, given))
    assert {tuple(place) for place in np.argwhere(whole.ignored)} == set(places)
    (ahead,) = prediction.whole(prediction.forecast(fitted, given, horizon=70))
    assert len(ahead.mean) == 70
    assert {tuple(place) for place in np.argwhere(ahead.ignored)} == set(places)
