"""The data sets of the benches: tars that are made once from a seed, in a folder that outlives the run.

(a) is like a folder of thumbnails, (b) is a million crops, with short headers and with pax headers, and (c) is like
photographs. Each tar is read once before it is measured, so that it is in the page cache. A bench takes its numbers
of members, lookups and so on from `Sizes`, so that one switch makes all of them small.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED = 20260101
BLOCK = 512
RANDOM_BYTES = 1 << 24
WRITE_BYTES = 1 << 23
READ_BYTES = 1 << 20
# left free on the disk
SPARE_BYTES = 1 << 30
# pack takes only images, which it recognises by their first bytes
JPEG = b"\xff\xd8\xff\xe0"
SUFFIXES = ("jpg", "png", "txt")


class Sizes(NamedTuple):
    """A number for each size of a run.

    Attributes:
        full: For the figures that are published.
        quick: With --quick: a minute in all.
        tiny: With --tiny: the tests run each row once, and nobody reads the times.
    """

    full: int
    quick: int
    tiny: int


@dataclass(frozen=True, slots=True)
class TarSpec:
    """The recipe of a tar.

    Attributes:
        label: What the table calls it.
        members: How many.
        sizes: The smallest and the largest payload, bytes.
        format: Of tarfile; with pax, mtime is a fraction, so that each member has a pax header.
    """

    label: str
    members: Sizes
    sizes: tuple[int, int]
    format: int = tarfile.GNU_FORMAT


MANY = Sizes(1_000_000, 100_000, 2_000)
MANY_SIZES = (600, 1600)
SPECS = {
    "a": TarSpec("(a) 4.6 KB", Sizes(30_000, 6_000, 1_000), (2600, 6700)),
    "b_gnu": TarSpec("(b) 1.1 KB, GNU", MANY, MANY_SIZES),
    "b_pax": TarSpec("(b) 1.1 KB, pax", MANY, MANY_SIZES, tarfile.PAX_FORMAT),
    "c": TarSpec("(c) 5 MB", Sizes(200, 40, 4), (5_000_000, 5_000_000)),
    "remote_small": TarSpec("4 KB", Sizes(220_000, 22_000, 2_000), (4000, 4200)),
}


@dataclass(frozen=True, slots=True)
class Tar:
    """A tar that exists and is in the page cache."""

    key: str
    label: str
    path: Path
    members: int


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of tar (a)."""

    path: Path
    paths: list[str]


class DataSets:
    """Makes each data set once, in a folder that outlives the run.

    Attributes:
        root: The folder.
        size: Which of `Sizes` the run takes.
    """

    def __init__(self, root: Path, size: str) -> None:
        self.root = root
        self.size = size
        self.random_bytes = random.Random(SEED).randbytes(RANDOM_BYTES)
        self._tars: dict[str, Tar] = {}

    def count(self, sizes: Sizes) -> int:
        """Return the number for the size of this run."""
        return getattr(sizes, self.size)

    def rounds(self, rounds: int) -> int:
        """Return the number of rounds of a bench: 1 in a tiny run."""
        return 1 if self.size == "tiny" else rounds

    def spec(self, key: str) -> tuple[TarSpec, int, Path]:
        """Return the recipe of a tar, its number of members and its path."""
        spec = SPECS[key]
        members = self.count(spec.members)
        # a changed recipe gets another name, so that no run measures a tar of an older version of this file
        made_of = repr((SEED, key, spec.sizes, spec.format, members)).encode()
        return (
            spec,
            members,
            self.root / f"{key}-{members}-{hashlib.sha256(made_of).hexdigest()[:8]}.tar",
        )

    def tar(self, key: str) -> Tar:
        """Return a tar; it is made if it does not exist, and read once."""
        if key not in self._tars:
            spec, members, path = self.spec(key)
            if not path.exists():
                self._require(members * (sum(spec.sizes) // 2 + 5 * BLOCK))
                replace_whole(path, lambda part: write_tar(part, spec, members, self.random_bytes))
            warm(path)
            self._tars[key] = Tar(key, spec.label, path, members)
        return self._tars[key]

    def folder(self) -> Folder:
        """Return the files of tar (a), in byte order of their paths; they are unpacked if they do not exist, and read once."""
        tar = self.tar("a")
        path = tar.path.with_suffix("")
        if not path.exists():
            self._require(3 * tar.path.stat().st_size)
            replace_whole(path, lambda part: unpack(tar.path, part))
        paths = sorted(str(file.relative_to(path)) for file in path.glob("*/*"))
        for file in paths:
            (path / file).read_bytes()
        return Folder(path, paths)

    def _require(self, size: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < size + SPARE_BYTES:
            pytest.skip(f"{size / 1e9:.1f} GB of data do not fit: {free / 1e9:.1f} GB are free")


def replace_whole(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file or folder under another name, and rename it, so that an interrupted run leaves no half of it."""
    part = path.with_name(f"{path.name}.part")
    if part.is_dir():
        shutil.rmtree(part)
    make(part)
    part.replace(path)


def member_name(row: int) -> str:
    """Name a member: 31 characters, a thousand in a folder, every third of each suffix."""
    return f"set/{row // 1000:04d}/image_{row:012d}.{SUFFIXES[row % len(SUFFIXES)]}"


def write_tar(path: Path, spec: TarSpec, members: int, random_bytes: bytes) -> None:
    """Write a tar, with headers that differ from one header of tarfile only in name, size and checksum.

    tarfile needs some 30 µs for each of a million members.
    """
    rng = random.Random(SEED)
    name = member_name(0).encode()
    model = tarfile.TarInfo(name.decode())
    model.mtime = 1_600_000_000 + (0.25 if spec.format == tarfile.PAX_FORMAT else 0)
    made = model.tobuf(spec.format)
    before, header = made[:-BLOCK], made[-BLOCK:]
    # the checksum of a header with an empty name and size, its own field counted as 8 spaces (POSIX, "ustar")
    field = slice(124, 136)
    rest = sum(header) - sum(header[148:156]) + 8 * 32 - sum(name) - sum(header[field])
    source = memoryview(random_bytes)
    pieces: list[bytes | memoryview] = []
    waiting = 0
    with path.open("wb") as file:
        for row in range(members):
            size = rng.randint(*spec.sizes)
            begin = rng.randrange(RANDOM_BYTES - size)
            name, octal = member_name(row).encode(), b"%011o\0" % size
            checksum = b"%06o\0 " % (rest + sum(name) + sum(octal))
            pieces += (
                before, name, header[len(name) : 124], octal, header[136:148], checksum, header[156:],
                JPEG, source[begin + len(JPEG) : begin + size], bytes(-size % BLOCK),
            )  # fmt: skip
            waiting += size
            if waiting > WRITE_BYTES:
                file.write(b"".join(pieces))
                pieces, waiting = [], 0
        file.write(b"".join((*pieces, bytes(2 * BLOCK))))
        file.flush()
        os.fsync(file.fileno())
        # Pages that readahead brings are larger than pages that were written, and are read faster: without this, a run
        # that makes its data would measure other times than the next run.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def unpack(path: Path, folder: Path) -> None:
    """Unpack regular members, without owners and times."""
    with tarfile.open(path) as tar:
        for member in tar:
            target = folder / member.name.removeprefix("set/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tar.extractfile(member).read())


def warm(path: Path) -> None:
    """Read a file once, into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass
