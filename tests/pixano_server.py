"""Servers of Pixano as processes, for tests in environments that have Pixano."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pixano_library import OBJECT_COLOUR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

TIMEOUT_S = 120
URL = re.compile(r"http://127\.0\.0\.1:\d+")
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PixanoServer:
    """A running server.

    Attributes:
        url: Its root.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(
        self, path: str, method: str = "GET", body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Send a request; return the status, and the decoded JSON or the bytes of the answer."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
            method=method,
        )
        try:
            with NO_PROXY.open(request, timeout=TIMEOUT_S) as answer:
                status, found, kind = answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read()
        is_json = found and kind is not None and kind.startswith("application/json")
        return status, json.loads(found) if is_json else found


@contextmanager
def serving(program: str, *arguments: object) -> Iterator[PixanoServer]:
    """Start a program of this environment that serves until it is ended, and wait until it says where it listens."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout
    said = ""
    try:
        while not (found := URL.search(said)):
            line = process.stdout.readline()
            said += line
            assert line, f"{command} ended: {said}"
        yield PixanoServer(found[0])
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def shown_images(page: Page, part: str) -> list[int]:
    """Return the widths of the images of a page whose URLs contain a text, when all of them are loaded."""
    page.wait_for_function(
        """part => {
          const images = [...document.images].filter((image) => image.src.includes(part));
          return images.length && images.every((image) => image.complete && image.naturalWidth);
        }""",
        arg=part,
        timeout=1000 * TIMEOUT_S,
    )
    code = "part => [...document.images].filter((i) => i.src.includes(part)).map((i) => i.naturalWidth)"
    widths: list[int] = page.evaluate(code, part)
    return widths


def wait_until_drawn(page: Page) -> None:
    """Wait until an image of pixano_library is drawn on a canvas of the page, with an object."""
    page.wait_for_function(
        """colour => [...document.querySelectorAll("canvas")].some((canvas) => {
          const {width, height} = canvas;
          if (!width || !height) return false;
          const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
          for (let at = 0; at < pixels.length; at += 4)
            if (colour.every((part, i) => Math.abs(pixels[at + i] - part) < 8) && pixels[at + 3] === 255) return true;
          return false;
        })""",
        arg=list(OBJECT_COLOUR),
        timeout=1000 * TIMEOUT_S,
    )


@pytest.fixture
def shots(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder for screenshots: `$PIXANO_SHOTS`, so that the pictures of the docs can be made again."""
    folder = Path(os.environ.get("PIXANO_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
