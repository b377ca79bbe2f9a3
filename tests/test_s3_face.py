"""boto3 reads blobs as buckets from the S3 face, behind a real uvicorn."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import urllib3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner
from gatewayserver import serving
from s3server import new_session

import blobpack
from blobpack.cli.main import main
from blobpack.gateway.s3.buckets import bucket_name
from blobpack.gateway.s3.face import s3_app
from blobpack.gateway.served.blobs import ServedBlobs
from blobpack.gateway.tokens import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCESS_KEY, SECRET_KEY = "reader", "a secret of this test"
KEYS = Keys({ACCESS_KEY: SECRET_KEY})
BLOBPACK = Path(sys.executable).with_name("blobpack")
ODD_NAMES = [
    "a b+c&d=e.jpg",
    "ä/ö~ü.png",
    "%41%2F%.jpg",
    "x//y/./z.jpg",
    "tab\tnewline\n.jpg",
    '<&>".jpg',
    "*'(),;:@$!#?[]{}|\\^`.jpg",
    "\U0001f600.jpg",
    "\uffff.jpg",
    "control\x01.jpg",
]


def pack(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    blobpack.pack(members.items(), path, all_files=True, **options)
    return path


def fetch(method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
    """Send one request, on a connection of its own."""
    with urllib3.PoolManager() as pool:
        return pool.request(method, url, **options)


class Endpoint:
    """A running S3 face."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack

    def client(
        self, *, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, **config: Any
    ) -> Any:
        client = new_session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, **config),
        )
        self._stack.callback(client.close)
        return client


@pytest.fixture
def endpoint(no_aws: None) -> Iterator[Callable[..., Endpoint]]:
    """Function that serves blobs by their names, and returns the endpoint."""
    with ExitStack() as stack:

        def serve(places: dict[str, Path | str], keys: Keys = KEYS, **options: Any) -> Endpoint:
            readers = {
                name: stack.enter_context(blobpack.open(place)) for name, place in places.items()
            }
            app = s3_app(ServedBlobs(readers), keys, **options)
            return Endpoint(stack.enter_context(serving(app)).url, stack)

        yield serve


@pytest.fixture
def images(
    small_images: dict[str, bytes], tmp_path: Path, endpoint: Callable[..., Endpoint]
) -> Any:
    """A client of an endpoint that serves the small images as the bucket `images`."""
    return endpoint({"images": pack(tmp_path / "images.tar", small_images)}).client()


def code_of(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


class TestObjects:
    def test_get_and_head(self, images, small_images):
        for name, payload in small_images.items():
            got = images.get_object(Bucket="images", Key=name)
            assert got["Body"].read() == payload
            head = images.head_object(Bucket="images", Key=name)
            assert head["ContentLength"] == len(payload)
            assert (
                head["ContentType"]
                == got["ContentType"]
                == ("image/jpeg" if name.endswith("jpg") else "image/png")
            )
            assert head["ETag"] == got["ETag"]
            assert head["LastModified"] == got["LastModified"]
            assert len(got["ResponseMetadata"]["RequestId"]) == 16
        assert len(
            {images.head_object(Bucket="images", Key=name)["ETag"] for name in small_images}
        ) == len(small_images)

    def test_an_etag_is_not_taken_for_an_md5(self, images):
        assert "-" in images.head_object(Bucket="images", Key="cats/0001.jpg")["ETag"]

    @pytest.mark.parametrize(
        ("asked", "part"),
        [
            ("bytes=0-0", slice(0, 1)),
            ("bytes=5-", slice(5, None)),
            ("bytes=-7", slice(-7, None)),
            ("bytes=2-99999", slice(2, None)),
        ],
    )
    def test_ranges(self, images, small_images, asked, part):
        payload = small_images["cats/0001.jpg"]
        got = images.get_object(Bucket="images", Key="cats/0001.jpg", Range=asked)
        assert got["Body"].read() == payload[part]
        first, last = range(len(payload))[part][0], range(len(payload))[part][-1]
        assert got["ContentRange"] == f"bytes {first}-{last}/{len(payload)}"
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert (
            images.head_object(Bucket="images", Key="cats/0001.jpg", Range=asked)["ContentLength"]
            == last + 1 - first
        )

    def test_a_range_outside(self, images, small_images):
        with pytest.raises(ClientError) as caught:
            images.get_object(Bucket="images", Key="cats/0001.jpg", Range="bytes=99999-")
        error = caught.value.response["Error"]
        assert error["Code"] == "InvalidRange"
        assert error["ActualObjectSize"] == str(len(small_images["cats/0001.jpg"]))

    def test_conditions(self, images):
        head = images.head_object(Bucket="images", Key="cats/0001.jpg")

        def get(**condition: object) -> Any:
            asked = {"Bucket": "images", "Key": "cats/0001.jpg"} | condition
            return lambda: images.get_object(**asked)["Body"].read()

        get(IfMatch=head["ETag"])()
        get(IfNoneMatch='"other"')()
        get(IfUnmodifiedSince=head["LastModified"])()
        assert code_of(get(IfMatch='"other"')) == ("PreconditionFailed", 412)
        assert code_of(get(IfNoneMatch=head["ETag"])) == ("304", 304)
        assert code_of(get(IfModifiedSince=head["LastModified"])) == ("304", 304)

    def test_a_large_payload_comes_piece_by_piece(self, endpoint, tmp_path):
        payload = random.Random(1).randbytes(3 << 20)
        client = endpoint(
            {"large": pack(tmp_path / "large.tar", {"a.bin": payload, "empty": b""})}
        ).client()
        assert client.get_object(Bucket="large", Key="a.bin")["Body"].read() == payload
        part = client.get_object(Bucket="large", Key="a.bin", Range="bytes=1000000-2999999")
        assert part["Body"].read() == payload[1000000:3000000]
        assert client.get_object(Bucket="large", Key="empty")["Body"].read() == b""
        client.download_file("large", "a.bin", str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == payload

    def test_checksums_are_those_of_the_index(self, images, small_images):
        import base64

        from blobpack.checksum import crc32c

        answer = images.head_object(Bucket="images", Key="cats/0001.jpg", ChecksumMode="ENABLED")
        expected = crc32c(small_images["cats/0001.jpg"]).to_bytes(4, "big")
        assert base64.b64decode(answer["ChecksumCRC32C"]) == expected

    def test_fields_that_the_request_sets(self, images):
        got = images.get_object(
            Bucket="images",
            Key="cats/0001.jpg",
            ResponseContentType="image/x-own",
            ResponseContentDisposition='attachment; filename="a b.jpg"',
            ResponseCacheControl="no-store",
        )
        assert got["Body"].read()
        assert got["ContentType"] == "image/x-own"
        assert got["ContentDisposition"] == 'attachment; filename="a b.jpg"'
        assert got["CacheControl"] == "no-store"
        asked = {"Bucket": "images", "Key": "cats/0001.jpg", "ResponseContentType": "a\r\nb: c"}
        assert code_of(lambda: images.get_object(**asked)) == ("InvalidArgument", 400)


class TestOddNames:
    def test_names_in_utf_8(self, endpoint, tmp_path):
        members = {name: name.encode() for name in ODD_NAMES}
        client = endpoint({"odd": pack(tmp_path / "odd.tar", members)}).client()
        for listing in (client.list_objects, client.list_objects_v2):
            keys = [found["Key"] for found in listing(Bucket="odd")["Contents"]]
            assert keys == sorted(ODD_NAMES, key=str.encode)
        for name in ODD_NAMES:
            assert client.get_object(Bucket="odd", Key=name)["Body"].read() == name.encode()

    def test_names_that_are_not_utf_8(self, endpoint, tmp_path):
        served = endpoint(
            {"odd": pack(tmp_path / "odd.tar", {"a\udcff.jpg": b"a"})}, Keys({}), unsigned=True
        )
        listing = fetch("GET", f"{served.url}/odd?encoding-type=url").data
        assert b"<Key>a%FF.jpg</Key>" in listing
        assert fetch("GET", f"{served.url}/odd/a%FF.jpg").data == b"a"
        assert "<Key>a\ufffd.jpg</Key>".encode() in fetch("GET", f"{served.url}/odd").data


def expected_page(names, prefix, delimiter, after, count):
    """What S3 lists, found the long way: keys, common prefixes, and whether there is more."""
    found = []
    for name in sorted(set(names), key=str.encode):
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        shown = (name[: cut + len(delimiter)], True) if cut >= 0 else (name, False)
        if name.startswith(prefix) and shown not in found:
            found.append(shown)
    found = [one for one in found if one[0].encode() > after.encode()]
    page = found[:count]
    return (
        [n for n, is_prefix in page if not is_prefix],
        [n for n, is_prefix in page if is_prefix],
        len(found) > count,
    )


class TestListings:
    NAMES = [
        f"{a}/{b}/{c}.jpg" for a in ("cats", "dogs", "dogs-2") for b in "ab" for c in range(4)
    ] + ["cats", "top.jpg", "z"]

    @pytest.fixture
    def client(self, endpoint, tmp_path):
        names = self.NAMES.copy()
        random.Random(3).shuffle(names)
        return endpoint({"blob": pack(tmp_path / "blob.tar", dict.fromkeys(names, b"x"))}).client()

    @pytest.mark.parametrize("prefix", ["", "cats", "cats/", "cats/a/", "dogs", "none", "z"])
    @pytest.mark.parametrize("delimiter", ["", "/", "a/", ".jpg"])
    def test_all_pages_of_both_versions(self, client, prefix, delimiter):
        keys, prefixes, _ = expected_page(self.NAMES, prefix, delimiter, "", 10**6)
        for name in ("list_objects", "list_objects_v2"):
            for size in (1, 2, 7, 1000):
                pages = client.get_paginator(name).paginate(
                    Bucket="blob",
                    Prefix=prefix,
                    Delimiter=delimiter,
                    PaginationConfig={"PageSize": size},
                )
                pages = list(pages)
                assert [one["Key"] for page in pages for one in page.get("Contents", [])] == keys
                assert [
                    one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])
                ] == prefixes
                assert all(
                    len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size
                    for page in pages
                )
                assert len(pages) == max(1, -(-(len(keys) + len(prefixes)) // size))

    @pytest.mark.parametrize("after", ["", "cats", "cats/a/1.jpg", "cats/zzz", "d", "zz"])
    def test_start_after_and_marker(self, client, after):
        keys, _, more = expected_page(self.NAMES, "", "", after, 3)
        v2 = client.list_objects_v2(Bucket="blob", StartAfter=after, MaxKeys=3)
        v1 = client.list_objects(Bucket="blob", Marker=after, MaxKeys=3)
        for page in (v1, v2):
            assert [one["Key"] for one in page.get("Contents", [])] == keys
            assert page["IsTruncated"] is more
        assert v2["KeyCount"] == len(keys)
        assert v1["Marker"] == after

    def test_facts_of_keys(self, client):
        page = client.list_objects_v2(Bucket="blob", Prefix="top", FetchOwner=True)
        found = page["Contents"][0]
        head = client.head_object(Bucket="blob", Key="top.jpg")
        assert (found["Size"], found["ETag"], found["LastModified"]) == (
            1,
            head["ETag"],
            head["LastModified"],
        )
        assert found["StorageClass"] == "STANDARD"
        assert found["Owner"]["ID"]
        assert "Owner" not in client.list_objects_v2(Bucket="blob")["Contents"][0]
        assert client.list_objects(Bucket="blob")["Contents"][0]["Owner"]["ID"]

    def test_versions(self, client):
        pages = client.get_paginator("list_object_versions").paginate(
            Bucket="blob", PaginationConfig={"PageSize": 5}
        )
        found = [version for page in pages for version in page["Versions"]]
        assert [version["Key"] for version in found] == sorted(self.NAMES)
        assert all(version["IsLatest"] and version["VersionId"] == "null" for version in found)
        assert client.get_object(Bucket="blob", Key="z", VersionId="null")["Body"].read() == b"x"
        assert code_of(lambda: client.get_object(Bucket="blob", Key="z", VersionId="1")) == (
            "NoSuchVersion",
            404,
        )

    def test_malformed(self, client):
        assert code_of(lambda: client.list_objects_v2(Bucket="blob", ContinuationToken="x")) == (
            "InvalidArgument",
            400,
        )
        assert code_of(lambda: client.list_objects_v2(Bucket="blob", MaxKeys=-1)) == (
            "InvalidArgument",
            400,
        )
        empty = client.list_objects_v2(Bucket="blob", MaxKeys=0)
        assert ("Contents" not in empty, empty["IsTruncated"]) == (True, False)
        assert client.list_objects_v2(Bucket="blob", MaxKeys=5000)["MaxKeys"] == 1000

    def test_an_empty_blob(self, endpoint, tmp_path):
        client = endpoint({"none": pack(tmp_path / "none.tar", {}, allow_empty=True)}).client()
        assert "Contents" not in client.list_objects_v2(Bucket="none")


class TestBuckets:
    def test_names(self, endpoint, tmp_path):
        path = pack(tmp_path / "a.tar", {"a": b"a"})
        client = endpoint({"Train_1": path, "b": path, "x/train-1": path, "train-1": path}).client()
        names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
        assert names == ["blob-b", "train-1", "train-1-2", "x-train-1"]
        for name in names:
            client.head_bucket(Bucket=name)
            assert client.get_object(Bucket=name, Key="a")["Body"].read() == b"a"

    @pytest.mark.parametrize(
        ("name", "bucket"),
        [
            ("train-00012", "train-00012"),
            ("Größe 1", "gr-e-1"),
            ("a", "blob-a"),
            ("..", "blob"),
            ("a..b", "a.b"),
            ("-a-.-b-", "a.b"),
            ("x" * 100, "x" * 63),
        ],
    )
    def test_names_that_no_bucket_has(self, name, bucket):
        assert bucket_name(name) == bucket

    def test_location_and_versioning(self, images):
        assert images.get_bucket_location(Bucket="images")["LocationConstraint"] is None
        assert "Status" not in images.get_bucket_versioning(Bucket="images")
        images.head_bucket(Bucket="images")

    def test_what_is_not_there(self, images):
        assert code_of(lambda: images.head_bucket(Bucket="other")) == ("404", 404)
        assert code_of(lambda: images.list_objects_v2(Bucket="other")) == ("NoSuchBucket", 404)
        assert code_of(lambda: images.get_object(Bucket="images", Key="cats")) == ("NoSuchKey", 404)
        assert code_of(lambda: images.head_object(Bucket="images", Key="none")) == ("404", 404)
        assert code_of(lambda: images.get_bucket_policy(Bucket="images")) == ("NotImplemented", 501)
        assert code_of(lambda: images.get_object_tagging(Bucket="images", Key="cats/0001.jpg")) == (
            "NotImplemented",
            501,
        )
        assert code_of(
            lambda: images.get_object(Bucket="images", Key="cats/0001.jpg", PartNumber=1)
        ) == ("NotImplemented", 501)

    def test_nothing_is_written(self, images):
        writes = [
            lambda: images.put_object(Bucket="images", Key="a", Body=b"x" * 100_000),
            lambda: images.delete_object(Bucket="images", Key="cats/0001.jpg"),
            lambda: images.delete_objects(
                Bucket="images", Delete={"Objects": [{"Key": "cats/0001.jpg"}]}
            ),
            lambda: images.create_bucket(
                Bucket="fresh", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
            ),
            lambda: images.delete_bucket(Bucket="images"),
            lambda: images.copy_object(Bucket="images", Key="b", CopySource="images/cats/0001.jpg"),
            lambda: images.create_multipart_upload(Bucket="images", Key="b"),
        ]
        assert {code_of(write) for write in writes} == {("MethodNotAllowed", 405)}
        assert images.get_object(Bucket="images", Key="cats/0001.jpg")["Body"].read()


class TestSignatures:
    @pytest.fixture
    def served(self, small_images, tmp_path, endpoint):
        return endpoint({"images": pack(tmp_path / "images.tar", small_images)})

    @pytest.mark.parametrize("version", [None, "s3", "s3v4"])
    @pytest.mark.parametrize("key", ["cats/0001.jpg", "dogs/größer 1.png"])
    def test_presigned(self, served, small_images, version, key):
        client = served.client(signature_version=version) if version else served.client()
        params = {"Bucket": "images", "Key": key, "ResponseContentType": "image/x-own"}
        url = client.generate_presigned_url("get_object", params)
        assert "Signature=" in url
        assert ("X-Amz-Signature" in url) is (version == "s3v4")
        answer = fetch("GET", url)
        assert (answer.status, answer.data) == (200, small_images[key])
        assert answer.headers["content-type"] == "image/x-own"
        assert fetch("GET", url, headers={"range": "bytes=0-1"}).data == small_images[key][:2]
        assert fetch("HEAD", url).status == 403
        assert fetch("GET", url.replace("/cats", "/dogs").replace("1.png", "2.png")).status == 403
        listing = client.generate_presigned_url(
            "list_objects_v2", {"Bucket": "images", "Prefix": "cats/"}
        )
        assert fetch("GET", listing).data.count(b"<Key>") == 3

    def test_presigned_and_expired(self, served):
        params = {"Bucket": "images", "Key": "cats/0001.jpg"}
        url = served.client().generate_presigned_url("get_object", params, ExpiresIn=-1)
        answer = fetch("GET", url)
        assert answer.status == 403
        assert b"<Code>AccessDenied</Code><Message>Request has expired</Message>" in answer.data

    @pytest.mark.parametrize("size", [10, 500_000])
    def test_an_upload_that_does_not_wait_for_leave(self, served, size):
        answer = fetch("PUT", f"{served.url}/images/a", body=b"x" * size)
        assert answer.status == 403
        assert answer.headers["connection"] == "close"

    def test_wrong_keys(self, served):
        wrong = served.client(secret_key="wrong")
        assert code_of(lambda: wrong.list_objects(Bucket="images")) == (
            "SignatureDoesNotMatch",
            403,
        )
        unknown = served.client(access_key="unknown")
        assert code_of(lambda: unknown.list_objects(Bucket="images")) == ("InvalidAccessKeyId", 403)
        anonymous = served.client(signature_version=UNSIGNED)
        assert code_of(lambda: anonymous.list_objects(Bucket="images")) == ("AccessDenied", 403)
        # what exists is not told to those who may not know
        assert code_of(lambda: anonymous.list_objects(Bucket="other")) == ("AccessDenied", 403)
        assert code_of(lambda: anonymous.put_object(Bucket="images", Key="a", Body=b"")) == (
            "AccessDenied",
            403,
        )

    def test_unsigned_requests_where_they_are_allowed(self, small_images, tmp_path, endpoint):
        served = endpoint({"images": pack(tmp_path / "images.tar", small_images)}, unsigned=True)
        anonymous = served.client(signature_version=UNSIGNED)
        assert (
            anonymous.get_object(Bucket="images", Key="cats/0001.jpg")["Body"].read()
            == small_images["cats/0001.jpg"]
        )
        asked = {"Bucket": "images", "Key": "cats/0001.jpg", "ResponseContentType": "text/html"}
        assert code_of(lambda: anonymous.get_object(**asked)) == ("InvalidRequest", 400)
        wrong = served.client(secret_key="wrong")
        assert code_of(lambda: wrong.list_objects(Bucket="images")) == (
            "SignatureDoesNotMatch",
            403,
        )

    def test_a_server_without_keys(self, small_images, tmp_path, endpoint):
        path = pack(tmp_path / "images.tar", small_images)
        client = endpoint({"images": path}, Keys({}), unsigned=True).client()
        assert len(client.list_objects(Bucket="images")["Contents"]) == len(small_images)
        with pytest.raises(ValueError, match="key pair"):
            s3_app(ServedBlobs({}), Keys({}))

    def test_pages_of_other_origins(self, served):
        url = served.client().generate_presigned_url(
            "get_object", {"Bucket": "images", "Key": "cats/0001.jpg"}
        )
        assert fetch("GET", url).headers["access-control-allow-origin"] == "*"
        preflight = fetch("OPTIONS", url, headers={"access-control-request-method": "GET"})
        assert preflight.status == 204
        assert "Range" in preflight.headers["access-control-allow-headers"]


def test_a_blob_in_s3_and_one_that_is_replaced(s3_env, bucket, endpoint, small_images, tmp_path):
    url = s3_env.put(bucket, "images.tar", pack(tmp_path / "images.tar", small_images).read_bytes())
    served = endpoint({"images": url})
    client = served.client()
    assert (
        client.get_object(Bucket="images", Key="cats/0001.jpg")["Body"].read()
        == small_images["cats/0001.jpg"]
    )
    s3_env.put(bucket, "images.tar", pack(tmp_path / "other.tar", {"a": b"a" * 5000}).read_bytes())
    get = lambda: client.get_object(Bucket="images", Key="cats/0002.jpg")  # noqa: E731
    assert code_of(get) == ("OperationAborted", 409)


def test_a_local_blob_that_is_replaced(endpoint, small_images, tmp_path):
    path = pack(tmp_path / "images.tar", small_images)
    client = endpoint({"images": path}).client()
    assert client.head_object(Bucket="images", Key="cats/0001.jpg")
    pack(path, {"a": b"a"}, force=True)
    get = lambda: client.get_object(Bucket="images", Key="cats/0001.jpg")  # noqa: E731
    assert code_of(get) == ("OperationAborted", 409)


def test_times(endpoint, s3_env, bucket, tmp_path):
    """The member's own time, or that of the blob's file or object."""
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a").write_bytes(b"a")
    os.utime(tmp_path / "imgs" / "a", (1234567890, 1234567890))
    blobpack.pack(tmp_path / "imgs", tmp_path / "kept.tar", all_files=True, keep_mtime=True)
    os.utime(pack(tmp_path / "without.tar", {"a": b"a"}), (1300000000, 1300000000))
    url = s3_env.put(bucket, "without.tar", (tmp_path / "without.tar").read_bytes())
    real = s3_env.client.head_object(Bucket=bucket, Key="without.tar")["LastModified"]
    places = {"kept": tmp_path / "kept.tar", "without": tmp_path / "without.tar", "remote": url}
    client = endpoint(places).client()
    expected = {"kept": 1234567890, "without": 1300000000, "remote": int(real.timestamp())}
    for name, seconds in expected.items():
        listed = client.list_objects_v2(Bucket=name)["Contents"][0]["LastModified"]
        head = client.head_object(Bucket=name, Key="a")["LastModified"]
        assert listed.timestamp() == head.timestamp() == seconds


def test_a_face_that_is_mounted_in_another_application(no_aws, small_images, tmp_path):
    from starlette.applications import Starlette
    from starlette.routing import Mount

    with ExitStack() as stack:
        blob = stack.enter_context(blobpack.open(pack(tmp_path / "images.tar", small_images)))
        face = s3_app(ServedBlobs({"images": blob}), KEYS)
        server = stack.enter_context(serving(Starlette(routes=[Mount("/under/s3", app=face)])))
        client = Endpoint(f"{server.url}/under/s3", stack).client()
        for name, payload in small_images.items():
            assert client.get_object(Bucket="images", Key=name)["Body"].read() == payload
        assert len(client.list_objects_v2(Bucket="images")["Contents"]) == len(small_images)


def test_a_collection(endpoint, small_images, tmp_path):
    pack(tmp_path / "a.tar", {"1/a": b"1"})
    pack(tmp_path / "b.tar", {"0/b": b"0"})
    client = endpoint({"both": tmp_path}).client()
    assert [one["Key"] for one in client.list_objects_v2(Bucket="both")["Contents"]] == [
        "0/b",
        "1/a",
    ]
    assert client.get_object(Bucket="both", Key="0/b")["Body"].read() == b"0"


def test_the_recipe_of_an_annotation_tool(endpoint, small_images, tmp_path, monkeypatch):
    """A loader as people write it for S3: pages of list_objects, then get_object for each key that is new."""
    served = endpoint({"images": pack(tmp_path / "images.tar", small_images)})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", served.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3 = boto3.client("s3")
    bucket, prefix, in_db = "images", "cats", ["cats/0002.jpg"]

    def get_stream():
        paginator = s3.get_paginator("list_objects")
        paginate_params = {"Bucket": bucket}
        if prefix:
            paginate_params["Prefix"] = prefix
        for page in paginator.paginate(**paginate_params):
            for obj in page["Contents"]:
                img_key = obj["Key"]
                if img_key == f"{prefix}/":
                    continue
                if in_db and img_key in in_db:
                    continue
                yield img_key, s3.get_object(Bucket=bucket, Key=img_key).get("Body").read()

    expected = {
        name: small_images[name]
        for name in small_images
        if name.startswith("cats") and name not in in_db
    }
    try:
        assert dict(get_stream()) == expected
    finally:
        s3.close()


class TestServe:
    def test_the_command_serves_blobs_and_real_buckets(
        self, s3_env, bucket, small_images, tmp_path
    ):
        s3_env.put(bucket, "out.tar", pack(tmp_path / "Images 1.tar", small_images).read_bytes())
        command = [BLOBPACK, "serve", tmp_path / "Images 1.tar"]
        options = ["--port", "0", "--s3-port", "0", "--s3-overlay", f"s3://{bucket}", "--json"]
        env = s3_env.env() | {
            "BLOBPACK_SERVE_ACCESS_KEY": ACCESS_KEY,
            "BLOBPACK_SERVE_SECRET_KEY": SECRET_KEY,
        }
        with (
            subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, text=True, env=env
            ) as server,
            ExitStack() as stack,
        ):
            stack.callback(server.terminate)
            ready = json.loads(server.stdout.readline())
            assert ready["buckets"] == sorted([bucket, "images-1"])
            client = Endpoint(ready["s3_url"], stack).client()
            for name, key in (("images-1", "cats/0001.jpg"), (bucket, "out.tar/cats/0001.jpg")):
                got = client.get_object(Bucket=name, Key=key)
                assert got["Body"].read() == small_images["cats/0001.jpg"]
        assert server.returncode == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--s3-port", "0"], "Missing argument"),
            (["a.tar", "--s3-overlay", "s3://bucket"], "--s3-overlay needs --s3-port"),
            (["--s3-port", "0", "--s3-overlay", "bucket"], "write s3://bucket"),
            (["--s3-port", "0", "--s3-overlay", "s3://bucket/key"], "write s3://bucket"),
            (["a.tar", "--s3-port", "0"], "needs a key pair or --s3-unsigned"),
            (
                ["a.tar", "--s3-port", "0", "--s3-unsigned", "--s3-overlay", "s3://blob-a"],
                "a blob is served as the bucket blob-a",
            ),
        ],
    )
    def test_wrong_usage(self, arguments, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pack(tmp_path / "a.tar", {"a": b"a"})
        done = CliRunner().invoke(main, ["serve", *arguments])
        assert done.exit_code == 2
        assert message in done.output
