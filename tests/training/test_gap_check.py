"""The check of gaps: known values hidden likewise, the simple ways' say, and intervals put right."""

import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.baselines import fill
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.prediction import pieces
from svae_cli.prediction.gap_check import CAP, GapCheck, like_gaps, simple_ways
from svae_cli.prediction.own_season import OwnSeason
from svae_cli.prediction.phases import in_cycles, in_parts, part_at
from svae_cli.prediction.self_check import PASSES, PRIOR, swing
from tests.training.waves import (
    CHANNELS,
    check_gaps,
    in_model_units,
    loud_half,
    predicted,
    wave_model,
    waves,
    with_season,
)

pytestmark = pytest.mark.usefixtures("relaxed_promotion")


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


def _dropped(truth: np.ndarray) -> np.ndarray:
    """Channel 2 missing in the middle, channel 5 at single steps."""
    shown = truth.copy()
    shown[:, 10:40, 2] = np.nan
    shown[:, 3::9, 5] = np.nan
    return shown


def _hidden(observed: np.ndarray, steps: int) -> list[np.ndarray]:
    return [np.asarray(like_gaps(jnp.asarray(observed), jnp.asarray(steps), jnp.asarray(k))) for k in range(PASSES)]


def test_what_is_hidden_was_known_looks_like_the_gaps_and_is_half_at_most():
    observed = np.ones((60, 3), bool)
    observed[20:29, 1] = False
    observed[50:] = False  # padding
    masks = _hidden(observed, steps=50)
    for hidden in masks:
        assert not (hidden & ~observed).any()
        assert 0.05 < hidden.sum() / observed.sum() < 0.5
    # The first pass hides the same channel, others other ones; a run is as long as the gap, or cut by it.
    assert masks[0][:, [0, 2]].sum() == 0
    assert {int(np.flatnonzero(hidden.any(axis=0))[0]) for hidden in masks} == {0, 1, 2}
    runs = [len(list(run)) for hidden in masks for on, run in itertools.groupby(hidden.T.ravel()) if on]
    assert 7 <= np.median(runs) <= 9
    assert len({hidden.tobytes() for hidden in masks}) == PASSES


def test_many_gaps_leave_half_of_what_is_known_and_none_hide_nothing():
    observed = np.random.default_rng(0).random((80, 4)) < 0.2
    for hidden in _hidden(observed, steps=80):
        assert 0.3 < hidden.sum() / observed.sum() < 0.65
    assert not any(hidden.any() for hidden in _hidden(np.ones((30, 2), bool), steps=30))


@pytest.mark.parametrize("period", [None, 7])
def test_simple_ways_are_the_baselines(period):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((40, 3))
    values[rng.random(values.shape) < 0.4] = np.nan
    values[:12, 0] = np.nan
    values[:, 2] = np.nan
    seen = ~np.isnan(values)
    ways = simple_ways(jnp.asarray(np.nan_to_num(values)), jnp.asarray(seen), OwnSeason(period))
    names = ["linear"] if period is None else ["linear", "seasonal"]
    for way, name in zip(ways, names, strict=True):
        expected = fill(values, name, means=np.full(3, np.nan), period=period)
        np.testing.assert_allclose(way, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimism", [1.0, 1.4])
def test_shares_and_ratios_are_those_of_a_loop_over_passes_and_channels(fitted, optimism):
    model = eqx.tree_at(lambda m: m.optimism, fitted.model, jnp.asarray(optimism, jnp.float32))
    raw = _dropped(waves(1, 50, seed=3) + 0.5 * np.random.default_rng(2).standard_normal((1, 1, CHANNELS)))[0]
    values, observed, inputs = in_model_units(fitted, raw)
    found = check_gaps(model, values, observed, inputs, steps=jnp.asarray(50))
    passes = []
    for hidden in _hidden(np.asarray(observed), steps=50):
        seen = np.asarray(observed) & ~hidden
        mean, variance = map(np.asarray, predicted(fitted.model, values, jnp.asarray(seen), inputs))
        shown = np.where(seen, values, np.nan)
        line = fill(shown, "linear", means=np.full(CHANNELS, np.nan))
        # Learned errors are larger by others, which the line is away by, too.
        error, beyond = np.asarray(values) - mean, np.nan_to_num(line - mean)
        more = np.sqrt(optimism - 1) * error
        passes.append((np.stack([error, more]), np.stack([beyond, np.where(beyond != 0, more, 0)]), variance, hidden))
    of_all = _best_share(passes, slice(None), centre=0.0)
    shares = [_best_share(passes, channel, centre=of_all) for channel in range(CHANNELS)]
    np.testing.assert_allclose(found.shares[0], shares, atol=1e-6)
    ratio = _mean_square(passes, slice(None), np.array(shares), to=1.0)
    own = [_mean_square(passes, channel, shares[channel], to=ratio) for channel in range(CHANNELS)]
    np.testing.assert_allclose(found.ratio, own, rtol=1e-3)
    assert max(shares) > 0
    assert max(own) > 1


def _best_share(passes, channel, centre: float) -> float:
    own = squares = linear = weights = 0.0
    for error, beyond, variance, hidden in passes:
        at, n = hidden[:, channel], hidden[:, channel].sum()
        own += (error**2 / variance).sum(axis=0)[:, channel][at].sum() / (n + 8)
        squares += (beyond**2 / variance).sum(axis=0)[:, channel][at].sum() / (n + 8)
        linear += (beyond * error / variance).sum(axis=0)[:, channel][at].sum() / (n + 8)
        weights += n / (n + 8)
    if not weights:
        return centre
    grid = np.arange(11) / 10
    left = own + grid**2 * squares - 2 * grid * linear
    cost = (PRIOR * squares + weights * min(squares, left.min())) / (PRIOR + weights)
    pull = PRIOR / weights * cost
    return float(grid[np.argmin(left + pull * (grid - centre) ** 2)])


def _mean_square(passes, channel, share, to: float) -> float:
    total = weights = 0.0
    for error, beyond, variance, hidden in passes:
        left = ((error - beyond * share) ** 2 / variance).sum(axis=0)[:, channel]
        n = hidden[:, channel].sum()
        if n:
            total += n / (n + 8) * min(left[hidden[:, channel]].mean(), CAP)
        weights += n / (n + 8)
    if not weights:
        return to
    mean = total / weights
    return (PRIOR * to + total) / (PRIOR + weights) if mean > to else to * (mean / to) ** (weights / (PRIOR + weights))


@pytest.mark.slow
def test_intervals_swing_with_the_season_as_errors_do(fitted):
    past, loud = loud_half(240, period=12)
    hidden = np.random.default_rng(3).random(past.shape) < 0.3
    series = SeriesSet.from_arrays([np.where(hidden, np.nan, past)])
    told = with_season(fitted, 12)
    found, plain = (next(prediction.impute(told, series, self_check=check)) for check in (None, False))
    widths = np.where(hidden, found.std / np.where(hidden, plain.std, 1), np.nan)
    swings = np.nanmean(widths[loud], axis=0) / np.nanmean(widths[~loud], axis=0)
    assert np.all(np.delete(swings, 3) > 1.5)
    assert swings[3] < 0.8 * np.delete(swings, 3).min()
    without = np.where(hidden, next(prediction.impute(fitted, series)).std, np.nan)
    assert np.nanmean(without[loud]) == pytest.approx(np.nanmean(without[~loud]), rel=0.1)


def test_the_swing_is_that_of_a_loop_over_passes_parts_and_channels():
    rng = np.random.default_rng(4)
    squares, weight = rng.chisquare(1, (5, 3, 2)), rng.random((5, 3, 2))
    squares[:, 1, 0] *= 4
    squares[0, 0, 1], weight[2, :, :] = 1e6, 0.0  # a broken sensor, a pass that hid nothing
    cap = [6 * max(np.median(squares[[0, 1, 3, 4], :, c]), 1) for c in range(2)]
    sums, counts = np.zeros((2, 3, 2))
    for number, part, channel in itertools.product(range(5), range(3), range(2)):
        sums[part, channel] += weight[number, part, channel] * min(squares[number, part, channel], cap[channel])
        counts[part, channel] += weight[number, part, channel]
    relative = sums / (sums.sum(axis=0) / counts.sum(axis=0))
    of_all = (PRIOR + relative.mean(axis=1)) / (PRIOR + counts.mean(axis=1))
    own = (PRIOR * of_all[:, None] + relative) / (PRIOR + counts)
    found = swing(jnp.asarray(squares), jnp.asarray(weight), cap=6.0)
    np.testing.assert_allclose(found, own / own.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(swing(jnp.asarray(squares), jnp.zeros((5, 3, 2)), cap=6.0), np.ones((3, 2)))
    nothing = jnp.asarray(weight).at[..., 1].set(0.0)
    alone = swing(jnp.asarray(squares), nothing, cap=6.0)  # a channel never asked has what all others have in common
    np.testing.assert_allclose(alone[:, 1], _common(sums[:, 0], counts[:, 0]), rtol=1e-5)
    exact = swing(jnp.asarray(squares).at[..., 1].mul(1e-12), jnp.asarray(weight), cap=6.0)  # rounding is no swing
    np.testing.assert_allclose(exact[:, 1], alone[:, 1], rtol=1e-5)


def _common(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    found = (PRIOR + sums / (sums.sum() / counts.sum())) / (PRIOR + counts)
    return found / found.mean()


def test_long_seasons_have_48_parts_that_begin_where_the_series_says():
    parts = np.asarray(part_at(jnp.arange(-365, 730), 365))
    np.testing.assert_array_equal(parts, np.tile(np.arange(365) * 48 // 365, 3))
    sums = jnp.asarray(np.random.default_rng(0).random((2, 365, 3)))
    rolled = np.asarray(in_parts(sums, jnp.asarray(-20), 365))
    expected = [[sums[way, parts[345 : 345 + 365] == part].sum(axis=0) for part in range(48)] for way in range(2)]
    np.testing.assert_allclose(rolled, expected, rtol=1e-5)
    few = np.asarray(in_parts(sums[:, :30], 350, 365))  # a series shorter than a season
    assert np.flatnonzero(few[0, :, 0]).tolist() == sorted(set(parts[350 + 365 : 380 + 365].tolist()))
    np.testing.assert_allclose(few.sum(axis=1), sums[:, :30].sum(axis=1), rtol=1e-5)
    assert in_cycles(jnp.ones((30, 2)), 365).shape == (1, 30, 2)
    series = jnp.arange(14.0).reshape(7, 2)
    np.testing.assert_array_equal(in_cycles(series, 3).reshape(9, 2)[:7], series)
    np.testing.assert_array_equal(part_at(jnp.arange(5), 1), 0)


def test_corrected_moments_go_to_the_ways_by_their_shares_and_are_as_wide_as_the_errors():
    ways = jnp.asarray([[[3.0, jnp.nan]], [[5.0, 7.0]]])
    check = GapCheck(jnp.asarray([[0.5, 0.5], [0.25, 0.0]]), jnp.asarray([2.0, 0.5]), jnp.asarray([[1.5, 1.0]]), ways)
    mean, variance, sure = check.corrected(jnp.asarray([[1.0, 2.0]]), jnp.asarray([[4.0, 8.0]]))
    np.testing.assert_allclose(mean, [[3.0, 2.0]])
    np.testing.assert_allclose(variance, [[12.0, 4.0]])
    np.testing.assert_allclose(sure, [[4.0, 4.0]])


def test_a_record_unlike_training_is_filled_by_lines_and_one_like_it_by_the_model(fitted):
    truth = waves(6, 50, seed=4)
    levels = 3.0 * np.random.default_rng(5).standard_normal((6, 1, CHANNELS))
    errors = {}
    for name, data in (("as before", truth), ("elsewhere", 0.1 * truth + levels)):
        series = SeriesSet.from_arrays(list(_dropped(data)))
        for checked in (True, False):
            found = np.stack([p.mean for p in prediction.impute(fitted, series, self_check=checked)])
            errors[name, checked] = np.abs(found - data)[:, 10:40, 2].mean()
    assert errors["elsewhere", True] < 0.4 * errors["elsewhere", False]
    assert errors["as before", True] < 1.1 * errors["as before", False]


def test_sensors_that_came_apart_widen_the_gaps(fitted):
    truth = waves(6, 50, seed=4)
    apart = truth + 0.8 * np.random.default_rng(5).standard_normal((6, 1, CHANNELS))
    widths = {}
    for name, data in (("as before", truth), ("apart", apart)):
        series = SeriesSet.from_arrays(list(_dropped(data)))
        checked, plain = (list(prediction.impute(fitted, series, self_check=c)) for c in (None, False))
        widths[name] = np.mean([c.std[15:35, 2] / p.std[15:35, 2] for c, p in zip(checked, plain, strict=True)])
    assert widths["apart"] > 1.3
    assert 0.7 < widths["as before"] < 1.2


def test_what_the_model_says_of_known_values_does_not_know_them(fitted):
    series = SeriesSet.from_arrays(list(_dropped(waves(2, 50, seed=4) + 2.0)))
    checked, plain = (list(prediction.impute(fitted, series, self_check=c, reconstruct=True)) for c in (True, False))
    for one, other in zip(checked, plain, strict=True):
        np.testing.assert_allclose(one.mean[one.observed], other.mean[one.observed], rtol=1e-5, atol=1e-6)
        assert np.abs(one.mean - other.mean)[~one.observed].max() > 0.01


def test_quantiles_and_paths_have_the_checked_width(fitted):
    apart = waves(1, 50, seed=4) + 0.8 * np.random.default_rng(5).standard_normal((1, 1, CHANNELS))
    series = SeriesSet.from_arrays(list(_dropped(apart)))
    found = next(prediction.impute(fitted, series, quantiles=(0.05, 0.95), samples=4000))
    width = found.quantiles[15:35, 2, 1] - found.quantiles[15:35, 2, 0]
    np.testing.assert_allclose(width, 2 * 1.6448536 * found.std[15:35, 2], rtol=1e-3)
    np.testing.assert_allclose(found.samples[:, 15:35, 2].std(axis=0), found.std[15:35, 2], rtol=0.08)
    np.testing.assert_allclose(found.samples[:, 15:35, 2].mean(axis=0), found.mean[15:35, 2], atol=0.1)


def test_padding_has_no_say(fitted):
    """Series of several lengths are filled up to a common one; what is said of each is as if it were alone."""
    long, short = _dropped(waves(2, 64, seed=6))
    both = SeriesSet.from_arrays([long, short[:57]])
    alone = SeriesSet.from_arrays([short[:57]])
    _, second = prediction.impute(fitted, both)
    (only,) = prediction.impute(fitted, alone)
    np.testing.assert_allclose(second.mean, only.mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(second.std, only.std, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_series_in_pieces_is_checked_piece_by_piece(fitted, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers.STEPS_AT_ONCE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers._NUMBERS_AT_ONCE", 1)
    jax.clear_caches()
    truth = waves(1, 128, seed=6)
    truth[:, 64:] += 0.8 * np.random.default_rng(5).standard_normal((1, 1, CHANNELS))
    truth[:, 10:20, 2] = truth[:, 90:100, 2] = np.nan
    series = SeriesSet.from_arrays(list(truth))
    parts = list(prediction.impute(fitted, series))
    plain = list(prediction.impute(fitted, series, self_check=False))
    assert [p.start for p in parts] == [0, 64]
    wider = [
        np.nanmean(np.where(c.std > 0, c.std / np.where(p.std > 0, p.std, 1), np.nan))
        for c, p in zip(parts, plain, strict=True)
    ]
    assert wider[0] < 1.1 < wider[1]


def test_large_data_are_checked_only_when_asked(fitted, monkeypatch):
    series = SeriesSet.from_arrays([np.zeros((50, CHANNELS))])
    assert prediction.is_checked(fitted.model, series)
    monkeypatch.setattr("svae_cli.prediction.self_check.CHECKED_VALUES", 499)
    assert not prediction.is_checked(fitted.model, series)
    assert prediction.is_checked(fitted.model, series, asked=True)
