"""README and docs: two one-line blocks to begin with, and no command or option that the program does not have."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from svae_cli.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "sample_data" / "README.md"])


def blocks(page: Path) -> list[str]:
    """The shell blocks of a page."""
    return re.findall(r"^```(?:sh|bash|shell)\s*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Every call of the program in the page's shell blocks, as words without the program's name."""
    found = []
    for block in blocks(page):
        text = block.replace("\\\n", " ")
        for line in text.splitlines():
            for part in re.split(r"&&|\|\||[|;]", line.split(" # ")[0]):
                words = shlex.split(part, comments=True)
                if words and Path(words[0]).name == "svae" and len(words) > 1:
                    found.append(words[1:])
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if p.exists()], ids=lambda p: p.name)
def test_commands_in_the_documentation_are_understood(page: Path):
    """Parsed by the program's own parser: unknown commands, options and values are errors."""
    group = get_command(app)
    for words in commands(page):
        if words[0].startswith("-"):
            continue
        command = group.commands[words[0]]  # pyright: ignore
        given = [word for word in words[1:] if not re.match(r"^\d?>", word)]
        if "-h" not in given and "--help" not in given:
            command.make_context(words[0], [w for w in given if w not in ("...",)], parent=None)


def test_the_first_two_blocks_of_the_readme_are_one_command_each():
    found = blocks(ROOT / "README.md")
    assert len(found) >= 2
    for block in found[:2]:
        lines = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        assert len(lines) == 1, block
    assert "svae train" in found[0]
    assert "svae impute" in found[0]
    assert "pytest" in found[1]


def test_every_command_is_documented():
    text = "\n".join(page.read_text() for page in PAGES if page.exists())
    for name in get_command(app).commands:  # pyright: ignore
        assert f"svae {name}" in text, name


def test_every_option_has_help():
    for name, command in get_command(app).commands.items():  # pyright: ignore
        assert command.short_help, name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"
