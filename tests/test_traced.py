"""Programs from a shelf say what traced ones say, are found again, and never stand for others."""

import sys
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svae_cli import traced
from svae_cli.cli import compiled
from svae_cli.traced import keep_traced, kept


@dataclass(frozen=True)
class Asked:
    twice: bool = False


class Line(eqx.Module):
    slope: jax.Array
    power: int = eqx.field(static=True, default=1)


class Drawer(dict):
    """A shelf in memory."""

    def put(self, name: str, program: bytes) -> None:
        self[name] = program


@pytest.fixture
def shelf():
    drawer = Drawer()
    keep_traced(drawer)
    yield drawer
    keep_traced(None)


def counted():
    """A function, and the number of times that it was traced."""
    traced = []

    def along(line: Line, x, asked: Asked):
        traced.append(1)
        factor = jnp.linalg.cholesky(jnp.eye(2, dtype=jnp.float64) * 4)[0, 0]
        return {"y": factor * line.slope * jnp.asarray(x).astype(float) ** line.power * (2 if asked.twice else 1)}

    return along, traced


def test_another_process_finds_what_one_has_traced(shelf):
    along, traced = counted()
    x = jnp.arange(3.0)
    arguments = Line(jnp.asarray(3.0), 2), x, Asked()
    for _ in range(2):  # a function of its own has programs of its own, as another process would
        again = kept(along)
        for _ in range(2):
            np.testing.assert_allclose(again(*arguments)["y"], 6 * np.arange(3.0) ** 2)
    assert (len(traced), len(shelf)) == (1, 1)
    np.testing.assert_allclose(kept(along)(Line(jnp.asarray(5.0), 2), x + 1, Asked())["y"], 10 * np.arange(1.0, 4) ** 2)
    assert (len(traced), len(shelf)) == (1, 1)


def test_programs_differ_by_shapes_types_and_settings(shelf):
    along, _ = counted()
    of, x = kept(along), np.arange(3.0)
    line = Line(jnp.asarray(3.0))
    cases = [
        (of(line, x, Asked()), 6 * x),
        (of(line, x[:2], Asked()), 6 * x[:2]),
        (of(line, x.astype(np.float32), Asked()), 6 * x),
        (of(line, x, Asked(twice=True)), 12 * x),
        (of(Line(jnp.asarray(3.0), 2), x, Asked()), 6 * x**2),
        (of(line, 2.0, Asked()), 12.0),
        (of(line, 3.0, Asked()), 18.0),
    ]
    for found, expected in cases:
        np.testing.assert_allclose(found["y"], expected)
    assert len(shelf) == len(cases)


def test_what_has_no_name_or_cannot_be_kept_is_computed_all_the_same(shelf):
    assert kept(lambda x, f: {"y": f(x)})(jnp.ones(2), jnp.sin)["y"].shape == (2,)

    def called_back(x):
        return {"y": jax.pure_callback(np.cos, jax.ShapeDtypeStruct((2,), x.dtype), x)}

    assert not shelf
    for _ in range(2):
        np.testing.assert_allclose(kept(called_back)(jnp.zeros(2))["y"], 1.0)
    assert list(shelf.values()) == [b""]


def test_mistakes_are_those_of_the_function(shelf):
    def wrong(x):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept(wrong)(jnp.zeros(2))
    assert not shelf


def test_a_damaged_file_is_none_and_other_sources_have_other_names(tmp_path, monkeypatch):
    folder = compiled._Traced(tmp_path / "traced")
    assert folder.get("a") is None
    folder.put("a", b"program")
    assert folder.get("a") == b"program"
    assert compiled._Traced(tmp_path / "traced").get("a") == b"program"
    (file,) = (tmp_path / "traced").iterdir()
    monkeypatch.setattr(compiled, "version", lambda name: "1.0")
    assert compiled._Traced(tmp_path / "traced").get("a") is None
    file.write_bytes(file.read_bytes()[:-1] + b"n")
    assert folder.get("a") is None
    file.write_bytes(b"")
    assert folder.get("a") is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "traced").write_text("a file")
    folder = compiled._Traced(tmp_path / "traced")
    folder.put("a", b"program")
    assert folder.get("a") is None


def test_its_own_results_are_arguments_like_others(shelf, caplog):
    halved = kept(lambda x: [x / 2])
    with jax.log_compiles():
        (first,) = halved(np.arange(8.0))
        assert "Finished XLA compilation" in caplog.text
        caplog.clear()
        (second,) = halved(first)
    np.testing.assert_array_equal(second, np.arange(8.0) / 4)
    assert (len(shelf), caplog.text) == (1, "")


def test_a_process_forgets_its_oldest_programs(monkeypatch):
    monkeypatch.setattr(traced, "_MOST", 2)
    seen = []

    def doubled(x):
        seen.append(x.shape)
        return [2 * x]

    of = kept(doubled)
    for size in (1, 2, 1, 3, 1, 2, 1):
        np.testing.assert_array_equal(of(np.ones(size))[0], np.full(size, 2.0))
    assert seen == [(1,), (2,), (3,), (1,), (2,)]


@pytest.mark.skipif(sys.platform != "linux", reason="where memory maps are not counted, nothing is forgotten")
@pytest.mark.parametrize(("allowed", "traced_again"), [("1000000", []), ("2", [(1,)]), ("unknown", [])])
def test_programs_are_forgotten_before_no_memory_maps_are_left(allowed, traced_again, monkeypatch, tmp_path):
    (tmp_path / "allowed").write_text(f"{allowed}\n")
    monkeypatch.setattr(traced, "_MOST_MAPS", tmp_path / "allowed")
    monkeypatch.setattr(traced._Used, "maps", 0)
    seen = []

    def doubled(x):
        seen.append(x.shape)
        return [2 * x]

    of = kept(doubled)
    for size in (1, 2, 1, 1):
        np.testing.assert_array_equal(of(np.ones(size))[0], np.full(size, 2.0))
    assert seen == [(1,), (2,), *traced_again]


@pytest.mark.skipif(sys.platform != "linux", reason="where memory maps are not counted, nothing is forgotten")
def test_forgotten_programs_leave_no_memory_maps(monkeypatch, tmp_path):
    (tmp_path / "allowed").write_text("1000000")
    monkeypatch.setattr(traced, "_MOST_MAPS", tmp_path / "allowed")
    monkeypatch.setattr(traced._Used, "maps", 0)
    of = kept(lambda x: [jnp.linalg.cholesky(x @ x.T + jnp.eye(len(x)))])
    taken = []
    for size in range(2, 12):
        of(np.ones((size, size)))
        taken.append(traced._MAPS.read_bytes().count(b"\n"))
    (tmp_path / "allowed").write_text(str(taken[-1]))
    of(np.ones((12, 12)))
    assert traced._MAPS.read_bytes().count(b"\n") < taken[-2]
