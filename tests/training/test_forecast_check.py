"""Forecasts put to the test of known steps: shares of the simplest ways to go on, and widths."""

import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import prediction
from svae_cli.data.series import SeriesSet
from svae_cli.models.fitted import FittedModel
from svae_cli.models.lags import LagRegression
from svae_cli.prediction import pieces
from svae_cli.prediction.forecast_check import _out_of_sample, _ratio
from svae_cli.prediction.self_check import Errors
from tests.training.waves import (
    CHANNELS,
    check_forecast,
    in_model_units,
    loud_half,
    predicted,
    wave_model,
    waves,
    with_season,
)
from tests.training.ways_by_loops import smoothed_by_loops, ways_by_loops

pytestmark = pytest.mark.usefixtures("relaxed_promotion")


@pytest.fixture(scope="module")
def fitted(shared: Path) -> FittedModel:
    return wave_model(shared)


OFTEN = jnp.asarray(8.0)  # origins whose forecasts do not overlap


def _simplex(ways: int) -> list[np.ndarray]:
    return [np.array(s) / 10 for s in itertools.product(range(11), repeat=ways) if sum(s) <= 10]


def _regressed(
    filled: np.ndarray, origin: int, period: int | None, maps: np.ndarray, steps: int, longest: int
) -> np.ndarray:
    """Steps ahead, (step, channel), of maps from last values to next ones; what is before the record is its start.

    The range that they may not leave is that of what the longest map looks back on.
    """
    lags = maps.shape[1]
    past = [filled[t if t >= 0 else t % period if period else 0] for t in range(origin - longest, origin)]
    low, high = np.min(past, axis=0), np.max(past, axis=0)
    while len(past) < longest + steps:
        before = np.array(past[-lags:])
        following = before[-1] + np.einsum("lc,cla->ac", before - before[-1], maps)
        past += list(np.clip(following, 2 * low - high, 2 * high - low))
    return np.array(past[longest : longest + steps])


@pytest.mark.parametrize(("period", "regression", "optimism"), [(None, False, 1.0), (7, True, 1.4)])
def test_shares_and_ratio_are_those_of_known_steps_forecast_from_those_before(fitted, period, regression, optimism):
    model = fitted.model if period is None else with_season(fitted, period).model
    model = eqx.tree_at(lambda m: m.optimism, model, jnp.asarray(optimism, jnp.float32))
    rng = np.random.default_rng(8)
    maps = [rng.standard_normal((CHANNELS, lags, 4)).astype(np.float32) / 8 for lags in (30, 12)]  # 30: two origins
    if regression:
        learned = LagRegression(tuple(map(jnp.asarray, maps)), jnp.ones(2, jnp.float32))
        model = eqx.tree_at(lambda m: m.lags, model, learned, is_leaf=lambda x: x is None)
    raw = waves(1, 50, seed=3)[0] * 1.5
    raw[4:8, 2] = raw[30, 5] = np.nan
    values, observed, inputs = in_model_units(fitted, raw)
    observed = observed & (jnp.arange(50) < 43)[:, None]
    found = check_forecast(model, values, observed, inputs, start=jnp.asarray(43), horizon=10)
    own, gaps, apart = [], [], (43 - 10) // 14
    for origin in (33 - number * apart for number in range(8)):
        seen = observed & (jnp.arange(50) < origin)[:, None]
        mean, variance = (np.asarray(a, float)[origin : origin + 10] for a in predicted(model, values, seen, inputs))
        truth = np.where(observed, np.asarray(values, float), np.nan)
        ways = ways_by_loops(truth[:origin], period, 10) - mean
        own.append((truth[origin : origin + 10] - mean) / np.sqrt(variance))
        unknown = np.sqrt(variance / variance.max(axis=0))
        smooth = smoothed_by_loops(truth[:origin], period, 10) - mean
        says = [ways * unknown, ways[:1], smooth[None], ways[:1] * (1 - unknown) ** 2]
        if regression:
            filled = np.where(seen, values, predicted(model, values, seen, inputs)[0])
            says.insert(3, _regressed(filled, origin, period, maps[origin < 30], 10, 30)[None] - mean)
        # Ten more errors that are the model's alone: all else is away from it by as much.
        more = np.sqrt(optimism - 1) * own[-1]
        parts = [unknown] * len(ways) + [np.ones_like(unknown)] * (len(says) - 2) + [(1 - unknown) ** 2]
        gaps.append(np.concatenate([np.concatenate(says) / np.sqrt(variance), np.array(parts) * more], axis=1))
        own[-1] = np.concatenate([own[-1], more])
    own, gaps = np.array(own), np.nan_to_num(np.array(gaps))
    steps = ~np.isnan(own)
    asked = steps / steps[:, :10].sum(axis=1, keepdims=True)
    error = np.nan_to_num(own)
    far, near = slice(0, -1), slice(-1, None)

    def rest(shares, says, channels, error):
        return error[..., channels] - np.einsum("w,owtc->otc", shares, gaps[:, says][..., channels])

    def loss(shares, says, channels, error, centre):
        passes = 8 if says == far else 8 / 3
        grid = _simplex(len(shares))
        losses = [np.sum(asked[..., channels] * rest(other, says, channels, error) ** 2) for other in grid]
        pulls = np.einsum("otc,owtc->w", asked[..., channels], gaps[:, says][..., channels] ** 2)
        cost = (4 * pulls + passes * np.minimum(pulls, min(losses))) / (4 + passes)
        pull = [4 / passes * cost @ (other - centre) ** 2 for other in (*grid, shares)]
        losses.append(np.sum(asked[..., channels] * rest(shares, says, channels, error) ** 2))
        both = np.add(losses, pull)
        return both[-1], both.min(), grid[np.argmin(both[:-1])]

    def best(says, error, centre):
        return loss(centre, says, slice(None), error, centre)[2]

    def room(shares):  # what the says at all steps alike leave
        return 1 - shares[len(ways) : len(ways) + 2 + regression].sum(axis=0)

    first = np.zeros(gaps.shape[1] - 1)
    first[len(ways) + 1] = 0.3  # of smoothing, of 43 steps
    if regression:
        first[-1] = 0.7 * 0.4
    far_of_all = best(far, error, first)
    near_of_all = np.minimum(best(near, rest(far_of_all, far, slice(None), error), np.zeros(1)), room(far_of_all))
    ratios, parted, often = np.zeros((8, CHANNELS)), np.zeros((8, 10, CHANNELS)), 1 + 7 * apart / 10
    for channel in range(CHANNELS):
        only = slice(channel, channel + 1)
        chosen = np.asarray(found.shares[:, channel], float)
        taken, least, _ = loss(chosen[far], far, only, error, far_of_all)
        assert taken == pytest.approx(least, rel=1e-3)
        beside = np.zeros_like(error)
        beside[..., only] = rest(chosen[far], far, only, error)
        taken, least, wanted = loss(chosen[near], near, only, beside, near_of_all)
        assert taken == pytest.approx(least, rel=1e-3) or wanted > chosen[near] == pytest.approx(room(chosen))
        assert chosen[-1] <= room(chosen) + 1e-6
        left = error[..., channel] - np.einsum("w,owt->ot", chosen, gaps[..., channel])
        of_channel = (a[..., channel] for a in (error, gaps, asked))
        weight = _weights(*of_channel, chosen, often, again=len(ways))
        np.testing.assert_allclose(found.weight[:, channel], weight, rtol=2e-2, atol=2e-3)  # float32
        parted[..., channel] = _parted(gaps[:, :, :10, channel], chosen, weight)
        counted = np.sum(asked[:, :10, channel] * parted[..., channel], axis=1)
        ratios[:, channel] = _relative(np.sum(asked[..., channel] * left**2, axis=1), 1.0, counted)
    of_all = (4 * optimism + np.minimum(ratios, 9).mean(axis=1).sum()) / 12
    ratios = np.minimum(ratios, np.maximum(np.sort(ratios, axis=0)[3] * often / 4, 9))
    assert of_all > optimism
    own = [_drawn(mean, of_all) for mean in ratios.mean(axis=0)]
    expected = np.maximum(own, 1.0)
    np.testing.assert_allclose(found.ratio, expected, rtol=5e-3)  # float32
    if period is None:
        np.testing.assert_allclose(found.swing, np.ones((1, CHANNELS)), rtol=1e-6)
    else:
        left = (error - np.einsum("wc,owtc->otc", np.asarray(found.shares, float), gaps)) ** 2
        left = left[:, :10] + left[:, 10:]
        phase = (33 - apart * np.arange(8)[:, None] + np.arange(10) - 43) % period
        cycles = (7 * apart + 10) / period
        expected = _swing(left, parted, steps[:, :10], phase, period, cycles / 8)
        np.testing.assert_allclose(found.swing, expected, rtol=2e-2)
        assert np.ptp(found.swing, axis=0).max() > 0.05
    ways = ways_by_loops(np.where(observed, np.asarray(values, float), np.nan)[:43], period, 7)
    said = found.ways.beyond(jnp.zeros((7, CHANNELS)), jnp.arange(7))
    np.testing.assert_allclose(said, ways, rtol=1e-5, atol=1e-5)


def _weights(error, gaps, asked, shares, passes: float, again: int) -> np.ndarray:
    """Of one channel: shares, and what was right by itself, as neither the last say is nor the last value twice."""
    alone = [np.sum(asked * (error - gaps[:, way]) ** 2) / 8 for way in range(len(shares) - 1)]
    alone[0 if alone[again] < alone[0] else again] = np.inf
    right = 1 / np.array([*alone, np.inf, np.sum(asked * error**2) / 8])
    rest = 1 - shares[:-1].sum()
    given = np.array([*shares[:-1], min(shares[-1], rest), max(rest - shares[-1], 0)])
    return ((passes * given + 4 * right / right.sum()) / (passes + 4))[:-1]


def _drawn(mean: float, to: float) -> float:
    """Of eight passes, by four that had another mean; if they say less, by twelve, and geometrically."""
    return (4 * to + 8 * mean) / 12 if mean > to else (to**12 * max(mean, to / 1000) ** 8) ** (1 / 20)


def _relative(left: float, count: float, parted: float) -> np.ndarray:
    """What errors are relative to a promise, and on top of it; more than both is the promise's fault."""
    return np.where(left > count + parted, (left - parted) / count, left / (count + parted))


def _parted(gaps, shares, weight) -> np.ndarray:
    """Of one channel, by origin and step: half as much again as the variance of a lottery in which one way wins."""
    answer = np.einsum("w,owt->ot", shares, gaps)
    far = [w * (gaps[:, way] - answer) ** 2 for way, w in enumerate(weight)]
    return 1.5 * (np.sum(far, axis=0) + (1 - weight.sum()) * answer**2)


def _swing(left, parted, steps, phase, period: int, apart: float) -> np.ndarray:
    """By loops over phases, channels and origins; a forecast of 10 steps has 10 / period of them in each phase."""
    total, passes = np.zeros((2, period, CHANNELS))
    mean = [_median_by_phase(left[..., c], parted[..., c], steps[..., c], phase, period) for c in range(CHANNELS)]
    cap = [9 * max(median, 1) for median in mean]
    for part, channel, origin in itertools.product(range(period), range(CHANNELS), range(8)):
        at = steps[origin, :, channel] & (phase[origin] == part)
        if at.any():
            weight = apart * min(at.sum() / max(10 / period, 1), 1)
            errors = _relative(left[origin, at, channel].sum(), at.sum(), parted[origin, at, channel].sum())
            total[part, channel] += weight * min(errors, cap[channel])
            passes[part, channel] += weight
    relative = total / (total.sum(axis=0) / passes.sum(axis=0))
    of_all = (4 + relative.mean(axis=1)) / (4 + passes.mean(axis=1))
    own = (4 * of_all[:, None] + relative) / (4 + passes)
    return own / own.mean(axis=0)


def _median_by_phase(left, parted, steps, phase, period: int) -> float:
    sums = [
        [a[origin][steps[origin] & (phase[origin] == part)].sum() for a in (left, np.ones_like(left), parted)]
        for origin, part in itertools.product(range(8), range(period))
        if (steps[origin] & (phase[origin] == part)).any()
    ]
    return float(np.median([_relative(*each) for each in sums]))


def test_intervals_swing_with_the_season_as_errors_do(fitted):
    past, loud = loud_half(264, period=12)
    told = with_season(fitted, 12)
    series = SeriesSet.from_arrays([past[:235]])  # ends in the middle of a cycle
    found = next(prediction.forecast(told, series, horizon=24))
    widths = found.std / next(prediction.forecast(told, series, horizon=24, self_check=False)).std
    swings = widths[loud[235:259]].mean(axis=0) / widths[~loud[235:259]].mean(axis=0)
    assert np.all(np.delete(swings, 3) > 1.5)
    assert swings[3] < 0.8 * np.delete(swings, 3).min()


@pytest.mark.slow
def test_a_season_that_the_model_does_not_know_comes_back_in_the_forecast(fitted):
    rng = np.random.default_rng(7)
    season = 3 * rng.standard_normal((9, CHANNELS))
    whole = np.tile(season, (14, 1)) + 0.1 * rng.standard_normal((126, CHANNELS))
    series, later = SeriesSet.from_arrays([whole[:117]]), whole[117:]
    asked = {"horizon": 9, "quantiles": (0.5,), "samples": 500}
    told = with_season(fitted, 9)
    (checked,), (plain,) = (list(prediction.forecast(told, series, self_check=c, **asked)) for c in (None, False))
    assert np.abs(checked.mean - later).mean() < 0.5 * np.abs(plain.mean - later).mean()
    np.testing.assert_allclose(checked.quantiles[..., 0], checked.mean, atol=1e-4)
    np.testing.assert_allclose(checked.samples.mean(axis=0), checked.mean, atol=0.3 * checked.std.max())


def test_what_has_come_to_stay_is_not_taken_for_noise_at_the_first_steps(fitted):
    rng = np.random.default_rng(8)
    walk = np.cumsum(0.3 * rng.standard_normal((6, 90, CHANNELS)), axis=1)  # the model knows waves in noise
    series, later = SeriesSet.from_arrays(list(walk[:, :84])), walk[:, 84:]
    checked, plain = (list(prediction.forecast(fitted, series, horizon=6, self_check=c)) for c in (None, False))
    errors = [np.mean([np.abs(p.mean[0] - t[0]) for p, t in zip(a, later, strict=True)]) for a in (checked, plain)]
    assert errors[0] < 0.4 * errors[1]  # 0.5 by what the ways say far ahead


def test_of_a_model_that_is_right_forecasts_do_not_get_worse(fitted):
    truth = waves(6, 65, seed=4)
    series, later = SeriesSet.from_arrays(list(truth[:, :60])), truth[:, 60:]
    asked = (list(prediction.forecast(fitted, series, horizon=5, self_check=check)) for check in (None, False))
    checked, plain = (np.mean(np.abs(np.stack([f.mean for f in found]) - later)) for found in asked)
    assert checked < 1.02 * plain


def test_a_past_that_moved_more_than_training_widens_forecasts(fitted):
    truth = waves(6, 60, seed=4)
    shaken = truth + 1.5 * np.random.default_rng(5).standard_normal(truth.shape)
    widths = {}
    for name, data in (("as before", truth), ("shaken", shaken)):
        series = SeriesSet.from_arrays(list(data))
        checked, plain = (list(prediction.forecast(fitted, series, horizon=5, self_check=c)) for c in (None, False))
        widths[name] = np.mean([c.std / p.std for c, p in zip(checked, plain, strict=True)])
    assert widths["shaken"] > 1.3 * widths["as before"]


@pytest.fixture
def forgotten_after():
    """What was compiled with something in place of the program's own is not for the next test."""
    yield
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten_after")
@pytest.mark.parametrize(("parted", "closely"), [(True, 0.05), (False, 1e-3)])
def test_forecasts_of_a_series_in_pieces_are_checked_by_its_last_piece(fitted, monkeypatch, parted, closely):
    if not parted:  # from what the model says, which differs as it knows other cycles of the whole
        monkeypatch.setattr("svae_cli.prediction.disagreement._FARTHER", 0.0)
        jax.clear_caches()
    size = np.where(np.arange(60) % 12 < 6, 0.8, 0.1)
    truth = waves(1, 120, seed=6)
    truth[:, 60:] += size[:, None] * np.random.default_rng(5).standard_normal((1, 60, CHANNELS))
    fitted = with_season(fitted, 12)
    last, whole = (SeriesSet.from_arrays([truth[0, start:]]) for start in (120 - 64, 0))
    expected, unchecked = (next(prediction.forecast(fitted, last, horizon=12, self_check=c)) for c in (None, False))
    monkeypatch.setattr(pieces, "PIECE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers.STEPS_AT_ONCE", 64)
    monkeypatch.setattr("svae_cli.prediction.answers._NUMBERS_AT_ONCE", 1)
    jax.clear_caches()
    found, plain = (
        next(prediction.whole(prediction.forecast(fitted, whole, horizon=12, self_check=c))) for c in (None, False)
    )
    np.testing.assert_allclose(found.std / plain.std, expected.std / unchecked.std, rtol=closely)
    # Other ways pull in part from what the model says, too.
    pulled = (found.mean - plain.mean) - (expected.mean - unchecked.mean)
    np.testing.assert_array_less(np.abs(pulled), np.abs(plain.mean - unchecked.mean) + 0.005 * plain.std.max())
    assert np.abs(found.mean - plain.mean).max() > 0.1
    widths = found.std / plain.std
    assert (np.ptp(widths, axis=0) > 0.2).all()  # the swing begins where the forecast does


def test_one_broken_channel_does_not_decide_alone():
    squares = jnp.ones((8, 10)).at[:, 0].set(1000.0)
    of_all = (4 + 8 * (9 + 9) / 10) / 12
    found = _ratio(squares, jnp.ones((8, 10), bool), jnp.asarray(1.0), OFTEN, 1.0)
    np.testing.assert_allclose(found, [(4 * of_all + 8 * 1000) / 12, *[_drawn(1.0, of_all)] * 9], rtol=1e-6)
    asked = jnp.ones((8, 10), bool).at[:, 1].set(False)
    assert float(_ratio(squares, asked, jnp.asarray(1.0), OFTEN, 1.0)[1]) == pytest.approx(
        (4 + 8 * (9 + 8) / 9) / 12, rel=1e-6
    )


@pytest.mark.parametrize(("broken", "asked", "most"), [(4, 8, 9.0), (5, 8, 30.0), (4, 4, 9.0), (5, 5, 30.0)])
def test_a_channel_that_most_forecasts_missed_by_far_gets_intervals_that_say_so(broken, asked, most):
    squares = jnp.ones((8, 1)).at[:broken].set(jnp.linspace(40.0, 30.0, broken)[:, None])
    found = _ratio(squares, jnp.arange(8)[:, None] < asked, jnp.asarray(1.0), OFTEN, 1.0)
    of_all = (4 + 9 * broken + asked - broken) / (4 + asked)
    assert float(found[0]) == pytest.approx((4 * of_all + most * broken + asked - broken) / (4 + asked), rel=1e-6)
    once = _ratio(squares, jnp.arange(8)[:, None] < asked, jnp.asarray(1.0), jnp.asarray(1.1), 1.0)  # all overlap
    assert float(once[0]) == pytest.approx((4 * of_all + 9 * broken + asked - broken) / (4 + asked), rel=1e-6)


def test_a_regression_is_taken_for_as_wrong_as_where_it_did_not_learn():
    rng = np.random.default_rng(1)
    own, beyond = rng.standard_normal((20, 2)), rng.standard_normal((3, 20, 2))  # two ways, the second one a regression
    arrays = map(jnp.asarray, (own, np.ones_like(own), beyond))
    one = Errors.of(*arrays, jnp.ones((20, 2), bool), period=1)
    passes = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), one)
    shares = np.array([[0.2, 0.1], [0.5, 0.3], [0.1, 0.2]])
    left = jax.vmap(lambda errors: _out_of_sample(jnp.asarray(1.5), errors))(passes).in_all().left(jnp.asarray(shares))
    expected = np.sum((own - np.einsum("wc,wtc->tc", shares, beyond)) ** 2, axis=0)
    expected += 0.5 * shares[1] ** 2 * np.sum((own - beyond[1]) ** 2, axis=0)
    np.testing.assert_allclose(left, [expected, 2 * expected], rtol=1e-6)


def test_narrower_intervals_need_three_times_the_evidence_and_all_channels():
    asked, whole = jnp.ones((8, 4), bool), jnp.asarray(1.0)
    found = _ratio(jnp.full((8, 4), 0.5).at[:, 0].set(0.1), asked, whole, OFTEN, 1.0)
    of_all = _drawn((0.1 + 1.5) / 4, 1.0)
    np.testing.assert_allclose(found, [of_all] * 4, rtol=1e-6)
    doubted = _ratio(jnp.full((8, 4), 0.5), asked, whole, OFTEN, 1.4)
    np.testing.assert_allclose(doubted, _drawn(0.5, 1.4), rtol=1e-6)
    exact = _ratio(jnp.full((8, 4), 1e-9), asked, whole, OFTEN, 1.0)
    np.testing.assert_allclose(exact, 0.001**0.4, rtol=1e-5)  # not half of the promise, nor nothing
    np.testing.assert_allclose(_ratio(jnp.zeros((8, 4)), ~asked, whole, OFTEN, 1.3), 1.3, rtol=1e-6)
    mixed = _ratio(jnp.full((8, 4), 2.0).at[:, 0].set(0.1), asked, whole, OFTEN, 1.0)
    assert float(mixed[0]) == 1.0
    assert bool(jnp.all(mixed[1:] > 1.3))


def test_without_a_past_forecasts_stay_as_they_are(fitted):
    values, observed, inputs = in_model_units(fitted, waves(1, 50, seed=3)[0])
    start = {"start": jnp.asarray(43), "horizon": 10}
    seen = observed & (jnp.arange(50) < 43)[:, None]
    nothing = check_forecast(fitted.model, values, seen & False, inputs, **start)
    np.testing.assert_allclose(nothing.ratio, fitted.model.optimism, rtol=1e-6)
    mean, variance = predicted(fitted.model, values, seen & False, inputs)
    np.testing.assert_array_equal(nothing.corrected(mean, variance)[0], mean)


@pytest.mark.parametrize(("known", "regression"), [(0, False), (1, True), (2, False), (5, True)])
def test_a_series_of_next_to_nothing_has_next_to_no_say(fitted, known, regression):
    values, observed, inputs = in_model_units(fitted, 5 * waves(1, 60, seed=3)[0])
    seen, model = observed & (jnp.arange(60) < known)[:, None], fitted.model
    if regression:
        maps = LagRegression((jnp.ones((CHANNELS, 48, 24), jnp.float32),), jnp.ones(1, jnp.float32))
        model = eqx.tree_at(lambda m: m.lags, model, maps, is_leaf=lambda x: x is None)
    found = check_forecast(model, values, seen, inputs, start=jnp.asarray(known), horizon=50)
    smoothing = len(found.ways.table)
    assert float(jnp.max(found.shares[smoothing])) <= 0.31
    assert float(jnp.max(jnp.delete(found.shares[:-1], smoothing, axis=0))) <= 0.25
    plain = predicted(fitted.model, values, seen, inputs)
    mean, variance, _ = found.corrected(*plain)
    assert bool(jnp.all(jnp.isfinite(mean)) & jnp.all(jnp.isfinite(variance)))
    away = jnp.max(jnp.abs(found.ways.beyond(plain[0], jnp.arange(60) - known)), axis=0)
    smooth = jnp.where(
        found.ways.smooth.known, jnp.max(jnp.abs(found.ways.smooth.ahead - plain[0][known:][:50]), axis=0), 0
    )
    assert bool(jnp.all(jnp.abs(mean - plain[0])[known:] <= 0.25 * away[known:] + 0.31 * smooth + 1e-6))
