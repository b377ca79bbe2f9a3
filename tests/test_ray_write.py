"""The blobs of one write of `blobpack.integrations.ray`: those of attempts that succeeded stay, and nothing else.

tests/tools/ray/ has workers of Ray write them, and kills some.
"""

from __future__ import annotations

import json
import pickle
import random
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

import blobpack
from blobpack.errors import BlobpackError, DuplicateNameError, SourceError, StorageError
from blobpack.integrations.ray.blob_set import CLAIM_NAME, BlobSet
from blobpack.packing.shard_folder import ShardFolder, discarded_on_error, folder_at
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3server import S3Server

SHARD_BYTES = 40_000


@pytest.fixture(scope="module")
def payloads() -> dict[str, bytes]:
    """Name → payload."""
    made = random.Random(5)
    return {f"{i:04}.bin": made.randbytes(made.choice([0, 900, 5000])) for i in range(300)}


@pytest.fixture(params=["local", "s3"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Location, Callable[[], list[str]]]:
    """A folder or prefix, and a function that lists what is there, unfinished uploads included."""
    if request.param == "local":
        folder = tmp_path / "out"
        return Location.parse(
            str(folder)
        ), lambda: sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    s3: S3Server = request.getfixturevalue("s3_env")
    bucket = s3.new_bucket()
    return Location.parse(f"s3://{bucket}/out"), lambda: sorted(
        key.removeprefix("out/") for key in s3.keys(bucket) + s3.uploads(bucket)
    )


def part(payloads: dict[str, bytes], number: int) -> list[tuple[str, bytes]]:
    return list(payloads.items())[number * 100 : number * 100 + 100]


def test_blobs_of_successful_attempts_alone_stay(target: Any, payloads: dict[str, bytes]) -> None:
    folder, listed = target
    blobs: BlobSet = pickle.loads(pickle.dumps(BlobSet.begin(folder, SHARD_BYTES)))
    assert listed() == [CLAIM_NAME]
    # an attempt that was killed before Ray got its names
    blobs.write_blobs(1, part(payloads, 1))
    names = [blobs.write_blobs(task, part(payloads, task)) for task in (2, 0, 1)]
    assert all(len(each) > 1 for each in names)
    assert blobs.write_blobs(3, []) == []
    report = blobs.commit([name for each in names for name in each])
    assert report.members == 300
    assert listed() == sorted([*sum(names, []), "collection.idx"])  # noqa: RUF017 (three lists)
    with blobpack.open(report.url) as found:
        # in the order of the tasks
        assert list(found.items()) == list(payloads.items())


def test_unfinished_files_and_uploads_go(
    target: Any, payloads: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    folder, listed = target
    blobs = BlobSet.begin(folder, SHARD_BYTES)
    name = f"000000-00000-{blobs.write}abcd.tar"
    if folder.is_local:
        (Path(folder.path) / f".{name}.0123456789ab.tmp").write_bytes(b"half a blob")
    else:
        client = request.getfixturevalue("s3_env").client
        client.create_multipart_upload(Bucket=folder.bucket, Key=f"out/{name}")
        # of somebody else
        client.create_multipart_upload(Bucket=folder.bucket, Key="other/a.tar")
    assert len(listed()) == 2 + folder.is_s3
    report = blobs.commit(blobs.write_blobs(0, part(payloads, 0)))
    assert report.members == 100
    assert len(listed()) == 1 + report.blobs + folder.is_s3


def test_uploads_that_cant_be_listed_hinder_no_write(
    s3_env: S3Server, payloads: dict[str, bytes]
) -> None:
    bucket = s3_env.new_bucket()
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:ListBucketMultipartUploads",
        "Resource": f"arn:aws:s3:::{bucket}",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3_env.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    with pytest.raises(ClientError, match="AccessDenied"):
        s3_env.uploads(bucket)
    blobs = BlobSet.begin(Location.parse(f"s3://{bucket}/out"), SHARD_BYTES)
    names = blobs.write_blobs(0, part(payloads, 0))
    blobs.write_blobs(0, part(payloads, 0))
    assert blobs.commit(names).members == 100
    assert len(s3_env.keys(bucket)) == len(names) + 1


def test_an_attempt_that_outlives_the_write_removes_its_blobs(
    target: Any, payloads: dict[str, bytes]
) -> None:
    folder, listed = target
    blobs = BlobSet.begin(folder, SHARD_BYTES)
    names = blobs.write_blobs(0, part(payloads, 0))

    def late() -> Any:
        yield from part(payloads, 1)
        # the first blobs are there, and the last one is not
        blobs.commit(names)

    # a local file that is not whole yet has gone, too, so its rename fails
    with pytest.raises(StorageError, match=r"the write has ended|can.t be written"):
        blobs.write_blobs(1, late())
    assert listed() == sorted([*names, "collection.idx"])


def test_after_an_error_nothing_is_left(target: Any, payloads: dict[str, bytes]) -> None:
    folder, listed = target
    blobs = BlobSet.begin(folder, SHARD_BYTES)

    def failing() -> Any:
        yield from part(payloads, 0)
        raise BlobpackError("the task fails")

    with pytest.raises(BlobpackError, match="the task fails"):
        blobs.write_blobs(0, failing())
    assert listed() == [CLAIM_NAME]
    twice = [*blobs.write_blobs(0, part(payloads, 0)), *blobs.write_blobs(1, part(payloads, 0))]
    with pytest.raises(DuplicateNameError, match="two blobs"), discarded_on_error(blobs):
        blobs.commit(twice)
    assert listed() == []
    assert not (folder.is_local and Path(folder.path).exists())
    with pytest.raises(SourceError, match="no rows"), discarded_on_error(blobs):
        blobs.commit([])
    # Ctrl-C when the collection was just written
    blobs = BlobSet.begin(folder, SHARD_BYTES)
    with pytest.raises(KeyboardInterrupt), discarded_on_error(blobs):
        blobs.commit(blobs.write_blobs(0, part(payloads, 0)))
        raise KeyboardInterrupt
    assert listed() == []


def test_a_folder_is_claimed_by_one_write(target: Any, payloads: dict[str, bytes]) -> None:
    folder, listed = target
    blobs = BlobSet.begin(folder, SHARD_BYTES)
    with pytest.raises(StorageError, match="not empty"):
        BlobSet.begin(folder, SHARD_BYTES)
    blobs.commit(blobs.write_blobs(0, part(payloads, 0)))
    before = listed()
    with pytest.raises(StorageError, match="not empty"):
        BlobSet.begin(folder, SHARD_BYTES)
    assert listed() == before


def test_a_write_that_ends_before_another_one_claims_the_folder_stays(
    target: Any, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the folder empty. The later one must neither write there nor remove the collection of the first one."""
    folder, listed = target
    kind = type(folder_at(folder))
    plain_open = kind.open

    def open_late(place: ShardFolder) -> None:
        plain_open(place)
        monkeypatch.undo()
        blobs = BlobSet.begin(folder, SHARD_BYTES)
        blobs.commit(blobs.write_blobs(0, part(payloads, 0)))

    monkeypatch.setattr(kind, "open", open_late)
    with pytest.raises(StorageError, match="not empty"):
        BlobSet.begin(folder, SHARD_BYTES)
    assert "collection.idx" in listed()
    assert CLAIM_NAME not in listed()
    with blobpack.open_collection(folder.as_folder.below("collection.idx")) as collection:
        assert dict(
            zip(collection.index.names, collection.read_many(collection.index.names), strict=True)
        ) == dict(part(payloads, 0))


def test_names_ascend_with_the_tasks(payloads: dict[str, bytes], tmp_path: Path) -> None:
    blobs = BlobSet.begin(Location.parse(str(tmp_path / "out")), SHARD_BYTES)
    names = [
        name
        for task in (0, 1, 9, 10, 100_000)
        for name in blobs.write_blobs(task, [(str(task), b"")])
    ]
    assert all(one < other for one, other in pairwise(names))
