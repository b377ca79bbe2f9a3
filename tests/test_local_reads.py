"""Reads of a local blob: out of a map, in batches, into one buffer; and files that change under them."""

from __future__ import annotations

import mmap
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tars import Tar

import blobpack
from blobpack import Index, StorageError
from blobpack._native.local_reads import LocalFile
from blobpack.errors import BlobChangedError, MemberNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack import Blob

MEMBERS = 400
DEADLINE_S = 120.0
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only")


def payload(number: int) -> bytes:
    """Return bytes without a zero, so that every page of the blob can be copied out of the map."""
    rng = random.Random(number)
    return bytes(rng.choices(range(1, 256), k=rng.randrange(3000, 6000)))


@pytest.fixture(scope="module")
def payloads() -> dict[str, bytes]:
    return {f"d/{i:04d}.bin": payload(i) for i in range(MEMBERS)}


@pytest.fixture
def path(tmp_path: Path, payloads: dict[str, bytes]) -> Path:
    blobpack.pack(payloads.items(), tmp_path / "o.tar", all_files=True)
    return tmp_path / "o.tar"


@pytest.fixture(params=["index inside", "index in memory"])
def blob(path: Path, request: pytest.FixtureRequest) -> Iterator[Blob]:
    index = Index(list(blobpack.scan(path))) if request.param == "index in memory" else None
    with blobpack.open_blob(path, index) as opened:
        yield opened


def read_until_mapped(blob: Blob) -> None:
    """Read until the blob is mapped: on a busy machine, some reads seem to wait for a disk."""
    file = blob.store.native_file
    assert file is not None
    end = time.monotonic() + DEADLINE_S
    while not file.is_mapped:
        blob.read(blob.index[0].name)
        assert time.monotonic() < end


def maps_of(path: Path) -> int:
    """Return how often a file is mapped whole by this process."""
    size = -(-path.stat().st_size // mmap.PAGESIZE) * mmap.PAGESIZE
    count = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, *_ = line.split()
        first, last = (int(bound, 16) for bound in bounds.split("-"))
        count += line.rstrip().endswith(os.fspath(path)) and last - first == size
    return count


def run(
    code: str, *arguments: object, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which may crash."""
    return subprocess.run(
        [sys.executable, *flags, "-c", PRELUDE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


PRELUDE = """
import faulthandler, mmap, os, signal, sys, threading, time
import blobpack

def read_until_mapped(blob):
    while not blob.store.native_file.is_mapped:
        blob.read(0)

def read_for_a_while(blob):
    # until the guard has looked at the handlers again
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        read_until_mapped(blob)
        blob.read(0)

def fault(path):
    # a fault that is not ours
    with open(path, "w+b") as file:
        file.truncate(1 << 16)
        seen = mmap.mmap(file.fileno(), 0)
        file.truncate(0)
        seen[5000]
"""


# Reads


def test_a_blob_that_is_read_often_is_mapped_and_read_right(
    blob: Blob, path: Path, payloads: dict[str, bytes]
) -> None:
    assert blob.store.native_file is not None
    assert not blob.store.native_file.is_mapped
    assert maps_of(path) == 0
    for _ in range(3):
        for row, (name, expected) in enumerate(payloads.items()):
            assert blob.read(name) == expected
            assert blob.read(row) == expected
            assert blob.read(row - MEMBERS) == expected
            assert blob.read(blob.index[row]) == expected
            assert blob.read(np.int64(row)) == expected
        read_until_mapped(blob)
    assert maps_of(path) == 1


@pytest.mark.parametrize("stored", [True, False], ids=["index file", "index in memory"])
def test_members_are_read_natively_if_they_are_the_index_s(tmp_path: Path, stored: bool) -> None:
    """A Member of another version of the blob is not found; the first of two members of one name is."""
    tar = tmp_path / "t.tar"
    two = Tar().file("a", b"1" * 700).file("b", b"2" * 700).file("a", b"3" * 900).end()
    tar.write_bytes(bytes(two.blob))
    index = blobpack.scan(tar, facts=True)
    members = list(index)
    if stored:
        index.save(tmp_path / "t.idx")
    with blobpack.open_blob(tar, tmp_path / "t.idx" if stored else index) as blob:
        blob.read(members[1])
        reads = blob._reads
        assert reads is not None
        assert reads.read(members[1]) == b"2" * 700
        assert reads.read(members[0]) is None
        assert [blob.read(member) for member in members] == [b"1" * 700, b"2" * 700, b"3" * 900]
        assert list(blob.read_many([members[0], members[1], "b", 2])) == [
            b"1" * 700, b"2" * 700, b"2" * 700, b"3" * 900
        ]  # fmt: skip
        b = members[1]
        unknown = blobpack.Member("b", b.offset_start, b.offset_end)
        assert reads.read(unknown) == blob.read(unknown) == b"2" * 700
        for other in (
            blobpack.Member("b", b.offset_start, b.offset_end - 1, crc32c=b.crc32c),
            blobpack.Member("b", b.offset_start - 1, b.offset_end, crc32c=b.crc32c),
            blobpack.Member("b", b.offset_start, b.offset_end, crc32c=(b.crc32c or 0) ^ 1),
            blobpack.Member("c", b.offset_start, b.offset_end, crc32c=b.crc32c),
        ):
            assert reads.read(other) is None
            with pytest.raises(MemberNotFoundError):
                blob.read(other)


def test_wrong_names_and_rows_are_the_errors_that_they_were(blob: Blob) -> None:
    for _ in range(2):
        for wrong in ("d/9999.bin", "x\udcff", ""):
            with pytest.raises(MemberNotFoundError, match=r"o\.tar: no member"):
                blob.read(wrong)
        for row in (MEMBERS, -MEMBERS - 1, 1 << 80, -(1 << 80)):
            with pytest.raises(IndexError, match="no row"):
                blob.read(row)
        for other in (True, 1.0, None, b"d/0000.bin"):
            with pytest.raises(TypeError):
                blob.read(other)  # type: ignore[arg-type]
        read_until_mapped(blob)


def test_payloads_that_end_in_zeros_and_large_ones_are_read_right(tmp_path: Path) -> None:
    """A copy out of the map can't tell such zeros from those behind a cut."""
    rng = random.Random(1)
    payloads = {
        "zeros": bytes(9000),
        "half": b"x" * 4500 + bytes(4500),
        "empty": b"",
        "one": b"\0",
        "border": b"y" * 65536,
        "larger": b"z" * 65537,
        "large": rng.randbytes(3 << 20),
    } | {f"{i}": rng.randbytes(i) for i in range(1, 200, 7)}
    blobpack.pack(payloads.items(), tmp_path / "o.tar", all_files=True)
    with blobpack.open_blob(tmp_path / "o.tar") as blob:
        for _ in range(20):
            read_until_mapped(blob)
            assert {name: blob.read(name) for name in payloads} == payloads
        assert dict(zip(payloads, blob.read_many(payloads), strict=True)) == payloads
        packed, bounds = blob.read_packed(payloads)
        assert packed == b"".join(payloads.values())
        assert bounds.tolist() == np.cumsum([0, *map(len, payloads.values())]).tolist()


def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    names = ["plain", "größe", "not\udcff"]
    blobpack.pack(
        [(name, name.encode(errors="surrogateescape")) for name in names],
        tmp_path / "o.tar",
        all_files=True,
    )
    with blobpack.open_blob(tmp_path / "o.tar") as blob:
        for _ in range(30):
            for name in names:
                assert blob.read(name) == name.encode(errors="surrogateescape")
        assert list(blob.read_many(names)) == [
            name.encode(errors="surrogateescape") for name in names
        ]


def test_threads_read_right_bytes(blob: Blob, payloads: dict[str, bytes]) -> None:
    names = list(payloads)
    wrong: list[str] = []

    def read(seed: int) -> None:
        for name in random.Random(seed).choices(names, k=1000):
            if blob.read(name) != payloads[name]:
                wrong.append(name)
        many = random.Random(-seed).choices(names, k=1000)
        wrong.extend(
            name
            for name, found in zip(many, blob.read_many(many), strict=True)
            if found != payloads[name]
        )

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_process_with_little_address_space_maps_no_blob(path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 36, 1 << 36))
blob = blobpack.open_blob(sys.argv[1])
payloads = [blob.read(row % len(blob)) for row in range(2000)]
assert payloads[:400] == payloads[400:800]
assert not blob.store.native_file.is_mapped
"""
    done = run(code, path)
    assert done.returncode == 0, done.stderr


# Batches


def test_read_many_is_in_the_order_asked(blob: Blob, payloads: dict[str, bytes]) -> None:
    names = random.Random(2).choices(list(payloads), k=3000)
    assert list(blob.read_many(names)) == [payloads[name] for name in names]
    rows = [blob.index.row_of(name) for name in names]
    assert list(blob.read_many(rows)) == [payloads[name] for name in names]
    assert list(blob.read_rows(np.array(rows))) == [payloads[name] for name in names]
    mixed = [name if i % 3 else blob.index[name] for i, name in enumerate(names)]
    assert list(blob.read_many(mixed)) == [payloads[name] for name in names]
    assert list(blob.read_many([])) == []
    assert list(blob.read_many(blob.index.select("*9.bin"))) == [
        found for name, found in payloads.items() if name.endswith("9.bin")
    ]
    assert list(blob.values()) == list(payloads.values())


@pytest.mark.parametrize("bad", [0, 1, 5, 30, 299])
def test_members_before_one_that_is_missing_come_first(
    blob: Blob, payloads: dict[str, bytes], bad: int
) -> None:
    names = list(payloads)[:300]
    names[bad] = "missing"
    for _ in range(2):
        found = []
        with pytest.raises(MemberNotFoundError, match="missing"):
            for one in blob.read_many(names):
                found.append(one)
        assert found == [payloads[name] for name in names[:bad]]
        with pytest.raises(MemberNotFoundError, match="missing"):
            blob.read_packed(names)


def test_an_error_of_the_callers_iterator_comes_behind_its_names(blob: Blob) -> None:
    def names() -> Iterator[str]:
        yield from blob.index.names[:9]
        raise RuntimeError("of the caller")

    found = []
    with pytest.raises(RuntimeError, match="of the caller"):
        for one in blob.read_many(names()):
            found.append(one)
    assert len(found) == 9


def test_the_first_member_is_read_before_others_are_asked_for(blob: Blob) -> None:
    asked = []

    def names() -> Iterator[str]:
        for name in blob.index.names:
            asked.append(name)
            yield name

    next(blob.read_many(names()))
    assert len(asked) == 1


def test_members_of_many_megabytes_are_read_by_threads(tmp_path: Path) -> None:
    rng = random.Random(3)
    payloads = {f"{i}": rng.randbytes(1 << 20) for i in range(40)}
    blobpack.pack(payloads.items(), tmp_path / "o.tar", all_files=True)
    with blobpack.open_blob(tmp_path / "o.tar") as blob:
        for _ in range(2):
            assert list(blob.read_many(payloads)) == list(payloads.values())
            assert blob.read_packed(payloads)[0] == b"".join(payloads.values())


@pytest.mark.parametrize("kind", ["blob", "collection", "zst"])
def test_read_packed_puts_payloads_one_behind_the_other(
    kind: str, path: Path, payloads: dict[str, bytes]
) -> None:
    place = path
    if kind == "collection":
        blobpack.collect([path], path.with_name("all.idx"))
        place = path.with_name("all.idx")
    elif kind == "zst":
        place = path.with_name("o.tar.zst")
        blobpack.repack(path, place, all_files=True)
    names = random.Random(4).choices(list(payloads), k=500)
    with blobpack.open(place) as reader:
        for asked in (
            names,
            [reader.index.row_of(name) for name in names],
            [reader.index[name] for name in names],
        ):
            packed, bounds = reader.read_packed(asked)
            assert bounds.dtype == np.int64
            assert bounds.shape == (501,)
            assert [packed[bounds[i] : bounds[i + 1]] for i in range(500)] == [
                payloads[name] for name in names
            ]
        packed, bounds = reader.read_packed([])
        assert packed == b""
        assert bounds.tolist() == [0]
        with pytest.raises(TypeError, match="several"):
            reader.read_packed(names[0])


# Changes of the file


def test_a_closed_blob_is_unmapped_and_read_no_more(blob: Blob, path: Path) -> None:
    read_until_mapped(blob)
    assert maps_of(path) == 1
    begun = blob.read_many(blob.index.names)
    next(begun)
    blob.close()
    assert maps_of(path) == 0
    for read in (
        lambda: blob.read(0),
        lambda: blob.read("d/0000.bin"),
        lambda: next(begun),
        lambda: blob.read_packed([0]),
    ):
        with pytest.raises(StorageError, match="closed"):
            read()


def test_an_index_that_is_closed_finds_no_more(path: Path) -> None:
    with blobpack.open_blob(path) as blob:
        read_until_mapped(blob)
        blob.index.close()
        for which in (0, "d/0000.bin"):
            with pytest.raises(StorageError, match="closed"):
                blob.read(which)


def test_a_file_that_was_replaced_is_still_read(
    blob: Blob, path: Path, payloads: dict[str, bytes]
) -> None:
    read_until_mapped(blob)
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.replace(path)
    assert list(blob.read_many(payloads)) == list(payloads.values())
    assert [blob.read(name) for name in payloads] == list(payloads.values())


def test_members_that_are_appended_change_nothing_for_who_reads(
    blob: Blob, path: Path, payloads: dict[str, bytes]
) -> None:
    read_until_mapped(blob)
    for round_ in range(3):
        blobpack.append(
            path, [(f"new/{round_}/{i}", b"n" * 5000) for i in range(50)], all_files=True
        )
        assert [blob.read(name) for name in payloads] == list(payloads.values())
        assert [blob.read(row) for row in range(MEMBERS)] == list(payloads.values())
        assert list(blob.read_many(payloads)) == list(payloads.values())
        with pytest.raises(MemberNotFoundError):
            blob.read("new/0/0")
        with pytest.raises(IndexError):
            blob.read(MEMBERS)
    with blobpack.open_blob(path) as again:
        assert again.read("new/2/49") == b"n" * 5000


CUT_UNDER_READERS = """
import random
path, place, setting, kind = sys.argv[1:]
if setting == "before":
    faulthandler.enable()
given = blobpack.Index(list(blobpack.scan(path))) if kind == "memory" else None
blob = blobpack.open_blob(path, given)
names = list(blob.index.names)
right = [blob.read(name) for name in names]
ends = [member.offset_end for member in blob.index]
read_until_mapped(blob)
if setting == "after":
    faulthandler.enable()
    read_for_a_while(blob)
left = int(float(place) * blob.index[-1].offset_end) | 7
cut = threading.Event()
wrong, refused = [], []

def read(seed):
    rng = random.Random(seed)
    late = 0
    while late < 400:
        late += cut.is_set()
        row = rng.randrange(len(names))
        how = rng.randrange(3)
        try:
            found = blob.read(names[row]) if how == 0 else blob.read(row) if how == 1 else (
                blob.read_packed([row, names[row]])[0][: len(right[row])]
            )
        except blobpack.BlobChangedError as exc:
            refused.append(str(exc))
            continue
        if found != right[row] or (late > 1 and ends[row] > left):
            wrong.append(row)

threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
os.truncate(path, left)
cut.set()
for thread in threads:
    thread.join()
assert not wrong, wrong
assert refused
assert all(f"cut to {left} bytes" in text and path in text and "can't be read" in text for text in refused), refused[0]
if os.fork() == 0:
    try:
        blob.read(names[-1])
    except blobpack.BlobChangedError:
        os._exit(0)
    os._exit(1)
assert os.wait()[1] == 0
print("ok")
"""


@pytest.mark.parametrize("kind", ["inside", "memory"])
@pytest.mark.parametrize("setting", ["before", "after", "never"])
@pytest.mark.parametrize("place", ["0", "0.3", "0.9"])
def test_a_file_that_is_cut_under_readers_is_an_error_and_no_crash(
    path: Path, place: str, setting: str, kind: str
) -> None:
    done = run(CUT_UNDER_READERS, path, place, setting, kind)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_an_index_file_that_is_cut_under_readers_is_an_error_and_no_crash(
    path: Path, tmp_path: Path
) -> None:
    blobpack.scan(path).save(tmp_path / "o.idx")
    code = """
blob = blobpack.open_blob(sys.argv[1], sys.argv[2])
names = list(blob.index.names)
right = [blob.read(name) for name in names]
read_until_mapped(blob)
cut = threading.Event()
faults = []

def read():
    late = 0
    while late < 300:
        late += cut.is_set()
        for row in (0, len(names) - 1):
            for look in (
                lambda: blob.read(names[row]) == right[row],
                lambda: blob.read(row) == right[row],
                lambda: blob.index._search([names[row]]) != [None],
                lambda: blob.index.range_of(row),
            ):
                try:
                    if not look():
                        faults.append(row)
                except blobpack.BlobChangedError as exc:
                    if "was cut" not in str(exc):
                        faults.append(exc)

threads = [threading.Thread(target=read) for _ in range(3)]
for thread in threads:
    thread.start()
os.truncate(sys.argv[2], 100)
cut.set()
for thread in threads:
    thread.join()
assert not faults, faults
"""
    done = run(code, path, tmp_path / "o.idx")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_error_names_blob_member_and_bytes(blob: Blob, path: Path) -> None:
    member = blob.index["d/0399.bin"]
    start, end = member.offset_start, member.offset_end
    read_until_mapped(blob)
    os.truncate(path, 5000)
    in_memory = blob.index._stored is None
    place = f"can't read bytes {start} to {end}: " if in_memory else ""
    for which, called in (("d/0399.bin", "d/0399.bin"), (399, "row 399"), (member, "d/0399.bin")):
        text = rf"o\.tar: {place}the file was cut to 5000 bytes; it.*; so {re.escape(called)} can't be read"
        with pytest.raises(BlobChangedError, match=text):
            blob.read(which)


def test_bytes_that_were_there_are_read_from_a_file_that_was_cut(
    path: Path, payloads: dict[str, bytes]
) -> None:
    index = Index(list(blobpack.scan(path)))
    with blobpack.open_blob(path, index) as blob:
        read_until_mapped(blob)
        left = index[100].offset_end
        os.truncate(path, left)
        assert [blob.read(row) for row in range(101)] == list(payloads.values())[:101]
        for row in range(101, MEMBERS):
            with pytest.raises(BlobChangedError, match="was cut"):
                blob.read(row)
        with pytest.raises(BlobChangedError, match="was cut"):
            blob.read_packed([100, 101])
        found = []
        with pytest.raises(BlobChangedError, match="row 101"):
            for one in blob.read_many(range(MEMBERS)):
                found.append(one)
        assert found == list(payloads.values())[:101]


# Faults that are not ours


@pytest.mark.parametrize("order", ["before", "after", "again", "never"])
def test_faulthandler_reports_a_fault_outside_of_our_copies(
    order: str, path: Path, tmp_path: Path
) -> None:
    code = """
order = sys.argv[2]
if order in ("before", "again"):
    faulthandler.enable()
blob = blobpack.open_blob(sys.argv[1])
read_until_mapped(blob)
if order == "again":
    faulthandler.disable()
    read_for_a_while(blob)
if order in ("after", "again"):
    faulthandler.enable()
    read_for_a_while(blob)
fault(sys.argv[3])
"""
    done = run(code, path, order, tmp_path / "f")
    assert done.returncode == -7
    assert done.stderr.count("Fatal Python error: Bus error") == (order != "never")
    assert ("line" in done.stderr and "fault" in done.stderr) == (order != "never")


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_handler_of_the_program_gets_the_signals_that_are_its_own(order: str, path: Path) -> None:
    code = """
got = []
def install():
    signal.signal(signal.SIGBUS, lambda *_: got.append(1))
if sys.argv[2] == "before":
    install()
blob = blobpack.open_blob(sys.argv[1])
read_until_mapped(blob)
if sys.argv[2] == "after":
    install()
for _ in range(3):
    read_for_a_while(blob)
    os.kill(os.getpid(), signal.SIGBUS)
assert got == [1, 1, 1], got
os.truncate(sys.argv[1], 1000)
for row in range(50):
    try:
        blob.read(row)
    except blobpack.BlobChangedError:
        continue
    raise AssertionError(row)
assert got == [1, 1, 1], got
"""
    done = run(code, path, order)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("handler", "status"), [("SIG_DFL", -7), ("SIG_IGN", 0)])
def test_a_signal_that_is_sent_does_what_it_did_before(
    handler: str, status: int, path: Path
) -> None:
    code = """
signal.signal(signal.SIGBUS, getattr(signal, sys.argv[2]))
blob = blobpack.open_blob(sys.argv[1])
read_until_mapped(blob)
os.kill(os.getpid(), signal.SIGBUS)
blob.read(0)
"""
    assert run(code, path, handler).returncode == status


def test_a_file_that_can_not_be_read_is_left_to_the_caller(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        file = LocalFile(fd, path.stat().st_size)
        assert file.read(0, 10) is None
        assert file.read(5, 4) is None
        assert file.read(-1, 4) is None
        assert file.read(0, path.stat().st_size + 1) is None
    finally:
        os.close(fd)
