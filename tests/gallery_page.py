"""The gallery in Chromium, for tests: opens a page, waits until it rests, and reads what it shows."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from playwright.sync_api import Error

from blobpack.gateway.gallery import ShownBlob, page as gallery_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page
    from webserver import WebServer

WIDE = {"width": 1360, "height": 850}
PHONE = {"width": 390, "height": 844}
# the tests' machine may be shared by many
TIMEOUT_S = 120

# keeps the bytes of object URLs that the page makes, which it revokes; and notes what the policy has blocked
HOOKS = """
window.objectUrls = new Map();
window.liveUrls = new Set();
window.blocked = [];
const make = URL.createObjectURL, revoke = URL.revokeObjectURL;
URL.createObjectURL = (blob) => {
  const url = make.call(URL, blob);
  objectUrls.set(url, blob);
  liveUrls.add(url);
  return url;
};
URL.revokeObjectURL = (url) => { liveUrls.delete(url); revoke.call(URL, url); };
document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.violatedDirective));
"""

# The tiles in view, all as they are at one moment: the page may scroll later. null while a tile has neither a picture
# nor a text in its place, unless `anyway`; also while there are no tiles, and nothing says why.
SHOWN = """async (anyway) => {
  const grid = document.getElementById("grid");
  if (!grid) return null;
  const view = grid.getBoundingClientRect();
  const cells = [...document.querySelectorAll(".cell")].filter((cell) => {
    const { top, bottom } = cell.getBoundingClientRect();
    return bottom > view.top && top < view.bottom;
  });
  const isThere = (thumb) => thumb.querySelector("img.ready") || thumb.textContent;
  const isAtRest = cells.length ? cells.every((cell) => isThere(cell.firstChild)) : !document.getElementById("empty").hidden;
  if (!isAtRest && !anyway) return null;
  const base64 = (buffer) => btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""));
  return Promise.all(cells.map((cell) => ({
    row: cell.row, name: cell.title, text: cell.firstChild.textContent, file: objectUrls.get(cell.querySelector("img")?.src),
  })).map(async ({ file, ...rest }) => ({ ...rest, bytes: file ? base64(await file.arrayBuffer()) : null })));
}"""


class Shown(NamedTuple):
    """A tile in view: its row, the name that it shows, the bytes of its picture, and text in place of a picture."""

    row: int
    name: str
    bytes: bytes | None
    text: str


def put_page(server: WebServer, url: str, name: str = "index.html", **more: str) -> str:
    """Put a gallery of one blob into a web server's folder, and return its URL."""
    (server.folder / name).write_bytes(gallery_page([ShownBlob(Path(url).name, url, **more)]))
    return f"{server.url}{name}"


class GalleryPage:
    """A gallery in a page of Chromium.

    Attributes:
        page: The page of playwright.
        errors: Errors of its scripts.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script(HOOKS)

    def goto(self, url: str) -> None:
        """Open a gallery, and wait until its first screen is there."""
        self.page.goto(url)
        self.wait()

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until a condition is true, and return its value."""
        # playwright's own wait_for_function evaluates a string in the page, which the page's policy forbids
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := self._asked(condition)):
            assert time.monotonic() < deadline, f"{self.status}: {self.errors} {self.banner}"
            self.page.wait_for_timeout(30)
        return found

    @staticmethod
    def _asked(condition: Callable[[], Any]) -> Any:
        try:
            return condition()
        except Error as error:
            # the page is being loaded again
            if "context was destroyed" not in str(error):
                raise
            return None

    @property
    def status(self) -> str:
        """The line below the title."""
        return self.page.locator("#status").inner_text()

    @property
    def banner(self) -> str:
        """The banner's text; "" if it is hidden."""
        return (
            self.page.locator("#banner:not([hidden])").all_inner_texts()
            and self.page.inner_text("#banner")
        ) or ""

    def tiles(self) -> list[dict[str, Any]]:
        """Return the tiles in view as the page has them."""
        found: list[dict[str, Any]] = self.page.evaluate(SHOWN, True)
        return found

    def wait(self) -> None:
        """Wait until all tiles in view have their picture, or a text in its place."""
        self.rest()

    def rest(self) -> list[Shown]:
        """Wait until all tiles in view are there, and return them."""
        (tiles,) = self.until(
            lambda: [] if (found := self.page.evaluate(SHOWN, False)) is None else [found]
        )
        return [
            Shown(
                tile["row"],
                tile["name"],
                tile["bytes"] and base64.b64decode(tile["bytes"]),
                tile["text"],
            )
            for tile in tiles
        ]

    def search(self, text: str, found: str) -> None:
        """Type a search, and wait until the status says what was found."""
        self.page.fill("#search", text)
        self.until(lambda: self.status == found)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def snippets(self) -> dict[str, str]:
        """Return the code that fetches the open member, by its title."""
        found = {}
        self.until(lambda: self.page.locator("#tabs button").count())
        for tab in self.page.locator("#tabs button").all():
            tab.click()
            found[tab.inner_text()] = self.page.locator("#snippet").text_content() or ""
        return found

    def nodes(self) -> int:
        """Count all nodes of the document, texts included."""
        return int(
            self.page.evaluate(
                "() => { let n = 0; const walk = document.createTreeWalker(document);"
                " while (walk.nextNode()) n += 1; return n; }"
            )
        )

    def subset_command(self) -> str:
        """Return the command that the page shows for the selection, and close it."""
        self.page.click("#show-subset")
        self.until(lambda: self.page.locator("#command").is_visible())
        command = self.page.inner_text("#command-text")
        self.press("Escape")
        self.until(lambda: self.page.locator("#command").is_hidden())
        return command

    def saved(self, button: str, folder: Path) -> Path:
        """Click a button that saves a file, and return the file."""
        with self.page.expect_download(timeout=1000 * TIMEOUT_S) as saving:
            self.page.click(button)
        path = folder / saving.value.suggested_filename
        saving.value.save_as(path)
        return path


@contextmanager
def opened(browser: Browser, view: dict[str, int] = WIDE, **options: Any) -> Iterator[GalleryPage]:
    """Open an empty page, in a context of its own."""
    context = browser.new_context(viewport=view, **options)
    context.set_default_timeout(1000 * TIMEOUT_S)
    yield GalleryPage(context.new_page())
    context.close()


@contextmanager
def tasks_of(browser: Browser, page: Page, path: Path, found: list[float]) -> Iterator[None]:
    """Record the tasks of the page's main thread in the block: milliseconds of processor time of each.

    Processor time and not time on the clock: the tests' machine is shared, and a task may have to wait for a processor.
    """
    browser.start_tracing(
        page=page, path=path, categories=["disabled-by-default-devtools.timeline"]
    )
    yield
    browser.stop_tracing()
    events = json.loads(path.read_text())["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    found += [
        event["tdur"] / 1000
        for event in events
        if event["name"] == "RunTask" and (event["pid"], event["tid"]) in mains and "tdur" in event
    ]
