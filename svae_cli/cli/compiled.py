"""Compiling takes less, and what is traced and compiled is kept: the next run on data of the same shape begins at once.

``JAX_COMPILATION_CACHE_DIR`` moves the folder, ``JAX_ENABLE_COMPILATION_CACHE=false`` does without. What ``XLA_FLAGS``
says goes before what is chosen here.
"""

import hashlib
import importlib.util
import os
import platform
import tempfile
import warnings
from contextlib import suppress
from importlib.metadata import entry_points, version
from pathlib import Path

from svae_cli import __version__

_MOST_BYTES = 512 << 20
_WORTH_SECONDS = 0.3
_DIGEST = hashlib.sha256().digest_size
_SOONER_ON_CPU = {"xla_backend_optimization_level": "1", "xla_cpu_use_fusion_emitters": "false"}
_SOONER_ON_GPU = {"xla_gpu_autotune_level": "0"}


def compile_sooner() -> None:
    """Have XLA's compiler leave out what the code here does not gain from (docs/message-passing.md).

    The level only where jax has nothing but the CPU, as it is that of a GPU's compiler, too. On a GPU, XLA times dozens
    of ways to do each product of small matrices, which takes longer than training. Must run before jax looks for its
    devices.
    """
    given = os.environ.get("XLA_FLAGS", "")
    flags = {name: v for name, v in (_SOONER_ON_CPU if _only_cpu() else _SOONER_ON_GPU).items() if name not in given}
    if not version("jaxlib").startswith("0.9."):  # later ones end when they meet the flag, which they lack
        flags.pop("xla_cpu_use_fusion_emitters", None)
    os.environ["XLA_FLAGS"] = " ".join([given, *(f"--{name}={value}" for name, value in flags.items())]).strip()


def _only_cpu() -> bool:
    """Whether it was said, or no plugin of an accelerator is installed."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return True
    found = (importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return not any(found) and not entry_points(group="jax_plugins")


def keep_compiled() -> None:
    """Point jax to the folder of this user and this processor; where none can be written, nothing is kept."""
    import jax

    if not getattr(jax.config, "jax_enable_compilation_cache", True):
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        _choose_folder()
    folder = jax.config.values["jax_compilation_cache_dir"]
    if folder and "://" not in folder:
        from svae_cli.traced import keep_traced

        keep_traced(_Traced(Path(folder) / "traced"))


def _choose_folder() -> None:
    """Of this user, this processor and this jax."""
    import jax

    with suppress(OSError, RuntimeError):  # no home, or none that can be written
        home = _cache_home() / "svae" / "compiled"
        folder = home / f"jax-{jax.__version__}-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
        _prune(home, _MOST_BYTES)
        if os.access(folder, os.W_OK):
            warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_SECONDS)


def _cache_home() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"


def _processor() -> str:
    """What compiled code depends on: homes are shared by machines with different processors."""
    text = f"{platform.machine()} {platform.processor()} {platform.platform()}"
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        text += next((line for line in file if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _prune(folder: Path, most: int) -> None:
    """Remove the oldest files, of all versions of jax, until no more than ``most`` bytes are left."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    found = sorted((path.stat().st_mtime, path.stat().st_size, str(path)) for path in files)
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total <= most:
            return
        Path(path).unlink(missing_ok=True)
        total -= size


class _Traced:
    """Traced programs as files of one folder; names have what this version of everything is made of in them."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._made_of = hashlib.sha256(f"svae {__version__}\n".encode())
        for name in ("jax", "jaxlib", "equinox"):
            self._made_of.update(version(name).encode() + b"\n")
        for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
            self._made_of.update(path.read_bytes())

    def get(self, name: str) -> bytes | None:
        """What was put there; None as well if it is damaged."""
        with suppress(OSError):
            digest, program = (found := self._path(name).read_bytes())[:_DIGEST], found[_DIGEST:]
            if hashlib.sha256(program).digest() == digest:
                return program
        return None

    def put(self, name: str, program: bytes) -> None:
        """Whole or not at all; nothing is kept where nothing can be written."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as apart:
                file = Path(apart) / "program"
                file.write_bytes(hashlib.sha256(program).digest() + program)
                os.replace(file, self._path(name))

    def _path(self, name: str) -> Path:
        whole = self._made_of.copy()
        whole.update(name.encode())
        return self._folder / whole.hexdigest()
