"""The first look through the data says what is odd about them."""

import numpy as np
import pytest

from svae_cli.data.series import SeriesSet
from svae_cli.files.survey import survey


def panel(sizes):
    """Series of 30 steps that move by these amounts in the first channel, and all alike in the second."""
    shape = np.sin(np.arange(30.0))
    return SeriesSet.from_arrays([np.stack([1e3 + size * shape, shape], axis=1) for size in sizes])


@pytest.mark.parametrize(
    ("sizes", "odd"),
    [
        (np.logspace(0, 5, 40), True),
        (np.logspace(0, 1.5, 40), False),
        ([*np.ones(39), 1e6], False),  # one odd series is none of the others' business
        ([1.0, 1e3, 1e6], False),
    ],
)
def test_series_that_move_by_very_different_amounts_are_told(sizes, odd):
    data = panel(sizes)
    found = survey(data)
    assert found.uneven == ((0,) if odd else ())
    said = [text for text in found.warnings(data.channels) if "100 times" in text]
    assert len(said) == odd
    assert not odd or "channel_0:" in said[0]


def test_what_multiplies_by_as_much_in_small_series_as_in_large_ones_is_even():
    """Training counts it from zero."""
    shape = np.sin(np.arange(30.0))[:, None]
    for even, series in (
        (True, [size * (2 + shape) for size in np.logspace(0, 5, 40)]),
        (False, [1e6 + size * shape for size in np.logspace(0, 5, 40)]),
        (False, [size * (2 + shape) - 3 for size in np.logspace(0, 5, 40)]),
    ):
        assert survey(SeriesSet.from_arrays(series)).uneven == (() if even else (0,))


def test_constant_and_empty_channels_move_by_nothing():
    values = np.full((12, 8, 2), np.nan)
    values[..., 0] = 5.0
    found = survey(SeriesSet.from_arrays(list(values)))
    assert found.uneven == ()
    assert len(found.warnings(("a", "b"))) == 2
