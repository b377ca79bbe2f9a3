"""Tars against `scan`. Oracles: Python's tarfile and GNU tar, and the scan of a file against that of a store.

What all of them accept must have the same members at the same bytes. Damage that one reader refuses and another one passes
over proves nothing, so such inputs are only checked for members that lie within the file.
"""

from __future__ import annotations

import re
import subprocess
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tars import (
    BLOCK,
    DIALECTS,
    GNU,
    USTAR,
    Tar,
    base256,
    gnu_long,
    header,
    need_tool,
    pax,
    tarfile_rows,
    with_checksum,
)

from blobpack import FormatError, scan
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store
from fuzz.damage import damage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    Row = tuple[str, int, int]

LISTED = re.compile(rb"block \d+: -\S+ \S+ +(\d+) \S+ \S+ (.*)")

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


class Case(NamedTuple):
    """A tar, and whether readers agree about it: it is sound, and its dialect is one that tarfile and GNU tar know."""

    data: bytes
    is_sound: bool


def make(generator: random.Random) -> Case:
    """Make a tar of several dialects, half of the time damaged."""
    tar = make_tar(generator)
    if generator.random() < 0.4:
        return Case(bytes(tar.blob), bool(tar.blob) and tar.judged and not tar.concatenated)
    blob = bytearray(damage(bytes(tar.blob), generator))
    if generator.random() < 0.7:
        # With right checksums, damage reaches the code behind the comparison of checksums.
        for start in tar.headers:
            if (
                start + BLOCK <= len(blob)
                and blob[start : start + BLOCK] != tar.blob[start : start + BLOCK]
            ):
                blob[start : start + BLOCK] = with_checksum(bytes(blob[start : start + BLOCK]))
    return Case(bytes(blob), False)


def make_tar(generator: random.Random) -> Tar:
    """Make a sound tar: members of random kinds, names and sizes, or one of the dialects of the tests."""
    if generator.random() < 0.3:
        return DIALECTS[generator.choice(sorted(DIALECTS))]()
    tar = Tar()
    for number in range(generator.randint(0, 8)):
        payload = generator.randbytes(generator.choice((0, 1, 9, 511, 512, 513, 1500)))
        name = make_name(generator, number)
        raw = name.encode()
        make_member = generator.choice(MEMBERS)
        make_member(tar, raw, payload, generator)
    if generator.random() < 0.8:
        tar.end()
        tar.blob += bytes(BLOCK * generator.choice((0, 0, 1, 18)))
    return tar


def make_name(generator: random.Random, number: int) -> str:
    """Return a name that is short, as long as a field, or longer."""
    length = generator.choice((1, 5, 20, 90, 98, 99, 100))
    letters = generator.choice(("a", "ab/", "é", "日", "x.y", " '\"", "\\"))
    stem = "".join(generator.choice(letters) for _ in range(length)).strip("/")
    return f"{number}{stem}"[:length].strip("/") + generator.choice(("", ".jpg"))


def as_ustar(tar: Tar, name: bytes, payload: bytes, generator: random.Random) -> None:
    """Append a file with a plain header; the name is cut to what fits."""
    magic = generator.choice((USTAR, GNU))
    name = name[:99].decode(errors="ignore").encode()
    tar.file(name, payload, header(name, len(payload), magic=magic))


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


MEMBERS: tuple[Callable[[Tar, bytes, bytes, random.Random], None], ...] = (
    as_ustar,
    as_ustar,
    as_gnu,
    as_pax,
    as_folder,
)


def check(case: Case, folder: Path) -> str:
    """Compare the scans of a file and of a store, and the scan with tarfile and GNU tar.

    Returns:
        "refused", or "accepted".
    """
    path = folder / "a.tar"
    path.write_bytes(case.data)
    results = [outcome(partial(scan, path, threads=threads)) for threads in (1, 2)]
    results.append(outcome(partial(scan_store, MemoryStore(case.data))))
    assert results[0] == results[1] == results[2], results
    ours = results[0]
    if isinstance(ours, int):
        assert not case.is_sound
        assert 0 <= ours <= len(case.data)
        return "refused"
    for _, start, size in ours:
        assert BLOCK <= start <= start + size <= len(case.data)
    if case.is_sound:
        judged = tarfile_rows(case.data)
        assert ours == judged, (ours, judged)
    listed = rows_of_gnu_tar(path)
    if listed is not None and b"tar\0" not in case.data:  # GNU tar reads star's headers as ustar
        # GNU tar lists hard links as links, and sparse files as files
        files = {start: (name, size) for name, start, size in reversed(ours)}
        assert is_within(list(reversed(files.values())), listed), (ours, listed)
    return "accepted"


def outcome(run: Callable[[], object]) -> list[Row] | int:
    """Return the rows of a scan, or the byte of its FormatError."""
    try:
        index = run()
    except FormatError as exc:
        assert exc.offset is not None
        return exc.offset
    return [
        (member.name, member.offset_start, member.offset_end - member.offset_start)
        for member in index
    ]  # type: ignore[attr-defined]


def rows_of_gnu_tar(path: Path) -> list[tuple[str, int]] | None:
    """Return names and sizes of the files that GNU tar lists; None if it complains."""
    command = [need_tool("tar"), "-tvRf", path, "--quoting-style=escape", "--numeric-owner"]
    done = subprocess.run(command, capture_output=True, env={"TZ": "UTC", "LC_ALL": "C"})
    if done.returncode != 0 or done.stderr:
        return None
    files = LISTED.findall(done.stdout)
    return [(unquoted(name), int(size)) for size, name in files]


def unquoted(name: bytes) -> str:
    """Return a name that GNU tar printed with escapes, as it is in the tar."""
    octal = re.sub(rb"\\(\d{3})", lambda found: bytes([int(found[1], 8)]), name)
    plain = re.sub(rb"\\([abfnrtv\\ ])", lambda found: ESCAPES[found[1]], octal)
    return plain.decode("utf-8", "surrogateescape")


def is_within(some: list[tuple[str, int]], rows: list[tuple[str, int]]) -> bool:
    """Return whether some rows are among all rows, in their order."""
    rest = iter(rows)
    return all(row in rest for row in some)
