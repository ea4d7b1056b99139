"""EM and the closed-form start: they climb, and they find what is there."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.data.windows import WindowReader
from svae_cli.models.build import as_dtype, linear_model
from svae_cli.models.likelihoods import NOISE_FLOOR
from svae_cli.training.em import em_step
from svae_cli.training.linear_start import _pairs, fill_gaps, linear_start
from svae_cli.training.objective import log_evidence


def draw(rng, steps, model, count):
    """Series from a linear-Gaussian model, in NumPy."""
    a, q = np.asarray(model.dynamics.matrix), np.asarray(model.dynamics.noise_cov.matrix)
    c, r = np.asarray(model.decoder.loadings), np.exp(np.asarray(model.likelihood.log_variance))
    x = rng.normal(size=(count, len(a)))
    values = []
    for _ in range(steps):
        values.append(x @ c.T + rng.normal(size=(count, len(c))) * np.sqrt(r))
        x = x @ a.T + rng.multivariate_normal(np.zeros(len(a)), q, size=count)
    return np.stack(values, axis=1)


@pytest.fixture(scope="module")
def truth():
    turn = np.pi / 8
    return linear_model(
        transition=0.95 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]),
        noise_cov=0.2 * np.eye(2),
        loadings=np.array([[1.0, 0.0], [0.5, 1.0], [-1.0, 0.5]]),
        offset=np.zeros(3),
        noise_variance=np.array([0.1, 0.3, 0.2]),
        n_inputs=0,
        stable=False,
        dtype=np.dtype(np.float64),
    )


@pytest.fixture(scope="module")
def windows(truth):
    rng = np.random.default_rng(0)
    values = draw(rng, 40, truth, 48)
    values[rng.random(values.shape) < 0.2] = np.nan
    data = SeriesSet.from_arrays(list(values))
    return WindowReader(data, Scaler.identity(3), length=40, dtype=np.dtype(np.float64)).spread(48)


@jax.jit
def evidence(model, values, observed, inputs):
    return jnp.sum(jax.vmap(log_evidence, in_axes=(None, 0, 0, 0))(model, values, observed, inputs))


def test_em_never_lowers_the_likelihood_and_nears_the_truth(truth, windows):
    arrays = windows.values, windows.observed, windows.inputs
    model = linear_start(windows, (), latent_dim=2)
    trace = [float(evidence(model, *arrays))]
    for _ in range(12):
        model = em_step(model, windows, batch_size=16)
        trace.append(float(evidence(model, *arrays)))
    # The weak prior of the M-step may cost a trace of likelihood, far below the gain.
    assert all(b > a - 1e-4 * abs(a) for a, b in zip(trace[:-1], trace[1:], strict=True))
    assert trace[-1] > trace[0] + 100
    assert trace[-1] > float(evidence(truth, *arrays)) - 0.01 * windows.observed.sum()
    found = np.sort_complex(np.linalg.eigvals(np.asarray(model.dynamics.matrix)))
    exact = np.sort_complex(np.linalg.eigvals(np.asarray(truth.dynamics.matrix)))
    np.testing.assert_allclose(found, exact, atol=0.08)


def test_em_on_windows_that_are_alike_is_the_same_as_one_by_one(truth):
    values = draw(np.random.default_rng(1), 20, truth, 8)
    data = SeriesSet.from_arrays(list(values))
    windows = WindowReader(data, Scaler.identity(3), length=20, dtype=np.dtype(np.float64)).spread(8)
    assert windows.alike
    shared = em_step(truth, windows, batch_size=8)
    apart = em_step(truth, windows, batch_size=3)
    for a, b in zip(jax.tree.leaves(shared), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_padding_changes_nothing(truth):
    values = draw(np.random.default_rng(2), 20, truth, 6)
    padded = np.concatenate([values, np.full((6, 5, 3), np.nan)], axis=1)
    steps = []
    for arrays, length in ((values, 20), (padded[:, :20], 25)):
        reader = WindowReader(SeriesSet.from_arrays(list(arrays)), Scaler.identity(3), length=length, dtype="f8")
        steps.append(em_step(truth, reader.spread(6), batch_size=6))
    for a, b in zip(*map(jax.tree.leaves, steps), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_gradient_of_the_evidence(truth, windows):
    model = truth
    arrays = windows.values[0, :9], windows.observed[0, :9], windows.inputs[0, :9]

    @jax.jit
    def total(loadings, transition, log_diagonal):
        import equinox as eqx

        moved = eqx.tree_at(
            lambda m: (m.decoder.loadings, m.dynamics.transition, m.dynamics.noise_cov.log_diagonal),
            model,
            (loadings, transition, log_diagonal),
        )
        return log_evidence(moved, *arrays)

    at = model.decoder.loadings, model.dynamics.transition, model.dynamics.noise_cov.log_diagonal
    check_grads(total, at, order=1, modes=["rev"], rtol=1e-5, atol=1e-5)


def test_seasonal_start_rotates_at_the_period():
    rng = np.random.default_rng(4)
    step = np.arange(3000)
    values = np.stack([np.sin(2 * np.pi * step / 12), np.cos(2 * np.pi * step / 12 + 1)], axis=1)
    values += 0.1 * rng.normal(size=values.shape)
    reader = WindowReader(SeriesSet.from_arrays([values]), Scaler.identity(2), length=48, dtype="f8")
    model = linear_start(reader.draw(0, 0, 32), (12.0,), latent_dim=4)
    angles = np.abs(np.angle(np.linalg.eigvals(np.asarray(model.dynamics.matrix))))
    assert np.min(np.abs(angles - 2 * np.pi / 12)) < 1e-3


@pytest.mark.parametrize(("window", "dim"), [(1, 1), (2, 1), (3, 8), (6, 8)])
def test_windows_of_a_few_steps_have_a_start(window, dim):
    values = np.random.default_rng(6).standard_normal((300, 1)).cumsum(axis=0)
    reader = WindowReader(SeriesSet.from_arrays([values]), Scaler.identity(1), length=window, dtype="f8")
    batch = reader.draw(0, 0, 32)
    model = em_step(linear_start(batch, (), latent_dim=dim), batch, batch_size=8)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


@pytest.mark.parametrize(("dim", "pairs"), [(16, 3), (8, 2), (4, 1), (3, 1), (2, 1), (1, 0)])
def test_seasons_leave_states_for_what_happens_between_two_steps(dim, pairs):
    rng, step = np.random.default_rng(5), np.arange(2000)
    cycles = [np.cos(2 * np.pi * step[:, None] / period + rng.uniform(0, 6, 7)) for period in (24, 12, 8)]
    values = sum(cycles) + np.cumsum(0.3 * rng.standard_normal((2000, 7)), axis=0)
    reader = WindowReader(SeriesSet.from_arrays([values]), Scaler.identity(7), length=96, dtype="f8")
    model = linear_start(reader.draw(0, 0, 32), (24.0, 12.0, 8.0), latent_dim=dim)
    turning = [k for k in range(dim // 2) if _turns(np.asarray(model.dynamics.matrix), k)]
    assert len(turning) == pairs
    # What no pair holds is left to the rest: the model's variance is that of the data.
    held = np.sum(np.asarray(model.decoder.loadings) ** 2, axis=1) + np.exp(np.asarray(model.likelihood.log_variance))
    np.testing.assert_allclose(held, values.var(axis=0), rtol=0.5)


def test_strong_seasons_get_all_pairs_that_they_are_worth_first():
    strengths = [np.array([5.0, 4.0, 3.0]), np.array([3.0, 2.0, 0.1]), np.array([1.0, 0.1])]
    found = {room: _pairs(strengths, room).tolist() for room in (0, 2, 4, 5, 9)}
    assert found == {0: [0, 0, 0], 2: [2, 0, 0], 4: [3, 1, 0], 5: [3, 2, 0], 9: [3, 2, 1]}


def _turns(matrix: np.ndarray, pair: int) -> bool:
    """Whether two states form a rotation that nothing else takes part in."""
    at = slice(2 * pair, 2 * pair + 2)
    alone = np.allclose(matrix[at], np.pad(matrix[at, at], [(0, 0), (2 * pair, len(matrix) - 2 * pair - 2)]))
    return alone and np.allclose(matrix[at, at] @ matrix[at, at].T, 0.999**2 * np.eye(2))


def test_gaps_are_filled_by_straight_lines():
    values = np.array([[[1.0], [0.0], [0.0], [4.0]]])
    observed = np.array([[[True], [False], [False], [True]]])
    np.testing.assert_allclose(fill_gaps(values, observed)[0, :, 0], [1, 2, 3, 4])


@pytest.mark.slow
def test_float32_keeps_the_gradients_direction_where_channels_repeat_each_other():
    rng = np.random.default_rng(3)
    once = np.cumsum(rng.standard_normal((8, 60, 4)), axis=1)
    data = SeriesSet.from_arrays(list(np.concatenate([once] * 6, axis=2).astype(np.float32)))
    batch = WindowReader(data, Scaler.measure(data), length=60, dtype=np.dtype(np.float64)).spread(8)
    fitted = em_step(linear_start(batch, (), latent_dim=10), batch, batch_size=8)
    noise = jnp.full(24, np.log(NOISE_FLOOR))
    model = eqx.tree_at(lambda m: m.likelihood.log_variance, fitted, noise)

    def gradient(dtype):
        def total(m):
            one = jax.vmap(lambda v, o, u: log_evidence(m, v, o, u))
            return jnp.sum(one(batch.values.astype(dtype), batch.observed, batch.inputs.astype(dtype)))

        found = eqx.filter_jit(eqx.filter_grad(total))(as_dtype(model, dtype))
        return np.asarray(found.dynamics.transition, np.float64).ravel()

    single, double = gradient(jnp.float32), gradient(jnp.float64)
    assert single @ double / np.linalg.norm(single) / np.linalg.norm(double) > 0.95
