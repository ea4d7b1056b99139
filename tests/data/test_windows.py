"""Windows: what is read, and that reading ahead changes nothing."""

import numpy as np
import pytest

from svae_cli.data import windows
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.windows import Prefetched, WindowReader


def reader() -> WindowReader:
    rng = np.random.default_rng(0)
    data = SeriesSet.from_arrays([rng.normal(size=(n, 2)) for n in (40, 25)])
    return WindowReader(data, Scaler.identity(2), length=10, dtype=np.dtype("f4"))


def test_batches_read_ahead_are_those_of_their_steps(monkeypatch):
    held = reader()
    monkeypatch.setattr(windows, "_IN_MEMORY", 0)
    from_file = reader()
    assert held.in_memory
    assert not from_file.in_memory
    ahead = Prefetched(lambda step: from_file.draw(1, step, 4))
    for step in (0, 1, 2, 7, 8, 3):  # in order, after a jump and after a resumption
        np.testing.assert_array_equal(ahead.of_step(step).values, held.draw(1, step, 4).values)


def test_what_goes_wrong_while_reading_ahead_is_raised_where_it_is_asked_for():
    def make(step: int) -> int:
        if step == 1:
            raise OSError("the file is gone")
        return step

    ahead = Prefetched(make)
    assert ahead.of_step(0) == 0
    with pytest.raises(OSError, match="the file is gone"):
        ahead.of_step(1)
