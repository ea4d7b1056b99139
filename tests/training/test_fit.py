"""The training loop: it improves, it repeats, it resumes, it refuses."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError, NumericalError
from svae_cli.files.checkpoint import load_checkpoint, save_checkpoint
from svae_cli.training import fit as training
from svae_cli.training.fit import fit, initial_state
from svae_cli.training.optimizer import linear_optimizer, masked_optimizer
from svae_cli.training.plan import make_plan

pytestmark = pytest.mark.usefixtures("relaxed_promotion")
QUICK = Settings(
    latent_dim=3, window=24, batch_size=8, em_steps=2, linear_steps=40, epochs=2, hidden=(8,), patience=100
)


def waves(count=12, steps=60, width=3, seed=0, missing=0.1):
    rng = np.random.default_rng(seed)
    step = np.arange(steps)[None, :, None]
    phase = rng.uniform(0, 2 * np.pi, size=(count, 1, width))
    values = np.sin(2 * np.pi * step / 12 + phase) + 0.1 * rng.normal(size=(count, steps, width))
    values[rng.random(values.shape) < missing] = np.nan
    return SeriesSet.from_arrays(list(5 + 3 * values))


def run(data, settings, state=None):
    return list(fit(data, settings, state=state))


def leaves(state):
    return [np.asarray(a) for a in jax.tree.leaves((state.model, state.best, state.optimizer))]


@pytest.fixture(scope="module")
def whole():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return run(waves(), QUICK)


def test_stages_follow_each_other_and_the_best_is_kept(whole):
    assert list(dict.fromkeys(p.report.stage for p in whole)) == ["em", "linear", "full"]
    last = whole[-1].state
    scores = [r["score"] for r in last.history if r["stage"] == "full"]
    assert last.best_score == max(scores)
    assert last.history[-1]["stage"] == "full"
    assert all(np.isfinite(r["elbo"]) for r in last.history)
    assert 1 < last.plan.optimism < 1.1
    assert float(last.best.optimism) == float(last.model.optimism) == pytest.approx(last.plan.optimism, rel=1e-6)


def test_the_full_model_is_never_worse_than_its_linear_start(whole):
    history = [r for r in whole[-1].state.history if r["stage"] == "full"]
    assert whole[-1].state.best_score >= history[0]["score"]


def test_same_seed_same_bytes(whole):
    again = run(waves(), QUICK)
    for a, b in zip(leaves(whole[-1].state), leaves(again[-1].state), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("stop", [0, 20, 43])
def test_going_on_from_any_state_is_exact(whole, stop):
    rest = run(waves(), QUICK, state=whole[stop].state)
    for a, b in zip(leaves(whole[-1].state), leaves(rest[-1].state), strict=True):
        assert a.tobytes() == b.tobytes()
    assert [r["score"] for r in rest[-1].state.history] == [r["score"] for r in whole[-1].state.history]


@pytest.mark.parametrize("stop", [0, 1, 20, -2])
def test_a_checkpoint_of_any_stage_is_read_as_it_was_written(whole, stop, tmp_path):
    state = whole[stop].state
    save_checkpoint(tmp_path / "c.ckpt", state, QUICK)
    found = load_checkpoint(tmp_path / "c.ckpt", waves(), QUICK, valid=None)
    assert (found.stage, found.step) == (state.stage, state.step)
    for a, b in zip(leaves(found), leaves(state), strict=True):
        assert a.tobytes() == b.tobytes()


def test_time_limit_leaves_the_best_model_so_far():
    """Where the plan alone took longer, that of one step."""
    (only,) = run(waves(), QUICK.changed(time_limit=1e-9))
    start = initial_state(make_plan(waves(), QUICK)).fitted.model.decoder.loadings
    found = only.state.fitted.model.decoder.loadings
    assert np.isfinite(found).all()
    assert np.abs(found - start).max() > 1e-3
    assert only.state.seconds > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "elbo", "kl_warmup": 5},
        {"recognition": "linear", "decoder": "linear", "stable": True},
        {"start": "random", "mask_pattern": "none", "objective": "elbo"},
        {"precision": "float64", "mask_pattern": "tail", "likelihood": "student-t"},
    ],
    ids=lambda c: ",".join(c),
)
def test_every_setting_trains(changes):
    last = run(waves(), QUICK.changed(**changes))[-1]
    assert last.report.stage == "full"
    assert np.isfinite(last.state.best_score)


@pytest.mark.parametrize(("kind", "expected"), [("counts", "poisson"), ("binary", "bernoulli")])
def test_counts_and_binary_values_choose_their_likelihood(kind, expected):
    rng = np.random.default_rng(0)
    rate = np.exp(np.sin(np.arange(50)[:, None] / 4 + np.arange(3)))
    draws = rng.poisson(rate, size=(12, 50, 3)) if kind == "counts" else rng.random((12, 50, 3)) < rate / 3
    state = run(SeriesSet.from_arrays(list(draws.astype(float))), QUICK)[-1].state
    assert state.plan.settings.likelihood == expected
    assert state.plan.choices["likelihood"].startswith(expected)
    assert np.array_equal(state.fitted.scaler.std, np.ones(3))


def test_skewed_channels_are_bent_where_noise_is_gaussian_and_of_unknown_size():
    skewed = np.exp(np.random.default_rng(3).normal(size=(12, 60, 3)) * [0.8, 0.8, 0.01])
    data = SeriesSet.from_arrays(list(skewed))
    plan = make_plan(data, QUICK)
    assert plan.settings.transform == "power"
    assert plan.scaler is plan.start_scaler
    assert plan.scaler.warp is not None
    assert plan.scaler.warp.bent.tolist() == [True, True, False]
    assert "2 of 3 channels" in plan.choices["transform"]
    again = make_plan(data, plan.settings)
    assert np.array_equal(again.scaler.warp.power, plan.scaler.warp.power)
    for changes in ({"transform": "none"}, {"noise": 0.1}, {"standardize": "none"}, {"likelihood": "student-t"}):
        other = make_plan(data, QUICK.changed(**changes))
        assert other.settings.transform == "none"
        assert other.start_scaler.warp is None


def test_ragged_series_and_a_long_one_are_cut_alike():
    rng = np.random.default_rng(0)
    data = SeriesSet.from_arrays([rng.normal(size=(n, 2)) for n in (5, 31, 80, 12)])
    plan = make_plan(data, QUICK)
    batch = plan.windows.draw(0, 0, 8)
    assert batch.values.shape == (8, 24, 2)
    assert np.all(batch.values[~batch.observed] == 0)
    assert plan.split["kind"] == "time"


def test_nothing_is_left_open_in_the_resolved_settings():
    settings = make_plan(waves(), Settings()).settings.to_json()
    assert [k for k, v in settings.items() if v is None or v == "auto" if k not in ("time_limit", "noise")] == []


def test_stretches_spread_over_a_long_series_are_held_out_and_no_window_crosses_them():
    values = np.arange(6000.0)[:, None] + np.zeros(2)
    plan = make_plan(SeriesSet.from_arrays([values]), QUICK)
    held = [part[1:] for part in plan.split["held_out"]]
    assert [stop - start for start, stop in held] == [120] * 5
    assert held[0] == [540, 660]
    assert held[-1] == [5340, 5460]
    assert sum(plan.data.lengths) == 5400
    seen = plan.scaler.to_data(plan.windows.draw(0, 0, 512).values)[..., 0]
    assert not any(((seen > start - 0.5) & (seen < stop - 0.5)).any() for start, stop in held)
    assert np.abs(np.diff(seen, axis=1) - 1).max() < 0.01


def test_validation_never_sees_training_steps():
    values = np.arange(100.0)[:, None] + np.zeros(2)
    data = SeriesSet.from_arrays([values])
    plan = make_plan(data, QUICK.changed(val_fraction=0.3))
    held = plan.scaler.to_data(plan.valid.values)[plan.valid.observed]
    assert held.min() > 69.99
    assert plan.data.lengths == (70,)


@pytest.mark.parametrize(("steps", "begins"), [(90, 84), (6000, 5940)])
def test_something_is_left_of_a_channel_that_begins_late(steps, begins):
    values = np.random.default_rng(0).normal(size=(steps, 3))
    values[:begins, 1] = np.nan
    if steps == 6000:
        values[5460:, 1], values[5400:5420, 1] = np.nan, 1.0  # seen in the last stretch alone
    plan = make_plan(SeriesSet.from_arrays([values]), QUICK)
    assert "every channel" in plan.choices["split"] or len(plan.split["held_out"]) == 5
    assert sum(plan.data.lengths) == 0.9 * steps
    assert any(np.isfinite(plan.data.read(i)[:, 1]).any() for i in range(len(plan.data)))


def test_a_series_that_alone_has_a_channel_is_learned_from():
    values = np.random.default_rng(0).normal(size=(12, 30, 2))
    first = make_plan(SeriesSet.from_arrays(list(values)), QUICK).split["held_out"]
    values[:, :, 1] = np.nan
    values[[int(key) for key in first], :, 1] = 1.0
    plan = make_plan(SeriesSet.from_arrays(list(values)), QUICK)
    assert set(plan.split["held_out"]) != set(first)
    assert len(plan.split["held_out"]) == len(first)


def test_a_channel_that_was_never_observed_is_named():
    values = np.random.default_rng(0).normal(size=(12, 30, 2))
    values[:, :, 1] = np.nan
    with pytest.raises(DataError, match="channel 'channel_1' has no observed value"):
        run(SeriesSet.from_arrays(list(values)), QUICK)


def test_too_little_data_is_refused():
    with pytest.raises(DataError, match="no series has 3 steps or more"):
        run(SeriesSet.from_arrays([np.zeros((2, 2))]), QUICK)


def test_a_linear_stage_that_leaves_the_finite_numbers_is_left_with_a_warning(monkeypatch):
    class Failing:
        steps = QUICK.linear_steps

        def __init__(self, plan):
            self._true = linear_optimizer(plan)
            self.start = self._true.start

        def step(self, model, arrays, step):
            model, arrays, value = self._true.step(model, arrays, step)
            return model, arrays, np.nan if step == 5 else value

    monkeypatch.setattr(training, "linear_optimizer", Failing)
    found = run(waves(), QUICK)
    warned = [p.report for p in found if p.report.warning]
    assert [(r.stage, r.step) for r in warned] == [("linear", 5)]
    assert "goes on from the best round" in warned[0].warning
    assert found[-1].report.stage == "full"
    assert np.isfinite(found[-1].state.best_score)


def test_a_linear_stage_whose_predictions_are_not_finite_is_left_with_its_best_round(monkeypatch):
    """Even if its likelihood, without float32's last digits, seems to rise."""
    true, rounds = training.validate, []

    def failing(model, *arguments, **options):
        found = true(model, *arguments, **options)
        rounds.append(found)
        return replace(found, elbo=1e3, score=np.nan) if len(rounds) == 4 else found

    monkeypatch.setattr(training, "validate", failing)
    found = run(waves(), QUICK)
    warned = [p.report for p in found if p.report.warning]
    assert [(r.stage, r.step) for r in warned] == [("linear", 6)]
    assert "predictions are not finite" in warned[0].warning
    assert found[-1].report.stage == "full"
    history = found[-1].state.history
    assert [record["best"] for record in history if not np.isfinite(record["score"])] == [False]
    lost = next(p.state for p in found if p.report.warning)
    resumed = run(waves(), QUICK, lost)[-1].state
    assert all(np.array_equal(a, b) for a, b in zip(leaves(found[-1].state), leaves(resumed), strict=True))


@pytest.mark.parametrize("lost", [(3,), tuple(range(2, 11)), tuple(range(2, 12))])
def test_a_batch_whose_objective_is_not_finite_is_left_out_and_ten_in_a_row_end_training(lost, monkeypatch):
    class Failing:
        def __init__(self, plan):
            self._true = masked_optimizer(plan)
            self.start, self.steps = self._true.start, self._true.steps

        def step(self, model, arrays, step):
            found = self._true.step(model, arrays, step)
            return (jax.tree.map(lambda a: a * np.nan, found[0]), found[1], np.nan) if step in lost else found

    monkeypatch.setattr(training, "masked_optimizer", Failing)
    found, error = [], ""
    try:
        found.extend(fit(waves(), QUICK.changed(epochs=8)))
    except NumericalError as raised:
        error = str(raised)
    warned = [p.report for p in found if p.report.warning]
    assert [(r.stage, r.step, r.train) for r in warned] == [("full", step + 1, None) for step in lost[:1]]
    assert all(np.isfinite(leaf).all() for leaf in leaves(found[-1].state) if leaf.dtype.kind == "f")
    if len(lost) < 10:
        assert found[-1].report.step == found[-1].report.steps > max(lost)
    else:
        assert "gradient became nan in step 12 of stage 'full', as in the 9 before" in error
    assert bool(error) == (len(lost) == 10)


@pytest.mark.slow
def test_residual_chains_are_used_where_the_states_are_few_and_help():
    rng = np.random.default_rng(1)
    own = np.cumsum(rng.standard_normal((1, 400, 30)), axis=1)
    asked = QUICK.changed(latent_dim=2, window=50, recognition="linear", decoder="linear", epochs=1, linear_steps=5)
    states = [initial_state(make_plan(SeriesSet.from_arrays(list(own)), asked.changed(residual_chains=kind), None))
              for kind in ("auto", "off")]  # fmt: skip
    assert "30 channels" in states[0].plan.choices["residual_chains"]
    found = [run(state.plan.data, state.plan.settings, state)[-1].state for state in states]
    assert [state.best.residual is None for state in found] == [False, True]
    scores = [state.history[-1]["score"] for state in found]
    assert scores[0] > 0.5 * scores[1]  # a score is minus an error
    few = make_plan(waves(), QUICK.changed(latent_dim=6), None)
    assert few.settings.residual_chains == "off"


@pytest.mark.parametrize("changes", [{"noise": 1e-9}, {"standardize": "none"}])
def test_given_noise_is_held_and_the_floor_of_learned_noise_is_in_the_channels_own_unit(changes):
    small = SeriesSet.from_arrays([1e-6 * waves().read(i) for i in range(12)])
    state = run(small, QUICK.changed(epochs=1, linear_steps=5, **changes))[-1].state
    noise = np.exp(0.5 * np.asarray(state.model.likelihood.log_variance)) * state.plan.scaler.std
    assert np.all(noise < 3e-6)
    if "noise" in changes:
        np.testing.assert_allclose(noise, changes["noise"], rtol=1e-4)
