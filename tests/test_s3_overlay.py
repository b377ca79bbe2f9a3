"""A real bucket through the S3 face: each blob in it is a folder of its members, and all else is as it is."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from gatewayserver import serving
from s3server import new_session

import blobpack
from blobpack.gateway.s3 import overlay_blobs
from blobpack.gateway.s3.face import s3_app
from blobpack.gateway.served.blobs import ServedBlobs
from blobpack.gateway.tokens import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

ACCESS_KEY, SECRET_KEY = "reader", "a secret of this test"


@pytest.fixture
def client(s3_env: S3Server, bucket: str) -> Iterator[Any]:
    """A client of a face that serves the bucket as an overlay."""
    with ExitStack() as stack:
        app = s3_app(ServedBlobs({}), Keys({ACCESS_KEY: SECRET_KEY}), overlay=[bucket])
        url = stack.enter_context(serving(app)).url
        found = new_session().client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}),
        )
        stack.callback(found.close)
        yield found


def put_blob(s3: S3Server, bucket: str, key: str, members: dict[str, bytes], folder: Path) -> None:
    blobpack.pack(members.items(), folder / "new.tar", all_files=True, force=True)
    s3.put(bucket, key, (folder / "new.tar").read_bytes())


def code_of(client: Any, operation: str, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def body(client: Any, bucket: str, key: str, **more: Any) -> bytes:
    return client.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def keys(client: Any, bucket: str, api: str = "list_objects_v2", **more: Any) -> list[str]:
    pages = client.get_paginator(api).paginate(Bucket=bucket, **more)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


class TestMembers:
    @pytest.fixture(autouse=True)
    def blob(self, s3_env, bucket, small_images, tmp_path):
        put_blob(s3_env, bucket, "sets/out.tar", small_images, tmp_path)
        s3_env.put(bucket, "sets/notes.txt", b"notes")

    def test_get_and_head(self, client, bucket, small_images):
        for name, payload in small_images.items():
            assert body(client, bucket, f"sets/out.tar/{name}") == payload
            head = client.head_object(Bucket=bucket, Key=f"sets/out.tar/{name}")
            assert head["ContentLength"] == len(payload)
            assert head["ContentType"].startswith("image/")
        assert (
            body(client, bucket, "sets/out.tar/cats/0001.jpg", Range="bytes=1-3")
            == small_images["cats/0001.jpg"][1:4]
        )

    def test_a_blob_whose_key_ends_like_a_version(self, client, s3_env, bucket, tmp_path):
        put_blob(s3_env, bucket, "out?versionId=1.tar", {"a": b"a"}, tmp_path)
        assert body(client, bucket, "out?versionId=1.tar/a") == b"a"

    @pytest.mark.parametrize("api", ["list_objects", "list_objects_v2"])
    def test_listings(self, client, bucket, small_images, api):
        expected = sorted(f"sets/out.tar/{name}" for name in small_images)
        for size in (1, 2, 1000):
            config = {"PageSize": size}
            assert (
                keys(client, bucket, api, Prefix="sets/out.tar/", PaginationConfig=config)
                == expected
            )
        assert keys(client, bucket, api, Prefix="sets/out.tar/cats/000") == expected[1:3]
        page = getattr(client, api)(Bucket=bucket, Prefix="sets/out.tar/", Delimiter="/")
        assert [one["Prefix"] for one in page["CommonPrefixes"]] == [
            f"sets/out.tar/{folder}/" for folder in ("birds", "cats", "dogs")
        ]

    @pytest.mark.parametrize(
        ("after", "first"),
        [("a", 0), ("sets/out.tar/cats/0001.jpg", 2), ("sets/out.tar/dogs", 4), ("t", 6)],
    )
    def test_a_marker_of_the_clients_choice(self, client, bucket, small_images, after, first):
        expected = sorted(f"sets/out.tar/{name}" for name in small_images)[first:]
        assert keys(client, bucket, Prefix="sets/out.tar/", StartAfter=after) == expected
        page = client.list_objects(Bucket=bucket, Prefix="sets/out.tar/", Marker=after)
        assert [one["Key"] for one in page.get("Contents", [])] == expected

    def test_what_is_not_there(self, client, bucket):
        assert code_of(client, "get_object", Bucket=bucket, Key="sets/out.tar/none") == (
            "NoSuchKey",
            404,
        )
        assert code_of(client, "head_object", Bucket=bucket, Key="none.tar/a") == ("404", 404)
        assert keys(client, bucket, Prefix="none.tar/") == []

    def test_a_blob_that_is_replaced(self, client, s3_env, bucket, tmp_path):
        assert body(client, bucket, "sets/out.tar/cats/0001.jpg")
        put_blob(
            s3_env, bucket, "sets/out.tar", {"cats/0001.jpg": b"new" * 500, "x": b"x"}, tmp_path
        )
        # it is open still, and the read finds out
        assert body(client, bucket, "sets/out.tar/cats/0001.jpg") == b"new" * 500
        assert keys(client, bucket, Prefix="sets/out.tar/") == [
            "sets/out.tar/cats/0001.jpg",
            "sets/out.tar/x",
        ]

    def test_a_blob_is_looked_at_again_after_some_time(
        self, client, s3_env, bucket, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(overlay_blobs, "RECHECKED_AFTER_S", 0)
        assert len(keys(client, bucket, Prefix="sets/out.tar/")) == 6
        assert len(keys(client, bucket, Prefix="sets/out.tar/")) == 6
        put_blob(s3_env, bucket, "sets/out.tar", {"x": b"x"}, tmp_path)
        assert keys(client, bucket, Prefix="sets/out.tar/") == ["sets/out.tar/x"]
        s3_env.delete(bucket, "sets/out.tar")
        assert keys(client, bucket, Prefix="sets/out.tar/") == []

    def test_many_clients_open_a_blob_once(self, client, s3_env, bucket, small_images, monkeypatch):
        from concurrent.futures import ThreadPoolExecutor

        opened = []
        first = overlay_blobs.open_blob
        monkeypatch.setattr(
            overlay_blobs,
            "open_blob",
            lambda url, **remote: opened.append(url) or first(url, **remote),
        )
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda name: body(client, bucket, f"sets/out.tar/{name}"), small_images)
            )
        assert found == list(small_images.values())
        assert opened == [f"s3://{bucket}/sets/out.tar"]


class TestEverythingElse:
    def test_objects(self, client, s3_env, bucket):
        payload = random.Random(1).randbytes(3 << 20)
        s3_env.put(bucket, "a b/ä.bin", payload)
        s3_env.client.put_object(
            Bucket=bucket,
            Key="typed",
            Body=b"x" * 10,
            ContentType="image/x-own",
            Metadata={"a": "b"},
        )
        assert body(client, bucket, "a b/ä.bin") == payload
        assert body(client, bucket, "a b/ä.bin", Range="bytes=5-9") == payload[5:10]
        got = client.get_object(Bucket=bucket, Key="typed")
        assert got["Body"].read() == b"x" * 10
        real = s3_env.client.head_object(Bucket=bucket, Key="typed")
        for found in (got, client.head_object(Bucket=bucket, Key="typed")):
            for field in ("ContentType", "ContentLength", "ETag", "LastModified", "Metadata"):
                assert found[field] == real[field]
        other = client.get_object(Bucket=bucket, Key="typed", ResponseContentType="text/plain")
        assert (other["ContentType"], other["Body"].read()) == ("text/plain", b"x" * 10)

    def test_conditions_and_errors(self, client, s3_env, bucket):
        s3_env.put(bucket, "a", b"abc")
        etag = s3_env.client.head_object(Bucket=bucket, Key="a")["ETag"]
        asked = {"Bucket": bucket, "Key": "a"}
        assert code_of(client, "get_object", **asked, IfMatch='"other"') == (
            "PreconditionFailed",
            412,
        )
        assert code_of(client, "get_object", **asked, IfNoneMatch=etag) == ("304", 304)
        assert code_of(client, "head_object", **asked, IfMatch='"other"') == ("412", 412)
        assert code_of(client, "get_object", **asked, Range="bytes=10-") == ("InvalidRange", 416)
        assert code_of(client, "get_object", Bucket=bucket, Key="none") == ("NoSuchKey", 404)
        assert code_of(client, "head_object", Bucket=bucket, Key="none") == ("404", 404)

    @pytest.mark.parametrize("api", ["list_objects", "list_objects_v2"])
    def test_listings(self, client, s3_env, bucket, tmp_path, api):
        put_blob(s3_env, bucket, "out.tar", {"a": b"a"}, tmp_path)
        for key in ("a b&d", "x/1", "x/2", "y/ä", "~<>"):
            s3_env.put(bucket, key, b"abc")
        for more in ({}, {"Prefix": "x"}, {"Delimiter": "/"}, {"Prefix": "out"}):
            for size in (1, 2, 1000):
                found, real = (
                    list(
                        s3.get_paginator(api).paginate(
                            Bucket=bucket, PaginationConfig={"PageSize": size}, **more
                        )
                    )
                    for s3 in (client, s3_env.client)
                )
                for field in ("Contents", "CommonPrefixes"):
                    assert facts_of(found, field) == facts_of(real, field)

    def test_an_object_whose_key_looks_like_a_member(self, client, s3_env, bucket):
        s3_env.put(bucket, "no.tar/a", b"abc")
        s3_env.put(bucket, "text.tar", b"this is no tar")
        s3_env.put(bucket, "text.tar/a", b"abc")
        assert body(client, bucket, "no.tar/a") == body(client, bucket, "text.tar/a") == b"abc"
        assert keys(client, bucket, Prefix="no.tar/") == ["no.tar/a"]
        assert keys(client, bucket, Prefix="text.tar/") == ["text.tar/a"]

    def test_buckets(self, client, s3_env, bucket):
        other = s3_env.new_bucket()
        assert [one["Name"] for one in client.list_buckets()["Buckets"]] == [bucket]
        client.head_bucket(Bucket=bucket)
        # another bucket of the same key pair is none of ours
        assert code_of(client, "list_objects_v2", Bucket=other) == ("NoSuchBucket", 404)

    def test_nothing_is_written(self, client, s3_env, bucket):
        s3_env.put(bucket, "a", b"abc")
        assert code_of(client, "put_object", Bucket=bucket, Key="b", Body=b"")[1] == 405
        assert code_of(client, "delete_object", Bucket=bucket, Key="a")[1] == 405
        assert s3_env.keys(bucket) == ["a"]


def facts_of(pages: list[dict[str, Any]], field: str) -> list[Any]:
    """What pages say of keys or prefixes. Ceph's listings have fractions of seconds, unlike those of S3."""
    found = [one for page in pages for one in page.get(field, [])]
    times = [one["LastModified"].replace(microsecond=0) for one in found if "LastModified" in one]
    return [[one.get(name) for name in ("Key", "Size", "ETag", "Prefix")] for one in found] + times


def test_a_store_that_can_not_be_reached(client, s3_env, bucket, monkeypatch):
    from s3server import forget_clients

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_clients()
    assert code_of(client, "get_object", Bucket=bucket, Key="a")[1] in (500, 503)
    assert code_of(client, "get_object", Bucket=bucket, Key="out.tar/a")[1] in (500, 503)


class TestHostileKeys:
    @pytest.fixture
    def unsigned(self, s3_env, bucket):
        with serving(s3_app(ServedBlobs({}), Keys({}), unsigned=True, overlay=[bucket])) as found:
            yield found

    @pytest.mark.parametrize(
        "key", ["%ff", "a%00b", "k" * 1025, "x.tar/%ff", "x.tar/%00", "..%2Fother/secret"]
    )
    def test_what_can_be_no_key_does_not_exist(self, unsigned, bucket, key):
        for method in ("GET", "HEAD"):
            answer = unsigned.ask(f"/{bucket}/{key}", method)
            assert answer.status == 404
        assert b"<Code>NoSuchKey</Code>" in unsigned.ask(f"/{bucket}/{key}").body

    def test_a_key_that_climbs_reads_no_other_bucket(self, unsigned, s3_env, bucket):
        s3_env.put(bucket, "secret", b"inside")
        for key in (f"../{bucket}/secret", f"a/../../{bucket}/secret", "a/../secret", "./secret"):
            assert unsigned.ask(f"/{bucket}/{key}").status == 404
        assert unsigned.ask(f"/{bucket}/secret").body == b"inside"

    def test_one_request_asks_for_few_blobs(self):
        places = list(overlay_blobs.blobs_in("bucket", "a.tar/" * 100))
        assert len(places) == overlay_blobs.PLACES_MAX
