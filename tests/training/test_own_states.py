"""States of their own: what is zero stays zero, and they are chosen where shared ones are lost."""

import jax
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.windows import WindowReader
from svae_cli.errors import UsageError
from svae_cli.training.dynamics_update import _structured_weights
from svae_cli.training.em import em_step
from svae_cli.training.fit import fit
from svae_cli.training.objective import log_evidence
from svae_cli.training.optimism import optimism
from svae_cli.training.own_start import own_start
from svae_cli.training.states_choice import choose_plan
from svae_cli.training.structure import Structure

pytestmark = pytest.mark.usefixtures("relaxed_promotion")
QUICK = Settings(window=40, batch_size=8, em_steps=8, linear_steps=6, epochs=2, transform="none", lags=0)


def walks(steps=120, width=3, seed=0):
    """Random walks whose steps are correlated, and nothing else."""
    steps = np.random.default_rng(seed).normal(size=(steps, width)) @ (np.eye(width) + 0.5)
    return np.cumsum(steps, axis=0)


def climbs(steps=150, seed=0):
    """Walks that leave the range that they were in, each at its own time."""
    return walks(steps, seed=seed) + 0.5 * np.cumsum(np.arange(steps)[:, None] > [30, 60, 90], axis=0)


def echoes(steps=120):
    """A wave that nobody can foresee in the first channel, and one and two steps later in the others."""
    noise = np.random.default_rng(1).normal(size=(steps + 2, 1))
    wave = np.cumsum(0.1 * noise, axis=0) + noise
    return np.concatenate([wave[2:], wave[1:-1], wave[:-2]], axis=1) + 0.01 * np.random.default_rng(2).normal(
        size=(steps, 3)
    )


@pytest.fixture(scope="module")
def windows():
    values = walks()
    values[np.random.default_rng(3).random(values.shape) < 0.2] = np.nan
    data = SeriesSet.from_arrays([values])
    return WindowReader(data, Scaler.measure(data), length=40, dtype=np.dtype(np.float64)).draw(0, 0, 12)


def held(model):
    """Entries that are to be zero."""
    free = Structure.own(len(model.decoder.loadings))
    dynamics = model.dynamics
    pairs = (dynamics.transition, free.transition), (dynamics.noise_cov.matrix, free.noise)
    return [np.asarray(a)[~mask] for a, mask in (*pairs, (model.decoder.loadings, free.loadings))]


def test_structure_of_two_channels():
    free = Structure.own(2)
    assert free.transition.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]] * 2
    pull = free.pull(np.array([1.0, 4.0, 9.0, 16.0]))
    np.testing.assert_allclose(pull, np.diag([100, 25, 0, 0]))
    assert free.noise.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert free.loadings.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]


def test_em_climbs_and_keeps_each_channel_to_itself(windows):
    arrays = windows.values, windows.observed, windows.inputs
    evidence = jax.jit(lambda m: jax.vmap(log_evidence, in_axes=(None, 0, 0, 0))(m, *arrays).sum())
    model, trace = own_start(windows), []
    for _ in range(8):
        trace.append(float(evidence(model)))
        model = em_step(model, windows, batch_size=6, structure=Structure.own(3))
    # What draws levels to ones that last may cost a trace of likelihood, as the weak prior of the M-step does.
    assert all(b > a - 1e-3 * abs(a) for a, b in zip(trace[:-1], trace[1:], strict=True))
    assert trace[-1] > trace[0] + 10
    assert all(np.abs(zero).max() < 1e-12 for zero in held(model))
    noise = np.asarray(model.dynamics.noise_cov.matrix)[:3, :3]
    assert (noise - np.diag(np.diag(noise)) > 0).sum() == 6  # what moves levels at the same step is shared


def test_weights_are_those_of_generalised_least_squares(windows):
    """Against the dense equations of all rows at once, a column for every free number, a row for every pull."""
    rng, free, like = np.random.default_rng(5), Structure.own(3), own_start(windows).dynamics
    then, now = rng.normal(size=(50, 7)), rng.normal(size=(50, 6))
    found = _structured_weights(then.T @ then, now.T @ then, like, free)
    row, column = np.nonzero(np.concatenate([free.transition, np.ones((6, 1), bool)], axis=1))
    pull = np.pad(free.pull(np.diag(np.asarray(like.noise_cov.matrix))), ((0, 0), (0, 1)))[row, column]
    design = np.zeros((50, 6, len(row)))
    design[:, row, np.arange(len(row))] = then[:, column]
    root = np.linalg.cholesky(np.linalg.inv(np.asarray(like.noise_cov.matrix))).T
    design = np.concatenate([(root @ design).reshape(-1, len(row)), np.diag(np.sqrt(pull))])
    numbers = np.linalg.lstsq(design, np.concatenate([(now @ root.T).ravel(), np.sqrt(pull)]), rcond=None)[0]
    np.testing.assert_allclose(found[row, column], numbers, rtol=1e-7, atol=1e-9)
    assert np.count_nonzero(found) == len(row)


def test_levels_of_few_steps_last_and_those_of_many_return_as_they_do():
    """A level that keeps 0.7 of itself a step."""
    rng, found = np.random.default_rng(7), []
    noise = rng.normal(size=(2000, 2))
    values = np.zeros_like(noise)
    for t in range(1, len(values)):
        values[t] = 0.7 * values[t - 1] + noise[t]
    for steps in (30, 2000):
        reader = WindowReader(SeriesSet.from_arrays([values[:steps]]), Scaler.identity(2), length=30, dtype="f8")
        batch = reader.spread(100)
        model = own_start(batch)
        for _ in range(60):
            model = em_step(model, batch, batch_size=len(batch), structure=Structure.own(2))
        found.append(np.abs(np.linalg.eigvals(np.asarray(model.dynamics.matrix))).max())
    assert found[0] > 0.85
    assert found[1] == pytest.approx(0.7, abs=0.08)


def test_training_keeps_each_channel_to_itself():
    *_, last = fit(SeriesSet.from_arrays([walks()]), QUICK.changed(states="own", unit_roots=False))
    assert last.state.plan.settings.latent_dim == 6
    for model in (last.state.model, last.state.best):
        assert all(np.abs(zero).max() < 1e-6 for zero in held(model))
    assert last.state.plan.optimism == optimism(latent_dim=2, n_channels=1, values=sum(last.state.plan.data.lengths))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "expected"), [(climbs(seed=2), "own"), (echoes(), "shared")], ids=["climbs", "echoes"]
)
def test_channels_share_states_where_that_predicts_better(values, expected):
    plan = choose_plan(SeriesSet.from_arrays([values]), QUICK)
    assert plan.settings.states == expected
    assert plan.choices["states"].startswith(expected)
    assert ("residual_chains" in plan.choices) <= (expected == "shared")


@pytest.mark.parametrize("changes", [{"latent_dim": 4}, {"states": "shared"}, {"objective": "elbo"}])
def test_nothing_is_tried_where_something_else_is_asked_for(changes):
    plan = choose_plan(SeriesSet.from_arrays([walks()]), QUICK.changed(**changes))
    assert plan.settings.states == "shared"
    assert "states" not in plan.choices


@pytest.mark.parametrize("changes", [{"latent_dim": 4}, {"objective": "elbo"}, {"start": "random"}])
def test_own_states_do_not_go_with_everything(changes):
    with pytest.raises(UsageError):
        choose_plan(SeriesSet.from_arrays([walks()]), QUICK.changed(states="own", **changes))
