"""The lag regression's fit: exact where a regression is, as ridge regression by hand, and silent where it is no use."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.models.lags import lags_of_maps
from svae_cli.training import lag_moments
from svae_cli.training.holding_out import hold_out
from svae_cli.training.lag_moments import _filled, moments_in_parts, whole_series
from svae_cli.training.lag_start import mixture, resolve_lags, usual_lags

RESOLVED = Settings(objective="predictive", likelihood="gaussian", season=0)


def _regression(record: np.ndarray, settings: Settings = RESOLVED):
    data = SeriesSet.from_arrays([record])
    return resolve_lags(settings, data, Scaler.identity(record.shape[1]), {})


def _seasonal(steps: int, seed: int = 0) -> np.ndarray:
    """A fixed cycle of 12 steps and noise, in two channels: the mean of many cycles knows more than the last one."""
    rng = np.random.default_rng(seed)
    cycle = rng.standard_normal((12, 2))
    return cycle[np.arange(steps) % 12] + 0.5 * rng.standard_normal((steps, 2))


def test_a_regression_on_far_lags_is_found_and_leaves_what_is_noise():
    record = _seasonal(900)
    settings, found = _regression(record, RESOLVED.changed(season=12))
    assert found is not None
    assert settings.lags == found.lags == 144
    errors, repeats = [], []
    for origin in range(750, 870, 10):
        past = record[origin - 144 : origin]
        truth = record[origin : origin + 12]
        errors.append(np.mean((np.asarray(found.continued(past.astype(np.float32), np.int32(144), 12)) - truth) ** 2))
        repeats.append(np.mean((record[origin - 12 : origin] - truth) ** 2))
    assert np.mean(errors) < 1.3 * 0.5**2 < 0.7 * np.mean(repeats)


def test_maps_are_mixed_as_they_are_right_and_know_what_they_promise_too_much():
    rng = np.random.default_rng(5)
    record = np.zeros((700, 1))
    for t in range(2, 700):  # a noisy oscillation: the very last values say it all
        record[t] = 1.6 * record[t - 1] - 0.8 * record[t - 2] + rng.standard_normal(1)
    mixed = _regression(record, RESOLVED.changed(season=12, lags=108))[1]
    alone = _regression(record, RESOLVED.changed(season=108, lags=108))[1]
    assert mixed is not None
    assert alone is not None
    assert [m.shape for m in mixed.maps] == [(1, 108, 24), (1, 48, 24), (1, 24, 24)]
    assert [m.shape for m in alone.maps] == [(1, 108, 24)]
    assert float(jnp.linalg.norm(mixed.maps[0][:, :84])) < 0.5 * float(jnp.linalg.norm(alone.maps[0][:, :84]))
    assert 1 <= float(mixed.optimism[0]) < float(alone.optimism[0]) <= 4


def test_maps_of_no_share_that_look_back_farthest_are_left_out():
    rng = np.random.default_rng(5)
    record = np.zeros((1200, 1))
    for t in range(2, 1200):
        record[t] = 1.6 * record[t - 1] - 0.8 * record[t - 2] + rng.standard_normal(1)
    settings, found = _regression(record, RESOLVED.changed(season=12))
    assert found is not None
    assert usual_lags(12, 1200, 1) == 192
    assert settings.lags == found.lags == 96
    assert [m.shape[1] for m in found.maps] == lags_of_maps(96, 12)  # as a model file is read


def test_a_mixture_is_that_of_the_smallest_errors():
    rng = np.random.default_rng(9)
    for trial in range(20):
        said, came = rng.standard_normal((4, 30)), rng.standard_normal(30)
        said += (trial % 3) * came
        shares = mixture(said @ said.T, said @ came)
        assert shares.sum() == pytest.approx(1)
        assert shares.min() >= 0
        heavy = 1e4 * np.ones((1, 4))
        expected, _ = nnls(np.vstack([said.T, heavy]), np.append(came, 1e4))
        np.testing.assert_allclose(shares, expected, atol=1e-4)


def test_random_walks_have_no_regression_unless_it_is_asked_for():
    walks = [np.cumsum(np.random.default_rng(seed).standard_normal((600, 2)), axis=0) for seed in range(8)]
    assert [_regression(walk)[1] for walk in walks] == [None] * 8
    walk = walks[0]
    assert (
        _regression(np.random.default_rng(1).standard_normal((600, 2)))[1] is not None
    )  # the mean beats the last value
    settings, found = _regression(walk, RESOLVED.changed(lags=10))
    assert settings.lags == 10
    assert found is not None
    assert [m.shape for m in found.maps] == [(2, 10, 10)]


def test_moments_are_those_of_examples_whose_last_value_is_known():
    rng = np.random.default_rng(2)
    record = rng.standard_normal((60, 1))
    record[[20, 41], 0] = np.nan
    data = SeriesSet.from_arrays([record])
    first, middle, last = (part[0] for part in moments_in_parts(data, Scaler.identity(1), 5, 3, 0))
    filled = _filled(record, 0)[:, 0]
    rows = [t for t in range(5, 58) if not np.isnan(record[t - 1, 0])]
    past = np.array([filled[t - 5 : t] - filled[t - 1] for t in rows])
    future = np.array([filled[t : t + 3] - filled[t - 1] for t in rows])
    both = first + middle + last
    assert both.count == len(rows)
    assert [first.count, last.count] == [11, 10]  # of 53 places, less those after a gap
    np.testing.assert_allclose(both.lags, past.T @ past)
    np.testing.assert_allclose(both.both, past.T @ future)
    weights = rng.standard_normal((5, 3))
    assert both.errors(weights) == pytest.approx(np.sum((past @ weights - future) ** 2))
    penalty = 0.1 * np.trace(past.T @ past) / 5 * np.eye(5)
    expected = weights + np.linalg.solve(past.T @ past + penalty, past.T @ (future - past @ weights))
    np.testing.assert_allclose(both.ridge(0.1, weights), expected, rtol=1e-6)


def test_a_long_record_gives_the_same_examples_stretch_by_stretch(monkeypatch):
    data, scaler = SeriesSet.from_arrays([_seasonal(700)]), Scaler.identity(2)
    whole = moments_in_parts(data, scaler, 24, 12, 12)
    monkeypatch.setattr(lag_moments, "_STRETCH", 100)
    for part, expected in zip(moments_in_parts(data, scaler, 24, 12, 12), whole, strict=True):
        for found, wanted in zip(part, expected, strict=True):
            assert found.count == wanted.count
            np.testing.assert_allclose(found.both, wanted.both)
    assert sum(m.count for part in whole for m in part) == 2 * (700 - 36 + 1)


def test_a_cycle_without_noise_is_no_reason_to_stop():
    record = np.tile(np.random.default_rng(2).standard_normal((12, 1)), (70, 1))
    for lags in (None, 24):
        settings, found = _regression(record, RESOLVED.changed(season=12, lags=lags))
        if lags or found is not None:
            assert found is not None
            following = found.continued(record[-settings.lags :].astype(np.float32), np.int32(settings.lags), 12)
            np.testing.assert_allclose(following, record[:12], atol=1e-3)


def test_parts_of_a_series_are_one_series_with_gaps():
    data = SeriesSet.from_arrays([_seasonal(3000), _seasonal(2500, seed=1)])
    train, _, _ = hold_out(data, RESOLVED.changed(window=48, split="time"), {})
    wholes = whole_series(train)
    assert [whole.length for whole in wholes] == [3000, 2500]
    assert len(train) > 2
    for index, whole in enumerate(wholes):
        read = whole.read(train, 0, whole.length)
        known = ~np.isnan(read)
        assert 0.85 < known.mean() < 0.95
        np.testing.assert_array_equal(read[known], data.read(index)[known])
        np.testing.assert_array_equal(whole.read(train, 100, 400), read[100:400])


def test_what_is_held_out_is_never_seen():
    record = _seasonal(900)
    data = SeriesSet.from_arrays([record])
    train, _, _ = hold_out(data, RESOLVED.changed(window=48), {})
    assert train.uncut is not None
    known = np.zeros(900, bool)
    for (_, first), length in zip(train.uncut[1], train.lengths, strict=True):
        known[first : first + length] = True
    assert not known.all()
    spoilt = SeriesSet.from_arrays([np.where(known[:, None], record, 1e6)])
    other, _, _ = hold_out(spoilt, RESOLVED.changed(window=48), {})
    found = [resolve_lags(RESOLVED.changed(season=12), part, Scaler.identity(2), {})[1] for part in (train, other)]
    assert found[0] is not None
    assert found[1] is not None
    for own, others in zip(found[0].maps, found[1].maps, strict=True):
        np.testing.assert_array_equal(own, others)


def test_long_gaps_are_filled_by_other_cycles_and_short_ones_by_lines():
    values = np.tile(np.arange(6.0), 5)[:, None]
    holed = values.copy()
    holed[13:17] = np.nan  # phases 1 to 4 of six
    holed[20] = np.nan
    found = _filled(holed, 6)
    np.testing.assert_array_equal(found, values)  # the line between 1 and 3 is right, too
    assert _filled(np.full((4, 1), np.nan), 2).tolist() == [[0.0]] * 4


@pytest.mark.parametrize(
    ("season", "longest", "channels", "expected"),
    [
        (24, 12000, 7, 672),
        (168, 12000, 7, 672),
        (24, 2100, 7, 336),
        (672, 12000, 12, 672),
        (672, 2000, 12, 0),
        (52, 700, 7, 104),
        (0, 12000, 7, 48),
        (0, 60, 7, 10),
        (24, 12000, 321, 216),
        (168, 12000, 2000, 0),
        (0, 12000, 20_000, 27),
    ],
)
def test_lags_are_whole_seasons_as_far_as_the_record_shows_them(season, longest, channels, expected):
    assert usual_lags(season, longest, channels) == expected


def test_more_lags_than_half_the_record_and_lags_of_frames_are_refused():
    with pytest.raises(UsageError, match="--lags is 400"):
        _regression(_seasonal(700), RESOLVED.changed(lags=400))
    with pytest.raises(UsageError, match="--lags is -1"):
        Settings(lags=-1)
    with pytest.raises(UsageError, match="regression on last values needs"):
        Settings(lags=10, objective="elbo")
    frames = replace(SeriesSet.from_arrays([_seasonal(700)]), channel_shape=(1, 2))
    with pytest.raises(UsageError, match="not of frames"):
        resolve_lags(RESOLVED.changed(lags=10), frames, Scaler.identity(2), {})
    assert resolve_lags(RESOLVED, frames, Scaler.identity(2), {})[1] is None
