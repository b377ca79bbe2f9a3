"""Indexes that other programs wrote are read, and those that blobpack writes are equal to theirs.

tests/tools/dali, energon and tarindexes let the programs themselves judge.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from click.testing import CliRunner
from foreign_indexes import (
    FOLDER,
    FORMATS,
    SAMPLES,
    TAR,
    WITH_ROWS,
    dali,
    energon,
    kerchunk,
    rows_of,
)

import blobpack
from blobpack.cli.main import main
from blobpack.errors import DuplicateNameError, FormatError, MissingIndexWarning, StorageError
from blobpack.model import ForeignFormat
from blobpack.writing.embed import embed_index

if TYPE_CHECKING:
    from s3server import S3Server

ROWS = rows_of(TAR)
PAYLOADS = {name: TAR.read_bytes()[start:end] for name, (start, end) in ROWS.items()}


def payloads_by(index: Path | str, tar: Path | str = TAR) -> dict[str, bytes]:
    with blobpack.open_blob(tar, index=index) as blob:
        return dict(
            zip(blob.index.names, blob.read_many(list(range(len(blob.index)))), strict=True)
        )


def requests_of(blob: blobpack.Blob) -> int:
    """Return the number of requests, without those that a busy server made necessary."""
    return blob.stats.requests - blob.stats.retried - blob.stats.hedged


def held_by(format: str, payloads: dict[str, bytes] = PAYLOADS) -> dict[str, bytes]:
    """Return what is read back: empty payloads are data in references, which lead to no member."""
    return {name: each for name, each in payloads.items() if each or format != "kerchunk"}


@pytest.fixture
def tar(tmp_path):
    """A copy of the tar of all samples."""
    return Path(shutil.copy(TAR, tmp_path / "samples.tar"))


def test_all_formats_are_here():
    assert set(FORMATS) == set(get_args(ForeignFormat))


@pytest.mark.parametrize("format", SAMPLES)
def test_what_the_program_wrote_is_read(format):
    assert payloads_by(SAMPLES[format]) == PAYLOADS


def test_names_in_the_spelling_of_the_c_locale_are_read():
    assert payloads_by(FOLDER / "dali_c.idx") == PAYLOADS


@pytest.mark.parametrize("format", FORMATS)
def test_what_blobpack_wrote_is_read(format, tar, tmp_path):
    target = tmp_path / "written"
    count = blobpack.write_foreign_index(tar, target, format)
    assert count == len(PAYLOADS)
    assert payloads_by(target, tar) == held_by(format)


@pytest.mark.parametrize("format", ["dali", "hfutils"])
def test_what_blobpack_wrote_has_the_bytes_that_the_program_wrote(format, tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "written", format)
    written = (tmp_path / "written").read_bytes()
    # a blank in a name would end it, so blobpack spells it as GNU tar spells other bytes
    assert written.replace(rb"\040", b" ") == SAMPLES[format].read_bytes()


def test_the_database_of_energon_has_the_rows_that_energon_wrote(tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "written", "energon-sqlite")
    found = []
    for path in (tmp_path / "written", SAMPLES["energon-sqlite"]):
        with closing(sqlite3.connect(path)) as database:
            samples = database.execute("SELECT * FROM samples").fetchall()
            parts = database.execute("SELECT * FROM sample_parts").fetchall()
            schema = database.execute("SELECT type, name FROM sqlite_master").fetchall()
            found.append((samples, parts, sorted(schema)))
    ours, theirs = found
    assert ours[1:] == theirs[1:]
    # ours begins the first sample at the folder before it, which Energon skips
    assert ours[0][0] == (0, "cats/0000", 0, 0, 2560)
    assert ours[0][1:] == theirs[0][1:]


@pytest.mark.parametrize("format", FORMATS)
def test_a_plain_tar_of_many_members(format, tmp_path):
    payloads = {
        f"{i // 50}/{i:04}.{kind}": bytes([i % 256]) * i for i in range(300) for kind in ("a", "b")
    }
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    target = tmp_path / "written"
    assert blobpack.write_foreign_index(tmp_path / "out.tar", target, format) == 600
    assert payloads_by(target, tmp_path / "out.tar") == held_by(format, payloads)


@pytest.mark.parametrize("format", FORMATS)
def test_an_index_of_no_members(format, tmp_path):
    with tarfile.open(tmp_path / "out.tar", "w"):
        pass
    blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "written", format)
    assert payloads_by(tmp_path / "written", tmp_path / "out.tar") == {}


@pytest.mark.parametrize("format", FORMATS)
def test_an_index_put_behind_the_tar_since_then_is_no_change(format, tar, tmp_path):
    index = SAMPLES.get(format, tmp_path / "written")
    if format not in SAMPLES:
        blobpack.write_foreign_index(tar, index, format)
    plain = payloads_by(index, tar)
    (tmp_path / "embedded").mkdir()
    blob = Path(shutil.copy(tar, tmp_path / "embedded" / "samples.tar"))
    embed_index(blob)
    assert payloads_by(index, blob) == plain


def test_versions_of_dali_without_names_take_them_from_the_headers(tmp_path):
    rows = [(name, start, end - start) for name, (start, end) in ROWS.items()]
    (tmp_path / "old.idx").write_bytes(dali(rows, "v1.1"))
    assert payloads_by(tmp_path / "old.idx") == PAYLOADS


def test_a_database_of_energon_without_parts_takes_them_from_the_headers(tmp_path):
    path = Path(shutil.copy(SAMPLES["energon-sqlite"], tmp_path / "index.sqlite"))
    with closing(sqlite3.connect(path)) as database:
        database.executescript("DROP TABLE sample_parts")
    assert payloads_by(path) == PAYLOADS


def test_members_that_the_format_of_samples_can_not_hold_are_left_out(tmp_path):
    payloads = {"a.jpg": b"1", "README": b"2", "b/.hidden.jpg": b"3", "b/c.x y": b"4"}
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    assert blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "dali", "dali") == 1
    assert payloads_by(tmp_path / "dali", tmp_path / "out.tar") == {"a.jpg": b"1"}


@pytest.mark.parametrize("format", ["dali", "hfutils", "ratarmount", "kerchunk", "supervisely"])
def test_odd_names(format, tmp_path):
    names = [
        "a b/c d.jpg",
        "größe\t1.jpg",
        "back\\slash.jpg",
        "./dot.jpg",
        "nl\nx.jpg",
        "x 1 2 y.jpg",
    ]
    with tarfile.open(tmp_path / "out.tar", "w", format=tarfile.PAX_FORMAT) as file:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 100 + number
            file.addfile(info, io.BytesIO(bytes([number]) * info.size))
    blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "written", format)
    found = payloads_by(tmp_path / "written", tmp_path / "out.tar")
    assert list(found.values()) == [bytes([i]) * (100 + i) for i in range(len(names))]
    plain = [name.removeprefix("./") if format == "ratarmount" else name for name in names]
    assert list(found) == plain


def test_names_that_are_not_utf_8(tmp_path):
    with tarfile.open(tmp_path / "out.tar", "w", format=tarfile.GNU_FORMAT) as file:
        info = tarfile.TarInfo("bad\udcff.jpg")
        info.size = 3
        file.addfile(info, io.BytesIO(b"abc"))
    for format in ("dali", "hfutils", "ratarmount", "kerchunk"):
        blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / format, format)
        assert list(payloads_by(tmp_path / format, tmp_path / "out.tar").values()) == [b"abc"]
    # Energon itself can't store such a name, either
    with pytest.raises(FormatError, match=r"out\.tar: the name 'bad\\udcff' is not UTF-8"):
        blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "x", "energon-sqlite")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("format", ["hfutils", "kerchunk", "wids"])
def test_json_that_an_editor_on_windows_has_saved(format, tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "written", format)
    plain = payloads_by(tmp_path / "written", tar)
    text = json.dumps(json.loads((tmp_path / "written").read_bytes()), indent=2)
    (tmp_path / "saved").write_text(text, "utf-8-sig", newline="\r\n")
    assert payloads_by(tmp_path / "saved", tar) == plain


@pytest.mark.parametrize("payloads", [{}, {"a.txt": b""}])
@pytest.mark.parametrize("format", FORMATS)
def test_a_tar_without_bytes(format, payloads, tmp_path):
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True, allow_empty=True, index="none")
    blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "written", format)
    assert payloads_by(tmp_path / "written", tmp_path / "out.tar") == held_by(format, payloads)


@pytest.mark.parametrize("format", FORMATS)
def test_names_that_the_formats_use_themselves(format, tmp_path):
    """Braces are templates of kerchunk, blanks separate words of DALI, and dots end the stems of samples."""
    names = [
        "{{u}}/{{ x }}.jpg",
        "a b/c d.jpg",
        "1 2 3/4 5 6.jpg",
        "back\\slash.jpg",
        "dot.dir/a.b.jpg",
    ]
    payloads = {name: name.encode() for name in names}
    tar = tmp_path / "{{u}} 1.tar"
    blobpack.pack(payloads, tar, all_files=True, index="none")
    blobpack.write_foreign_index(tar, tmp_path / "written", format)
    assert payloads_by(tmp_path / "written", tar) == payloads


def test_a_hard_link_has_the_bytes_of_the_other_member(tmp_path):
    with tarfile.open(tmp_path / "out.tar", "w") as file:
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        file.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        file.addfile(link)
    for format in ("dali", "hfutils", "ratarmount", "kerchunk"):
        assert blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / format, format) == 2
        found = payloads_by(tmp_path / format, tmp_path / "out.tar")
        assert found == {"a.jpg": b"abc", "b.jpg": b"abc"}
    # Energon finds no payload behind the header of a link
    assert blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "x.idx", "energon") == 1


def test_a_concatenated_tar_whose_second_part_is_listed(tmp_path):
    joined = tmp_path / "joined.tar"
    joined.write_bytes(TAR.read_bytes() * 2)
    size = TAR.stat().st_size
    rows = [
        (name, start + size * part, end - start)
        for part in range(2)
        for name, (start, end) in ROWS.items()
    ]
    (tmp_path / "dali").write_bytes(dali(rows))
    with blobpack.open_blob(joined, index=tmp_path / "dali") as blob:
        assert len(blob.index) == 2 * len(ROWS)
        assert blob.read(len(rows) - 2) == list(PAYLOADS.values())[-2]


def test_a_file_of_energon_beside_the_blob_is_no_error(tar):
    """It has the name of blobpack's own index."""
    shutil.copy(SAMPLES["energon"], tar.with_name("samples.tar.idx"))
    with blobpack.open_blob(tar) as blob:
        assert blob.read("cats/0001.json") == PAYLOADS["cats/0001.json"]
    with pytest.raises(StorageError, match="is no index of one blob"):
        blobpack.scan(tar).save(tar.with_name("samples.tar.idx"))


@pytest.mark.parametrize("place", ["local", "s3"])
@pytest.mark.parametrize("beside", ["nothing", "energon"])
def test_the_command_that_a_message_names_makes_an_index_that_is_found(
    place, beside, tar, s3_env: S3Server, monkeypatch
):
    if beside == "energon":
        shutil.copy(SAMPLES["energon"], f"{tar}.idx")
    blob = str(tar)
    if place == "s3":
        bucket = s3_env.new_bucket()
        for path in tar.parent.iterdir():
            s3_env.put(bucket, path.name, path.read_bytes())
        blob = f"s3://{bucket}/samples.tar"
    monkeypatch.chdir(tar.parent)
    runner = CliRunner()
    with pytest.warns(MissingIndexWarning) as caught:
        blobpack.open_blob(blob).close()
    with pytest.raises(StorageError, match="has no index") as refused:
        blobpack.collect([blob], tar.with_name("all.idx"))
    (command,) = re.findall("`blobpack (.*?)`", str(caught[0].message))
    done = runner.invoke(main, command.replace("FILE", "own.idx").split())
    assert done.exit_code == 0, done.output
    if command.endswith("-o FILE"):
        assert "index='FILE'" in str(caught[0].message)
        assert "`" not in str(refused.value)
        blobpack.open_blob(blob, index="own.idx").close()
    else:
        assert f"`blobpack {command}`" in str(refused.value)
        blobpack.open_blob(blob).close()
        blobpack.collect([blob], tar.with_name("all.idx"))
    if beside == "energon" and place == "local":
        assert blobpack.open_blob(tar, index=f"{tar}.idx").index == blobpack.scan(tar)


def test_references_of_many_tars(tar, tmp_path):
    other = Path(shutil.copy(TAR, tmp_path / "other.tar"))
    target = tmp_path / "refs.json"
    found = json.loads(kerchunk([(name, s, e - s) for name, (s, e) in ROWS.items()]))
    refs = {f"one/{key}": value for key, value in found["refs"].items()}
    refs |= {
        f"two/{key}": ["{{place}}/other.tar", *value[1:]] for key, value in found["refs"].items()
    }
    refs["data"], refs["whole"] = "base64:YWJj", ["samples.tar"]
    target.write_text(json.dumps({"version": 1, "templates": {"place": "s3://b"}, "refs": refs}))
    assert set(payloads_by(target, tar)) == {f"one/{name}" for name in ROWS}
    assert payloads_by(target, other) == {f"two/{name}": each for name, each in PAYLOADS.items()}
    # version 0 is the object of references alone
    target.write_text(json.dumps(found["refs"]))
    assert payloads_by(target, tar) == PAYLOADS


def test_the_tar_is_found_among_those_with_its_name(tar, tmp_path):
    rows = [(name, start, end - start) for name, (start, end) in ROWS.items()]
    refs = json.loads(kerchunk(rows, f"{tmp_path}/samples.tar"))["refs"]
    refs |= {f"x/{key}": ["/elsewhere/samples.tar", 512, 1] for key in refs}
    (tmp_path / "refs.json").write_text(json.dumps(refs))
    assert payloads_by(tmp_path / "refs.json", tar) == PAYLOADS


@pytest.mark.parametrize("format", ["energon-sqlite", "wids", "kerchunk"])
def test_one_file_of_many_blobs(format, tmp_path):
    for number in range(3):
        payloads = {f"{number}-{i}.jpg": bytes([number, i]) * 50 for i in range(4)}
        blobpack.pack(payloads, tmp_path / f"{number}.tar", all_files=True)
    target = tmp_path / ".nv-meta" / "index"
    target.parent.mkdir()
    assert blobpack.write_foreign_index(tmp_path, target, format) == 12
    info = {"shard_counts": {f"{number}.tar": 4 for number in range(3)}}
    (target.parent / ".info.json").write_text(json.dumps(info))
    found = payloads_by(target, tmp_path / "1.tar")
    assert found == {f"1-{i}.jpg": bytes([1, i]) * 50 for i in range(4)}


def test_one_index_of_many_blobs_is_refused(tmp_path):
    for number in range(2):
        blobpack.pack({"a.jpg": b"1"}, tmp_path / f"{number}.tar", all_files=True)
    with pytest.raises(ValueError, match="format 'dali' is the index of one blob, and there are 2"):
        blobpack.write_foreign_index(tmp_path, tmp_path / "out.idx", "dali")
    with pytest.raises(DuplicateNameError, match=r"'a' is in .*0\.tar and in .*1\.tar"):
        blobpack.write_foreign_index(tmp_path, tmp_path / "out.sqlite", "energon-sqlite")
    assert not list(tmp_path.glob("out*"))


def test_a_compressed_blob(tmp_path):
    blobpack.pack({"a.jpg": b"abc"}, tmp_path / "out.tar.zst", all_files=True)
    for format in ("dali", "energon", "hfutils", "wids"):
        with pytest.raises(
            FormatError, match=r"out\.tar\.zst: it is compressed, and .* reads plain tars"
        ):
            blobpack.write_foreign_index(tmp_path / "out.tar.zst", tmp_path / "index", format)
    for format in ("ratarmount", "supervisely"):
        blobpack.write_foreign_index(tmp_path / "out.tar.zst", tmp_path / format, format)
        assert payloads_by(tmp_path / format, tmp_path / "out.tar.zst") == {"a.jpg": b"abc"}


def test_another_kind_of_file_is_not_replaced(tar, tmp_path):
    target = tmp_path / "notes.json"
    target.write_text('{"my": {"own": "notes"}}')
    with pytest.raises(StorageError, match="exists and is no index of hfutils"):
        blobpack.write_foreign_index(tar, target, "hfutils")
    with pytest.raises(ValueError, match=r"ends in \.jpg"):
        blobpack.write_foreign_index(tar, tmp_path / "photo.jpg", "hfutils")
    blobpack.write_foreign_index(tar, target, "hfutils", force=True)
    # an older index of the same program is replaced
    blobpack.write_foreign_index(tar, target, "hfutils")


def test_image_reading_and_verify_take_them(tar, tmp_path, small_images):
    images = {f"{i}.jpg": small_images["cats/0001.jpg"] for i in range(3)}
    blobpack.pack(images, tmp_path / "images.tar")
    blobpack.write_foreign_index(tmp_path / "images.tar", tmp_path / "i.json", "hfutils")
    with blobpack.open(tmp_path / "images.tar", index=tmp_path / "i.json") as blob:
        assert blobpack.read_image(blob, "1.jpg").size == (
            blobpack.read_image(tmp_path / "images.tar", "1.jpg").size
        )
    report = blobpack.verify(tmp_path / "images.tar", index=tmp_path / "i.json")
    assert report.ok
    assert report.members == 3


@pytest.mark.parametrize("format", FORMATS)
def test_tar_and_index_in_s3(format, tar, s3_env: S3Server, bucket: str):
    s3_env.put(bucket, "set/samples.tar", TAR.read_bytes())
    url = f"s3://{bucket}/set/samples.tar"
    target = f"s3://{bucket}/set/.nv-meta/index"
    assert blobpack.write_foreign_index(url, target, format) == len(PAYLOADS)
    assert payloads_by(target, url) == held_by(format)
    if format in SAMPLES:
        assert payloads_by(SAMPLES[format], url) == PAYLOADS


@pytest.mark.parametrize("format", WITH_ROWS)
def test_a_remote_tar_is_not_scanned(format, tmp_path, s3_env: S3Server, bucket: str):
    payloads = {f"{i}.jpg": bytes([i]) * 100_000 for i in range(40)}
    blobpack.pack(payloads, tmp_path / "out.tar", index="none", all_files=True)
    blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "index", format)
    s3_env.put(bucket, "out.tar", (tmp_path / "out.tar").read_bytes())
    with blobpack.open_blob(f"s3://{bucket}/out.tar", index=tmp_path / "index") as blob:
        opening = requests_of(blob)
        assert blob.read("17.jpg") == payloads["17.jpg"]
        # the header comes with the payload
        assert requests_of(blob) == opening + 1
        assert opening <= 3
        assert blob.stats.bytes_fetched < 300_000
        names = [f"{i}.jpg" for i in (3, 30, 17, 4)]
        assert list(blob.read_many(names)) == [payloads[name] for name in names]


def test_an_index_of_energon_is_whole_numbers_only(tmp_path):
    (tmp_path / "x.idx").write_bytes(energon([512, 2560, 5120, 8192, 10752, 13824, 14336]))
    assert payloads_by(tmp_path / "x.idx") == PAYLOADS
