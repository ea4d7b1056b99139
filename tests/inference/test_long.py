"""Series in pieces and on several devices give what one run on one device gives; dynamax agrees too."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli.inference import LinearGaussianPrior, Potential, smooth, smooth_long
from tests.inference.problems import make_problem


@pytest.mark.parametrize("varying", [True, False])
def test_pieces_are_the_whole(varying):
    prior, precision, shift = make_problem(0, 37, 2, diagonal=True, varying=varying)
    model = LinearGaussianPrior.from_moments(**prior)
    whole = jax.jit(smooth)(model, Potential(jnp.asarray(precision), jnp.asarray(shift)))
    long = smooth_long(model, Potential(precision, shift), piece=16)
    np.testing.assert_allclose(long.log_normalizer, whole.log_normalizer, rtol=1e-10)
    pieces = list(long.pieces)
    assert [p.start for p in pieces] == [32, 16, 0]
    for name, expected in (("mean", whole.means), ("cov", whole.covariances)):
        together = np.concatenate([getattr(p.marginals, name) for p in reversed(pieces)])
        np.testing.assert_allclose(together, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one():
    script = """
        import jax
        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh
        from svae_cli.inference import LinearGaussianPrior, Potential, smooth, smooth_sharded
        from tests.inference.problems import make_problem

        assert len(jax.devices()) == 8
        mesh = Mesh(np.array(jax.devices()), ("time",))
        prior, precision, shift = make_problem(0, 64, 2, diagonal=False, varying=False)
        args = tuple(map(jnp.asarray, prior.values())), jnp.asarray(precision), jnp.asarray(shift)

        def score(arrays, precision, shift, run):
            p = run(LinearGaussianPrior(*arrays), Potential(precision, shift))
            value = p.log_normalizer + jnp.sum(jnp.sin(p.means)) + jnp.sum(jnp.sin(p.covariances))
            return value, (p.means, p.covariances, p.entropy())

        def result(run):
            return jax.jit(jax.value_and_grad(lambda *a: score(*a, run), argnums=(0, 1, 2), has_aux=True))(*args)

        one, eight = result(smooth), result(lambda p, q: smooth_sharded(p, q, mesh))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), one, eight)
        assert len(eight[0][1][0].sharding.device_set) == 8
    """
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_devices_that_meet_a_precise_value_wait_for_no_other():
    """As on accelerators: whether potentials are taken in parts is for all devices to know."""
    script = """
        import jax
        import jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh
        from svae_cli.inference import LinearGaussianPrior, Potential, scans, smooth, smooth_sharded
        from tests.inference.problems import make_problem

        scans._loops_at_will = lambda: False
        mesh = Mesh(np.array(jax.devices()), ("time",))
        prior, precision, shift = make_problem(0, 32, 2, diagonal=False, varying=False)
        precision[24] *= 1e9
        shift[24] *= 1e9
        model = LinearGaussianPrior(*(jnp.asarray(x, jnp.float32) for x in prior.values()))
        potential = Potential(jnp.asarray(precision, jnp.float32), jnp.asarray(shift, jnp.float32))
        one = jax.jit(smooth)(model, potential)
        two = jax.jit(lambda p, q: smooth_sharded(p, q, mesh))(model, potential)
        np.testing.assert_allclose(one.means, two.means, rtol=1e-2, atol=1e-3)
    """
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of dynamax's own imports
@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # which its escapes are from Python 3.12 on
def test_dynamax_smooths_alike():
    from dynamax.linear_gaussian_ssm import inference, lgssm_smoother

    prior, precision, shift = make_problem(3, 12, 3, diagonal=False, varying=False, seen=1.0)
    precision = precision + 0.1 * np.eye(3)
    ours = jax.jit(smooth)(
        LinearGaussianPrior.from_moments(**prior), Potential(jnp.asarray(precision), jnp.asarray(shift))
    )
    cov = np.linalg.inv(precision)
    values = np.einsum("tij,tj->ti", cov, shift)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        params = inference.make_lgssm_params(
            *(jnp.asarray(prior[n]) for n in ("initial_mean", "initial_cov", "dynamics", "noise_cov")),
            jnp.eye(3),
            jnp.asarray(cov),
            dynamics_bias=jnp.asarray(prior["bias"]),
        )
        theirs = jax.jit(lgssm_smoother)(params, jnp.asarray(values))
    # dynamax adds 1e-9 to the diagonal of what it solves with.
    np.testing.assert_allclose(ours.means, theirs.smoothed_means, rtol=0, atol=1e-7)
    np.testing.assert_allclose(ours.covariances, theirs.smoothed_covariances, rtol=0, atol=1e-7)
    # A potential is the observation's density without its constant.
    constant = 0.5 * np.sum(np.linalg.slogdet(precision / (2 * np.pi))[1] - np.einsum("ti,ti->t", values, shift))
    np.testing.assert_allclose(ours.log_normalizer + constant, theirs.marginal_loglik, rtol=1e-7)
