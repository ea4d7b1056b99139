"""Every matrix product of training, imputing and forecasting keeps all bits of its factors, on any hardware."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

TRAINING = "--latent-dim 17 --em-steps 2 --linear-steps 2 --epochs 1 --recognition mlp --decoder mlp --window 40"
"""So many states that message passing multiplies matrices, and networks."""


@pytest.mark.slow
def test_programs_ask_for_full_precision(svae, tmp_path: Path):
    """Read off what XLA is given: tensor cores would make TF32 of the default, and infinities of a posterior."""
    rng, step = np.random.default_rng(0), np.arange(300)
    values = np.sin(step[:, None] / 8 + np.arange(6)) + 0.1 * rng.normal(size=(300, 6))
    values[rng.random(values.shape) < 0.1] = np.nan
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = values
    for command in (
        ("train", "d.h5", "-o", "m.svae", *TRAINING.split()),
        ("impute", "m.svae", "d.h5", "--samples", "2"),
        ("forecast", "m.svae", "d.h5", "--horizon", "4"),
    ):
        programs = tmp_path / command[0]
        found = svae(*command, cwd=tmp_path, env={"JAX_DUMP_IR_TO": str(programs)})
        assert found.returncode == 0, found.stderr
        products = re.findall(r"stablehlo\.dot.*", "\n".join(p.read_text() for p in programs.iterdir()))
        assert len(products) > 20
        assert [p for p in products if "precision = [HIGHEST, HIGHEST]" not in p] == []
