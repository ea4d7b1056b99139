"""Season memory in training: found where it helps, left out where it cannot."""

import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.training.fit import fit
from svae_cli.training.plan import make_plan

pytestmark = pytest.mark.usefixtures("relaxed_promotion")
SHAPES = np.random.default_rng(3).standard_normal((12, 4))
ASKED = Settings(latent_dim=3, em_steps=5, linear_steps=20, epochs=2, recognition="linear", decoder="linear")


def periodic(count=12, steps=96):
    """Each channel repeats a shape of its own, no two alike: more shapes than the states can hold."""
    rng = np.random.default_rng(1)
    time = np.arange(steps)[None, :] + rng.integers(12, size=(count, 1))
    common = 3 * np.cos(2 * np.pi * time / 12)[..., None]
    return SeriesSet.from_arrays(list(common + SHAPES[time % 12] + 0.1 * rng.standard_normal((count, steps, 4))))


@pytest.mark.slow
def test_a_season_is_found_and_makes_better_predictions():
    states = [list(fit(periodic(), ASKED.changed(season=season)))[-1].state for season in (None, 0)]
    assert [s.plan.settings.season for s in states] == [12, 0]
    assert "12 steps" in states[0].plan.choices["season"]
    assert [s.best.season is None for s in states] == [False, True]
    errors = [-s.best_score for s in states]
    assert errors[0] < 0.5 * errors[1]
    assert errors[0] < 0.1  # of standardised values whose noise is 0.04


def test_a_season_that_is_asked_for_may_be_longer_than_windows_but_not_half_a_series():
    plan = make_plan(periodic(), ASKED.changed(season=40))
    assert (plan.settings.window, plan.settings.season, plan.windows.margin) == (48, 40, 120)
    with pytest.raises(UsageError, match="less than two cycles"):
        make_plan(periodic(), ASKED.changed(season=60))
    narrow = make_plan(periodic(), ASKED.changed(season=12, window=20))
    assert (narrow.settings.season, narrow.windows.margin) == (12, 36)


@pytest.mark.parametrize("changes", [{"likelihood": "student-t"}, {"posterior": "tcn"}, {"objective": "elbo"}])
def test_no_season_where_it_cannot_be_used(changes):
    assert make_plan(periodic(), ASKED.changed(**changes)).settings.season == 0


def weekly(steps=600):
    """A shape of 60 steps that is of another size in the last of five cycles, and drifts from each to the next."""
    rng, time = np.random.default_rng(4), np.arange(steps)
    size = np.where(time // 12 % 5 == 4, 0.3, 1.0)[:, None] * SHAPES[time % 12]
    drift = np.cumsum(0.3 * rng.standard_normal((steps // 12, 12, 4)), axis=0).reshape(steps, 4)
    drift -= drift.mean(axis=0)
    return SeriesSet.from_arrays([2 * size + 0.4 * drift + 0.1 * rng.standard_normal((steps, 4))])


@pytest.mark.slow
def test_a_season_longer_than_windows_and_one_within_it_are_both_remembered():
    asked = ASKED.changed(window=30, split="time", season=60, short_season=12)
    state = list(fit(weekly(), asked))[-1].state
    assert (state.best.season.period, state.best.season.within.period) == (60, 12)
    alone = list(fit(weekly(), asked.changed(short_season=0)))[-1].state
    assert state.best_score > 0.9 * alone.best_score  # scores are negative
    assert np.isfinite(state.best_score)
