"""read_blobs in Ray: every column, condition and order; blobs and collections on disk, in S3 and behind HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import ray
from ray.data.expressions import col
from ray.exceptions import RayTaskError

import blobpack
from blobpack.errors import ChecksumError, FactsMissingError, ImageError
from blobpack.integrations.ray import read_blobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

COUNT = 600


def found(dataset: ray.data.Dataset) -> dict[str, bytes]:
    """Return the payloads by their names, each of which must be there once."""
    rows = dataset.take_all()
    made = {row["name"]: row["bytes"] for row in rows}
    assert len(made) == len(rows)
    return made


@pytest.fixture
def ordered() -> Iterator[None]:
    """Let Ray keep the order of blocks."""
    options = ray.data.DataContext.get_current().execution_options
    options.preserve_order = True
    yield
    options.preserve_order = False


def test_a_collection(shards: Path, payloads: dict[str, bytes]) -> None:
    dataset = read_blobs(shards)
    assert dataset.count() == COUNT
    assert found(dataset) == payloads
    with blobpack.open(shards) as collection:
        assert sorted(dataset.input_files()) == [blob.url for blob in collection.blobs]


def test_a_blob(shards: Path, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    # the current folder of workers is another one
    monkeypatch.chdir(shards)
    dataset = read_blobs("00001.tar", override_num_blocks=3)
    with blobpack.open("00001.tar") as blob:
        assert found(dataset) == dict(blob.items())
        assert found(read_blobs(blob)) == dict(blob.items())


def test_a_collection_in_s3(s3_shards: str, payloads: dict[str, bytes]) -> None:
    assert found(read_blobs(s3_shards)) == payloads
    dogs = read_blobs(s3_shards, where="dogs/*", override_num_blocks=7)
    assert dogs.count() == COUNT // 2
    assert found(dogs) == {name: payloads[name] for name in payloads if name.startswith("dogs/")}


def test_a_blob_behind_http(shards: Path, s3_shards: str, s3_env: S3Server) -> None:
    bucket = s3_shards.split("/")[2]
    url = s3_env.client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "in/00001.tar"}
    )
    dataset = read_blobs(url, override_num_blocks=2)
    with blobpack.open(shards / "00001.tar") as blob:
        assert found(dataset) == dict(blob.items())
    # the signature of the URL is a secret
    assert all("X-Amz" not in file for file in dataset.input_files())


def test_blobs_without_a_collection_or_an_index(
    shards: Path, tmp_path: Path, payloads: dict[str, bytes]
) -> None:
    blobpack.pack(payloads, tmp_path / "a.tar", all_files=True, index="none")
    with pytest.warns(blobpack.MissingIndexWarning):
        assert found(read_blobs(tmp_path / "a.tar")) == payloads
    assert found(read_blobs(f"{shards}/*.tar")) == payloads


@pytest.mark.parametrize("blocks", [1, 5, 40])
def test_override_num_blocks(shards: Path, blocks: int) -> None:
    assert read_blobs(shards, override_num_blocks=blocks).materialize().num_blocks() == blocks


def test_by_default_a_task_reads_several_megabytes(tmp_path: Path) -> None:
    blobpack.pack({str(i): bytes(1 << 20) for i in range(40)}, tmp_path / "a.tar", all_files=True)
    # 40 MB, of which Ray itself would make 40 tasks or more
    assert read_blobs(tmp_path / "a.tar").materialize().num_blocks() == 5
    assert read_blobs(tmp_path / "a.tar", columns=["name"]).materialize().num_blocks() == 1


@pytest.mark.usefixtures("ordered")
def test_orders(shards: Path, payloads: dict[str, bytes]) -> None:
    def names(order: Any, seed: int = 0) -> list[str]:
        dataset = read_blobs(
            shards, columns=["name"], order=order, seed=seed, override_num_blocks=9
        )
        return [row["name"] for row in dataset.take_all()]

    assert names("archive") == list(payloads)
    assert names("name") == sorted(payloads)
    assert names("random") != names("random", 1)
    assert names("random") == names("random")
    assert sorted(names("random")) == sorted(payloads)


def test_counts_are_exact(shards: Path, payloads: dict[str, bytes]) -> None:
    large = sum(len(payload) >= 5000 for payload in payloads.values())
    assert read_blobs(shards, where={"min_size": 5000}).count() == large
    nothing = read_blobs(shards, where="nothing/*")
    assert nothing.count() == 0
    assert nothing.take_all() == []
    assert nothing.schema().names == ["name", "bytes"]
    assert read_blobs(shards).limit(7).count() == 7


def test_a_filter_of_ray_is_evaluated_in_the_index(
    shards: Path, payloads: dict[str, bytes]
) -> None:
    dataset = read_blobs(shards, columns=["name", "bytes", "size"]).filter(expr=col("size") > 5000)
    expected = {name for name, payload in payloads.items() if len(payload) > 5000}
    assert found(dataset).keys() == expected
    plan = dataset.materialize().stats()
    assert "Filter" not in plan
    # an expression on payloads is evaluated by Ray, behind the read
    empty = read_blobs(shards).filter(expr=col("bytes") == b"")
    assert found(empty).keys() == {name for name, payload in payloads.items() if not payload}
    # both together
    both = dataset.filter(expr=(col("bytes") != b"") & (col("size") < 5500))
    assert both.count() == sum(5000 < len(payload) < 5500 for payload in payloads.values())


def test_columns_that_are_not_selected_are_not_read(tmp_path: Path, s3_env: S3Server) -> None:
    # the first and last bytes of an archive are compared when it is opened, so the damage lies between
    stored = {"a": bytes(100_000), "b": b"second", "c": bytes(100_000)}
    blobpack.pack(stored, tmp_path / "a.tar", all_files=True)
    damaged = (tmp_path / "a.tar").read_bytes().replace(b"second", b"sEcond")
    url = s3_env.put(s3_env.new_bucket(), "a.tar", damaged)
    dataset = read_blobs(url, columns=["name", "bytes", "size"])
    narrow = dataset.select_columns(["size", "name"])
    assert sorted(row["size"] for row in narrow.take_all()) == [6, 100_000, 100_000]
    assert dataset.select_columns([]).count() == 3
    with pytest.raises(RayTaskError) as failed:
        dataset.take_all()
    assert isinstance(failed.value, ChecksumError)


def test_the_first_rows_are_read_alone(s3_shards: str) -> None:
    """Of a task whose rows are limited, no other payload is read."""
    dataset = read_blobs(s3_shards, columns=["name", "bytes"], override_num_blocks=1)
    assert len(dataset.limit(3).take_all()) == 3
    [task] = dataset._logical_plan.dag.datasource.get_read_tasks(1, per_task_row_limit=3)
    assert task.metadata.num_rows == 3
    assert [len(table) for table in task()] == [3]


@pytest.mark.parametrize("size", [None, (8, 12)])
def test_images(small_images: dict[str, bytes], tmp_path: Path, size: Any) -> None:
    blobpack.pack(small_images, tmp_path / "out.tar")
    dataset = read_blobs(
        tmp_path / "out.tar", columns=["name", "image", "width"], size=size, override_num_blocks=2
    )
    with blobpack.open(tmp_path / "out.tar") as blob:
        rows = dataset.take_all()
        assert {row["name"] for row in rows} == set(small_images)
        for row in rows:
            expected = blobpack.read_image(blob, row["name"], size=size)
            assert np.array_equal(row["image"], expected)
            assert row["width"] == blob.index[row["name"]].width


def test_an_image_that_cant_be_decoded_is_named(tmp_path: Path) -> None:
    blobpack.pack({"a.jpg": b"no image"}, tmp_path / "out.tar", all_files=True)
    with pytest.raises(RayTaskError, match=r"out\.tar: a\.jpg") as failed:
        read_blobs(tmp_path / "out.tar", columns=["image"]).take_all()
    assert isinstance(failed.value, ImageError)


def test_a_dataset_goes_to_another_process(shards: Path, payloads: dict[str, bytes]) -> None:
    dataset = read_blobs(shards, override_num_blocks=4)
    assert dataset.count() == COUNT
    again = ray.data.Dataset.deserialize_lineage(dataset.serialize_lineage())
    assert found(again) == payloads
    halves = [
        [name for batch in half.iter_batches() for name in batch["name"]]
        for half in dataset.materialize().split(2)
    ]
    assert sorted(sum(halves, [])) == sorted(payloads)  # noqa: RUF017 (two lists)


def test_functions_that_use_blobpack_run_on_workers(shards: Path) -> None:
    """Ray pickles them by value, with the module."""

    @ray.remote
    def names(path: str) -> list[str]:
        with blobpack.open(path) as blob:
            return list(blob)

    with blobpack.open(shards) as collection:
        assert sum(ray.get([names.remote(blob.url) for blob in collection.blobs]), []) == list(  # noqa: RUF017
            collection
        )


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"columns": ["nothing"]}, ValueError, "columns"),
        ({"columns": "name"}, TypeError, "columns"),
        ({"columns": ["width"]}, FactsMissingError, "width"),
        ({"where": 5}, TypeError, "where"),
        ({"where": []}, ValueError, "where must have at least one glob"),
        ({"order": "nothing"}, ValueError, "order"),
        ({"seed": -1}, ValueError, "seed"),
        ({"mode": "nothing"}, ValueError, "mode"),
        ({"size": 5}, TypeError, "size"),
        ({"override_num_blocks": 0}, ValueError, "override_num_blocks"),
        ({"nothing": 5}, TypeError, "nothing"),
    ],
)
def test_misuse(shards: Path, options: Any, error: type[Exception], says: str) -> None:
    with blobpack.open(shards) as collection:
        facts = collection.index.facts
    if options == {"columns": ["width"]} and "width" in facts:
        pytest.skip("the index has widths")
    with pytest.raises(error, match=says):
        read_blobs(shards, **options)
    with pytest.raises(TypeError, match="source"):
        read_blobs(5)  # type: ignore[arg-type]
