"""Foreign indexes that do not fit their tar, are damaged, or were made to do harm: an error, and never wrong bytes."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from foreign_indexes import (
    FILES,
    METADATA,
    SAMPLES,
    TAR,
    WITH_ROWS,
    database,
    energon,
    hfutils,
    kerchunk,
    ratarmount,
    rows_of,
)

import blobpack
from blobpack.errors import BlobpackError, FormatError, StaleIndexError

if TYPE_CHECKING:
    from s3server import S3Server

ROWS = [(name, start, end - start) for name, (start, end) in rows_of(TAR).items()]
CONTENT = TAR.read_bytes()
PAYLOADS = {name: CONTENT[start : start + size] for name, start, size in ROWS}
CATS = [("cats/0000.jpg", 1024, 120), ("cats/0001.jpg", 3072, 640)]
# what a row of "cats/0001.jpg" may wrongly have, and what the error says of it
WRONG = {
    "past the end": (
        (1 << 40, 640),
        r"at bytes 1099511627776 to 1099511628416, and the tar has 20480 bytes",
    ),
    "end past the end": ((3072, 1 << 40), r"and the tar has 20480 bytes"),
    "in the first block": ((0, 640), r"at bytes 0 to 640, where no member can be"),
    "between blocks": ((3073, 640), r"at byte 3073, where no member begins"),
    "at a header": ((2560, 120), r"at byte 2560, where no member begins"),
    "of another size": (
        (3072, 641),
        r"641 bytes for member 'cats/0001.jpg' at byte 3072, which has 640",
    ),
    "overlaps": ((1030, 640), r"at bytes 1030 to 1670, which overlaps another member"),
    "of another member": (
        (5632, 1160),
        r"'cats/0001.jpg' at byte 5632, and the header there names 'cats/0002.jpg'",
    ),
}
HUGE = {
    "negative": (-512, 640),
    "negative size": (3072, -1),
    "past 2⁶³": (1 << 63, 640),
    "end past 2⁶³": (3072, (1 << 63) - 1),
    "a text": ("3072", 640),
    "a fraction": (3072.5, 640),
    "nothing": (None, 640),
}


def refusal(content: bytes, tmp_path: Path, tar: Path = TAR) -> BlobpackError:
    """Return the error of opening a tar by an index, which names the index."""
    path = tmp_path / "index"
    path.write_bytes(content)
    with pytest.raises((FormatError, StaleIndexError)) as caught:
        blobpack.open_blob(tar, index=path).close()
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("format", WITH_ROWS)
def test_a_row_that_does_not_fit_the_tar(format, wrong, tmp_path):
    place, message = WRONG[wrong]
    error = refusal(WITH_ROWS[format]([CATS[0], ("cats/0001.jpg", *place)]), tmp_path)
    assert isinstance(error, StaleIndexError)
    assert re.search(message, str(error)), error
    assert "cats/0001.jpg" in str(error)
    assert f"make it again with `blobpack index --format {format}`" in str(error)


@pytest.mark.parametrize("wrong", HUGE)
@pytest.mark.parametrize("format", WITH_ROWS)
def test_a_number_that_is_none_or_too_large(format, wrong, tmp_path):
    rows = [CATS[0], ("cats/0001.jpg", *HUGE[wrong])]
    try:
        content = WITH_ROWS[format](rows)
    except OverflowError:
        pytest.skip("SQLite holds no such number")
    if (format, wrong) == ("dali", "a text"):
        pytest.skip("all numbers of DALI are text")
    error = refusal(content, tmp_path)
    # DALI's text has no types: what is no number makes the line one that is not understood
    assert "cats/0001.jpg" in str(error) or "line 3" in str(error)


def test_a_line_of_dali_that_is_one_long_word(tmp_path):
    """Its length was squared: a line of a megabyte took an hour and more."""
    error = refusal(b"v1.2 1\n" + b"a" * 1_000_000 + b"\n", tmp_path)
    assert "line 2 is not extension, offset, size and name" in str(error)


def test_a_statement_in_a_database_that_is_not_utf_8(tmp_path):
    content = WITH_ROWS["ratarmount"](CATS).replace(b"CREATE TABLE", b"CREATE TABL\xc5")
    error = refusal(content, tmp_path)
    assert "SQLite can't read it: malformed database schema" in str(error)
    assert r"TABL\xc5" in str(error)


def test_templates_of_kerchunk_that_would_fill_memory(tmp_path):
    text = {
        "version": 1,
        "templates": {"u": "x" * 300_000},
        "refs": {"a": ["{{u}}" * 300_000, 512, 5]},
    }
    error = refusal(json.dumps(text).encode(), tmp_path)
    assert "its templates fill URLs of more than 268,435,456 characters" in str(error)


@pytest.mark.parametrize("format", SAMPLES)
def test_a_tar_that_was_written_again(format, tmp_path):
    """Members were added, removed or exchanged; sizes may be the same."""
    tar = tmp_path / "samples.tar"
    tar.write_bytes(TAR.read_bytes()[:-1024] + bytes(2048))
    with tarfile.open(tar, "a") as file:
        file.addfile(tarfile.TarInfo("new.jpg"))
    path = SAMPLES[format]
    if format in ("dali", "energon-sqlite"):
        # nothing is recorded about the tar, and the old members are where they were
        with blobpack.open_blob(tar, index=path) as blob:
            assert (
                dict(zip(blob.index.names, blob.read_many([*blob.index]), strict=True)) == PAYLOADS
            )
    else:
        with pytest.raises(StaleIndexError, match=r"the tar had|its samples end"):
            blobpack.open_blob(tar, index=path)
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("first.jpg")
        info.size = 700
        file.addfile(info, io.BytesIO(bytes(700)))
        for name, payload in PAYLOADS.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            file.addfile(info, io.BytesIO(payload))
    if format != "wids":  # it has no members, and the tar has the old size
        with pytest.raises(StaleIndexError) as caught:
            blobpack.open_blob(tar, index=path)
        assert str(tar) in str(caught.value)
    with blobpack.open_blob(tar, index=path, stale="rescan") as blob:
        assert blob.read("cats/0001.jpg") == PAYLOADS["cats/0001.jpg"]


@pytest.mark.parametrize("format", SAMPLES)
def test_the_index_of_another_tar(format, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(SAMPLES[format].parent, folder)
    tar = folder / "samples.tar"
    if format == "energon-sqlite":
        tar = tmp_path / "samples.tar"
    blobpack.pack({f"cats/{i:04}.jpg": bytes([i]) * 100 for i in range(9)}, tar, all_files=True)
    with pytest.raises(StaleIndexError) as caught:
        blobpack.open_blob(tar, index=folder / SAMPLES[format].name)
    assert str(tar) in str(caught.value)


@pytest.mark.parametrize("format", SAMPLES)
def test_an_index_that_is_cut_is_an_error_or_right(format, tmp_path):
    content = SAMPLES[format].read_bytes()
    path = tmp_path / "index"
    step = max(1, len(content) // 60)
    for length in [*range(1, len(content), step), len(content) - 1]:
        path.write_bytes(content[:length])
        try:
            with blobpack.open_blob(TAR, index=path) as blob:
                found = dict(zip(blob.index.names, blob.read_many([*blob.index]), strict=True))
        except BlobpackError as exc:
            assert str(path) in str(exc) or str(TAR) in str(exc), exc
        else:
            assert found.items() <= PAYLOADS.items(), length


@pytest.mark.parametrize("format", [*WITH_ROWS, "energon", "wids"])
def test_bytes_that_were_changed_are_an_error_or_right(format, tmp_path):
    content = WITH_ROWS[format](ROWS) if format in WITH_ROWS else SAMPLES[format].read_bytes()
    path = tmp_path / "index"
    chance = random.Random(format)
    for _ in range(120):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 1, 4))):
            changed[chance.randrange(len(changed))] = chance.choice(
                (0, 255, chance.randrange(256), *b'0123456789,{}[]"')
            )
        path.write_bytes(changed)
        try:
            with blobpack.open_blob(TAR, index=path) as blob:
                found = list(zip(blob.index.names, blob.read_many([*blob.index]), strict=True))
        except BlobpackError:
            continue
        for name, payload in found:
            # a name may be a member's with a folder before it, or its last part
            assert payload in [
                each for other, each in PAYLOADS.items() if name.endswith(other.rpartition("/")[2])
            ], (name, bytes(changed))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"not an index",
            "no index of blobpack, nor of DALI, Energon, ratarmount, wids, .*, at byte 0",
        ),
        (b"{", "not well-formed JSON: .* at byte 1"),
        (b'{"files": {"a": {"offset": NaN, "size": 1}}, "filesize": 1}', "it holds NaN"),
        (b'{"files": {}, "filesize": Infinity}', "it holds Infinity"),
        (
            b'{"filesize": %s, "files": {}}' % (b"9" * 5000),
            "not well-formed JSON: Exceeds the limit",
        ),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not well-formed JSON"),
        (b'{"a": "\xff"}', "not well-formed JSON"),
        (b'{"some": {"other": "object"}}', "no index of blobpack, nor of DALI, Energon"),
        (b'{"files": {"a": 1}, "filesize": 20480}', "'a' has no object with offset and size"),
        (b'{"files": {"a": {"offset": true, "size": 1}}, "filesize": 20480}', "offset True"),
        (b'{"files": {}, "filesize": -1}', "the tar' has filesize -1"),
        (b'{"wids_version": 1}', "it has no shardlist"),
        (b'{"wids_version": 1, "shardlist": [1]}', "its shardlist holds 1"),
        (b'{"wids_version": 1, "shardlist": []}', "it names no such tar"),
        (b'{"wids_version": 1, "shardlist": [{"url": "samples.tar"}]}', "nsamples None"),
        (
            b'{"wids_version": 1, "shardlist": [{"url": "samples.tar", "nsamples": 7}]}',
            "has 7 samples, and the tar has 6",
        ),
        (b'{"version": 1, "refs": {}, "gen": [{"key": "x"}]}', "templates of Jinja"),
        (
            b'{"version": 1, "templates": {"y": "z"}, "refs": {"a": ["{{x}}", 1, 2]}}',
            "has the template 'x'",
        ),
        (b'{"a": [1, 2, 3]}', "'a' has the URL 1"),
        (b'{"a": ["b.tar", 1, 2]}', "it names no such tar"),
        (b"v1.2 2\njpg 1024 120 cats/0000.jpg\n", "promises 2 samples, but there are 1"),
        (b"v1.2 99999999999\n", "promises 99999999999 samples, but there are 0"),
        (b"v1.2 1\njpg 1024 120 cats/0000.jpg", "the last line is cut, at byte 33"),
        (b"v1.2 1\njpg 1024\n", "line 2 is not extension, offset, size and name"),
        (b"v1.2 1\njpg 1024 %s a.jpg\n" % (b"9" * 5000), "line 2 has the number '9999"),
        (b"v1.1 1\njpg 1024\n", "line 2 is not extension, offset, size of each file"),
    ],
)
def test_what_is_no_index_says_so(content, message, tmp_path):
    assert re.search(message, str(refusal(content, tmp_path))), message


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([512, 2560], "its samples end at byte 2560, and the archive at 14336"),
        ([512, 1024, 14336], "sample 1 at byte 1024, where no header is"),
        ([512, 2048, 14336], "sample 1 at byte 2048, where no header is"),
        ([512, 13824, 14336, 1 << 40], "its samples end at byte 1099511627776"),
    ],
)
def test_numbers_of_energon_that_fit_no_headers(offsets, message, tmp_path):
    assert message in str(refusal(energon(offsets), tmp_path))


@pytest.mark.parametrize(
    "offsets", [[512, 512, 14336], [2560, 512, 14336], [512, 1000, 14336], [512, 1 << 63]]
)
def test_numbers_that_are_no_index_of_energon(offsets, tmp_path):
    assert "no index of blobpack, nor of" in str(refusal(energon(offsets), tmp_path))


def test_a_view_or_a_computed_column_is_never_read(tmp_path):
    """Both hold SQL that runs as long as its author likes."""
    forever = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT '' path, 'a' name, 1024 \"offset\", i size, 33188 mode, '' linkname, 0 issparse FROM n"
    )
    for made in (
        database(f"CREATE VIEW files AS {forever}"),
        database(FILES.replace("offset,", "offset AS (abs(size)),")),
        database("CREATE VIRTUAL TABLE files USING fts5(path, name, offset, size)"),
    ):
        assert "no index of blobpack, nor of" in str(refusal(made, tmp_path))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (database("CREATE TABLE other (a)"), "no index of blobpack, nor of"),
        (database("CREATE TABLE files (path, name, offset, size)"), "unfinished, or of a version"),
        (database(FILES, "CREATE TABLE parentfolders (a)"), "unfinished"),
        (
            database(FILES, METADATA, metadata=[("backendName", "ZipMountSource")]),
            "no tar: 'ZipMountSource'",
        ),
        (database(FILES, METADATA, metadata=[("tarstats", "{")]), "no st_size"),
        (ratarmount(CATS, tar_bytes=99), "the tar had 99 bytes, and now has 20480"),
        (ratarmount(CATS, tar_bytes="20480"), "st_size '20480'"),
        (b"SQLite format 3\0" + bytes(500), "SQLite can't read it"),
    ],
)
def test_databases_of_other_shapes(made, message, tmp_path):
    assert message in str(refusal(made, tmp_path))


def test_a_database_that_is_not_utf_8(tmp_path):
    made = database(
        FILES, "INSERT INTO files VALUES ('', CAST(x'ff' AS TEXT), 1024, 120, 33188, '', 0)"
    )
    assert "SQLite can't read it" in str(refusal(made, tmp_path))


def test_a_database_of_energon_of_several_tars_needs_their_names(tmp_path):
    path = Path(shutil.copy(SAMPLES["energon-sqlite"], tmp_path / "index"))
    with closing(sqlite3.connect(path)) as file:
        file.execute("INSERT INTO samples VALUES (1, 'other', 0, 0, 512)")
        file.commit()
    content = path.read_bytes()
    assert "it has 2 tars, and there is no .info.json" in str(refusal(content, tmp_path))
    (tmp_path / ".info.json").write_text("[]")
    assert "has no shard_counts" in str(refusal(content, tmp_path))
    (tmp_path / ".info.json").write_text('{"shard_counts": {"a.tar": 1, "b.tar": 2}}')
    assert "it names no such tar" in str(refusal(content, tmp_path))
    (tmp_path / ".info.json").write_text('{"shard_counts": {"a.tar": 1, "samples.tar": 2}}')
    path.write_bytes(content)
    with blobpack.open_blob(TAR, index=path) as blob:
        assert len(blob.index) == 0


def test_two_tars_that_share_a_name(tmp_path):
    refs = {"a": ["x/samples.tar", 1024, 120], "b": ["y/samples.tar", 1024, 120]}
    error = refusal(json.dumps(refs).encode(), tmp_path)
    assert "both 'x/samples.tar' and 'y/samples.tar' may be it" in str(error)


def test_nothing_is_made_beside_a_database(tmp_path):
    """SQLite would make a journal, or files of a write-ahead log."""
    path = Path(shutil.copy(SAMPLES["ratarmount"], tmp_path / "index"))
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode = WAL")
    before = sorted(tmp_path.iterdir()), path.read_bytes()
    blobpack.open_blob(TAR, index=path).close()
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == before


def test_a_pickle_with_one_wrong_row_among_many(tmp_path):
    """Only 16 headers of an offsets file that is found are compared, but all rows of one that is named."""
    payloads = {f"{i:03}.jpg": bytes([i]) * 300 for i in range(100)}
    blobpack.pack(payloads, tmp_path / "out.tar", index="none", all_files=True)
    index = blobpack.scan(tmp_path / "out.tar")
    members = [*index]
    members[51] = blobpack.Member("051.jpg", members[52].offset_start, members[52].offset_end)
    blobpack.write_offsets(blobpack.Index(members), tmp_path / "wrong.pkl")
    with pytest.raises(StaleIndexError, match=r"member '051\.jpg' .* names '052\.jpg'"):
        blobpack.open_blob(tmp_path / "out.tar", index=tmp_path / "wrong.pkl")


class TestRemote:
    """A remote tar is not scanned: the header before each payload is compared when the payload is read."""

    @pytest.fixture
    def payloads(self):
        return {f"{i:03}.jpg": bytes([i]) * (300 + i) for i in range(100)}

    @pytest.fixture
    def url(self, payloads, tmp_path, s3_env: S3Server, bucket: str):
        blobpack.pack(payloads, tmp_path / "out.tar", index="none", all_files=True)
        s3_env.put(bucket, "out.tar", (tmp_path / "out.tar").read_bytes())
        return f"s3://{bucket}/out.tar"

    @pytest.fixture
    def rows(self, tmp_path, url):
        return [
            (name, start, end - start)
            for name, (start, end) in rows_of(tmp_path / "out.tar").items()
        ]

    def opened(self, url: str, rows, tmp_path: Path):
        (tmp_path / "index").write_bytes(kerchunk(rows, "out.tar"))
        return blobpack.open_blob(url, index=tmp_path / "index")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (
                ("051.jpg", 52, 0),
                "at byte .* it has member '051.jpg', and the header there names '052.jpg'",
            ),
            (("051.jpg", 51, 1), "no header before member '051.jpg'"),
            (("051.jpg", 51, -1), "no header before member '051.jpg'"),
            (
                ("other.jpg", 51, 0),
                "it has member 'other.jpg', and the header there names '051.jpg'",
            ),
        ],
    )
    def test_a_wrong_row_is_noticed_when_it_is_read(
        self, wrong, message, url, rows, payloads, tmp_path
    ):
        name, place, more = wrong
        _, start, size = rows[place]
        listed = [*rows[:51], (name, start, size + more), *rows[53:]]
        with self.opened(url, listed, tmp_path) as blob:
            assert blob.read("050.jpg") == payloads["050.jpg"]
            for _ in range(2):
                with pytest.raises(StaleIndexError, match=message):
                    blob.read(name)
            with pytest.raises(StaleIndexError, match=message):
                list(blob.read_many(["001.jpg", name, "099.jpg"]))
            with pytest.raises(StaleIndexError, match=message):
                blob.store.read_range(start + 5, start + 9)
            assert list(blob.read_many(["001.jpg", "099.jpg"])) == [
                payloads["001.jpg"],
                payloads["099.jpg"],
            ]

    def test_an_empty_payload_that_is_not_empty(self, url, rows, tmp_path):
        name, start, _ = rows[51]
        with (
            self.opened(url, [*rows[:51], (name, start, 0), *rows[52:]], tmp_path) as blob,
            pytest.raises(StaleIndexError, match=r"no header before member '051\.jpg'"),
        ):
            blob.read(name)

    def test_a_wrong_first_or_last_row_is_noticed_when_it_is_opened(self, url, rows, tmp_path):
        for place in (0, -1):
            wrong = list(rows)
            wrong[place] = ("wrong.jpg", *rows[place][1:])
            with pytest.raises(StaleIndexError, match=r"wrong\.jpg"):
                self.opened(url, wrong, tmp_path)

    def test_numbers_are_compared_with_each_other_when_it_is_opened(self, url, rows, tmp_path):
        name, start, _ = rows[50]
        for wrong in ((start, 600), (1 << 50, 1)):
            # of two that overlap, the second one is named
            with pytest.raises(StaleIndexError, match=r"member '05[01]\.jpg' at bytes"):
                self.opened(url, [*rows[:50], (name, *wrong), *rows[51:]], tmp_path)

    def test_a_size_that_is_recorded(self, url, rows, tmp_path):
        (tmp_path / "index").write_bytes(hfutils(rows, filesize=1))
        with pytest.raises(StaleIndexError, match="the tar had 1 bytes"):
            blobpack.open_blob(url, index=tmp_path / "index")

    def test_images_and_members_read_through_it(self, url, rows, payloads, tmp_path):
        with self.opened(url, rows, tmp_path) as blob:
            assert dict(zip(payloads, blob.read_many([*payloads]), strict=True)) == payloads
            blobpack.extract(blob, tmp_path / "files")
        assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == payloads
