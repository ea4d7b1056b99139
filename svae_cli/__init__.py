"""Structured variational autoencoders for multichannel time series with gaps, noise and a future.

Importing this package imports neither jax nor h5py: the names below load what they need when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svae_cli.api import Model, fit, load

__version__ = "0.1.0"
__all__ = ["Model", "fit", "load"]


def __getattr__(name: str) -> Any:
    """Load the Python interface on first use (PEP 562), so that ``svae --help`` stays instant."""
    if name in __all__:
        from svae_cli import api

        return getattr(api, name)
    raise AttributeError(f"module 'svae_cli' has no attribute {name!r}")
