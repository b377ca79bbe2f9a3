"""What goes wrong under `blobpack serve`, and while a gallery is uploaded: damaged blobs, signals, a server that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from lookalike import Answer, Asked, Lookalike
from s3server import close_idle_connections, forget_clients
from test_serve import JPEG, TIMEOUT_S, client_of, server

import blobpack
from blobpack.gateway.gallery import write_gallery
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3server import S3Server

NAMES = [f"cats/{number}.jpg" for number in range(20)]

# `blobpack gallery`, also where the tests run under nohup: then programs ignore SIGINT
GALLERY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from blobpack.cli.program import run
sys.argv[0:1] = ["blobpack", "gallery"]
run()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two blobs of large members: small blobs are not mapped into memory."""
    for blob in ("bad.tar", "good.tar"):
        blobpack.pack({name: JPEG * 200 + name.encode() for name in NAMES}, tmp_path / blob)
    return tmp_path


def truncate(path: Path) -> None:
    os.truncate(path, 2000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def delete(path: Path) -> None:
    path.unlink()


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_text(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("no blob\n" * 1000)
    other.replace(path)


@pytest.mark.parametrize(
    "damage", [truncate, empty, overwrite, delete, replace_by_folder, replace_by_text]
)
def test_a_blob_that_is_damaged_under_it_harms_no_other(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    """A mapped file that is cut would kill the process by SIGBUS."""
    whole = (folder / "bad.tar").read_bytes()
    with server(folder, "bad.tar", "good.tar") as (process, ready):
        client = client_of(ready)
        # read often, so that it is mapped
        for name in NAMES * 3:
            assert client.ask(f"/b/bad/{name}").body == JPEG * 200 + name.encode()
        damage(folder / "bad.tar")
        for name in NAMES:
            answer = client.ask(f"/b/bad/{name}")
            # the last name may be answered from memory
            assert answer.status >= 400 or answer.body == JPEG * 200 + name.encode()
        assert client.ask(f"/b/bad/{NAMES[0]}", Range="bytes=0-9").status >= 400
        body = json.dumps({"blob": "bad", "members": NAMES}).encode()
        batch = client.ask("/batch", "POST", body)
        assert batch.status >= 400
        for name in NAMES:
            assert client.ask(f"/b/good/{name}").body == JPEG * 200 + name.encode()
        # a blob that comes back is served again
        if damage is replace_by_folder:
            (folder / "bad.tar").rmdir()
        (folder / "new").write_bytes(whole)
        (folder / "new").replace(folder / "bad.tar")
        until = time.monotonic() + TIMEOUT_S
        while client.ask(f"/b/bad/{NAMES[0]}").status != 200:
            assert time.monotonic() < until
        assert client.ask(f"/b/bad/{NAMES[0]}").body == JPEG * 200 + NAMES[0].encode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
        assert "Traceback" not in process.stderr.read()


def test_after_a_kill_the_cache_still_returns_right_bytes(
    folder: Path, s3_env: S3Server, bucket: str
) -> None:
    url = s3_env.put(bucket, "set.tar", (folder / "bad.tar").read_bytes())
    cached = (url, "--cache", str(folder / "cache"))
    for _ in range(2):
        with server(folder, *cached, **s3_env.settings()) as (process, ready):
            client = client_of(ready)
            threads = [
                threading.Thread(target=client.ask, args=(f"/b/set/{name}",)) for name in NAMES[:8]
            ]
            for thread in threads:
                thread.start()
            for name in NAMES[8:]:
                assert client.ask(f"/b/set/{name}").body == JPEG * 200 + name.encode()
            for thread in threads:
                thread.join()
            process.kill()


class NoPages(Lookalike):
    """A fake of a server that takes no pages: it waits, then answers 503 to each PUT of one."""

    def __init__(self, upstream: S3Server) -> None:
        """Let no PUT of a page be answered yet."""
        super().__init__(upstream)
        self.came, self.answer = threading.Event(), threading.Event()

    def refuse(self, asked: Asked) -> Answer | None:
        if asked.method == "PUT" and asked.path.endswith(".html"):
            self.came.set()
            self.answer.wait(TIMEOUT_S)
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        return super().refuse(asked)


@pytest.fixture
def published(folder: Path, s3_env: S3Server, bucket: str) -> str:
    """A blob in S3, with its page."""
    url = s3_env.put(bucket, "set.tar", (folder / "good.tar").read_bytes())
    write_gallery(Location.parse(url))
    return url


def test_a_page_that_can_not_be_uploaded_leaves_the_old_one(
    published: str, s3_env: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = s3_env.stored(bucket, "set.html")
    with NoPages(s3_env) as proxy:
        proxy.answer.set()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        with pytest.raises(blobpack.StorageError, match=r"set\.html: .*s3:PutObject"):
            write_gallery(Location.parse(published), url="https://example.org/other.tar")
        close_idle_connections()
    assert s3_env.stored(bucket, "set.html") == before
    assert not s3_env.uploads(bucket)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_page_is_uploaded_leaves_the_old_one(
    published: str, s3_env: S3Server, bucket: str, number: int
) -> None:
    before = s3_env.stored(bucket, "set.html")
    with NoPages(s3_env) as proxy:
        process = subprocess.Popen(
            [sys.executable, "-c", GALLERY, published, "--url", "https://example.org/other.tar"],
            env=s3_env.env(endpoint=proxy.endpoint),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert proxy.came.wait(TIMEOUT_S)
            process.send_signal(number)
            said = process.communicate(timeout=TIMEOUT_S)[1]
        finally:
            process.kill()
            proxy.answer.set()
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert s3_env.keys(bucket) == ["set.html", "set.tar"]
    assert s3_env.stored(bucket, "set.html") == before
    assert not s3_env.uploads(bucket)
