"""The laws of hiding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svae_cli.data.gaps import hide
from svae_cli.errors import UsageError

PATTERNS = ("point", "window", "block", "channel", "tail", "mixed")
WHOLE_STEPS = ("window", "block", "tail")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PATTERNS),
    st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(1, 6)),
    st.floats(0, 0.99),
    st.integers(0, 10_000),
)
def test_only_observed_values_are_hidden_and_equal_seeds_agree(pattern, shape, rate, seed):
    observed = np.random.default_rng(seed).random(shape) < 0.7
    hidden = hide(observed, pattern, rate, np.random.default_rng(seed))
    assert hidden.shape == shape
    assert hidden.dtype == bool
    assert not (hidden & ~observed).any()
    np.testing.assert_array_equal(hidden, hide(observed, pattern, rate, np.random.default_rng(seed)))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("length", [100, 60])
def test_the_rate_holds_on_average_and_padding_does_not_count(pattern, rate, length):
    observed = np.zeros((400, 100, 10), bool)
    observed[:, :length] = True
    hidden = hide(observed, pattern, rate, np.random.default_rng(0))
    np.testing.assert_allclose(hidden.sum() / observed.sum(), rate, atol=0.01)


@pytest.mark.parametrize("pattern", WHOLE_STEPS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_runs_are_contiguous_take_all_channels_and_leave_a_step(pattern, steps):
    hidden = hide(np.ones((200, steps, 3), bool), pattern, 0.4, np.random.default_rng(1))
    assert (hidden == hidden[..., :1]).all()
    run = hidden[..., 0]
    np.testing.assert_array_equal(run.sum(axis=1), min(max(round(0.4 * steps), 1), steps - 1))
    starts = np.diff(run, axis=1, prepend=False) & run
    assert (starts.sum(axis=1) <= 1).all()
    if pattern == "tail" and steps > 1:
        assert run[:, -1].all()


def test_windows_start_everywhere_equally():
    first = hide(np.ones((8000, 10, 1), bool), "window", 0.3, np.random.default_rng(2))[..., 0].argmax(axis=1)
    shares = np.bincount(first, minlength=8) / 8000
    np.testing.assert_allclose(shares, 1 / 8, atol=5 * np.sqrt(0.11 / 8000))


def test_channel_gaps_take_some_channels_each_over_one_run():
    hidden = hide(np.ones((100, 40, 10), bool), "channel", 0.2, np.random.default_rng(3))
    np.testing.assert_array_equal(hidden.any(axis=1).sum(axis=1), 4)
    np.testing.assert_array_equal(hidden.sum(axis=1).max(axis=1), 20)
    starts = np.diff(hidden, axis=1, prepend=False) & hidden
    assert (starts.sum(axis=1) <= 1).all()
    assert len(np.unique(hidden.any(axis=1), axis=0)) > 30


def test_mixed_draws_every_pattern():
    hidden = hide(np.ones((200, 40, 5), bool), "mixed", 0.3, np.random.default_rng(4))
    whole = (hidden == hidden[..., :1]).all(axis=(1, 2))
    tail = whole & hidden[:, -1, 0]
    scattered = (np.abs(np.diff(hidden, axis=1)).sum(axis=(1, 2))) > 20
    kinds = [tail.sum(), (whole & ~tail).sum(), scattered.sum(), (~whole & ~scattered).sum()]
    assert sum(kinds) == 200
    assert min(kinds) > 20


def test_one_series_may_come_without_a_batch_axis():
    observed = np.random.default_rng(0).random((30, 4)) < 0.8
    for pattern in PATTERNS:
        alone = hide(observed, pattern, 0.3, np.random.default_rng(5))
        batch = hide(observed[None], pattern, 0.3, np.random.default_rng(5))
        np.testing.assert_array_equal(alone, batch[0])


def test_nothing_hidden_when_nothing_is_asked_or_there():
    rng = np.random.default_rng(0)
    assert not hide(np.ones((3, 5, 2), bool), "none", 0.5, rng).any()
    assert not hide(np.ones((3, 5, 2), bool), "point", 0.0, rng).any()
    for pattern in PATTERNS:
        assert not hide(np.zeros((3, 5, 2), bool), pattern, 0.5, rng).any()
        assert hide(np.zeros((0, 5, 2), bool), pattern, 0.5, rng).shape == (0, 5, 2)


def test_unknown_patterns_and_rates_are_refused():
    with pytest.raises(UsageError, match="unknown gap pattern 'holes'"):
        hide(np.ones((3, 5, 2), bool), "holes", 0.5, np.random.default_rng(0))
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="expected 0 up to, not including, 1"):
            hide(np.ones((3, 5, 2), bool), "point", rate, np.random.default_rng(0))
