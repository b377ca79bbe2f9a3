"""Any thread may close a blob: reads under way get their own bytes, later ones a StorageError, and no descriptor is left."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

import blobpack
from blobpack.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = ("embed", "sidecar", "offsets", "given", "zst", "collection")
# descriptors of an open source: its own, and that of an index file beside it
HELD = {"embed": 1, "sidecar": 2, "offsets": 1, "given": 1, "zst": 1, "collection": 2}
ROUNDS = 40
READERS = 3
OTHER = b"\xa5" * (1 << 20)


class Source(NamedTuple):
    """A blob or collection that can be opened, and the payloads of its members."""

    open: Callable[[], blobpack.Blob | blobpack.Collection]
    payloads: dict[str, bytes]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(kind: str, tmp_path: Path) -> Source:
    """Make a source of each kind, and beside it a file of other bytes."""
    rng = random.Random(7)
    payloads = {f"{i:03}.bin": rng.randbytes(rng.randrange(1, 5000)) for i in range(200)}
    (tmp_path / "other").write_bytes(OTHER)
    folder = tmp_path / "of"
    folder.mkdir()
    if kind == "collection":
        blobpack.pack(payloads.items(), folder / "o.tar", all_files=True)
        blobpack.collect([folder / "o.tar"], folder / "collection.idx")
        return Source(lambda: blobpack.open_collection(folder), payloads)
    path = folder / ("o.tar.zst" if kind == "zst" else "o.tar")
    index = blobpack.pack(
        payloads.items(),
        path,
        all_files=True,
        index={"sidecar": "sidecar", "zst": "embed", "embed": "embed"}.get(kind, "none"),
    ).index
    if kind == "offsets":
        blobpack.write_offsets(index, folder / "o_offsets.pkl")
    given = index if kind == "given" else None
    return Source(lambda: blobpack.open_blob(path, given), payloads)


def held(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if path.startswith(f"{folder}{os.sep}"):
            found.append(path)
    return found


def test_a_read_that_is_under_way_gets_its_own_bytes(
    source: Source, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the choice of the descriptor and the read, another thread closes, and its numbers are given to other files."""
    # Python reads what native code can't
    monkeypatch.setattr("blobpack.stores.local.LocalFile", lambda *_: None)
    opened = source.open()
    name = "007.bin"
    others: list[int] = []
    pread = os.pread

    def close_and_open_others() -> None:
        opened.close()
        others.extend(os.open(tmp_path / "other", os.O_RDONLY) for _ in range(8))

    def interrupted(fd: int, size: int, pos: int) -> bytes:
        if not others:
            thread = threading.Thread(target=close_and_open_others)
            thread.start()
            thread.join()
        return pread(fd, size, pos)

    if kind == "collection":
        opened.read(name)  # opens the blob, and that reads bytes, too
    monkeypatch.setattr(os, "pread", interrupted)
    try:
        assert opened.read(name) == source.payloads[name]
        assert others
        with pytest.raises(StorageError, match="closed"):
            opened.read(name)
    finally:
        for fd in others:
            os.close(fd)


def test_a_read_that_begins_after_close_is_a_storage_error(source: Source) -> None:
    opened = source.open()
    members = [opened.index["001.bin"], opened.index["002.bin"]]
    names = [member.name for member in members]
    begun = opened.read_many(names)
    assert next(begun) == source.payloads["001.bin"]
    begun_members = opened.read_members(members)
    opened.close()

    async def read_alone() -> None:
        await opened.aread("001.bin")

    async def read_several() -> None:
        async for _ in opened.aread_many(names):
            pass

    for read in (
        lambda: opened.read("001.bin"),
        lambda: list(opened.read_many(names)),
        lambda: list(opened.read_members(members)),
        lambda: next(begun_members),
        lambda: asyncio.run(read_alone()),
        lambda: asyncio.run(read_several()),
    ):
        with pytest.raises(StorageError, match="closed"):
            read()
    if isinstance(opened, blobpack.Blob):
        with pytest.raises(StorageError, match="closed"):
            next(begun)
        with pytest.raises(StorageError, match="closed"):
            blobpack.verify(opened)


def test_close_frees_all_descriptors(source: Source, kind: str, tmp_path: Path) -> None:
    opened = source.open()
    index = opened.index
    assert opened.read("003.bin") == source.payloads["003.bin"]
    assert len(held(tmp_path)) == HELD[kind]
    opened.close()
    assert held(tmp_path) == []
    opened.close()
    if kind in ("embed", "sidecar", "zst", "collection"):
        for use in (
            lambda: index["003.bin"],
            lambda: "003.bin" in index,
            lambda: index._search(["003.bin"]),
            lambda: list(index),
        ):
            with pytest.raises(StorageError, match="the index is closed"):
                use()
    else:
        assert "003.bin" in index


def test_an_index_is_closed_by_whoever_opened_it(tmp_path: Path) -> None:
    blobpack.pack([("a", b"1"), ("b", b"22")], tmp_path / "o.tar", all_files=True, index="sidecar")
    index = blobpack.Index.load(tmp_path / "o.tar.idx")
    with blobpack.open_blob(tmp_path / "o.tar", index) as blob:
        assert blob.read("b") == b"22"
    assert "b" in index
    assert held(tmp_path) == [str(tmp_path / "o.tar.idx")]
    index.close()
    index.close()
    assert held(tmp_path) == []
    with pytest.raises(StorageError, match=r"o\.tar\.idx: the index is closed"):
        index.range_of("b")


def test_a_lookup_that_is_under_way_keeps_its_map_and_file(tmp_path: Path) -> None:
    blobpack.pack([("a", b"1"), ("b", b"22")], tmp_path / "o.tar", all_files=True)
    blob = blobpack.open_blob(tmp_path / "o.tar")
    found = blob.index._bounds_of("b")
    stored = blob.index._stored
    assert stored is not None
    locate = stored.locate  # what a thread holds while it looks up
    blob.close()
    assert locate("b") == found
    assert len(held(tmp_path)) == 1
    del locate
    assert held(tmp_path) == []


def test_threads_that_read_while_others_close_get_right_bytes_or_a_storage_error(
    source: Source, tmp_path: Path
) -> None:
    names = list(source.payloads)
    current = [source.open()]
    faults: list[object] = []
    reads = 0
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        rng = random.Random(threading.get_ident())
        while not done.is_set():
            name = rng.choice(names)
            try:
                payload = current[0].read(name)
            except StorageError as exc:
                if "closed" not in str(exc):
                    faults.append(exc)
            except Exception as exc:
                faults.append(exc)
            else:
                reads += 1
                if payload != source.payloads[name]:
                    faults.append(name)

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            before, current[0] = current[0], source.open()
            before.close()
            for fd in [os.open(tmp_path / "other", os.O_RDONLY) for _ in range(4)]:
                os.close(fd)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    current[0].close()
    assert reads
    assert faults == []


def test_too_many_open_files_names_the_number_of_open_blobs(tmp_path: Path) -> None:
    blobpack.pack([("a", b"1")], tmp_path / "o.tar", all_files=True)
    code = f"""
import resource
import blobpack

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
blobs = []
try:
    while True:
        blobs.append(blobpack.open_blob({os.fspath(tmp_path / "o.tar")!r}))
except blobpack.StorageError as exc:
    assert f"Too many open files: this process has {{len(blobs)}} blobs" in str(exc), exc
for blob in blobs[:5]:
    blob.close()
again = [blobpack.open_blob({os.fspath(tmp_path / "o.tar")!r}) for _ in range(5)]
assert [blob.read("a") for blob in again] == [b"1"] * 5
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
