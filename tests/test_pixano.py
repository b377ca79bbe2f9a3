"""Pixano: lines of metadata, image folders in blobs, the builder, and images of the application.

Pixano is not installed where these tests run: `pixano_fake.py` stands for its DatasetBuilder. The tests with the real
versions are in tests/tools/pixano-06 to pixano-08.
"""

import asyncio
import base64
import importlib.util
import io
import json
import sys
import tomllib
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pixano_fake
import pixano_library as library
import pytest
from click.testing import CliRunner
from PIL import Image

import blobpack
from blobpack.cli.main import main
from blobpack.errors import BlobpackError, FormatError, PackageMissingError, SourceError
from blobpack.gateway.app import gateway_app
from blobpack.integrations.pixano import application
from blobpack.integrations.pixano.application import MediaHandler, target_of
from blobpack.integrations.pixano.blob_folder import BlobFolder
from blobpack.integrations.pixano.image_facts import (
    facts_in_index,
    facts_in_payload,
    format_of,
    preview_of,
)
from blobpack.integrations.pixano.inferred_schema import infer_schema
from blobpack.integrations.pixano.line_forms import LineError, parse_record
from blobpack.integrations.pixano.metadata import parse_lines
from blobpack.integrations.pixano.record_line import Tables

ROOT = Path(__file__).parents[1]
NAMES = {"bbox": "bbox", "keypoint": "keypoints", "keypoints": "keypoints", "mask": "mask"}
TABLES = Tables(
    frozenset({"image"}), {"objects": "objects", "entities": "objects"}, NAMES, frozenset({"bbox"})
)


@pytest.fixture
def installed(monkeypatch):
    """Puts the fake in the place of Pixano; the modules that were imported with it go with it."""
    names = ("builder", "item_rows", "new_ids", "record_rows")
    for name in names:
        sys.modules.pop(f"blobpack.integrations.pixano.{name}", None)
    yield lambda **which: pixano_fake.install(monkeypatch, **which)
    for name in names:
        sys.modules.pop(f"blobpack.integrations.pixano.{name}", None)


def put(tmp_path, members, name="health.tar"):
    blobpack.pack(members, tmp_path / name, all_files=True)
    return tmp_path / name


@pytest.fixture
def health(tmp_path):
    with blobpack.open(put(tmp_path, library.members())) as reader:
        yield reader


def described(text):
    """The records of a file, without the source that only the form of 0.8 names."""
    problems = []
    records = [
        record._replace(
            objects=[
                each._replace(
                    annotations=[
                        (one.table, {n: v for n, v in one.columns.items() if n[:7] != "source_"})
                        for one in each.annotations
                    ]
                )
                for each in record.objects
            ]
        )
        for _, record in parse_lines(text, TABLES, lambda *problem: problems.append(problem))
    ]
    assert not problems
    return records


def test_the_three_forms_of_metadata_mean_the_same():
    ours, *others = [described(library.metadata(form)) for form in ("0.6", "0.7", "0.8")]
    assert ours == others[0] == others[1]
    assert [record.images["image"] for record in ours] == list(library.NAMES)
    first = ours[0]
    assert first.attrs == {"image_type": "mri"}
    assert [each.attrs for each in first.objects] == [
        {"category": "part 0"},
        {"category": "part 1"},
    ]
    box = {"coords": library.box_of(0, 1), "format": "xywh", "is_normalized": True, "confidence": 1}
    assert first.objects[1].annotations == [
        ("bbox", box),
        ("keypoints", library.keypoints_of(0, 1)),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"image": ["a.jpg", "b.jpg"]}, "mosaic"),
        ({"image": 7}, "path of an image"),
        ({"views": {"depth": "a.jpg"}}, "no view 'depth'"),
        ({"image": "a.jpg", "objects": 7}, "objects must be"),
        ({"image": "a.jpg", "objects": {"a": [1, 2], "b": [1]}}, "different lengths"),
        ({"image": "a.jpg", "objects": {"bbox": [[1, 2, 3]]}}, "'bbox' must be"),
        ({"image": "a.jpg", "objects": {"keypoints": [[1, 2, 3, 4]]}}, "'keypoints' must be"),
        ({"image": "a.jpg", "entities": [{"annotations": {"depth": {}}}]}, "no view 'depth'"),
        ({"image": "a.jpg", "entities": [{"annotations": [{"kind": "circle"}]}]}, "'circle'"),
        ({"image": "a.jpg", "entities": [{"annotations": [{"kind": "bbox"}]}]}, "needs 'format'"),
        ({"image": "a.jpg", "attrs": []}, None),
        ({"image": "a.jpg", "attrs": [1]}, "attrs must be"),
        ({"image": "a.jpg", "annotation_files": [{}]}, "'annotation_files'"),
    ],
)
def test_a_line_of_another_form(line, said):
    if said is None:
        assert parse_record(line, TABLES).images == {"image": "a.jpg"}
        return
    with pytest.raises(LineError, match=said):
        parse_record(line, TABLES)


def test_views_and_boxes_are_read_as_pixano_reads_them():
    for line in (
        {"Image": "a.jpg"},
        {"image_image": ["a.jpg"]},
        {"views": {"IMAGE": {"path": "a.jpg"}}},
    ):
        assert parse_record(line, TABLES).images == {"image": "a.jpg"}
    assert parse_record({"image": []}, TABLES).images == {}
    line = {"image": "a.jpg", "objects": {"bbox": [[10, 20, 5, 5]]}, "colour": None}
    record = parse_record(line, TABLES)
    assert record.objects[0].annotations[0].columns["is_normalized"] is False
    assert record.attrs == {}
    mask = {
        "kind": "mask",
        "rle": {"size": [2, 2], "counts": "04"},
        "source": {"name": "me"},
        "id": 5,
    }
    record = parse_record(
        {"image": "a.jpg", "entities": [{"id": "e", "annotations": [mask]}]}, TABLES
    )
    assert record.objects[0].id == "e"
    assert record.objects[0].annotations == [
        ("mask", None, "5", {"size": [2, 2], "counts": "04", "source_name": "me"})
    ]


def test_records_of_a_folder(health):
    folder = BlobFolder(health)
    assert folder.splits == ["all"]
    records = list(folder.records(TABLES))
    assert [record.images["image"].name for record in records] == [
        f"all/{name}" for name in library.NAMES
    ]
    assert records[2].where == "all/metadata.jsonl, line 3"
    assert {(record.split, record.is_bare) for record in records} == {("all", False)}


def test_splits_without_metadata_and_what_is_no_split(tmp_path):
    payload = library.image_of(0)
    members = {
        **{"test/b.png": payload, "test/deep/a.png": payload, "test/notes.txt": b"text"},
        **{"root.png": payload, ".hidden/a.png": payload},
    }
    with blobpack.open(put(tmp_path, members)) as reader:
        folder = BlobFolder(reader)
        assert folder.splits == ["test"]
        names = [record.images["image"].name for record in folder.records(TABLES)]
        assert names == ["test/b.png", "test/deep/a.png"]
        inner = BlobFolder(reader, folder="test/")
        assert inner.splits == ["deep"]
        assert [r.images["image"].name for r in inner.records(TABLES)] == ["test/deep/a.png"]


def test_metadata_beside_the_blob(tmp_path):
    library.write_folder(tmp_path / "beside")
    with blobpack.open(put(tmp_path, library.members(None))) as reader:
        assert all(record.is_bare for record in BlobFolder(reader).records(TABLES))
        for place in (tmp_path / "beside", tmp_path / "beside/all/metadata.jsonl"):
            records = list(BlobFolder(reader, metadata=place).records(TABLES))
            assert len(records) == 10
            assert not any(record.is_bare for record in records)
        with pytest.raises(SourceError, match="no metadata at"):
            BlobFolder(reader, metadata=tmp_path / "none")
    members = library.members() | {"other/a.png": library.image_of(0)}
    with blobpack.open(put(tmp_path, members, "two.tar")) as reader:
        # a split that the folder lacks has its own
        assert len(list(BlobFolder(reader, metadata=tmp_path / "beside").records(TABLES))) == 11
        with pytest.raises(FormatError, match="2 splits"):
            list(BlobFolder(reader, metadata=place).records(TABLES))


def test_lines_that_can_not_be_read(tmp_path):
    text = b'{"image": "a.png"}\n\nno JSON\n\xff\n[1]\n{"image": "all/a.png"}\n{"image": "b.png"}\n'
    members = {"all/a.png": library.image_of(0), "all/metadata.jsonl": text}
    with blobpack.open(put(tmp_path, members)) as reader:
        problems = []
        records = list(BlobFolder(reader).records(TABLES, problems.append))
        assert [(record.number, record.where[-6:]) for record in records] == [
            (0, "line 1"),
            (1, "line 6"),
        ]
        assert sorted(problem.line for problem in problems) == [3, 4, 5, 7]
        with pytest.raises(FormatError, match=r"health\.tar: all/metadata\.jsonl, line 3"):
            list(BlobFolder(reader).records(TABLES))


def test_the_wrong_use_of_a_folder(health):
    with pytest.raises(TypeError, match="reader"):
        BlobFolder("health.tar")
    with pytest.raises(TypeError, match="folder"):
        BlobFolder(health, folder=7)
    with pytest.raises(ValueError, match="metadata"):
        BlobFolder(health, metadata="s3://bucket/metadata/")
    with pytest.raises(ValueError, match="a view of images"):
        next(BlobFolder(health).records(TABLES._replace(views=frozenset())))


def test_facts_and_previews(health):
    for member, payload in zip(health.index, health.values(), strict=True):
        if member.media_type is None:
            continue
        with Image.open(io.BytesIO(payload)) as image:
            assert facts_in_payload(member.name, payload) == (*image.size, image.format)
            assert facts_in_index(member) == (*image.size, image.format)
        with Image.open(io.BytesIO(preview_of(payload))) as preview:
            assert (max(preview.size), preview.format) == (128, "JPEG")
    assert preview_of(b"\xff\xd8\xff no image") == b""
    assert format_of("image/jp2") == "JPEG2000"
    assert format_of(None) == ""


@pytest.mark.parametrize("form", ["0.6", "0.7", "0.8"])
def test_the_schema_is_inferred(form, tmp_path):
    with blobpack.open(put(tmp_path, library.members(form))) as reader:
        assert infer_schema(BlobFolder(reader)) == {
            "views": {"image": "image"},
            "record": {"attrs": {"image_type": {"type": "str", "collection": False}}},
            "entity": {"attrs": {"category": {"type": "str", "collection": False}}},
            "annotations": ["bbox", "keypoint"],
        }


def test_types_of_inferred_attributes(tmp_path):
    lines = [
        {
            "views": {"left": "a.png"},
            "n": 1,
            "x": 1,
            "ok": True,
            "tags": ["a"],
            "odd": 1,
            "deep": {},
        },
        {
            "views": {"left": "a.png"},
            "n": 2,
            "x": 0.5,
            "ok": False,
            "tags": [],
            "odd": "1",
            "split": "v",
        },
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    members = {"all/a.png": library.image_of(0), "all/metadata.jsonl": text}
    with blobpack.open(put(tmp_path, members)) as reader:
        schema = infer_schema(BlobFolder(reader))
    assert schema["views"] == {"left": "image"}
    types = {
        name: (each["type"], each["collection"]) for name, each in schema["record"]["attrs"].items()
    }
    assert types == {
        **{"n": ("int", False), "x": ("float", False), "ok": ("bool", False)},
        "tags": ("str", True),
    }


def test_items_as_pixano_06_has_them(tmp_path, installed):
    installed(has_items=True)
    from blobpack.integrations.pixano.builder import BlobFolderBuilder

    info = pixano_fake.DatasetInfo(name="Health")
    with pytest.raises(TypeError, match="dataset_item"):
        BlobFolderBuilder("health.tar", tmp_path / "library", info)
    path = put(tmp_path, library.members())
    builder = BlobFolderBuilder(path, tmp_path / "library", info, pixano_fake.HealthItem)
    batches = builder.build(flush_every_n_samples=4)
    assert [len(batch["item"]) for batch in batches] == [4, 4, 2]
    assert builder.sources == [("Builder", "other")]
    image, box = batches[0]["image"][0], batches[0]["bbox"][1]
    assert image.url == "health/all/mri-brain.png"
    assert (image.width, image.height, image.format) == (*library.size_of(0), "PNG")
    assert (box.coords, box.source_ref) == (library.box_of(0, 1), "Source source 1")
    # an image without metadata: its name is its id, and columns are empty
    bare = put(tmp_path, library.members(None), "bare #1.tar")
    options = {"url_prefix": "media/bare", "use_image_name_as_id": True}
    builder = BlobFolderBuilder(bare, tmp_path / "b", info, pixano_fake.HealthItem, **options)
    [rows] = builder.build()
    assert [row.id for row in rows["item"]] == [row.id for row in rows["image"]]
    assert {row.image_type for row in rows["item"]} == {""}
    assert rows["image"][0].url.startswith("media/bare/all/")


def test_a_line_that_does_not_fit_the_dataset(tmp_path, installed):
    installed(has_items=True)
    from blobpack.integrations.pixano.builder import BlobFolderBuilder

    lines = library.metadata().replace(b'"category"', b'"kind"', 1)
    path = put(tmp_path, library.members() | {"all/metadata.jsonl": lines})
    info = pixano_fake.DatasetInfo(name="Health")
    builder = BlobFolderBuilder(path, tmp_path / "library", info, pixano_fake.HealthItem)
    with pytest.raises(FormatError, match=r"health\.tar: all/metadata\.jsonl, line 1: .*'kind'"):
        builder.build()
    with pytest.raises(ValueError, match="metadata"):
        BlobFolderBuilder(path, "library", info, pixano_fake.HealthItem, metadata="s3://bucket/a/")
    for name in ("folder", "url_prefix", "use_image_name_as_id", "source"):
        given = {"source": path, name: 7}
        with pytest.raises(TypeError, match=name):
            BlobFolderBuilder(
                target_dir="library", info=info, dataset_item=pixano_fake.HealthItem, **given
            )


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:8000/b/health"])
def test_records_as_pixano_07_has_them(url, tmp_path, installed):
    installed(has_items=False)
    from blobpack.integrations.pixano.builder import BlobFolderBuilder

    path = put(tmp_path, library.members("0.7"))
    info = pixano_fake.DatasetInfo(name="Health", record=pixano_fake.Record)
    [rows] = BlobFolderBuilder(path, tmp_path / "library", info, url_prefix=url).build()
    counts = {table: len(found) for table, found in rows.items()}
    assert counts == {"records": 10, "images": 10, "entities": 9, "bboxes": 9, "keypoints": 9}
    for at, image in enumerate(rows["images"]):
        assert (image.width, image.height) == library.size_of(at)
        assert image.preview.startswith(b"\xff\xd8")
        if url is None:
            assert image.raw_bytes == library.image_of(at)
        else:
            assert image.uri == f"{url}/all/{library.NAMES[at]}"
    box = rows["bboxes"][0]
    assert box.view_id == box.frame_id == rows["images"][0].id
    assert (box.source_type, box.source_name) == ("other", "Builder")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/media/health/all/a%20b.png", "/b/health/all/a%20b.png"),
        ("/media//health/a.png", "/b/health/a.png"),
        ("/thumbnail/" + base64.b64encode(b"health/a.png").decode(), "/t/128/health/a.png"),
        ("/thumbnail/aGVhbHRoL2EgIy5wbmc%3D", "/t/128/health/a%20%23.png"),
        ("/thumbnail/aGVhbHRoL2ElMjAucG5n", "/t/128/health/a%20.png"),
        ("/thumbnail/a", "/t/128/"),
        ("/views/health/image", None),
    ],
)
def test_where_the_application_finds_images(path, target):
    found = target_of(path.encode())
    assert (found and found.decode()) == target


def test_requests_for_images_go_to_the_blobs_and_all_others_to_pixano(health, monkeypatch):
    asked = []

    async def pixano(scope, receive, send):
        asked.append(scope["path"])

    monkeypatch.setattr(application, "pixano_app", lambda library, media: pixano)
    monkeypatch.setattr(urllib.request, "install_opener", lambda opener: None)
    app = application.PixanoApp(
        "library", "media", gateway_app({"health": health}), lambda name: None
    )

    def ask(path):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "root_path": ""}
        asyncio.run(app(scope, None, send))
        return sent[0]["status"] if sent else None, b"".join(m.get("body", b"") for m in sent)

    assert ask("/media/health/all/mri-brain.png") == (200, library.image_of(0))
    assert ask("/media/health/all/none.png")[0] == 404
    status, thumbnail = ask("/thumbnail/" + base64.b64encode(b"health/all/photo-eye.jpg").decode())
    assert status == 200
    assert max(Image.open(io.BytesIO(thumbnail)).size) == 128
    assert not asked
    assert ask("/datasets/info") == (None, b"")
    assert asked == ["/datasets/info"]


def test_pixano_opens_images_by_urllib(tmp_path):
    def read(name):
        if name == "broken":
            raise BlobpackError("broken")
        return b"pixels" if name == "health/a b.png" else None

    opener = urllib.request.build_opener(MediaHandler(str(tmp_path / "media"), read))
    with opener.open(f"{(tmp_path / 'media').as_uri()}/health/a%20b.png") as file:
        assert file.read() == b"pixels"
    for name in ("broken", "none"):
        with pytest.raises(URLError):
            opener.open(f"{(tmp_path / 'media').as_uri()}/{name}")
    (tmp_path / "file").write_bytes(b"a file")
    with opener.open((tmp_path / "file").as_uri()) as file:
        assert file.read() == b"a file"


@pytest.mark.skipif(importlib.util.find_spec("pixano") is not None, reason="Pixano is here")
def test_without_pixano(tmp_path, monkeypatch):
    with pytest.raises(PackageMissingError, match="pip install pixano"):
        from blobpack.integrations.pixano import BlobFolderBuilder  # noqa: F401
    put(tmp_path, library.members())
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(main, ["pixano", "serve", ".", "health.tar"])
    assert ran.exit_code == 1
    assert "needs Pixano 0.6" in ran.stderr
    ran = CliRunner().invoke(main, ["pixano", "serve", ".", "health.tar", "--host", "0.0.0.0"])
    assert ran.exit_code == 2
    assert "--insecure-public" in ran.stderr


def test_the_format_is_an_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pixano.formats"] == {
        "blobpack": "blobpack.integrations.pixano.importer:BLOBPACK"
    }
