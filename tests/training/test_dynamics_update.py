"""Closed-form updates of the dynamics: their statistics, their fixed point, and training with them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from svae_cli.config import Settings
from svae_cli.data.series import SeriesSet
from svae_cli.data.windows import Batch
from svae_cli.errors import UsageError
from svae_cli.files.checkpoint import load_checkpoint, save_checkpoint
from svae_cli.inference import LinearGaussianPrior, Potential, smooth
from svae_cli.models.build import linear_model
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.posteriors import Chain, ChainPosterior
from svae_cli.models.posteriors.recurrent import PathPosterior
from svae_cli.training import dynamics_update
from svae_cli.training.dynamics_update import (
    ClosedFormDynamics,
    DynamicsStatistics,
    Moments,
    dynamics_statistics,
    fitted_dynamics,
    moments,
    predicted_statistics,
)
from svae_cli.training.em import em_step
from svae_cli.training.fit import fit
from svae_cli.training.objective import log_evidence

pytestmark = pytest.mark.usefixtures("relaxed_promotion")
QUICK = Settings(
    latent_dim=2, window=16, batch_size=8, em_steps=1, linear_steps=2, epochs=6, hidden=(4,), recognition="linear",
    decoder="linear", precision="float64", prior_update="closed-form",
)  # fmt: skip


def turning(angle: float = 0.4, noise: float = 0.2, offset: float = 0.0) -> Any:
    """A linear-Gaussian model of two states that turn and three channels."""
    return linear_model(
        transition=0.9 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]),
        noise_cov=noise * np.eye(2),
        loadings=np.array([[1.0, 0.0], [0.5, 1.0], [-1.0, 0.5]]),
        offset=np.full(3, offset),
        noise_variance=np.array([0.1, 0.3, 0.2]),
        n_inputs=0,
        stable=False,
        dtype=np.dtype(np.float64),
    )


def turned_series(count: int, steps: int, seed: int = 0) -> np.ndarray:
    """Values (series, time, channel) of ``turning``, in NumPy."""
    model, rng = turning(), np.random.default_rng(seed)
    a, c = np.asarray(model.dynamics.matrix), np.asarray(model.decoder.loadings)
    x, values = rng.normal(size=(count, 2)), []
    for _ in range(steps):
        values.append(x @ c.T + rng.normal(size=(count, 3)) * np.sqrt([0.1, 0.3, 0.2]))
        x = x @ a.T + np.sqrt(0.2) * rng.normal(size=(count, 2))
    return np.stack(values, axis=1)


@pytest.fixture(scope="module")
def prior():
    rng = np.random.default_rng(1)
    return LinearGaussianPrior.from_moments(
        initial_mean=rng.normal(size=2),
        initial_cov=np.array([[1.0, 0.3], [0.3, 0.5]]),
        dynamics=np.array([[0.8, -0.5], [0.4, 0.7]]),
        bias=rng.normal(size=2),
        noise_cov=np.array([[0.3, -0.1], [-0.1, 0.2]]),
    )


def test_moments_of_message_passing_chains_and_paths_are_the_same(prior):
    steps = 6
    silent = Potential(jnp.zeros((steps, 2, 2)), jnp.zeros((steps, 2)))
    by_messages = moments(smooth(prior, silent))
    chain = ChainPosterior.of(Chain.of_prior(prior, steps))
    by_steps = moments(chain)
    for a, b in zip(jax.tree.leaves(by_messages), jax.tree.leaves(by_steps), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    paths: Any = PathPosterior(
        chain.sample(jr.key(0), 200_000),
        chain.means,
        chain.covariances,
        jnp.zeros(()),
        drawer=None,  # type: ignore[arg-type]
    )
    for a, b in zip(jax.tree.leaves(moments(paths)), jax.tree.leaves(by_steps), strict=True):
        np.testing.assert_allclose(a, b, atol=0.03)


def random_dynamics(rng: np.random.Generator, *, stable: bool = False) -> Dynamics:
    transition = rng.normal(size=(3, 3))
    return Dynamics.from_moments(
        initial_mean=rng.normal(size=3),
        initial_cov=0.5 * np.eye(3),
        transition=0.8 * transition / np.linalg.norm(transition, ord=2),
        bias=rng.normal(size=3),
        input_matrix=rng.normal(size=(3, 2)),
        noise_cov=0.2 * np.eye(3) + 0.1,
        dtype=np.dtype(np.float64),
        stable=stable,
    )


def path_statistics(dynamics: Dynamics, steps: int, seed: int) -> DynamicsStatistics:
    """Of one sampled path whose states are known, with random inputs."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(steps, 2))
    a, b, d = (np.asarray(m) for m in (dynamics.matrix, dynamics.input_matrix, dynamics.bias))
    factor = np.linalg.cholesky(np.asarray(dynamics.noise_cov.matrix))
    states = [rng.normal(size=3)]
    for u in inputs[:-1]:
        states.append(a @ states[-1] + b @ u + d + factor @ rng.normal(size=3))
    x = jnp.asarray(np.stack(states))
    pairs = lambda p, q: p[:, :, None] * q[:, None, :]  # noqa: E731
    found = dynamics_statistics(Moments(x, pairs(x, x), pairs(x[1:], x[:-1])), jnp.asarray(inputs), jnp.asarray(steps))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)


def test_known_states_give_back_their_dynamics_and_inputs():
    truth = random_dynamics(np.random.default_rng(2))
    found = fitted_dynamics(path_statistics(truth, 20_000, 3), truth)
    for name in ("transition", "bias", "input_matrix"):
        np.testing.assert_allclose(getattr(found, name), getattr(truth, name), atol=0.03)
    np.testing.assert_allclose(found.noise_cov.matrix, truth.noise_cov.matrix, atol=0.01)


def test_what_dynamics_predict_gives_them_back():
    rng = np.random.default_rng(4)
    dynamics, other = random_dynamics(rng), random_dynamics(rng)
    found = fitted_dynamics(predicted_statistics(dynamics, path_statistics(other, 500, 5)), dynamics)
    assert np.abs(np.asarray(other.transition) - np.asarray(dynamics.transition)).max() > 0.1
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(dynamics), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_stable_dynamics_stay_so_and_their_noise_is_that_of_the_matrix_in_use():
    rng = np.random.default_rng(6)
    growing = eqx.tree_at(lambda d: d.transition, random_dynamics(rng), jnp.diag(jnp.asarray([1.02, 0.5, 0.2])))
    statistics = path_statistics(growing, 60, 7)
    free, held = (fitted_dynamics(statistics, random_dynamics(rng, stable=s)) for s in (False, True))
    assert np.linalg.norm(free.matrix, ord=2) > 1.001
    assert np.linalg.norm(held.transition, ord=2) <= 1 + 1e-12
    assert np.trace(held.noise_cov.matrix) > np.trace(free.noise_cov.matrix)


class Still:
    """An optimiser that moves nothing."""

    steps = 60

    def start(self, model):
        return ()

    def step(self, model, arrays, step):
        return model, arrays, 0.0


def test_steps_on_the_same_batch_climb_to_where_em_of_the_dynamics_ends():
    values = turned_series(24, 30)
    batch = Batch(values, np.ones(values.shape, bool), np.zeros((24, 30, 0)), values[:, :0], np.full(24, 30))
    none_hidden = np.zeros(values.shape, bool)
    evidence = jax.jit(
        lambda m: jnp.sum(jax.vmap(log_evidence, (None, 0, 0, 0))(m, values, batch.observed, batch.inputs))
    )
    begin = model = turning(angle=0.1, noise=0.6)
    learner = ClosedFormDynamics(Still(), lambda step: (batch, none_hidden, 1), latent_dim=2, n_inputs=0, seed=0)
    arrays = learner.start(model)
    for step in range(learner.steps):
        model, arrays, _ = learner.step(model, arrays, step)
    whole = begin
    for _ in range(80):
        whole = eqx.tree_at(lambda m: m.dynamics, begin, em_step(whole, batch, batch_size=24).dynamics)
    gain = float(evidence(whole) - evidence(begin))
    assert gain > 20
    assert float(evidence(model) - evidence(begin)) > 0.98 * gain
    np.testing.assert_allclose(model.dynamics.matrix, whole.dynamics.matrix, atol=0.02)


@pytest.mark.parametrize("posterior", ["svae", pytest.param("rnn-ar", marks=pytest.mark.slow)])
def test_training_with_it_goes_on_from_a_checkpoint_exactly(tmp_path, posterior):
    data = SeriesSet.from_arrays(list(turned_series(16, 16)))
    asked = QUICK.changed(posterior=posterior)
    progress = list(fit(data, asked))
    state = progress[-1].state
    assert state.plan.settings.objective == "elbo"
    full = [p.state for p in progress if p.state.stage == "full"]
    assert np.all(np.asarray(full[0].model.dynamics.transition) != np.asarray(state.model.dynamics.transition))
    middle = full[len(full) // 2]
    save_checkpoint(tmp_path / "m.ckpt", middle, asked)
    again = list(fit(data, asked, state=load_checkpoint(tmp_path / "m.ckpt", data, asked, valid=None)))[-1].state
    for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(again.model), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_the_gradient_leaves_dynamics_alone_but_not_the_rest():
    data = SeriesSet.from_arrays(list(turned_series(16, 16)))
    states = [p.state for p in fit(data, QUICK) if p.state.stage == "full"]
    adam = states[-1].optimizer["inner"]
    moved = {"/".join(map(str, path)) for path, leaf in jax.tree_util.tree_flatten_with_path(adam)[0] if np.ndim(leaf)}
    assert any("decoder" in name for name in moved)
    assert not any("dynamics" in name for name in moved)


@pytest.mark.parametrize("lost", [0, 2])
def test_a_batch_whose_statistics_are_not_finite_is_left_out(lost, monkeypatch):
    true, calls, begun = dynamics_update._summed, [], []

    def failing(*args, **options):
        calls.append(len(calls))
        found = true(*args, **options)
        return {name: a * np.nan for name, a in found.items()} if calls[-1] == lost else found

    monkeypatch.setattr(dynamics_update, "_summed", failing)
    start = dynamics_update.predicted_statistics
    monkeypatch.setattr(dynamics_update, "predicted_statistics", lambda *a: begun.append(calls[-1]) or start(*a))
    progress = list(fit(SeriesSet.from_arrays(list(turned_series(16, 16))), QUICK))
    assert [(p.report.stage, p.report.step) for p in progress if p.report.warning] == [("full", lost + 1)]
    assert begun == [1 if lost == 0 else 0]  # what was learned before is begun with, not one batch
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(progress[-1].state.model) if np.ndim(leaf))


@pytest.mark.parametrize("changes", [{"objective": "predictive"}, {"season": 12}, {"residual_chains": "on"}])
def test_what_does_not_go_with_it_is_refused(changes):
    with pytest.raises(UsageError, match="objective"):
        Settings(prior_update="closed-form", **changes)
