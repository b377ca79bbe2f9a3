"""What every store promises, and what each promises beside."""

from __future__ import annotations

import io
import os
import pickle
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.base import Store, to_http_range
from blobpack.stores.local import LocalStore
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_store, open_tar
from blobpack.stores.s3.store import S3Store
from blobpack.writing.compress import FrameWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3server import S3Server

DATA = random.Random(1).randbytes(100_003)
CHILD_LIMIT_S = 30

# Python warns of a fork beside threads, whoever started them
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_fork(function: Callable[[], object]) -> object:
    """Call a function in a fork of this process; return its result, or the exception that it raised."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(CHILD_LIMIT_S)
            os.close(reader)
            try:
                result = function()
            except Exception as exc:
                result = exc
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        sent = pipe.read()
    os.waitpid(pid, 0)
    assert sent, "the child died or hung"
    return pickle.loads(sent)


class StoreContract:
    """The tests of every store. A subclass gives the fixture `make_store`: bytes → a store of them."""

    @pytest.fixture
    def store(self, make_store: Callable[[bytes], Store]) -> Iterator[Store]:
        store = make_store(DATA)
        yield store
        store.close()

    def test_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            pytest.param(0, 1, id="first byte"),
            pytest.param(len(DATA) - 1, len(DATA), id="last byte"),
            pytest.param(511, 1025, id="across blocks"),
            pytest.param(70_001, 99_999, id="odd"),
            pytest.param(0, len(DATA), id="whole"),
        ],
    )
    def test_range_is_exact(self, store: Store, start: int, end: int) -> None:
        assert store.read_range(start, end) == DATA[start:end]

    @pytest.mark.parametrize("at", [0, 7, len(DATA)])
    def test_empty_range_is_no_bytes(self, store: Store, at: int) -> None:
        assert store.read_range(at, at) == b""

    def test_answers_are_bytes(self, store: Store) -> None:
        assert type(store.read_range(3, 9)) is bytes

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            pytest.param(-1, 1, id="negative start"),
            pytest.param(-2, -1, id="both negative"),
            pytest.param(5, 4, id="backwards"),
            pytest.param(0, len(DATA) + 1, id="past the end"),
            pytest.param(len(DATA) + 1, len(DATA) + 1, id="empty past the end"),
        ],
    )
    def test_range_outside_is_value_error(self, store: Store, start: int, end: int) -> None:
        with pytest.raises(ValueError, match=f"{start} to {end}"):
            store.read_range(start, end)

    def test_bytes_that_are_ready_are_those_of_a_read(self, store: Store) -> None:
        for start, end in ((0, 1), (511, 1025), (0, len(DATA)), (7, 7)):
            assert store.read_if_ready(start, end) in (None, DATA[start:end])
        for start, end in ((-1, 1), (5, 4), (0, len(DATA) + 1)):
            assert store.read_if_ready(start, end) is None
        store.close()
        assert store.read_if_ready(0, 1) is None

    def test_a_blob_that_nobody_touches_is_not_replaced(self, store: Store) -> None:
        assert not store.is_replaced

    def test_size_is_the_blobs(self, store: Store) -> None:
        assert store.size == len(DATA)

    def test_empty_blob_has_an_empty_range(self, make_store: Callable[[bytes], Store]) -> None:
        store = make_store(b"")
        assert store.size == 0
        assert store.read_range(0, 0) == b""
        with pytest.raises(ValueError, match="0 to 1"):
            store.read_range(0, 1)
        store.close()

    def test_location_is_the_url(self, store: Store) -> None:
        assert store.location is None or store.location.text == store.url

    def test_version_is_said_and_stays(self, store: Store) -> None:
        version = store.version
        store.read_range(0, 10)
        assert version
        assert store.version == version

    def test_repr_names_the_blob(self, store: Store) -> None:
        assert store.url in repr(store)
        assert str(store.size) in repr(store)

    @pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 0)])
    def test_closed_store_is_storage_error(self, store: Store, start: int, end: int) -> None:
        size = store.size
        store.peek(size - 1, size)
        store.close()
        with pytest.raises(StorageError, match="closed"):
            store.read_range(start, end)
        with pytest.raises(StorageError, match="closed"):
            store.peek(start, end)
        # a remote store may have kept its tail
        with pytest.raises(StorageError, match="closed"):
            store.peek(size - 1, size)

    def test_closing_twice_is_harmless(self, store: Store) -> None:
        store.close()
        store.close()

    def test_block_closes(self, make_store: Callable[[bytes], Store]) -> None:
        store = make_store(DATA)
        with store as same:
            assert same is store
        with pytest.raises(StorageError, match="closed"):
            store.read_range(0, 1)

    def test_closed_is_said(self, store: Store) -> None:
        assert not store.closed
        store.close()
        assert store.closed

    def test_closing_closes_the_store_below(self, store: Store) -> None:
        store.close()
        assert store.base is None or store.base.closed

    def test_file_descriptor_gives_the_same_bytes_while_open(self, store: Store) -> None:
        if store.fd is not None:
            assert os.pread(store.fd, 500, 1000) == store.read_range(1000, 1500)
        store.close()
        assert store.fd is None

    def test_tail_is_the_end_of_the_blob(self, store: Store) -> None:
        assert DATA.endswith(store.tail)

    def test_peek_is_read_range(self, store: Store) -> None:
        assert store.peek(len(DATA) - 99, len(DATA)) == DATA[-99:]
        assert store.peek(5, 50) == DATA[5:50]

    def test_stored_bytes_are_the_size_unless_compressed(self, store: Store) -> None:
        assert store.is_compressed or store.stored_bytes == store.size

    def test_uncompressed_byte_lies_in_this_store_unless_compressed(self, store: Store) -> None:
        place, offset = store.uncompressed(len(DATA))
        assert store.is_compressed or (place is store and offset == len(DATA))

    def test_requests_are_counted_by_remote_stores_alone(self, store: Store) -> None:
        before = store.stats.requests
        store.read_range(0, 9)
        assert (store.counters is not None) == store.is_remote
        assert (store.stats.requests > before) == store.is_remote
        assert (store.latency_s > 0) == store.is_remote
        store.read_range(0, 90_000)
        assert (store.bytes_per_s > 0) == store.is_remote

    def test_store_that_wraps_another_counts_as_that_one_does(self, store: Store) -> None:
        base = store.base or store
        store.read_range(10, 5000)
        assert (store.is_remote, store.version) == (base.is_remote, base.version)
        assert (store.counters, store.stats) == (base.counters, base.stats)
        assert (store.latency_s, store.bytes_per_s) == (base.latency_s, base.bytes_per_s)

    def test_threads_read_what_each_asked(self, store: Store) -> None:
        chance = random.Random(2)
        starts = [chance.randrange(len(DATA) - 1) for _ in range(200)]
        ranges = [(start, chance.randrange(start + 1, len(DATA))) for start in starts]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda where: store.read_range(*where), ranges))
        assert answers == [DATA[start:end] for start, end in ranges]

    def test_pickle_opens_the_same_version(self, store: Store) -> None:
        again = pickle.loads(pickle.dumps(store))
        assert type(again) is type(store)
        assert (again.size, again.version) == (store.size, store.version)
        assert again.read_range(100, 200) == DATA[100:200]
        again.close()

    def test_pickle_is_open_though_its_source_closed(self, store: Store) -> None:
        pickled = pickle.dumps(store)
        store.close()
        again = pickle.loads(pickled)
        assert again.read_range(0, 5) == DATA[:5]
        again.close()

    @FORKS
    def test_fork_reads_on_while_its_parent_does(self, store: Store) -> None:
        store.read_range(0, 10)  # whatever is opened late is open
        ranges = [(start, start + 500) for start in range(0, 50_000, 500)]

        def read_all() -> list[bytes]:
            return [store.read_range(*where) for where in ranges]

        with ThreadPoolExecutor(1) as pool:
            inherited = pool.submit(in_fork, read_all)
            here = [read_all() for _ in range(3)]
            assert inherited.result() == here[0]
        assert here == [[DATA[start:end] for start, end in ranges]] * 3


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make_store(self) -> Callable[[bytes], Store]:
        return MemoryStore

    def test_lies_nowhere(self, store: Store) -> None:
        assert store.location is None

    def test_name_in_messages_can_be_given(self) -> None:
        with pytest.raises(ValueError, match="upload-7"):
            MemoryStore(DATA, "upload-7").read_range(0, len(DATA) + 1)


def compressed(data: bytes, frame_bytes: int) -> bytes:
    file = io.BytesIO()
    with FrameWriter(file) as writer:
        for at in range(0, len(data), frame_bytes):
            writer.write_frame(data[at : at + frame_bytes])
        writer.finish()
    return file.getvalue()


class TestSeekableStore(StoreContract):
    """What it promises beside is in test_zstd_store.py."""

    @pytest.fixture(params=[777, 1 << 17], ids=["many frames", "one frame"])
    def make_store(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> Callable[[bytes], Store]:
        def make(data: bytes) -> Store:
            path = tmp_path / "a.tar.zst"
            path.write_bytes(compressed(data, request.param))
            return open_tar(path)

        return make

    def test_stored_bytes_are_those_of_the_file(self, store: Store, tmp_path: Path) -> None:
        assert store.is_compressed
        assert store.stored_bytes == (tmp_path / "a.tar.zst").stat().st_size


class TestLocalStore(StoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "a.tar"

    @pytest.fixture
    def make_store(self, path: Path) -> Callable[[bytes], Store]:
        def make(data: bytes) -> Store:
            path.write_bytes(data)
            return open_store(path)

        return make

    @pytest.mark.parametrize("kind", [BlobNotFoundError, StorageError, FileNotFoundError, OSError])
    def test_missing_file_is_not_found(self, path: Path, kind: type[Exception]) -> None:
        with pytest.raises(kind, match=r"a\.tar: no such file"):
            LocalStore(path)

    def test_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="not a plain file"):
            LocalStore(tmp_path)

    @FORKS
    def test_fifo_is_refused_without_waiting_for_a_writer(self, path: Path) -> None:
        os.mkfifo(path)
        refused = in_fork(lambda: LocalStore(path))
        assert isinstance(refused, StorageError)
        assert "not a plain file" in str(refused)

    def test_device_is_refused(self) -> None:
        with pytest.raises(StorageError, match="not a plain file"):
            LocalStore(os.devnull)

    def test_refused_file_is_closed(self, tmp_path: Path) -> None:
        before = os.listdir("/dev/fd")
        for _ in range(3):
            with pytest.raises(StorageError):
                LocalStore(tmp_path)
        assert os.listdir("/dev/fd") == before

    def test_dropped_store_closes_its_file(self, make_store: Callable[[bytes], Store]) -> None:
        before = os.listdir("/dev/fd")
        make_store(DATA)
        assert os.listdir("/dev/fd") == before

    @pytest.mark.parametrize("left", [0, 99, 1500])
    def test_file_cut_after_opening_is_changed(self, path: Path, store: Store, left: int) -> None:
        os.truncate(path, left)
        with pytest.raises(BlobChangedError, match=f"cut to {left} bytes; it had {len(DATA)}"):
            store.read_range(1000, 2000)

    def test_file_cut_elsewhere_still_reads(self, path: Path, store: Store) -> None:
        os.truncate(path, 2000)
        assert store.read_range(1000, 2000) == DATA[1000:2000]

    def test_grown_file_keeps_its_size(self, path: Path, store: Store) -> None:
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(ValueError, match="not within"):
            store.read_range(0, len(DATA) + 4)

    def test_file_replaced_by_rename_still_gives_the_old_bytes(
        self, path: Path, store: Store
    ) -> None:
        replace(path, b"x" * len(DATA))
        assert store.read_range(0, len(DATA)) == DATA

    def test_deleted_file_still_gives_its_bytes(self, path: Path, store: Store) -> None:
        path.unlink()
        assert store.read_range(0, len(DATA)) == DATA

    def test_unpickled_after_a_replacement_is_changed(self, path: Path, store: Store) -> None:
        pickled = pickle.dumps(store)
        replace(path, b"x" * len(DATA))
        with pytest.raises(BlobChangedError, match="no longer the one"):
            pickle.loads(pickled)

    def test_unpickled_after_a_write_is_changed(self, path: Path, store: Store) -> None:
        pickled = pickle.dumps(store)
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(BlobChangedError, match="no longer the one"):
            pickle.loads(pickled)

    def test_unpickled_after_deletion_is_not_found(self, path: Path, store: Store) -> None:
        pickled = pickle.dumps(store)
        path.unlink()
        with pytest.raises(BlobNotFoundError):
            pickle.loads(pickled)

    def test_relative_path_pickled_in_another_folder_reopens(
        self, path: Path, make_store: Callable[[bytes], Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_store(DATA).close()
        monkeypatch.chdir(path.parent)
        elsewhere = path.parent / "elsewhere"
        elsewhere.mkdir()
        with LocalStore(path.name) as store:
            monkeypatch.chdir(elsewhere)
            with pickle.loads(pickle.dumps(store)) as again:
                assert again.read_range(0, 9) == DATA[:9]

    def test_version_differs_after_a_write(self, path: Path, store: Store) -> None:
        replace(path, DATA)
        with LocalStore(path) as other:
            assert other.version != store.version

    @pytest.mark.parametrize(
        "name", ["with space.tar", "größer.tar", "100%.tar", "a#b.tar", "a?b.tar", "a+b.tar"]
    )
    def test_file_url_opens_what_path_as_uri_names(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_bytes(DATA)
        for url in (path.as_uri(), path.as_uri().replace("file://", "file://localhost")):
            with open_store(url) as store:
                assert store.read_range(0, 9) == DATA[:9]

    @pytest.mark.parametrize("name", ["a.tar?b", "a.t\tar"])
    def test_file_url_never_opens_another_file(self, tmp_path: Path, name: str) -> None:
        """What should have been percent-encoded is refused, or stands for itself."""
        (tmp_path / "a.tar").write_bytes(b"another")
        (tmp_path / name).write_bytes(DATA)
        try:
            store = open_store(f"{tmp_path.as_uri()}/{name}")
        except ValueError:
            return
        with store:
            assert store.size == len(DATA)

    def test_file_url_may_name_bytes_that_are_not_utf8(self, tmp_path: Path) -> None:
        path = os.fsencode(tmp_path) + b"/\xff.tar"
        Path(os.fsdecode(path)).write_bytes(DATA)
        with open_store(f"{tmp_path.as_uri()}/%FF.tar") as store:
            assert store.size == len(DATA)

    def test_percent_in_a_path_is_only_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "a%20b.tar"
        path.write_bytes(DATA)
        with open_store(str(path)) as store:
            assert store.size == len(DATA)

    def test_file_url_of_another_host_is_refused(self) -> None:
        with pytest.raises(ValueError, match="on another host"):
            open_store("file://far/a.tar")

    def test_file_url_is_decoded_once(self, tmp_path: Path) -> None:
        (tmp_path / "a%20b.tar").write_bytes(DATA)
        with open_store(f"{tmp_path.as_uri()}/a%2520b.tar") as store:
            assert store.size == len(DATA)


class TestS3Store(StoreContract):
    @pytest.fixture
    def make_store(self, s3_env: S3Server) -> Callable[[bytes], Store]:
        def make(data: bytes) -> Store:
            return open_store(s3_env.put(s3_env.new_bucket(), "a.tar", data))

        return make

    def test_version_is_the_etag(self, store: S3Store, s3: S3Server) -> None:
        assert store.version == s3.client.head_object(Bucket=store.bucket, Key=store.key)["ETag"]

    def test_version_asked_for_must_be_there(self, store: S3Store) -> None:
        assert S3Store(store.url, version=store.version).size == store.size
        with pytest.raises(BlobChangedError, match='not "0"'):
            S3Store(store.url, version='"0"')

    def test_unpickled_after_an_overwrite_is_changed(self, store: S3Store, s3: S3Server) -> None:
        pickled = pickle.dumps(store)
        s3.put(store.bucket, store.key, b"other")
        with pytest.raises(BlobChangedError, match="its version is"):
            pickle.loads(pickled)


def replace(path: Path, data: bytes) -> None:
    """Put another file in a file's place, as a careful writer does."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)


@pytest.mark.parametrize("url", ["gopher://host/a.tar", "://a.tar"])
def test_unknown_scheme_is_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="blobs are read from"):
        open_store(url)


@pytest.mark.parametrize(
    ("start", "end", "spelled"),
    [
        (0, 1, "bytes=0-0"),
        (0, 500, "bytes=0-499"),
        (2**40, 2**40 + 512, "bytes=1099511627776-1099511628287"),
    ],
)
def test_http_range_includes_its_end(start: int, end: int, spelled: str) -> None:
    assert to_http_range(start, end) == spelled
