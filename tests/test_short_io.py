"""Reads and writes that transfer less than they were asked for change no byte of any output."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

import blobpack
from blobpack.stores.descriptor import never_short, read_at, write_at
from blobpack.stores.sink import FileSink, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

DATA = random.Random(3).randbytes(100_003)

# What a child process does below its current folder, beside the folder `imgs`.
WORK = """
import os, sys
from pathlib import Path
import blobpack

blobpack.pack("imgs", "embed.tar", all_files=True)
blobpack.pack("imgs", "sidecar.tar", all_files=True, index="sidecar")
blobpack.pack("imgs", "zstd.tar.zst", all_files=True, level=3)
blobpack.pack_shards("imgs", "shards", 600_000, all_files=True)
blobpack.pack([("more.bin", b"x" * 99_999)], "more.tar", all_files=True)
blobpack.merge(["embed.tar", "more.tar"], "merged.tar")
blobpack.subset("merged.tar", "subset.tar", blobpack.scan("merged.tar").select("*1.bin"))
blobpack.repack("subset.tar", "subset.tar.zst", all_files=True, level=1)
blobpack.pack("imgs", "appended.tar", all_files=True)
blobpack.append("appended.tar", [("z.bin", b"y" * 77_777)], all_files=True)
blobpack.repack("foreign.tar.gz", "repacked.tar", all_files=True)
with blobpack.open_blob("zstd.tar.zst") as blob:
    blobpack.extract(blob, "extracted")
    blob.index.save("saved.idx")
    blobpack.write_offsets(blob.index, "o.pkl")
    with open("raw.pkl", "wb", buffering=0) as file:
        blobpack.write_offsets(blob.index, file)
    blobpack.write_offsets(blobpack.read_offsets("raw.pkl"), "again.csv", format="csv")
for name in ("embed.tar", "sidecar.tar", "zstd.tar.zst", "merged.tar", "appended.tar"):
    with blobpack.open_blob(name) as blob:
        found = b"".join(blob.read_many(blob.index.names))
        Path(f"{name}.read").write_bytes(found)
        report = blobpack.verify(blob)
        assert report.ok, report.failures
with blobpack.open_collection("shards") as collection:
    Path("shards.read").write_bytes(b"".join(collection.read_many(collection.index.names)))
"""
COMMANDS = {
    "cat": ["cat", "embed.tar", "2.bin", "5.bin"],
    "ls": ["ls", "-l", "embed.tar"],
    "offsets": ["offsets", "embed.tar", "-o", "-", "--format", "jsonl"],
}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library that halves reads and writes."""
    library = tmp_path_factory.mktemp("halves") / "halves.so"
    source = Path(__file__).with_name("halves.c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"],
        check=True,
    )
    return library


def prepare(folder: Path) -> None:
    rng = random.Random(5)
    images = folder / "imgs"
    images.mkdir(parents=True)
    for i, size in enumerate([0, 1, 511, 512, 70_000, 1_000_000, *range(1000, 50_000, 2345)]):
        path = images / f"{i}.bin"
        path.write_bytes(rng.randbytes(size))
        os.utime(path, (1, 1))
    with tarfile.open(folder / "foreign.tar.gz", "w:gz") as tar:
        tar.add(images, "imgs")


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        # its header holds the time at which it was made
        and path.name != "foreign.tar.gz"
    }


def run(folder: Path, preload: Path | None) -> dict[str, bytes]:
    """Do the work in a child process, and return all files and outputs."""
    folder.mkdir()
    prepare(folder)
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if preload is not None:
        env["LD_PRELOAD"] = str(preload)
    subprocess.run([sys.executable, "-c", WORK], cwd=folder, env=env, check=True)
    outputs = {}
    for name, arguments in COMMANDS.items():
        code = "from blobpack.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            env=env,
            check=True,
            stdout=subprocess.PIPE,
        )
        outputs[f"stdout of {name}"] = done.stdout
    return files_below(folder) | outputs


def test_halved_reads_and_writes_of_a_whole_process_change_no_output(
    tmp_path: Path, halves: Path
) -> None:
    usual = run(tmp_path / "usual", None)
    halved = run(tmp_path / "halved", halves)
    assert sorted(usual) == sorted(halved)
    assert [name for name in usual if usual[name] != halved[name]] == []
    assert len(usual["stdout of cat"]) > 500


@pytest.fixture
def halved_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halve the calls that Python code makes."""
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, size, pos: pread(fd, -(-size // 2), pos))
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, pos: pwrite(fd, data[: -(-len(data) // 2)], pos)
    )


@pytest.mark.usefixtures("halved_calls")
def test_the_helpers_transfer_everything(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w+b") as file:
        write_at(file.fileno(), DATA, 0)
        write_at(file.fileno(), memoryview(b"\0" * 64).cast("q"), len(DATA))
        assert read_at(file.fileno(), 0, len(DATA)) == DATA
        assert read_at(file.fileno(), 17, 99_000) == DATA[17:99_000]
        assert read_at(file.fileno(), 5, 5) == b""
        # the file ends before
        assert read_at(file.fileno(), 100_000, 200_000) == DATA[100_000:] + bytes(64)
        assert FileSink(file).read_back(3, 5000) == DATA[3:5000]


@pytest.mark.usefixtures("halved_calls")
def test_what_is_sent_to_a_stream_is_whole() -> None:
    class Collected(FileSink):
        is_stream = True

    sink = Collected(io.BytesIO())
    with parts_of(sink) as parts:
        write_at(parts.fd, DATA, 0)
        parts.finish(10, len(DATA))
    assert sink._file.getvalue() == DATA[10:]  # type: ignore[attr-defined]


class Halving(io.RawIOBase):
    """A raw file that takes half of the data, and now and then nothing."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.calls = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int | None:
        self.calls += 1
        if self.calls % 3 == 0:
            return None
        view = memoryview(data).cast("B")
        half = -(-len(view) // 2)
        self.taken += view[:half]
        return half


@pytest.mark.parametrize(
    "write",
    [
        lambda index, file: blobpack.write_offsets(index, file),
        lambda index, file: blobpack.write_offsets(index, file, format="csv"),
        lambda index, file: blobpack.write_offsets(index, file, format="parquet"),
        lambda _, file: never_short(file).write(memoryview(DATA)),
    ],
)
def test_a_raw_file_gets_everything(
    tmp_path: Path, write: Callable[[blobpack.Index, BinaryIO], object]
) -> None:
    index = blobpack.pack([("a", b"1"), ("b", b"22")], tmp_path / "o.tar", all_files=True).index
    whole, halving = io.BytesIO(), Halving()
    assert write(index, whole) == write(index, cast("BinaryIO", halving))
    assert bytes(halving.taken) == whole.getvalue() != b""
    assert not halving.closed
