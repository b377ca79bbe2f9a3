"""Every dialect, of our making and of real tools, gives the rows that are true and that tarfile sees."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest
from tars import (
    BLOCK,
    DIALECTS,
    END,
    USTAR,
    V7,
    Trapper,
    header,
    need_tool,
    pax,
    rows_of,
    tarfile_rows,
    walk,
    walked_rows,
)

from blobpack import (
    BlobNotFoundError,
    FormatError,
    LeftOutWarning,
    StorageError,
    TruncatedError,
)
from blobpack._native.scan import walk_headers
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan, scan_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tars import Tar

    from blobpack import Index

KINDS = ("hard_links", "dangling_links", "folders", "symbolic_links", "devices", "sparse", "other")
THREADS = (2, 3, 5, 8)


def counts_of(index: Index) -> dict[str, int]:
    assert index.report is not None
    return {kind: count for kind in KINDS if (count := getattr(index.report, kind))}


# Dialects


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Tar:
    return DIALECTS[request.param]()


def test_each_dialect_gives_its_true_rows_and_counts(dialect: Tar, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(dialect.blob)
    index = scan(path, concatenated=dialect.concatenated)
    assert rows_of(index) == dialect.rows
    assert counts_of(index) == dict(dialect.counts)


def test_the_judge_agrees(dialect: Tar) -> None:
    judgement = tarfile_rows(dialect.blob, ignore_zeros=dialect.concatenated)
    assert (judgement == dialect.rows) is dialect.judged


def test_a_store_gives_what_the_file_gives(dialect: Tar, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(dialect.blob)
    from_file = scan(path, concatenated=dialect.concatenated)
    from_store = scan_store(MemoryStore(bytes(dialect.blob)), concatenated=dialect.concatenated)
    assert from_store == from_file
    assert from_store.report == from_file.report


def test_only_the_first_archive_is_read_unless_asked() -> None:
    tar = DIALECTS["concatenated"]()
    assert walked_rows(walk(bytes(tar.blob)).members) == tar.rows[:1]
    assert walked_rows(walk(bytes(tar.blob), concatenated=True).members) == tar.rows


@pytest.mark.parametrize(
    ("dialect", "end_marker"),
    [("ustar", 2), ("blocked", 2), ("lone_zero_block", 1), ("no_end_blocks", 0)],
    indirect=["dialect"],
)
def test_the_report_tells_how_the_archive_ends(dialect: Tar, end_marker: int) -> None:
    report = scan_store(MemoryStore(bytes(dialect.blob))).report
    assert report is not None
    assert report.end_marker == end_marker
    assert report.bytes_scanned == dialect.borders[-1]


def test_what_follows_the_end_is_not_read() -> None:
    tar = DIALECTS["ustar"]()
    rows = walked_rows(walk(bytes(tar.blob) + b"anything at all" * 99).members)
    assert rows == tar.rows


def test_the_last_extended_header_of_a_kind_rules() -> None:
    blob = pax({"path": "first", "size": "9"}) + pax({"path": "second"}) + header(size=0) + END
    assert walked_rows(walk(blob).members) == [("second", 2560, 0)]


@pytest.mark.parametrize("key", ["size", "GNU.sparse.size"])
def test_a_global_size_is_refused(key: str) -> None:
    blob = header() + pax({key: "1024"}, b"g") + header() + END
    with pytest.raises(FormatError, match="global header that sets sizes") as caught:
        walk(blob)
    assert caught.value.offset == BLOCK


@pytest.mark.parametrize("intermediate", [b"x", b"g", b"L", b"K"])
def test_a_pax_size_is_the_members_never_that_of_a_header_between(intermediate: bytes) -> None:
    """See CVE-2025-62518: what lies behind a wrong size would be read as members."""
    hidden = header(b"hidden", 0)
    between = pax({"comment": "c"}, intermediate) if intermediate in b"xg" else None
    between = between or header(b"././@LongLink", 5, intermediate) + b"name\0".ljust(BLOCK, b"\0")
    size = pax({"size": "1024"})
    blob = size + between + header(b"name", 0 if intermediate != b"x" else 1024) + hidden * 2 + END
    assert walked_rows(walk(blob).members) == [("name", len(size) + len(between) + BLOCK, 1024)]


def test_no_blob_there(tmp_path: Path) -> None:
    with pytest.raises(BlobNotFoundError):
        scan(tmp_path / "none.tar")
    with pytest.raises(StorageError, match="not a plain file"):
        scan(tmp_path)


LONG_GROUPS = {
    "pax headers": header(b"x", 0, b"x") * 11_000 + header(b"a", 1),
    "a sparse map": header(b"s", 1, b"S", put={482: b"\1"})
    + (bytes(504) + b"\1" + bytes(7)) * 11_000
    + bytes(BLOCK),
}


@pytest.mark.parametrize("group", LONG_GROUPS)
def test_the_bytes_read_of_a_long_group_grow_with_its_length(group: str) -> None:
    """A group of headers larger than the window is not read anew for each of its blocks."""
    blob = LONG_GROUPS[group] + b"1".ljust(BLOCK, b"\0") + END
    total = 0

    def read(start: int, end: int, stride: int) -> bytes:
        nonlocal total
        total += end - start
        assert total < 8 * len(blob)
        return blob[start:end]

    assert walk_headers(-1, len(blob), "blob", read).position == len(blob) - len(END)


# Real tools

LONG = "long/" + "/".join(["folder" * 5] * 4) + "/" + "name" * 20 + ".jpg"
FILES = {
    "a.jpg": b"a" * 1000,
    "empty": b"",
    "sub/b.jpg": b"b" * 512,
    "sub/deep/c.jpg": bytes(range(256)) * 40,
    "sub/two words": b"2",
    "z.jpg": b"z",
}
LONG_FILES = {LONG: b"long" * 300, "long/" + "n" * 200: b"n", "ünï/cødé 日本.jpg": b"u" * 700}
UTF8 = {**os.environ, "LC_ALL": "C.UTF-8", "TAR_OPTIONS": ""}


def run(*command: str | Path) -> None:
    done = subprocess.run(command, env=UTF8, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def plant(folder: Path, *, long: bool) -> dict[str, bytes]:
    """Make a folder of files, links and a FIFO; every name with a payload → its bytes."""
    files = {**FILES, **(LONG_FILES if long else {})}
    for name, payload in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    (folder / "sub/hard.jpg").hardlink_to(folder / "a.jpg")
    (folder / "soft.jpg").symlink_to("a.jpg")
    (folder / "empty folder").mkdir()
    if long:  # v7 has no FIFOs
        os.mkfifo(folder / "fifo")
    files["sub/hard.jpg"] = files["a.jpg"]
    if long:
        (folder / "long/hard").hardlink_to(folder / LONG)
        files["long/hard"] = files[LONG]
    return files


def payloads_of(path: Path, index: Index) -> dict[str, bytes]:
    blob = path.read_bytes()
    return {m.name.removeprefix("./"): blob[m.offset_start : m.offset_end] for m in index}


@pytest.mark.parametrize(
    ("tool", "format", "long"),
    [
        ("tar", "v7", False),
        ("tar", "oldgnu", True),
        ("tar", "gnu", True),
        ("tar", "ustar", False),
        ("tar", "posix", True),
        ("bsdtar", "v7", False),
        ("bsdtar", "ustar", False),
        ("bsdtar", "pax", True),
        ("bsdtar", "gnutar", True),
        ("busybox", "", True),
    ],
)
def test_tars_of_real_tools(tool: str, format: str, long: bool, tmp_path: Path) -> None:
    files = plant(tmp_path / "tree", long=long)
    path = tmp_path / "a.tar"
    command = [need_tool(tool), *(["tar"] if tool == "busybox" else [])]
    options = [f"--format={format}"] if format else []
    run(*command, *options, "-cf", path, "-C", tmp_path / "tree", ".")
    index = scan(path)

    assert rows_of(index) == tarfile_rows(path)
    assert payloads_of(path, index) == files
    assert counts_of(index)["symbolic_links"] == 1
    assert counts_of(index)["hard_links"] == 1 + long


@pytest.mark.parametrize(
    "format",
    [
        "gnu",
        "oldgnu",
        "posix --sparse-version=0.0",
        "posix --sparse-version=0.1",
        "posix --sparse-version=1.0",
    ],
)
def test_sparse_files_of_gnu_tar_have_no_row(format: str, tmp_path: Path) -> None:
    files = plant(tmp_path / "tree", long=True)
    with (tmp_path / "tree" / "holes").open("wb") as file:
        for i in range(60):  # more regions than a header's map holds
            file.seek(i * 100_000)
            file.write(b"region" * 100)
    path = tmp_path / "a.tar"
    options = f"--format={format} --sparse --hole-detection=raw".split()
    run(need_tool("tar"), *options, "-cf", path, "-C", tmp_path / "tree", ".")
    index = scan(path)

    assert counts_of(index)["sparse"] == 1
    assert payloads_of(path, index) == files
    assert rows_of(index) == tarfile_rows(path)


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_incremental_dumps_and_labels_of_gnu_tar(format: str, tmp_path: Path) -> None:
    files = plant(tmp_path / "tree", long=True)
    path = tmp_path / "a.tar"
    options = [f"--format={format}", "-V", "a label", "-g", tmp_path / "snapshot"]
    run(need_tool("tar"), *options, "-cf", path, "-C", tmp_path / "tree", ".")
    index = scan(path)

    assert payloads_of(path, index) == files
    # tarfile takes GNU's times for a prefix: its names are wrong then, and links find no target
    assert {row[1:] for row in rows_of(index)} == {row[1:] for row in tarfile_rows(path)}


def test_volumes_of_gnu_tar(tmp_path: Path) -> None:
    """A file that goes on in the next volume is cut in one, and has no row in the other."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("1", "2", "3"):
        (tree / name).write_bytes(name.encode() * 9000)
    volumes = [tmp_path / "v1.tar", tmp_path / "v2.tar"]
    into = [option for volume in volumes for option in ("-f", volume)]
    names = ["1", "2", "3"]
    run(need_tool("tar"), "--format=gnu", "-cM", "-L", "20", *into, "-C", tree, *names)

    with pytest.raises(TruncatedError, match="member '3'") as caught:
        scan(volumes[0])
    assert caught.value.offset is not None
    assert caught.value.offset % BLOCK == 0
    second = scan(volumes[1])
    assert counts_of(second) == {"other": 1}
    assert rows_of(second) == tarfile_rows(volumes[1]) == []


def test_appended_and_concatenated_by_gnu_tar(tmp_path: Path) -> None:
    files = plant(tmp_path / "tree", long=True)
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    tar = need_tool("tar")
    run(tar, "-cf", one, "-C", tmp_path / "tree", "./a.jpg")
    run(tar, "-cf", two, "-C", tmp_path / "tree", "./z.jpg")
    run(tar, "-rf", one, "-C", tmp_path / "tree", "./sub/b.jpg")
    with one.open("ab") as file:
        file.write(two.read_bytes())

    with pytest.warns(LeftOutWarning, match="members lie behind the end"):
        assert list(scan(one).names) == ["./a.jpg", "./sub/b.jpg"]
    index = scan(one, concatenated=True)
    assert list(index.names) == ["./a.jpg", "./sub/b.jpg", "./z.jpg"]
    assert payloads_of(one, index) == {
        name: files[name] for name in ("a.jpg", "sub/b.jpg", "z.jpg")
    }


# From several places at once


@pytest.fixture(scope="module")
def trapper() -> Trapper:
    return Trapper(1)


@pytest.fixture(scope="module")
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def outcome(
    fd: int, length: int, *, threads: int, concatenated: bool = False
) -> tuple[object, ...]:
    """Scan, and give all that comes of it in a form that compares."""
    try:
        walk = walk_headers(fd, length, "blob", threads=threads, concatenated=concatenated)
    except FormatError as exc:
        return type(exc), str(exc), exc.offset
    return (*map(bytes, walk.members[:4]), *walk[1:])


def assert_same_with_any_threads(
    fd: int, length: int, *, concatenated: bool = False
) -> tuple[object, ...]:
    alone = outcome(fd, length, threads=1, concatenated=concatenated)
    for threads in THREADS:
        together = outcome(fd, length, threads=threads, concatenated=concatenated)
        assert together[3:] == alone[3:], threads
        assert together == alone, threads
    return alone


def put(fd: int, blob: bytes | bytearray) -> int:
    os.ftruncate(fd, 0)
    os.pwrite(fd, blob, 0)
    return len(blob)


SEEDS = range(200)


@pytest.mark.parametrize("seeds", [SEEDS[i : i + 20] for i in range(0, len(SEEDS), 20)], ids=str)
def test_traps_do_not_change_the_result(seeds: range, trapper: Trapper, fd: int) -> None:
    """Tars as members, stray headers, global headers and groups across borders: all is as from the start."""
    for seed in seeds:
        tar = trapper.tar(seed)
        length = put(fd, tar.blob)
        assert_same_with_any_threads(fd, length)
        walk = walk_headers(fd, length, "blob", threads=random.Random(seed).choice(THREADS))
        assert walked_rows(walk.members) == tar.rows
        assert walk.position == tar.borders[-1]


@pytest.mark.parametrize("seeds", [SEEDS[i : i + 20] for i in range(0, len(SEEDS), 20)], ids=str)
def test_damage_among_traps_is_found_at_the_same_offset(
    seeds: range, trapper: Trapper, fd: int
) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        tar = trapper.tar(seed)
        length = put(fd, tar.blob)
        assert_same_with_any_threads(fd, rng.randrange(2 << 20, length))

        late = [pos for pos in tar.headers if pos > 1 << 20]
        for position in (
            rng.choice(late) + rng.randrange(148),
            rng.randrange(2 << 20, len(tar.blob)),
        ):
            os.pwrite(fd, bytes([tar.blob[position] ^ 0xFF]), position)
            assert_same_with_any_threads(fd, length)
            os.pwrite(fd, tar.blob[position : position + 1], position)


@pytest.mark.parametrize("concatenated", [False, True])
def test_what_lies_behind_the_end_does_not_change_the_result(
    concatenated: bool, trapper: Trapper, fd: int
) -> None:
    for seed in range(1000, 1006):
        tar, more = trapper.tar(seed), trapper.tar(seed + 6)
        length = put(fd, tar.blob + END + more.blob + more.blob[:3_000_000])
        assert_same_with_any_threads(fd, length, concatenated=concatenated)


@pytest.mark.parametrize("magics", [(USTAR, V7), (USTAR, V7, USTAR)])
def test_threads_guess_no_headers_that_have_no_magic(magics: tuple[bytes, ...], fd: int) -> None:
    names = iter(range(1 << 20))
    parts = [header(b"%d" % next(names), magic=magic) for magic in magics for _ in range(7000)]
    length = put(fd, b"".join(parts) + END)
    assert_same_with_any_threads(fd, length)


@pytest.mark.parametrize("over", [-2, -1, 0, 1, 2, 1024])
@pytest.mark.parametrize("marker", [b"", END])
def test_what_several_threads_walk_may_be_as_short_as_two_segments(
    over: int, marker: bytes, fd: int
) -> None:
    """One thread walks windows of 16 KiB, 64 KiB, 256 KiB and 1 MiB first."""
    length = (16 + 64 + 256 + 1024) * 1024 + (2 << 20) + over * BLOCK
    names = range((length - len(marker)) // BLOCK)
    length = put(fd, b"".join(header(b"%d" % i) for i in names) + marker)
    assert_same_with_any_threads(fd, length)
    found = walk_headers(fd, length, "blob", threads=3)
    assert walked_rows(found.members) == [(f"{i}", (i + 1) * BLOCK, 0) for i in names]


def test_two_tars_one_behind_the_other_give_the_rows_of_both(trapper: Trapper, fd: int) -> None:
    tar, more = trapper.tar(2), trapper.tar(3)
    start = len(tar.blob + END)
    length = put(fd, tar.blob + END + more.blob)
    walk = walk_headers(fd, length, "blob", threads=3, concatenated=True)
    files = [(name, start + offset, size) for name, offset, size in more.rows if "link" not in name]
    rows = [row for row in walked_rows(walk.members) if "link" not in row[0]]
    assert rows == [row for row in tar.rows if "link" not in row[0]] + files


def test_a_store_walks_traps_as_a_file_does(trapper: Trapper) -> None:
    for seed in range(2000, 2005):
        tar = trapper.tar(seed)
        assert walked_rows(walk(bytes(tar.blob)).members) == tar.rows


# Ctrl-C

SCAN_FOR_LONG = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
from blobpack.tar.scan import scan
print("ready", flush=True)
while True:
    scan(sys.argv[1], concatenated=True, threads=int(sys.argv[2]))
"""


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "bytes_of_zeros", [1 << 40, 0], ids=["in one long scan", "in a loop of scans"]
)
def test_ctrl_c_stops_a_scan(
    bytes_of_zeros: int, threads: int, trapper: Trapper, tmp_path: Path
) -> None:
    path = tmp_path / "big.tar"
    with path.open("wb") as file:
        file.write(trapper.tar(1).blob)
        if bytes_of_zeros:
            file.truncate(bytes_of_zeros)
    command = [sys.executable, "-c", SCAN_FOR_LONG, str(path), str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=120)
        finally:
            process.kill()
    assert b"KeyboardInterrupt" in complaint


LEAK = """
import re, sys
from pathlib import Path
import blobpack

def private():
    return int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

for _ in range(3):
    blobpack.scan(sys.argv[1], threads=2)
before = private()
for _ in range(40):
    blobpack.scan(sys.argv[1], threads=2)
print(private() - before)
"""


def test_scans_by_several_threads_give_their_memory_back(tmp_path):
    """A window of 1 MiB a thread and scan would be 80 MiB."""
    import blobpack

    payloads = ((f"{i:05d}.svg", bytes(900)) for i in range(40_000))
    blobpack.pack(payloads, tmp_path / "o.tar", index="none", facts=False)
    done = subprocess.run(
        [sys.executable, "-c", LEAK, tmp_path / "o.tar"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20 << 20
