"""Members that are too many for memory are copied in batches: the new blob is the same, byte for byte."""

import dataclasses
import pickle
import tempfile

import pytest
from tars import Tar

import blobpack
from blobpack.editing import copy_members
from blobpack.index.stored.scratch import ScratchIndex

IMAGES = [(f"{number:03}.bin", bytes([number]) * (number * 37 % 1700)) for number in range(60)]


@pytest.fixture
def both_ways(monkeypatch):
    """Return a function that makes a subset in one go and in batches, and returns both reports."""

    def subset_twice(source, target, choose, **options):
        whole = blobpack.subset(source, target("whole.tar"), choose(source), **options)
        with monkeypatch.context() as patch:
            patch.setattr(copy_members, "ROWS_IN_MEMORY_MAX", 0)
            patch.setattr(copy_members, "PART_ROWS", 7)
            batched = blobpack.subset(source, target("batched.tar"), choose(source), **options)
        assert isinstance(batched.index._stored, ScratchIndex)
        assert whole.index._stored is None
        return whole, batched

    return subset_twice


@pytest.fixture
def in_folder(tmp_path):
    return lambda name: tmp_path / name


def packed(path, images=IMAGES, **options):
    blobpack.pack(images, path, all_files=True, **options)
    return path


def without_time(report):
    return {
        field.name: getattr(report, field.name)
        for field in dataclasses.fields(report)
        if field.name != "seconds"
    }


def check(reports, whole, batched):
    one, other = map(without_time, reports)
    assert one == other
    assert one["index"].report == other["index"].report
    assert one["index"].identity == other["index"].identity
    assert one["index"].facts == other["index"].facts
    assert whole == batched


CHOICES = {
    "all": lambda reader: reader.index,
    "filtered": lambda reader: reader.index.select("*[1-8].bin"),
    "rows in any order, some twice": lambda _: [5, 59, 5, 0, *range(20, 50), 3],
    "one": lambda _: ["007.bin"],
}


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("place", ["embed", "sidecar", "none"])
def test_a_blob(place, choose, both_ways, in_folder, tmp_path):
    with blobpack.open_blob(packed(tmp_path / "a.tar")) as blob:
        reports = both_ways(blob, in_folder, choose, index=place)
    whole, batched = (in_folder(name).read_bytes() for name in ("whole.tar", "batched.tar"))
    check(reports, whole, batched)
    if place == "sidecar":
        indexes = [in_folder(f"{name}.tar.idx").read_bytes() for name in ("whole", "batched")]
        assert indexes[0] == indexes[1]


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_a_compressed_blob(choose, both_ways, in_folder, tmp_path):
    with blobpack.open_blob(packed(tmp_path / "a.tar.zst")) as blob:
        reports = both_ways(blob, in_folder, choose)
    check(reports, *(in_folder(name).read_bytes() for name in ("whole.tar", "batched.tar")))


def test_equal_names_and_hard_links(both_ways, in_folder, tmp_path):
    tar = Tar()
    for number in range(40):
        tar.file("same" if number % 3 else str(number), bytes([number]) * number)
    for number in range(9):
        tar.link(f"link{number}", "0")
    (tmp_path / "a.tar").write_bytes(tar.end().blob)
    with blobpack.open_blob(tmp_path / "a.tar", blobpack.scan(tmp_path / "a.tar")) as blob:
        reports = both_ways(blob, in_folder, CHOICES["all"])
    assert (reports[0].members, reports[0].new_headers) == (49, 9)
    check(reports, *(in_folder(name).read_bytes() for name in ("whole.tar", "batched.tar")))


def test_blobs_of_a_collection_with_different_facts(both_ways, in_folder, tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    packed(folder / "a.tar", IMAGES[:25])
    packed(folder / "b.tar", IMAGES[25:], facts=False)
    with blobpack.open(folder) as blobs:
        reports = both_ways(blobs, in_folder, CHOICES["all"])
    assert reports[0].members == 60
    check(reports, *(in_folder(name).read_bytes() for name in ("whole.tar", "batched.tar")))


def test_from_s3_to_s3(s3_env, bucket, both_ways):
    url = f"s3://{bucket}/"
    packed(url + "a.tar")
    with blobpack.open_blob(url + "a.tar") as blob:
        reports = both_ways(blob, lambda name: url + name, CHOICES["all"])
    check(reports, *(s3_env.stored(bucket, name) for name in ("whole.tar", "batched.tar")))


def test_the_index_outlives_source_and_target_and_can_be_pickled(both_ways, in_folder, tmp_path):
    with blobpack.open_blob(packed(tmp_path / "a.tar")) as blob:
        whole, batched = both_ways(blob, in_folder, CHOICES["all"])
    in_folder("batched.tar").unlink()
    copy = pickle.loads(pickle.dumps(batched)).index
    for index in (batched.index, copy):
        assert index == whole.index
        assert index["059.bin"] == whole.index["059.bin"]
        assert (index.report, index.identity) == (whole.index.report, whole.index.identity)
    with blobpack.open_blob(in_folder("whole.tar"), batched.index) as blob:
        assert blob.read("059.bin") == IMAGES[59][1]


def test_a_temporary_folder_that_is_full_leaves_nothing(monkeypatch, tmp_path):
    source = packed(tmp_path / "a.tar")
    monkeypatch.setattr(copy_members, "ROWS_IN_MEMORY_MAX", 0)
    with open("/dev/full", "r+b", buffering=0) as full:
        monkeypatch.setattr("blobpack.index.stored.scratch.TemporaryFile", lambda **_: full)
        with pytest.raises(blobpack.StorageError) as caught:
            blobpack.subset(source, tmp_path / "o.tar", range(60))
    folder = tempfile.gettempdir()
    assert str(caught.value) == f"{folder}: can't be written: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
