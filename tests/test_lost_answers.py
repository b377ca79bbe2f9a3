"""Requests that S3 carries out, and whose answers are lost: boto3 sends them again, and nothing is lost or left behind."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from lookalike import Lookalike, error
from s3server import close_idle_connections, forget_clients

import blobpack
from blobpack import BlobChangedError
from blobpack.stores.s3.upload import uploading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lookalike import Asked

RANDOM = random.Random(13)
SMALL = [(f"{n}.jpg", RANDOM.randbytes(500)) for n in range(3)]
# of several parts
LARGE = [(f"{n}.jpg", RANDOM.randbytes(3 << 20)) for n in range(3)]


def is_put(asked: Asked) -> bool:
    return asked.method == "PUT" and "uploadId" not in asked.query


def is_begin(asked: Asked) -> bool:
    return asked.method == "POST" and "uploads" in asked.query


def is_part(asked: Asked) -> bool:
    return "partNumber" in asked.query


def is_complete(asked: Asked) -> bool:
    return asked.method == "POST" and "uploadId" in asked.query


REQUESTS = {"put": (is_put, SMALL)} | {
    name: (wanted, LARGE)
    for name, wanted in (("begin", is_begin), ("part", is_part), ("complete", is_complete))
}


@pytest.fixture
def proxy(s3_env, monkeypatch) -> Iterator[Lookalike]:
    """A proxy before the server, which loses answers."""
    with Lookalike(s3_env) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        yield proxy
        close_idle_connections()


@pytest.mark.parametrize("answer", [None, error(500, "InternalError", "lost")])
@pytest.mark.parametrize("request_", REQUESTS)
class TestOneAnswer:
    def test_shards_are_written(self, s3_env, bucket, proxy, request_, answer):
        wanted, members = REQUESTS[request_]
        proxy.spoil(wanted, answer)
        blobpack.pack_shards(members, f"s3://{bucket}/set/", 1 << 30, all_files=True)
        with blobpack.open(f"s3://{bucket}/set/") as blob:
            assert dict(blob.items()) == dict(members)
        assert not proxy.spoiled
        assert s3_env.keys(bucket) == ["set/00000.tar", "set/collection.idx"]
        assert s3_env.uploads(bucket) == []

    def test_a_blob_is_appended_to(self, s3_env, bucket, proxy, request_, answer):
        wanted, members = REQUESTS[request_]
        url = f"s3://{bucket}/out.tar"
        blobpack.pack(members, url, all_files=True)
        proxy.spoil(wanted, answer)
        blobpack.append(url, [("new.jpg", b"new" * 99)], all_files=True)
        with blobpack.open(url) as blob:
            assert dict(blob.items()) == dict(members) | {"new.jpg": b"new" * 99}
        assert s3_env.uploads(bucket) == []


def write_new(url: str, content: bytes) -> None:
    with uploading(url, new=True) as upload:
        upload.write(content)


def test_an_object_of_another_process_is_not_taken_for_the_own_one(s3_env, bucket, proxy):
    url = s3_env.put(bucket, "key", b"other")
    proxy.spoil(is_put, error(500, "InternalError", "lost"), is_done=False)
    with pytest.raises(BlobChangedError, match="exists already"):
        write_new(url, b"mine!")
    assert s3_env.stored(bucket, "key") == b"other"
    # nor one of the same bytes, if no answer was lost
    with pytest.raises(BlobChangedError, match="exists already"):
        write_new(url, b"other")


def test_uploads_of_other_processes_are_not_aborted(s3_env, bucket, proxy):
    """They have parts, or are of other keys, or began at another time."""
    began = {
        key: s3_env.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        for key in ("out.tar", "out.tar.2")
    }
    s3_env.client.upload_part(
        Bucket=bucket, Key="out.tar", UploadId=began["out.tar"], PartNumber=1, Body=b"part"
    )
    proxy.spoil(is_begin)
    blobpack.pack(LARGE, f"s3://{bucket}/out.tar", all_files=True)
    found = s3_env.client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert {each["Key"]: each["UploadId"] for each in found} == began


@pytest.mark.parametrize("listed", [403, 501])
def test_an_upload_that_can_not_be_found_is_named_in_the_log(s3_env, bucket, proxy, caplog, listed):
    proxy.traits.add(f"lists of uploads: {listed}")
    proxy.spoil(is_begin)
    blobpack.pack(LARGE, f"s3://{bucket}/out.tar", all_files=True)
    assert f"s3://{bucket}/out.tar: an upload may be left behind" in caplog.text
    assert len(blobpack.open_blob(f"s3://{bucket}/out.tar")) == 3


CONFLICT = error(409, "ConditionalRequestConflict", "The conditional request cannot succeed")


def test_a_write_at_the_same_moment_is_a_change(s3_env, bucket, proxy):
    """S3 answers 409 if the object changes while it is compared with the condition."""
    write: list[tuple[Callable[[Asked], bool], bytes]] = [
        (is_put, b"x"),
        (is_complete, b"x" * (9 << 20)),
    ]
    for wanted, content in write:
        proxy.spoil(wanted, CONFLICT, is_done=False)
        with pytest.raises(BlobChangedError, match="another process changed it at the same moment"):
            write_new(f"s3://{bucket}/key", content)
    assert s3_env.keys(bucket) == []
    assert s3_env.uploads(bucket) == []
