"""Float32 against the float64 dense joint, conditioning from ordinary to absurd; the laws under random problems."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svae_cli.inference import LinearGaussianPrior, Potential, scans, smooth
from tests.inference.problems import make_problem
from tests.oracles import dense_posterior

pytestmark = pytest.mark.usefixtures("compiled_as_for_users")

STEPS, K = 24, 3


def _everything(arrays, precision, shift):
    p = smooth(LinearGaussianPrior(*arrays), Potential(precision, shift))
    return p.log_normalizer, p.means, p.covariances, p.sample(jr.key(0), 1)


@jax.jit
def _run(arrays, precision, shift):
    """(outputs, gradients of a bounded function of them)."""

    def score(*args):
        return sum(jnp.sum(jnp.sin(x)) for x in _everything(*args)[1:])

    return _everything(arrays, precision, shift), jax.grad(score, argnums=(0, 1, 2))(arrays, precision, shift)


def _case(name):
    """(prior by name, precision, shift) in float64; every entry is exact in float32."""
    rng = np.random.default_rng(1)
    prior, precision, shift = make_problem(0, STEPS, K, diagonal=False, varying=False)
    rotation = np.linalg.qr(rng.normal(size=(K, K)))[0]
    still = {**prior, "dynamics": 0.9999 * rotation, "noise_cov": 1e-6 * np.eye(K), "bias": np.zeros(K)}
    moving = {**prior, "dynamics": 0.9 * rotation}
    early = np.arange(STEPS) < 5
    huge, huge_shift = precision.copy(), shift.copy()
    huge[STEPS // 2], huge_shift[STEPS // 2] = 1e8 * np.eye(K), 1e8 * rng.normal(size=K)
    corner, corner_shift = precision.copy(), shift.copy()
    corner[STEPS // 2], corner_shift[STEPS // 2] = np.diag([1e8, 0, 0]), [3e7, 0, 0]
    return {
        "nothing observed": (moving, 0 * precision, 0 * shift),
        "nearly deterministic, unit root": (still, precision, shift),
        "nearly deterministic, unobserved": (still, 0 * precision, 0 * shift),
        "one huge precision": (moving, huge, huge_shift),
        "one huge singular precision": (moving, corner, corner_shift),
        "huge precision, nearly deterministic": (still, huge, huge_shift),
        "diffuse and unobserved start": (
            {**still, "initial_cov": 1e4 * np.eye(K)},
            np.where(early[:, None, None], 0, precision),
            np.where(early[:, None], 0, shift),
        ),
        "a state without noise": ({**moving, "noise_cov": np.diag([0.1, 0.1, 0])}, precision, shift),
        "everything known exactly": (moving, 1e8 * np.broadcast_to(np.eye(K), precision.shape), 1e8 * shift),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "nothing observed",
        "nearly deterministic, unit root",
        "nearly deterministic, unobserved",
        "one huge precision",
        "one huge singular precision",
        "huge precision, nearly deterministic",
        "diffuse and unobserved start",
        "a state without noise",
        "everything known exactly",
    ],
)
def test_float32_is_right_and_finite_under_extreme_conditioning(name):
    prior, precision, shift = _case(name)
    expected = dense_posterior(**prior, precision=precision, shift=shift)
    args = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (tuple(prior.values()), precision, shift))
    (log_z, means, covs, paths), gradients = _run(*args)
    for x in jax.tree.leaves((log_z, paths, gradients)):
        assert np.all(np.isfinite(x))
    np.testing.assert_allclose(log_z, expected.log_normalizer, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(means, expected.mean, rtol=0, atol=1e-4 * np.abs(expected.mean).max())
    np.testing.assert_allclose(covs, expected.covariances, rtol=0, atol=1e-4 * np.abs(expected.covariances).max())
    assert np.linalg.eigvalsh(np.asarray(covs, np.float64)).min() > -1e-6 * np.abs(expected.covariances).max()


def test_a_huge_singular_precision_off_the_axes_is_finite():
    prior, precision, shift = _case("one huge precision")
    direction = np.random.default_rng(2).normal(size=K)
    precision[STEPS // 2] = 1e8 * np.outer(direction, direction)  # in float32 this is indefinite
    args = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (tuple(prior.values()), precision, shift))
    for x in jax.tree.leaves(_run(*args)):
        assert np.all(np.isfinite(x))


@pytest.mark.parametrize(
    ("k", "seed", "at_will"), [(12, 2, True), (12, 29, True), (26, 12, True), (26, 24, True), (12, 29, False)]
)
def test_what_precise_values_say_nothing_of_gets_no_more_uncertain(k, seed, at_will, monkeypatch):
    """Beside U J U' float32 has no room for I; taken at once these are lost within two steps."""
    monkeypatch.setattr(scans, "_loops_at_will", lambda: at_will)
    jax.clear_caches()
    rng, steps = np.random.default_rng(seed), 8
    spectrum = np.zeros(k)
    spectrum[: k // 2] = 100 * np.logspace(5.6, 1, k // 2)
    seen, spread, turn = (np.linalg.qr(rng.normal(size=(k, k)))[0] for _ in range(3))
    variances = np.concatenate([10 ** rng.uniform(-1, 1, size=k - 2), [1e-3, 160]])
    prior = {
        "initial_mean": np.zeros(k),
        "initial_cov": (spread * variances) @ spread.T,
        "dynamics": 0.95 * turn,
        "bias": np.zeros(k),
        "noise_cov": np.diag(10 ** rng.uniform(-3, -0.1, size=k)),
    }
    precision = np.broadcast_to((seen * spectrum) @ seen.T, (steps, k, k))
    shift = np.einsum("tij,tj->ti", precision, rng.normal(size=(steps, k)))
    expected = dense_posterior(**prior, precision=precision, shift=shift)
    args = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (tuple(prior.values()), precision, shift))
    (_, _, covs, _), _ = found = _run(*args)
    for x in jax.tree.leaves(found):
        assert np.all(np.isfinite(x))
    # J itself is rounded, which says a little of what it said nothing of.
    assert np.all(np.abs(covs).max(axis=(1, 2)) < 1.5 * np.abs(expected.covariances).max(axis=(1, 2)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    seen=st.floats(0, 1),
    scale=st.floats(-6, 6),
    noise=st.floats(-6, 1),
    radius=st.floats(0, 1.02),
)
def test_any_problem_agrees_with_the_dense_joint(seed, seen, scale, noise, radius):
    prior, precision, shift = make_problem(seed, STEPS, K, diagonal=False, varying=False, seen=seen)
    rotation = np.linalg.qr(prior["dynamics"])[0]
    prior |= {"dynamics": radius * rotation, "noise_cov": 10**noise * prior["noise_cov"]}
    precision, shift = 10**scale * precision, 10**scale * shift
    expected = dense_posterior(**prior, precision=precision, shift=shift)
    args = jax.tree.map(jnp.asarray, (tuple(prior.values()), precision, shift))
    (log_z, means, covs, _), _ = _run(*args)
    np.testing.assert_allclose(log_z, expected.log_normalizer, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(means, expected.mean, rtol=0, atol=1e-6 * np.abs(expected.mean).max())
    np.testing.assert_allclose(covs, expected.covariances, rtol=0, atol=1e-6 * np.abs(expected.covariances).max())


@pytest.mark.slow
def test_float32_over_a_thousand_steps_at_ten_states():
    prior, precision, shift = make_problem(4, 1000, 10, diagonal=False, varying=False)
    prior["dynamics"] = 0.95 * np.linalg.qr(prior["dynamics"])[0]

    def run(dtype):
        args = jax.tree.map(lambda x: jnp.asarray(x, dtype), (tuple(prior.values()), precision, shift))
        return jax.jit(lambda a, j, h: smooth(LinearGaussianPrior(*a), Potential(j, h)))(*args)

    single, double = run(jnp.float32), run(jnp.float64)
    for name in ("means", "covariances"):
        exact = np.asarray(getattr(double, name))
        np.testing.assert_allclose(getattr(single, name), exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    np.testing.assert_allclose(single.log_normalizer, double.log_normalizer, rtol=1e-5)
