"""The reader in JavaScript, blobpack.js, run for tests: in Node, and in a page of Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

MODULE = Path(blobpack.__file__).parent / "gateway" / "static" / "blobpack.js"
DRIVER = Path(__file__).with_name("js_driver.mjs")
# the tests' machine may be shared by many
ANSWER_S = 120
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Runner(Protocol):
    """Something that runs jobs of js_driver.mjs."""

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job, and return its answer; js_driver.mjs has the form of both."""
        ...


class Node:
    """A Node process that runs jobs, one after the other."""

    def __init__(self, folder: Path) -> None:
        """Start it. The folder gets a copy of the module whose name tells Node that it is an ES module."""
        module = folder / "blobpack.mjs"
        shutil.copy(MODULE, module)
        self._process = subprocess.Popen(
            [node_path(), str(DRIVER), str(module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
        )

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job; see Runner."""
        assert self._process.stdin
        assert self._process.stdout
        # a promise that nobody keeps would hang the test
        watch = threading.Timer(ANSWER_S, self._process.kill)
        watch.start()
        print(json.dumps(job), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        watch.cancel()
        assert line, "Node ended, or did not answer in time"
        answer: dict[str, Any] = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=120)


class PageRunner:
    """A page of Chromium that runs jobs."""

    def __init__(self, page: Page) -> None:
        """Run jobs in a page whose origin serves blobpack.js and js_driver.mjs."""
        page.set_default_timeout(1000 * ANSWER_S)
        self.page = page

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job; see Runner."""
        code = """async (job) => {
          const [blobpack, driver] = await Promise.all([import("/blobpack.js"), import("/js_driver.mjs")]);
          return JSON.stringify(await driver.run(blobpack, JSON.parse(job)));
        }"""
        answer: dict[str, Any] = json.loads(self.page.evaluate(code, json.dumps(job)))
        return answer


def node_path() -> str:
    """Return the path of Node: the system's, or else the one that comes with playwright."""
    found = shutil.which("node")
    if found:
        return found
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


def put_page(folder: Path) -> None:
    """Put an empty page, blobpack.js and js_driver.mjs into the folder of a web server."""
    shutil.copy(MODULE, folder / "blobpack.js")
    shutil.copy(DRIVER, folder / "js_driver.mjs")
    (folder / "index.html").write_text("<!doctype html><title>blobpack.js</title>")


@contextmanager
def started_chromium() -> Iterator[Browser]:
    """Start a Chromium without a window, and end it after the block."""
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        message = "Chromium is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_OPTIONS, timeout=1000 * ANSWER_S
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Node process for the tests of a module."""
    runner = Node(tmp_path_factory.mktemp("node"))
    yield runner
    runner.close()


# not of the whole session: playwright keeps an event loop in the thread of the tests, in which asyncio.run would fail
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium for the tests of a module."""
    with started_chromium() as browser:
        yield browser
