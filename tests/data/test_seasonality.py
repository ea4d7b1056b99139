"""Seasonality: periods are found in spectra, and weeks where days differ."""

import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.seasonality import _by_phase, detect_periods, repetition, shorter_cycle
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.training.plan import make_plan
from svae_cli.training.season_choice import repetition_of


def week(steps: int = 24 * 7 * 16, *, weekend: float = 0.2, channels: int = 2) -> SeriesSet:
    """Hourly demand: two rush hours a day, of another height on two days of seven."""
    rng, hour = np.random.default_rng(6), np.arange(steps)
    day = np.exp(-(((hour % 24) - 8) ** 2) / 6) + np.exp(-(((hour % 24) - 17) ** 2) / 8)
    demand = day * np.where(hour // 24 % 7 < 5, 1.0, weekend)
    return SeriesSet.from_arrays([demand[:, None] + 0.05 * rng.standard_normal((steps, channels))])


def test_periods_are_found_and_noise_has_none():
    rng = np.random.default_rng(3)
    step = np.arange(2000)
    waves = np.sin(2 * np.pi * step / 24)[:, None] + 0.5 * np.cos(2 * np.pi * step / 7.5)[:, None]
    noise = rng.normal(size=(2000, 2))
    walk = np.cumsum(noise, axis=0)
    found = detect_periods(SeriesSet.from_arrays([waves + noise]), Scaler.identity(2), longest=100)
    np.testing.assert_allclose(sorted(found), [7.5, 24], rtol=0.02)
    assert detect_periods(SeriesSet.from_arrays([noise]), Scaler.identity(2), longest=100) == ()
    assert detect_periods(SeriesSet.from_arrays([walk]), Scaler.identity(2), longest=100) == ()


@pytest.mark.parametrize("seed", range(4))
def test_few_cycles_show_a_season_by_the_means_of_their_phases(seed):
    """Five years of months with a level that wanders: in the spectrum nothing stands out, or parts of a year do."""
    rng, month = np.random.default_rng(seed), np.arange(60)
    shape = np.zeros(12)
    shape[[2, 6, 7]] = 4.0, -2.0, 3.0
    record = (shape[month % 12] + 0.4 * rng.normal(size=60).cumsum())[:, None]
    gappy = np.where(rng.random((60, 1)) < 0.1, np.nan, record)
    for values in (record, gappy):
        data = SeriesSet.from_arrays([values])
        first, *others = detect_periods(data, Scaler.measure(data), longest=15)
        assert first == 12
        assert all(abs(period - 12) > 2 for period in others)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6, 0.8])
def test_the_phases_of_short_walks_and_noise_are_no_season(missing):
    rng, found = np.random.default_rng(1), []
    for steps in range(20, 300, 4):
        changes = rng.normal(size=(steps, 1))
        for values in (changes, changes.cumsum(axis=0)):
            found += _by_phase([np.where(rng.random((steps, 1)) < missing, np.nan, values)], steps / 3)
    assert len(found) <= 1


def test_what_repeats_itself_exactly_has_its_shortest_period():
    shape = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0])
    assert _by_phase([np.tile(shape, 8)[:, None]], 30) == (12.0,)
    assert _by_phase([np.zeros((60, 1))], 15) == ()


def found_in(data: SeriesSet, periods: tuple[float, ...], longest: float = 400, usual: float = 100):
    return repetition(data, Scaler.measure(data), periods, usual=usual, longest=longest)


def test_days_that_differ_make_a_week():
    data = week()
    assert found_in(data, (24.0, 12.0))[:2] == (168, 7)
    assert found_in(data, (24.0, 12.0)).change < 0.2
    assert found_in(data, (24.0, 12.0), longest=100)[:2] == (24, 1)
    assert found_in(data, (24.0, 12.0), longest=10) is None
    assert found_in(data, ()) is None
    assert found_in(week(weekend=1.0), (24.0,))[:2] == (24, 1)
    short = [data.read(0, start, start + 5 * 168) for start in (0, 500)]  # fewer than six weeks each
    assert found_in(SeriesSet.from_arrays(short[:1]), (24.0,)).steps == 24
    assert found_in(SeriesSet.from_arrays(short), (24.0,)).steps == 168


def test_a_week_of_some_channels_has_the_day_of_the_others_within():
    rng = np.random.default_rng(8)
    traffic, steps = week(channels=1).read(0), 24 * 7 * 16
    hour = np.arange(steps)[:, None]
    days = 1 + np.cumsum(rng.standard_normal((steps // 24, 3)) * 0.5, axis=0).repeat(24, axis=0)  # no week is another's
    weather = days * np.sin(2 * np.pi * hour / 24) + 0.3 * rng.standard_normal((steps, 3))
    found = found_in(SeriesSet.from_arrays([np.concatenate([traffic, weather], axis=1)]), (24.0,))
    assert (found.steps, found.periods, found.within) == (168, 7, 24)
    assert found_in(SeriesSet.from_arrays([weather]), (24.0,))[:2] == (24, 1)
    many = np.concatenate([traffic, np.tile(weather, (1, 6)) + 0.1 * rng.standard_normal((steps, 18))], axis=1)
    assert found_in(SeriesSet.from_arrays([many]), (24.0,))[:2] == (24, 1)  # one in nineteen is none
    usual = found_in(SeriesSet.from_arrays([np.concatenate([traffic, weather], axis=1)]), (24.0,), usual=200)
    assert usual[:2] == (24, 1)  # windows show it


@pytest.mark.parametrize(("swing", "expected"), [(1.0, (168, 24)), (0.0, (24, 0))])
def test_a_week_that_slow_changes_hide_is_told_by_its_phases(swing, expected):
    """A week later the level is another, so values change by a fourteenth less than after a day; weekends are lower."""
    rng, days = np.random.default_rng(3), 7 * 60
    hour = np.arange(24 * days)[:, None]
    level = 0.25 * np.cumsum(rng.standard_normal(days))
    level = (level - np.convolve(level, np.full(21, 1 / 21), "same")).repeat(24)[:, None]
    values = np.sin(2 * np.pi * hour / 24) + level + [0.5, 0.1] * rng.standard_normal((24 * days, 2))
    values[:, :1] -= swing * (hour // 24 % 7 >= 5)
    found = found_in(SeriesSet.from_arrays([values]), (24.0,))
    assert (found.steps, found.within) == expected


@pytest.mark.parametrize("seed", range(6))
def test_days_that_go_up_and_down_by_chance_make_no_week_of_ten(seed):
    """A day is as one: its hours are no evidence for each other."""
    rng, days = np.random.default_rng(seed), 70
    hour = np.arange(24 * days)[:, None]
    values = np.sin(2 * np.pi * hour / 24) + rng.standard_normal((days, 8)).repeat(24, axis=0)
    values[24:] += 0.2 * values[:-24]
    found = found_in(SeriesSet.from_arrays([values + 0.3 * rng.standard_normal(values.shape)]), (24.0,))
    assert (found.steps, found.within) == (24, 0)


def test_a_week_among_channels_of_noise_is_kept():
    noise = np.random.default_rng(9).standard_normal((24 * 7 * 16, 9))
    data = SeriesSet.from_arrays([np.concatenate([week(channels=1).read(0), noise], axis=1)])
    found = repetition_of(Settings(likelihood="gaussian"), data, Scaler.measure(data), (24.0,))
    assert found is not None
    assert (found.steps, found.within) == (168, 24)
    assert found.change > 1.5  # of all channels together, which is no reason to forget the day


def test_the_week_is_found_beside_a_slow_cycle_and_from_a_coarse_spectrum():
    assert found_in(week(), (24.0, 2000.0)).steps == 168
    for weeks in (8, 9, 10, 16):
        data = week(168 * weeks)
        periods = detect_periods(data, Scaler.measure(data), longest=42 * weeks)
        assert found_in(data, periods).steps == 168
    assert found_in(week(), (169.2, 24.0)).steps == 168
    assert found_in(week(), (169.2,)).steps == 168


def test_a_year_does_not_take_the_place_of_the_week():
    rng, day = np.random.default_rng(5), np.arange(365 * 12)
    values = np.where(day % 7 < 5, 1.0, -1.0) + 0.5 * np.sin(2 * np.pi * day / 365.25)
    data = SeriesSet.from_arrays([values[:, None] + 0.2 * rng.standard_normal((len(day), 2))])
    assert found_in(data, (7.0, 370.1, 3.5), longest=672).steps == 7


def test_what_repeats_itself_exactly_does_so_after_one_period():
    waves = np.sin(2 * np.pi * np.arange(2000) / 24)[:, None] * [1.0, 2.0]
    assert found_in(SeriesSet.from_arrays([waves]), (24.0,))[:2] == (24, 1)


def test_lags_are_compared_by_channels_that_are_known_at_both_and_move():
    values = week().read(0)
    values[np.random.default_rng(1).random(values.shape) < 0.3] = np.nan
    assert found_in(SeriesSet.from_arrays([values]), (24.0,)).steps == 168
    rng, step = np.random.default_rng(2), np.arange(2688)
    noisy = np.sin(2 * np.pi * step / 24) + 0.3 * rng.standard_normal(2688)
    seldom = np.where(step % 168 < 5, np.sin(step / 500), np.nan)
    assert found_in(SeriesSet.from_arrays([np.stack([noisy, seldom], axis=1)]), (24.0,)).steps == 24
    still = np.stack([rng.standard_normal(2688), np.ones(2688)], axis=1)
    assert found_in(SeriesSet.from_arrays([still]), (24.0,)).change > 1.5
    empty = SeriesSet.from_arrays([np.full((2000, 1), np.nan)])
    assert repetition(empty, Scaler.identity(1), (24.0,), usual=100, longest=400) == (24, 1, 2.0, 0)


@pytest.mark.slow
def test_training_looks_around_its_windows_for_the_week():
    plan = make_plan(week(), Settings())
    assert (plan.settings.season, plan.settings.short_season, plan.settings.window) == (168, 24, 96)
    assert plan.choices["season"].startswith("168 steps, 7 periods: ")
    assert plan.choices["short_season"].startswith("24 steps: ")
    assert plan.windows.margin == 3 * 168
    assert plan.season_windows.around.shape[1] == 96 + 6 * 168
    assert plan.valid.around.shape[1] == 96 + 6 * 168
    alike = make_plan(week(weekend=1.0), Settings())
    assert (alike.settings.season, alike.settings.short_season, alike.windows.margin) == (24, 0, 0)
    assert make_plan(week(), Settings(season=24)).settings.season == 24
    assert make_plan(week(), Settings(objective="elbo")).settings.season == 0
    seen = make_plan(week(), Settings(window=400))
    assert (seen.settings.season, seen.windows.margin) == (168, 0)


def test_a_shorter_season_is_the_one_that_changes_least_or_what_was_asked_for():
    data = week()
    scaler = Scaler.measure(data)
    assert shorter_cycle(data, scaler, (12.0, 24.0, 84.0), season=168) == 24
    assert shorter_cycle(data, scaler, (100.0,), season=168) == 0
    assert shorter_cycle(data, scaler, (4.8, 6.0, 12.0), season=168) == 24
    slow = np.cumsum(np.random.default_rng(1).standard_normal((data.lengths[0], 2)), axis=0)
    drifting = SeriesSet.from_arrays([data.read(0) + 0.01 * slow])
    assert shorter_cycle(drifting, Scaler.measure(drifting), (4.8, 6.0, 12.0), season=168) == 24
    noise = SeriesSet.from_arrays([np.random.default_rng(0).standard_normal((2000, 1))])
    assert shorter_cycle(noise, Scaler.measure(noise), (24.0,), season=168) == 0
    assert make_plan(data, Settings(season=168, short_season=12)).settings.short_season == 12
    assert make_plan(data, Settings(short_season=0)).season.within is None
    with pytest.raises(UsageError, match="--short-season is 90, but the season has 168 steps"):
        make_plan(data, Settings(short_season=90))
    with pytest.raises(UsageError, match="--short-season is 1; expected 2"):
        Settings(short_season=1)


@pytest.mark.parametrize("noise", [0.3, 4.0])
def test_what_repeats_itself_only_is_a_season(noise):
    rng, step = np.random.default_rng(2), np.arange(4000)
    values = np.sin(2 * np.pi * step / 150)[:, None] + noise * rng.standard_normal((4000, 2))
    plan = make_plan(SeriesSet.from_arrays([values]), Settings())
    assert (plan.settings.window, plan.settings.season) == (200, 150 if noise < 1 else 0)


def test_windows_do_not_grow_for_long_seasons():
    rng, step = np.random.default_rng(2), np.arange(6000)
    values = np.sin(2 * np.pi * step / 600)[:, None] ** 5 + 0.1 * rng.standard_normal((6000, 2))
    plan = make_plan(SeriesSet.from_arrays([values]), Settings())
    assert (plan.settings.window, plan.settings.season, plan.windows.margin) == (200, 600, 1800)
