"""Read members by name: 10,000 random ones of (a), 4.6 KB each, as bytes."""

from __future__ import annotations

import os
import random
import tarfile
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from data import SEED

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Figure, Floors
    from data import DataSets, Tar

    from blobpack import Blob

TASK = "read by name (a) 4.6 KB"
READS = 10_000
ROUNDS = 15
TO_REACH = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """A tar, and the names to read from it."""

    tar: Tar
    names: list[str]


@pytest.fixture(scope="module")
def blob(data: DataSets) -> Iterator[Blob]:
    """Open (a), which another tool wrote, with the index of a scan."""
    path = data.tar("a").path
    with blobpack.open_blob(path, blobpack.scan(path)) as blob:
        yield blob


@pytest.fixture(scope="module")
def question(data: DataSets, blob: Blob) -> Question:
    """Choose the names to read."""
    names = random.Random(SEED).choices(blob.index.names, k=READS)
    return Question(data.tar("a"), names)


@pytest.fixture
def ranges(blob: Blob) -> dict[str, tuple[int, int]]:
    """Return start and size by name, as a good program in plain Python keeps them."""
    return {member.name: (member.offset_start, member.size) for member in blob.index}


def bench_ours(figure: Figure, blob: Blob, question: Question) -> None:
    """Read with blobpack."""
    read, names = blob.read, question.names

    def read_all() -> None:
        for name in names:
            read(name)

    figure.of(TASK, items=READS, unit="read", to_reach=TO_REACH)
    figure.take(read_all, rounds=ROUNDS)
    with tarfile.open(question.tar.path) as archive:
        members = {member.name: member for member in archive}
        for name in names:
            assert read(name) == archive.extractfile(members[name]).read()


def bench_plain_c(
    figure: Figure, blob: Blob, question: Question, output: Path, floors: Floors
) -> None:
    """Read the ranges of these members with pread in plain C, without looking up a name."""
    members = [blob.index[name] for name in question.names]
    path = output / "ranges"
    path.write_bytes(
        array("q", (at for m in members for at in (m.offset_start, m.offset_end))).tobytes()
    )
    figure.of(TASK, "plain C pread", items=READS, unit="read")
    figure.take_timed(lambda: floors("pread", question.tar.path, path, rounds=ROUNDS))


def bench_dict_and_pread(
    figure: Figure, question: Question, ranges: dict[str, tuple[int, int]]
) -> None:
    """Read with os.pread, at offsets from a dict."""
    fd = os.open(question.tar.path, os.O_RDONLY)

    def read_all() -> None:
        for name in question.names:
            start, size = ranges[name]
            os.pread(fd, size, start)

    try:
        figure.of(TASK, "dict, os.pread", items=READS, unit="read")
        figure.take(read_all, rounds=ROUNDS)
    finally:
        os.close(fd)


def bench_tarfile(figure: Figure, question: Question) -> None:
    """Read with tarfile, with its members in a dict."""
    with tarfile.open(question.tar.path) as archive:
        # getmember would search a list: 10,000 times through 30,000 members
        members = {member.name: member for member in archive}

        def read_all() -> None:
            for name in question.names:
                archive.extractfile(members[name]).read()

        figure.of(TASK, "dict, tarfile", items=READS, unit="read")
        figure.take(read_all, rounds=5)
