"""The README is a front door: short, with what it shows at the top, and with links that lead somewhere.

tests/test_docs.py runs its examples.
"""

import re

from pages import ROOT, blocks, commands

README = ROOT / "README.md"
TEXT = README.read_text()
SCREEN_LINES = 38


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_the_first_screen_has_all_that_a_visitor_looks_for():
    screen = "\n".join(TEXT.splitlines()[:SCREEN_LINES])
    assert "pip install ." in screen
    console, python = (block for block in blocks(README) if block.line < SCREEN_LINES)
    shown = list(commands(console.code))
    assert [command.split()[0] for command, _ in shown] == ["blobpack"] * 3
    assert all(output for _, output in shown)
    assert sum(line != "" for line in python.code.splitlines()) == 5
    assert len(re.findall(r"^- \*\*.+\d", screen, re.MULTILINE)) == 3
    assert "scripts/bench" in screen


def test_the_commands_for_developers_are_demo_and_test():
    [block] = [block for block in blocks(README) if not block.runs]
    assert [line.split()[0] for line in block.code.splitlines()] == ["scripts/demo", "scripts/test"]


def test_every_script_that_it_names_is_there():
    for name in re.findall(r"`(scripts/[\w-]+)", TEXT):
        assert (ROOT / name).stat().st_mode & 0o100, name


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert len(links) > 15
    for link in links:
        assert (ROOT / link).is_file(), link
