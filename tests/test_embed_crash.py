"""`index --index embed` that is killed, or loses power, leaves a blob that opens and that the next embedding mends.

Each system call that changes the blob or its index file is recorded while a real embedding runs. Then every state is
made that the disk may be in: after a kill, all calls so far; after a power failure, what was synced, and any of the pages of
4 KiB that were written since.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import tarfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tars import need_tool

import blobpack
from blobpack import MissingIndexWarning
from blobpack.indexfile.footer import sidecar_of
from blobpack.stores.local import LocalStore
from blobpack.tar.scan import scan_store
from blobpack.writing.append_mark import mark_of
from blobpack.writing.embed import embed_index, write_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 4096
ALL_SUBSETS_MAX = 6  # pages
SAMPLED_SUBSETS = 40
STATES_MAX = 60
PAYLOADS = [(f"{i:02d}.png", b"\x89PNG\r\n\x1a\n" + b"%d" % i * (100 + i)) for i in range(12)]


@dataclass(frozen=True)
class State:
    """The bytes of the blob, and those of the index file beside it; None: there is none."""

    blob: bytes
    beside: bytes | None


@dataclass
class Disk:
    """A blob as its process sees it, and as it is on disk for certain."""

    seen: State
    synced: State
    pages: set[int] = field(default_factory=set)  # written since the last fsync

    def write(self, data: bytes, position: int) -> None:
        blob = bytearray(self.seen.blob.ljust(position, b"\0"))
        blob[position : position + len(data)] = data
        self.seen = State(bytes(blob), self.seen.beside)
        self.pages |= set(range(position // PAGE, -(-(position + len(data)) // PAGE)))

    def cut(self, size: int) -> None:
        self.seen = State(self.seen.blob[:size].ljust(size, b"\0"), self.seen.beside)

    def sync(self) -> None:
        self.synced = State(self.seen.blob, self.synced.beside)
        self.pages.clear()

    def after_power_failure(self, rng: random.Random) -> Iterator[State]:
        """Yield states of the disk: some pages that were written are there, and the size is old or new."""
        pages = sorted(self.pages)
        subsets: list[tuple[int, ...]]
        if len(pages) <= ALL_SUBSETS_MAX:
            subsets = [
                chosen
                for count in range(len(pages) + 1)
                for chosen in itertools.combinations(pages, count)
            ]
        else:
            subsets = [
                tuple(page for page in pages if rng.random() < 0.5) for _ in range(SAMPLED_SUBSETS)
            ]
            subsets += [(page,) for page in pages]
            subsets += [tuple(set(pages) - {page}) for page in pages]
        for chosen in subsets:
            for size in {len(self.synced.blob), len(self.seen.blob)}:
                blob = bytearray(self.synced.blob[:size].ljust(size, b"\0"))
                for page in chosen:
                    new = self.seen.blob[page * PAGE : (page + 1) * PAGE]
                    blob[page * PAGE : page * PAGE + len(new)] = new
                for beside in {self.synced.beside, self.seen.beside}:
                    yield State(bytes(blob), beside)


def states_of(
    path: Path, change: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> list[State]:
    """Run a change of a blob, and return every state that a crash could leave."""
    beside = Path(sidecar_of(path))
    first = State(path.read_bytes(), beside.read_bytes() if beside.exists() else None)
    disk, states, rng = Disk(first, first), dict.fromkeys([first]), random.Random(1)

    def is_blob(fd: int) -> bool:
        return os.path.samestat(os.fstat(fd), path.stat())

    def note() -> None:
        states.update(dict.fromkeys([disk.seen, *disk.after_power_failure(rng)]))

    pwrite, fsync, ftruncate, unlink = os.pwrite, os.fsync, os.ftruncate, os.unlink

    def recorded_pwrite(fd: int, data: bytes, position: int) -> int:
        assert is_blob(fd)
        # a kill interrupts a write between two pages of the file
        start = 0
        while start < len(data):
            end = min(len(data), start + PAGE - (position + start) % PAGE)
            disk.write(bytes(data)[start:end], position + start)
            note()
            start = end
        return pwrite(fd, data, position)

    def recorded_fsync(fd: int) -> None:
        if is_blob(fd):
            disk.sync()
        elif os.path.samestat(os.fstat(fd), path.parent.stat()):
            disk.synced = State(disk.synced.blob, disk.seen.beside)
        note()
        fsync(fd)

    def recorded_ftruncate(fd: int, size: int) -> None:
        assert is_blob(fd)
        disk.cut(size)
        note()
        ftruncate(fd, size)

    def recorded_unlink(target: str, **options: int) -> None:
        # not the copy of the index for open readers, say
        if os.fspath(target) == os.fspath(beside):
            disk.seen = State(disk.seen.blob, None)
            note()
        unlink(target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", recorded_pwrite)
        patch.setattr(os, "fsync", recorded_fsync)
        patch.setattr(os, "ftruncate", recorded_ftruncate)
        patch.setattr(os, "unlink", recorded_unlink)
        change()
    # nothing was changed in any other way
    assert path.read_bytes() == disk.seen.blob == disk.synced.blob
    assert beside.exists() == (disk.synced.beside is not None)
    found = list(states)
    return found if len(found) <= STATES_MAX else [*found[:2], *rng.sample(found[2:], STATES_MAX)]


# Blobs before an embedding


def gnu_tar(path: Path, *options: str) -> None:
    folder = path.parent / "source"
    folder.mkdir(exist_ok=True)
    for name, payload in PAYLOADS:
        (folder / name).write_bytes(payload)
    names = [name for name, _ in PAYLOADS]
    subprocess.run([need_tool("tar"), *options, "-C", folder, "-cf", path, *names], check=True)


def foreign(path: Path) -> None:
    gnu_tar(path, "-b1")


def foreign_with_zeros(path: Path) -> None:
    gnu_tar(path, "-b40")


def without_an_end(path: Path) -> None:
    gnu_tar(path, "-b1")
    os.truncate(path, path.stat().st_size - 1024)


def with_half_an_end(path: Path) -> None:
    gnu_tar(path, "-b1")
    os.truncate(path, path.stat().st_size - 512)


def with_an_index(path: Path) -> None:
    blobpack.pack(PAYLOADS, path)


def with_a_smaller_index(path: Path) -> None:
    blobpack.pack(PAYLOADS, path, facts=False)


def with_zeros_and_an_index(path: Path) -> None:
    foreign_with_zeros(path)
    embed_index(path)


def appended_by_tar(path: Path) -> None:
    """Its index is stale, because tar wrote over the beginning."""
    blobpack.pack(PAYLOADS[:-1], path)
    name, payload = PAYLOADS[-1]
    (path.parent / name).write_bytes(payload)
    subprocess.run([need_tool("tar"), "-C", path.parent, "-rf", path, name], check=True)
    assert path.read_bytes().endswith(b"BLOBIDX\n")


def with_a_mark(path: Path) -> None:
    """An append was killed in it, and left other bytes behind the mark."""
    blobpack.pack(PAYLOADS, path, index="none")
    with path.open("ab") as file:
        file.write(mark_of("embed") + random.Random(1).randbytes(20_000))


MAKERS = [
    foreign,
    foreign_with_zeros,
    without_an_end,
    with_half_an_end,
    with_an_index,
    with_a_smaller_index,
    with_zeros_and_an_index,
    appended_by_tar,
    with_a_mark,
]


def opened(path: Path) -> tuple[dict[str, bytes], bool]:
    """Return what the blob holds, and whether it was scanned because it has no index."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with blobpack.open_blob(path) as blob:
            read = {member.name: blob.read(member.name) for member in blob.index}
    assert all(issubclass(warning.category, MissingIndexWarning) for warning in found)
    return read, bool(found)


def listed(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


@pytest.mark.parametrize("facts", [False, True], ids=["plain", "facts"])
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_a_crash_at_any_step_leaves_a_blob_that_opens_and_can_be_mended(
    maker: Callable[[Path], None], facts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.tar"
    beside = Path(sidecar_of(path))
    maker(path)
    stale = maker is appended_by_tar
    if not stale:
        put_index_beside(path)
    states = states_of(path, lambda: embed_index(path, facts=facts), monkeypatch)
    assert len(states) > 3
    assert opened(path) == (dict(PAYLOADS), False)
    monkeypatch.setattr(
        os, "fsync", lambda fd: None
    )  # these blobs need not survive the test's own crash
    for number, state in enumerate(states):
        path.write_bytes(state.blob)
        beside.unlink(missing_ok=True)
        if state.beside is not None:
            beside.write_bytes(state.beside)
        assert listed(path) == dict(PAYLOADS), number
        # a blob that was refused before may be refused until the first mark
        if not stale or state.blob != states[0].blob:
            assert opened(path)[0] == dict(PAYLOADS), number
        embed_index(path, facts=facts)
        assert opened(path) == (dict(PAYLOADS), False), number
        assert not beside.exists(), number


def put_index_beside(path: Path) -> None:
    """Make an index file that fits the blob as it is."""
    with LocalStore(path) as store:
        write_beside(store, scan_store(store), sidecar_of(path))


@pytest.mark.parametrize("maker", [foreign, without_an_end], ids=lambda maker: maker.__name__)
def test_an_embedding_that_fails_anywhere_leaves_blob_and_index_file(
    maker: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.tar"
    beside = Path(sidecar_of(path))
    maker(path)
    put_index_beside(path)
    before = path.read_bytes(), beside.read_bytes()
    real = os.pwrite
    for allowed in itertools.count():
        left = allowed

        def pwrite(fd: int, data: bytes, position: int) -> int:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device")
            return real(fd, data, position)

        monkeypatch.setattr(os, "pwrite", pwrite)
        try:
            embed_index(path)
        except blobpack.StorageError as exc:
            assert "No space left" in str(exc)
            assert (path.read_bytes(), beside.read_bytes()) == before
        else:
            break
    assert allowed >= 4
    assert opened(path) == (dict(PAYLOADS), False)


def test_the_index_file_of_another_program_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.tar"
    foreign(path)
    Path(sidecar_of(path)).write_bytes(b"not ours")
    embed_index(path)
    assert Path(sidecar_of(path)).read_bytes() == b"not ours"
