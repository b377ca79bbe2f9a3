"""Tars against `scan` and the walk of `repack`. Oracles: what the maker of a sound tar put into it, tarfile, and GNU tar.

The scans of a file and of a store, by one thread and by two, and the walk of a stream must find the same, down to the byte of an
error. What GNU tar accepts without a complaint must have the same members. Damage that one program refuses and another one
passes over proves nothing else.
"""

from __future__ import annotations

import io
import re
import subprocess
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tars import (
    BLOCK,
    DIALECTS,
    END,
    GNU,
    USTAR,
    Tar,
    Trapper,
    base256,
    gnu_long,
    header,
    need_tool,
    pax,
    tarfile_rows,
    with_checksum,
)

from blobpack import FormatError, Index, scan
from blobpack._native.stream import TarStream
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store
from fuzz.damage import damage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    Row = tuple[str, int, int]

# GNU tar pads times to the widest one above them. So that padding is no part of a name, spaces in names are escaped.
LIST = ("-tvR", "--quoting-style=escape", "--quote-chars= ", "--numeric-owner")
# a time that no calendar of GNU tar holds is a number of seconds
LISTED = re.compile(rb"block \d+: -\S+ \S+ +(\d+) -?\d+(?:-\d\d-\d\d \d\d:\d\d)? +(.*)")

ESCAPES = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
    b" ": b" ",
}


# what a ScanReport counts
COUNTS = (
    "hard_links",
    "dangling_links",
    "folders",
    "symbolic_links",
    "devices",
    "sparse",
    "other",
)
# One tar in so many is large enough for several threads, which takes a hundred times as long.
SMALL_FOR_A_LARGE_ONE = 300


class Case(NamedTuple):
    """A tar: its bytes, what is in it if it is sound, and how many bytes its stream gives at once."""

    data: bytes
    tar: Tar | None
    read_bytes: int


def make(generator: random.Random) -> Case:
    """Make a tar of several dialects, more than half of the time damaged."""
    tar = make_tar(generator)
    read_bytes = generator.choice((1, 511, 4096, 1 << 20))
    if len(tar.blob) > 1 << 20:
        read_bytes = max(read_bytes, 4096)
    if generator.random() < 0.4:
        return Case(bytes(tar.blob), tar if tar.blob else None, read_bytes)
    blob = bytearray(damage(bytes(tar.blob), generator))
    if generator.random() < 0.7:
        # With right checksums, damage reaches the code behind the comparison of checksums.
        for start in tar.headers:
            end = start + BLOCK
            if end <= len(blob) and blob[start:end] != tar.blob[start:end]:
                blob[start:end] = with_checksum(bytes(blob[start:end]))
    return Case(bytes(blob), None, read_bytes)


def make_tar(generator: random.Random) -> Tar:
    """Make a sound tar: one of random members, one of the dialects of the tests, or one that several threads scan."""
    if generator.random() < 0.3:
        return DIALECTS[generator.choice(sorted(DIALECTS))]()
    if generator.randrange(SMALL_FOR_A_LARGE_ONE) == 0:
        return Trapper(1).tar(generator.randrange(1 << 32)).unjudged()
    tar = Tar()
    append_members(tar, generator)
    if generator.random() < 0.8:
        tar.end()
        tar.blob += bytes(BLOCK * generator.choice((0, 0, 1, 18)))
        if generator.random() < 0.15:
            borders = len(tar.rows), tar.counts.total()
            append_members(tar, generator)
            tar.concatenated = borders != (len(tar.rows), tar.counts.total())
            tar.end(generator.choice((END, b"")))
    return tar


def append_members(tar: Tar, generator: random.Random) -> None:
    """Append members of random kinds, names and sizes."""
    for number in range(generator.randint(0, 8)):
        payload = generator.randbytes(generator.choice((0, 1, 9, 511, 512, 513, 1500)))
        raw = make_name(generator, number).encode()
        make_member = generator.choice(MEMBERS)
        make_member(tar, raw, payload, generator)


def make_name(generator: random.Random, number: int) -> str:
    """Return a name that is short, as long as a field, or longer."""
    length = generator.choice((1, 5, 20, 90, 98, 99, 100))
    letters = generator.choice(("a", "ab/", "é", "日", "x.y", " '\"", "\\"))
    stem = "".join(generator.choice(letters) for _ in range(length)).strip("/")
    return f"{number}{stem}"[:length].strip("/") + generator.choice(("", ".jpg"))


def as_ustar(tar: Tar, name: bytes, payload: bytes, generator: random.Random) -> None:
    """Append a file with a plain header; the name is cut to what fits."""
    magic = generator.choice((USTAR, GNU))
    # a name that ends in a slash is that of a folder to GNU tar
    name = name[:99].decode(errors="ignore").rstrip("/").encode()
    time = generator.choice((b"00000000000", b"\xff" * 12, b"\xff" * 4 + generator.randbytes(8)))
    tar.file(name, payload, header(name, len(payload), magic=magic, put={136: time}))


def as_gnu(tar: Tar, name: bytes, payload: bytes, generator: random.Random) -> None:
    """Append a file whose name has a header of its own."""
    size = base256(len(payload)) if generator.random() < 0.3 else None
    own = header(name[:100], len(payload), magic=GNU, size_field=size)
    tar.file(name, payload, gnu_long(name), own)


def as_pax(tar: Tar, name: bytes, payload: bytes, generator: random.Random) -> None:
    """Append a file with pax records, whose order is random."""
    records: dict[str, str | bytes] = {"path": name}
    if generator.random() < 0.4:
        records["size"] = str(len(payload))
    if generator.random() < 0.4:
        records["mtime"] = f"{generator.randrange(1 << 33)}.{generator.randrange(1000)}"
    if generator.random() < 0.3:
        records["comment"] = generator.choice(("", "path=x", "\n", "ü" * 300))
    keys = generator.sample(sorted(records), len(records))
    own = header(name[:100], 0 if "size" in records else len(payload))
    tar.file(name, payload, pax({key: records[key] for key in keys}), own)


def as_folder(tar: Tar, name: bytes, _payload: bytes, generator: random.Random) -> None:
    """Append a folder or a symbolic link, which has no row."""
    kind = generator.choice(("folders", "symbolic_links"))
    typeflag = b"5" if kind == "folders" else b"2"
    tar.other(kind, header(name[:90] + b"/" * (kind == "folders"), typeflag=typeflag, link=b"x"))


def as_link(tar: Tar, name: bytes, _payload: bytes, generator: random.Random) -> None:
    """Append a hard link to a member before it, or to none."""
    known = [row[0] for row in tar.rows if len(row[0].encode()) <= 100]
    target = generator.choice([*known[-4:], "never there"])
    parts = (gnu_long(target.encode(), b"K"),) if generator.random() < 0.3 else ()
    name = name[:99].decode(errors="ignore").rstrip("/").encode()
    tar.link(name.decode(), target, *parts, magic=GNU if parts else USTAR)


MEMBERS: tuple[Callable[[Tar, bytes, bytes, random.Random], None], ...] = (
    as_ustar,
    as_ustar,
    as_gnu,
    as_gnu,
    as_pax,
    as_pax,
    as_folder,
    as_link,
)


class Found(NamedTuple):
    """What a scan found."""

    rows: list[Row]
    counts: Counter[str]
    facts: dict[str, list[int]]

    def files(self) -> list[Row]:
        """Return the rows without hard links, whose payloads are those of rows before them."""
        firsts: dict[int, Row] = {}
        for row in self.rows:
            firsts.setdefault(row[1], row)
        return list(firsts.values())


def check(case: Case, folder: Path) -> str:
    """Compare all ways to read the tar with each other, with its maker, and with tarfile and GNU tar.

    Returns:
        "refused", or "accepted".
    """
    path = folder / "a.tar"
    path.write_bytes(case.data)
    check_all(case, path)
    results = [outcome(partial(scan, path, threads=threads)) for threads in (1, 2)]
    results.append(outcome(partial(scan_store, MemoryStore(case.data))))
    found = results[0]
    assert found == results[1] == results[2], results
    check_stream(case, found)
    if isinstance(found, int):
        assert case.tar is None
        assert 0 <= found <= len(case.data)
        return "refused"
    for _, start, size in found.rows:
        assert BLOCK <= start <= start + size <= len(case.data)
    if case.tar is not None and not case.tar.concatenated:
        check_found(found, case.tar)
    if case.tar is not None and case.tar.judged and not case.tar.concatenated:
        judged = tarfile_rows(case.data)
        assert found.rows == judged, (found.rows, judged)
    listed = rows_of_gnu_tar(path)
    if listed is not None and b"tar\0" not in case.data:  # GNU tar reads star's headers as ustar
        # GNU tar lists files as folders if their names end in a slash, and sparse files as files
        files = [(name, size) for name, _, size in found.files() if not name.endswith("/")]
        assert is_within(files, listed), (files, listed)
    return "accepted"


def check_all(case: Case, path: Path) -> None:
    """Compare the scans of a file and of a store that take facts, and go on behind the end of an archive."""
    every = outcome(partial(scan, path, concatenated=True, facts=True))
    store = MemoryStore(case.data)
    assert every == outcome(partial(scan_store, store, concatenated=True, facts=True)), every
    if case.tar is not None:
        assert isinstance(every, Found), every
        check_found(every, case.tar)


def check_found(found: Found, tar: Tar) -> None:
    """Compare a scan with what the maker of a tar put into it."""
    assert found.rows == tar.rows, (found.rows, tar.rows)
    assert found.counts == +tar.counts, (found.counts, tar.counts)


def check_stream(case: Case, found: Found | int) -> None:
    """Compare a scan with the walk of `repack`, which reads the tar once, front to back."""
    source = io.BytesIO(case.data)
    stream = TarStream(lambda room: source.readinto(room[: case.read_bytes]), "a.tar")
    names, counts, payloads = [], Counter[str](), []
    try:
        for name, kind, size in stream:
            if kind != "files":
                counts[kind] += 1
                continue
            names.append((name.decode("utf-8", "surrogateescape"), size))
            # payloads that are not read are skipped in another way
            payloads.append(stream.payload() if len(names) % 3 else None)
    except FormatError as exc:
        assert exc.offset == found, (exc, found)
        return
    assert isinstance(found, Found), found
    files = found.files()
    assert names == [(name, size) for name, _, size in files], (names, files)
    expected = +found.counts
    expected.pop("dangling_links", None)
    assert counts == expected, (counts, expected)
    for (_, start, size), payload in zip(files, payloads, strict=True):
        assert payload in {None, case.data[start : start + size]}


def outcome(run: Callable[[], Index]) -> Found | int:
    """Return what a scan found, or the byte of its FormatError."""
    try:
        index = run()
    except FormatError as exc:
        assert exc.offset is not None
        return exc.offset
    rows = [
        (member.name, member.offset_start, member.offset_end - member.offset_start)
        for member in index
    ]
    counts = Counter({name: getattr(index.report, name) for name in COUNTS})
    facts = {fact: column.tolist() for fact, column in index._columns.facts()}
    return Found(rows, +counts, facts)


def rows_of_gnu_tar(path: Path) -> list[tuple[str, int]] | None:
    """Return names and sizes of the files that GNU tar lists; None if it complains."""
    command = [need_tool("tar"), *LIST, "-f", path]
    done = subprocess.run(command, capture_output=True, env={"TZ": "UTC", "LC_ALL": "C"})
    if done.returncode != 0 or done.stderr:
        return None
    files = LISTED.findall(done.stdout)
    return [(unquoted(name), int(size)) for size, name in files]


def unquoted(name: bytes) -> str:
    """Return a name that GNU tar printed with escapes, as it is in the tar."""
    plain = re.sub(
        rb"\\(\d{3}|[abfnrtv\\ ])",
        lambda found: ESCAPES.get(found[1]) or bytes([int(found[1], 8)]),
        name,
    )
    return plain.decode("utf-8", "surrogateescape")


def is_within(some: list[tuple[str, int]], rows: list[tuple[str, int]]) -> bool:
    """Return whether some rows are among all rows, in their order."""
    rest = iter(rows)
    return all(row in rest for row in some)
