"""Settings of every test: float64, no silent broadcasting, no silent change of type; the program as a process."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from forked import Forked

from svae_cli.cli.compiled import compile_sooner

compile_sooner()  # as the program does
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)  # tests compile much and compute little

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


@pytest.fixture
def compiled_as_for_users():
    """For numbers that rounding might spoil, and what computes much: XLA optimises as it does in the program."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


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
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


@pytest.fixture(scope="session")
def forked(environment: dict[str, str]) -> Iterator[Forked]:
    """The installed program with its modules loaded, to be forked."""
    server = Forked(environment)
    yield server
    server.close()


@pytest.fixture(scope="session")
def svae(environment: dict[str, str], forked: Forked) -> Run:
    """The installed program: ``svae("inspect", "rec.h5", cwd=folder)``; streams are text unless ``text=False``.

    With variables of its own, or ``new=True``, it is started; else it is forked, which saves loading its modules.
    """

    def run(
        *arguments: str | Path,
        cwd: Path | None = None,
        input: str | bytes = "",
        text: bool = True,
        timeout: float = 120,
        env: dict[str, str] | None = None,
        new: bool = False,
    ):
        command, stdin = [*map(str, arguments)], input.encode() if isinstance(input, str) else input
        if env or new:
            options = {"capture_output": True, "input": stdin, "timeout": timeout, "cwd": cwd, "check": False}
            found = subprocess.run([str(PROGRAM), *command], env={**environment, **(env or {})}, **options)
        else:
            found = forked.run(command, cwd=cwd, stdin=stdin, timeout=timeout)
        if text:
            found.stdout, found.stderr = found.stdout.decode(), found.stderr.decode()
        return found

    return run
