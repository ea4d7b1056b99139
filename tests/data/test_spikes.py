"""Spikes: what is far from its neighbours is found, and how a channel usually moves is left alone."""

import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.data.spikes import spike_limits, without_spikes
from svae_cli.training.plan import make_plan

PLACES = [(0, 1), (50, 0), (51, 0), (50, 1), (700, 1), (998, 0)]
"""(step, channel) of spikes: at and beside the ends, two in a row, two at once."""


def movements(steps: int = 1000) -> np.ndarray:
    """A smooth channel, one of weekly shutdowns, one of bursts, in a little noise."""
    rng, step = np.random.default_rng(0), np.arange(steps)
    shut = np.where(step % 70 < 20, -8.0, np.sin(step / 9))
    bursts = np.where(rng.random(steps) < 0.03, rng.gamma(2.0, 10.0, steps), 0.0)
    return np.stack([np.sin(step / 20), shut, bursts], axis=1) + 0.1 * rng.standard_normal((steps, 3))


def spiky(values: np.ndarray, size: float) -> np.ndarray:
    shown = values.copy()
    for number, (step, channel) in enumerate(PLACES):
        shown[step, channel] += size * (-1) ** (number // 3)
    return shown


def skipped(data: SeriesSet) -> list[tuple[int, int, int]]:
    limits, _ = spike_limits(data)
    screened = without_spikes(data, limits)
    read = [(np.isnan(screened.read(i)) & ~np.isnan(data.read(i))) for i in range(len(data))]
    return [(i, int(t), int(c)) for i, found in enumerate(read) for t, c in np.argwhere(found)]


def test_spikes_are_found_and_nothing_else():
    data = SeriesSet.from_arrays([movements(), spiky(movements(), 1000.0)])
    assert skipped(data) == sorted((1, t, c) for t, c in PLACES)
    whole = SeriesSet.from_arrays([np.round(100 * data.read(i)).astype(int) for i in range(2)])
    assert np.isnan(without_spikes(whole, spike_limits(whole)[0]).read(1)).sum() == len(PLACES)
    assert spike_limits(data)[1] == pytest.approx(len(PLACES) / 6000)


def test_steep_moments_bursts_and_clean_channels_are_left_alone():
    data = SeriesSet.from_arrays([movements()])
    assert spike_limits(data)[1] == 0
    assert not skipped(data)
    tail = np.random.default_rng(2).standard_t(1.5, (2000, 1))  # far values, and some at every distance below
    assert np.abs(tail).max() > 50
    limits, _ = spike_limits(SeriesSet.from_arrays([tail]))
    assert not limits.spiky.any()
    assert without_spikes(SeriesSet.from_arrays([tail]), limits).read(0) is not None


def test_gaps_beside_a_spike_do_not_hide_it_and_lonely_values_are_none():
    values = spiky(movements(), 1000.0)
    values[[698, 699], 1] = np.nan  # two neighbours are left
    values[[996, 997, 999], 0] = np.nan  # none
    assert (0, 700, 1) in skipped(SeriesSet.from_arrays([values]))
    assert (0, 998, 0) not in skipped(SeriesSet.from_arrays([values]))


def test_many_spikes_are_how_a_channel_moves():
    values = movements()
    values[30::60, 0] += 50.0
    assert not [place for place in skipped(SeriesSet.from_arrays([values])) if place[2] == 0]
    assert np.isinf(spike_limits(SeriesSet.from_arrays([spiky(movements(), 1000.0)[:60]]))[0].far).all()


def test_heavy_rain_among_rain_is_none():
    rng = np.random.default_rng(4)
    wet = np.convolve(rng.random(5000) < 0.01, np.ones(8))[:5000] > 0
    rain = np.where(wet, rng.lognormal(0.0, 1.0, 5000), 0.0)  # hours of 20 mm among hours of 1 mm
    rain[rng.choice(np.flatnonzero(wet), 25, replace=False)] = 60.0
    dry = np.zeros(5000)
    dry[rng.choice(5000, 300, replace=False)] = 1.0
    errors = dry.copy()
    errors[rng.choice(np.flatnonzero(dry == 0), 25, replace=False)] = 60.0
    noise = 0.01 * rng.standard_normal((5000, 2))
    limits, _ = spike_limits(SeriesSet.from_arrays([np.stack([rain, errors], axis=1) + noise]))
    assert np.isfinite(limits.far).all()
    assert limits.spiky.tolist() == [False, True]


def test_what_goes_from_channel_to_channel_is_none():
    rng = np.random.default_rng(3)
    values = 0.1 * rng.standard_normal((400, 12))
    values[[199, 200, 200, 200, 201], [2, 0, 1, 5, 4]] += 20.0  # a downpour
    values[300, 3] += 20.0  # a failure
    values[100, 4:9] += 20.0  # a failure of many
    found = [place[1:] for place in skipped(SeriesSet.from_arrays([values]))]
    assert found == [*((100, c) for c in range(4, 9)), (300, 3)]


def test_in_many_channels_accidents_come_close():
    rng = np.random.default_rng(3)
    values = 0.1 * rng.standard_normal((1000, 100))
    wrong = rng.random(values.shape) < 0.005  # one in two steps
    values[wrong] += 30.0
    limits, share = spike_limits(SeriesSet.from_arrays([values]))
    assert limits.by_chance == 6  # of Poisson numbers with mean 2, one in 60 is more than 5, one in 220 more than 6
    assert share > 0.7 * wrong.mean()


def test_a_stretch_is_read_as_part_of_the_whole():
    data = SeriesSet.from_arrays([spiky(movements(), 1000.0)])
    screened = without_spikes(data, spike_limits(data)[0])
    whole = screened.read(0)
    for start, stop in [(0, 3), (49, 52), (51, 52), (600, 1000), (999, 1000)]:
        np.testing.assert_array_equal(screened.read(0, start, stop), whole[start:stop])


def test_training_skips_them_and_says_so():
    data = SeriesSet.from_arrays([spiky(movements(), 1000.0)])
    few = {"latent_dim": 2, "window": 40, "val_fraction": 0.2}
    plan = make_plan(data, Settings(**few), valid=data)
    assert plan.choices["spikes"] == "skip: 0.20% of the values looked at are far from those before and after"
    assert np.nanmax(np.abs(plan.data.read(0))) < 200
    assert np.abs(np.where(plan.valid.observed, plan.valid.values, 0.0)).max() < 20
    learned = make_plan(data, Settings(spikes="learn", **few), valid=data)
    assert "spikes" not in learned.choices
    assert np.abs(learned.data.read(0)).max() > 900
    counts = SeriesSet.from_arrays([np.where(np.arange(300)[:, None] == 7, 90.0, np.ones((300, 2)))])
    assert "spikes" not in make_plan(counts, Settings(**few)).choices
