"""The code of docs/guides/pixano.md, run in the environment that a block names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pixano_library as library
from pages import DOCS, Runner, blocks, same

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

PAGE = DOCS / "guides" / "pixano.md"
SPEC = re.compile(r"^```text\n(format: blobpack\n.*?)^```$", re.MULTILINE | re.DOTALL)


def prepare(folder: Path) -> None:
    """Write into a folder what the page's examples read."""
    library.write_folder(folder / "health_images")
    pets = {
        f"{kind}/{number}.jpg": library.image_of(3 + number % 4)
        for kind in ("cats", "dogs")
        for number in range(6)
    }
    blobpack.pack(pets, folder / "pets.tar")
    (folder / "source").mkdir()
    spec = SPEC.search(PAGE.read_text())
    assert spec
    (folder / "source" / "dataset.yaml").write_text(spec[1])


def run_page(tool: str, folder: Path) -> None:
    """Run the page's blocks for a tool, such as pixano-06, in the current folder, and compare what they print.

    Commands that serve are left out: other tests start the servers.
    """
    prepare(folder)
    runner = Runner()
    chosen = [block for block in blocks(PAGE) if block.tool in ("", tool)]
    assert any(block.tool for block in chosen)
    for block in chosen:
        lines = [line for line in block.code.splitlines(keepends=True) if " serve " not in line]
        for command, shown, came in runner.run(replace(block, code="".join(lines))):
            assert same(shown, came), f"{block}: {command}\nprints\n{came}\nand not\n{shown}"
