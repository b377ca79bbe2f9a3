"""Real damage to real blobs is found and named: members, their bytes, what is wrong; and nothing else is."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from random_blob import pack_random
from tars import BLOCK, END, Tar, header, need_tool, with_checksum

import blobpack
from blobpack import Member
from blobpack.index.index import Index
from blobpack.reading.verify import VerifyReport, verify
from blobpack.stores.memory import MemoryStore
from blobpack.tar import damage_scan
from blobpack.tar.check import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import S3Server

COMMAND = Path(sys.executable).with_name("blobpack")
COUNT = 300


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Index]:
    """A blob of 300 members of 0 to 9,000 bytes, some with pax headers, and its index."""
    rng = random.Random(3)
    folders = [f"d{i % 5}" for i in range(COUNT)]
    sizes = (rng.choice((0, 1, 512, 9000)) for _ in range(COUNT))
    return pack_random(tmp_path_factory.mktemp("packed"), rng, folders, sizes)


@pytest.fixture
def blob(packed: tuple[bytes, Index], tmp_path: Path) -> Path:
    """A copy of the blob, to be damaged."""
    path = tmp_path / "out.tar"
    path.write_bytes(packed[0])
    return path


@pytest.fixture
def bare(blob: Path, index: Index) -> Path:
    """The same blob without the index behind it."""
    os.truncate(blob, index.identity.archive_bytes)
    return blob


@pytest.fixture
def index(packed: tuple[bytes, Index]) -> Index:
    return packed[1]


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def flip(path: Path, place: int) -> None:
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 0x40]))


def found(report: VerifyReport) -> list[tuple[str, str | None]]:
    return [(failure.kind, failure.name) for failure in report.failures]


def large_rows(index: Index, count: int, seed: int = 1) -> list[int]:
    rows = [row for row in range(len(index)) if index._member_at(row).size == 9000]
    return sorted(random.Random(seed).sample(rows, count))


class TestWhole:
    @pytest.mark.parametrize("full", [True, False])
    def test_a_whole_blob_passes(self, blob: Path, index: Index, full: bool) -> None:
        report = verify(blob, index=index, full=full)
        assert report.ok
        assert report.failures == []
        assert (report.members, report.checksums) == (COUNT, full)
        assert report.payload_bytes == (index.payload_bytes if full else 0)
        assert "all is well" in str(report)

    def test_an_opened_blob_will_do(self, blob: Path, index: Index) -> None:
        with blobpack.open_blob(blob, index=index) as opened:
            assert verify(opened).checksums
            assert opened.read(index._name_at(0)) is not None  # still open

    def test_an_index_without_checksums_says_so(self, blob: Path) -> None:
        blobpack.write_offsets(blobpack.scan(blob), blob.with_name("o.pkl"))
        report = verify(blob, index=blob.with_name("o.pkl"))
        assert report.ok
        assert not report.checksums
        assert "the index has no checksums to compare" in str(report)

    def test_hard_links_and_equal_names_pass(self, tmp_path: Path) -> None:
        tar = (
            Tar().file("a", b"1" * 700).link("b", "a").file("a", b"2").file("c", b"").link("d", "a")
        )
        (tmp_path / "t.tar").write_bytes(bytes(tar.end().blob))
        index = blobpack.scan(tmp_path / "t.tar", facts=True)
        assert len(index) == 5
        assert verify(tmp_path / "t.tar", index=index).ok
        flip(tmp_path / "t.tar", index._member_at(0).offset_start)
        assert found(verify(tmp_path / "t.tar", index=index)) == [
            ("checksum", "a"),
            ("checksum", "b"),
        ]

    def test_an_index_in_another_order_passes(self, blob: Path, index: Index) -> None:
        members = list(index)
        random.Random(2).shuffle(members)
        assert verify(blob, index=Index(members)).ok


class TestPayloads:
    @pytest.mark.parametrize("threads", [1, 3])
    def test_every_damaged_payload_is_named_with_its_bytes(
        self, blob: Path, index: Index, threads: int
    ) -> None:
        rows = large_rows(index, 12)
        for i, row in enumerate(rows):
            flip(blob, index._member_at(row).offset_start + (0, 8999, 4000)[i % 3])
        report = verify(blob, index=index, threads=threads)
        members = [index._member_at(row) for row in rows]
        assert [(f.kind, f.name, f.offset_start, f.offset_end) for f in report.failures] == [
            ("checksum", m.name, m.offset_start, m.offset_end) for m in members
        ]
        assert f"the index says {members[0].crc32c:08x}" in str(report.failures[0])
        assert verify(blob, index=index, full=False).ok

    def test_damage_to_padding_is_none_to_a_payload(self, blob: Path, index: Index) -> None:
        flip(blob, index._member_at(large_rows(index, 1)[0]).offset_end)
        assert verify(blob, index=index).ok


class TestHeaders:
    @pytest.mark.parametrize("full", [True, False])
    def test_each_damaged_header_is_named_and_hides_no_other(
        self, blob: Path, index: Index, full: bool
    ) -> None:
        rows = [0, *large_rows(index, 8), COUNT - 1]
        for row in rows:
            flip(blob, index._member_at(row).offset_start - BLOCK + 3)
        payload = next(row for row in large_rows(index, 20, seed=5) if row not in rows)
        flip(blob, index._member_at(payload).offset_start)
        report = verify(blob, index=index, full=full)
        assert found(report) == [
            *(("header", index._name_at(row)) for row in rows),
            *([("checksum", index._name_at(payload))] if full else []),
        ]
        for failure, row in zip(report.failures, rows, strict=False):
            offset = index._member_at(row).offset_start - BLOCK
            assert failure.reason.endswith(f"its checksum is wrong, at byte {offset}")

    def test_a_damaged_pax_header_is_its_member_s(self, blob: Path, index: Index) -> None:
        row = next(row for row in range(7, COUNT) if "é" in index._name_at(row))
        flip(blob, index._member_at(row).offset_start - 3 * BLOCK + 5)
        assert found(verify(blob, index=index)) == [("header", index._name_at(row))]

    def test_zeros_where_headers_were(self, blob: Path, index: Index) -> None:
        """A zero block would end the archive; the index knows better."""
        rows = [large_rows(index, 1)[0], COUNT - 1]
        for row in rows:
            overwrite(blob, index._member_at(row).offset_start - BLOCK, bytes(BLOCK))
        report = verify(blob, index=index)
        assert found(report) == [("header", index._name_at(row)) for row in rows]
        assert "zero blocks instead of a header" in report.failures[0].reason

    @pytest.mark.parametrize("size", [0, 100, 9001, 12_000, 60_000, 10**9])
    def test_a_wrong_size_that_leads_astray(self, blob: Path, index: Index, size: int) -> None:
        """The header is well-formed, so the walk goes where it says; the members behind it are still found."""
        member = index._member_at(large_rows(index, 1)[0])
        place = member.offset_start - BLOCK
        block = bytearray(blob.read_bytes()[place : place + BLOCK])
        block[124:136] = b"%011o\0" % size
        overwrite(blob, place, with_checksum(bytes(block)))
        report = verify(blob, index=index)
        assert [failure.name for failure in report.failures] == [member.name]
        assert report.failures[0].kind in ("differs", "header")

    def test_another_name(self, blob: Path, index: Index) -> None:
        member = index._member_at(large_rows(index, 1)[0])
        place = member.offset_start - BLOCK
        overwrite(blob, place, header(b"other.svg", 9000))
        report = verify(blob, index=index)
        assert found(report) == [("differs", member.name)]
        assert "its header says that this is 'other.svg'" in report.failures[0].reason

    def test_so_much_damage_that_the_rest_is_given_up(
        self, blob: Path, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(damage_scan, "FAULTS_MAX", 10)
        for row in range(COUNT):
            flip(blob, index._member_at(row).offset_start - BLOCK)
        report = verify(blob, index=index, full=False)
        assert found(report)[-1] == ("archive", None)
        assert [kind for kind, _ in found(report)[:-1]] == ["header"] * 10
        assert "over 10 damaged headers" in report.failures[-1].reason


class TestCut:
    def test_cut_anywhere(self, blob: Path, index: Index) -> None:
        """What is behind the cut fails, each member by name, and what is before it does not."""
        whole = blob.read_bytes()
        rng = random.Random(8)
        for length in [0, 1, 511, 512, 700, *(rng.randrange(len(whole)) for _ in range(40))]:
            os.truncate(blob, length) if length else blob.write_bytes(b"")
            report = verify(blob, index=index)
            failed = {failure.name for failure in report.failures}
            for member in index:
                padded = -(-member.offset_end // BLOCK) * BLOCK
                if member.offset_end > length:
                    assert member.name in failed
                elif padded <= length:
                    assert member.name not in failed
            blob.write_bytes(whole)

    def test_the_cut_is_told_with_its_offset(self, blob: Path, index: Index) -> None:
        row = large_rows(index, 1)[0]
        member = index._member_at(row)
        os.truncate(blob, member.offset_start + 100)
        first, *rest = verify(blob, index=index).failures
        assert (first.kind, first.name) == ("header", member.name)
        assert f"the blob ends at byte {member.offset_start + 100}" in first.reason
        assert [failure.kind for failure in rest] == ["missing"] * (COUNT - row - 1)

    def test_without_an_index_a_damaged_blob_is_one_failure(self, bare: Path, index: Index) -> None:
        offset = index._member_at(100).offset_start - BLOCK
        flip(bare, offset)
        report = verify(bare)
        assert [failure.kind for failure in report.failures] == ["archive"]
        assert report.failures[0].offset_start == offset
        os.truncate(bare, 1000)
        assert "at byte" in verify(bare).failures[0].reason

    def test_the_index_inside_names_what_is_damaged_in_its_last_bytes_too(
        self, blob: Path, index: Index
    ) -> None:
        """An index of another state of the blob is not believed, but compared."""
        flip(blob, index._last_end - 1)
        report = verify(blob)
        last = max(index, key=lambda member: member.offset_end)
        assert found(report)[0] == ("archive", None)
        assert {name for _, name in found(report)[1:]} <= {last.name, index._name_at(COUNT - 1)}
        assert len(report.failures) == 2

    def test_a_missing_blob_is_an_error(self, tmp_path: Path, index: Index) -> None:
        with pytest.raises(blobpack.BlobNotFoundError):
            verify(tmp_path / "none.tar")
        with pytest.raises(blobpack.BlobNotFoundError):
            verify(tmp_path / "none.tar", index=index)


class TestOtherMembers:
    def test_members_that_were_appended_are_extra(
        self, blob: Path, index: Index, tmp_path: Path
    ) -> None:
        (tmp_path / "new.svg").write_bytes(b"new")
        subprocess.run([need_tool("tar"), "-rf", blob, "-C", tmp_path, "new.svg"], check=True)
        report = verify(blob, index=index)
        assert found(report) == [("extra", "new.svg")]
        assert "not in the index" in str(report.failures[0])

    def test_members_that_were_deleted_are_missing(self, tmp_path: Path) -> None:
        """GNU tar moves what is behind one, so that it lies elsewhere than the index says."""
        blob = tmp_path / "out.tar"
        for i in range(9):
            (tmp_path / f"{i}.svg").write_bytes(bytes([i]) * 3000)
        names = [f"{i}.svg" for i in range(9)]
        subprocess.run([need_tool("tar"), "-cf", blob, "-C", tmp_path, *names], check=True)
        index = blobpack.scan(blob)
        subprocess.run([need_tool("tar"), "--delete", "-f", blob, "5.svg"], check=True)
        report = verify(blob, index=index, full=False)
        assert found(report) == [
            ("missing", "5.svg"),
            ("differs", "6.svg"),
            ("differs", "7.svg"),
            ("differs", "8.svg"),
        ]

    def test_only_members_beyond_the_end_of_the_blob_are_told_where_it_ends(
        self, tmp_path: Path
    ) -> None:
        """The first member was deleted, the second one moved into its place, and the blob ends behind it."""
        blob = tmp_path / "t.tar"
        blob.write_bytes(bytes(Tar().file("b", b"b" * 512).blob))
        index = Index(
            [Member(name, 1024 * i + 512, 1024 * i + 1024) for i, name in enumerate("abc")]
        )
        report = verify(blob, index=index, full=False)
        assert [(failure.kind, failure.name, failure.reason) for failure in report.failures] == [
            ("missing", "a", "in the index, not in the blob"),
            ("differs", "b", "its header says bytes 512 to 1024"),
            ("missing", "c", "in the index, not in the blob: the blob ends at byte 1024"),
        ]

    def test_another_blob_altogether(self, blob: Path, index: Index, tmp_path: Path) -> None:
        blobpack.pack([(f"x{i}.svg", b"x" * 9000) for i in range(400)], tmp_path / "x.tar")
        report = verify(tmp_path / "x.tar", index=index)
        assert {name for _, name in found(report) if name} >= set(index.names)

    def test_an_index_of_nothing(self, blob: Path) -> None:
        report = verify(blob, index=Index())
        assert [kind for kind, _ in found(report)] == ["extra"] * COUNT


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_found_wherever_it_matters(packed: tuple[bytes, Index], seed: int) -> None:
    """Bytes of headers and payloads are all covered; whatever is overwritten, no untouched member fails."""
    whole, index = packed
    rng = random.Random(seed)
    damaged = bytearray(whole)
    touched = []
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(index._last_end)
        length = rng.choice((1, 4, 700, 3000))
        damaged[place : place + length] = rng.choice(
            (bytes(length), rng.randbytes(length), whole[:length])
        )[: len(damaged) - place]
        touched.append((place, place + length))
    del damaged[len(whole) :]
    report = verify(blobpack.Blob(MemoryStore(bytes(damaged)), index))
    failed = {failure.name for failure in report.failures}
    start = 0
    for member in index:
        header_start = member.offset_start - BLOCK
        what_counts = (
            slice(header_start, header_start + 154),  # of the checksum's two last bytes, no reader
            slice(header_start + 156, member.offset_end),
        )
        end = -(-member.offset_end // BLOCK) * BLOCK
        if any(damaged[part] != whole[part] for part in what_counts):
            assert member.name in failed
        elif damaged[start:end] == whole[start:end]:
            assert member.name not in failed
        start = end
    assert report.ok or damaged[: index._last_end] != whole[: index._last_end]


def damaged_lookups(content: bytes, index: Index) -> Iterator[tuple[str, bytes]]:
    """Damage the last page of the lookup of an index at the end of a blob or file; or its guide."""
    footer = index._stored.footer
    begin = len(content) - footer.region_bytes
    places = {"a page of its lookup": footer.lookup + 4096 * footer.lookup_pages - 2000}
    if footer.guide_bytes:
        places["its guide"] = footer.guide + 10
    for what, place in places.items():
        damaged = bytearray(content)
        damaged[begin + place] ^= 1
        yield what, bytes(damaged)


@pytest.mark.parametrize("full", [True, False])
def test_damage_to_the_lookup_of_an_index(blob: Path, s3_env: S3Server, full: bool) -> None:
    """Members are read by their rows, and reads by name fail."""
    with blobpack.open_blob(blob) as opened:
        cases = list(damaged_lookups(blob.read_bytes(), opened.index))
    bucket = s3_env.new_bucket()
    for number, (what, damaged) in enumerate(cases):
        blob.write_bytes(damaged)
        for url in (blob, s3_env.put(bucket, f"{number}.tar", damaged)):
            (failure,) = verify(url, full=full).failures
            assert failure.kind == "archive"
            assert re.search(
                f"the index is damaged: {what} at byte {failure.offset_start} does not",
                failure.reason,
            )


def test_damage_to_the_lookup_of_a_collection(blob: Path) -> None:
    target = blob.with_name("all.idx")
    blobpack.collect([blob], target)
    with blobpack.open_collection(target) as opened:
        (_, damaged), *_ = damaged_lookups(target.read_bytes(), opened.index)
    target.write_bytes(damaged)
    with pytest.raises(blobpack.FormatError, match="a page of its lookup"):
        verify(target)


def test_over_s3(blob: Path, index: Index, s3_env: S3Server) -> None:
    rows = large_rows(index, 3)
    flip(blob, index._member_at(rows[0]).offset_start)
    flip(blob, index._member_at(rows[1]).offset_start - BLOCK)
    flip(blob, index._member_at(rows[2]).offset_end - 1)
    bucket = s3_env.new_bucket()
    s3_env.client.upload_file(str(blob), bucket, "out.tar")
    report = verify(f"s3://{bucket}/out.tar", index=index)
    assert found(report) == [
        ("header", index._name_at(rows[1])),
        ("checksum", index._name_at(rows[0])),
        ("checksum", index._name_at(rows[2])),
    ]


def test_progress_is_told(blob: Path, index: Index) -> None:
    calls: list[blobpack.Progress] = []
    verify(blob, index=index, progress=calls.append)
    assert calls[-1] == (COUNT, index.payload_bytes, COUNT, index.payload_bytes)


class TestCommand:
    def run(self, *arguments: object, code: int) -> str:
        done = subprocess.run(
            [COMMAND, "verify", *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def test_a_whole_blob_is_one_line_and_exit_0(self, blob: Path) -> None:
        lines = self.run(blob, code=0).splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"{blob}: {COUNT} members, structure")
        assert self.run(blob, "--fast", code=0).count("\n") == 1

    def test_each_failure_is_a_line_and_exit_1(self, blob: Path, index: Index) -> None:
        blobpack.write_offsets(index, blob.with_name("o.pkl"))
        row = large_rows(index, 1)[0]
        member = index._member_at(row)
        flip(blob, member.offset_start - BLOCK)
        out = self.run(blob, "--index-file", blob.with_name("o.pkl"), code=1)
        assert out.splitlines()[0].startswith(
            f"{member.name}: bytes {member.offset_start} to {member.offset_end}: no tar header here"
        )
        assert out.splitlines()[-1].endswith(": 1 failure")

    def test_json(self, blob: Path, index: Index) -> None:
        blobpack.write_offsets(index, blob.with_name("o.pkl"))
        flip(blob, index._member_at(5).offset_start - BLOCK)
        report = json.loads(
            self.run(blob, "--index-file", blob.with_name("o.pkl"), "--json", code=1)
        )
        assert (report["ok"], report["members"], report["checksums"]) == (False, COUNT, False)
        assert report["failures"][0]["name"] == index._name_at(5)
        assert json.loads(self.run(blob.with_name("o.pkl"), "--json", code=1))["ok"] is False

    def test_a_damaged_blob_without_an_index(self, blob: Path) -> None:
        os.truncate(blob, 5000)
        assert "at byte" in self.run(blob, code=1)

    def test_a_missing_blob_is_one_line_on_stderr(self, tmp_path: Path) -> None:
        assert self.run(tmp_path / "none.tar", code=1) == ""


def test_failures_read_well() -> None:
    failure = Failure("missing", "a.png", 512, 600, "in the index, not in the blob")
    assert str(failure) == "a.png: bytes 512 to 600: in the index, not in the blob"
    assert str(Failure("archive", None, 3, None, "cut")) == "the archive: cut"


def test_an_archive_without_an_end_marker_passes(
    tmp_path: Path, packed: tuple[bytes, Index]
) -> None:
    """Tar tools accept it, and nothing is missing."""
    whole, index = packed
    (tmp_path / "o.tar").write_bytes(whole.removesuffix(END))
    assert verify(tmp_path / "o.tar", index=index).ok
