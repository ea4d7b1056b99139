"""Seasons of the checks: each channel repeats the one after which it changes less."""

import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.models.season import SeasonMemory
from svae_cli.prediction.continuations import Continuations
from svae_cli.prediction.gap_check import simple_ways
from svae_cli.prediction.own_season import OwnSeason

pytestmark = pytest.mark.usefixtures("relaxed_promotion")

_LONG, _SHORT = 12, 4


def _record(cycles: int = 5) -> np.ndarray:
    """One channel that repeats itself after 12 steps, one whose every 4 steps are those before and a little more."""
    step = np.arange(_LONG * cycles)
    long = np.random.default_rng(0).standard_normal(_LONG)[step % _LONG]
    return np.stack([long, np.array([0.0, 3.0, 1.0, -2.0])[step % _SHORT] + step // _SHORT * 0.5], axis=1)


def _season(record: np.ndarray, observed: np.ndarray) -> OwnSeason:
    memory = SeasonMemory.unknown(record.shape[1], _LONG, within=_SHORT)
    return OwnSeason.of(memory, jnp.asarray(np.nan_to_num(record)), jnp.asarray(observed))


def test_a_channel_has_the_season_after_which_it_changes_less():
    record = _record()
    seen = np.ones(record.shape, bool)
    assert _season(record, seen).shorter.tolist() == [False, True]
    early = seen & (np.arange(len(record)) < _LONG)[:, None]  # no two values are a long season apart
    assert _season(record, early).shorter.tolist() == [True, True]
    assert _season(record[:_LONG], seen[:_LONG]).shorter.tolist() == [True, True]
    assert OwnSeason.of(None, jnp.asarray(record), jnp.asarray(seen)).period is None
    alone = OwnSeason.of(SeasonMemory.unknown(2, _LONG), jnp.asarray(record), jnp.asarray(seen))
    assert (alone.period, alone.within) == (_LONG, None)


def test_forecasts_repeat_the_season_of_each_channel_as_far_as_it_drifts():
    record = _record()
    seen, origin = np.ones(record.shape, bool), len(record)
    ways = Continuations.of(jnp.asarray(record), jnp.asarray(seen), jnp.asarray(origin), _season(record, seen), 1)
    assert ways.table.shape == (3, _LONG, 2)
    slope = np.array([0.0, 0.5 / _SHORT])
    np.testing.assert_allclose(ways.table[0], record[-1] + slope * np.arange(1, _LONG + 1)[:, None], rtol=1e-5)
    for phase in range(_LONG):
        at = [[-_LONG * n + phase, -_SHORT * n + phase % _SHORT] for n in (1, 2, 3)]
        expected = np.array([[record[origin + a, d] + slope[d] * (phase - a) for d, a in enumerate(row)] for row in at])
        np.testing.assert_allclose(ways.table[1, phase], expected[0], rtol=1e-6)
        np.testing.assert_allclose(ways.table[2, phase], expected.mean(axis=0), rtol=1e-5)


def test_gaps_are_filled_from_the_season_of_each_channel():
    record = _record()
    seen = np.ones(record.shape, bool)
    seen[20:24] = False
    line = simple_ways(jnp.asarray(record), jnp.asarray(seen), _season(record, seen))[1]
    np.testing.assert_allclose(line[20:24, 0], record[20:24, 0], atol=1e-6)
    np.testing.assert_allclose(line[20:24, 1], (record[16:20, 1] + record[24:28, 1]) / 2, atol=1e-6)
