"""An append to an object in S3 keeps all that the object has besides its bytes, or fails before anything is written."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from test_cli import COMMAND

import blobpack
from blobpack.errors import StorageError
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.client import client_of
from blobpack.stores.s3.properties import CHECKSUMS, NOT_COPIED, copied_names, read_properties

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import S3Server

KEY = "a folder/out.tar"
HEADERS: dict[str, Any] = {
    "CacheControl": "max-age=3600",
    "ContentDisposition": 'attachment; filename="ü.tar"',
    "ContentEncoding": "identity",
    "ContentLanguage": "de",
    "ContentType": "application/x-tar",
    "Expires": datetime(2040, 1, 2, tzinfo=UTC),
    "Metadata": {"camera": "north", "empty": "", "with-space": "a b"},
}
TAGS = [{"Key": "a b/+=", "Value": "c:d @&"}, {"Key": "empty", "Value": ""}]
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


def payloads(count: int) -> Iterator[tuple[str, bytes]]:
    return ((f"{number}.bin", bytes(1 << 20)) for number in range(count))


def state_of(s3: S3Server, bucket: str, key: str = KEY) -> dict[str, Any]:
    """Everything that S3 tells of an object but its bytes, version and time."""
    head = s3.client.head_object(Bucket=bucket, Key=key)
    acl = s3.client.get_object_acl(Bucket=bucket, Key=key)
    tags = s3.client.get_object_tagging(Bucket=bucket, Key=key).get("TagSet", [])
    names = {*copied_names()} & {*head}
    return {
        **{name: head[name] for name in names},
        "grants": sorted(acl["Grants"], key=repr),
        "owner": acl["Owner"]["ID"],
        "tags": sorted(tags, key=repr),
    }


def give(s3: S3Server, bucket: str, key: str, **arguments: Any) -> None:
    """Replace an object by itself, with properties."""
    body = s3.stored(bucket, key)
    s3.client.put_object(Bucket=bucket, Key=key, Body=body, **HEADERS, **arguments)
    s3.client.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": TAGS})


@pytest.mark.parametrize("count", [0, 7])  # read and sent again; copied by S3
@pytest.mark.parametrize("acl", ["private", "public-read", "authenticated-read"])
@pytest.mark.parametrize("place", ["embed", "sidecar"])
def test_headers_tags_and_acl_are_kept(
    s3_env: S3Server, bucket: str, count: int, acl: str, place: str
) -> None:
    url = f"s3://{bucket}/{KEY}"
    blobpack.pack(payloads(count), url, all_files=True, index=place, allow_empty=True)
    keys = [KEY, f"{KEY}.idx"][: 1 + (place == "sidecar")]
    for key in keys:
        give(s3_env, bucket, key, ACL=acl)
    if place == "sidecar":  # the index is of the version that was replaced
        with blobpack.open_blob(url, stale="rescan") as blob:
            blob.index.save(f"{url}.idx")
        give(s3_env, bucket, f"{KEY}.idx", ACL=acl)
    before = [state_of(s3_env, bucket, key) for key in keys]
    assert before[0]["Metadata"] == HEADERS["Metadata"]
    assert before[0]["tags"] == sorted(TAGS, key=repr)
    assert (ALL_USERS in repr(before[0]["grants"])) == (acl == "public-read")
    report = blobpack.append(url, [("new.bin", b"x")], all_files=True, stale="rescan")
    assert report.members == count + 1
    assert [state_of(s3_env, bucket, key) for key in keys] == before
    with blobpack.open_blob(url) as blob:
        assert blob.read("new.bin") == b"x"


def test_each_grant_is_kept(s3_env: S3Server, bucket: str) -> None:
    url = f"s3://{bucket}/{KEY}"
    blobpack.pack(payloads(1), url, all_files=True)
    owner = s3_env.client.get_object_acl(Bucket=bucket, Key=KEY)["Owner"]
    me = {"Type": "CanonicalUser", "ID": owner["ID"]}
    everybody = {"Type": "Group", "URI": ALL_USERS}
    grants = [
        {"Grantee": me, "Permission": "READ"},
        {"Grantee": me, "Permission": "WRITE_ACP"},
        {"Grantee": me, "Permission": "READ_ACP"},
        {"Grantee": everybody, "Permission": "READ_ACP"},
    ]
    s3_env.client.put_object_acl(
        Bucket=bucket, Key=KEY, AccessControlPolicy={"Grants": grants, "Owner": owner}
    )
    before = state_of(s3_env, bucket)
    assert len(before["grants"]) == 4
    blobpack.append(url, [("new.bin", b"x")], all_files=True)
    assert state_of(s3_env, bucket) == before


def deny(s3: S3Server, bucket: str, *actions: str) -> None:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


@pytest.mark.parametrize(
    ("kept", "right"), [("tags", "s3:GetObjectTagging"), ("acl", "s3:GetObjectAcl")]
)
def test_a_missing_right_is_named_before_anything_is_written(
    s3_env: S3Server, bucket: str, kept: str, right: str, tmp_path: Any
) -> None:
    url = f"s3://{bucket}/{KEY}"
    blobpack.pack(payloads(1), url, all_files=True)
    give(s3_env, bucket, KEY, ACL="public-read")
    before = state_of(s3_env, bucket)
    etag = s3_env.client.head_object(Bucket=bucket, Key=KEY)["ETag"]
    deny(s3_env, bucket, right)
    with pytest.raises(ClientError, match="AccessDenied"):
        state_of(s3_env, bucket)
    read = []

    def source() -> Iterator[tuple[str, bytes]]:
        read.append(1)
        yield "new.bin", b"x"

    message = (
        rf"can't read its .*AccessDenied.*{right} .*nothing was written: drop='{kept}' goes on"
    )
    with pytest.raises(StorageError, match=message):
        blobpack.append(url, source(), all_files=True)
    assert not read
    assert not s3_env.uploads(bucket)
    assert s3_env.client.head_object(Bucket=bucket, Key=KEY)["ETag"] == etag
    (tmp_path / "new.bin").write_bytes(b"x")
    command = [COMMAND, "append", url, tmp_path / "new.bin", "--all"]
    done = subprocess.run(command, env=s3_env.env(), capture_output=True, check=False)
    assert done.returncode == 1
    assert f"--drop {kept}".encode() in done.stderr
    done = subprocess.run(
        [*command, "--drop", kept], env=s3_env.env(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    blobpack.append(url, [("more.bin", b"x")], all_files=True, drop=[kept])
    s3_env.client.delete_bucket_policy(Bucket=bucket)
    after = state_of(s3_env, bucket)
    assert {name for name in before if before[name] != after[name]} == {
        "tags" if kept == "tags" else "grants"
    }


@pytest.mark.parametrize("code", ["NotImplemented", "MethodNotAllowed", "NoSuchTagSet"])
def test_a_server_without_tags_and_acls_is_no_missing_right(
    s3_env: S3Server, bucket: str, code: str
) -> None:
    """The answers are injected into boto3: Ceph implements both requests."""
    url = f"s3://{bucket}/{KEY}"
    blobpack.pack(payloads(1), url, all_files=True)
    status = {"NotImplemented": 501, "MethodNotAllowed": 405, "NoSuchTagSet": 404}[code]

    def refuse(**_: object) -> Any:
        from botocore.awsrequest import AWSResponse
        from botocore.compat import HTTPHeaders

        response = AWSResponse("http://x", status, HTTPHeaders(), None)
        response._content = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        return response

    events = client_of().meta.events
    for operation in ("GetObjectTagging", "GetObjectAcl"):
        events.register_first(f"before-send.s3.{operation}", refuse)
    try:
        assert blobpack.append(url, [("new.bin", b"x")], all_files=True).members == 2
    finally:
        for operation in ("GetObjectTagging", "GetObjectAcl"):
            events.unregister(f"before-send.s3.{operation}", refuse)


LATER = datetime(2040, 1, 2, tzinfo=UTC)
UNUSUAL: dict[str, Any] = {
    "BucketKeyEnabled": True,
    "ObjectLockLegalHoldStatus": "ON",
    "ObjectLockMode": "GOVERNANCE",
    "ObjectLockRetainUntilDate": LATER,
    "SSEKMSKeyId": "arn:aws:kms:us-east-1:1:key/a",
    "ServerSideEncryption": "aws:kms",
    "StorageClass": "STANDARD_IA",
    "WebsiteRedirectLocation": "/elsewhere",
}


def read_with(s3: S3Server, bucket: str, drop: tuple[str, ...] = (), **added: Any) -> Any:
    """Read the properties of an object whose HEAD is changed on the way: Ceph has no keys, classes and so on."""
    s3.put(bucket, KEY, b"")
    etag = s3.client.head_object(Bucket=bucket, Key=KEY)["ETag"]

    def add(parsed: dict[str, Any], **_: object) -> None:
        parsed.update(added)

    events = client_of().meta.events
    events.register("after-call.s3.HeadObject", add)
    try:
        return read_properties(ObjectKey(Bucket(bucket), KEY), etag, drop)
    finally:
        events.unregister("after-call.s3.HeadObject", add)


def test_what_this_server_lacks_is_kept_too(s3_env: S3Server, bucket: str) -> None:
    properties = read_with(s3_env, bucket, **UNUSUAL)
    assert properties.arguments.items() >= UNUSUAL.items()
    for right in ("PutObjectLegalHold", "PutObjectRetention", "kms:GenerateDataKey"):
        assert right in properties.rights()
    ended = datetime.now(UTC) - timedelta(seconds=1)
    changed = {"ObjectLockRetainUntilDate": ended, "ObjectLockLegalHoldStatus": "OFF"}
    found = read_with(s3_env, bucket, **UNUSUAL | changed).arguments
    assert {name for name in UNUSUAL if name not in found} == {
        "ObjectLockRetainUntilDate",
        "ObjectLockMode",
        "ObjectLockLegalHoldStatus",
    }


def test_each_property_is_copied_or_has_a_reason() -> None:
    """A property that a later boto3 knows is copied; one that can't be set is one of these."""
    model = client_of().meta.service_model
    returned = set(model.operation_model("HeadObject").output_shape.members)
    accepted = set(model.operation_model("CreateMultipartUpload").input_shape.members)
    of_this_object_alone = {
        *("AcceptRanges", "ContentLength", "ContentRange", "DeleteMarker", "ETag", "LastModified"),
        *("MissingMeta", "PartsCount", "TagCount", "VersionId"),
    }
    of_the_bucket_or_request = {
        "ArchiveStatus",
        "Expiration",
        "ReplicationStatus",
        "RequestCharged",
        "Restore",
    }
    checksums = {name for name in returned if name.startswith("Checksum")}
    rest = (
        returned - {*copied_names()} - of_this_object_alone - of_the_bucket_or_request - checksums
    )
    assert rest == NOT_COPIED - {"ChecksumType"}
    assert {*HEADERS, *UNUSUAL} <= {*copied_names()} <= accepted
    # the index beside a blob may be sent by a single PUT
    assert {*copied_names()} <= set(model.operation_model("PutObject").input_shape.members)


@pytest.mark.parametrize("algorithm", [*CHECKSUMS, ""])
def test_the_checksum_algorithm_is_kept(s3_env: S3Server, bucket: str, algorithm: str) -> None:
    name = f"Checksum{algorithm or 'CRC64NVME'}"
    properties = read_with(s3_env, bucket, **{name: "x", "ChecksumType": "COMPOSITE"})
    sent = properties.checksum_of(b"123456789")
    assert properties.of_upload().get("ChecksumAlgorithm", "") == algorithm
    assert properties.of_upload().get("ChecksumType", "") == ("COMPOSITE" if algorithm else "")
    expected = {"CRC32": "y/Q5Jg==", "CRC32C": "4waSgw==", "SHA1": "98O8HYCOBHMq32eZZczDTKeuNEE="}
    assert not algorithm or sent[name] == expected.get(algorithm, sent[name])
    assert properties.checksum_in({name: "y"}) == ({name: "y"} if algorithm else {})
    assert bool(sent) == bool(algorithm)


@pytest.mark.parametrize(
    ("kept", "added"),
    [
        ("metadata", {"MissingMeta": 1}),
        ("metadata", {"ExpiresString": "tomorrow"}),
        ("metadata", {"Metadata": {"a": "ü"}}),
        ("metadata", {"ContentLanguage": "\xff"}),
        ("checksum", {"ChecksumXXHASH3": "x"}),
    ],
)
def test_what_cannot_be_kept_is_an_error(
    s3_env: S3Server, bucket: str, kept: str, added: dict[str, Any]
) -> None:
    with pytest.raises(StorageError, match=f"drop='{kept}'"):
        read_with(s3_env, bucket, **added)
    read_with(s3_env, bucket, (kept,), **added)


def test_a_refusal_of_the_new_object_names_the_rights(s3_env: S3Server, bucket: str) -> None:
    url = f"s3://{bucket}/{KEY}"
    blobpack.pack(payloads(1), url, all_files=True)
    give(s3_env, bucket, KEY, ACL="public-read")
    deny(s3_env, bucket, "s3:PutObject")
    with pytest.raises(StorageError, match="s3:PutObjectAcl, s3:PutObjectTagging"):
        blobpack.append(url, [("new.bin", b"x")], all_files=True)
    assert not s3_env.uploads(bucket)


def test_a_local_blob_has_nothing_to_drop(tmp_path: Any) -> None:
    blobpack.pack(payloads(1), tmp_path / "a.tar", all_files=True)
    with pytest.raises(ValueError, match="drop is for a blob in S3"):
        blobpack.append(tmp_path / "a.tar", [("new.bin", b"x")], drop="acl")
    (tmp_path / "new.bin").write_bytes(b"x")
    command = [COMMAND, "append", tmp_path / "a.tar", tmp_path / "new.bin", "--drop", "acl"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_what_the_server_has_not_kept_is_told(
    s3_env: S3Server, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The header is taken out of the request: a server that ignores it."""
    url = f"s3://{bucket}/{KEY}"
    blobpack.pack(payloads(1), url, all_files=True)
    give(s3_env, bucket, KEY)

    def take_out(params: dict[str, Any], **_: object) -> None:
        params["headers"].pop("Cache-Control")

    events = client_of().meta.events
    events.register("before-call.s3.CreateMultipartUpload", take_out)
    try:
        blobpack.append(url, [("new.bin", b"x")], all_files=True)
    finally:
        events.unregister("before-call.s3.CreateMultipartUpload", take_out)
    assert "not kept these properties: CacheControl" in caplog.text
