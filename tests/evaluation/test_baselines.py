"""Baselines: fills and continuations by hand, spreads against the spread of the process."""

import numpy as np
import pytest

from svae_cli import baselines
from svae_cli.baselines import extend, fill, season_length, spread_ahead, spread_in_gaps

NAN = np.nan
MEANS = np.array([7.0, -1.0])
HOLED = np.array([[NAN, 1.0], [2.0, NAN], [NAN, NAN], [8.0, NAN], [NAN, NAN]])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", [[7, 1], [2, -1], [7, -1], [8, -1], [7, -1]]),
        ("last", [[2, 1], [2, 1], [2, 1], [8, 1], [8, 1]]),
        ("linear", [[2, 1], [2, 1], [5, 1], [8, 1], [8, 1]]),
    ],
)
def test_fill_by_hand(method, expected):
    np.testing.assert_allclose(fill(HOLED, method, means=MEANS), np.array(expected, float))


def test_a_channel_without_values_becomes_its_mean():
    for method in baselines.IMPUTERS:
        np.testing.assert_allclose(fill(np.full((6, 2), NAN), method, means=MEANS, period=3), np.tile(MEANS, (6, 1)))


def test_linear_fill_equals_numpy_interpolation():
    rng = np.random.default_rng(7)
    values = np.where(rng.random((60, 5)) < 0.6, NAN, rng.normal(size=(60, 5)))
    step = np.arange(60)
    expected = [np.interp(step, step[~np.isnan(c)], c[~np.isnan(c)]) for c in values.T]
    np.testing.assert_allclose(fill(values, "linear", means=np.zeros(5)), np.stack(expected, axis=1), rtol=1e-12)


def test_seasonal_fill_restores_a_season_with_a_trend():
    wave = np.tile([0.0, 5.0, -2.0, 1.0], 6)[:, None] + 0.5 * np.repeat(np.arange(6), 4)[:, None]
    holed = wave.copy()
    holed[9:15] = NAN
    np.testing.assert_allclose(fill(holed, "seasonal", means=np.zeros(1), period=4), wave, atol=1e-12)


def test_seasonal_fill_takes_the_line_where_a_phase_was_never_seen():
    holed = np.array([0.0, NAN, 2.0, 3.0, NAN, 5.0])[:, None]
    np.testing.assert_allclose(fill(holed, "seasonal", means=np.zeros(1), period=3)[:, 0], np.arange(6.0))


def test_every_fill_keeps_what_was_seen():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((40, 3)) < 0.4, NAN, rng.normal(size=(40, 3)))
    for method in baselines.IMPUTERS:
        filled = fill(values, method, means=np.zeros(3), period=5)
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[~np.isnan(values)], values[~np.isnan(values)])


@pytest.mark.parametrize(
    ("method", "expected"),
    [("mean", [[7, -1]] * 4), ("last", [[8, 1]] * 4), ("drift", [[11, 1], [14, 1], [17, 1], [20, 1]])],
)
def test_extend_by_hand(method, expected):
    np.testing.assert_allclose(extend(HOLED[:4], 4, method, means=MEANS), np.array(expected, float))


def test_seasonal_naive_repeats_the_last_season():
    values = np.array([9.0, 9.0, 9.0, 1.0, 2.0, 3.0])[:, None]
    np.testing.assert_allclose(extend(values, 7, "seasonal", means=np.zeros(1), period=3)[:, 0], [1, 2, 3, 1, 2, 3, 1])


def test_spread_of_naive_on_random_walks_grows_like_the_square_root():
    walks = [np.cumsum(np.random.default_rng(s).normal(size=(4000, 1)) * 0.5, axis=0) for s in range(8)]
    spread = spread_ahead(walks, 16, "last", means=np.zeros(1))[:, 0]
    np.testing.assert_allclose(spread, 0.5 * np.sqrt(np.arange(1, 17)), rtol=0.1)


def test_spread_beyond_the_known_lags_follows_the_square_root_law():
    short = [np.array([0.0, 1.0, 3.0])[:, None]]
    spread = spread_ahead(short, 8, "last", means=np.zeros(1))[:, 0]
    np.testing.assert_allclose(spread[:2], [np.sqrt(2.5), 3.0])
    np.testing.assert_allclose(spread[7], 3.0 * np.sqrt(8 / 2))


def test_spread_of_single_values_is_that_of_two_that_nothing_connects():
    series = [np.array([[v, 1.0]]) for v in (-1.0, 1.0, 1.0, -1.0)]
    spread = spread_ahead(series, 2, "last", means=np.array([0.0, 1.0]))
    np.testing.assert_allclose(spread[:, 0], np.sqrt(2))
    assert (spread[:, 1] < 1e-6).all()
    apart = [np.array([[0.0], [np.nan], [2.0]])]
    np.testing.assert_allclose(spread_ahead(apart, 1, "last", means=np.array([1.0])), np.sqrt(2))


def test_spread_of_seasonal_naive_is_that_of_its_residuals():
    rng = np.random.default_rng(1)
    noisy = [np.tile([0.0, 10.0, 20.0], 2000)[:, None] + rng.normal(size=(6000, 1))]
    np.testing.assert_allclose(spread_ahead(noisy, 7, "seasonal", means=np.zeros(1), period=3), np.sqrt(2), rtol=0.05)
    np.testing.assert_allclose(spread_ahead(noisy, 7, "mean", means=np.full(1, 10.0)), np.sqrt(200 / 3 + 1), rtol=0.01)


def test_spread_in_gaps_is_the_error_on_values_hidden_again():
    rng = np.random.default_rng(2)
    series = [rng.normal(size=(500, 2)) * np.array([1.0, 3.0]) for _ in range(4)]
    spread = spread_in_gaps(
        series,
        lambda index, observed: rng.random(observed.shape) < 0.2,
        lambda values: fill(values, "mean", means=np.zeros(2)),
        fallback=np.ones(2),
    )
    np.testing.assert_allclose(spread, [1.0, 3.0], rtol=0.1)
    nothing = spread_in_gaps(
        series, lambda i, o: np.zeros_like(o), lambda values: values, fallback=np.array([2.0, 5.0])
    )
    np.testing.assert_allclose(nothing, [2.0, 5.0])


@pytest.mark.parametrize(("length", "period"), [(960, 24), (1000, 24), (300, 7), (700, 52)])
def test_the_season_is_the_period_not_its_half_nor_its_neighbours(length, period):
    rng = np.random.default_rng(4)
    phase = 2 * np.pi * np.arange(length)[:, None] / period
    drift = np.cumsum(rng.normal(size=(length, 2)) * 0.05, axis=0)
    values = np.sin(phase) + 0.8 * np.sin(2 * phase + 1) + drift + 0.1 * rng.normal(size=(length, 2))
    values[rng.random(values.shape) < 0.1] = NAN
    assert season_length([values], [period / 2, period - 0.3]) == period
    assert season_length([values, values[:5]], [period + 0.4]) == period


def test_no_season_without_a_candidate_or_without_room():
    values = np.random.default_rng(5).normal(size=(20, 2))
    assert season_length([values], []) is None
    assert season_length([values], [15.0]) is None
    assert season_length([values[:1]], [2.0]) is None
