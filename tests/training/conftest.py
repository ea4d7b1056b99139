"""What tests of training share."""

import jax
import pytest


@pytest.fixture
def relaxed_promotion():
    """Optax mixes weakly typed numbers, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def compiled_in_a_hurry():
    """Training compiles much and computes little here, so XLA leaves most optimisations out."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
