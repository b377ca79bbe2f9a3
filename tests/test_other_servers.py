"""What blobpack does on servers that lack abilities, request by request; lookalike.py fakes these servers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from lookalike import Lookalike
from s3server import close_idle_connections, forget_clients
from test_http import publish

import blobpack
from blobpack import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.access.uploads import UPLOAD_PART_BYTES_MIN
from blobpack.stores.http.store import HttpStore
from blobpack.stores.s3.multipart import (
    COPIED_PART_BYTES_MAX,
    PARTS_MAX,
    UPLOAD_PART_BYTES,
    copied_part_size,
)
from blobpack.stores.s3.store import S3Store
from blobpack.stores.s3.upload import uploading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lookalike import Trait

MIB = 1 << 20
SIZES = (10, UPLOAD_PART_BYTES + 10)
DATA = random.Random(13).randbytes(300_000)


@pytest.fixture
def behave(s3_env, monkeypatch) -> Iterator[Lookalike]:
    """The proxy, which tests give traits."""
    with Lookalike(s3_env) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        yield proxy
        close_idle_connections()


def sent(proxy: Lookalike, method: str, text: str = "") -> int:
    return sum(one == method and text in path for one, path in proxy.requests)


class TestConditionalWrites:
    @pytest.fixture(autouse=True)
    def refused(self, behave):
        behave.traits.add("conditional writes: 501")

    @pytest.mark.parametrize("size", SIZES)
    def test_a_new_object_is_made_and_none_is_replaced(self, s3_env, bucket, size):
        for key, found in (("new", b""), ("old", b"old")):
            url = f"s3://{bucket}/{key}"
            if found:
                s3_env.put(bucket, key, found)
                with (
                    pytest.raises(BlobChangedError, match="exists already"),
                    uploading(url, new=True) as upload,
                ):
                    upload.write(bytes(size))
                assert s3_env.stored(bucket, key) == found
            else:
                with uploading(url, new=True) as upload:
                    upload.write(bytes(size))
                assert s3_env.stored(bucket, key) == bytes(size)
        assert not s3_env.uploads(bucket)

    @pytest.mark.parametrize("size", SIZES)
    def test_only_the_version_that_was_opened_is_replaced(self, s3_env, bucket, size):
        url = s3_env.put(bucket, "out", b"old")
        with uploading(url, replaces=S3Store(url).version) as upload:
            upload.write(bytes(size))
        assert s3_env.stored(bucket, "out") == bytes(size)
        with (
            pytest.raises(BlobChangedError, match="was changed meanwhile"),
            uploading(url, replaces='"0"') as upload,
        ):
            upload.write(b"x" * size)
        assert s3_env.stored(bucket, "out") == bytes(size)
        assert not s3_env.uploads(bucket)

    def test_the_object_is_looked_at_after_the_refusal(self, s3_env, bucket, behave, monkeypatch):
        """Another process may write while the request with the condition is under way."""
        url = s3_env.put(bucket, "out", b"old")
        version = S3Store(url).version
        refuse = behave.refuse

        def refuse_and_write(asked):
            answer = refuse(asked)
            if answer is not None:
                s3_env.put(bucket, "out", b"another")
            return answer

        monkeypatch.setattr(behave, "refuse", refuse_and_write)
        with pytest.raises(BlobChangedError), uploading(url, replaces=version) as upload:
            upload.write(b"new")
        assert s3_env.stored(bucket, "out") == b"another"

    def test_of_two_packs_to_one_prefix_one_fails(self, s3_env, bucket, monkeypatch):
        from blobpack.packing.shard_folder import ObjectPrefix

        blobpack.pack_shards({"a.jpg": b"a"}, f"s3://{bucket}/set/", 4096, all_files=True)
        monkeypatch.setattr(ObjectPrefix, "open", lambda self: None)
        with pytest.raises(BlobChangedError, match="exists already"):
            blobpack.pack_shards({"b.jpg": b"b"}, f"s3://{bucket}/set/", 4096, all_files=True)
        with blobpack.open(f"s3://{bucket}/set/") as blobs:
            assert dict(blobs.items()) == {"a.jpg": b"a"}


class TestListsOfUploads:
    @pytest.mark.parametrize("trait", ["lists of uploads: 403", "lists of uploads: 501"])
    def test_a_version_is_replaced_without_them(self, s3_env, bucket, behave, trait):
        behave.traits.add(trait)
        url = s3_env.put(bucket, "out", b"old")
        with uploading(url, replaces=S3Store(url).version) as upload:
            upload.claim()
            upload.write(b"new")
        assert s3_env.stored(bucket, "out") == b"new"
        with (
            pytest.raises(BlobChangedError, match="was changed meanwhile"),
            uploading(url, replaces='"0"') as upload,
        ):
            upload.claim()
            upload.write(b"newer")
        assert s3_env.stored(bucket, "out") == b"new"
        assert not s3_env.uploads(bucket)

    def test_a_missing_bucket_is_still_missing(self, bucket):
        with (
            pytest.raises(BlobNotFoundError, match="no such bucket"),
            uploading(f"s3://{bucket}-none/out", resume=True),
        ):
            raise AssertionError("not reached")


class TestCopies:
    def append(self, s3_env, bucket, old: bytes, new: bytes) -> bytes:
        url = s3_env.put(bucket, "out", old)
        source = S3Store(url)
        with uploading(url, replaces=source.version) as upload:
            upload.claim()
            upload.copy(source, len(old) - 3)
            upload.write(new)
        assert not s3_env.uploads(bucket)
        return s3_env.stored(bucket, "out")

    @pytest.mark.parametrize(
        "traits",
        [
            (),
            ("part copies: 501",),
            ("conditional part copies: 501",),
            ("part copies have no ETag",),
            ("weak ETags",),
            ("parts of one size",),
            ("parts of one size", "part copies: 501"),
        ],
    )
    def test_the_old_bytes_are_there_in_any_case(self, s3_env, bucket, behave, traits):
        behave.traits |= {*traits}
        old, new = DATA * 71, DATA * 29
        assert self.append(s3_env, bucket, old, new) == old[:-3] + new

    def test_a_copy_that_has_other_bytes_is_noticed(self, s3_env, bucket, behave, monkeypatch):
        """Swift copies the list of the parts of a source, and not their bytes."""
        change = behave.change

        def shortened(asked, answer):
            if asked.method == "GET" and "uploadId" in asked.query:
                first = b"<Size>%d</Size>" % (len(DATA) * 71 // 2)
                answer = answer._replace(body=answer.body.replace(first, b"<Size>498</Size>"))
            return change(asked, answer)

        monkeypatch.setattr(behave, "change", shortened)
        monkeypatch.setattr(
            "blobpack.stores.s3.upload.copied_part_size",
            lambda size, least: len(DATA) * 71 // 2,
        )
        old = DATA * 71
        assert self.append(s3_env, bucket, old, b"new") == old[:-3] + b"new"
        assert sent(behave, "PUT", "partNumber=1") == 2

    def test_a_failure_leaves_nothing(self, s3_env, bucket, behave):
        behave.traits.add("part copies: 501")
        url = s3_env.put(bucket, "out", DATA * 40)
        source = S3Store(url)
        with (
            pytest.raises(ValueError, match="stop"),
            uploading(url, replaces=source.version) as upload,
        ):
            upload.copy(source, len(DATA) * 40)
            raise ValueError("stop")
        assert s3_env.stored(bucket, "out") == DATA * 40
        assert not s3_env.uploads(bucket)

    def test_a_source_that_changes_is_noticed_while_it_is_sent(self, s3_env, bucket, behave):
        behave.traits.add("part copies: 501")
        source = S3Store(s3_env.put(bucket, "old", DATA * 40))
        s3_env.put(bucket, "old", b"new" + DATA * 40)
        with pytest.raises(BlobChangedError), uploading(f"s3://{bucket}/out") as upload:
            upload.copy(source, len(DATA) * 40)
        assert s3_env.keys(bucket) == ["old"]
        assert not s3_env.uploads(bucket)

    @pytest.mark.parametrize("size", [5 * MIB, 8 * MIB + 1, 10**8, 10**10, 10**11, 5 * 10**12])
    @pytest.mark.parametrize("least", [UPLOAD_PART_BYTES_MIN, 64 * MIB])
    def test_parts_have_one_size_and_leave_little(self, size, least):
        part = copied_part_size(size, least)
        assert part >= least
        assert size // part <= PARTS_MAX // 2
        # small enough that memory holds five of them, as long as the number of parts allows it
        assert part <= max(2 * COPIED_PART_BYTES_MAX, 2 * least, size // (PARTS_MAX // 2) + 1)
        assert size < least or size % part < PARTS_MAX // 2


class TestParts:
    def test_a_size_that_is_known_gives_equal_parts(self, s3_env, bucket, behave):
        behave.traits.add("parts of one size")
        payloads = {f"{n}.jpg": DATA * 20 for n in range(4)}
        for name, payload in payloads.items():
            s3_env.put(bucket, f"loose/{name}", payload)
        blobpack.pack(f"s3://{bucket}/loose/", f"s3://{bucket}/out.tar", all_files=True)
        with blobpack.open_blob(f"s3://{bucket}/out.tar") as blob:
            assert dict(blob.items()) == payloads

    def test_parts_that_grow_are_refused_and_leave_nothing(
        self, s3_env, bucket, behave, monkeypatch
    ):
        behave.traits.add("parts of one size")
        monkeypatch.setattr("blobpack.stores.s3.multipart.EQUAL_PARTS", 1)
        with (
            pytest.raises(StorageError, match="must have the same length"),
            uploading(f"s3://{bucket}/out") as upload,
        ):
            upload.write(DATA * 90)
        assert not s3_env.keys(bucket)
        assert not s3_env.uploads(bucket)


class TestEtags:
    def test_without_any_the_caller_is_told_and_nothing_is_cached(
        self, s3_env, bucket, behave, tmp_path, caplog
    ):
        behave.traits.add("no ETag")
        url = f"s3://{bucket}/out.tar"
        blobpack.pack({"a.jpg": DATA}, url, all_files=True)
        caplog.clear()
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            assert blob.read("a.jpg") == DATA
        assert (
            "the server sends no ETag or version, so changes of the blob can't be noticed"
            in caplog.text
        )
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]

    def test_without_any_a_list_of_objects_says_so(self, s3_env, bucket, behave, tmp_path, caplog):
        behave.traits.add("no ETag")
        s3_env.put(bucket, "loose/a.jpg", DATA)
        blobpack.pack(f"s3://{bucket}/loose/", tmp_path / "out.tar", all_files=True)
        assert "the server lists no ETags" in caplog.text

    @pytest.mark.parametrize("trait", ["ETags without quotes", "weak ETags"])
    def test_an_index_fits_however_the_etag_is_written(
        self, s3_env, bucket, behave, trait: Trait, caplog
    ):
        url = f"s3://{bucket}/out.tar"
        behave.traits.add(trait)
        blobpack.pack({"a.jpg": DATA}, url, index="sidecar", all_files=True)
        assert s3_env.keys(bucket) == ["out.tar", "out.tar.idx"]
        behave.traits.clear()
        forget_clients()
        with blobpack.open_blob(url) as blob:
            assert blob.read("a.jpg") == DATA
        behave.traits.add(trait)
        forget_clients()
        with blobpack.open_blob(url) as blob:
            s3_env.put(bucket, "out.tar", s3_env.stored(bucket, "out.tar")[::-1])
            with pytest.raises(BlobChangedError):
                blob.read("a.jpg")


class TestWebPages:
    @pytest.fixture(autouse=True)
    def console(self, behave):
        behave.traits.add("a web page")

    def test_nothing_counts_as_written(self, s3_env, bucket, behave):
        for size in SIZES:
            with (
                pytest.raises(StorageError, match=f"{behave.endpoint} is not an S3 server"),
                uploading(f"s3://{bucket}/out") as upload,
            ):
                upload.write(bytes(size))
        assert not s3_env.keys(bucket)

    @pytest.mark.parametrize("path", ["", "out.tar"])
    def test_nothing_counts_as_read(self, bucket, behave, path):
        with pytest.raises(StorageError, match=f"{behave.endpoint} is not an S3 server"):
            blobpack.verify(f"s3://{bucket}/{path}")

    def test_an_http_blob_is_no_page(self, bucket, behave):
        with pytest.raises(StorageError, match="the server answered with a web page"):
            blobpack.open_blob(f"{behave.endpoint}/{bucket}/out.tar")


def test_an_object_that_is_a_web_page_is_read(s3_env, bucket):
    s3_env.client.put_object(
        Bucket=bucket, Key="page.html", Body=b"<html>", ContentType="text/html"
    )
    assert S3Store(f"s3://{bucket}/page.html").read_range(0, 6) == b"<html>"


class TestHttp:
    """http:// blobs behind the same servers."""

    @pytest.fixture
    def url(self, s3_env, behave) -> str:
        found = urlsplit(publish(s3_env, DATA).replace(" ", "%20"))
        return f"{behave.endpoint}{found.path}"

    @pytest.mark.parametrize("status", ["200", "400", "416"])
    @pytest.mark.parametrize("tail", [0, 1000, len(DATA) + 1])
    def test_a_range_of_the_last_bytes_is_not_needed(self, url, behave, status, tail):
        behave.traits.add(f"suffix ranges: {status}")
        with HttpStore(url, tail_bytes=tail) as store:
            assert store.size == len(DATA)
            assert store.tail == (DATA[-tail:] if tail else b"")
            assert store.read_range(5, 99) == DATA[5:99]

    @pytest.mark.parametrize(
        "trait",
        [
            "ranges by status 200",
            "chunked answers",
            "weak ETags",
            "ETags without quotes",
            "no ETag",
        ],
    )
    def test_the_right_range_is_taken_however_it_comes(self, url, behave, trait):
        behave.traits.add(trait)
        with HttpStore(url, tail_bytes=70_000) as store:
            assert store.size == len(DATA)
            assert store.tail == DATA[-70_000:]
            assert store.read_range(5, 200_000) == DATA[5:200_000]
