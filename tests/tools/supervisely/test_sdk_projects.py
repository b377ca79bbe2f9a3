"""The real SDK and blobpack read each other's projects and offsets, and what the SDK can't read is what the check says."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import supervisely as sly
from PIL import Image
from supervisely.api import image_api

import blobpack
from blobpack.integrations.supervisely import (
    BlobImageInfo,
    build_project,
    check_project,
    offset_batches,
    open_project,
)

META = {
    "classes": [
        {
            "title": "car",
            "shape": "rectangle",
            "color": "#FF0000",
            "geometry_config": {},
            "hotkey": "",
        }
    ],
    "tags": [
        {
            "name": "wet",
            "value_type": "none",
            "color": "#00FF00",
            "hotkey": "",
            "applicable_type": "all",
            "classes": [],
        }
    ],
}
CAR = {
    "classTitle": "car",
    "geometryType": "rectangle",
    "points": {"exterior": [[1, 1], [5, 5]], "interior": []},
    "tags": [{"name": "wet"}],
}


def image(number: int, kind: str) -> bytes:
    """A lossless or lossy image whose pixels tell its number."""
    file = io.BytesIO()
    shade = Image.linear_gradient("L").resize((24 + number % 5, 16))
    Image.merge(
        "RGB", [shade, shade.rotate(180), shade.point(lambda value: value * number % 256)]
    ).save(file, kind)
    return file.getvalue()


IMAGES = {
    f"{'train' if number % 3 else 'val'}/{number:04}.{suffix}": image(number, kind)
    for number, (suffix, kind) in enumerate(
        [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WebP")] * 40
    )
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that blobpack built, of two datasets on one blob."""
    blobpack.pack(IMAGES, tmp_path / "small.tar")
    given = {
        "0001.png": {
            "size": {"height": 16, "width": 25},
            "tags": [{"name": "wet"}],
            "objects": [CAR],
        }
    }
    with blobpack.open_blob(tmp_path / "small.tar") as blob:
        datasets = {name: blob.index.select(f"{name}/*") for name in ("train", "val")}
        build_project(tmp_path / "project", datasets, annotations=given, meta=META)
    return tmp_path / "project"


def test_the_sdk_opens_what_blobpack_builds_and_reads_each_image_equal(project: Path) -> None:
    assert check_project(project) == []
    theirs = sly.Project(str(project), sly.OpenMode.READ)
    ours = open_project(project)
    assert [dataset.name for dataset in theirs.datasets] == ["train", "val"]
    assert theirs.total_items == len(IMAGES)
    for dataset in theirs.datasets:
        own = ours[dataset.name]
        assert sorted(dataset.get_items_names()) == sorted(own.names)
        for name in own.names:
            payload = IMAGES[f"{dataset.name}/{name}"]
            assert dataset.get_blob_img_bytes(name) == own.read(name) == payload
            annotation = dataset.get_ann(name, theirs.meta)
            assert annotation.img_size == own.read_image(name).shape[:2]
            if not name.endswith(".jpg"):  # two decoders of JPEG may differ by a shade
                assert np.array_equal(dataset.get_blob_img_np(name), own.read_image(name))
    (label,) = theirs.datasets.get("train").get_ann("0001.png", theirs.meta).labels
    assert (label.obj_class.name, [tag.name for tag in label.tags]) == ("car", ["wet"])


def sdk_project(folder: Path) -> sly.Project:
    """A project that only the SDK wrote, as its tutorial does."""
    files = folder / "files"
    files.mkdir(parents=True)
    for name, payload in IMAGES.items():
        (files / name.rpartition("/")[2]).write_bytes(payload)
    project = sly.Project(str(folder / "project"), sly.OpenMode.CREATE)
    project.set_meta(sly.ProjectMeta.from_json(META))
    blobs = folder / "project" / "blob"
    blobs.mkdir()
    tar = blobs / "small.tar"
    sly.fs.archive_directory(str(files), str(tar))
    dataset = project.create_dataset("ds")
    sly.fs.save_blob_offsets_pkl(str(tar), dataset.directory)
    for name in files.iterdir():
        with Image.open(name) as opened:
            size = (opened.height, opened.width)
        sly.json.dump_json_file(
            sly.Annotation(size).to_json(), f"{dataset.ann_dir}/{name.name}.json"
        )
    return project


def test_blobpack_opens_what_the_sdk_built(tmp_path: Path) -> None:
    project = sdk_project(tmp_path)
    assert check_project(project.directory) == []
    with open_project(project.directory) as opened:
        (dataset,) = opened
        assert len(dataset) == len(IMAGES)
        for path, payload in IMAGES.items():
            name = path.rpartition("/")[2]
            assert dataset.read(name) == payload
            size = dataset.annotation(name)["size"]
            assert dataset.read_image(name).shape[:2] == (size["height"], size["width"])


def test_offsets_are_those_of_the_sdk(tmp_path: Path) -> None:
    tar = str(tmp_path / "small.tar")
    (tmp_path / "files").mkdir()
    for name, payload in IMAGES.items():
        (tmp_path / "files" / name.rpartition("/")[2]).write_bytes(payload)
    sly.fs.archive_directory(str(tmp_path / "files"), tar)
    index = blobpack.scan(tar)
    for form in ("dicts", "objects"):
        theirs = list(
            sly.fs.get_file_offsets_batch_generator(tar, 5, output_format=form, batch_size=50)
        )
        ours = list(offset_batches(index, 5, 50, form=form))
        if form == "objects":
            theirs = [[vars(info) for info in batch] for batch in theirs]
            ours = [
                [{key: vars(info)[key] for key in theirs[0][0]} for info in batch] for batch in ours
            ]
        assert ours == theirs
    pkl = sly.fs.save_blob_offsets_pkl(tar, str(tmp_path))
    BlobImageInfo.dump_to_pickle(
        offset_batches(index, form="objects"), tmp_path / "ours_offsets.pkl"
    )
    assert (tmp_path / "ours_offsets.pkl").read_bytes() == Path(pkl).read_bytes()
    (batch,) = image_api.BlobImageInfo.load_from_pickle_generator(
        str(tmp_path / "ours_offsets.pkl")
    )
    assert [info.name for info in batch] == [path.rpartition("/")[2] for path in index.names]


def test_an_info_has_the_fields_and_answers_of_the_sdks() -> None:
    theirs, ours = (kind("a.jpg", 512, 900) for kind in (image_api.BlobImageInfo, BlobImageInfo))
    assert {name for name in dir(image_api.BlobImageInfo) if name[0] != "_"} <= set(dir(ours))
    assert list(ours.__dataclass_fields__) == list(theirs.__dataclass_fields__)
    for team_file in (None, 7):
        assert ours.to_dict(team_file) == theirs.to_dict(team_file)
    ours.add_team_file_id(8), theirs.add_team_file_id(8)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.offsets_dict == theirs.offsets_dict
    assert BlobImageInfo.from_image_info(theirs) == ours
    assert vars(BlobImageInfo.from_dict(theirs.to_dict(), True)) == vars(ours)
    assert BlobImageInfo.load_from_pickle_generator.__doc__
    assert pickle.loads(pickle.dumps(ours)) == ours


def test_what_the_check_calls_a_problem_of_the_sdk_is_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with blobpack.open_blob(tmp_path / "small.tar") as blob:
        build_project(
            tmp_path / "nested",
            {"a": blob.index.select("train/*"), "a/b": blob.index.select("val/*")},
        )
    (problem,) = check_project(tmp_path / "nested")
    assert (problem.kind, problem.path) == ("sdk", "a/datasets/b")
    name = open_project(tmp_path / "nested")["a/b"].names[0]
    by_absolute = sly.Project(str(tmp_path / "nested"), sly.OpenMode.READ).datasets.get("a/b")
    assert by_absolute.get_blob_img_bytes(name) is None
    monkeypatch.chdir(tmp_path)
    by_relative = sly.Project("nested", sly.OpenMode.READ).datasets.get("a/b")
    assert by_relative.get_blob_img_bytes(name) == open_project("nested")["a/b"].read(name)

    (project / "val").rename(project / "small_img")
    assert [problem.kind for problem in check_project(project)] == ["sdk"]
    assert [dataset.name for dataset in sly.Project(str(project), sly.OpenMode.READ).datasets] == [
        "train"
    ]

    # one annotation less, and the whole dataset is gone
    (project / "train" / "ann" / "0001.png.json").unlink()
    assert "annotation" in {problem.kind for problem in check_project(project)}
    with pytest.raises(RuntimeError, match="empty"):
        sly.Project(str(project), sly.OpenMode.READ)


def test_the_guides_lines_open_what_blobpack_built(tmp_path, run_example) -> None:
    images = {f"{number}.png": image(number, "PNG") for number in range(2)}
    blobpack.pack(images, tmp_path / "images.tar")
    build_project(tmp_path / "project", {"train": tmp_path / "images.tar"})
    printed = run_example("import supervisely as sly", page="supervisely.md")
    assert printed.splitlines()[-1] == "train 2 0.png (16, 24, 3)"
