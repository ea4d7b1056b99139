"""Settings of every test: float64, no silent broadcasting, no silent change of type; the program as a process."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from svae_cli.cli.compiled import compile_sooner

compile_sooner()  # as the program does
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Tracing makes many small objects that stay; the collector would look at all of them again and again.
gc.freeze()
gc.set_threshold(50_000, 20, 50)

PROGRAM = Path(sys.executable).with_name("svae")

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, common to all its workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def compiled(shared: Path) -> None:
    """What one test or worker compiles, the next one finds compiled: most of the time is compiling."""
    jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Compiled programs of a module are not kept in memory beyond it."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def compiled_in_a_hurry():
    """For modules that compile much and compute little: XLA leaves most optimisations out."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def environment(shared: Path) -> dict[str, str]:
    """Variables for child processes; what one of them compiles, the next one finds compiled."""
    cache = shared / "compiled"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SVAE_")}
    return {
        **kept,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # most of the time is compiling
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


@pytest.fixture(scope="session")
def svae(environment: dict[str, str]) -> Run:
    """The installed program: ``svae("inspect", "rec.h5", cwd=folder)``; streams are text unless ``text=False``."""

    def run(*arguments: str | Path, timeout: float = 120, env: dict[str, str] | None = None, **options):
        options = {"text": True, "capture_output": True, "stdin": subprocess.DEVNULL, **options}
        if "input" in options:
            del options["stdin"]
        command = [str(PROGRAM), *map(str, arguments)]
        return subprocess.run(command, timeout=timeout, env={**environment, **(env or {})}, check=False, **options)

    return run
