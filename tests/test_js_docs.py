"""The page about blobpack.js: its HTML shows an image in Chromium, and its JavaScript prints in Node what is shown."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from js_reader import ANSWER_S, MODULE, chromium, node_path, put_page
from pages import BLOCK, DOCS, same
from test_docs import images
from webserver import WebServer

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

__all__ = ["chromium", "images"]

PAGE = DOCS / "guides" / "javascript.md"
BLOCKS = [
    (found["language"], found["code"], found["output"])
    for found in BLOCK.finditer(PAGE.read_text())
]


@pytest.fixture
def web(tmp_path: Path, images: Path) -> Iterator[WebServer]:
    """A server of the folder in which the page's examples lie."""
    blobpack.pack(images, tmp_path / "out.tar")
    put_page(tmp_path)
    with WebServer(tmp_path) as server:
        yield server


def test_the_html_shows_an_image(chromium: Browser, web: WebServer) -> None:
    (html,) = [code for language, code, _ in BLOCKS if language == "html"]
    (web.folder / "page.html").write_text(html)
    page = chromium.new_page()
    page.set_default_timeout(1000 * ANSWER_S)
    page.goto(f"{web.url}page.html")
    page.wait_for_function("document.querySelector('#cat').naturalWidth > 0")
    assert page.evaluate(
        "[document.querySelector('#cat').naturalWidth, document.querySelector('#cat').naturalHeight]"
    ) == [64, 48]
    page.close()


def test_the_javascript_prints_what_is_shown(web: WebServer, tmp_path: Path) -> None:
    scripts = [(code, output) for language, code, output in BLOCKS if language == "js"]
    assert all(output for _, output in scripts)
    shutil.copy(MODULE, tmp_path / "blobpack.mjs")
    code = "\nconsole.log('----');\n".join(code for code, _ in scripts)
    code = code.replace("./blobpack.js", "./blobpack.mjs").replace("https://example.com/", web.url)
    (tmp_path / "page.mjs").write_text(f"{code}\nblob.close();\n")
    printed = subprocess.run(
        [node_path(), "page.mjs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    for (script, shown), came in zip(
        scripts, printed.replace(web.url, "https://example.com/").split("----\n"), strict=True
    ):
        assert same(shown, came), (script, came)


def test_the_page_names_each_error_and_each_method() -> None:
    text, module = PAGE.read_text(), MODULE.read_text()
    for error in re.findall(r"^export class (\w+Error) ", module, re.MULTILINE):
        assert f"`{error}`" in text
    reader = module[module.index("class Reader") : module.index("// A large payload")]
    for method in re.findall(r"^  (?:async )?\*?(\w+)\([^)]*\) \{$", reader, re.MULTILINE):
        assert method == "constructor" or f"`{method}(" in text, method
