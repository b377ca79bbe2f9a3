"""A tar that is read front to back has the members, the counts and the errors that a scan of it has."""

import gzip
import io
import random
import subprocess
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tars import (
    BLOCK,
    DIALECTS,
    END,
    GNU,
    P,
    Tar,
    base256,
    extended,
    header,
    need_tool,
    pax,
    walk,
    walked_rows,
)

import blobpack
from blobpack._native.scan import index_header
from blobpack._native.stream import TarStream
from blobpack.errors import FormatError, LeftOutWarning, TruncatedError
from blobpack.stores.memory import MemoryStore
from blobpack.tar.behind import Behind, recognise
from blobpack.tar.scan import scan_store

SAMPLES = {
    str(path.relative_to(Path(__file__).parent)): path
    for path in sorted((Path(__file__).parent / "data").rglob("*.tar"))
}
STAR = {476: b"00000000000 00000000000 ", 508: b"tar\0"}
FOREIGN = {
    # GNU tar -g: times stand where ustar has a prefix, and folders hold the names of their files
    "gnu_incremental": lambda: (
        Tar()
        .other("other", header(b"imgs/", 12, b"D", magic=GNU), payload=b"Ya.txt\0Nb\0\0\0")
        .file("imgs/a.txt", P, magic=GNU, put={345: b"15303020207\015303020207\0"})
        .end()
    ),
    "star_without_prefix": lambda: Tar().file("imgs/a.txt", P, put=STAR).end(),
    "malformed_length": lambda: Tar().file("a", P, extended(b"x", b"99 path=b\n")).end(),
    "malformed_number": lambda: Tar().file("a", P, extended(b"x", b"x path=b\n")).end(),
    "malformed_without_value": lambda: Tar().file("a", P, extended(b"x", b"8 path\n")).end(),
    "malformed_tail": lambda: Tar().file("a", P, extended(b"x", b"10 path=b\nrest")).end(),
    "malformed_size": lambda: Tar().file("a", P, pax({"size": "1e3"})).end(),
    "nul_in_name": lambda: Tar().file("a", P, pax({"path": "b\0c"})).end(),
    "global_size": lambda: Tar().extension(pax({"size": "3"}, b"g")).file("a", P).end(),
    "no_member_behind": lambda: Tar().extension(pax({"path": "b"})).end(),
    "no_end": lambda: Tar().file("a", P),
    "nothing": Tar,
    "one_zero_block": lambda: Tar().file("a", P).end(bytes(BLOCK)),
    "dangling": lambda: Tar().link("a", "b").file("b", P).link("c", "b").link("d", "e").end(),
    "huge_extension": lambda: Tar().extension(header(b"x", 1 << 33, b"x")).file("a", P).end(),
    "huge_payload": lambda: Tar().file("a", P, header(b"a", (1 << 33) - 1)).end(),
    "endless_payload": lambda: (
        Tar().file("a", P, header(b"a", size_field=b"\x80\0\0\0\x3f" + b"\xff" * 7)).end()
    ),
}
KNOWN = {**DIALECTS, **FOREIGN}
CHANCE = random.Random(23)
# longer than the buffer of a stream, and not a multiple of its size
LONG = Tar().file("long", CHANCE.randbytes(700_001)).file("a", P).link("b", "long").end()


class Trickle(io.RawIOBase):
    """Bytes that come in pieces of random sizes, as from a decompressor."""

    def __init__(self, blob, seed):
        self.left, self.chance = memoryview(bytes(blob)), random.Random(seed)

    def readinto(self, buffer):
        count = min(len(buffer), len(self.left), self.chance.choice([1, 511, 4096, 1 << 20]))
        buffer[:count] = self.left[:count]
        self.left = self.left[count:]
        return count


def streamed(blob, seed=0, taken=1.0, concatenated=False):
    """Return name, kind and payload of each member; None for a payload that is not taken."""
    chance = random.Random(seed)
    tar = TarStream(Trickle(blob, seed).readinto, "blob", concatenated=concatenated)
    members = []
    for name, kind, size in tar:
        payload = None
        head = tar.head(100) if chance.random() < taken / 2 else None
        if chance.random() < taken:
            payload = tar.payload()
            assert len(payload) == size
            assert head is None or head == payload[:100]
        members.append((name.decode("utf-8", "surrogateescape"), kind, payload))
    found = (
        recognise(tar.behind, tar.block_behind, bytes(blob[-BLOCK:])) if tar.behind else Behind()
    )
    report = scan_store(MemoryStore(bytes(blob)), concatenated=concatenated).report
    assert found == (report.other_behind, report.members_behind, 0)
    return members


def outcome(function, blob, **options):
    """Return what a function returns, or the error that it raises."""
    try:
        return function(bytes(blob), **options)
    except FormatError as exc:
        return type(exc), exc.offset, str(exc)


def assert_as_scanned(blob, **options):
    for concatenated in (False, True):
        assert_as_walked(blob, concatenated, **options)


def assert_as_walked(blob, concatenated, **options):
    wanted = outcome(walk, blob, concatenated=concatenated)
    options["concatenated"] = concatenated
    found = outcome(streamed, blob, **options)
    if not blob:
        assert found[2] == "blob: the file is empty, at byte 0"
        return
    if isinstance(found, tuple) or not hasattr(wanted, "members"):
        assert found == wanted
        return
    assert Counter(kind for _, kind, _ in found) == +Counter(wanted.kinds._asdict())
    rows = iter(walked_rows(wanted.members))
    row = next(rows, None)
    dangling = 0
    for name, kind, payload in found:
        if kind == "hard_links" and (row is None or row[0] != name):
            dangling += 1
        elif kind in ("files", "hard_links"):
            assert row[0] == name
            if kind == "files" and payload is not None:
                assert payload == blob[row[1] : row[1] + row[2]]
            row = next(rows, None)
    assert row is None
    assert dangling == wanted.dangling_links


@pytest.mark.parametrize("key", SAMPLES)
def test_every_sample_is_as_scanned(key):
    blob = SAMPLES[key].read_bytes()
    for seed, taken in enumerate([1, 0.5, 0]):
        assert_as_scanned(blob, seed=seed, taken=taken)


@pytest.mark.parametrize("key", KNOWN)
def test_every_dialect_is_as_scanned_also_cut_and_damaged(key):
    blob = bytes(KNOWN[key]().blob)
    chance = random.Random(key)
    for seed in range(3):
        assert_as_scanned(blob, seed=seed, taken=0.5)
    for end in {0, len(blob), *(chance.randrange(len(blob) + 1) for _ in range(60))}:
        assert_as_scanned(blob[:end], seed=end, taken=0.5)
    for _ in range(60 if blob else 0):
        damaged = bytearray(blob)
        damaged[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        assert_as_scanned(damaged, taken=0.5)


@given(st.lists(st.sampled_from(sorted(KNOWN)), max_size=6), st.integers(0, 1 << 30))
def test_any_parts_one_behind_the_other_are_as_scanned(keys, seed):
    blob = b"".join(bytes(KNOWN[key]().blob).rstrip(b"\0") for key in keys)
    blob += bytes(-len(blob) % BLOCK) + END
    assert_as_scanned(blob, seed=seed, taken=0.5)


def test_a_payload_longer_than_the_buffer_is_whole():
    for seed in range(8):
        assert_as_scanned(LONG.blob, seed=seed, taken=seed % 3 / 2)
    for end in range(700_001, 700_001 + 2 * BLOCK, 100):
        assert_as_scanned(LONG.blob[:end], seed=end, taken=0.5)


def test_an_extended_header_longer_than_the_buffer_is_read():
    name = "n" * 1_000_000
    blob = Tar().file("a", P).file(name, P, pax({"path": name}, b"x")).file("b", P).end().blob
    assert [member[0] for member in streamed(blob)] == ["a", name, "b"]
    assert_as_scanned(blob, seed=1)
    assert_as_scanned(blob[:900_000], seed=1)


@pytest.mark.parametrize("size", [1, 512, 3000, 262_144, 700_001])
@pytest.mark.parametrize("take", [TarStream.payload, lambda tar: tar.head(1 << 30)])
def test_no_payload_of_a_cut_tar_is_returned(take, size):
    blob = bytes(Tar().file("a", b"p").file("b", CHANCE.randbytes(size)).blob)
    start = 3 * BLOCK

    def second(blob):
        tar = TarStream(Trickle(blob, len(blob)).readinto, "blob")
        assert [next(tar).name, next(tar).name] == [b"a", b"b"]
        return take(tar)

    for end in {start, start + 1, start + size // 2, start + size - 1}:
        refused = outcome(walk, blob[:end])
        assert outcome(second, blob[:end]) == refused
        assert refused[0] is TruncatedError
    assert second(blob) == blob[start : start + size]


@pytest.mark.parametrize("size", [0, 1, 512, 300_000])
def test_indexes_behind_an_archive_are_as_scanned(size):
    index = index_header(size) + b"i" * size + bytes(-size % BLOCK)
    one = bytes(Tar().file("a", P).end().blob)
    # a stream that ended inside an index was read forever
    for blob in (one + index, one + index + bytes(3 * BLOCK) + index + one, one + index[:BLOCK]):
        for end in {len(blob), len(blob) - 1, len(blob) - BLOCK, len(one) + BLOCK + size // 2}:
            assert_as_scanned(blob[:end], seed=end)
    tar = TarStream(io.BytesIO(one + index + one).readinto, "blob")
    assert [member.name for member in tar] == [b"a"]
    assert tar.behind == len(one + index)


def test_a_stream_stays_at_its_end():
    blob = bytes(Tar().file("a", P).end().blob)
    for concatenated in (False, True):
        tar = TarStream(io.BytesIO(blob + bytes(1 << 20)).readinto, "x", concatenated=concatenated)
        assert len(list(tar)) == 1
        assert list(tar) == []


# repack


# samples of which a scan and repack warn
JOINED = ("concatenated", "data/format/damaged/joined.tar")
# What is left of an overwritten index behind the archive: a scan knows it by its end, which a stream can't look at first.
OVERWRITTEN = "data/format/damaged/appended.tar"


def skipped_of(report):
    """Return what repack says of the members that a scan counts."""
    counts = {
        "hard links": report.hard_links,
        "symbolic links": report.symbolic_links,
        "sparse files": report.sparse,
        "not a plain file": report.devices + report.other,
    }
    return {reason: count for reason, count in counts.items() if count}


@pytest.mark.parametrize("key", {**SAMPLES, **KNOWN})
def test_repack_names_and_counts_as_a_scan_does(key, tmp_path):
    blob = SAMPLES[key].read_bytes() if key in SAMPLES else bytes(KNOWN[key]().blob)
    (tmp_path / "a.tar").write_bytes(blob)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(blob))
    sources = ("a.tar", "a.tar.gz")
    target = tmp_path / "o.tar"

    def warning(*, of_stream=False):
        if key in JOINED:
            return pytest.warns(LeftOutWarning, match="members lie behind")
        if key == OVERWRITTEN and of_stream:
            return pytest.warns(LeftOutWarning, match="if a header was overwritten")
        return nullcontext()

    try:
        with warning():
            index = blobpack.scan(tmp_path / "a.tar")
    except FormatError as exc:
        for source in sources:
            with pytest.raises(type(exc)) as caught:
                blobpack.repack(tmp_path / source, target, all_files=True, allow_empty=True)
            assert caught.value.offset == exc.offset
        assert not target.exists()
        return
    for source in sources:
        try:
            with warning(of_stream=True):
                report = blobpack.repack(
                    tmp_path / source, target, all_files=True, allow_empty=True
                )
        # names that pack refuses, too
        except (blobpack.UnsafeNameError, blobpack.DuplicateNameError):
            continue
        assert report.skipped == skipped_of(index.report)
        with blobpack.open_blob(target) as new:
            names = list(new.index.names)
            rows = {member.name: member for member in index}
            for member in new.index:
                row = rows[member.name]
                assert new.read(member.name) == blob[row.offset_start : row.offset_end]
        links = index.report.hard_links - index.report.dangling_links
        assert len(names) == len(index) - links
        if not links:
            assert names == list(index.names)
        target.unlink()


def test_an_incremental_archive_of_gnu_tar_keeps_its_names(tmp_path):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs/a.txt").write_bytes(b"payload")
    subprocess.run(
        f"{need_tool('tar')} --format=gnu -g snapshot -czf a.tar.gz imgs",
        shell=True,
        cwd=tmp_path,
        check=True,
    )
    blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "o.tar", all_files=True)
    assert list(blobpack.scan(tmp_path / "o.tar").names) == ["imgs/a.txt"]


@pytest.mark.parametrize("size", [(1 << 62) - 512, (1 << 62) - 511, (1 << 62) - 1])
@pytest.mark.parametrize("rest", [0, 700, 600_000])
def test_a_payload_that_no_stream_holds_is_cut_where_the_stream_ends(size: int, rest: int) -> None:
    """Where a stream ends is not known until it is read, and until then it counts as 2**62 bytes long."""
    data = header(b"a", size_field=base256(size)) + bytes(rest)
    with pytest.raises(
        TruncatedError, match=f"runs past the blob's end at {512 + rest}, at byte 0"
    ):
        for _ in TarStream(io.BytesIO(data).readinto, "x"):
            pass
