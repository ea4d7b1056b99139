"""What decides which model is best."""

import numpy as np

from svae_cli.training.validation import _score


def test_a_gain_in_long_gaps_does_not_pay_for_a_loss_in_single_ones():
    counts = np.array([10.0, 100.0, 0.0])
    before = _score(-counts * [0.10, 1.0, 0.0], counts, by_crps=True)
    after = _score(-counts * [0.15, 0.9, 0.0], counts, by_crps=True)
    assert after < before
    np.testing.assert_allclose(before, -np.sqrt(0.1))


def test_counts_are_judged_by_their_mean_log_probability():
    assert _score(np.array([-30.0, -10.0]), np.array([10.0, 10.0]), by_crps=False) == -2.0


def test_nothing_hidden_decides_nothing():
    assert _score(np.zeros(2), np.zeros(2), by_crps=True) == 0.0
