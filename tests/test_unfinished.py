"""Unfinished uploads: found by key, prefix and age, and thrown away, those and no others."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from test_cli import COMMAND

from blobpack.errors import BlobNotFoundError
from blobpack.stores.s3.bucket import Bucket
from blobpack.stores.s3.unfinished import abort, find_unfinished

if TYPE_CHECKING:
    from s3server import S3Server

KEYS = ["data.tar", "data/a.tar", "data/a.tar.idx", "data/b \u00e4+%25.tar", "database.tar"]


@pytest.fixture
def begun(s3_env: S3Server, bucket: str) -> dict[str, str]:
    """Uploads that were begun: key → id."""
    return {
        key: s3_env.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        for key in KEYS
    }


def keys_of(url: str, **options: timedelta) -> list[str]:
    return [upload.key for upload in find_unfinished(url, **options)]


def test_a_key_and_what_is_below_a_prefix_but_not_what_only_begins_so(bucket, begun):
    assert keys_of(f"s3://{bucket}") == keys_of(f"s3://{bucket}/") == KEYS
    assert keys_of(f"s3://{bucket}/data") == keys_of(f"s3://{bucket}/data/") == KEYS[1:4]
    assert keys_of(f"s3://{bucket}/data/a.tar") == ["data/a.tar"]
    assert keys_of(f"s3://{bucket}/none") == []
    (found,) = find_unfinished(f"s3://{bucket}/data.tar")
    assert (found.id, found.url) == (begun["data.tar"], f"s3://{bucket}/data.tar")


def test_by_age(bucket, begun):
    assert keys_of(f"s3://{bucket}", older_than=timedelta(hours=1)) == []
    assert keys_of(f"s3://{bucket}", older_than=timedelta(hours=-1)) == KEYS


def test_more_than_a_page(s3_env, bucket, begun, monkeypatch):
    """The server's page has a thousand; one of two is asked for here."""
    ask = Bucket.ask
    monkeypatch.setattr(Bucket, "ask", lambda *a, **more: ask(*a, **more, MaxUploads=2))
    assert keys_of(f"s3://{bucket}") == KEYS


def test_an_upload_is_aborted_once(s3_env, bucket, begun):
    (found,) = find_unfinished(f"s3://{bucket}/data/a.tar")
    assert abort(found)
    assert not abort(found)
    assert s3_env.uploads(bucket) == [key for key in KEYS if key != "data/a.tar"]


def test_the_url_of_a_key_that_ends_like_a_version_means_that_key(s3_env, bucket):
    s3_env.client.create_multipart_upload(Bucket=bucket, Key="out.tar?versionId=1")
    (found,) = find_unfinished(f"s3://{bucket}")
    assert found.url == f"s3://{bucket}/out.tar?versionId=1?versionId="
    assert find_unfinished(found.url) == [found]


def test_no_such_bucket(s3_env):
    with pytest.raises(BlobNotFoundError):
        find_unfinished("s3://no-such-bucket-here")


class TestCommand:
    def run(self, s3: S3Server, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "uploads", *arguments],
            env=s3.env(),
            capture_output=True,
            text=True,
            check=False,
        )

    def test_it_lists_and_aborts(self, s3_env, bucket, begun):
        done = self.run(s3_env, f"s3://{bucket}/data/", "--json")
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["upload"] for line in told] == [begun[key] for key in KEYS[1:4]]
        assert not any(line["aborted"] for line in told)
        assert s3_env.uploads(bucket) == KEYS
        done = self.run(s3_env, f"s3://{bucket}/data", "--abort", "--older-than", "1h")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"no unfinished uploads to s3://{bucket}/data\n"
        done = self.run(s3_env, f"s3://{bucket}/data", "--abort", "--older-than", "0s")
        assert [line.split(" ")[0] for line in done.stdout.splitlines()] == ["aborted"] * 3
        assert s3_env.uploads(bucket) == ["data.tar", "database.tar"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["out.tar"], "is not in S3"),
            (["s3://bucket/x", "--older-than", "soon"], "90s, 30m, 1h or 7d"),
            (["s3://bucket/x", "--older-than", "9" * 30 + "d"], "is too long"),
        ],
    )
    def test_what_is_wrong_is_said(self, s3_env, arguments, said):
        done = self.run(s3_env, *arguments)
        assert done.returncode == 2
        assert said in done.stderr
