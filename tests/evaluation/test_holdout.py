"""Holding values back: what the model may see, what it is asked, and that the truth is the truth."""

import numpy as np
import pytest

from svae_cli import holdout
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError
from svae_cli.holdout import MODEL, Reference, choose_origins, hide_in_windows
from svae_cli.results import Prediction

NAN = np.nan


@pytest.fixture
def ragged():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 3)) + 10 * i for i, n in enumerate((40, 25, 60))]
    for values in arrays:
        values[rng.random(values.shape) < 0.2] = NAN
    return SeriesSet.from_arrays(arrays)


def reference(*methods, season=None):
    return Reference(methods, np.zeros(3), np.ones(3), season)


class Spy:
    """A model that fills gaps with -1 and remembers what it saw."""

    def __init__(self):
        self.seen = []

    def impute(self, data):
        for i, key in enumerate(data.keys):
            values = data.read(i)
            self.seen.append(values)
            yield Prediction(key, np.where(np.isnan(values), -1.0, values), np.full(values.shape, 0.5))

    def forecast(self, data, horizon):
        for i, key in enumerate(data.keys):
            values = data.read(i)
            self.seen.append(values)
            ahead = np.arange(horizon)[:, None] + 100.0 * i + np.zeros(3)
            yield Prediction(key, ahead, np.ones((horizon, 3)))


@pytest.mark.parametrize("pattern", ["point", "block", "channel", "tail"])
def test_what_is_scored_was_observed_and_is_not_shown(ragged, pattern):
    spy = Spy()
    held = holdout.hold_out_gaps(ragged, spy.impute, reference("last"), pattern=pattern, rate=0.3, window=20)
    hidden_values = []
    for i, shown in enumerate(spy.seen):
        original = ragged.read(i)
        np.testing.assert_array_equal(shown[~np.isnan(shown)], original[~np.isnan(shown)])
        hidden = ~np.isnan(original) & np.isnan(shown)
        assert hidden.any()
        hidden_values.append(original[hidden])
    np.testing.assert_array_equal(held.truth, np.concatenate(hidden_values))
    np.testing.assert_array_equal(held.predictions[MODEL].mean, -1.0)
    np.testing.assert_array_equal(held.predictions[MODEL].std, 0.5)
    assert len(held.channel) == len(held.truth) == len(held.predictions["last"].mean)


def test_channels_are_those_of_the_values(ragged):
    marked = SeriesSet.from_arrays([np.tile(np.arange(3.0), (n, 1)) for n in ragged.lengths])
    held = holdout.hold_out_gaps(marked, Spy().impute, reference("mean"), pattern="point", rate=0.3, window=20)
    np.testing.assert_array_equal(held.truth, held.channel)
    np.testing.assert_allclose(held.predictions["mean"].mean, held.channel)
    first = held.at(held.channel == 2)
    assert (first.truth == 2).all()
    assert len(first.predictions["mean"].std) == len(first.truth)


def test_equal_seeds_hide_the_same_and_repeats_differ(ragged):
    def shown(**changes):
        spy = Spy()
        holdout.hold_out_gaps(ragged, spy.impute, reference(), pattern="block", rate=0.3, window=20, **changes)
        return np.concatenate([np.isnan(v) for v in spy.seen])

    np.testing.assert_array_equal(shown(), shown())
    assert (shown() != shown(repeat=1)).any()
    assert (shown() != shown(seed=1)).any()


def test_every_window_of_a_long_series_has_its_own_gap():
    hidden = hide_in_windows(np.ones((95, 2), bool), "block", 0.25, 20, np.random.default_rng(0))
    np.testing.assert_array_equal([hidden[s : s + 20, 0].sum() for s in range(0, 95, 20)], [5, 5, 5, 5, 4])
    tail = hide_in_windows(np.ones((95, 2), bool), "tail", 0.25, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(np.flatnonzero(tail[:, 1]), np.arange(90, 95))


def test_hiding_nothing_is_an_error(ragged):
    with pytest.raises(DataError, match="hides none"):
        holdout.hold_out_gaps(ragged, Spy().impute, reference(), pattern="point", rate=1e-9, window=20)


def test_a_target_is_scored_where_the_data_have_gaps(ragged):
    full = SeriesSet.from_arrays([np.full((n, 3), float(n)) for n in ragged.lengths])
    spy = Spy()
    held = holdout.hold_out_target(ragged, full, spy.impute, reference("linear"))
    gaps = [np.isnan(ragged.read(i)) for i in range(3)]
    np.testing.assert_array_equal(held.truth, np.concatenate([np.full(g.sum(), float(len(g))) for g in gaps]))
    np.testing.assert_array_equal(np.isnan(spy.seen[1]), gaps[1])
    with pytest.raises(DataError, match="no missing value"):
        holdout.hold_out_target(full, full, spy.impute, reference())
    with pytest.raises(DataError, match="lengths differ"):
        holdout.hold_out_target(ragged.subset([0, 2]), full, spy.impute, reference())


def test_baseline_intervals_hold_in_the_gaps_they_were_made_for():
    rng = np.random.default_rng(1)
    walks = SeriesSet.from_arrays([np.cumsum(rng.normal(size=(200, 3)), axis=0) for _ in range(20)])
    held = holdout.hold_out_gaps(walks, Spy().impute, reference("linear", "last"), pattern="block", rate=0.3, window=50)
    for method in ("linear", "last"):
        predicted = held.predictions[method]
        inside = np.abs(held.truth - predicted.mean) < 1.645 * predicted.std
        assert 0.87 < inside.mean() < 0.97  # gaps drawn twice may merge, which makes the spread a little wide


def test_forecasts_see_the_past_only_and_are_compared_with_the_future(ragged):
    spy = Spy()
    origins = choose_origins(ragged.lengths, 5, 3)
    held = holdout.hold_out_future(
        ragged, spy.forecast, reference("last", "drift"), origins=origins, horizon=5, context=12
    )
    truths, means = [], []
    for j, (i, start) in enumerate(zip(origins.series, origins.starts, strict=True)):
        values = ragged.read(i)
        np.testing.assert_array_equal(spy.seen[j], values[max(0, start - 12) : start])
        ahead = values[start : start + 5]
        truths.append(ahead[~np.isnan(ahead)])
        means.append((np.arange(5)[:, None] + 100.0 * j + np.zeros(3))[~np.isnan(ahead)])
    np.testing.assert_array_equal(held.truth, np.concatenate(truths))
    np.testing.assert_array_equal(held.predictions[MODEL].mean, np.concatenate(means))
    assert set(held.predictions) == {MODEL, "last", "drift"}


@pytest.mark.parametrize(
    ("lengths", "horizon", "count", "expected"),
    [
        ([1000], 10, 5, [(0, 800), (0, 848), (0, 895), (0, 942), (0, 990)]),
        ([100], 24, 10, [(0, s) for s in (50, 53, 56, 59, 62, 64, 67, 70, 73, 76)]),
        ([10, 100], 24, 1, [(1, 76)]),
        ([48], 24, 4, [(0, 24)]),
    ],
)
def test_origins_are_spread_over_the_end(lengths, horizon, count, expected):
    origins = choose_origins(lengths, horizon, count)
    assert list(zip(origins.series, origins.starts, strict=True)) == expected


def test_a_horizon_too_long_is_refused_with_one_that_fits():
    with pytest.raises(DataError, match="horizon of 30 does not fit") as caught:
        choose_origins([40, 20], 30, 3)
    assert caught.value.hint == "--horizon 20"


def test_nothing_is_asked_before_the_begin(ragged):
    begins = (30, 10, 50)
    spy = Spy()
    holdout.hold_out_gaps(ragged, spy.impute, reference(), pattern="block", rate=0.5, window=20, begins=begins)
    for i, shown in enumerate(spy.seen):
        original, hidden = ragged.read(i), ~np.isnan(ragged.read(i)) & np.isnan(shown)
        np.testing.assert_array_equal(shown[: begins[i]], original[: begins[i]])
        assert hidden[begins[i] :].any()
    origins = choose_origins(ragged.lengths, 5, 3, begins=begins)
    assert all(start >= begins[i] for i, start in zip(origins.series, origins.starts, strict=True))
    assert set(origins.series) == {0, 1, 2}
    assert set(choose_origins(ragged.lengths, 12, 3, begins=begins).series) == {1}


def test_joined_parts_keep_their_order(ragged):
    def part(repeat):
        return holdout.hold_out_gaps(
            ragged, Spy().impute, reference("mean"), pattern="point", rate=0.2, window=20, repeat=repeat
        )

    both = holdout.join_held([part(0), part(1)])
    np.testing.assert_array_equal(both.truth, np.concatenate([part(0).truth, part(1).truth]))
    np.testing.assert_array_equal(
        both.predictions["mean"].std, np.concatenate([part(r).predictions["mean"].std for r in (0, 1)])
    )
