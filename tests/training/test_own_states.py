"""States of their own: what is zero stays zero, and they are chosen where shared ones are lost."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.windows import WindowReader
from svae_cli.errors import UsageError
from svae_cli.files.checkpoint import load_checkpoint, save_checkpoint
from svae_cli.training import states_choice
from svae_cli.training.dynamics_update import _structured_weights
from svae_cli.training.em import em_step
from svae_cli.training.fit import fit
from svae_cli.training.linear_start import linear_start
from svae_cli.training.objective import log_evidence
from svae_cli.training.optimism import optimism
from svae_cli.training.optimizer import linear_optimizer
from svae_cli.training.own_start import own_start
from svae_cli.training.plan import make_plan
from svae_cli.training.starts import full_from
from svae_cli.training.states_choice import with_own_states
from svae_cli.training.structure import Structure
from svae_cli.training.validation import Validation

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
    found = _structured_weights(then.T @ then, now.T @ then, like, free, 3.0)
    row, column = np.nonzero(np.concatenate([free.transition, np.ones((6, 1), bool)], axis=1))
    pull = np.pad(3.0 * free.pull(np.diag(np.asarray(like.noise_cov.matrix))), ((0, 0), (0, 1)))[row, column]
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
    assert found[0] > 0.95  # 0.86 without what draws it there
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
    stages = []
    for progress in fit(SeriesSet.from_arrays([values]), QUICK):
        plan = progress.state.plan
        stages.append(progress.report.stage)
        assert (plan.settings.states == "auto") == stages[-1].startswith("em")
    assert list(dict.fromkeys(stages)) == ["em", "em-own", "linear", "full"]
    assert plan.settings.states == expected
    assert plan.choices["states"].startswith(expected)


def test_own_states_leave_nothing_that_would_last():
    shared = make_plan(SeriesSet.from_arrays([walks()]), QUICK)
    assert shared.settings.residual_chains == "on"
    assert "residual_chains" in shared.choices
    own = with_own_states(shared, "own: why")
    assert (own.settings.states, own.settings.residual_chains, own.settings.latent_dim) == ("own", "off", 6)
    assert own.sizes.latent_dim == 6
    assert "residual_chains" not in own.choices
    assert own.choices["states"] == "own: why"


def test_a_model_whose_predictions_are_lost_is_not_chosen(monkeypatch):
    plan = make_plan(SeriesSet.from_arrays([walks()]), QUICK)
    shared, own = linear_start(plan.start_windows, (), latent_dim=plan.sizes.latent_dim), own_start(plan.start_windows)
    assert states_choice.choose_states(plan, shared, None)[1] is shared
    for errors, expected in (((np.nan, 1.0), own), ((1.0, np.nan), shared), ((1.0, 0.95), shared), ((1.0, 0.85), own)):
        scores = iter(errors)
        monkeypatch.setattr(states_choice, "validate", lambda *_, **__: Validation(0.0, -next(scores), 0.9))  # noqa: B023
        decided, model = states_choice.choose_states(plan, shared, own)
        assert model is expected
        assert decided.settings.states == ("own" if expected is own else "shared")


def test_a_checkpoint_has_what_was_set_aside_and_the_answer(tmp_path):
    data, path = SeriesSet.from_arrays([walks()]), tmp_path / "c.ckpt"
    state = next(p.state for p in fit(data, QUICK.changed(em_steps=1)) if p.report.stage == "em-own")
    own = with_own_states(state.plan, "own: said before")
    decided = replace(state, plan=own, stage="linear", aside=None, best=full_from(own, state.model))
    decided = replace(decided, optimizer=linear_optimizer(own).start(state.model))
    for written in (state, decided):
        save_checkpoint(path, written, QUICK.changed(em_steps=1))
        found = load_checkpoint(path, data, QUICK.changed(em_steps=1), valid=None)
        assert (found.plan.settings, found.plan.choices) == (written.plan.settings, written.plan.choices)
        for a, b in zip(
            *(jax.tree.leaves((s.model, s.aside, s.best, s.optimizer)) for s in (found, written)), strict=True
        ):
            assert np.array_equal(a, b)


def test_own_states_are_not_tried_where_time_is_short(monkeypatch):
    monkeypatch.setattr("svae_cli.training.fit._TIME_TO_ASK", 0.0)
    training = fit(SeriesSet.from_arrays([walks()]), QUICK.changed(em_steps=1, time_limit=1000.0))
    found = next(progress for progress in training if progress.report.stage != "em")
    assert found.report.stage == "linear"
    assert found.state.plan.settings.states == "shared"
    assert "too little time" in found.state.plan.choices["states"]


@pytest.mark.parametrize(
    "changes", [{"latent_dim": 4}, {"states": "shared"}, {"objective": "elbo"}, {"residual_chains": "off"}]
)
def test_nothing_is_tried_where_something_else_is_asked_for(changes):
    plan = make_plan(SeriesSet.from_arrays([walks()]), QUICK.changed(**changes))
    assert plan.settings.states == "shared"
    assert "states" not in plan.choices


@pytest.mark.parametrize(
    ("values", "asked"),
    [(walks(), "auto"), (walks(width=1), "shared"), (walks(width=14), "shared"), (walks(40_000), "shared")],
    ids=["few", "one channel", "many channels", "many values"],
)
def test_only_few_values_of_few_channels_are_asked(values, asked):
    assert make_plan(SeriesSet.from_arrays([values]), QUICK).settings.states == asked


@pytest.mark.parametrize(("swing", "asked"), [(0.0, "auto"), (3.0, "shared")])
def test_records_with_a_season_are_not_asked(swing, asked):
    values = np.random.default_rng(4).normal(size=(400, 3)) + swing * np.sin(np.pi * np.arange(400) / 6)[:, None]
    assert make_plan(SeriesSet.from_arrays([values]), QUICK).settings.states == asked


@pytest.mark.parametrize(("missing", "asked"), [(0.02, "auto"), (0.2, "shared")])
def test_only_records_of_which_next_to_nothing_is_missing_are_asked(missing, asked):
    values = walks(400)
    values[np.random.default_rng(0).random(values.shape) < missing] = np.nan
    assert make_plan(SeriesSet.from_arrays([values]), QUICK).settings.states == asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latent_dim": 4}, "--latent-dim is 4"),
        ({"objective": "elbo"}, "--objective elbo"),
        ({"start": "random"}, "--start random"),
        ({"likelihood": "student-t"}, "student-t"),
    ],
)
def test_own_states_do_not_go_with_everything(changes, said):
    with pytest.raises(UsageError, match=said):
        make_plan(SeriesSet.from_arrays([walks()]), QUICK.changed(states="own", **changes))
