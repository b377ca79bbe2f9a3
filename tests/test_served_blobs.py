"""The blobs of a server by name, and reads of their payloads that many clients share."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import blobpack
from blobpack.errors import BlobChangedError, ChecksumError, StorageError
from blobpack.gateway.payloads import (
    HELD_BYTES_MAX,
    LOCAL_PIECE_BYTES,
    LOOK_EVERY_S,
    WHOLE_BYTES_MAX,
    BusyError,
    Payloads,
)
from blobpack.gateway.served.blobs import ServedBlobs
from blobpack.index.index import Index
from blobpack.opening.blob import Blob
from blobpack.opening.kind import name_of
from blobpack.stores.memory import MemoryStore

PIXEL = b"\xff\xd8\xff\xe0" + bytes(range(256))
FILES = {
    "cats/1.jpg": PIXEL,
    "cats/2.jpg": PIXEL * 3,
    "x": b"",
    "bytes\udcff": b"\x89PNG",
    "a?b #+%2F.svg": b"y",
}


class SlowStore(MemoryStore):
    """A fake remote store: it counts its reads, and each waits until the test lets it go."""

    is_remote = True

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []
        self.go = threading.Event()

    def fetch(self, start: int, end: int) -> bytes:
        self.reads.append((start, end))
        assert self.go.wait(120)
        return super().fetch(start, end)

    def read_if_ready(self, start: int, end: int) -> None:
        return None


@pytest.fixture
def path(tmp_path):
    out = tmp_path / "out.tar"
    blobpack.pack(FILES, out, all_files=True)
    return out


@pytest.fixture
def slow(path):
    store = SlowStore(path.read_bytes())
    return store, ServedBlobs({"out": Blob(store, blobpack.open(path).index)})


def read_whole(payloads, member):
    return asyncio.run(payloads.aread(member, 0, member.size))


def test_members_are_found_under_the_name_of_their_blob(path):
    with blobpack.open(path) as blob:
        served = ServedBlobs({"out": blob})
        payloads = Payloads()
        for row, (name, payload) in enumerate(FILES.items()):
            member = served.find(f"out/{name}")
            assert (member.name, member.row, member.size) == (name, row, len(payload))
            assert member == served.get("out").at(row)
            assert read_whole(payloads, member) == payload
            assert payloads.read(member, 0, member.size) == payload
        for path_ in ("out", "out/", "out/none", "none/x", "", "/", "/out/x", "out//x"):
            assert served.find(path_) is None
        facts = served.find("out/cats/1.jpg")
        assert facts.media_type == "image/jpeg"
        assert facts.crc32c == blob.index["cats/1.jpg"].crc32c


def test_the_longest_name_of_a_blob_wins(tmp_path):
    readers = {}
    for name in ("a", "a/b", "a/b/c"):
        blobpack.pack(
            {"b/c/d": name.encode(), "c/d": name.encode(), "d": name.encode()},
            tmp_path / "x.tar",
            force=True,
            all_files=True,
        )
        readers[name] = blobpack.open(tmp_path / "x.tar")
        os.rename(tmp_path / "x.tar", tmp_path / f"{len(name)}.tar")
    served = ServedBlobs(readers)
    assert [blob.name for blob in served] == ["a", "a/b", "a/b/c"]
    for path, blob, member in (
        ("a/b/c/d", "a/b/c", "d"),
        ("a/b/d", "a/b", "d"),
        ("a/d", "a", "d"),
        ("a/b", "a", "b"),
        ("a/bc/d", "a", "bc/d"),
    ):
        assert [served.resolve(path)[0].name, served.resolve(path)[1]] == [blob, member]


def test_each_state_of_a_blob_has_a_name_of_its_own(path, tmp_path):
    with blobpack.open(path) as blob:
        served = ServedBlobs({"out": blob})
        version = served.get("out").version
        assert not served.get("out").is_pinned
        assert served.get(f"out@{version}").is_pinned
        assert served.find(f"out@{version}/x").etag == served.find("out/x").etag
        assert ServedBlobs({"out": blob}, pinned=True).get("out").is_pinned
        # the version is the content's: a copy has it, too
        copy = tmp_path / "copy.tar"
        copy.write_bytes(path.read_bytes())
        with blobpack.open(copy) as other:
            assert ServedBlobs({"o": other}).get("o").version == version
        blobpack.append(path, {"more": b"more"}, all_files=True)
    with blobpack.open(path) as blob:
        again = ServedBlobs({"out": blob})
        assert again.get("out").version != version
        assert again.get(f"out@{version}") is None


def test_entity_tags_differ_where_payloads_do(path):
    with blobpack.open(path) as blob:
        served = ServedBlobs({"out": blob})
        tags = {served.get("out").at(row).etag for row in range(len(FILES))}
        assert len(tags) == len(FILES)
        assert all(tag.startswith(b'"') and tag.endswith(b'"') for tag in tags)


def test_a_blob_without_facts_is_served(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack(FILES, path, facts=False, index="none", all_files=True)
    with blobpack.open(path, index=blobpack.scan(path)) as blob:
        member = ServedBlobs({"out": blob}).find("out/cats/2.jpg")
        assert (member.media_type, member.crc32c) == (None, None)
        assert read_whole(Payloads(), member) == FILES["cats/2.jpg"]


@pytest.mark.parametrize("name", ["", "/", "a/", "/a"])
def test_a_name_must_fit_into_a_path(path, name):
    with blobpack.open(path) as blob, pytest.raises(ValueError, match="begins and ends without"):
        ServedBlobs({name: blob})


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("out.tar", "out"),
        ("a/b/out.tar.zst", "out"),
        ("train/", "train"),
        ("train/collection.idx", "train"),
        ("train/train-*.tar", "train"),
        ("all.idx", "all"),
        ("photos", "photos"),
        ("s3://bucket/x/out.tar", "out"),
        ("s3://bucket/", "bucket"),
        ("https://host/x/out.tar?X-Amz=1", "out"),
        ("collection.idx", "collection"),
        (".", ""),
    ],
)
def test_a_blob_is_named_by_its_file_or_folder(place, name):
    assert name_of(place) == name


def test_clients_that_want_one_member_at_once_cause_one_read(slow):
    store, served = slow
    payloads, member = Payloads(), served.find("out/cats/2.jpg")

    async def many():
        waiting = [asyncio.ensure_future(payloads.aread(member, 0, member.size)) for _ in range(20)]
        other = asyncio.ensure_future(payloads.aread(served.find("out/cats/1.jpg"), 0, 3))
        await asyncio.sleep(0.05)
        # a client that goes away ends nobody's read
        waiting[0].cancel()
        store.go.set()
        return await asyncio.gather(*waiting[1:]), await other

    same, other = asyncio.run(many())
    assert same == [FILES["cats/2.jpg"]] * 19
    assert other == PIXEL[:3]
    assert len(store.reads) == 2 == payloads.upstream_reads
    # nothing is kept: the next client reads again
    assert read_whole(payloads, member) == FILES["cats/2.jpg"]
    assert len(store.reads) == 3


def test_event_loops_of_several_threads_share_reads(slow):
    store, served = slow
    payloads, member = Payloads(), served.find("out/cats/2.jpg")
    with ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(read_whole, payloads, member) for _ in range(4)]
        while not store.reads:
            pass
        store.go.set()
        assert {read.result() for read in reads} == {FILES["cats/2.jpg"]}


def test_an_error_reaches_each_client_that_waits(path, caplog):
    class Failing(SlowStore):
        def fetch(self, start: int, end: int) -> bytes:
            super().fetch(start, end)
            raise StorageError("the server is gone")

    store = Failing(path.read_bytes())
    served = ServedBlobs({"out": Blob(store, blobpack.open(path).index)})
    payloads, member = Payloads(), served.find("out/cats/1.jpg")

    async def both():
        reads = [asyncio.ensure_future(payloads.aread(member, 0, 9)) for _ in range(3)]
        await asyncio.sleep(0.05)
        reads[0].cancel()
        store.go.set()
        return await asyncio.gather(*reads, return_exceptions=True)

    assert [type(error) for error in asyncio.run(both())] == [
        asyncio.CancelledError,
        StorageError,
        StorageError,
    ]
    assert not caplog.records
    assert len(store.reads) == 1


def test_a_large_payload_comes_in_pieces_and_its_checksum_is_compared(tmp_path):
    path = tmp_path / "large.tar"
    payload = os.urandom(LOCAL_PIECE_BYTES * 2 + 5)
    blobpack.pack({"large": payload}, path, all_files=True)
    with blobpack.open(path) as blob:
        member = ServedBlobs({"out": blob}).find("out/large")
        payloads = Payloads()
        assert member.size > WHOLE_BYTES_MAX
        assert payloads.read_if_ready(member, 0, member.size) is None

        async def read(start, end):
            pieces = []
            async for piece in payloads.pieces(member, start, end):
                assert payloads.held_bytes == LOCAL_PIECE_BYTES
                pieces.append(piece)
            return pieces

        pieces = asyncio.run(read(0, member.size))
        assert [len(piece) for piece in pieces] == [LOCAL_PIECE_BYTES, LOCAL_PIECE_BYTES, 5]
        assert b"".join(pieces) == payload
        assert b"".join(asyncio.run(read(7, member.size - 3))) == payload[7:-3]
        assert payloads.held_bytes == 0
        payloads.held_bytes = HELD_BYTES_MAX
        with pytest.raises(BusyError, match="256 MiB"):
            asyncio.run(read(0, member.size))
        payloads.held_bytes = 0
        # one byte is changed behind the server's back, and the file's time is put back
        before = os.stat(path)
        with path.open("r+b") as file:
            file.seek(member.end - 1)
            file.write(bytes([payload[-1] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ChecksumError, match="large"):
            asyncio.run(read(0, member.size))


@pytest.mark.parametrize("how", ["replace", "overwrite", "cut", "remove", "append"])
def test_a_local_blob_that_changes_is_noticed_before_any_byte_is_returned(path, how, tmp_path):
    with blobpack.open(path) as blob:
        member = ServedBlobs({"out": blob}).find("out/cats/1.jpg")
        payloads = Payloads()
        assert read_whole(payloads, member) == PIXEL
        if how == "replace":
            (tmp_path / "new.tar").write_bytes(path.read_bytes())
            os.rename(tmp_path / "new.tar", path)
        elif how == "overwrite":
            os.utime(path, ns=(0, 0))
            path.write_bytes(bytes(path.stat().st_size))
        elif how == "cut":
            os.truncate(path, 700)
        elif how == "remove":
            path.unlink()
        else:
            blobpack.append(path, {"more": b"more"}, all_files=True)
        time.sleep(LOOK_EVERY_S)
        for start, end in ((0, member.size), (3, 9)):
            if how == "append" and start == 0:
                # the file is the one that was opened, and the checksum is right
                assert payloads.read(member, start, end) == PIXEL
                continue
            with pytest.raises(BlobChangedError):
                asyncio.run(payloads.aread(member, start, end))
            with pytest.raises(BlobChangedError):
                payloads.read(member, start, end)


def test_the_index_of_a_remote_blob_is_copied_once(bucket, tmp_path, sent):
    blobpack.pack(
        {**FILES, **{f"n{i}": b"%d" % i for i in range(3000)}},
        f"s3://{bucket}/out.tar",
        all_files=True,
    )
    with blobpack.open(f"s3://{bucket}/out.tar") as blob:
        assert blob.index._is_remote
        served = ServedBlobs({"out": blob})
        assert served.get("out").is_remote
        requests = blob.stats.requests
        assert [served.find(f"out/{name}").name for name in FILES] == list(FILES)
        assert served.find("out/none") is None
        assert served.get("out").at(3004).name == "n2999"
        assert isinstance(served.get("out").index, Index)
        assert served.get("out").index == blobpack.Index.load(_saved(blob.index, tmp_path))
        assert (
            blob.stats.requests - requests <= 4
        )  # those of `save`, which reads the remote index again
        member = served.find("out/cats/2.jpg")
        payloads = Payloads()
        requests = blob.stats.requests
        assert read_whole(payloads, member) == FILES["cats/2.jpg"]
        assert blob.stats.requests == requests + 1
        blobpack.pack({"cats/2.jpg": PIXEL * 3}, f"s3://{bucket}/out.tar", force=True)
        with pytest.raises(BlobChangedError):
            read_whole(payloads, member)
        with pytest.raises(BlobChangedError):
            asyncio.run(payloads.aread(member, 3, 9))


def _saved(index, folder):
    index.save(folder / "saved.idx")
    return folder / "saved.idx"


def test_collections_are_served(tmp_path):
    files = {f"{i:03}.jpg": b"%d" % i * 99 for i in range(40)}
    blobpack.pack_shards(files, tmp_path / "train", 8192, all_files=True)
    for place in (tmp_path / "train", tmp_path / "train" / "*.tar"):
        with blobpack.open(place) as collection:
            assert len(collection.blobs) > 2
            served = ServedBlobs({"train": collection})
            payloads = Payloads()
            for name, payload in files.items():
                assert read_whole(payloads, served.find(f"train/{name}")) == payload
                assert payloads.read_if_ready(served.find(f"train/{name}"), 1, 3) in (
                    None,
                    payload[1:3],
                )
            # all that lie in one blob share the tag of its identity
            tags = {served.get("train").at(row).etag.split(b"-")[0] for row in range(40)}
            assert len(tags) == len(collection.blobs)
