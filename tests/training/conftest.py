"""What tests of training share."""

import jax
import pytest


@pytest.fixture
def relaxed_promotion():
    """Optax mixes weakly typed numbers, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
