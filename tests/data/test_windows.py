"""Windows: what is read, and that reading ahead changes nothing."""

import numpy as np

from svae_cli.data import windows
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.windows import Prefetched, WindowReader


def reader() -> WindowReader:
    rng = np.random.default_rng(0)
    data = SeriesSet.from_arrays([rng.normal(size=(n, 2)) for n in (40, 25)])
    return WindowReader(data, Scaler.identity(2), length=10, dtype=np.dtype("f4"))


def test_batches_read_ahead_are_those_of_their_steps(monkeypatch):
    held = Prefetched(reader(), seed=1, count=4)
    monkeypatch.setattr(windows, "_IN_MEMORY", 0)
    assert not reader().in_memory
    ahead = Prefetched(reader(), seed=1, count=4)
    for step in (0, 1, 2, 7, 8, 3):  # in order, after a jump and after a resumption
        np.testing.assert_array_equal(ahead.of_step(step).values, held.of_step(step).values)
