"""write_blobs in Ray: to disk and to S3, from any dataset; after an error nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import ray
from ray.exceptions import RayTaskError

import blobpack
from blobpack.errors import DuplicateNameError, FormatError, SourceError, StorageError
from blobpack.integrations.ray import read_blobs, write_blobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3server import S3Server

SHARD_BYTES = 200_000


@pytest.fixture(params=["local", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[], list[str]]]:
    """A folder or prefix, and a function that lists what is there, unfinished uploads included."""
    if request.param == "local":
        folder = tmp_path / "out"
        return str(folder), lambda: sorted(
            path.name for path in (folder.iterdir() if folder.exists() else ())
        )
    s3: S3Server = request.getfixturevalue("s3_env")
    bucket = s3.new_bucket()
    return f"s3://{bucket}/out", lambda: sorted(
        key.removeprefix("out/") for key in s3.keys(bucket) + s3.uploads(bucket)
    )


def test_a_copy_of_a_collection(target: Any, shards: Path, payloads: dict[str, bytes]) -> None:
    url, listed = target
    report = write_blobs(read_blobs(shards, override_num_blocks=12), url, shard_bytes=SHARD_BYTES)
    assert report.members == len(payloads)
    assert report.payload_bytes == sum(map(len, payloads.values()))
    with blobpack.open(report.url) as collection:
        assert dict(collection.items()) == payloads
        blobs = [blob.url.rpartition("/")[2] for blob in collection.blobs]
        assert len(blobs) == report.blobs > 5
        assert listed() == sorted([*blobs, "collection.idx"])
        assert collection.index.facts >= {"crc32c"}
        for blob in collection.blobs:
            with blobpack.open(blob.url) as one:
                # the archive alone: its index comes behind it
                assert one.index.offset_end[-1] < SHARD_BYTES
                assert blobpack.verify(one).ok
    # what was written can be read, and nothing is written over it
    assert read_blobs(report.url).count() == len(payloads)
    with pytest.raises(StorageError, match="not empty"):
        write_blobs(read_blobs(shards), url)
    assert listed() == sorted([*blobs, "collection.idx"])


def test_other_columns_and_kinds_of_blocks(target: Any) -> None:
    url, _ = target
    items = [{"key": f"{i}.bin", "data": b"%d" % i, "more": i} for i in range(30)]
    write_blobs(ray.data.from_items(items), url, name="key", payload="data")
    with blobpack.open(url + "/") as collection:
        assert dict(collection.items()) == {each["key"]: each["data"] for each in items}


def test_columns_of_other_arrow_types(tmp_path: Path) -> None:
    payloads = {"a": b"11", "b": b"22", "c": b"11"}
    names, values = pa.array(payloads), pa.array(payloads.values())
    for number, (name, value) in enumerate(
        [
            (names.dictionary_encode(), values.dictionary_encode()),
            (names.cast(pa.large_string()), values.cast(pa.binary(2))),
        ]
    ):
        rows = pa.table({"name": name, "bytes": value})
        write_blobs(ray.data.from_arrow(rows), tmp_path / f"{number}")
        with blobpack.open(tmp_path / f"{number}") as collection:
            assert dict(collection.items()) == payloads


def test_blocks_of_pandas(tmp_path: Path) -> None:
    frames = read_blobs_of({"a": b"1", "b": b"", "c": b"333"}, tmp_path).map_batches(
        lambda frame: frame, batch_format="pandas"
    )
    write_blobs(frames, tmp_path / "out")
    with blobpack.open(tmp_path / "out") as collection:
        assert dict(collection.items()) == {"a": b"1", "b": b"", "c": b"333"}


def read_blobs_of(payloads: dict[str, bytes], folder: Path) -> ray.data.Dataset:
    blobpack.pack(payloads, folder / "in.tar", all_files=True)
    return read_blobs(folder / "in.tar")


def test_after_an_error_in_a_task_nothing_is_left(target: Any, shards: Path) -> None:
    url, listed = target

    # nested, so that it is pickled by value: workers can't import this module
    def failing(batch: Any) -> Any:
        if "dogs/0301.bin" in batch["name"]:
            raise RuntimeError("this task fails")
        return batch

    dataset = read_blobs(shards, override_num_blocks=12).map_batches(failing)
    with pytest.raises(RayTaskError, match="this task fails"):
        write_blobs(dataset, url, shard_bytes=SHARD_BYTES)
    assert listed() == []


def test_names_that_repeat(target: Any, shards: Path) -> None:
    url, listed = target
    one = read_blobs(shards, where="cats/*")
    with pytest.raises((DuplicateNameError, RayTaskError)) as failed:
        write_blobs(one.union(one), url, shard_bytes=SHARD_BYTES)
    assert isinstance(failed.value, DuplicateNameError)
    assert listed() == []


def test_wrong_rows(target: Any) -> None:
    url, listed = target
    for rows, says in [
        ([{"name": "a"}], "no column 'bytes', only name"),
        ([{"name": 5, "bytes": b"1"}], "name in the dataset must be text, not 5"),
        (
            [{"name": "a", "bytes": "text"}, {"name": "b", "bytes": None}],
            "b: a payload must be bytes, not None",
        ),
        ([{"name": "a", "bytes": 5}], "a: a payload must be bytes, not 5"),
    ]:
        with pytest.raises(RayTaskError, match=says) as failed:
            write_blobs(ray.data.from_items(rows), url)
        assert isinstance(failed.value, FormatError)
        assert listed() == []
    with pytest.raises(SourceError, match="no rows"):
        write_blobs(ray.data.from_items([{"name": "a", "bytes": b""}]).limit(0), url)
    assert listed() == []


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"shard_bytes": 5}, ValueError, "shard_bytes"),
        ({"name": 5}, TypeError, "name"),
        ({"payload": 5}, TypeError, "payload"),
        ({"nothing": 5}, TypeError, "nothing"),
        ({"prefix": "http://127.0.0.1/out"}, ValueError, "folder"),
        ({"prefix": 5}, TypeError, "folder"),
        ({"dataset": 5}, TypeError, "dataset must be a ray.data.Dataset"),
    ],
)
def test_misuse(tmp_path: Path, options: Any, error: type[Exception], says: str) -> None:
    arguments = {"dataset": ray.data.range(3), "prefix": tmp_path / "out", **options}
    with pytest.raises(error, match=says):
        write_blobs(**arguments)
    assert not (tmp_path / "out").exists()
