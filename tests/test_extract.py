"""Files land below the target folder, whole, and nowhere else."""

import io
import os
import tarfile

import pytest

import blobpack


def make_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, payload in files:
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    return path


def extract(tar, folder, members=None):
    with blobpack.open_blob(tar) as blob:
        return blobpack.extract(blob, folder, blob.index.select(*members) if members else None)


def test_members_become_files(tmp_path):
    tar = make_tar(
        tmp_path / "a.tar", [("x/1.jpg", b"one"), ("./y", b"two"), ("x/z/3", b""), ("4", b"4")]
    )
    report = extract(tar, tmp_path / "out")
    assert (report.members, report.payload_bytes) == (4, 7)
    found = {
        str(p.relative_to(tmp_path / "out")): p.read_bytes()
        for p in (tmp_path / "out").rglob("[!.]*")
        if p.is_file()
    }
    assert found == {"x/1.jpg": b"one", "y": b"two", "x/z/3": b"", "4": b"4"}


def test_a_selection_can_be_extracted(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("a.jpg", b"1"), ("b.png", b"2")])
    extract(tar, tmp_path / "out", ["*.png"])
    assert os.listdir(tmp_path / "out") == ["b.png"]


def test_of_equal_names_the_last_wins(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("a", b"first"), ("a", b"last")])
    extract(tar, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"last"


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "a/..", "..", ".", "./", "a/../b"]
)
def test_names_that_lead_outside_are_refused_before_anything_is_written(name, tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("good", b"1")])
    index = blobpack.Index([blobpack.Member("good", 512, 513), blobpack.Member(name, 512, 513)])
    blob = blobpack.open_blob(tar, index=index)
    with blob, pytest.raises(blobpack.UnsafeNameError, match="outside the target folder"):
        blobpack.extract(blob, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


def test_no_way_leads_through_a_link(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("sub/evil", b"1")])
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(blobpack.UnsafeNameError, match=r"'sub/evil'.*through a link"):
        extract(tar, tmp_path / "out")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_link_in_the_files_place_is_replaced_not_written_through(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("f", b"new")])
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "out" / "f").symlink_to(tmp_path / "victim")
    extract(tar, tmp_path / "out")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "f").is_symlink()
    assert (tmp_path / "out" / "f").read_bytes() == b"new"


def test_a_file_in_a_folders_place_is_an_error(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("a", b"1"), ("a/b", b"2")])
    with pytest.raises(
        blobpack.UnsafeNameError, match=r"'a' would be a file .* 'a/b' needs a folder"
    ):
        extract(tar, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_folder_in_the_files_place_stays_and_no_temporary_file_is_left(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("a", b"1")])
    (tmp_path / "out" / "a").mkdir(parents=True)
    with pytest.raises(blobpack.StorageError, match="'a' can't be written"):
        extract(tar, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["a"]


def test_a_blob_cut_meanwhile_leaves_no_cut_file(tmp_path):
    tar = make_tar(tmp_path / "a.tar", [("a", b"1" * 1000), ("b", b"2" * 1000)])
    with blobpack.open_blob(tar) as blob:
        os.truncate(tar, 2048 + 600)
        with pytest.raises(blobpack.BlobChangedError):
            blobpack.extract(blob, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["a"]


def test_ctrl_c_just_behind_a_close_closes_no_descriptor_twice(tmp_path, monkeypatch):
    """By then, another thread may have opened a file that got the number."""
    tar = make_tar(tmp_path / "a.tar", [("x/y/1", b"one"), ("x/z/2", b"two"), ("x/z/w/3", b"")])
    close = os.close
    for number in range(1, 100):
        calls = []

        def closing(fd, number=number, calls=calls):
            close(fd)
            calls.append(fd)
            if len(calls) == number:
                raise KeyboardInterrupt

        monkeypatch.setattr(os, "close", closing)
        try:
            extract(tar, tmp_path / f"out{number}")
        # a second close of the number would be an OSError
        except KeyboardInterrupt:
            continue
        break
    assert 10 < number < 100


def test_a_round_trip_gives_the_same_folder(tmp_path):
    (tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    for i in range(50):
        (tmp_path / "in" / ("deep/er" if i % 3 else "") / f"{i}.bin").write_bytes(
            os.urandom(i * 100)
        )
    blobpack.pack(tmp_path / "in", tmp_path / "a.tar", all_files=True)
    extract(tmp_path / "a.tar", tmp_path / "out")

    def files(folder):
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    assert files(tmp_path / "in") == files(tmp_path / "out")


def test_from_s3_neighbours_come_together(faults, s3, tmp_path):
    payloads = {f"d/{i:04}.bin": b"%d" % i * 300 for i in range(500)}
    blobpack.pack(payloads.items(), tmp_path / "a.tar", all_files=True)
    url = s3.put(s3.new_bucket(), "a.tar", (tmp_path / "a.tar").read_bytes())
    with blobpack.open_blob(url) as blob:
        faults.requests.clear()
        report = blobpack.extract(blob, tmp_path / "out")
        assert report.members == 500
        assert len(faults.requests) < 20
    for name, payload in payloads.items():
        assert (tmp_path / "out" / name).read_bytes() == payload
