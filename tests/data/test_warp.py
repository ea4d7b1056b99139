"""The power transform of skewed channels against SciPy, sampling and what is known of simulated series."""

import numpy as np
import pytest
from scipy import stats

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.warp import POWERS, Warp, choose_powers, choose_warp, yeo_johnson, yeo_johnson_inverse


def _walk(steps: int, seed: int, width: int = 1) -> np.ndarray:
    """First-order autoregressions (time, channel) with Gaussian noise."""
    rng, x = np.random.default_rng(seed), np.zeros((steps, width))
    for t in range(1, steps):
        x[t] = 0.9 * x[t - 1] + rng.normal(size=width) * 0.4
    return x


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0)


def _warp(power: float) -> Warp:
    one = np.ones(1)
    return Warp(power * one, -4 * one, 5 * one, 0.3 * one, 0.7 * one, 0 * one, one)


@pytest.mark.parametrize("power", POWERS[::4])
def test_transform_is_that_of_scipy_and_its_inverse_undoes_it(power):
    z = np.random.default_rng(0).normal(size=500) * 3
    bent = yeo_johnson(z, np.full(500, power))
    np.testing.assert_allclose(bent, stats.yeojohnson(z, lmbda=power), rtol=1e-12)
    np.testing.assert_allclose(yeo_johnson_inverse(bent, np.full(500, power)), z, rtol=1e-9)


@pytest.mark.parametrize("power", [0.0, 0.4, 1.6, 2.0])
def test_warp_is_undone_far_outside_its_range_and_grows_there_like_a_line(power):
    warp = _warp(power)
    z = np.array([[-400.0], [-4.0], [0.0], [5.0], [1e6], [np.nan]])
    np.testing.assert_allclose(warp.inverse(warp.forward(z)), z, rtol=1e-9)
    far = warp.inverse(warp.forward(np.array([[6.0]])) + np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_allclose(np.diff(far, 2, axis=0), 0, atol=1e-9)


def test_moments_are_those_of_samples():
    warp = _warp(0.2)
    mean, std = warp.moments(np.array([0.5]), np.array([0.6]))
    drawn = warp.inverse(0.5 + 0.6 * np.random.default_rng(1).normal(size=(400_000, 1)))
    np.testing.assert_allclose(mean, drawn.mean(), atol=6 * drawn.std() / 400_000**0.5)
    np.testing.assert_allclose(std, drawn.std(), rtol=0.01)


def test_channels_of_power_one_are_left_bit_for_bit():
    warp = Warp(
        np.array([0.0, 1.0]),
        -np.ones(2),
        np.ones(2),
        np.array([0.1, 0.0]),
        np.array([2.0, 1.0]),
        np.zeros(2),
        np.ones(2),
    )
    z = np.random.default_rng(2).normal(size=(50, 2)) * 4
    for changed in (warp.forward(z), warp.inverse(z), warp.moments(z, np.abs(z))[0]):
        assert np.array_equal(changed[:, 1], z[:, 1])
        assert not np.array_equal(changed[:, 0], z[:, 0])


def test_linear_gaussian_series_are_not_bent():
    assert choose_warp([_standard(_walk(3000, seed, 3)) for seed in (3, 4)]) is None


def test_what_multiplies_is_bent_towards_its_logarithm_gaps_or_not():
    level = np.exp(_walk(4000, 5, 2))
    level[np.random.default_rng(6).random(level.shape) < 0.3] = np.nan
    assert (choose_powers([_standard(level)]) <= 0.2).all()


def test_a_sum_of_channels_stays_a_sum():
    """By its own the sum is skewed; with its parts in sight a straight line is better."""
    parts = np.exp(_walk(4000, 7, 2))
    total = parts.sum(axis=1, keepdims=True) + 0.05 * np.random.default_rng(8).normal(size=(4000, 1))
    assert choose_powers([_standard(total)])[0] < 0.5
    assert choose_powers([_standard(np.concatenate([total, parts], axis=1))])[0] == 1


def test_a_channel_that_moves_less_where_it_is_far_out_is_not_bent_further_out(monkeypatch):
    """Skewed to the right, with noise that falls with the level: straightening the noise would add to the skewness."""
    shocks = np.random.default_rng(3).exponential(size=4100) ** 1.5
    level = np.convolve(shocks, np.hanning(30), "valid")[:4000, None] / 15
    noisy = level + 0.4 * np.random.default_rng(10).normal(size=level.shape) / (0.3 + level)
    assert stats.skew(noisy)[0] > 0.2
    assert choose_powers([_standard(noisy)])[0] == 1
    monkeypatch.setattr("svae_cli.data.warp._SKEWED", np.inf)
    assert choose_powers([_standard(noisy)])[0] > 1


def test_few_or_constant_values_choose_nothing():
    assert choose_warp([np.array([[1.0, 0.0], [np.nan, 0.0], [3.0, 0.0]])]) is None


def test_long_series_are_chosen_by_stretches_and_moments_come_back_in_the_datas_units():
    level = 5 + 2 * np.exp(0.5 * _walk(40_000, 9))
    scaler = Scaler.measure(SeriesSet.from_arrays([level])).warped(SeriesSet.from_arrays([level]))
    assert scaler.warp is not None
    np.testing.assert_allclose(scaler.to_data(scaler.to_model(level)), level, rtol=1e-9)
    model = scaler.to_model(level)
    assert abs(stats.skew(model[:, 0])) < 0.5 * stats.skew(level[:, 0])
    mean, std = scaler.moments_to_data(np.zeros((1, 1)), np.ones((1, 1)))
    np.testing.assert_allclose([mean[0, 0], std[0, 0]], [level.mean(), level.std()], rtol=0.1)


def test_channels_not_seen_where_it_is_chosen_and_empty_series_are_left_alone():
    level = np.concatenate([5 + 2 * np.exp(0.5 * _walk(40_000, 9)), np.full((40_000, 1), np.nan)], axis=1)
    level[300:310, 1] = np.arange(10.0)
    data = SeriesSet.from_arrays([np.zeros((0, 2)), level])
    warp = Scaler.measure(data).warped(data).warp
    assert warp is not None
    assert warp.bent.tolist() == [True, False]
    assert warp.problem(2) == ""


@pytest.mark.parametrize(("rows", "width"), [(310, 300), (250, 150), (600, 150)])
def test_noise_of_nearly_as_many_channels_as_rows_is_not_bent(rows, width):
    noise = np.random.default_rng(rows).normal(size=(rows, width))
    assert (choose_powers([_standard(noise)]) != 1).sum() <= 1  # of hundreds, by chance


def test_codes_for_what_went_wrong_have_no_vote():
    level = _walk(3000, 11)
    level[::50] = -200.0
    assert choose_powers([_standard(level)])[0] == 1


def _firms(count: int, steps: int, decades: float, seed: int) -> list[np.ndarray]:
    """Series that multiply by about a tenth more or less each step, of sizes that are decades apart."""
    rng = np.random.default_rng(seed)
    sizes = 10 ** rng.uniform(0, decades, count)
    return [size * np.exp(0.1 * rng.normal(size=(steps, 1)).cumsum(axis=0)) for size in sizes]


def test_sizes_that_are_orders_of_magnitude_apart_are_counted_from_zero():
    data = SeriesSet.from_arrays(_firms(60, 25, 6.0, 11))
    scaler = Scaler.measure(data).warped(data)
    assert scaler.warp is not None
    assert scaler.warp.power[0] <= 0.2
    assert scaler.warp.problem(1) == ""
    np.testing.assert_allclose(scaler.to_data(np.zeros(1)) > 0, True)
    first = [float(data.read(i)[0, 0]) for i in range(60)]
    small, large = ([data.read(int(at(first)))] for at in (np.argmin, np.argmax))
    moved = [np.diff(scaler.to_model(np.concatenate(part).astype(np.float64)), axis=0).std() for part in (small, large)]
    assert 0.4 < moved[0] / moved[1] < 2.5  # as likely for the small ones as for others
    every = np.concatenate([data.read(i) for i in range(60)]).astype(np.float64)
    np.testing.assert_allclose(scaler.to_data(scaler.to_model(every)), every, rtol=1e-6)


def test_what_is_counted_from_zero_is_mirrored_below_it_and_a_straight_line_far_above():
    data = SeriesSet.from_arrays(_firms(60, 25, 6.0, 11))
    scaler = Scaler.measure(data).warped(data)
    most = max(float(data.read(i).max()) for i in range(60))
    far = 3 * most * np.array([[1.0], [1.1], [1.2]])
    line = scaler.to_model(far)
    np.testing.assert_allclose(np.diff(line, 2, axis=0), 0, atol=1e-6 * np.abs(np.diff(line, axis=0)).max())
    values = np.geomspace(1e-3, most, 20)[:, None]
    above, below = scaler.to_model(values), scaler.to_model(-values)
    np.testing.assert_allclose(above + below, 2 * scaler.to_model(np.zeros((20, 1))), atol=1e-6)
    assert np.abs(below).max() < 20  # a wrong sign is no catastrophe
    for there, back in ((far, line), (values, above), (-values, below)):
        np.testing.assert_allclose(scaler.to_data(back), there, rtol=1e-6)


def test_channels_beside_one_that_is_counted_from_zero_keep_their_powers():
    """A sum and its part have nothing to do with sizes that are decades apart; these must not drown them."""
    rng, series = np.random.default_rng(14), []
    for size in 10 ** rng.uniform(0, 6, 100):
        walk = rng.normal(size=(20, 2)).cumsum(axis=0)
        deaths = np.exp(3 + 0.8 * rng.normal() + 0.1 * walk[:, 0])
        years = 80 - 0.2 * deaths + 0.3 * rng.normal(size=20)
        series.append(np.stack([deaths, years, size * np.exp(0.1 * walk[:, 1])], axis=1))
    both, without = (
        Scaler.measure(data).warped(data).warp
        for data in (SeriesSet.from_arrays(series), SeriesSet.from_arrays([s[:, :2] for s in series]))
    )
    assert without is None
    assert both is not None
    assert both.power.tolist() == [1, 1, 0]


def test_a_channel_that_zero_is_no_help_to_is_counted_from_its_mean_again():
    values = 100 * np.exp(0.5 * np.random.default_rng(15).normal(size=(150, 1)))
    values[70] = 0.0  # far out in logarithms: a code, for all that is known
    data = SeriesSet.from_arrays([values])
    warp = Scaler.measure(data).warped(data).warp
    assert warp is not None
    assert warp.unit[0] == 1
    assert warp.power[0] < 1


@pytest.mark.parametrize("spoilt", ["negative", "alike", "zeros"])
def test_channels_with_a_natural_mean_are_counted_from_it(spoilt):
    """Values below zero, sizes that are alike, or many zeros, which are no small sizes."""
    series = _firms(60, 25, 1.0 if spoilt == "alike" else 6.0, 12)
    if spoilt == "negative":
        series[3][2] = -1.0
    if spoilt == "zeros":
        series = [np.where(np.random.default_rng(i).random(s.shape) < 0.1, 0.0, s) for i, s in enumerate(series)]
    data = SeriesSet.from_arrays(series)
    warp = Scaler.measure(data).warped(data).warp
    assert warp is None or (warp.unit == 1).all()


def test_few_values_that_multiply_are_counted_from_zero_and_few_that_add_are_not():
    """Ten years of months: in so few values no family is much likelier, but a level and a season that multiply show."""
    month, noise = np.arange(120.0), 0.03 * np.random.default_rng(13).normal(size=120).cumsum()
    movement = 0.009 * month + 0.25 * np.sin(2 * np.pi * month / 12) + noise
    grown, sums = [SeriesSet.from_arrays([v[:, None]]) for v in (100 * np.exp(movement), 500 + 100 * movement)]
    warp = Scaler.measure(grown).warped(grown).warp
    assert warp is not None
    assert warp.power[0] <= 0.2
    assert warp.unit[0] != 1
    straight = Scaler.measure(sums).warped(sums)
    assert straight.warp is None
