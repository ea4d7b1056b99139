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


def test_what_lies_around_windows_is_read_from_the_series_they_were_cut_from(monkeypatch):
    values = np.arange(80.0).reshape(40, 2)
    values[10, 0] = np.nan
    data = SeriesSet.from_arrays([values, values + 100]).between([10, 0], [30, 40]).subset([1, 0])
    for limit in (windows._IN_MEMORY, 0):
        monkeypatch.setattr(windows, "_IN_MEMORY", limit)
        scaler = Scaler.identity(2)
        found = WindowReader(data, scaler, length=8, dtype=np.dtype("f4"), margin=15).cut(*np.array([[0, 1], [12, 12]]))
        expected = np.full((2, 38, 2), np.nan)
        expected[0, 3:] = values[:35] + 100  # steps 12 to 19 are the window
        expected[1, :33] = values[7:]  # steps 22 to 29
        np.testing.assert_array_equal(found.around, expected)
        np.testing.assert_array_equal(found.values, [values[12:20] + 100, values[22:30]])
        assert found[slice(0, 1)].around.shape == (1, 38, 2)
