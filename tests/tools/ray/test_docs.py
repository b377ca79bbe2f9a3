"""The examples of README.md and docs/ that need Ray run, and print what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pages import DOCS, PAGES, Runner, blocks, same

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

TOOL = "ray"
MINE = [page for page in PAGES if any(block.tool == TOOL for block in blocks(page))]


@pytest.mark.parametrize("page", MINE, ids=lambda page: page.stem)
def test_examples_run_and_print_what_is_shown(
    page: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = next(block for block in blocks(DOCS / "start.md") if block.language == "python")
    Runner().run(images)
    if page.stem == "README":
        blobpack.pack("imgs/", "out.tar")
    runner = Runner(bucket)
    for block in blocks(page):
        if block.tool == TOOL and block.runs:
            for command, shown, came in runner.run(block):
                assert same(shown, came), f"{block}: {command}\nprints\n{came}\nand not\n{shown}"


def test_pages_are_found() -> None:
    assert {page.stem for page in MINE} == {"README", "ray"}
