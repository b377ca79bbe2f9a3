"""Native code that runs out of memory: it raises MemoryError, or it does without.

All that it allocates is freed, and it writes nothing behind it.

A child process with tests/scarce.c preloaded does some work again and again. Each time, another allocation of the native
modules fails.
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import pickle
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tars import BLOCK, END, header, pax

from blobpack import FormatError, Index, Member
from blobpack._native.block_encoder import BlockEncoder
from blobpack._native.fetched_index import decode_blocks
from blobpack._native.name_hashes import NameHashes
from blobpack._native.pickles import OffsetsDecoder, encode_batch
from blobpack._native.scan import walk_headers
from blobpack._native.stream import TarStream
from blobpack.columns import MEDIA_TYPES
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.memory import MemoryStore
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).parent


def copied(columns: tuple[object, ...] | None) -> list[object]:
    """Return what columns hold, as far as they are not None; nothing of it refers to them."""
    return [bytes(value) if isinstance(value, memoryview) else value for value in columns or ()]


def members(count: int) -> list[Member]:
    return [
        Member(
            f"d/{i:05}", 1024 * i + 512, 1024 * i + 600, media_type=MEDIA_TYPES[1 + i % 3],
            width=i + 1, height=i + 1, crc32c=i << 12, mtime=i,
        )
        for i in range(count)
    ]  # fmt: skip


def columns_of(index: Index) -> list[object]:
    columns = index._columns
    return copied(
        (
            columns.names,
            columns.name_bounds,
            columns.offset_start,
            columns.offset_end,
            *(column for _, column in columns.facts()),
        )
    )


def written(index: Index) -> bytes:
    file: Any = io.BytesIO()
    file.write(index._write_sections(file, None).encode())
    return file.getvalue()


# Offsets files


def pickles(count: int) -> bytes:
    file = io.BytesIO()
    write_offsets(Index(members(count)), file)
    return file.getvalue()


def decoding(folder: Path) -> Callable[[], object]:
    """A stack, a memo, records and rows, each of more than there is room for at first, and a fault."""
    rows = pickles(400)
    records = pickle.dumps([{"name": "n", "offset_start": 0, "offset_end": 0}] * 2, 4)
    records = b"\x80\x04](" + b"}" * 1500 + records[2:]
    larger = pickle.dumps([{"name": "n" * (5 << 20), "offset_start": 0, "offset_end": 0}], 4)

    def work() -> object:
        found = [
            copied(OffsetsDecoder(io.BytesIO(data), "x.pkl").read_batch(1 << 40))
            for data in (rows, larger)
        ]
        for wrong in (rows[:-1] + b"x", records):
            with suppress(FormatError):
                OffsetsDecoder(io.BytesIO(wrong), "x.pkl").read_batch(1 << 40)
        return found

    return work


def encoding(folder: Path) -> Callable[[], object]:
    from array import array

    def encode(names: list[bytes]) -> bytes:
        bounds = [sum(map(len, names[:i])) for i in range(len(names) + 1)]
        offsets = array("q", range(len(names)))
        packed = b"".join(names)
        starts, ends = array("q", bounds[:-1]), array("q", bounds[1:])
        return encode_batch(packed, starts, ends, offsets, offsets, 0, len(names))

    return lambda: [
        encode([b"a"]),
        encode([b"a" * 100] * 300),
        encode([b"a", b"b" * 100_000, b"c"]),
        encode([b"d" * i for i in range(100)]),
    ]


# Index files


def mapping(folder: Path) -> Callable[[], object]:
    path = folder / "a.idx"
    path.write_bytes(written(Index(members(1100))))

    def work() -> object:
        index = Index.load(path)
        found = [
            index._search(["d/00003", "d/01050", "absent"]),
            index._member_at(1030),
            [index._member_at(row) for row in (1, 1099)],
        ]
        index = Index.load(path)
        return [*found, columns_of(index), index.row_of("d/00700")]

    return work


def mapping_many_pages(folder: Path) -> Callable[[], object]:
    """Which pages and blocks were checked is kept in a bit for each, of 73 at least."""
    path = folder / "a.idx"
    many = members(75_000)
    path.write_bytes(written(Index(many)))
    names = [member.name for member in many[:: BLOCK // 4]]
    return lambda: [
        Index.load(path)._search([*names, many[-1].name]),
        Index.load(path)._bounds_at(-1),
    ]


def fetching(folder: Path) -> Callable[[], object]:
    packed = written(Index(members(1100)))

    def work() -> object:
        store = MemoryStore(packed)
        footer = read_footer(store)
        assert footer is not None
        index = Index._from_stored(RemoteIndex(store, 0, footer))
        found: list[object] = [index.row_of("d/00700"), columns_of(index)]
        positions = memoryview(bytes(16)).cast("q")
        with suppress(FormatError):
            decode_blocks(packed, positions, 0, 1000, 1 << 40, 31, "x", 0)
        return found

    return work


def writing(folder: Path) -> Callable[[], object]:
    plain = Index(members(70))
    nothing = memoryview(bytes(8 * 1025)).cast("q")
    bounds = memoryview(struct.pack("<2q", 0, 1)).cast("q")

    def work() -> object:
        encoder, names = BlockEncoder(), NameHashes()
        for _ in range(3):
            encoder.add(b"", nothing, nothing[1:], nothing[1:])
            names.add(b"", nothing)
        files = names.copy()
        files.add(b"a", bounds)
        pages = [b"".join(hashes.make_lookup()[2]) for hashes in (names, files)]
        return [written(plain), len(encoder), encoder.directory(0), pages]

    return work


# Tars


def tar(*, concatenated: bool = False) -> bytes:
    """Files, links, dangling links, and names of global headers that many rows share."""
    parts = [header(b"n%d" % i, 3) + b"abc".ljust(BLOCK, b"\0") for i in range(200)]
    parts += [header(b"l%d" % i, typeflag=b"1", link=b"n%d" % (2 * i)) for i in range(150)]
    parts += [pax({"path": "p" * 5000, "linkpath": "n5" * 3000}, b"g")]
    parts += [header(b"x", 0), header(b"x", typeflag=b"1", link=b"y")] * 40
    parts += [pax({"path": "q" * 6000}, b"g"), header(b"x", 0)]
    parts += [pax({"path": f"own{i}"}) + header(b"x", 0) for i in range(100)]
    return b"".join(parts) + END


def scanned(path: Path, threads: int) -> object:
    with path.open("rb") as file:
        size = path.stat().st_size
        found = walk_headers(file.fileno(), size, "x", with_mtime=True, threads=threads)
    shared = copied(found.shared)
    return [copied(found.members), found.dangling_links, tuple(found.kinds), shared]


def scanning(folder: Path) -> Callable[[], object]:
    path = folder / "a.tar"
    path.write_bytes(tar())
    own = folder / "b.tar"
    # an extended header that the first window does not hold
    own.write_bytes(pax({"path": "p" * 2_000_000}) + header(b"x", 0) + END)

    def work() -> object:
        found = [scanned(path, 1), scanned(own, 1)]
        with suppress(FormatError), path.open("rb") as file:
            walk_headers(file.fileno(), path.stat().st_size - 1100, "x")
        return found

    return work


def scanning_by_threads(folder: Path) -> Callable[[], object]:
    path = folder / "a.tar"
    links = b"".join(header(b"l%d" % i, typeflag=b"1", link=b"x%d" % i) for i in range(200))
    files = (header(b"x%d" % i, 3) + b"abc".ljust(BLOCK, b"\0") for i in range(7000))
    # of runs that are taken over there are more than there is room for at first
    bad = b"".join(header(b"y", 1)[:-1] + b"x" for _ in range(40))
    inner = header(b"z", BLOCK * 200) + (header(b"w", 0) + bytes(BLOCK)) * 100
    path.write_bytes(b"".join(files) + inner + links + header(b"b", len(bad)) + bad + END)
    return lambda: scanned(path, 3)


def streaming(folder: Path) -> Callable[[], object]:
    data = tar()

    def work() -> object:
        stream = TarStream(io.BytesIO(data).readinto, "x")
        return [(member.name, member.size) for member in stream]

    return work


WORKS = {
    work.__name__: work
    for work in (
        decoding, encoding, mapping, mapping_many_pages, fetching, writing, scanning, scanning_by_threads, streaming,
    )
}  # fmt: skip


def run(name: str, folder: str) -> None:
    """Do a work once for each of its allocations; in the child process."""
    libc = ctypes.CDLL(None)
    for function in (libc.scarce_allocations, libc.scarce_blocks, libc.scarce_overruns):
        function.restype = ctypes.c_long
    work = WORKS[name](Path(folder))
    expected = work()
    gc.collect()
    gc.freeze()  # so that a collection takes no time
    at = refused = 0
    while True:
        libc.scarce_begin(ctypes.c_long(at))
        found = None
        try:
            found = work()
        except MemoryError:
            refused += 1
        allocations = libc.scarce_allocations()
        gc.collect()
        blocks = libc.scarce_blocks()
        overruns = libc.scarce_overruns()
        libc.scarce_end()
        assert overruns == 0, f"{overruns} blocks are written behind when allocation {at} fails"
        assert found in (None, expected), f"another result when allocation {at} fails"
        assert blocks == 0, f"{blocks} blocks are not freed when allocation {at} fails"
        if at > allocations or at > 400:
            break
        at += 1
    print(at, refused)


@pytest.mark.parametrize("work", WORKS)
def test_an_allocation_that_fails_is_a_memory_error_and_nothing_is_kept(
    work: str, tmp_path: Path, scarce: Path
) -> None:
    env = {**os.environ, "LD_PRELOAD": str(scarce)}
    env["PYTHONPATH"] = os.pathsep.join([str(TESTS), env.get("PYTHONPATH", "")])
    code = "import sys, test_memory; test_memory.run(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, work, str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    allocations, refused = map(int, done.stdout.split())
    assert allocations > 2
    assert refused > 0


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library that lets an allocation fail."""
    library = tmp_path_factory.mktemp("scarce") / "scarce.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-o", library, TESTS / "scarce.c", "-ldl"],
        check=True,
    )  # fmt: skip
    return library
