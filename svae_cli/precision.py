"""Full precision: products of float32 in float32, on every device.

NVIDIA's tensor cores round the factors of a float32 product to 10 bits (TF32) unless told otherwise, and JAX leaves
them to it. Networks bear that; covariances that are passed through a thousand steps do not: on an H100 EM and
training ran into infinities. Whatever computes a posterior, or with one, is therefore marked here.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same function; matrix products traced in it, and their derivatives, keep all bits of their factors."""

    @wraps(function)
    def precise(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``full_precision`` under equinox's jit."""
    return eqx.filter_jit(full_precision(function))
