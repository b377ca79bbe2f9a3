"""The gallery in Chromium: what it shows, which requests it sends, and what people can do with it."""

from __future__ import annotations

import fcntl
import io
import json
import pickle
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import S3_FOLDER
from gallery_page import PHONE, WIDE, GalleryPage, opened, put_page, tasks_of
from gatewayserver import serving
from js_reader import chromium
from PIL import Image
from webserver import WebServer

import blobpack
from blobpack.gateway.app import gateway_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Route

__all__ = ["chromium"]

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
MILLION = 1_000_000
NODES_MAX = 2000
TASK_MS_MAX = 50
# a bitmap of 2 × 2 pixels needs no checksums, so a million of them are made in seconds
BMP = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 70, 0, 0, 54, 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0)


def bitmap(row: int) -> bytes:
    """A picture that no other row has."""
    one, other = row.to_bytes(3, "little"), row.to_bytes(3, "big")
    return BMP + one + other + b"\0\0" + other + one + b"\0\0"


def name_of(row: int) -> str:
    return f"{row // 1000:04}/{row:07}.bmp"


def png(side: int, colour: tuple[int, int, int], height: int | None = None) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, height or side), colour).save(file, "PNG")
    return file.getvalue()


ODD = [
    "<img src=x onerror=window.attacked=1>.png",
    "</script><script>window.attacked=2</script>.png",
    'odd/it\'s "quoted" $HOME `x` \\n.png',
    "odd/new\nline.png",
    "odd/\u202egnp.exe.png",
    "odd/🦊 größe.png",
    "odd/not utf-8 \udcff.png",
    "odd/#1 [a]* {b,c} 100%.png",
    "-rf.png",
]
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8" onload="window.attacked=3">'
    b"<script>window.attacked=4; parent.attacked=5</script><rect width='8' height='8'/></svg>"
)
MEMBERS = [
    *((f"cats/{i:04}.png", png(8 + i % 5, (i % 256, 90, 40))) for i in range(120)),
    *((f"dogs/{i:04}.png", png(60, (10, i % 256, 200), 40)) for i in range(80)),
    ("notes/broken.jpg", b"\xff\xd8\xff\xe0 no picture"),
    ("notes/empty.png", b""),
    ("notes/labels.json", b'{"cats": 1}\n'),
    ("notes/logo.svg", SVG),
    ("notes/readme.txt", b"<b>only text</b>\n"),
    *((name, png(5, (200, i, 7))) for i, name in enumerate(ODD)),
]
BYTES = dict(MEMBERS)
BROKEN = {"notes/broken.jpg", "notes/empty.png", "notes/labels.json", "notes/readme.txt"}


@pytest.fixture(scope="module")
def million(request: pytest.FixtureRequest) -> Path:
    """A folder with a blob of a million members, which all test workers share."""
    folder = request.config.stash[S3_FOLDER] / "million"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "million.tar").exists():
            members = ((name_of(row), bitmap(row)) for row in range(MILLION))
            blobpack.pack(members, folder / "million.tar")
    return folder


@pytest.fixture
def far(million: Path) -> Iterator[WebServer]:
    with WebServer(million) as server:
        put_page(server, "million.tar")
        yield server


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "small.tar"
    blobpack.pack(MEMBERS, path, all_files=True)
    return path


@pytest.fixture
def web(blob: Path, tmp_path: Path) -> Iterator[WebServer]:
    shutil.copy(blob, tmp_path / "small.tar")
    with WebServer(tmp_path) as server:
        put_page(server, "small.tar")
        yield server


@pytest.fixture
def gallery(chromium: Browser, web: WebServer) -> Iterator[GalleryPage]:
    """The gallery of the small blob, open."""
    with opened(chromium) as page:
        page.goto(f"{web.url}index.html")
        yield page
        assert page.errors == []
        assert page.page.evaluate("[window.attacked ?? 0, blocked]") == [0, []]


def payload_requests(server: WebServer, index_start: int) -> list[str]:
    """The ranges of payloads that were asked for; those of the index are not among them."""
    ranges = [request.range for request in server.requests if request.range]
    return [found for found in ranges if int(re.findall(r"\d+", found)[0]) < index_start]


def scroll_to(page: GalleryPage, part: float) -> None:
    """Move the scroll bar to a part of its way."""
    page.page.evaluate(
        "part => { const grid = document.getElementById('grid');"
        " grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * part; }",
        part,
    )


def check_bytes(page: GalleryPage, first: int | None = None) -> list[int]:
    """Check the tiles in view against what was packed, and return their rows."""
    tiles = page.rest()
    for tile in tiles:
        assert (tile.name, tile.bytes) == (name_of(tile.row), bitmap(tile.row))
    rows = [tile.row for tile in tiles]
    assert rows == list(range(rows[0], rows[-1] + 1))
    return rows


# ---- a million members


@pytest.mark.parametrize("view", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_million_members_from_the_first_to_the_last(chromium, far, view, tmp_path):
    with blobpack.open_blob(far.folder / "million.tar") as blob:
        # the archive's last bytes show that the index fits
        index_start = blob.index.offset_end[-1] - 4096
    with opened(chromium, view) as page:
        page.goto(f"{far.url}index.html")
        assert check_bytes(page)[0] == 0
        # the page, HEAD, the index's end and begin, one block, and the payloads of the screen
        assert len(far.requests) <= 6
        assert len(payload_requests(far, index_start)) == 1
        # browsers cap the height of an element; at phone width, a million members would be higher
        assert page.page.evaluate("document.querySelector('.tall').offsetHeight") == 8_000_000

        far.requests.clear()
        page.press("End")
        rows = page.until(lambda: (found := check_bytes(page))[-1] == MILLION - 1 and found)
        assert len(far.requests) <= 3
        assert len(payload_requests(far, index_start)) == 1
        assert page.page.get_attribute("#grid", "aria-activedescendant") == f"item-{MILLION - 1}"
        assert page.nodes() <= NODES_MAX

        # by the scroll bar, into the middle and to the very end
        for part, row in ((0.5, MILLION // 2), (1, MILLION - 1), (0, 0)):
            far.requests.clear()
            scroll_to(page, part)
            page.until(lambda row=row: abs(check_bytes(page)[0] - row) <= 2 * len(rows))
            assert len(far.requests) <= 3
        assert check_bytes(page)[0] == 0
        # keys go on from there, and not from the last member, where the End key had led
        page.press("ArrowRight")
        assert page.page.get_attribute("#grid", "aria-activedescendant") == "item-1"
        assert page.errors == []


@pytest.mark.parametrize(
    "view", [WIDE, PHONE, {"width": 2560, "height": 1440}], ids=["wide", "phone", "large"]
)
def test_no_task_holds_up_the_page_while_it_scrolls(chromium, far, view, tmp_path):
    tasks: list[float] = []
    with opened(chromium, view) as page:
        page.goto(f"{far.url}index.html")
        page.page.mouse.move(150, 500)
        with tasks_of(chromium, page.page, tmp_path / "trace.json", tasks):
            for part in (0.3, 0.9):
                scroll_to(page, part)
                page.wait()
                for _ in range(4):
                    page.page.mouse.wheel(0, 400)
                    page.page.wait_for_timeout(20)
                page.wait()
        check_bytes(page)
        assert page.nodes() <= NODES_MAX
    assert len(tasks) > 50
    assert max(tasks) < TASK_MS_MAX


@pytest.mark.parametrize("start", ["first", "middle", "last"])
def test_the_wheel_moves_rows_as_far_as_it_turns(chromium, far, start):
    with opened(chromium) as page:
        page.goto(f"{far.url}index.html")
        if start == "middle":
            page.page.evaluate("document.getElementById('grid').scrollTop = 4000000")
        elif start == "last":
            page.press("End")
        seen = {tile.row: tile for tile in page.rest()}
        places = "Array.from(document.querySelectorAll('.cell'), c => [c.row, c.getBoundingClientRect().top])"
        before = page.page.evaluate(places)

        def moved() -> set[int]:
            after = dict(page.page.evaluate(places))
            return {round(top - after[row]) for row, top in before if row in after}

        page.page.mouse.move(150, 500)
        by = -300 if start == "last" else 300
        page.page.mouse.wheel(0, by)
        page.until(lambda: moved() == {by})
        # a moment later the page sets the scroll bar, which must not move the rows
        page.page.wait_for_timeout(400)
        assert seen
        assert moved() == {by}


def test_a_search_in_a_million_names(chromium, far):
    with opened(chromium) as page:
        page.goto(f"{far.url}index.html")
        far.requests.clear()
        page.search("99999", "19 of 1,000,000 found")
        found = [tile.row for tile in page.rest()]
        assert found == [row for row in range(MILLION) if "99999" in name_of(row)]
        # the index, some megabytes at a time
        assert 5 < len(far.requests) < 40
        assert page.rest()[-1].bytes == bitmap(999_999)
        far.requests.clear()
        page.search("0[0-4]??/*7.bmp", "50,000 of 1,000,000 found")
        assert [tile.row for tile in page.rest()][:3] == [7, 17, 27]
        # all blocks are in memory now; what is left are the payloads of the first and the last screen of results
        page.press("Enter", "End")
        assert page.until(lambda: page.rest()[-1].row == 499_997)
        assert len(far.requests) < 60


# ---- search and filters


@pytest.mark.parametrize(
    ("text", "globs", "count"),
    [
        ("cats/*", ["cats/*"], 120),
        ("*/000[0-4].png", ["*/000[0-4].png"], 10),
        ("*größe*", ["*größe*"], 1),
    ],
)
def test_globs_find_what_blobpack_finds(gallery, blob, text, globs, count):
    gallery.search(text, f"{count} of {len(MEMBERS)} found")
    names = blobpack.open_blob(blob).index.select(*globs).names
    assert [MEMBERS[tile.row][0] for tile in gallery.rest()] == list(names)[: len(gallery.tiles())]


def test_words_are_found_without_regard_to_case_and_nothing_found_is_said(gallery):
    gallery.search("GRÖSSE", f"0 of {len(MEMBERS)} found")
    gallery.search("GRÖßE", f"1 of {len(MEMBERS)} found")
    gallery.search("no such name", f"0 of {len(MEMBERS)} found")
    assert "Nothing found for “no such name”" in gallery.page.inner_text("#empty")
    gallery.page.click("#empty button")
    gallery.until(lambda: gallery.status.startswith(f"{len(MEMBERS)} members"))
    assert gallery.page.evaluate("location.hash") in ("", "#")


def test_filters_on_type_size_width_and_height_go_with_the_search(gallery, blob):
    index = blobpack.open_blob(blob).index
    gallery.press("f")
    gallery.page.fill("[name=min-width]", "10")
    gallery.page.fill("[name=max-height]", "11")
    expected = index.select(min_width=10, max_height=11)
    gallery.until(lambda: gallery.status == f"{len(expected)} of {len(MEMBERS)} found")
    gallery.page.fill("[name=min-width]", "")
    gallery.page.fill("[name=max-height]", "")
    gallery.page.fill("[name=max-size]", "0.1k")
    expected = index.select(max_size=100)
    gallery.until(lambda: gallery.status == f"{len(expected)} of {len(MEMBERS)} found")
    gallery.page.fill("[name=max-size]", "")
    # also of members that were not in view yet
    assert gallery.page.locator("#types button").all_inner_texts() == ["jpeg", "png", "svg"]
    gallery.page.click("#types button:text-is('png')")
    gallery.page.fill("#search", "s/")
    expected = index.select("*s/*", media_type="image/png")
    gallery.until(lambda: gallery.status == f"{len(expected)} of {len(MEMBERS)} found")
    assert gallery.page.inner_text("#filter-count") == "1"
    assert "type=image%2Fpng" in gallery.page.url
    gallery.page.click("#filters button[type=reset]")
    gallery.until(lambda: gallery.status == f"{len(index.select('*s/*'))} of {len(MEMBERS)} found")
    gallery.page.fill("[name=min-size]", "much")
    assert gallery.until(
        lambda: gallery.page.get_attribute("[name=min-size]", "aria-invalid") == "true"
    )


def test_an_index_without_facts_has_a_gallery_too(chromium, tmp_path):
    blobpack.pack(MEMBERS, tmp_path / "bare.tar", all_files=True, facts=False)
    with WebServer(tmp_path) as server, opened(chromium) as page:
        page.goto(put_page(server, "bare.tar"))
        assert [tile.bytes for tile in page.rest()] == [BYTES[tile.name] for tile in page.rest()]
        page.press("f")
        assert "blobpack index --facts" in page.page.inner_text("#no-facts")
        assert page.page.is_disabled("[name=min-width]")
        page.press("Enter")
        page.until(lambda: page.page.inner_text("#large-name") == "cats/0000.png")


# ---- what tiles show


def test_members_that_are_no_pictures_show_their_type_and_broken_ones_their_name(gallery):
    gallery.search("notes/", f"5 of {len(MEMBERS)} found")
    texts = {tile.name: tile.text for tile in gallery.rest()}
    assert texts == {
        "notes/broken.jpg": "notes/broken.jpg",
        "notes/empty.png": "PNG",
        "notes/labels.json": "JSON",
        "notes/logo.svg": "",
        "notes/readme.txt": "TXT",
    }
    # its script did not run: it is drawn in <img>, which the fixture checks
    assert gallery.page.evaluate("document.querySelectorAll('.cell svg script').length") == 0


def test_names_are_text_only(gallery):
    gallery.press("End")
    names = [tile.name for tile in gallery.rest()][-len(ODD) :]
    assert names == [
        "<img src=x onerror=window.attacked=1>.png",
        "</script><script>window.attacked=2</script>.png",
        'odd/it\'s "quoted" $HOME `x` \\n.png',
        "odd/new\\nline.png",
        "odd/\\u202egnp.exe.png",
        "odd/🦊 größe.png",
        "odd/not utf-8 \\xff.png",
        "odd/#1 [a]* {b,c} 100%.png",
        "-rf.png",
    ]
    for row, name in enumerate(names, len(MEMBERS) - len(ODD)):
        gallery.page.evaluate(f"document.getElementById('item-{row}').click()")
        gallery.until(lambda name=name: gallery.page.inner_text("#large-name") == name)
        gallery.until(lambda: gallery.page.locator("#stage img").count())
        gallery.press("Escape")


def test_the_name_of_a_blob_is_text_only(chromium, web):
    name = "</script><script>window.attacked=1</script>"
    from blobpack.gateway.gallery import ShownBlob, page as gallery_page

    (web.folder / "odd.html").write_bytes(gallery_page([ShownBlob(name, "small.tar")]))
    with opened(chromium) as page:
        page.goto(f"{web.url}odd.html")
        assert page.page.inner_text("#title") == page.page.title() == name
        assert page.page.evaluate("window.attacked ?? 0") == 0


def test_the_policy_blocks_scripts_and_connections_of_others(gallery):
    outcome = gallery.page.evaluate(
        """async () => {
          const script = document.createElement("script");
          script.textContent = "window.foreign = 1";
          document.body.append(script);
          const sent = await fetch("http://127.0.0.2:9/").then(() => "sent", () => "not sent");
          return [window.foreign ?? 0, sent];
        }"""
    )
    assert outcome == [0, "not sent"]
    # its events come later
    gallery.until(
        lambda: sorted(gallery.page.evaluate("blocked")) == ["connect-src", "script-src-elem"]
    )
    gallery.page.evaluate("blocked.length = 0")


def test_only_the_blob_is_requested(gallery, web):
    gallery.press("End")
    gallery.rest()
    assert {request.path for request in web.requests} == {"/index.html", "/small.tar"}
    assert {request.method for request in web.requests} == {"GET", "HEAD"}


def test_object_urls_are_revoked(gallery):
    for key in ("End", "Home", "Enter"):
        gallery.press(key)
        gallery.rest()
    gallery.press("Escape")
    assert gallery.until(lambda: gallery.page.evaluate("liveUrls.size") == 0)
    assert gallery.page.evaluate("objectUrls.size") > 50


# ---- large view, snippets, keyboard, deep links


def test_the_large_view_has_the_facts(gallery, blob):
    member = blobpack.open_blob(blob).index["cats/0001.png"]
    gallery.press("ArrowRight", "Enter")
    gallery.until(lambda: "checked" in gallery.page.inner_text("#facts"))
    facts = gallery.page.inner_text("#facts")
    for fact in (
        "image/png",
        "9 × 9",
        f"{member.offset_end - member.offset_start} bytes",
        f"{member.offset_start:,} – {member.offset_end:,}",
        f"{member.crc32c:08x}",
        "small.tar",
    ):
        assert fact in facts
    assert gallery.page.inner_text("#large-place") == f"2 of {len(MEMBERS)}"
    shown = gallery.page.evaluate(
        "async () => [...new Uint8Array(await objectUrls.get(document.querySelector('#stage img').src).arrayBuffer())]"
    )
    assert bytes(shown) == BYTES["cats/0001.png"]


def test_the_keyboard_reaches_everything(gallery):
    page = gallery.page

    def active() -> str | None:
        return page.get_attribute("#grid", "aria-activedescendant")

    gallery.press("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft")
    columns = int(page.get_attribute("#grid", "aria-colcount") or 0)
    assert active() == f"item-{columns + 1}"
    gallery.press("Home")
    assert active() == "item-0"
    gallery.press("PageDown", "PageUp", "End")
    assert active() == f"item-{len(MEMBERS) - 1}"
    gallery.press("Home", "Space")
    assert page.inner_text("#selected") == "1 selected"
    gallery.press("Enter")
    gallery.until(lambda: page.inner_text("#large-name") == "cats/0000.png")
    gallery.press("ArrowRight")
    gallery.until(lambda: page.inner_text("#large-name") == "cats/0001.png")
    gallery.press("Space", "Escape")
    gallery.until(lambda: page.locator("#large").is_hidden())
    assert page.inner_text("#selected") == "2 selected"
    # back in the grid, at the image that was seen last
    assert active() == "item-1"
    assert page.evaluate("document.activeElement.id") == "grid"
    gallery.press("?")
    assert page.locator("#help").is_visible()
    gallery.press("Escape", "Escape")
    assert page.locator("#selection").is_hidden()
    gallery.press("/")
    page.keyboard.type("dogs")
    gallery.until(lambda: gallery.status.startswith("80 of"))
    gallery.press("ArrowDown", "ArrowRight", "Enter")
    gallery.until(lambda: page.inner_text("#large-name") == "dogs/0001.png")
    gallery.press("Escape")
    gallery.until(lambda: page.locator("#large").is_hidden())
    gallery.press("Escape")
    gallery.until(lambda: gallery.status.startswith(f"{len(MEMBERS)} members"))
    before = page.get_attribute("#grid", "aria-colcount")
    gallery.press("+", "+")
    assert int(page.get_attribute("#grid", "aria-colcount") or 0) < int(before or 0)


def test_deep_links_hold_search_filter_and_image(chromium, web):
    with opened(chromium) as page:
        link = f"{web.url}index.html#q=dogs&min-width=20&image=dogs%2F0007.png"
        page.goto(link)
        page.until(lambda: page.status == f"80 of {len(MEMBERS)} found")
        page.until(lambda: page.page.inner_text("#large-name") == "dogs/0007.png")
        page.until(lambda: page.page.inner_text("#large-place") == "8 of 80")
        assert page.page.input_value("#search") == "dogs"
        assert page.page.input_value("[name=min-width]") == "20"
        # closing it leaves the search
        page.press("Escape")
        page.until(lambda: page.page.locator("#large").is_hidden())
        page.until(lambda: page.page.evaluate("location.hash") == "#q=dogs&min-width=20")
        page.press("Enter")
        page.until(lambda: "image=dogs" in page.page.url)
        page.page.go_back()
        page.until(lambda: page.page.locator("#large").is_hidden())
        page.page.go_forward()
        page.until(lambda: page.page.locator("#large").is_visible())
        copied = page.page.url
        assert page.errors == []
    with opened(chromium) as page:
        page.goto(copied)
        page.until(lambda: page.page.inner_text("#large-name").startswith("dogs/"))


def test_links_that_make_no_sense_do_no_harm(chromium, web):
    links = [
        "row=99999999",
        "row=-1&q=%",
        "image=%ff%00",
        "type=a/b&min-size=x",
        "q=[",
        "image=none",
    ]
    with opened(chromium) as page:
        for number, link in enumerate(links):
            page.goto(f"{web.url}index.html?{number}#{link}")
            assert page.page.locator("#large").is_hidden()
            assert (page.errors, page.banner) == ([], "")


@pytest.mark.parametrize(
    "reopen",
    [
        # the event of the closing comes after the click
        "() => { large.close(); document.getElementById('item-2').click(); }",
        # the browser has not gone back yet
        """() => new Promise((resolve) => {
          large.addEventListener("close", () => resolve(document.getElementById("item-2").click()), { once: true });
          large.close();
        })""",
        # twice
        """() => new Promise((resolve) => {
          large.addEventListener("close", () => {
            document.getElementById("item-1").click();
            setTimeout(() => { large.close(); resolve(document.getElementById("item-2").click()); });
          }, { once: true });
          large.close();
        })""",
    ],
    ids=["same task", "close event", "twice"],
)
def test_an_image_opens_while_another_one_closes(gallery, reopen):
    page = gallery.page
    gallery.press("Enter")
    gallery.until(lambda: "image=cats%2F0000.png" in page.url)
    entries = page.evaluate("history.length")
    page.evaluate(reopen)
    gallery.until(lambda: "image=cats%2F0002.png" in page.url)
    gallery.until(lambda: page.locator("#stage img").count())
    assert page.inner_text("#large-name") == "cats/0002.png"
    assert page.evaluate("history.length") == entries
    # Back leads to the grid
    page.go_back()
    gallery.until(lambda: page.locator("#large").is_hidden())
    gallery.until(lambda: page.evaluate("location.hash") == "")


def test_every_key_is_a_step(gallery):
    gallery.press("Enter")
    gallery.until(lambda: gallery.page.locator("#stage img").count())
    gallery.page.evaluate(
        """() => { for (let i = 0; i < 3; i += 1) {
          document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
        } }"""
    )
    gallery.until(lambda: gallery.page.inner_text("#large-name") == "cats/0003.png")


def test_an_image_that_was_found_late_does_not_replace_the_one_opened_since(chromium, far):
    with opened(chromium) as gallery:
        page = gallery.page
        gallery.goto(f"{far.url}index.html")
        page.evaluate(
            """() => {
              window.names = [];
              const name = document.getElementById("large-name");
              new MutationObserver(() => names.push(name.textContent)).observe(name, { childList: true });
            }"""
        )
        held: list[Route] = []
        page.route("**/million.tar", lambda route: held.append(route))
        page.evaluate("location.hash = '#row=500000'")
        gallery.until(lambda: held)
        page.evaluate("document.getElementById('item-1').click()")
        gallery.until(lambda: page.inner_text("#large-name") == name_of(1))
        late = list(held)
        page.route("**/million.tar", lambda route: route.continue_())
        with page.expect_event("requestfinished"):
            for route in late:
                route.continue_()
        # the next row of the block that came late
        page.evaluate("location.hash = '#row=500001'")
        gallery.until(lambda: page.inner_text("#large-name") == name_of(500_001))
        assert page.evaluate("names") == [name_of(1), name_of(500_001)]
        assert gallery.errors == []


def test_members_of_one_name_are_told_apart_by_their_row(chromium, tmp_path):
    with blobpack.open_blob(_twice(tmp_path)) as blob:
        assert len(blob.index) == 2
    with WebServer(tmp_path) as server, opened(chromium) as page:
        page.goto(put_page(server, "twice.tar"))
        for row, colour in ((0, (1, 1, 1)), (1, (2, 2, 2))):
            page.page.goto(f"{server.url}index.html#image=a.png&row={row}")
            page.until(lambda row=row: page.page.inner_text("#large-place") == f"{row + 1} of 2")
            page.until(lambda: page.page.locator("#stage img").count())
            shown = page.page.evaluate(
                "async () => [...new Uint8Array(await objectUrls.get(document.querySelector('#stage img').src).arrayBuffer())]"
            )
            assert bytes(shown) == png(3, colour)


def _twice(folder: Path) -> Path:
    import tarfile

    with tarfile.open(folder / "twice.tar", "w") as tar:
        for value in (1, 2):
            payload = png(3, (value, value, value))
            info = tarfile.TarInfo("a.png")
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    subprocess.run([PROGRAM, "index", "twice.tar", "-q"], cwd=folder, check=True)
    return folder / "twice.tar"


def test_snippets_fetch_exactly_the_member(gallery, tmp_path):
    for row in (0, *range(len(MEMBERS) - len(ODD), len(MEMBERS))):
        name, payload = MEMBERS[row]
        gallery.page.evaluate(f"location.hash = '#row={row}'")
        place = f"{row + 1} of {len(MEMBERS)}"
        gallery.until(lambda place=place: gallery.page.inner_text("#large-place") == place)
        snippets = gallery.snippets()
        folder = tmp_path / str(row)
        folder.mkdir()
        subprocess.run(["bash", "-euc", snippets["curl"]], cwd=folder, check=True)
        (file,) = folder.iterdir()
        assert file.name == name.rpartition("/")[2]
        assert file.read_bytes() == payload
        for title in ("Python", "blobpack"):
            names: dict[str, Any] = {}
            exec(snippets[title], names)
            assert names["payload"] == payload


# ---- selection


def select_odd(gallery: GalleryPage, rows: list[int]) -> None:
    gallery.page.focus("#grid")
    gallery.press("End")
    gallery.rest()
    for row in rows:
        gallery.page.evaluate(
            f"document.getElementById('item-{row}').dispatchEvent(new MouseEvent('click', {{bubbles: true, ctrlKey: true}}))"
        )


def test_selected_offsets_are_those_that_blobpack_writes(gallery, blob, tmp_path):
    rows = list(range(len(MEMBERS) - len(ODD), len(MEMBERS)))
    select_odd(gallery, rows)
    path = gallery.saved("#save-offsets", tmp_path)
    assert path.name == "small_offsets.pkl"
    with blobpack.open_blob(blob) as opened_blob:
        index = opened_blob.index[rows[0] :]
        blobpack.write_offsets(index, tmp_path / "expected.pkl")
    assert path.read_bytes() == (tmp_path / "expected.pkl").read_bytes()
    assert blobpack.read_offsets(path).names == index.names

    class Info:
        pass

    class Restricted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> type:
            assert (module, name) == ("supervisely.api.image_api", "BlobImageInfo")
            return Info

    (first, *_) = Restricted(io.BytesIO(path.read_bytes())).load()
    assert vars(first) == {
        "name": ODD[0],
        "offset_start": index.offset_start[0],
        "offset_end": index.offset_end[0],
    }


def test_a_list_of_selected_names_and_the_subset_command(gallery, tmp_path, web):
    select_odd(gallery, [203, len(MEMBERS) - 1, len(MEMBERS) - 3])
    gallery.rest()
    gallery.press("Home")
    gallery.page.locator("#item-0 .mark").click()
    names = ["cats/0000.png", "notes/logo.svg", ODD[-3], "-rf.png"]
    listed = gallery.saved("#save-list", tmp_path)
    assert listed.read_bytes() == b"".join(
        name.encode("utf-8", "surrogateescape") + b"\n" for name in names
    )
    run_subset(gallery, tmp_path, web, names)
    # names that hold a line break go by globs
    select_odd(gallery, [len(MEMBERS) - 6, len(MEMBERS) - 2])
    run_subset(gallery, tmp_path, web, sorted([*names, ODD[-6], ODD[-2]], key=list(BYTES).index))


def run_subset(gallery: GalleryPage, folder: Path, web: WebServer, names: list[str]) -> None:
    command = gallery.subset_command().replace("blobpack subset", f"{PROGRAM} subset --quiet", 1)
    subprocess.run(["bash", "-euc", command], cwd=folder, check=True)
    with blobpack.open_blob(folder / "subset.tar") as blob:
        assert list(blob.index.names) == names
        assert [blob.read(name) for name in names] == [BYTES[name] for name in names]


def test_offsets_and_names_of_a_million_members_are_saved(chromium, far, tmp_path):
    with opened(chromium) as page:
        page.goto(f"{far.url}index.html")
        page.page.focus("#grid")
        page.press("Control+a")
        assert page.page.inner_text("#selected") == "1,000,000 selected"
        # all but one, so that rows count
        page.press("Space")
        with blobpack.open_blob(far.folder / "million.tar") as blob:
            blobpack.write_offsets(blob.index[1:], tmp_path / "expected.pkl")
        path = page.saved("#save-offsets", tmp_path)
        assert path.read_bytes() == (tmp_path / "expected.pkl").read_bytes()
        names = page.saved("#save-list", tmp_path).read_text().splitlines()
        assert names == [name_of(row) for row in range(1, MILLION)]
        assert "--names-from names.txt" in page.subset_command()
        assert page.errors == []


def test_all_that_a_search_found_becomes_a_command_with_its_filters(gallery, tmp_path, web):
    with blobpack.open_blob(web.folder / "small.tar") as blob:
        expected = list(blob.index.select(regex="(?i)s/00", min_width=10).names)
    gallery.press("f")
    gallery.page.fill("[name=min-width]", "10")
    gallery.search("S/00", f"{len(expected)} of {len(MEMBERS)} found")
    gallery.page.focus("#grid")
    gallery.press("Control+a")
    gallery.until(lambda: gallery.page.inner_text("#selected") == f"{len(expected)} selected")
    assert "--min-width 10" in gallery.subset_command()
    run_subset(gallery, tmp_path, web, expected)


def test_a_range_is_selected_with_shift(gallery):
    gallery.page.locator("#item-2 .mark").click()
    gallery.page.locator("#item-9").click(modifiers=["Shift"])
    assert gallery.page.inner_text("#selected") == "8 selected"
    assert gallery.page.get_attribute("#item-5", "aria-selected") == "true"
    gallery.page.click("#select-none")
    assert gallery.page.get_attribute("#item-5", "aria-selected") == "false"


# ---- what changes and fails


def test_a_blob_that_was_replaced_is_never_shown(chromium, web):
    with opened(chromium) as page:
        page.goto(f"{web.url}index.html")
        blobpack.pack(
            [(name, png(9, (255, 0, 0))) for name, _ in MEMBERS],
            web.folder / "small.tar",
            all_files=True,
        )
        page.press("End")
        page.until(lambda: "This blob was replaced" in page.banner)
        assert all(tile["bytes"] is None for tile in page.tiles() if tile["row"] > 150)
        page.page.click("#banner button")
        page.until(lambda: page.banner == "")
        assert {tile.bytes for tile in page.rest()} == {png(9, (255, 0, 0))}


def test_a_screen_that_failed_can_be_tried_again(chromium, web):
    with opened(chromium) as page:
        page.goto(f"{web.url}index.html")
        # not repeated by itself, as 500 is
        web.does.faults = [403]
        page.press("End")
        page.until(lambda: "403" in page.banner)
        page.page.click("#banner button")
        assert page.rest()[-1].bytes == BYTES["-rf.png"]
        assert page.banner == ""


def test_a_damaged_member_spoils_no_other(chromium, web):
    with blobpack.open_blob(web.folder / "small.tar") as blob:
        place = blob.index.offset_start[3]
    data = bytearray((web.folder / "small.tar").read_bytes())
    data[place + 20] ^= 1
    (web.folder / "small.tar").write_bytes(data)
    with opened(chromium) as page:
        page.goto(f"{web.url}index.html")
        tiles = page.rest()
        assert tiles[3].text == "cats/0003.png: ChecksumError"
        assert [tile.bytes for tile in tiles[4:8]] == [BYTES[tile.name] for tile in tiles[4:8]]


def test_a_blob_that_is_missing_is_said(chromium, web):
    (web.folder / "small.tar").unlink()
    with opened(chromium) as page:
        page.page.goto(f"{web.url}index.html")
        page.until(lambda: "small.tar" in page.banner)


def test_a_collection_is_one_gallery(chromium, tmp_path):
    blobpack.pack_shards(MEMBERS, tmp_path / "shards", 100_000, all_files=True)
    (tmp_path / "shards").mkdir(exist_ok=True)
    with WebServer(tmp_path / "shards") as server, opened(chromium) as page:
        page.goto(put_page(server, "collection.idx"))
        assert page.status.startswith(f"{len(MEMBERS)} members")
        page.press("End")
        assert [tile.bytes for tile in page.rest() if tile.bytes] == [
            BYTES[MEMBERS[tile.row][0]] for tile in page.rest() if tile.bytes
        ]
        page.press("Enter")
        page.until(lambda: page.page.inner_text("#large-name") == "-rf.png")
        names: dict[str, Any] = {}
        exec(page.snippets()["Python"], names)
        assert names["payload"] == BYTES["-rf.png"]
        assert page.errors == []


# ---- looks and access


def test_the_grid_says_to_screen_readers_what_it_holds(gallery):
    page = gallery.page
    columns = int(page.get_attribute("#grid", "aria-colcount") or 0)
    assert page.get_attribute("#grid", "aria-rowcount") == str(-(-len(MEMBERS) // columns))
    tree = page.locator("main").aria_snapshot()
    assert 'grid "Images"' in tree
    assert 'gridcell "cats/0000.png"' in tree
    assert page.get_attribute("#status", "role") == "status"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select")].filter((field) =>
          !(field.ariaLabel || field.textContent.trim() || field.labels?.length)).map((field) => field.outerHTML)"""
    )
    assert unnamed == []
    page.click("#item-0")
    gallery.until(lambda: page.locator("#large").is_visible())
    assert "dialog" in page.locator("#large").aria_snapshot()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light_follow_the_system_until_the_button_is_pressed(chromium, web, scheme):
    with opened(chromium, color_scheme=scheme) as page:
        page.goto(f"{web.url}index.html")

        def is_dark() -> bool:
            colour = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(map(int, re.findall(r"\d+", colour))) < 300

        assert is_dark() == (scheme == "dark")
        page.page.click("#theme")
        assert is_dark() == (scheme == "light")
        page.goto(f"{web.url}index.html")
        assert is_dark() == (scheme == "light")


def test_on_a_phone_nothing_is_wider_than_the_screen_and_a_long_touch_selects(chromium, web):
    with opened(chromium, PHONE, has_touch=True) as page:
        page.goto(f"{web.url}index.html")
        page.press("f")
        wide = "document.documentElement.scrollWidth > innerWidth"
        assert not page.page.evaluate(wide)
        page.press("f")
        page.page.evaluate(
            """() => document.getElementById("item-1").dispatchEvent(
              new PointerEvent("pointerdown", { bubbles: true, pointerType: "touch" }))"""
        )
        page.until(lambda: page.page.locator("#selection").is_visible())
        assert not page.page.evaluate(wide)
        # the first tap ends the long touch; a tap that takes longer on a busy machine is a long touch, too
        page.until(
            lambda: (
                page.page.locator("#large").is_visible()
                or page.page.locator("#item-4").tap(force=True)
            )
        )
        assert not page.page.evaluate(wide)


def test_several_blobs_share_a_page(chromium, web):
    from blobpack.gateway.gallery import ShownBlob, page as gallery_page

    blobpack.pack([("one.png", png(4, (1, 2, 3)))], web.folder / "other.tar")
    blobs = [ShownBlob("small", "small.tar"), ShownBlob("other", "other.tar")]
    (web.folder / "both.html").write_bytes(gallery_page(blobs))
    with opened(chromium) as page:
        page.goto(f"{web.url}both.html")
        assert page.status.startswith(f"{len(MEMBERS)} members")
        page.page.select_option("#blobs", "other")
        page.until(lambda: page.status.startswith("1 member"))
        assert [tile.name for tile in page.rest()] == ["one.png"]
        assert json.dumps(page.errors) == "[]"


def test_a_server_shows_the_gallery_of_its_blobs(chromium, tmp_path):
    blobpack.pack(dict(MEMBERS), tmp_path / "out.tar", all_files=True)
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        blobpack.pack({f"{name}.png": png(9, (1, 2, 3))}, tmp_path / "two" / f"{name}.tar")
    blobpack.collect(tmp_path / "two")
    with (
        blobpack.open(tmp_path / "out.tar") as blob,
        blobpack.open(tmp_path / "two") as collection,
        serving(gateway_app({"out": blob, "sets/two": collection})) as client,
        opened(chromium, WIDE) as gallery,
    ):
        requests = []
        gallery.page.on("request", lambda request: requests.append(request.url))
        gallery.goto(f"{client.url}/")
        tiles = gallery.rest()
        assert len(tiles) > 20
        for tile in tiles:
            assert tile.bytes == BYTES[tile.name] or tile.name in BROKEN
        assert all(url.startswith((client.url, f"blob:{client.url}", "data:")) for url in requests)
        gallery.page.locator("#blobs").select_option(label="sets/two")
        gallery.until(lambda: "2 members" in gallery.status)
        assert {tile.name for tile in gallery.rest()} == {"a.png", "b.png"}
        assert not gallery.errors
