"""Answers with status 200 that no S3 server sends: one error of ours says what is missing, and nothing counts as written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from lookalike import Answer, Asked, Lookalike
from s3server import close_idle_connections, forget_clients

import blobpack
from blobpack import BlobNotFoundError, BlobpackError, MissingIndexWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGE = {f"{n}.jpg": bytes([n]) * (3 << 20) for n in range(3)}


class Editing(Lookalike):
    """A proxy that edits the XML of some answers, which a test chooses."""

    wanted: Callable[[Asked], bool] = staticmethod(lambda _: False)
    pattern, put = b"", b""

    def change(self, asked: Asked, answer: Answer) -> Answer:
        """Return what the client gets."""
        if not self.wanted(asked):
            return answer
        return answer._replace(body=re.sub(self.pattern, self.put, answer.body, flags=re.DOTALL))


@pytest.fixture
def proxy(s3_env, monkeypatch) -> Iterator[Editing]:
    with Editing(s3_env) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        yield proxy
        close_idle_connections()


def is_list(asked: Asked) -> bool:
    return "list-type" in asked.query


def is_list_of_uploads(asked: Asked) -> bool:
    return asked.method == "GET" and "uploads" in asked.query


@pytest.mark.parametrize(
    ("pattern", "put", "missing"),
    [
        (rb"<Size>.*?</Size>", b"", "Size"),
        (rb"<Key>.*?</Key>", b"", "Key"),
        (rb"<IsTruncated>false<", b"<IsTruncated>true<", "NextContinuationToken"),
        (
            rb"<IsTruncated>false<",
            b"<NextContinuationToken>x</NextContinuationToken><IsTruncated>true<",
            "another NextContinuationToken",
        ),
    ],
)
def test_a_listing(s3_env, bucket, proxy, tmp_path: Path, pattern, put, missing):
    s3_env.put(bucket, "in/a.jpg", b"a")
    proxy.wanted, proxy.pattern, proxy.put = is_list, pattern, put
    with pytest.raises(BlobpackError, match=f"is not an S3 server: .*without '?{missing}"):
        blobpack.pack(f"s3://{bucket}/in/", tmp_path / "out.tar", all_files=True)


def test_a_listing_of_uploads(bucket, proxy):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack({"a.jpg": b"a"}, url, all_files=True)
    proxy.wanted = is_list_of_uploads
    proxy.pattern, proxy.put = rb"<IsTruncated>false<", b"<IsTruncated>true<"
    with pytest.raises(BlobpackError, match="without NextKeyMarker"):
        blobpack.append(url, {"b.jpg": b"b"}, all_files=True)
    assert len(blobpack.open_blob(url)) == 1


def test_an_upload_without_an_id(bucket, proxy):
    proxy.wanted = lambda asked: asked.method == "POST" and "uploads" in asked.query
    proxy.pattern = rb"<UploadId>.*</UploadId>"
    with pytest.raises(BlobpackError, match=r"can't begin an upload: .*without UploadId"):
        blobpack.pack(LARGE, f"s3://{bucket}/out.tar", all_files=True)


DONE = b"<CompleteMultipartUploadResult><ETag>&quot;x&quot;</ETag></CompleteMultipartUploadResult>"


@pytest.mark.parametrize(
    ("members", "body"), [(LARGE, DONE), ({"a.jpg": b"a"}, b"")], ids=["parts", "whole"]
)
def test_an_object_that_was_not_made(s3_env, bucket, proxy, members, body):
    """The ETag in the answer is not that of the bytes, so the object is looked at."""
    answer = Answer(200, {"Content-Type": "application/xml", "ETag": '"x"'}, body)
    method = "POST" if body else "PUT"
    proxy.spoil(
        lambda asked: asked.method == method and "uploads" not in asked.query, answer, is_done=False
    )
    with pytest.raises(BlobNotFoundError):
        blobpack.pack(members, f"s3://{bucket}/out.tar", all_files=True)
    assert s3_env.uploads(bucket) == []


class WriteOnly(Editing):
    """AWS with SSE-KMS, whose ETags are no MD5s, for a caller who may write objects and not read them."""

    def change(self, asked: Asked, answer: Answer) -> Answer:
        """Return what the client gets."""
        if asked.is_read:
            return answer._replace(status=403)
        if asked.is_write:
            body = re.sub(rb"<ETag>.*?</ETag>", b"<ETag>&quot;kms&quot;</ETag>", answer.body)
            return answer._replace(headers=answer.headers | {"ETag": '"kms"'}, body=body)
        return answer


@pytest.mark.parametrize("members", [LARGE, {"a.jpg": b"a"}], ids=["parts", "whole"])
def test_who_writes_need_not_read(s3_env, bucket, monkeypatch, members):
    with WriteOnly(s3_env) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        blobpack.pack(members, f"s3://{bucket}/out.tar", all_files=True)
        close_idle_connections()
    assert s3_env.keys(bucket) == ["out.tar"]
    assert s3_env.uploads(bucket) == []


class Overtaken(Editing):
    """S3 with SSE-KMS, where another process replaces a blob as soon as it is made."""

    other = b""

    def change(self, asked: Asked, answer: Answer) -> Answer:
        """Return what the client gets."""
        if asked.is_write and self.other:
            bucket, _, key = asked.path.lstrip("/").partition("/")
            self.upstream.put(bucket, key, self.other)
            self.other = b""
            return answer._replace(headers=answer.headers | {"ETag": '"kms"'})
        return answer


def test_an_object_that_another_process_replaced_is_not_taken_for_ours(
    s3_env, bucket, monkeypatch, tmp_path
):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack({"other.jpg": b"other"}, tmp_path / "other.tar", index="none", all_files=True)
    with Overtaken(s3_env) as proxy:
        proxy.other = (tmp_path / "other.tar").read_bytes()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        blobpack.pack({"a.jpg": b"a"}, url, index="sidecar", all_files=True)
        # not our index file beside the object of the other process
        assert s3_env.keys(bucket) == ["out.tar"]
        with pytest.warns(MissingIndexWarning), blobpack.open_blob(url) as blob:
            assert blob.read("other.jpg") == b"other"
        close_idle_connections()
