"""Imports point one way, down the list of ``ORDER``; heavy libraries stay in their one place."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "svae_cli"
ORDER = ("errors", "config", "results", "precision", "traced", "inference", "data", "models", "metrics", "baselines",
         "training", "prediction", "holdout", "comparison", "evaluation", "files", "plots", "api", "cli")  # fmt: skip
ONLY = {"h5py": "files", "hdf5plugin": "files", "matplotlib": "plots", "typer": "cli", "rich": "cli"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    """The layer of a file: its sub-package, or its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> list[str]:
    """Modules that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_the_list(path: Path):
    layer = place(path)
    if layer in ("__init__", "__main__"):
        return
    assert layer in ORDER, f"{layer} has no place in ORDER"
    for name in imported(path):
        if name.startswith("svae_cli."):
            other = name.split(".")[1]
            if other != "__version__":
                assert ORDER.index(other) <= ORDER.index(layer), f"{layer} imports {name}"
        elif name.split(".")[0] in ONLY:
            assert layer == ONLY[name.split(".")[0]], f"{layer} imports {name}"


def test_no_module_imports_itself_in_a_circle():
    """Over modules, imports at the top of files only: those inside functions cannot be circular when they run."""
    graph = {}
    for path in MODULES:
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        body = ast.parse(path.read_text()).body
        found = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[name] = {
            f"{node.module}.{alias.name}" for node in found if isinstance(node, ast.ImportFrom) for alias in node.names
        }
    edges = {
        name: {t if t in graph else t.rpartition(".")[0] for t in targets if t.startswith("svae_cli")}
        for name, targets in graph.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in sorted(edges.get(name, ()) - {name}):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small_and_documented(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "no docstring"
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= 40, f"{node.name} has a body of {length} lines"
