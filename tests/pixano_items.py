"""Tests with a real Pixano 0.6, for tests/tools/pixano-06 and tests/tools/pixano-06-first.

Each dataset that is built from a blob is compared with the one that Pixano's own builder makes of the unpacked folder.
"""

from __future__ import annotations

import inspect
import io
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lancedb.table
import pixano_library as library
import pytest
from js_reader import chromium
from PIL import Image as PillowImage
from pixano.datasets import Dataset, DatasetInfo, DatasetItem
from pixano.datasets.builders import ImageFolderBuilder
from pixano.features import BBox, Entity, Image, KeyPoints
from pixano_server import PixanoServer, serving, shots, shown_images, wait_until_drawn

import blobpack
from blobpack.errors import FormatError
from blobpack.integrations.pixano import BlobFolderBuilder
from blobpack.opening.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

__all__ = ["chromium", "shots"]  # fixtures, which a test's module must hold

# in 0.6.0, Pixano itself fails to make small images, of files, too: "unknown file extension"
HAS_THUMBNAILS = version("pixano") != "0.6.0"
TABLES = ("item", "image", "objects", "bbox", "keypoints")
IDS = ("id", "created_at", "updated_at")


class EntityWithCategory(Entity):
    category: str


class HealthDatasetItem(DatasetItem):
    image: Image
    objects: list[EntityWithCategory]
    bbox: list[BBox]
    keypoints: list[KeyPoints]
    image_type: str


def info() -> DatasetInfo:
    return DatasetInfo(id="health_images", name="Health Images", description="Ten images")


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "health_images.tar"
    blobpack.pack(library.members(), path, all_files=True)
    return path


def build(source: Any, target: Path, **options: Any) -> Dataset:
    builder = BlobFolderBuilder(source, target, info(), HealthDatasetItem, **options)
    return builder.build(mode="create", flush_every_n_samples=100)


def built_by_pixano(tmp_path: Path, **options: Any) -> Dataset:
    """The dataset that Pixano's own builder makes of the unpacked folder; its arguments changed with 0.6.7."""
    library.write_folder(tmp_path / "media" / "health_images")
    arguments: dict[str, Any] = {"dataset_item": HealthDatasetItem, "info": info(), **options}
    if "source_dir" in inspect.signature(ImageFolderBuilder).parameters:
        arguments |= {
            "source_dir": tmp_path / "media" / "health_images",
            "target_dir": tmp_path / "own" / "health_images",
            "url_prefix": "health_images",
        }
    else:
        arguments |= {
            "media_dir": tmp_path / "media",
            "library_dir": tmp_path / "own",
            "dataset_path": "health_images",
        }
    return ImageFolderBuilder(**arguments).build(mode="create", flush_every_n_samples=100)


def columns(row: Any) -> dict[str, Any]:
    """The columns of a row that do not depend on random ids and the time."""
    found = row.model_dump()
    return {
        name: value
        for name, value in found.items()
        if name not in IDS and not name.endswith("_ref")
    }


def contents(dataset: Dataset) -> list[Any]:
    """All rows of a dataset, as a tree that is ordered by images."""
    rows = {table: dataset.get_data(table, limit=1000) for table in TABLES}
    assert all(row.source_ref.id for row in [*rows["bbox"], *rows["keypoints"]])
    tree = []
    for image in rows["image"]:
        objects = [
            (
                columns(each),
                each.view_ref.name,
                *[
                    (table, columns(row), row.view_ref == each.view_ref, row.entity_ref.name)
                    for table in ("bbox", "keypoints")
                    for row in rows[table]
                    if row.entity_ref.id == each.id
                ],
            )
            for each in rows["objects"]
            if each.item_ref.id == image.item_ref.id
        ]
        items = [columns(item) for item in rows["item"] if item.id == image.item_ref.id]
        tree.append((columns(image), items, objects))
    return sorted(tree, key=lambda branch: branch[0]["url"])


def test_a_dataset_equals_that_of_the_unpacked_folder(blob, tmp_path):
    own = contents(built_by_pixano(tmp_path))
    assert len(own) == library.COUNTS["images"]
    assert sum(len(objects) for _, _, objects in own) == library.COUNTS["objects"]
    assert contents(build(blob, tmp_path / "library" / "health")) == own


@pytest.mark.parametrize("form", ["0.7", "0.8"])
def test_metadata_of_later_versions_makes_the_same_dataset(form, blob, tmp_path):
    own = contents(build(blob, tmp_path / "library" / "health"))
    other = tmp_path / form / "health_images.tar"
    other.parent.mkdir()
    blobpack.pack(library.members(form), other, all_files=True)
    assert contents(build(other, tmp_path / "library" / form)) == own


@pytest.mark.parametrize("is_file", [False, True])
def test_metadata_beside_the_blob_makes_the_same_dataset(is_file, blob, tmp_path):
    own = contents(build(blob, tmp_path / "library" / "health"))
    blobpack.pack(library.members(None), blob)
    beside = tmp_path / "beside"
    library.write_folder(beside)
    metadata = beside / "all" / "metadata.jsonl" if is_file else beside
    assert contents(build(blob, tmp_path / "library" / "beside", metadata=metadata)) == own


def test_no_image_is_read_because_the_index_knows_sizes(blob, tmp_path, monkeypatch):
    def fail(*_):
        pytest.fail("an image was read")

    monkeypatch.setattr(Reader, "read_many", fail)
    assert build(blob, tmp_path / "library" / "health").num_rows == 10


def test_a_blob_without_facts_is_read_for_them(blob, tmp_path):
    own = contents(build(blob, tmp_path / "library" / "health"))
    blobpack.pack(library.members(), blob, all_files=True, index="none")
    assert contents(build(blob, tmp_path / "library" / "bare")) == own


def test_modes(blob, tmp_path):
    target = tmp_path / "library" / "health"
    builder = BlobFolderBuilder(blob, target, info(), HealthDatasetItem)
    builder.build(mode="create", flush_every_n_samples=100)
    with pytest.raises((OSError, ValueError)):
        builder.build(mode="create", flush_every_n_samples=100)
    assert builder.build(mode="overwrite", flush_every_n_samples=100).num_rows == 10
    assert builder.build(mode="add", flush_every_n_samples=100).num_rows == 20


@pytest.mark.parametrize(("flush", "writes"), [(None, 10), (5, 2), (100, 1)])
def test_flush_every_n_samples(flush, writes, blob, tmp_path, monkeypatch):
    written = []
    add = lancedb.table.LanceTable.add

    def noted_add(table, data, *arguments, **options):
        # a new table is written once without rows
        if isinstance(data, list):
            written.append(table.name)
        return add(table, data, *arguments, **options)

    monkeypatch.setattr(lancedb.table.LanceTable, "add", noted_add)
    builder = BlobFolderBuilder(blob, tmp_path / "library" / "health", info(), HealthDatasetItem)
    builder.build(mode="create", flush_every_n_samples=flush)
    assert written.count("image") == writes


def test_a_wrong_line_names_blob_file_and_line(blob, tmp_path):
    lines = library.metadata().replace(b"photo-eye.jpg", b"photo-ear.jpg")
    blobpack.pack(library.members() | {"all/metadata.jsonl": lines}, blob, all_files=True)
    with pytest.raises(
        FormatError, match=r"health_images\.tar: all/metadata\.jsonl, line 9: photo-ear"
    ):
        build(blob, tmp_path / "library" / "health")


def test_a_split_without_metadata(blob, tmp_path):
    blobpack.pack(library.members(None), blob)
    dataset = build(blob, tmp_path / "library" / "health")
    assert sorted(item.id for item in dataset.get_data("item", limit=100)) == sorted(
        Path(name).stem for name in library.NAMES
    )
    assert {item.image_type for item in dataset.get_data("item", limit=100)} == {""}


def test_create_read_update_and_delete(blob, tmp_path):
    dataset = build(blob, tmp_path / "library" / "health")
    images = dataset.get_data("image", limit=2, skip=0)
    assert [image.url for image in images] == [
        "health_images/all/mri-brain.png",
        "health_images/all/mri-knee.png",
    ]
    item = dataset.get_dataset_items(images[0].item_ref.id)
    assert (item.split, item.image_type, len(item.bbox), len(item.keypoints)) == (
        "all",
        "mri",
        2,
        2,
    )

    box = item.bbox[0].model_copy(update={"id": "new", "coords": [0.0, 0.0, 0.5, 0.5]})
    dataset.add_data("bbox", [box])
    assert dataset.get_data("bbox", ids=["new"])[0].coords == [0.0, 0.0, 0.5, 0.5]
    dataset.update_data("bbox", [box.model_copy(update={"confidence": 0.5})])
    assert dataset.get_data("bbox", ids=["new"])[0].confidence == 0.5
    dataset.delete_data("bbox", ["new"])
    assert not dataset.get_data("bbox", ids=["new"])

    item.image_type = "scan"
    dataset.update_dataset_items([item])
    assert dataset.get_dataset_items(item.id).image_type == "scan"
    dataset.delete_dataset_items([item.id])
    assert dataset.get_dataset_items(item.id) is None
    assert dataset.num_rows == 9
    dataset.add_dataset_items(item)
    assert len(dataset.get_dataset_items(item.id).bbox) == 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PixanoServer]:
    """Pixano's application, started by blobpack on a blob that was built."""
    folder = tmp_path_factory.mktemp("served")
    path = folder / "health_images.tar"
    blobpack.pack(library.members(), path, all_files=True)
    build(path, folder / "library" / "health")
    with serving("blobpack", "pixano", "serve", folder / "library", path, "--port", "0") as running:
        yield running


def listed(server: PixanoServer, path: str) -> list[Any]:
    """The rows that a route lists."""
    status, rows = server.ask(f"{path}?limit=100&skip=0")
    if status != 200:  # the first versions want a "/"
        status, rows = server.ask(f"{path}/?limit=100&skip=0")
    assert status == 200
    return rows


def test_rest(server):
    view = listed(server, "/views/health_images/image")[0]
    assert view["data"]["url"] == "health_images/all/mri-brain.png"
    assert (view["data"]["width"], view["data"]["height"]) == library.size_of(0)
    assert view["table_info"] == {"name": "image", "group": "views", "base_schema": "Image"}

    boxes = listed(server, "/annotations/health_images/bbox")
    assert len(boxes) == library.COUNTS["objects"]
    box = boxes[0]
    place = f"/annotations/health_images/bbox/{box['id']}"
    changed = box | {"data": box["data"] | {"confidence": 0.25}}
    assert server.ask(place, "PUT", changed)[0] == 200
    assert server.ask(place)[1]["data"]["confidence"] == 0.25
    assert server.ask(place, "DELETE")[0] == 200
    assert server.ask(place)[0] == 404
    assert server.ask(place, "POST", box)[0] == 200
    assert server.ask(place)[1]["data"]["coords"] == box["data"]["coords"]


def test_media(server):
    for at, name in enumerate(library.NAMES):
        assert server.ask(f"/media/health_images/all/{name}") == (200, library.image_of(at))
    # the tutorial's URLs begin with a "/"
    assert server.ask("/media//health_images/all/mri-brain.png", animations="disabled")[0] == 200
    assert server.ask("/media/health_images/all/none.png", animations="disabled")[0] == 404
    assert server.ask("/media/../../etc/passwd")[0] == 404
    part = server.ask("/media/health_images/all/mri-brain.png", Range="bytes=0-3")
    assert part == (206, b"\x89PNG")


@pytest.mark.skipif(not HAS_THUMBNAILS, reason="this version has none")
def test_the_explorer_and_its_thumbnails(server):
    status, browser = server.ask("/browser/health_images?limit=20")
    assert status == 200
    rows = browser["table_data"]["rows"]
    assert len(rows) == 10
    for row in rows:
        thumbnail = server.ask(f"/thumbnail/{row['image'].rpartition('/')[2]}")[1]
        assert max(PillowImage.open(io.BytesIO(thumbnail)).size) == 128
    assert server.ask("/thumbnail/%20no-base64")[0] == 404


def test_a_dataset_that_pixano_built_is_served_from_a_blob(tmp_path):
    built_by_pixano(tmp_path)
    path = tmp_path / "health_images.tar"
    blobpack.pack(tmp_path / "media" / "health_images", path)
    with serving("blobpack", "pixano", "serve", tmp_path / "own", path, "--port", "0") as running:
        for view in listed(running, "/views/health_images/image"):
            at = library.NAMES.index(view["data"]["url"].rpartition("/")[2])
            assert running.ask(f"/media/{view['data']['url']}") == (200, library.image_of(at))


def test_the_pages_in_chromium(server, chromium: Browser, shots: Path):
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    failed = []
    page.on("response", lambda answer: answer.status >= 400 and failed.append(answer.url))
    page.goto(f"{server.url}/health_images/dataset")
    page.get_by_text("1 - 10 of 10").wait_for()
    rows = page.locator("tbody tr")
    assert rows.count() == 10
    if HAS_THUMBNAILS:
        assert len(shown_images(page, "/thumbnail/")) == 10
    page.screenshot(path=shots / "pixano-06-explorer.png", animations="disabled")
    with page.expect_response(lambda answer: "/media/" in answer.url) as answer:
        rows.filter(has_text="mri").first.click()
    assert answer.value.status == 200
    assert "/media/health_images/all/mri-" in answer.value.url
    page.get_by_text("part 0").first.wait_for()
    wait_until_drawn(page)
    page.screenshot(path=shots / "pixano-06-item.png", animations="disabled")
    assert not failed
