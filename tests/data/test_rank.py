"""The rank of what lasts: known for simulated systems."""

import numpy as np
import pytest

from svae_cli.data.rank import signal_rank
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet


def noisy_walks(rng, rank, width, gaps=0.0):
    states = np.zeros((8, 400, rank))
    for t in range(1, 400):
        states[:, t] = 0.9 * states[:, t - 1] + rng.standard_normal((8, rank))
    values = states @ np.linalg.qr(rng.standard_normal((width, rank)))[0].T + rng.standard_normal((8, 400, width))
    values[rng.random(values.shape) < gaps] = np.nan
    return SeriesSet.from_arrays(list(values))


@pytest.mark.parametrize("gaps", [0.0, 0.4])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_rank_of_states_below_white_noise_is_found(rank, gaps):
    data = noisy_walks(np.random.default_rng(rank), rank, 20, gaps)
    assert signal_rank(data, Scaler.measure(data)) == rank


def test_white_noise_has_rank_0():
    data = SeriesSet.from_arrays([np.random.default_rng(0).standard_normal((2000, 30))])
    assert signal_rank(data, Scaler.measure(data)) == 0
