"""Pixano 0.7: datasets built from a blob, compared with those of the unpacked folder, and its interfaces.

A build from a blob stores images or their URLs.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pixano_library as library
import pytest
from gatewayserver import serving as serving_blob
from PIL import Image as PillowImage
from pixano.datasets import Dataset, DatasetInfo
from pixano.datasets.builders.folders.image import ImageFolderBuilder
from pixano.datasets.workspaces import WorkspaceType
from pixano.schemas import Entity, Record
from pixano_server import serving

import blobpack
from blobpack.errors import FormatError
from blobpack.gateway.app import gateway_app
from blobpack.integrations.pixano import BlobFolderBuilder

if TYPE_CHECKING:
    from pathlib import Path

IDS = ("id", "created_at", "updated_at")
# Pixano's previews are PNGs of 64 pixels, and ours JPEGs of 128
PREVIEWS = ("preview", "preview_format")


class HealthRecord(Record):
    image_type: str = ""


class EntityWithCategory(Entity):
    category: str = ""


def info() -> DatasetInfo:
    return DatasetInfo(
        name="Health Images",
        workspace=WorkspaceType.IMAGE,
        record=HealthRecord,
        entity=EntityWithCategory,
    )


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "health.tar"
    blobpack.pack(library.members("0.7"), path, all_files=True)
    return path


def build(source: Any, target: Path, **options: Any) -> Dataset:
    return BlobFolderBuilder(source, target, info(), **options).build()


def columns(row: Any) -> dict[str, Any]:
    """The columns of a row that do not depend on random ids and the time."""
    found = row.model_dump()
    return {
        name: value
        for name, value in found.items()
        if name not in (*IDS, *PREVIEWS) and not name.endswith("_id")
    }


def contents(dataset: Dataset) -> list[Any]:
    """All rows of a dataset, as a tree that is ordered by images."""
    rows = {table: dataset.get_data(table, limit=1000) for table in dataset.info.tables}
    tree = []
    for image in rows["images"]:
        payload, kind = dataset.get_view_binary("images", image.id) or (b"", "")
        assert PillowImage.open(io.BytesIO(image.preview)).size
        objects = [each for each in rows["entities"] if each.record_id == image.record_id]
        tree.append(
            (
                payload,
                kind,
                columns(image),
                [columns(each) for each in rows["records"] if each.id == image.record_id],
                [
                    (columns(each), table, columns(row), row.frame_id == row.view_id == image.id)
                    for each in objects
                    for table in ("bboxes", "keypoints")
                    for row in rows[table]
                    if row.entity_id == each.id
                ],
            )
        )
    return sorted(tree, key=lambda branch: branch[0])


def test_a_dataset_equals_that_of_the_unpacked_folder(blob, tmp_path):
    library.write_folder(tmp_path / "health", "0.7")
    own = contents(
        ImageFolderBuilder(tmp_path / "health", tmp_path / "own", info()).build(mode="create")
    )
    assert len(own) == library.COUNTS["images"]
    assert sum(len(branch[-1]) for branch in own) == 2 * library.COUNTS["objects"]
    assert contents(build(blob, tmp_path / "library" / "health")) == own


@pytest.mark.parametrize("form", ["0.6", "0.8"])
def test_metadata_of_other_versions_makes_the_same_dataset(form, blob, tmp_path):
    own = contents(build(blob, tmp_path / "library" / "health"))
    blobpack.pack(library.members(form), blob, all_files=True)
    assert contents(build(blob, tmp_path / "library" / form)) == own


def test_metadata_beside_the_blob_makes_the_same_dataset(blob, tmp_path):
    own = contents(build(blob, tmp_path / "library" / "health"))
    blobpack.pack(library.members(None), blob)
    library.write_folder(tmp_path / "beside", "0.7")
    beside = build(blob, tmp_path / "library" / "beside", metadata=tmp_path / "beside")
    assert contents(beside) == own


def test_modes_and_flush_every_n_samples(blob, tmp_path, monkeypatch):
    writes = []
    add_records = Dataset.add_records

    def noted(self, batch, *arguments, **options):
        writes.append(len(batch.get("records", [])))
        return add_records(self, batch, *arguments, **options)

    monkeypatch.setattr(Dataset, "add_records", noted)
    builder = BlobFolderBuilder(blob, tmp_path / "library" / "health", info())
    builder.build(mode="create", flush_every_n_samples=4)
    # all tables are flushed when any has four rows; the first record has two objects
    assert writes == [3, 4, 3]
    with pytest.raises((OSError, ValueError)):
        builder.build(mode="create")
    assert builder.build(mode="overwrite").num_rows == 10
    assert builder.build(mode="add").num_rows == 20


def test_a_wrong_line_names_blob_file_and_line(blob, tmp_path):
    lines = library.metadata("0.7").replace(b'"bbox"', b'"circle"')
    blobpack.pack(library.members("0.7") | {"all/metadata.jsonl": lines}, blob, all_files=True)
    with pytest.raises(FormatError, match=r"health\.tar: all/metadata\.jsonl, line 1: .*'circle'"):
        build(blob, tmp_path / "library" / "health")


def test_images_by_url_stay_in_the_blob(blob, tmp_path):
    with blobpack.open(blob) as reader, serving_blob(gateway_app({"health": reader})) as gateway:
        url = f"{gateway.url}/b/health"
        dataset = build(blob, tmp_path / "library" / "health", url_prefix=url)
        images = dataset.get_data("images", limit=100)
        assert {image.uri for image in images} == {f"{url}/all/{name}" for name in library.NAMES}
        assert not any(image.raw_bytes for image in images)
        for image in images:
            at = library.NAMES.index(image.uri.rpartition("/")[2])
            assert (image.width, image.height) == image.open().size == library.size_of(at)


def test_create_read_update_and_delete(blob, tmp_path):
    dataset = build(blob, tmp_path / "library" / "health")
    box = dataset.get_data("bboxes", limit=1)[0]
    new = box.model_copy(update={"id": "new", "coords": [0.0, 0.0, 0.5, 0.5]})
    dataset.add_data("bboxes", [new])
    assert dataset.get_data("bboxes", ids=["new"])[0].coords == [0.0, 0.0, 0.5, 0.5]
    dataset.update_data("bboxes", [new.model_copy(update={"confidence": 0.5})])
    assert dataset.get_data("bboxes", ids=["new"])[0].confidence == 0.5
    dataset.delete_data("bboxes", ["new"])
    assert not dataset.get_data("bboxes", ids=["new"])

    record = dataset.get_data("records", limit=1)[0]
    dataset.update_data("records", [record.model_copy(update={"image_type": "scan"})])
    assert dataset.get_data("records", ids=[record.id])[0].image_type == "scan"
    dataset.delete_records([record.id])
    assert dataset.num_rows == 9


def test_rest(blob, tmp_path):
    dataset = build(blob, tmp_path / "data" / "library" / "health")
    with serving("pixano", "server", "run", tmp_path / "data", "--port", "0") as server:
        place = f"/datasets/{dataset.info.id}"
        status, listed = server.ask(f"{place}/images?limit=100")
        assert (status, listed["total"]) == (200, 10)
        for image in listed["items"]:
            at = [library.size_of(at) for at in range(10)].index((image["width"], image["height"]))
            assert server.ask(image["src"]) == (200, library.image_of(at))
            status, preview = server.ask(f"{place}/images/{image['id']}/preview")
            assert max(PillowImage.open(io.BytesIO(preview)).size) == 128
        status, boxes = server.ask(f"{place}/bboxes?limit=100")
        assert (status, boxes["total"]) == (200, library.COUNTS["objects"])
