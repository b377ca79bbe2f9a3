"""Tars of every dialect, built byte by byte, with the rows that a scan must find; and tarfile, which judges both."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import pytest

from blobpack._native.scan import walk_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from blobpack import Index
    from blobpack._native.results import MemberColumns, Walk

    Row = tuple[str, int, int]

BLOCK = 512
V7 = bytes(8)
USTAR = b"ustar\x0000"
GNU = b"ustar  \0"
END = bytes(2 * BLOCK)
PAYLOAD_TYPES = (b"0", b"\0", b"7")


def need_tool(*names: str) -> str:
    """Return the path of a program that may have one of several names, or skip the test; see lack."""
    for name in names:
        if path := shutil.which(name):
            return path
    return lack(" or ".join(names))


def need_node() -> str:
    """Return the path of Node.js: the system's, or the one that playwright brings."""
    if path := shutil.which("node"):
        return path
    driver = pytest.importorskip("playwright._impl._driver")
    return str(driver.compute_driver_executable()[0])


def lack(what: str) -> NoReturn:
    """Skip the test, because something is not installed; fail it in CI, which installs all that tests need."""
    message = f"{what} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def base256(value: int, width: int = 12) -> bytes:
    return b"\x80" + value.to_bytes(width - 1, "big")


def with_checksum(header: bytes, *, signed: bool = False) -> bytes:
    blank = header[:148] + b" " * 8 + header[156:]
    total = sum(blank)
    if signed:
        total -= 256 * sum(byte > 127 for byte in blank)
    return header[:148] + b"%06o\0 " % total + header[156:]


def header(
    name: bytes = b"a.jpg",
    size: int = 0,
    typeflag: bytes = b"0",
    *,
    magic: bytes = USTAR,
    prefix: bytes = b"",
    link: bytes = b"",
    size_field: bytes | None = None,
    put: Mapping[int, bytes] | None = None,
    signed: bool = False,
) -> bytes:
    """Make one header block; `put` overwrites bytes at offsets before the checksum is computed."""
    block = bytearray(BLOCK)
    fields = {
        0: name,
        100: b"0000644\0",
        108: b"0000000\0",
        116: b"0000000\0",
        124: b"%011o\0" % size if size_field is None else size_field,
        136: b"00000000000\0",
        156: typeflag,
        157: link,
        257: magic,
        345: prefix,
        **(put or {}),
    }
    for start, value in fields.items():
        block[start : start + len(value)] = value
    assert len(block) == BLOCK
    return with_checksum(bytes(block), signed=signed)


def extended(
    typeflag: bytes, body: bytes, *, magic: bytes = USTAR, name: bytes = b"././@LongLink"
) -> bytes:
    return header(name, len(body), typeflag, magic=magic) + body + padding(len(body))


def pax_record(key: str | bytes, value: str | bytes) -> bytes:
    key, value = (text.encode() if isinstance(text, str) else text for text in (key, value))
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pax(records: Mapping[str, str | bytes], typeflag: bytes = b"x") -> bytes:
    return extended(
        typeflag, b"".join(map(pax_record, records, records.values())), name=b"PaxHeaders/x"
    )


def gnu_long(name: bytes, typeflag: bytes = b"L") -> bytes:
    return extended(typeflag, name + b"\0", magic=GNU)


@dataclass
class Tar:
    """A tar that is built, and what a scan must find in it.

    Attributes:
        blob: The bytes of the tar.
        rows: (name, offset, size) of each member with a payload.
        row_ends: For each row, the position where the headers of its member end.
        borders: Positions where the blob may be cut and is still a tar: behind each member.
        headers: Positions where a header of 512 bytes with a checksum starts.
        counts: Number of members of each kind, by the attributes of ScanReport.
        judged: tarfile reads this tar as blobpack does.
        concatenated: Members stand behind an end-of-archive marker, which tarfile reads only with ignore_zeros.
    """

    blob: bytearray = field(default_factory=bytearray)
    rows: list[Row] = field(default_factory=list)
    row_ends: list[int] = field(default_factory=list)
    borders: list[int] = field(default_factory=lambda: [0])
    headers: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    judged: bool = True
    concatenated: bool = False

    def group(self, *parts: bytes) -> int:
        """Append headers with their bodies, and return the position behind them."""
        for part in parts:
            self.headers.append(len(self.blob))
            self.blob += part
        return len(self.blob)

    def payload(self, payload: bytes) -> None:
        self.blob += payload + padding(len(payload))
        self.borders.append(len(self.blob))

    def row(self, name: str, start: int, size: int) -> None:
        self.rows.append((name, start, size))
        self.row_ends.append(len(self.blob))

    def file(self, name: str | bytes, payload: bytes, *parts: bytes, **fields: object) -> Tar:
        """Append a file; `parts` are its extended headers, and its own header if that is not the usual one."""
        raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
        if not parts or parts[-1][156:157] not in PAYLOAD_TYPES:
            parts = (*parts, header(raw[:100], len(payload), **fields))
        start = self.group(*parts)
        self.payload(payload)
        self.row(raw.decode("utf-8", "surrogateescape"), start, len(payload))
        return self

    def link(self, name: str, target: str, *parts: bytes, **fields: object) -> Tar:
        """Append a hard link. It has a row, with the payload of the last file of the target's name, if there is one."""
        raw = header(name.encode()[:100], typeflag=b"1", link=target.encode()[:100], **fields)
        self.group(*parts, raw)
        self.borders.append(len(self.blob))
        self.counts["hard_links"] += 1
        found = [row for row in self.rows if row[0].removeprefix("./") == target.removeprefix("./")]
        if found:
            self.row(name, *found[-1][1:])
        else:
            self.counts["dangling_links"] += 1
        return self

    def other(self, kind: str, *parts: bytes, payload: bytes = b"") -> Tar:
        """Append a member without a row."""
        self.group(*parts)
        self.payload(payload)
        self.counts[kind] += 1
        return self

    def extension(self, part: bytes) -> Tar:
        """Append an extended header that may stand without a member behind it, such as a global one."""
        self.group(part)
        self.borders.append(len(self.blob))
        return self

    def end(self, marker: bytes = END) -> Tar:
        self.blob += marker
        return self

    def unjudged(self) -> Tar:
        self.judged = False
        return self


def long_name(stem: str = "long", length: int = 180) -> str:
    return f"{'f' * 60}/{stem}-{'n' * length}.jpg"


P = bytes(range(256)) * 3


def split_ustar() -> Tar:
    """Make a tar of names that are split into ustar prefix and name, also of names that fill a field without a NUL."""
    full = header(b"n" * 100, 5, prefix=b"p" * 155)
    return (
        Tar()
        .file("dir/sub/a.jpg", P, header(b"a.jpg", len(P), prefix=b"dir/sub"))
        .file("p" * 155 + "/" + "n" * 100, b"12345", full)
        .file("n" * 100, b"x")
        .end()
    )


def star() -> Tar:
    """Make a tar with star's headers: a shorter prefix, then times, and "tar" at the end of the block."""
    ours = {476: b"00000000000 00000000000 ", 508: b"tar\0"}
    filled = header(b"b.jpg", 9, prefix=b"q" * 131, put=ours)
    times_follow = Tar().file("dir/a.jpg", P, header(b"a.jpg", len(P), prefix=b"dir", put=ours))
    return times_follow.file("q" * 131 + "/b.jpg", b"123456789", filled).end().unjudged()


def sparse_gnu() -> Tar:
    """Make a tar with a sparse file of old GNU tar, whose map continues in two more blocks."""
    entry = b"00000000000\0" + b"00000000000\0"
    more = [entry * 21 + b"\1" + bytes(7), entry * 21 + bytes(8)]
    head = header(
        b"holes",
        1024,
        b"S",
        magic=GNU,
        put={386: entry * 4, 482: b"\1", 483: b"%011o\0" % (1 << 20)},
    )
    return (
        Tar()
        .other("sparse", head + b"".join(more), payload=P[:512] * 2)
        .file("a.jpg", P, magic=GNU)
        .end()
    )


def sparse_star() -> Tar:
    """Make a tar with star's sparse file: its map, and the flag that more blocks follow, have other places."""
    entry = b"00000000000\0" + b"00000000000\0"
    head = header(b"holes", 512, b"S", put={355: b"\1", 508: b"tar\0"})
    return (
        Tar()
        .other("sparse", head + entry * 21 + bytes(8), payload=P[:512])
        .file("a.jpg", P)
        .end()
        .unjudged()
    )


def sparse_pax(records: Mapping[str, str]) -> Tar:
    shape = header(b"GNUSparseFile.0/holes", 512)
    return (
        Tar()
        .other("sparse", pax(records), shape, payload=b"0\n" + bytes(510))
        .file("a.jpg", P)
        .end()
    )


def multi_volume() -> Tar:
    return (
        Tar()
        .other("other", header(b"label", typeflag=b"V", magic=GNU))
        .other("other", header(b"rest.jpg", 700, b"M", magic=GNU), payload=P[:700])
        .other("other", header(b"dir/", 9, b"D", magic=GNU), payload=b"Yfile\0\0\0\0")
        .file("a.jpg", P, magic=GNU)
        .end()
    )


def without_payload() -> Tar:
    """Make a tar of kinds that never have data, even if their size is not 0, and of unknown kinds that do."""
    tar = Tar().file("a.jpg", P)
    for kind, typeflag in (
        ("symbolic_links", b"2"),
        ("devices", b"3"),
        ("devices", b"4"),
        ("folders", b"5"),
        ("devices", b"6"),
    ):
        tar.other(kind, header(b"x", 700, typeflag, link=b"a.jpg"))
    tar.other("other", header(b"acl", 700, b"A"), payload=P[:700])
    return (
        tar.other("other", header(b"unknown", 700, b"Z"), payload=P[:700]).file("b.jpg", b"b").end()
    )


def concatenated() -> Tar:
    """Make two tars, one behind the other: the second one is read only if the caller asks for it."""
    tar = Tar().file("a.jpg", P).end()
    tar.blob += bytes(7 * BLOCK)
    tar.concatenated = True
    return tar.file("b.jpg", b"b").end()


def nested() -> Tar:
    inner = Tar().file("inner.jpg", P).link("link", "inner.jpg").end()
    return Tar().file("inner.tar", bytes(inner.blob)).file("a.jpg", P).end()


def odd_names() -> Tar:
    names = (
        "new\nline",
        "tab\t",
        "back\\slash",
        "-rf",
        "a b",
        "*",
        "ünï/cødé",
        "日本.jpg",
        "\r",
        "💥",
    )
    tar = Tar()
    for name in names:
        tar.file(name, name.encode())
    return tar.end()


def odd_numbers() -> Tar:
    """Make a tar with sizes as old programs wrote them: between spaces, or filling the whole field."""
    tar = Tar()
    for i, size_field in enumerate(
        (b"        1400 ", b"000000001400", b"1400 \0\0\0\0\0\0\0", b"1400")
    ):
        tar.file(f"{i}", P, header(b"%d" % i, size_field=size_field[:12].ljust(12, b"\0")))
    return tar.end()


# name of a dialect → a function that makes a tar in it
DIALECTS: dict[str, Callable[[], Tar]] = {
    "ustar": lambda: Tar().file("a.jpg", P).file("dir/b.jpg", P[:512]).end(),
    "v7": lambda: (
        Tar()
        .file("a.jpg", P, typeflag=b"\0", magic=V7)
        .other("folders", header(b"dir/", typeflag=b"\0", magic=V7))
        .file("dir/b.jpg", b"b", typeflag=b"\0", magic=V7)
        .end()
    ),
    "ustar_prefix": split_ustar,
    "gnu": lambda: Tar().file("a.jpg", P, magic=GNU).file("b", b"", magic=GNU).end(),
    "gnu_times_where_ustar_has_a_prefix": lambda: (
        Tar()
        .file("a.jpg", P, magic=GNU, put={345: b"13345000000\00013345000000\0"})
        .end()
        .unjudged()
    ),
    "gnu_long_name": lambda: (
        Tar()
        .file(long_name(), P, gnu_long(long_name().encode()), magic=GNU)
        .file(
            long_name("of a block", 512 - 76),
            P,
            gnu_long(long_name("of a block", 512 - 76).encode()),
            magic=GNU,
        )
        .file("a.jpg", b"a", magic=GNU)
        .end()
    ),
    "gnu_long_link": lambda: (
        Tar()
        .file(long_name(), P, gnu_long(long_name().encode()), magic=GNU)
        .link("short", long_name(), gnu_long(long_name().encode(), b"K"), magic=GNU)
        .link(
            long_name("link"),
            long_name(),
            gnu_long(long_name().encode(), b"K"),
            gnu_long(long_name("link").encode()),
            magic=GNU,
        )
        .end()
    ),
    "base256_size": lambda: (
        Tar().file("a.jpg", P, size_field=base256(len(P))).file("b", b"b").end()
    ),
    "pax_path": lambda: (
        Tar()
        .file(long_name(), P, pax({"path": long_name()}))
        .file("ü.jpg", b"", pax({"path": "ü.jpg"}))
        .end()
    ),
    "pax_linkpath": lambda: (
        Tar()
        .file(long_name(), P, pax({"path": long_name()}))
        .link("short", long_name(), pax({"linkpath": long_name()}))
        .end()
    ),
    "pax_mtime": lambda: (
        Tar().file("a.jpg", P, pax({"mtime": "1.5", "comment": "path=\nno"})).file("b", b"").end()
    ),
    "pax_size": lambda: (
        Tar().file("a.jpg", P, pax({"size": str(len(P))}), header(size=0)).file("b.jpg", b"b").end()
    ),
    "pax_size_over_another": lambda: (
        Tar()
        .file("a.jpg", P, pax({"size": str(len(P))}), header(size=3000))
        .file("b.jpg", b"b")
        .end()
    ),
    "pax_size_then_gnu_long_name": lambda: (
        Tar()
        .file(
            long_name(),
            P,
            pax({"size": str(len(P))}),
            gnu_long(long_name().encode()),
            header(size=3),
        )
        .file("b.jpg", b"b")
        .end()
    ),
    "pax_size_then_global": lambda: (
        Tar()
        .file("a.jpg", P, pax({"size": str(len(P))}), pax({"comment": "c"}, b"g"), header(size=3))
        .file("b.jpg", b"b")
        .end()
    ),
    "pax_global": lambda: (
        Tar()
        .extension(pax({"comment": "c", "mtime": "1"}, b"g"))
        .file("a.jpg", P)
        .file("b", b"b")
        .end()
    ),
    "pax_global_path": lambda: (
        Tar()
        .file("before", b"1")
        .extension(pax({"path": "everywhere"}, b"g"))
        .file("everywhere", b"2", header(b"hidden", 1))
        .file("own", b"3", pax({"path": "own"}), header(b"hidden", 1))
        .file("headers", b"3", pax({"path": ""}), header(b"headers", 1))
        .extension(pax({"path": ""}, b"g"))
        .file("after", b"4")
        .end()
        .unjudged()
    ),
    "pax_global_linkpath": lambda: (
        Tar()
        .file("a.jpg", P)
        .extension(pax({"linkpath": "a.jpg"}, b"g"))
        .link("link", "a.jpg", put={157: b"elsewhere"})
        .end()
    ),
    "pax_hdrcharset": lambda: (
        Tar()
        .file(
            b"caf\xe9" * 30,
            P,
            extended(
                b"x", pax_record("hdrcharset", "BINARY") + pax_record("path", b"caf\xe9" * 30)
            ),
        )
        .end()
    ),
    "solaris": lambda: (
        Tar()
        .file(long_name(), P, pax({"path": long_name(), "size": str(len(P))}, b"X"), header(size=0))
        .file("b.jpg", b"b")
        .end()
    ),
    "star": star,
    "type7": lambda: Tar().file("a.jpg", P, typeflag=b"7").file("b", b"b").end(),
    "hardlink": lambda: Tar().file("a.jpg", P).link("b.jpg", "a.jpg").file("c", b"c").end(),
    "hardlink_with_size": lambda: (
        Tar().file("a.jpg", P).link("b.jpg", "a.jpg", size=len(P)).file("c", b"c").end()
    ),
    "hardlink_chain": lambda: (
        Tar()
        .file("a", P)
        .link("b", "a")
        .link("c", "b")
        .link("d", "c")
        .file("a", b"2")
        .link("e", "a")
        .end()
    ),
    "hardlink_dangling": lambda: (
        Tar()
        .link("b", "a")
        .file("a", P)
        .link("c", "never")
        .link("d", "c")
        .link("a", "never")
        .link("e", "a")
        .end()
    ),
    "hardlink_with_dot": lambda: (
        Tar().file("./a", P).link("b", "a").file("c", b"").link("./d", "./c").end()
    ),
    "concatenated": concatenated,
    "no_end_blocks": lambda: Tar().file("a.jpg", P).file("b", b"b"),
    "lone_zero_block": lambda: Tar().file("a.jpg", P).end(bytes(BLOCK)),
    "blocked": lambda: Tar().file("a.jpg", P).end(bytes(10240)),
    "duplicate_names": lambda: Tar().file("a.jpg", P).file("b", b"").file("a.jpg", b"second").end(),
    "empty_files": lambda: Tar().file("a", b"").file("b", b"").file("c", b"").end(),
    "nested_tar": nested,
    "non_utf8_name": lambda: (
        Tar()
        .file(b"caf\xe9.jpg", P)
        .file(b"\xff" * 120, b"b", gnu_long(b"\xff" * 120), magic=GNU)
        .end()
    ),
    "odd_names": odd_names,
    "odd_numbers": odd_numbers,
    "signed_checksum": lambda: Tar().file(b"\xff\xfe.jpg", P, signed=True).file("b", b"b").end(),
    "multi_volume": multi_volume,
    "without_payload": without_payload,
    "sparse_gnu": sparse_gnu,
    "sparse_star": sparse_star,
    "sparse_pax_0.0": lambda: sparse_pax(
        {"GNU.sparse.size": "9999", "GNU.sparse.numblocks": "0", "GNU.sparse.name": "holes"}
    ),
    "sparse_pax_0.1": lambda: sparse_pax(
        {"GNU.sparse.size": "9999", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,512"}
    ),
    "sparse_pax_1.0": lambda: sparse_pax(
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999"}
    ),
}


# Tars with traps for a scan that starts in the middle, as each thread but the first does


def random_blocks(rng: random.Random, count: int) -> bytes:
    return rng.randbytes(count * BLOCK)


def stray_blocks(rng: random.Random, count: int) -> bytes:
    """Make a payload of blocks that look like headers or ends of archives, and of random blocks."""
    lures = [
        header(b"stray", 100),
        header(b"stray", 5000),
        header(b"stray", 0o77777777777),
        header(b"stray", size_field=base256(1 << 40)),
        header(b"stray", 300_000),
        header(b"stray", 3000, b"L", magic=GNU),
        header(b"stray", 3000, b"x"),
        header(b"stray", 512, b"S", magic=GNU, put={482: b"\1"}),
        header(b"stray", typeflag=b"1", link=b"small-1"),
        header(b"stray", 9, typeflag=b"\0", magic=V7),
        pax({"path": "hijacked"}, b"g"),
        pax({"path": "hijacked", "size": "1024"}),
        pax({"comment": "c"}, b"g"),
        gnu_long(b"hijacked"),
        bytes(BLOCK),
        END,
        random_blocks(rng, 1),
    ]
    parts = rng.choices(lures, k=count)
    return b"".join(parts)[: count * BLOCK]


def aligned_record(value: bytes) -> bytes:
    """Make a pax record whose value starts at the border of a block, so that headers in the value look real."""
    for filler in range(BLOCK):
        record = pax_record("c" * (filler + 1), value)
        if record.index(b"=") + 1 == BLOCK:
            return record
    raise AssertionError(value)


def small_files(rng: random.Random, count: int, style: str) -> Tar:
    tar = Tar()
    for i in range(count):
        payload = PAYLOADS[
            (start := rng.randrange(60_000)) : start + rng.choice((0, 1, 512, 1000, 4000, 6000))
        ]
        name = f"small-{i}"
        if style == "gnu_long":
            tar.file(long_name(name), payload, gnu_long(long_name(name).encode()), magic=GNU)
        elif style == "pax":
            tar.file(
                long_name(name),
                payload,
                pax({"path": long_name(name), "comment": "c" * rng.randrange(900)}),
            )
        else:
            tar.file(name, payload, magic=GNU if style == "gnu" else USTAR)
    return tar


PAYLOADS = random.Random(0).randbytes(70_000)


class Trapper:
    """Builds tars of many members out of a few parts that are made once."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.small = [
            small_files(rng, 60, style)
            for style in ("ustar", "gnu", "gnu_long", "pax")
            for _ in range(3)
        ]
        self.strays = [stray_blocks(rng, count) for count in (3, 40, 600, 2500, 5000)]
        self.inner = []
        for tars in (3, 10):
            inner = Tar()
            for _ in range(tars):
                self.append(inner, rng.choice(self.small))
            self.inner.append(bytes(inner.end().blob) + self.strays[0])

    @staticmethod
    def append(tar: Tar, part: Tar) -> None:
        start = len(tar.blob)
        tar.blob += part.blob
        tar.headers += [start + pos for pos in part.headers]
        tar.borders += [start + pos for pos in part.borders[1:]]
        tar.rows += [(name, start + pos, size) for name, pos, size in part.rows]
        tar.row_ends += [start + pos for pos in part.row_ends]

    def fill(self, tar: Tar, rng: random.Random, size: int) -> None:
        end = len(tar.blob) + size
        while len(tar.blob) < end:
            self.append(tar, rng.choice(self.small))

    def trap(self, tar: Tar, rng: random.Random) -> None:
        """Append one member that could mislead a scan from the middle."""
        kind = rng.randrange(10)
        stray = rng.choice(self.strays)
        if kind <= 1:
            tar.file("stray.bin", stray)
        elif kind == 2:
            tar.file("inner.tar", rng.choice(self.inner))
        elif kind == 3:
            tar.file("zeros", bytes(rng.choice((1, 100, 2000)) * BLOCK))
        elif kind == 4:
            tar.file("after", b"a", extended(b"x", aligned_record(stray)))
        elif kind == 5:
            tar.extension(extended(b"g", aligned_record(stray)))
        elif kind == 6:
            tar.other(
                "sparse",
                header(b"s", 512, b"S", magic=GNU, put={482: b"\1"}) + bytes(BLOCK),
                payload=P[:512],
            )
        elif kind == 7:
            for target in ("small-3", "stray.bin", "never there"):
                tar.link(f"link to {target}", target)
        elif kind == 8:
            tar.other("folders", header(b"d/", 5, b"5")).other(
                "symbolic_links", header(b"s", 9, b"2")
            )
        else:
            tar.file("v7", P, typeflag=b"\0", magic=V7)

    def tar(self, seed: int) -> Tar:
        """Make a tar of 4 to 9 MB: many small files, so that several threads scan it, then traps between small files."""
        rng = random.Random(seed)
        tar = Tar().file("shift", bytes(rng.randrange(16) * BLOCK))
        self.fill(tar, rng, (1 << 20) + 300_000)
        end = len(tar.blob) + rng.randrange(2_500_000, 6_000_000)
        while len(tar.blob) < end:
            self.trap(tar, rng)
            self.fill(tar, rng, rng.choice((0, 1, 100_000, 400_000)))
        if rng.random() < 0.2:
            self.name_globally(tar, rng)
        return tar.end(rng.choice((END, END, bytes(BLOCK), b"", bytes(10240))))

    def name_globally(self, tar: Tar, rng: random.Random) -> None:
        """Append a pax global header with a name, and members behind it; those with long names keep their own."""
        tar.extension(pax({"path": "everywhere"}, b"g"))
        first = len(tar.rows)
        self.fill(tar, rng, 300_000)
        tar.rows[first:] = [
            (name if "/" in name else "everywhere", start, size)
            for name, start, size in tar.rows[first:]
        ]
        if rng.random() < 0.5:
            tar.extension(pax({"path": ""}, b"g"))
            self.fill(tar, rng, 300_000)


# Rows as the scan and tarfile find them


def rows_of(index: Index) -> list[Row]:
    return [(member.name, member.offset_start, member.size) for member in index]


def walk(blob: bytes, **options: object) -> Walk:
    """Scan a blob in memory by the native function."""
    return walk_headers(
        -1, len(blob), "blob", lambda start, end, _: bytes(blob[start:end]), **options
    )


def walked_rows(columns: MemberColumns) -> list[Row]:
    packed, edges = bytes(columns.names), columns.name_bounds.tolist()
    starts, ends = columns.offset_start.tolist(), columns.offset_end.tolist()
    return [
        (packed[edges[i] : edges[i + 1]].decode("utf-8", "surrogateescape"), start, end - start)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def tarfile_rows(blob: bytes | bytearray | Path, *, ignore_zeros: bool = False) -> list[Row]:
    """Return the rows that tarfile finds: regular files that are not sparse, and hard links to such files."""
    rows: list[Row] = []
    payloads: dict[str, tuple[int, int]] = {}
    source = io.BytesIO(blob) if isinstance(blob, bytes | bytearray) else blob.open("rb")
    with (
        source,
        tarfile.open(
            fileobj=source,
            mode="r:",
            encoding="utf-8",
            errors="surrogateescape",
            ignore_zeros=ignore_zeros,
        ) as judge,
    ):
        for member in judge:
            where = None
            if member.isreg() and not member.issparse():
                where = member.offset_data, member.size
            elif member.islnk():
                where = payloads.get(member.linkname.removeprefix("./"))
            if where is not None:
                rows.append((member.name, *where))
                payloads[member.name.removeprefix("./")] = where
    return rows
