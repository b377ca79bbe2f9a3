"""Reads on our own connections and through boto3 return the same bytes, and raise the same errors with the same status."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from lookalike import Answer, Asked, Lookalike, error
from s3server import close_idle_connections, forget_clients

import blobpack
from blobpack import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.http import retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMBERS = {"a.jpg": b"a" * 5000, "b.jpg": b"b" * 5000}
PAGE = Answer(403, {"Content-Type": "text/html"}, b"<html>Forbidden</html>")


class Spoiling(Lookalike):
    """A proxy that changes the answers to reads as a test says."""

    spoilt: Callable[[Answer], Answer] | None = None

    def change(self, asked: Asked, answer: Answer) -> Answer:
        """Return what the client gets."""
        return self.spoilt(answer) if self.spoilt and asked.is_read else answer


class Case(NamedTuple):
    """An answer, and what a read then raises; None: it succeeds."""

    spoilt: Callable[[Answer], Answer]
    raised: type[StorageError] | None = None
    status: int = 0
    said: str = ""


def with_header(name: str, value: str | None) -> Callable[[Answer], Answer]:
    """Replace a header of the answer, or leave it out."""

    def change(answer: Answer) -> Answer:
        others = {each: answer.headers[each] for each in answer.headers if each != name}
        return answer._replace(headers=others if value is None else others | {name: value})

    return change


CASES = {
    "right": Case(lambda answer: answer),
    "no ETag": Case(with_header("ETag", None)),
    "compressed": Case(with_header("Content-Encoding", "gzip")),
    "another ETag": Case(with_header("ETag", '"0123"'), BlobChangedError),
    "another size": Case(with_header("Content-Range", "bytes 512-5511/77"), BlobChangedError),
    "another range": Case(with_header("Content-Range", "bytes 0-1/2"), StorageError),
    "short": Case(lambda answer: answer._replace(body=answer.body[:-3]), StorageError),
    "404": Case(lambda _: error(404, "NoSuchKey", "gone"), BlobNotFoundError, 404),
    "412": Case(lambda _: error(412, "PreconditionFailed", "no"), BlobChangedError, 412),
    "416": Case(lambda _: error(416, "InvalidRange", "no"), BlobChangedError, 416),
    "403": Case(lambda _: error(403, "AccessDenied", "no"), StorageError, 403, "s3:GetObject"),
    "500": Case(lambda _: error(500, "InternalError", "no"), StorageError, 500, "InternalError"),
    "501": Case(lambda _: error(501, "NotImplemented", "no"), StorageError, 501, "NotImplemented"),
    "page": Case(lambda _: PAGE, StorageError, 403, "a web page came"),
}


@pytest.fixture
def proxy(s3_env, monkeypatch) -> Iterator[Spoiling]:
    """The proxy, to which few requests are sent again."""
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.001)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0.0)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with Spoiling(s3_env) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        yield proxy
        close_idle_connections()


@pytest.mark.parametrize("way", ["", "boto3"])
@pytest.mark.parametrize("name", CASES)
def test_a_read(proxy, bucket, monkeypatch, name, way):
    case = CASES[name]
    monkeypatch.setenv("BLOBPACK_S3", way)
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(MEMBERS, url, all_files=True)
    with blobpack.open_blob(url) as blob:
        assert blob.index["a.jpg"].offset_start == 512
        proxy.spoilt = case.spoilt
        if case.raised is None:
            assert blob.read("a.jpg") == MEMBERS["a.jpg"]
            return
        with pytest.raises(StorageError) as caught:
            blob.read("a.jpg")
    assert type(caught.value) is case.raised
    assert caught.value.status == case.status
    assert case.said in str(caught.value)
