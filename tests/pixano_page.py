"""The code of docs/guides/pixano.md, run in an environment that has the version of Pixano that a block names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pixano_library as library
from pages import DOCS, Block, Runner, blocks, same

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

PAGE = DOCS / "guides" / "pixano.md"
PACKING = "needs the folder health_images"
SPEC = re.compile(r"^```text\n(format: blobpack\n.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_for(version: str) -> list[Block]:
    """The blocks that need a version of Pixano, such as 0.6, and those that pack the blob."""
    starts = (PACKING, f"needs Pixano {version}")
    return [block for block in blocks(PAGE) if block.reason.startswith(starts)]


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


def run_page(version: str, folder: Path) -> int:
    """Run the blocks for a version in the current folder, and compare what they print; return their number.

    Commands that serve are left out: other tests start the servers.
    """
    prepare(folder)
    runner = Runner()
    chosen = blocks_for(version)
    for block in chosen:
        lines = [line for line in block.code.splitlines(keepends=True) if " serve " not in line]
        block = Block(**{**vars(block), "code": "".join(lines)})
        for command, shown, came in runner.run(block):
            assert same(shown, came), f"{block}: {command}\nprints\n{came}\nand not\n{shown}"
    return len(chosen)
