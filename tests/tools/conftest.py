"""What the tests of several tools share: a blob that is served, and its images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from pages import DOCS, PAGES, Runner, blocks, rewrite, same

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack import Blob

# pytest puts this folder on the path. There, `import torch` would find the folder of the tests of torch.
sys.path = [place for place in sys.path if place != str(Path(__file__).parent)]


class Served(NamedTuple):
    """An open blob, the URL of its server, and its images by their names."""

    blob: Blob
    url: str
    images: dict[str, bytes]


@pytest.fixture
def served(small_images: dict[str, bytes], tmp_path: Path) -> Iterator[Served]:
    """A blob behind `blobpack serve`, with names that must be encoded in URLs."""
    # imported here: not every tool's environment has the server's packages
    from gatewayserver import serving

    from blobpack.gateway.app import gateway_app

    images = dict(list(small_images.items())[:6])
    images["größe/1 & #2.jpg"] = small_images["cats/0001.jpg"]
    blobpack.pack(images, tmp_path / "out.tar")
    with (
        blobpack.open(tmp_path / "out.tar") as blob,
        serving(gateway_app({"out": blob})) as client,
    ):
        yield Served(blob, f"{client.url}/b/out", images)


@pytest.fixture
def run_example(tmp_path: Path) -> Callable[..., str]:
    """Function that runs the Python block of a guide that holds a text, and more code behind it."""

    def run(text: str, behind: str = "", page: str = "export.md") -> str:
        found = [each.code for each in blocks(DOCS / "guides" / page) if text in each.code]
        (code,) = found
        (tmp_path / "example.py").write_text(f"{code}\n{behind}")
        done = subprocess.run(
            [sys.executable, "example.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def run_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], set[str]]:
    """Function that runs the examples of a tool in README.md and docs/, and returns the names of their pages.

    The examples find the images of the five-minute start in imgs/, and a blob of them, out.tar.
    """

    def run(tool: str) -> set[str]:
        monkeypatch.chdir(tmp_path)
        Runner().run(
            next(block for block in blocks(DOCS / "start.md") if block.language == "python")
        )
        blobpack.pack("imgs/", "out.tar")
        found = set()
        for page in PAGES:
            mine = [block for block in blocks(page) if block.tool == tool and block.runs]
            runner = Runner()
            for block in mine:
                found.add(page.stem)
                for command, shown, came in runner.run(block):
                    if not same(shown, came) and os.environ.get("BLOBPACK_REWRITE_DOCS"):
                        rewrite(page, command, shown, came)
                    else:
                        assert same(shown, came), f"{block}: prints\n{came}\nand not\n{shown}"
        return found

    return run
