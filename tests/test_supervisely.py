"""Supervisely without its SDK: offsets, local projects and their check. Samples in tests/data are what the SDK wrote.

tests/tools/supervisely/ asks the SDK itself.
"""

import hashlib
import io
import json
import pickle
import shutil
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import blobpack
from blobpack import (
    BlobNotFoundError,
    DuplicateNameError,
    FormatError,
    ImageError,
    MemberNotFoundError,
    StaleIndexError,
    StorageError,
    UnsafeNameError,
)
from blobpack.integrations import supervisely
from blobpack.integrations.supervisely import (
    BlobImageInfo,
    build_project,
    check_project,
    offset_batches,
    open_project,
)

SAMPLES = Path(__file__).parent / "data" / "supervisely"
TAR = SAMPLES / "small_images.tar"
OFFSETS = SAMPLES / "small_images_offsets.pkl"
SHA256 = json.loads((SAMPLES / "sha256.json").read_text())
META = {
    "classes": [{"title": "car", "shape": "rectangle", "color": "#FF0000", "id": 1}],
    "tags": [{"name": "wet", "value_type": "none", "color": "#00FF00", "id": 2}],
}
CAR = {
    "classTitle": "car",
    "geometryType": "rectangle",
    "points": {"exterior": [[0, 0], [3, 3]], "interior": []},
    "tags": [{"name": "wet"}],
}


def annotation(**more):
    return {"size": {"height": 8, "width": 12}, "tags": [], "objects": [], **more}


def image(red=0, size=(12, 8), kind="JPEG"):
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, kind)
    return file.getvalue()


IMAGES = {
    "train/a.jpg": image(1),
    "train/b.png": image(2, kind="PNG"),
    "val/a.jpg": image(3),
    "val/night/c.jpg": image(4, size=(5, 7)),
}


@pytest.fixture
def blob(tmp_path):
    blobpack.pack(IMAGES, tmp_path / "images.tar")
    with blobpack.open_blob(tmp_path / "images.tar") as blob:
        yield blob


@pytest.fixture
def project(blob, tmp_path):
    """A project of two datasets on one blob; its path."""
    datasets = {"train": blob.index.select("train/*"), "val": blob.index.select("val/*")}
    build_project(
        tmp_path / "project", datasets, annotations={"b.png": annotation(objects=[CAR])}, meta=META
    )
    return tmp_path / "project"


@pytest.fixture(scope="session")
def sdk_project(tmp_path_factory):
    """A project that the SDK wrote; its path. Its annotations are in one file in tests/data."""
    folder = tmp_path_factory.mktemp("sdk") / "project"
    shutil.copytree(SAMPLES / "project", folder)
    annotations = json.loads((folder / "annotations.json").read_text())
    (folder / "annotations.json").unlink()
    for dataset, files in annotations.items():
        (folder / dataset / "ann").mkdir()
        for name, content in files.items():
            (folder / dataset / "ann" / name).write_text(json.dumps(content))
    (folder / "blob").mkdir()
    shutil.copy(TAR, folder / "blob")
    return folder


# offsets


def test_the_package_loads_a_part_when_it_is_used():
    assert supervisely.__all__ == sorted(supervisely.__all__) == dir(supervisely)


def test_offset_batches_are_those_of_the_sdk():
    """The samples are the SDK's own file; dicts are what its REST calls take."""
    infos = [info for batch in BlobImageInfo.load_from_pickle_generator(OFFSETS) for info in batch]
    for source in (TAR, blobpack.scan(TAR), blobpack.read_offsets(OFFSETS)):
        assert [info for batch in offset_batches(source, form="objects") for info in batch] == infos
    batches = list(offset_batches(TAR, 7, 150))
    assert [len(batch) for batch in batches] == [150, 50]
    first = infos[0]
    assert batches[0][0] == {
        "title": first.name,
        "teamFileId": 7,
        "sourceBlob": {"offsetStart": first.offset_start, "offsetEnd": first.offset_end},
    }
    # plain numbers, which JSON can hold
    assert json.loads(json.dumps(batches[0])) == batches[0]


def test_offset_batches_of_an_open_blob_and_of_a_selection(blob):
    assert [row["title"] for row in next(offset_batches(blob.index.select("train/*")))] == [
        "a.jpg",
        "b.png",
    ]
    (objects,) = offset_batches(blob.index.select("train/*"), team_file_id=9, form="objects")
    assert [info.team_file_id for info in objects] == [9, 9]
    assert list(offset_batches(blob.index.select("nothing"))) == []
    with pytest.raises(DuplicateNameError, match=r"'train/a.jpg' and 'val/a.jpg'"):
        offset_batches(blob)


def test_offsets_are_places_in_one_blob(blob, tmp_path):
    blobpack.pack({"x.jpg": image()}, tmp_path / "other.tar")
    with blobpack.open(tmp_path) as both, pytest.raises(ValueError, match="one blob"):
        offset_batches(both)


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_infos_are_read_in_batches_however_the_file_was_cut(size):
    file = SAMPLES / "batch_50" / "small_images_offsets.pkl"
    batches = list(BlobImageInfo.load_from_pickle_generator(file, size))
    assert all(len(batch) == size for batch in batches[:-1])
    assert [*chain(*batches)] == next(BlobImageInfo.load_from_pickle_generator(OFFSETS))


def test_infos_are_written_as_the_sdk_writes_them(tmp_path):
    path = tmp_path / "out_offsets.pkl"
    infos = next(BlobImageInfo.load_from_pickle_generator(OFFSETS))
    for given in (infos, offset_batches(TAR, form="objects"), iter(infos)):
        # an older file is replaced, never continued
        assert BlobImageInfo.dump_to_pickle(given, path) == 200
        assert path.read_bytes() == OFFSETS.read_bytes()
    # under the name of the SDK's class
    assert b"supervisely.api.image_api" in path.read_bytes()


def test_an_info_has_the_methods_of_the_sdk():
    info = BlobImageInfo.from_image_info(
        SimpleNamespace(name="a.jpg", offset_start=512, offset_end=600)
    )
    assert info == BlobImageInfo("a.jpg", 512, 600)
    assert info.to_dict()["teamFileId"] is None
    assert info.to_dict(3)["teamFileId"] == 3
    assert info.add_team_file_id(5) is info
    assert info.to_dict()["teamFileId"] == 5
    assert info.offsets_dict == {"offsetStart": 512, "offsetEnd": 600}
    assert BlobImageInfo.from_dict(info.to_dict()).team_file_id is None
    again = BlobImageInfo.from_dict(info.to_dict(), return_team_file_id=True)
    assert (again, again.team_file_id) == (info, 5)
    assert pickle.loads(pickle.dumps(again)).team_file_id == 5
    # the fields of the SDK's class, and no other
    assert repr(info) == "BlobImageInfo(name='a.jpg', offset_start=512, offset_end=600)"
    assert BlobImageInfo.from_image_info(blobpack.Member("a.jpg", 512, 600)) == info


def test_a_filtered_file_has_a_name_of_its_own_and_is_written_anew(tmp_path):
    """The SDK's second call returns the first, unfiltered file."""
    index = blobpack.scan(TAR)
    path = tmp_path / "some_offsets.pkl"
    for glob, rows in (("*.jpg", 50), ("*.JPEG", 50), ("car_*", 34), ("*.jpg", 50)):
        assert blobpack.write_offsets(index.select(glob), path, names="basename") == rows
        assert blobpack.read_offsets(path) == index.select(glob).with_basenames()


# opening


def test_a_project_of_the_sdk_is_read_image_by_image(sdk_project):
    with open_project(sdk_project) as opened:
        assert [dataset.name for dataset in opened.datasets] == ["ds1", "ds2"]
        assert opened.meta == json.loads((sdk_project / "meta.json").read_text())
        assert [path.name for path in opened.blob_files] == ["small_images.tar"]
        for dataset in opened:
            for name in dataset.names:
                payload = dataset.read(name)
                assert hashlib.sha256(payload).hexdigest() == SHA256[name]
                size = dataset.annotation(name)["size"]
                assert dataset.read_image(name).shape == (size["height"], size["width"], 3)
        assert [len(dataset) for dataset in opened] == [120, 80]
        assert name in dataset
        assert "nothing" not in dataset


def test_datasets_are_found_by_name_and_images_in_all_places(blob, project, tmp_path):
    night = project / "val" / "datasets" / "night"
    (night / "ann").mkdir(parents=True)
    (night / "img").mkdir()
    (night / "img" / "file.png").write_bytes(image(9, kind="PNG"))
    (night / "ann" / "file.json").write_text(json.dumps(annotation(description="older name")))
    blobpack.pack({"z.jpg": image(8)}, project / "blob" / "second.tar")
    blobpack.write_offsets(
        blobpack.scan(project / "blob" / "second.tar"), night / "second_offsets.pkl"
    )
    (night / "meta").mkdir()
    (night / "meta" / "z.jpg.json").write_text('{"camera": 5}')
    with open_project(project) as opened:
        assert [dataset.name for dataset in opened] == ["train", "val", "val/night"]
        dataset = opened["val/night"]
        assert list(dataset.names) == ["z.jpg", "file.png"]
        assert dataset.read("file.png") == image(9, kind="PNG")
        assert dataset.read("z.jpg") == image(8)
        assert dataset.annotation("file.png")["description"] == "older name"
        assert dataset.image_meta("z.jpg") == {"camera": 5}
        assert dataset.image_meta("file.png") == {}
        assert opened["val"].read("c.jpg") == IMAGES["val/night/c.jpg"]
        assert (opened["val"].read_image("c.jpg")[:, :, 0] < 9).all()
        with pytest.raises(
            MemberNotFoundError, match=r"no dataset 'night'; there are: train, val, val/night"
        ):
            opened["night"]


def test_what_can_not_be_read_is_an_error_that_names_it(project):
    with open_project(project) as opened:
        with pytest.raises(
            MemberNotFoundError, match=r"train: no member 'a.jpeg' .*near it: 'a.jpg'"
        ):
            opened["train"].read("a.jpeg")
        (project / "train" / "ann" / "a.jpg.json").unlink()
        with pytest.raises(BlobNotFoundError, match=r"ann/a.jpg.json"):
            opened["train"].annotation("a.jpg")
        (project / "train" / "ann" / "a.jpg.json").write_text("[1]")
        with pytest.raises(FormatError, match=r"a.jpg.json: expected a JSON object, not list"):
            opened["train"].annotation("a.jpg")
        (project / "train" / "ann" / "a.jpg.json").write_text("{")
        with pytest.raises(FormatError, match=r"a.jpg.json: not JSON") as caught:
            opened["train"].annotation("a.jpg")
        assert caught.value.offset == 1


def test_a_changed_or_missing_blob_is_noticed_where_the_sdk_returns_other_bytes(project):
    blob = project / "blob" / "images.tar"
    blob.unlink()
    with open_project(project) as opened, pytest.raises(BlobNotFoundError, match=r"images\.tar"):
        opened["train"].read("a.jpg")
    blobpack.pack({"0.jpg": image(1), **IMAGES}, blob)
    with open_project(project) as opened, pytest.raises(StaleIndexError):
        opened["train"].read("a.jpg")
    blob.write_bytes(blob.read_bytes()[:1024])
    with open_project(project) as opened, pytest.raises(StaleIndexError):
        opened["train"].read("a.jpg")


def test_a_hostile_offsets_file_leads_nowhere(project, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    name = "../../../secret"
    rows = [BlobImageInfo(name, 512, 600)]
    BlobImageInfo.dump_to_pickle(rows, project / "train" / "images_offsets.pkl")
    with open_project(project) as opened:
        assert list(opened["train"].names) == [name]
        for read in (opened["train"].read, opened["train"].annotation, opened["train"].image_meta):
            with pytest.raises(UnsafeNameError, match="secret"):
                read(name)


@pytest.mark.parametrize(
    ("meta", "error", "says"),
    [
        (None, BlobNotFoundError, "meta.json: no such file"),
        ("{}", FormatError, "`classes` must be a list"),
        ('{"classes": [{}], "tags": []}', FormatError, "`classes` must be a list"),
        ("[" * 100_000, FormatError, "nested too deeply|not JSON"),
        (b"\xff\xfe", FormatError, "not JSON"),
    ],
)
def test_a_folder_that_is_no_project(project, meta, error, says):
    (project / "meta.json").unlink()
    if meta is not None:
        (project / "meta.json").write_bytes(meta if isinstance(meta, bytes) else meta.encode())
    with pytest.raises(error, match=says):
        open_project(project)


def test_a_project_without_datasets(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps(META))
    with pytest.raises(FormatError, match="a project without datasets"):
        open_project(tmp_path)


# building


def test_a_project_holds_what_it_was_built_of(blob, project):
    names = {
        "train": {"a.jpg": "train/a.jpg", "b.png": "train/b.png"},
        "val": {"a.jpg": "val/a.jpg", "c.jpg": "val/night/c.jpg"},
    }
    with open_project(project) as opened:
        for dataset in opened:
            assert list(dataset.names) == list(names[dataset.name])
            for title, path in names[dataset.name].items():
                assert dataset.read(title) == IMAGES[path]
        assert opened.meta == META
        assert opened["train"].annotation("b.png")["objects"] == [CAR]
        # an image without annotation gets an empty one
        assert opened["val"].annotation("c.jpg") == {
            "description": "",
            "tags": [],
            "size": {"height": 7, "width": 5},
            "objects": [],
        }
    assert check_project(project) == []
    # one blob, linked and not copied
    (linked,) = (project / "blob").iterdir()
    assert linked.samefile(blob.url)
    readme = (project / "README.md").read_text()
    assert "4 images in 2 datasets" in readme
    assert "images_offsets.pkl" in readme


def test_a_blob_is_copied_if_it_must_or_should_be(blob, tmp_path, s3_env):
    build_project(tmp_path / "copied", {"ds": blob.index.select("train/*")}, link=False)
    copied = tmp_path / "copied" / "blob" / "images.tar"
    assert copied.stat().st_nlink == 1
    assert copied.read_bytes() == Path(blob.url).read_bytes()
    url = f"s3://{s3_env.new_bucket()}/far/images.tar.zst"
    blobpack.pack({"x.jpg": image(7), "y.jpg": image(8)}, url)
    report = build_project(tmp_path / "far", {"ds": url})
    # as a plain tar, because the SDK reads no other
    assert list(report.blobs) == [str(tmp_path / "far" / "blob" / "images.tar")]
    with open_project(tmp_path / "far") as opened:
        assert opened["ds"].read("y.jpg") == image(8)
    assert check_project(tmp_path / "far") == []


def test_a_collection_becomes_several_blobs(tmp_path):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        images = {f"{number}/{name}.jpg": image(number) for name in f"ab{number}"}
        blobpack.pack(images, tmp_path / "in" / f"{number}.tar")
    with blobpack.open(tmp_path / "in") as both:
        chosen = both.index.select("*1.jpg", "*2.jpg", "1/a.jpg")
        report = build_project(
            tmp_path / "project", {"ds": chosen, "one": tmp_path / "in" / "1.tar"}
        )
    assert report.datasets == {"ds": 3, "one": 3}
    assert sorted(Path(path).name for path in report.blobs) == ["1.tar", "2.tar"]
    with open_project(tmp_path / "project") as opened:
        assert list(opened["ds"].names) == ["a.jpg", "1.jpg", "2.jpg"]
        assert opened["ds"].read("2.jpg") == image(2)
    assert check_project(tmp_path / "project") == []


def test_sizes_come_from_the_images_if_the_index_has_none(tmp_path, sdk_project):
    """Of a scanned tar, and of one behind an offsets file."""
    report = build_project(tmp_path / "p", {"ds": blobpack.open_blob(TAR, OFFSETS)})
    assert (report.images, report.annotated) == (200, 0)
    with open_project(tmp_path / "p") as ours, open_project(sdk_project) as theirs:
        for dataset in theirs:
            for name in dataset.names:
                assert ours["ds"].annotation(name)["size"] == dataset.annotation(name)["size"]


def test_annotations_come_from_a_folder(blob, tmp_path):
    folder = tmp_path / "anns"
    places = ("train/a.jpg.json", "val/ann/a.jpg.json", "c.jpg.json", "unused.json")
    for number, place in enumerate(places):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps(annotation(description=str(number))))
    datasets = {"train": blob.index.select("train/*"), "val": blob.index.select("val/*")}
    report = build_project(tmp_path / "p", datasets, annotations=folder)
    assert (report.annotated, report.unused) == (3, ["unused.json"])
    assert "3 annotated, 1 annotation of no image" in str(report)
    with open_project(tmp_path / "p") as opened:
        found = [
            opened[ds].annotation(name)["description"]
            for ds, name in (("train", "a.jpg"), ("val", "a.jpg"), ("val", "c.jpg"))
        ]
    assert found == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": {"height": 1}}, "`size` must have height and width"),
        ({"tags": None}, "`tags` must be a list"),
        ({"objects": {}}, "`objects` must be a list"),
        ({"objects": [{**CAR, "classTitle": "cart"}]}, "the meta has no class 'cart'"),
        ({"tags": [{"name": "dry"}]}, "the meta has no tag 'dry'"),
        ({"objects": [{**CAR, "tags": [{"name": "dry"}]}]}, "the meta has no tag 'dry'"),
        ({"objects": [{**CAR, "tags": 5}]}, "`tags` of an object must be"),
    ],
)
def test_a_wrong_annotation_is_refused_before_the_project_appears(blob, tmp_path, given, says):
    with pytest.raises(FormatError, match=says):
        build_project(
            tmp_path / "p",
            {"ds": blob.index.select("train/*")},
            annotations={"train/a.jpg": annotation(**given)},
            meta=META,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["images.tar"]


def test_what_can_be_no_project_is_refused(blob, tmp_path):
    everything = {"ds": blob}
    with pytest.raises(DuplicateNameError, match=r"dataset 'ds': 'train/a.jpg' and 'val/a.jpg'"):
        build_project(tmp_path / "p", everything)
    with pytest.raises(ValueError, match="there are no images"):
        build_project(tmp_path / "p", {})
    with pytest.raises(StorageError, match="already exists"):
        build_project(tmp_path, {"ds": blob.index.select("train/*")})
    blobpack.pack({"a.jpg": image(), "notes.txt": b"text"}, tmp_path / "mixed.tar", all_files=True)
    with pytest.raises(ImageError, match=r"'notes.txt' has no width and height"):
        build_project(tmp_path / "p", {"ds": tmp_path / "mixed.tar"})
    (tmp_path / "more").mkdir()
    blobpack.pack({"x.jpg": image()}, tmp_path / "more" / "images.tar")
    with pytest.raises(DuplicateNameError, match=r"would both be the blob images.tar"):
        build_project(
            tmp_path / "p",
            {"a": blob.index.select("train/*"), "b": tmp_path / "more" / "images.tar"},
        )
    blobpack.pack({"n" * 251: image()}, tmp_path / "long.tar", all_files=True)
    with pytest.raises(UnsafeNameError, match="an image can't be named 'nnn"):
        build_project(tmp_path / "p", {"ds": tmp_path / "long.tar"})
    assert not (tmp_path / "p").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "name", ["small_img", "myblob", "ann", "a/b/meta", "..", "a//b", "", "img_info"]
)
def test_datasets_have_no_name_that_the_sdk_skips(blob, tmp_path, name):
    with pytest.raises(ValueError, match="a dataset can't be named"):
        build_project(tmp_path / "p", {name: blob})


def test_an_index_needs_its_open_blob(tmp_path, blob):
    with pytest.raises(ValueError, match=r"dataset 'ds': the index belongs to no open blob"):
        build_project(tmp_path / "p", {"ds": blobpack.scan(TAR)})
    # a blob that was opened with a part of an index
    part = blob.index.select("train/*")
    with blobpack.open_blob(blob.url, part):
        assert build_project(tmp_path / "p", {"ds": part}).images == 2


def test_an_empty_folder_is_filled(blob, tmp_path):
    (tmp_path / "p").mkdir()
    progress = []
    build_project(tmp_path / "p", {"ds": blob.index.select("train/*")}, progress=progress.append)
    assert (progress[-1].done, progress[-1].total) == (2, 2)
    assert check_project(tmp_path / "p") == []


# the check


def kinds(folder):
    return sorted((problem.kind, str(problem)) for problem in check_project(folder))


def test_a_sound_project_has_no_problems(sdk_project):
    assert check_project(sdk_project) == []


DAMAGE = {
    "an annotation is missing": (
        lambda p: (p / "train/ann/a.jpg.json").unlink(),
        [("annotation", "train/ann/a.jpg.json: image 'a.jpg' has no annotation")],
    ),
    "an annotation is no JSON": (
        lambda p: (p / "train/ann/a.jpg.json").write_text("{"),
        [
            (
                "annotation",
                "train/ann/a.jpg.json: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            )
        ],
    ),
    "an annotation has no size": (
        lambda p: (p / "train/ann/a.jpg.json").write_text('{"tags": [], "objects": []}'),
        [("annotation", "train/ann/a.jpg.json: `size` must have height and width, in pixels")],
    ),
    "a class is unknown": (
        lambda p: (p / "meta.json").write_text('{"classes": [], "tags": []}'),
        [
            ("annotation", "train/ann/b.png.json: the meta has no class 'car'"),
            ("annotation", "train/ann/b.png.json: the meta has no tag 'wet'"),
        ],
    ),
    "an image is a file, too": (
        lambda p: ((p / "train/img").mkdir(), (p / "train/img/a.jpg").write_bytes(image())),
        [("image", "train: image 'a.jpg' is listed 2 times")],
    ),
    "an image is in two offsets files": (
        lambda p: (
            shutil.copy(p / "blob/images.tar", p / "blob/again.tar"),
            shutil.copy(p / "train/images_offsets.pkl", p / "train/again_offsets.pkl"),
        ),
        [
            ("image", "train: image 'a.jpg' is listed 2 times"),
            ("image", "train: image 'b.png' is listed 2 times"),
        ],
    ),
    "the blob is gone": (
        lambda p: (p / "blob/images.tar").unlink(),
        [
            ("offsets", "train/images_offsets.pkl: there is no blob blob/images.tar"),
            ("offsets", "val/images_offsets.pkl: there is no blob blob/images.tar"),
        ],
    ),
    "a blob is of no dataset": (
        lambda p: shutil.copy(p / "blob/images.tar", p / "blob/again.tar"),
        [("blob", "blob/again.tar: no dataset has images in it")],
    ),
    "junk beside the blob": (
        lambda p: (p / "blob/.DS_Store").write_text("junk"),
        [("blob", "blob/.DS_Store: no tar, but the SDK takes it for a blob")],
    ),
    "no annotations at all": (
        lambda p: shutil.rmtree(p / "train/ann"),
        [("annotation", "train/ann: no such folder")],
    ),
    "an offsets file is cut": (
        lambda p: (p / "val/images_offsets.pkl").write_bytes(
            (p / "val/images_offsets.pkl").read_bytes()[:-1]
        ),
        [
            ("image", "val: a dataset without images"),
            ("offsets", "val/images_offsets.pkl: …"),
        ],
    ),
    "a name that the SDK skips": (
        lambda p: (p / "val").rename(p / "valimg"),
        [("sdk", "valimg: the SDK skips folders whose names end with 'img'")],
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_check_finds(project, damage):
    # a copy of its own: the blob is a link to that of the test
    blob = project / "blob" / "images.tar"
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content)
    do, problems = DAMAGE[damage]
    do(project)
    found = kinds(project)
    assert len(found) == len(problems)
    for (kind, text), (expected, says) in zip(found, sorted(problems), strict=True):
        assert kind == expected
        assert text == says or (says.endswith("…") and text.startswith(says[:-1]))


def test_the_check_finds_stale_empty_and_foreign_rows(tmp_path):
    blobpack.pack(
        {"a.jpg": image(1), "e.jpg": b"", "notes.txt": b"x", "z.jpg": image(2)},
        tmp_path / "b.tar",
        all_files=True,
    )
    with blobpack.open_blob(tmp_path / "b.tar") as blob:
        given = {name: annotation() for name in blob.index.names}
        build_project(tmp_path / "p", {"ds": blob}, annotations=given, link=False)
        index = blobpack.Index(blob.index)
    assert kinds(tmp_path / "p") == [
        ("image", "ds/b_offsets.pkl: 'e.jpg' is empty"),
        ("image", "ds: 'notes.txt' has no suffix of an image"),
    ]
    a, z = index["a.jpg"], index["z.jpg"]
    wrong = [
        BlobImageInfo("a.jpg", a.offset_start, a.offset_end - 1),
        BlobImageInfo("e.jpg", 5, 6),
        BlobImageInfo("notes.txt", z.offset_start, z.offset_end),
    ]
    BlobImageInfo.dump_to_pickle(wrong, tmp_path / "p" / "ds" / "b_offsets.pkl")
    stale = [text for kind, text in kinds(tmp_path / "p") if kind == "offsets"]
    assert len(stale) == 3
    assert (
        f"'a.jpg' is at bytes {a.offset_start} to {a.offset_end - 1}, and blob/b.tar has 'a.jpg' to byte {a.offset_end} there"
        in stale[0]
    )
    assert "blob/b.tar has no member there" in stale[1]


def test_the_check_knows_what_the_sdk_can_not_open(blob, tmp_path):
    """tests/tools/supervisely shows both in the SDK."""
    build_project(tmp_path / "datasets" / "p", {"a/b": blob.index.select("train/*")})
    assert [kind for kind, _ in kinds(tmp_path / "datasets" / "p")] == ["sdk", "sdk"]
    with pytest.raises(BlobNotFoundError):
        check_project(tmp_path / "none")


# misuse


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda b, p: offset_batches(5), TypeError, "source must be"),
        (lambda b, p: offset_batches(b, "7"), TypeError, "team_file_id must be"),
        (lambda b, p: offset_batches(b, batch_size=0), ValueError, "batch_size must be at least 1"),
        (
            lambda b, p: offset_batches(b, form="dict"),
            ValueError,
            "form must be one of 'dicts', 'objects'",
        ),
        (
            lambda b, p: BlobImageInfo.load_from_pickle_generator(OFFSETS, 0),
            ValueError,
            "batch_size",
        ),
        (lambda b, p: BlobImageInfo.load_from_pickle_generator("s3://b/k"), ValueError, "path"),
        (lambda b, p: BlobImageInfo.dump_to_pickle("abc", p), TypeError, "offsets must be several"),
        (
            lambda b, p: BlobImageInfo.dump_to_pickle([5], p),
            TypeError,
            "offsets must be BlobImageInfo",
        ),
        (
            lambda b, p: BlobImageInfo.dump_to_pickle([BlobImageInfo(5, 0, 1)], p),
            TypeError,
            "name must be a str",
        ),
        (lambda b, p: BlobImageInfo("a", 0, 1).add_team_file_id("5"), TypeError, "team_file_id"),
        (lambda b, p: BlobImageInfo.from_dict([]), TypeError, "offset_dict must be a dict"),
        (lambda b, p: BlobImageInfo.from_dict({"title": "a"}), ValueError, "no key 'sourceBlob'"),
        (lambda b, p: BlobImageInfo.from_dict({}, 5), TypeError, "return_team_file_id"),
        (lambda b, p: open_project(5), TypeError, "folder must be"),
        (lambda b, p: open_project("s3://bucket/p"), ValueError, "folder must be"),
        (lambda b, p: check_project("https://host/p"), ValueError, "folder must be"),
        (lambda b, p: build_project("s3://bucket/p", {"ds": b}), ValueError, "folder must be"),
        (lambda b, p: build_project(p, [b]), TypeError, "datasets must be a dict"),
        (lambda b, p: build_project(p, {5: b}), TypeError, "the name of a dataset must be a str"),
        (lambda b, p: build_project(p, {"ds": 5}), TypeError, "dataset 'ds' must be"),
        (
            lambda b, p: build_project({"ds": b}, p),
            TypeError,
            "folder and datasets seem to be swapped",
        ),
        (lambda b, p: build_project(p, {"ds": b}, annotations=5), TypeError, "annotations must be"),
        (
            lambda b, p: build_project(p, {"ds": b}, annotations={"a": 5}),
            TypeError,
            "annotations must be dicts",
        ),
        (
            lambda b, p: build_project(p, {"ds": b}, annotations="s3://b/k"),
            ValueError,
            "annotations must be",
        ),
        (
            lambda b, p: build_project(p, {"ds": b}, meta=[]),
            TypeError,
            "meta must be a dict or None",
        ),
        (lambda b, p: build_project(p, {"ds": b}, meta={}), ValueError, "meta: `classes` must be"),
        (
            lambda b, p: build_project(p, {"ds": b}, link="no"),
            TypeError,
            "link must be True or False",
        ),
        (
            lambda b, p: build_project(p, {"ds": b}, progress=5),
            TypeError,
            "progress must be a function",
        ),
    ],
)
def test_misuse_names_the_argument_and_writes_nothing(blob, tmp_path, call, error, says):
    with pytest.raises(error, match=says) as caught:
        call(blob, tmp_path / "new")
    assert type(caught.value) is error
    assert [path.name for path in tmp_path.iterdir()] == ["images.tar"]
