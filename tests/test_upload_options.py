"""Properties of new objects, as S3Options and the commands give them: honoured by every way of writing, kept by append."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

import blobpack
from blobpack import S3Options, StorageError
from blobpack.cli.main import main
from blobpack.stores.access.uploads import upload_arguments
from blobpack.stores.s3.client import client_of
from blobpack.stores.s3.upload import UPLOAD_PART_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import S3Server

SMALL = {"a.txt": b"a" * 700, "b.txt": b"b" * 700}
# two parts
LARGE = {"a.bin": bytes(UPLOAD_PART_BYTES), "b.txt": b"b"}
GIVEN = S3Options(
    content_type="application/octet-stream",
    metadata={"Owner": "me", "set": "train"},
    tags={"project": "cats & dogs", "b": "1+1"},
    acl="public-read",
)
KEY = bytes(range(32))


def properties(s3: S3Server, bucket: str, key: str) -> dict[str, Any]:
    head = s3.client.head_object(Bucket=bucket, Key=key)
    tags = s3.client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    grants = s3.client.get_object_acl(Bucket=bucket, Key=key)["Grants"]
    return {
        "type": head["ContentType"],
        "metadata": head["Metadata"],
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
        "public": any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants),
    }


EXPECTED = {
    "type": "application/octet-stream",
    "metadata": {"owner": "me", "set": "train"},
    "tags": {"project": "cats & dogs", "b": "1+1"},
    "public": True,
}


@pytest.fixture
def asked(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The operations that boto3 is asked for, with their arguments."""
    from blobpack.stores.s3.bucket import Bucket

    calls = []
    ask_once = Bucket._ask_once

    def noted(self: Bucket, client: Any, operation: str, arguments: Any, what: str) -> Any:
        calls.append((operation, arguments))
        return ask_once(self, client, operation, arguments, what)

    monkeypatch.setattr(Bucket, "_ask_once", noted)
    return calls


@pytest.mark.parametrize("members", [SMALL, LARGE], ids=["one part", "several"])
def test_a_blob_gets_them_and_append_keeps_them(s3_env, bucket, members):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(members, url, all_files=True, s3=GIVEN)
    assert properties(s3_env, bucket, "out.tar") == EXPECTED
    blobpack.append(url, {"new.txt": b"new"}, all_files=True)
    assert properties(s3_env, bucket, "out.tar") == EXPECTED
    assert blobpack.open(url).read("new.txt") == b"new"


def test_append_replaces_those_that_it_is_given(s3_env, bucket):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(SMALL, url, all_files=True, s3=GIVEN)
    other = S3Options(metadata={"set": "test"}, acl="private", content_type="application/x-tar")
    blobpack.append(url, {"new.txt": b"new"}, all_files=True, s3=other)
    assert properties(s3_env, bucket, "out.tar") == EXPECTED | {
        "type": "application/x-tar",
        "metadata": {"set": "test"},
        "public": False,
    }


def test_shards_and_their_collection_get_them(s3_env, bucket):
    folder = f"s3://{bucket}/shards"
    blobpack.pack_shards(LARGE, folder, 1 << 20, all_files=True, s3=GIVEN)
    for key in s3_env.keys(bucket):
        is_blob = key.endswith(".tar")
        found = properties(s3_env, bucket, key)
        assert found == EXPECTED | ({} if is_blob else {"type": "application/octet-stream"})
    assert len(s3_env.keys(bucket)) == 3
    blobpack.append(f"{folder}/", {"new.txt": b"new"}, all_files=True, s3=GIVEN)
    assert properties(s3_env, bucket, "shards/00002.tar") == EXPECTED


def test_everything_else_that_is_written_gets_them(s3_env, bucket, tmp_path):
    blob = tmp_path / "in.tar"
    blobpack.pack(SMALL, blob, all_files=True, index="none")
    place = f"s3://{bucket}"
    blobpack.merge([blob], f"{place}/merged.tar", index="sidecar", s3=GIVEN)
    blobpack.subset(blob, f"{place}/some.tar", ["a.txt"], s3=GIVEN)
    blobpack.repack(blob, f"{place}/again.tar", all_files=True, s3=GIVEN)
    blobpack.extract(blob, f"{place}/files", s3=GIVEN)
    blobpack.write_offsets(blob, f"{place}/rows.csv", s3=GIVEN)
    blobpack.scan(blob).save(f"{place}/in.idx", s3=GIVEN)
    blobpack.collect([f"{place}/some.tar"], f"{place}/all.idx", s3=GIVEN)
    types = {
        key: found.pop("type")
        for key in s3_env.keys(bucket)
        for found in (properties(s3_env, bucket, key),)
        if found | {"type": ""} == EXPECTED | {"type": ""}
    }
    octets = "application/octet-stream"
    assert types == {
        **dict.fromkeys(("merged.tar", "some.tar", "again.tar"), octets),
        **dict.fromkeys(("merged.tar.idx", "in.idx", "all.idx"), octets),
        **dict.fromkeys(("files/a.txt", "files/b.txt"), "binary/octet-stream"),
        "rows.csv": "text/csv",
    }


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("out.tar", "application/x-tar"),
        ("out", "application/x-tar"),
        ("out.tar.zst", "application/zstd"),
    ],
)
def test_media_types_by_default(s3_env, bucket, name, media_type):
    blobpack.pack(
        SMALL,
        f"s3://{bucket}/{name}",
        all_files=True,
        index="sidecar" if name[-1] == "r" else "embed",
    )
    assert properties(s3_env, bucket, name)["type"] == media_type


def test_the_default_costs_no_request(s3_env, bucket, asked):
    blobpack.pack(SMALL, f"s3://{bucket}/out.tar", all_files=True, force=True)
    operations = [operation for operation, _ in asked]
    assert operations.count("put_object") == 1
    assert operations[-1] == "put_object"


@pytest.mark.parametrize("members", [SMALL, LARGE], ids=["one part", "several"])
def test_the_other_options_are_arguments_of_the_request(s3_env, bucket, asked, members):
    """Ceph RGW has one storage class, knows no SSE-S3 and ignores checksums: it is asked for them all the same."""
    options = S3Options(storage_class="STANDARD", checksum="SHA256")
    blobpack.pack(members, f"s3://{bucket}/out.tar", all_files=True, s3=options)
    begun = [
        arguments
        for operation, arguments in asked
        if operation in ("put_object", "create_multipart_upload")
    ]
    assert [each["StorageClass"] for each in begun] == ["STANDARD"]
    sent = [each for operation, each in asked if operation in ("put_object", "upload_part")]
    assert all("ChecksumSHA256" in each for each in sent)
    assert len(sent) == (2 if members is LARGE else 1)
    unknown = S3Options(storage_class="NOWHERE")
    with pytest.raises(StorageError, match=r"out\.tar: can't"):
        blobpack.pack(members, f"s3://{bucket}/out.tar", all_files=True, force=True, s3=unknown)


def test_arguments():
    given = S3Options(sse="aws:kms", sse_kms_key_id="k", acl="private", storage_class="GLACIER_IR")
    kept = {"ServerSideEncryption": "AES256", "GrantRead": "x", "CacheControl": "no-store"}
    assert upload_arguments(given, "a.tar", kept) == {
        "ContentType": "application/x-tar",
        "CacheControl": "no-store",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "k",
        "ACL": "private",
        "StorageClass": "GLACIER_IR",
    }
    # the key of a customer takes the place of S3's own encryption
    assert "ServerSideEncryption" not in upload_arguments(S3Options(sse_c_key=KEY), "a", kept)


@pytest.mark.parametrize("members", [SMALL, LARGE], ids=["one part", "several"])
def test_sse_kms(s3_env, bucket, members):
    url, options = f"s3://{bucket}/out.tar", S3Options(sse="aws:kms", sse_kms_key_id="testkey-1")
    blobpack.pack(members, url, all_files=True, s3=options)
    for _ in range(2):
        head = s3_env.client.head_object(Bucket=bucket, Key="out.tar")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "testkey-1")
        # append keeps the encryption
        blobpack.append(url, {"new.txt": b"new"}, all_files=True, duplicates="last")
    assert blobpack.open(url).read("b.txt") == members["b.txt"]


class TestSseC:
    @pytest.fixture(params=[SMALL, LARGE], ids=["one part", "several"])
    def members(self, request: pytest.FixtureRequest) -> Iterator[dict[str, bytes]]:
        return request.param

    def test_a_blob_is_written_appended_to_and_read_with_the_key(self, s3_env, bucket, members):
        url, options = f"s3://{bucket}/out.tar", S3Options(sse_c_key=KEY)
        blobpack.pack(members, url, all_files=True, s3=options)
        with pytest.raises(ClientError):
            s3_env.client.head_object(Bucket=bucket, Key="out.tar")
        with pytest.raises(StorageError, match=r"a key of your own needs sse_c_key='FILE'"):
            blobpack.open(url)
        blobpack.append(url, {"new.txt": b"new"}, all_files=True, s3=options)
        with blobpack.open(url, s3=options) as blob:
            assert dict(blob.items()) == members | {"new.txt": b"new"}
            # on our own connections
            assert blob.stats.boto3_reads == 0
        assert blobpack.verify(url, s3=options).ok

    def test_the_commands_read_the_key_from_a_file(self, s3_env, bucket, tmp_path):
        (tmp_path / "key").write_bytes(KEY)
        (tmp_path / "a.txt").write_bytes(b"a")
        url, key = f"s3://{bucket}/out.tar", ["--sse-c-key", str(tmp_path / "key")]
        packed = CliRunner().invoke(main, ["pack", "--all", str(tmp_path / "a.txt"), url, *key])
        assert packed.exit_code == 0, packed.output
        assert CliRunner().invoke(main, ["cat", url, "a.txt", *key]).stdout_bytes == b"a"
        without = CliRunner().invoke(main, ["cat", url, "a.txt"])
        assert "a key of your own needs --sse-c-key FILE" in without.output
        plain = ["merge", url, f"s3://{bucket}/plain.tar", *("--source-sse-c-key", key[1])]
        assert CliRunner().invoke(main, plain).exit_code == 0
        assert blobpack.open(f"s3://{bucket}/plain.tar").read("a.txt") == b"a"


def test_the_commands_take_the_options(s3_env, bucket, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a")
    options = ["--content-type", "application/octet-stream", "--acl", "public-read"]
    options += ["--metadata", "Owner=me", "--metadata", "set=train"]
    options += ["--tag", "project=cats & dogs", "--tag", "b=1+1"]
    arguments = ["pack", "--all", str(tmp_path / "a.txt"), f"s3://{bucket}/out.tar", *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert properties(s3_env, bucket, "out.tar") == EXPECTED


def test_a_server_that_does_not_keep_them_is_said_in_the_log(s3_env, bucket, caplog):
    def drop(params: dict[str, Any], **_: object) -> None:
        params["headers"].pop("x-amz-meta-set", None)

    client_of().meta.events.register("before-call.s3.PutObject", drop)
    given = S3Options(metadata={"set": "train"})
    blobpack.pack(SMALL, f"s3://{bucket}/out.tar", all_files=True, s3=given)
    assert "the server has not kept these properties: Metadata" in caplog.text
