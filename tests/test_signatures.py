"""Signatures made here are those that boto3 makes, or boto3 makes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import blobpack
from blobpack.packing.files import Skipped
from blobpack.packing.objects import list_prefix
from blobpack.stores.location import Location
from blobpack.stores.s3 import signing
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.client import secret_key
from blobpack.stores.s3.signing import Signatures, Signer, sign

if TYPE_CHECKING:
    from pathlib import Path

    from faultserver import FaultServer

AWKWARD = ["a b+c&d=e", "ä/ö.png", "%41%2F%", "x//y/./../z", "~*'(),;:@$!#?[]{}|\\^`\"<>", "tab\t"]


VERSION = '"v"'


def signed_by_boto3(bucket: str, key: str, first: str) -> tuple[bytes, bytes]:
    """The heads for a key: signed after another one's, and by boto3 itself, in the same second."""
    target, like = (ObjectKey(Bucket(bucket), key) for key in (key, first))
    while True:
        signatures = Signatures()
        signatures.ranged_get_of(like, VERSION)
        ours = signatures.ranged_get_of(target, VERSION).head
        theirs = sign(target, VERSION).head
        if date_of(ours) == date_of(theirs):
            return ours, theirs


def date_of(head: bytes) -> bytes:
    return re.findall(rb"(?i)x-amz-date: (\S+)", head)[0]


@pytest.fixture
def settings(no_aws: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """AWS itself, which is never asked."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return monkeypatch


class TestAsBoto3Signs:
    @pytest.mark.parametrize("key", AWKWARD)
    @pytest.mark.parametrize("bucket", ["bucket", "dotted.bucket"])  # in the host, in the path
    def test_every_key(self, settings, bucket, key):
        ours, theirs = signed_by_boto3(bucket, key, first="first/key")
        assert ours == theirs
        assert (b"Host: bucket." in ours) == (bucket == "bucket")

    @pytest.mark.parametrize("first", AWKWARD)
    def test_after_every_key(self, settings, first):
        ours, theirs = signed_by_boto3("bucket", "plain", first)
        assert ours == theirs

    def test_with_a_session_token(self, settings):
        settings.setenv("AWS_SESSION_TOKEN", "token/of+a role==")
        ours, theirs = signed_by_boto3("bucket", "b", first="a")
        assert ours == theirs
        assert b"x-amz-security-token" in ours.lower()

    def test_what_is_signed_otherwise_is_left_to_boto3(self, settings):
        ranged_get = sign(ObjectKey(Bucket("bucket"), "a"), VERSION)
        secret = secret_key()
        assert Signer(ranged_get, "a", secret).ranged_get_of("b", VERSION) is not None
        assert Signer(ranged_get, "a", "another secret").ranged_get_of("b", VERSION) is None
        assert Signer(ranged_get, "other", secret).ranged_get_of("b", VERSION) is None
        ranged_get.head = ranged_get.head.replace(b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256")
        assert Signer(ranged_get, "a", secret).ranged_get_of("b", VERSION) is None


class TestPacking:
    @pytest.fixture
    def prefix(self, faults: FaultServer, s3, small_images: dict[str, bytes]) -> str:
        bucket = s3.new_bucket()
        names = [key for key in AWKWARD if ".." not in key]
        for i, payload in enumerate(list(small_images.values()) * 20):
            s3.put(bucket, f"in/{i:03}{names[i % len(names)]}", payload)
        return f"s3://{bucket}/in"

    def signed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The objects that boto3 signs for from now on."""
        urls: list[str] = []
        monkeypatch.setattr(
            signing, "sign", lambda key, etag: urls.append(key.url) or sign(key, etag)
        )
        return urls

    def test_boto3_signs_once_for_many_objects(
        self, faults, prefix, tmp_path: Path, monkeypatch, small_images
    ):
        monkeypatch.setattr("blobpack.packing.objects.OBJECTS_AT_ONCE", 1)
        signed = self.signed(monkeypatch)
        report = blobpack.pack(prefix, tmp_path / "out.tar")
        assert report.members == 120
        assert len(signed) == 1
        gets = [get for get in faults.requests if get.range]
        assert len({get.authorization for get in gets}) == len(gets) == 120
        assert {get.user_agent for get in gets} == {"blobpack"}
        with blobpack.open_blob(tmp_path / "out.tar") as blob:
            for i, name in enumerate(blob.index.names):
                assert blob.read(name) == list(small_images.values())[i % 6]

    def test_one_that_is_refused_is_signed_by_boto3(self, faults, prefix, monkeypatch):
        monkeypatch.setattr("blobpack.packing.objects.OBJECTS_AT_ONCE", 1)
        signed = self.signed(monkeypatch)
        objects = list_prefix(Location.parse(prefix, prefix=True), Skipped(), hidden=False)
        faults.requests.clear()
        faults.fail_next("403")
        assert len(list(objects)) == 120
        assert len(faults.requests) == 121
        assert {get.user_agent for get in faults.requests} == {"blobpack"}
        assert len(signed) == 2

    def test_old_ones_are_made_anew(self, prefix, tmp_path: Path, monkeypatch):
        monkeypatch.setattr("blobpack.stores.s3.signing.SIGNED_FOR_S", -1)
        signed = self.signed(monkeypatch)
        blobpack.pack(prefix, tmp_path / "out.tar")
        assert len(signed) == 120
