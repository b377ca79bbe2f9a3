"""Facts are the same however they are taken: while packing, from a file, from a store far away."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from tars import DIALECTS, END, GNU, Tar, base256, header, pax
from test_dimensions import encoded, exif, tiff

import blobpack
from blobpack._native import facts as _facts
from blobpack.checksum import crc32c
from blobpack.columns import Columns
from blobpack.stores.local import LocalStore
from blobpack.stores.memory import MemoryStore
from blobpack.tar.facts import FACTS_WINDOW_BYTES, read_facts, take_facts
from blobpack.tar.scan import scan, scan_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from s3server import S3Server

    Row = tuple[str, str | None, int | None, int | None, int | None]

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
MEBIBYTE = 1 << 20


def large_webp() -> bytes:
    """A WebP of over 5 MB, with its EXIF at the very end, as the format wants it."""
    small = encoded("webp_lossless", exif=exif(6))
    place = small.index(b"EXIF")
    filler = b"JUNK" + (5 * MEBIBYTE).to_bytes(4, "little") + bytes(5 * MEBIBYTE)
    body = small[8:place] + filler + small[place:]
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.fixture(scope="module")
def payloads() -> dict[str, bytes]:
    """Member name → payload, in byte order of the names; small ones and ones that go in pieces."""
    jpeg = encoded("jpeg", exif=b"Exif\0\0" + exif(6))
    return {
        "a.svg": SVG,
        "cut.png": encoded("png")[:20],
        "d/large.jpg": jpeg + bytes(9 * MEBIBYTE + 77),
        "d/large.tif": tiff(">", big=False, size=(2500, 2000), orientation=8, pixels=5_000_000),
        "d/large.webp": large_webp(),
        "e.png": encoded("png"),
        "empty.svg": b"",
        "f.bmp": encoded("bmp"),
        "turned.jpg": jpeg,
        "window.jpg": encoded("jpeg").ljust(FACTS_WINDOW_BYTES, b"\0"),
        "window_1.jpg": encoded("jpeg").ljust(FACTS_WINDOW_BYTES + 1, b"\0"),
    }


EXPECTED = {
    "a.svg": ("image/svg+xml", None, None),
    "cut.png": ("image/png", None, None),
    "d/large.jpg": ("image/jpeg", 91, 37),
    "d/large.tif": ("image/tiff", 2000, 2500),
    "d/large.webp": ("image/webp", 91, 37),
    "e.png": ("image/png", 37, 91),
    "empty.svg": ("image/svg+xml", None, None),
    "f.bmp": ("image/bmp", 37, 91),
    "turned.jpg": ("image/jpeg", 91, 37),
    "window.jpg": ("image/jpeg", 37, 91),
    "window_1.jpg": ("image/jpeg", 37, 91),
}


def facts(index: blobpack.Index) -> list[Row]:
    return [
        (member.name, member.media_type, member.width, member.height, member.crc32c)
        for member in index
    ]


def truth(payloads: Mapping[str, bytes]) -> list[Row]:
    """What must be found, wherever the blob is."""
    return [(name, *EXPECTED[name], crc32c(payload)) for name, payload in payloads.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, payloads: dict[str, bytes]) -> Path:
    folder = tmp_path_factory.mktemp("imgs")
    for name, payload in payloads.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(payload)
        os.utime(folder / name, (1, 1_700_000_000))
    return folder


@pytest.fixture(scope="module")
def tar(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tar") / "out.tar"
    blobpack.pack(folder, path)
    return path


class TestPack:
    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_facts_of_files(
        self, folder: Path, payloads: dict[str, bytes], tmp_path: Path, threads: int
    ) -> None:
        report = blobpack.pack(folder, tmp_path / "o.tar", threads=threads)
        assert facts(report.index) == truth(payloads)
        assert {member.mtime for member in report.index} == {None}

    def test_facts_of_payloads(self, payloads: dict[str, bytes], tmp_path: Path) -> None:
        report = blobpack.pack(payloads.items(), tmp_path / "o.tar")
        assert facts(report.index) == truth(payloads)
        assert {member.mtime for member in report.index} == {None}

    def test_mtime_is_what_the_header_says(self, folder: Path, tmp_path: Path) -> None:
        os.utime(folder / "e.png", (1, -5))
        report = blobpack.pack(folder, tmp_path / "o.tar", keep_mtime=True)
        with tarfile.open(tmp_path / "o.tar") as judge:
            assert [member.mtime for member in report.index] == [
                member.mtime or None for member in judge.getmembers()
            ]
        # a time before 1970 does not fit into an octal header
        assert report.index["e.png"].mtime is None
        assert report.index["f.bmp"].mtime == 1_700_000_000

    def test_the_blob_is_the_same_without_them(
        self, folder: Path, tar: Path, tmp_path: Path
    ) -> None:
        report = blobpack.pack(folder, tmp_path / "o.tar", facts=False)
        assert report.index.identity is not None
        archive = report.index.identity.archive_bytes
        assert (tmp_path / "o.tar").read_bytes()[:archive] == tar.read_bytes()[:archive]
        assert dict(report.index._columns.facts()) == {}
        report = blobpack.pack([("a.svg", SVG)], tmp_path / "pairs.tar", facts=False)
        assert report.index["a.svg"].crc32c is None

    def test_what_is_left_out_leaves_no_gap(self, folder: Path, tmp_path: Path) -> None:
        """Rows are those of packed files, not of all."""
        for i in range(0, 300, 2):
            (tmp_path / "in").mkdir(exist_ok=True)
            (tmp_path / "in" / f"{i:03}.svg").write_bytes(b"%d" % i)
            (tmp_path / "in" / f"{i + 1:03}.txt").write_bytes(b"text")
        report = blobpack.pack(tmp_path / "in", tmp_path / "o.tar", threads=3)
        assert [member.crc32c for member in report.index] == [
            crc32c(b"%d" % i) for i in range(0, 300, 2)
        ]

    def test_other_files_have_checksums_too(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_bytes(b"text")
        report = blobpack.pack([tmp_path / "notes.txt"], tmp_path / "o.tar", all_files=True)
        (member,) = report.index
        assert (member.media_type, member.crc32c) == (None, crc32c(b"text"))

    def test_the_command_line_can_go_without(self, folder: Path, tmp_path: Path) -> None:
        from click.testing import CliRunner

        from blobpack.cli.main import main

        done = CliRunner().invoke(
            main, ["pack", "--no-facts", str(folder), str(tmp_path / "o.tar")]
        )
        assert done.exit_code == 0, done.output


class TestScan:
    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_facts_of_a_file(self, tar: Path, payloads: dict[str, bytes], threads: int) -> None:
        index = scan(tar, facts=True, threads=threads)
        assert facts(index) == truth(payloads)
        assert index.report == scan(tar).report

    def test_without_being_asked_there_are_none(self, tar: Path) -> None:
        assert dict(scan(tar)._columns.facts()) == {}

    @pytest.mark.parametrize("threads", [1, 3])
    def test_facts_of_a_store(self, tar: Path, payloads: dict[str, bytes], threads: int) -> None:
        index = scan_store(MemoryStore(tar.read_bytes()), facts=True, threads=threads)
        assert facts(index) == truth(payloads)

    def test_facts_over_s3(self, tar: Path, payloads: dict[str, bytes], s3_env: S3Server) -> None:
        bucket = s3_env.new_bucket()
        s3_env.client.upload_file(str(tar), bucket, "out.tar")
        index = scan(f"s3://{bucket}/out.tar", facts=True)
        assert facts(index) == truth(payloads)

    def test_a_hard_link_has_the_facts_of_its_target(self) -> None:
        blob = Tar().file("a.svg", SVG).link("b.svg", "a.svg").file("c", b"1").end().blob
        index = scan_store(MemoryStore(bytes(blob)), facts=True)
        assert [member.crc32c for member in index] == [crc32c(SVG), crc32c(SVG), crc32c(b"1")]

    def test_any_order_and_any_selection(self, tar: Path, payloads: dict[str, bytes]) -> None:
        import numpy as np

        columns = scan(tar)._columns
        rows = np.array([9, 3, 3, 0, 10, 6])
        with LocalStore(tar) as store:
            index = take_facts(store, blobpack.Index._from_columns(columns.take(rows)))
        expected = truth(payloads)
        assert facts(index) == [expected[row] for row in rows]

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.binary(max_size=3000), max_size=12),
        st.randoms(use_true_random=False),
        st.integers(1, 4),
    )
    def test_any_payloads(self, tmp_path_factory, contents, rng, threads):
        path = tmp_path_factory.mktemp("any") / "o.tar"
        names = [f"{i}.svg" for i in range(len(contents))]
        report = blobpack.pack(
            zip(names, contents, strict=True), path, all_files=True, allow_empty=True
        )
        members = list(report.index)
        rng.shuffle(members)
        with LocalStore(path) as local:
            near = take_facts(local, blobpack.Index(members), threads=threads)
        far = take_facts(MemoryStore(path.read_bytes()), blobpack.Index(members), threads=threads)
        assert facts(near) == facts(far) == facts(blobpack.Index(members))

    def test_progress_is_told(self, tar: Path, payloads: dict[str, bytes]) -> None:
        whole = (len(payloads), sum(map(len, payloads.values())))
        for store in (LocalStore(tar), MemoryStore(tar.read_bytes())):
            calls: list[tuple[int, int]] = []
            take_facts(
                store,
                scan(tar),
                progress=lambda members, size, calls=calls: calls.append((members, size)),
            )
            assert calls[-1] == whole
            store.close()


class TestMtime:
    @pytest.mark.parametrize(
        "dialect", [name for name in sorted(DIALECTS) if name not in ("concatenated", "odd_names")]
    )
    def test_it_is_that_of_the_headers(self, dialect: str) -> None:
        """These all say 0, or what tarfile reads."""
        blob = bytes(DIALECTS[dialect]().blob)
        index = scan_store(MemoryStore(blob), facts=True)
        assert len(index._columns.mtime or ()) == len(index)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("1600000000", 1600000000),
            ("1600000000.75", 1600000000),
            ("-1.25", -2),
            ("-1.00", -1),
            ("-0.5", -1),
            ("99999999999", 99999999999),
            ("", 7),
            ("1e9", 7),
            ("1.2.3", 7),
            ("nan", 7),
            ("-", 7),
            ("99999999999999999999", 7),
        ],
    )
    def test_a_pax_time_rules_in_whole_seconds(self, value: str, seconds: int) -> None:
        blob = pax({"mtime": value}) + header(b"a", put={136: b"%011o\0" % 7}) + END
        assert scan_store(MemoryStore(blob), facts=True)["a"].mtime == (seconds or None)

    @pytest.mark.parametrize(
        ("field", "seconds"),
        [
            (b"14371573000\0", 0o14371573000),
            (base256(1 << 40), 1 << 40),
            (b"\xff" * 11 + b"\xfe", -2),
            (b"\xff" + bytes(11), 0),
            (b"no number\0\0\0", 0),
        ],
    )
    def test_a_header_s_time(self, field: bytes, seconds: int) -> None:
        blob = header(b"a", magic=GNU, put={136: field}) + END
        assert scan_store(MemoryStore(blob), facts=True)["a"].mtime == (seconds or None)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_many_members_and_links_keep_theirs(self, tmp_path: Path, threads: int) -> None:
        """Through growing columns, several walkers, and links that dangle."""
        with tarfile.open(tmp_path / "o.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            for i in range(20_000):
                member = tarfile.TarInfo(f"{i}")
                member.mtime = i + (0.5 if i % 3 else 0)
                member.size = i % 700
                if i % 50 == 7:
                    member.type, member.size = tarfile.LNKTYPE, 0
                    member.linkname = f"{i - 3}" if i % 100 == 7 else "nowhere"
                archive.addfile(member, io.BytesIO(bytes(member.size)))
        index = scan(tmp_path / "o.tar", facts=True, threads=threads)
        assert len(index) == 20_000 - 200
        assert all(member.mtime == (int(member.name) or None) for member in index)


class TestFaults:
    def test_a_blob_that_is_cut_meanwhile_is_said(self, tar: Path, tmp_path: Path) -> None:
        path = tmp_path / "cut.tar"
        path.write_bytes(tar.read_bytes())
        index = scan(path)
        with LocalStore(path) as store:
            os.truncate(path, index["e.png"].offset_start + 3)
            with pytest.raises(blobpack.BlobChangedError, match=r"member 'e\.png': bytes \d+ to"):
                take_facts(store, index)
            _, unreadable = read_facts(store, index._columns)
        assert [index._name_at(fault.row) for fault in unreadable] == [
            "e.png", "empty.svg", "f.bmp", "turned.jpg", "window.jpg", "window_1.jpg",
        ]  # fmt: skip

    @pytest.mark.parametrize("local", [True, False])
    def test_rows_that_are_nowhere_are_named(self, tmp_path: Path, local: bool) -> None:
        path = tmp_path / "blob"
        path.write_bytes(bytes(10_000))
        rows = [(0, 5), (9_999, 10_001), (-5, 3), (7, 2), (5, 5), (1 << 62, 1 << 62), (100, 200)]
        columns = Columns(
            memoryview(b"abcdefg"),
            memoryview(array("q", range(8))),
            memoryview(array("q", [start for start, _ in rows])),
            memoryview(array("q", [end for _, end in rows])),
        )
        with LocalStore(path) if local else MemoryStore(path.read_bytes()) as store:
            (_, _, _, checksums), unreadable = read_facts(store, columns)
        assert [fault.row for fault in unreadable] == [1, 2, 3, 5]
        assert [checksums[row] for row in (0, 4, 6)] == [crc32c(bytes(5)), 0, crc32c(bytes(100))]

    def test_a_read_error_is_named(self, tar: Path, tmp_path: Path) -> None:
        fd = os.open(tmp_path, os.O_RDONLY)  # a folder: it can't be read
        columns = scan(tar)._columns
        try:
            _, faults = _facts.take_facts(
                fd,
                tar.stat().st_size,
                columns.names,
                columns.name_bounds,
                columns.offset_start,
                columns.offset_end,
                images=True,
                threads=2,
            )
        finally:
            os.close(fd)
        assert {os.strerror(error) for _, error in faults} == {"Is a directory"}
        assert [row for row, _ in faults] == [
            row for row in range(len(columns)) if columns.offset_end[row] > columns.offset_start[row]
            or row  # an empty payload shares its window
        ]  # fmt: skip

    def test_columns_that_do_not_fit_are_refused(self) -> None:
        one, two = array("q", [0]), array("q", [0, 0])
        with pytest.raises(ValueError, match="2 ends"):
            _facts.take_facts_within(b"", 0, b"", two, one, two, images=True)
        with pytest.raises(ValueError, match="row 0 is not within the window"):
            _facts.take_facts_within(
                b"12", 5, b"", two, array("q", [5]), array("q", [8]), images=True
            )

    def test_ctrl_c_stops_it(self, tmp_path: Path) -> None:
        with open(tmp_path / "huge", "wb") as file:
            file.truncate(1 << 42)
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from array import array\n"
            "from blobpack.columns import Columns\n"
            "from blobpack.tar.facts import read_facts\n"
            "from blobpack.stores.local import LocalStore\n"
            "views = [memoryview(array('q', values)) for values in ([0, 0], [0], [1 << 42])]\n"
            f"store = LocalStore({str(tmp_path / 'huge')!r})\n"
            "print('reading', flush=True)\n"
            "read_facts(store, Columns(memoryview(b''), *views))\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert b"KeyboardInterrupt" in errors


def test_what_is_shown_has_the_size_that_the_index_says(
    small_images: dict[str, bytes], tmp_path: Path
) -> None:
    blobpack.pack(small_images.items(), tmp_path / "o.tar")
    index = scan(tmp_path / "o.tar", facts=True)
    with blobpack.open_blob(tmp_path / "o.tar", index=index) as blob:
        for member in index:
            height, width, _ = blobpack.read_image(blob, member.name).shape
            assert (member.width, member.height) == (width, height)


def test_a_large_image_of_pillow_s(tmp_path: Path) -> None:
    """Over 4 MB of real pixels, through the pieces of pack and of scan."""
    image = Image.effect_noise((2400, 2000), 90)
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif(6), compress_level=0)
    report = blobpack.pack([("a.png", file.getvalue())], tmp_path / "o.tar")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    again = blobpack.pack([tmp_path / "a.png"], tmp_path / "p.tar").index
    for index in (report.index, again, scan(tmp_path / "o.tar", facts=True)):
        (member,) = index
        assert (member.width, member.height) == (2000, 2400)
        assert member.crc32c == crc32c(file.getvalue())
