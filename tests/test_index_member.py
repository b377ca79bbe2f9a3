"""The index inside a blob is a tar member behind the end of the archive: every tar tool reads past it without a complaint."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import plain_reader
import pytest
from tars import END, Tar, header, lack, need_node, need_tool

import blobpack
from blobpack import BlobChangedError, FormatError, StorageError
from blobpack._native.scan import index_header, index_size_in
from blobpack.checksum import crc32c
from blobpack.opening.find_index import find_index
from blobpack.stores.local import LocalStore
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan_store
from blobpack.writing.embed import embed_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.model import IndexPlace

INDEX = ".blobpack/index"
NODE_MODULES = "/usr/share/nodejs"
TAR_STREAM = """
const extract = require("tar-stream").extract();
extract.on("entry", (header, payload, next) => {
  console.log(header.name);
  payload.on("end", next);
  payload.resume();
});
extract.on("error", (error) => { console.error(String(error)); process.exit(1); });
require("fs").createReadStream(process.argv[1]).pipe(extract);
"""


def png(name: str) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + name.encode() * 50


def payloads(first: int, count: int) -> list[tuple[str, bytes]]:
    return [
        (name, png(name)) for name in (f"imgs/{i:04d}.png" for i in range(first, first + count))
    ]


# Blobs, made by each function that writes an index inside a blob


def packed(folder: Path) -> Path:
    blobpack.pack(payloads(0, 40), folder / "packed.tar")
    return folder / "packed.tar"


def packed_empty(folder: Path) -> Path:
    blobpack.pack([], folder / "empty.tar", allow_empty=True)
    return folder / "empty.tar"


def packed_with_facts(folder: Path) -> Path:
    blobpack.pack(payloads(0, 40), folder / "facts.tar", facts=True)
    return folder / "facts.tar"


def packed_of_folder(folder: Path) -> Path:
    for name, payload in payloads(0, 30):
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    blobpack.pack(folder / "source", folder / "folder.tar")
    return folder / "folder.tar"


def appended(folder: Path) -> Path:
    path = packed(folder)
    for first in (40, 80):
        blobpack.append(path, payloads(first, 25))
    return path


def merged(folder: Path) -> Path:
    first, second = packed(folder), folder / "second.tar"
    blobpack.pack(payloads(40, 9), second)
    blobpack.merge([first, second], folder / "merged.tar")
    return folder / "merged.tar"


def chosen(folder: Path) -> Path:
    blobpack.subset(packed(folder), folder / "subset.tar", ["imgs/0003.png", "imgs/0001.png"])
    return folder / "subset.tar"


def sharded(folder: Path) -> Path:
    blobpack.pack_shards(payloads(0, 40), folder / "shards", shard_bytes=20_000)
    return sorted((folder / "shards").glob("*.tar"))[1]


def embedded(folder: Path, *options: str) -> Path:
    source = packed_of_folder(folder).with_name("source")
    path = folder / "gnu.tar"
    subprocess.run([need_tool("tar"), *options, "-C", source, "-cf", path, "imgs"], check=True)
    embed_index(path)
    return path


def embedded_again(folder: Path) -> Path:
    path = embedded(folder, "-b1")
    embed_index(path, facts=True)
    return path


def repacked(folder: Path) -> Path:
    blobpack.repack(packed(folder), folder / "repacked.tar")
    return folder / "repacked.tar"


MAKERS = [
    packed,
    packed_empty,
    packed_with_facts,
    packed_of_folder,
    appended,
    merged,
    chosen,
    sharded,
    embedded,
    embedded_again,
    repacked,
]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def blob(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return request.param(tmp_path)


def names_in(path: Path) -> list[str]:
    return [member.name for member in blobpack.scan(path)]


# Tools


def run(*command: str | Path, env: dict[str, str] | None = None) -> list[str]:
    """Run a tool that may not complain, and return the files that it lists."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if not line.endswith("/")]


def gnu_tar(path: Path) -> list[str]:
    return run(need_tool("tar"), "-tf", path)


def gnu_tar_i(path: Path) -> list[str]:
    return run(need_tool("tar"), "-itf", path)


def gnu_tar_verbose_i(path: Path) -> list[str]:
    lines = run(need_tool("tar"), "-itvf", path)
    return [line.split()[-1] for line in lines if not line.startswith("d")]


def bsdtar(path: Path) -> list[str]:
    return run(need_tool("bsdtar"), "-tf", path)


def bsdtar_concatenated(path: Path) -> list[str]:
    return run(need_tool("bsdtar"), "--options", "read_concatenated_archives", "-tf", path)


def busybox(path: Path) -> list[str]:
    return run(need_tool("busybox"), "tar", "-tf", path)


def python(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [member.name for member in archive if not member.isdir()]


def python_ignoring_zeros(path: Path) -> list[str]:
    with tarfile.open(path, ignore_zeros=True) as archive:
        return [member.name for member in archive if not member.isdir()]


def perl(path: Path) -> list[str]:
    return run(need_tool("ptar"), "-tf", path)


def tar_stream(path: Path) -> list[str]:
    if not Path(NODE_MODULES, "tar-stream").exists():
        lack("npm's tar-stream (Debian package node-tar-stream)")
    return run(need_node(), "-e", TAR_STREAM, path, env={"NODE_PATH": NODE_MODULES})


STOPPING = [gnu_tar, bsdtar, busybox, python]
READING_ON = [
    gnu_tar_i,
    gnu_tar_verbose_i,
    bsdtar_concatenated,
    python_ignoring_zeros,
    perl,
    tar_stream,
]


@pytest.mark.parametrize("tool", STOPPING, ids=lambda tool: tool.__name__)
def test_tools_that_stop_at_the_end_list_the_members(
    blob: Path, tool: Callable[[Path], list[str]]
) -> None:
    assert tool(blob) == names_in(blob)


@pytest.mark.parametrize("tool", READING_ON, ids=lambda tool: tool.__name__)
def test_tools_that_read_on_list_the_members_and_the_index(
    blob: Path, tool: Callable[[Path], list[str]]
) -> None:
    assert tool(blob) == [*names_in(blob), INDEX]


@pytest.mark.parametrize("tool", READING_ON, ids=lambda tool: tool.__name__)
def test_tools_that_read_on_list_joined_blobs(
    tmp_path: Path, tool: Callable[[Path], list[str]]
) -> None:
    path, first, second = joined(tmp_path)
    assert tool(path) == [*names_in(first), INDEX, *names_in(second), INDEX]


def test_7_zip_finds_the_members_and_no_error(blob: Path) -> None:
    seven = need_tool("7zz", "7z")
    # it warns of data behind the end of the archive, whatever the data are
    done = subprocess.run([seven, "t", blob], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rror" not in done.stdout
    listed = subprocess.run(
        [seven, "l", "-ba", "-slt", blob], capture_output=True, text=True, check=True
    )
    blocks = [block.splitlines() for block in listed.stdout.split("\n\n") if "Folder = -" in block]
    assert [block[0].removeprefix("Path = ") for block in blocks] == names_in(blob)


@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
def test_what_a_tool_extracts_with_the_members_is_an_index_file(tmp_path: Path, tool: str) -> None:
    path = packed(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    options = {"tar": ["-i"], "bsdtar": ["--options", "read_concatenated_archives"]}[tool]
    run(need_tool(tool), *options, "-xf", path, "-C", out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        *names_in(path),
        INDEX,
    }
    assert blobpack.Index.load(out / INDEX) == blobpack.scan(path)


# The header


@pytest.mark.parametrize("size", [0, 512, 5120, (1 << 33) - 512, 1 << 33, 1 << 40, (1 << 61) - 512])
def test_the_header_is_what_the_page_of_the_format_says(size: int) -> None:
    made = index_header(size)
    assert made == plain_reader.index_header(size)
    assert index_size_in(made) == size
    member = tarfile.TarInfo.frombuf(made, "utf-8", "strict")
    assert (member.name, member.size, member.type) == (INDEX, size, tarfile.REGTYPE)
    assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
    assert (member.uname, member.gname) == ("blobpack", "")


def test_a_header_that_differs_in_any_byte_is_none() -> None:
    made = index_header(5120)
    for place in range(512):
        for bit in (1, 0x80):
            other = bytearray(made)
            other[place] ^= bit
            assert index_size_in(other) is None, place
    for other in (b"", bytes(512), made[:-1], made + b"\0"):
        assert index_size_in(other) is None


def test_s3_gets_the_bytes_of_a_local_blob(bucket: str, tmp_path: Path) -> None:
    """An upload can't go back to write a header, so the size is computed before."""
    local = packed(tmp_path)
    report = blobpack.pack(payloads(0, 40), f"s3://{bucket}/packed.tar")
    with blobpack.open_blob(f"s3://{bucket}/packed.tar") as remote:
        found = remote.store.read_range(0, remote.store.size)
    assert found == local.read_bytes()
    assert report.blob_bytes == len(found)
    blobpack.append(f"s3://{bucket}/packed.tar", payloads(40, 9))
    blobpack.append(local, payloads(40, 9))
    with blobpack.open_blob(f"s3://{bucket}/packed.tar") as remote:
        assert remote.stats.requests == 1
        assert remote.store.read_range(0, remote.store.size) == local.read_bytes()


def test_a_compressed_blob_holds_the_bytes_of_a_plain_one(tmp_path: Path) -> None:
    plain, compressed = packed(tmp_path), tmp_path / "packed.tar.zst"
    blobpack.pack(payloads(0, 40), compressed)
    with open_tar(compressed) as store:
        assert store.read_range(0, store.size) == plain.read_bytes()
    with blobpack.open_blob(compressed) as opened:
        assert opened.read("imgs/0007.png") == png("imgs/0007.png")
    # the index is in a skippable frame, so whoever decompresses the blob gets the archive alone
    unpacked = tmp_path / "unpacked.tar"
    run(need_tool("zstd"), "-q", "-d", compressed, "-o", unpacked)
    assert gnu_tar_i(unpacked) == names_in(plain)
    assert plain.read_bytes().startswith(unpacked.read_bytes())


def test_an_index_of_more_than_8_gib_is_stepped_over(tmp_path: Path) -> None:
    """Its size has more than eleven octal digits. The file has a hole where the index would be."""
    path, size = tmp_path / "huge.tar", 9 << 30
    blobpack.pack(payloads(0, 5), path, index="none")
    with path.open("ab") as file:
        file.write(index_header(size))
        file.truncate(file.tell() + size)
        file.seek(0, os.SEEK_END)
        end = file.tell()
        file.write(packed(tmp_path).read_bytes())
    index = blobpack.scan(path, concatenated=True)
    assert len(index) == 45
    assert index._member_at(5).offset_start == end + 512


# Damage


class Damage(NamedTuple):
    """Damage to the bytes around the header, which stands at `at`."""

    name: str
    apply: Callable[[bytearray, int], None]


def put(offset: int, data: bytes) -> Callable[[bytearray, int], None]:
    def apply(blob: bytearray, at: int) -> None:
        blob[at + offset : at + offset + len(data)] = data

    return apply


def without_header(blob: bytearray, at: int) -> None:
    del blob[at : at + 512]


def size_of_another(blob: bytearray, at: int) -> None:
    size = index_size_in(blob[at : at + 512])
    assert size is not None
    blob[at : at + 512] = index_header(size + 512)


def header_of_a_user(blob: bytearray, at: int) -> None:
    size = index_size_in(blob[at : at + 512])
    assert size is not None
    blob[at : at + 512] = header(INDEX.encode(), size)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("a flipped bit", put(300, b"\1")),
        Damage("zeros", put(0, bytes(512))),
        Damage("a mark", put(0, b"x" * 512)),
        Damage("another size", size_of_another),
        Damage("no owner", header_of_a_user),
        Damage("cut out", without_header),
        Damage("no region behind it", put(512, bytes(8))),
    ],
    ids=lambda damage: damage.name,
)
@pytest.mark.parametrize("local", [True, False], ids=["local", "afar"])
def test_without_its_header_an_index_is_not_believed(
    damage: Damage, local: bool, tmp_path: Path
) -> None:
    path = packed(tmp_path)
    index = blobpack.scan(path)
    data = bytearray(path.read_bytes())
    damage.apply(data, index.report.bytes_scanned + 1024)
    path.write_bytes(data)
    with LocalStore(path) if local else MemoryStore(bytes(data)) as store:
        with pytest.raises(BlobChangedError):
            find_index(store, None, "refuse")
        assert find_index(store, None, "rescan") == index
    assert not blobpack.verify(path).ok


@pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")
def test_a_blob_that_is_cut_behind_its_archive_is_scanned_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "out.tar"
    blobpack.pack(payloads(0, 40), path, index="none")
    index = embed_index(path)
    data = path.read_bytes()
    for size in range(index.report.bytes_scanned + 1024, len(data), 512):
        path.write_bytes(data[:size])
        with blobpack.open_blob(path) as opened:
            assert opened.index == index
        embed_index(path)
        assert path.read_bytes() == data
        with blobpack.open_blob(path) as opened:
            assert opened.index == index


def test_an_index_of_another_version_is_a_clear_error(tmp_path: Path) -> None:
    path = packed(tmp_path)
    data = bytearray(path.read_bytes())
    data[-508:-504] = struct.pack("<I", 1)
    data[-512:-508] = struct.pack("<I", crc32c(bytes(data[-508:])))
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"version 1 of the index format.* reads version 2"):
        blobpack.open_blob(path)
    embed_index(path)
    with blobpack.open_blob(path) as opened:
        assert len(opened.index) == 40


# Joined blobs, and members of the index's name


def joined(folder: Path) -> tuple[Path, Path, Path]:
    first, second, path = folder / "a.tar", folder / "b.tar", folder / "joined.tar"
    blobpack.pack(payloads(0, 20), first)
    blobpack.pack(payloads(100, 30), second, facts=True)
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path, first, second


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("local", [True, False], ids=["local", "afar"])
def test_joined_blobs_are_scanned_through(tmp_path: Path, threads: int, local: bool) -> None:
    path, first, second = joined(tmp_path)
    shift = first.stat().st_size
    with LocalStore(path) if local else MemoryStore(path.read_bytes()) as store:
        index = scan_store(store, concatenated=True, threads=threads)
        alone = scan_store(store, threads=threads)
    wanted = [(m.name, m.offset_start, m.offset_end) for m in blobpack.scan(first)]
    wanted += [
        (m.name, m.offset_start + shift, m.offset_end + shift) for m in blobpack.scan(second)
    ]
    assert [(m.name, m.offset_start, m.offset_end) for m in index] == wanted
    # the report says where the last archive ended, whatever index stands behind it
    assert index.report.bytes_scanned == shift + blobpack.scan(second).report.bytes_scanned
    assert index.report.end_marker == 2
    assert alone == blobpack.scan(first)


def test_any_tars_joined_in_any_order_are_scanned_as_tarfile_reads_them(tmp_path: Path) -> None:
    blobs = {maker.__name__: maker(tmp_path).read_bytes() for maker in MAKERS}
    blobs["foreign"] = Tar().file("foreign.png", png("foreign")).end().blob
    blobs["zeros"] = bytes(10_240)
    for first in blobs.values():
        for second in blobs.values():
            path = tmp_path / "joined.tar"
            path.write_bytes(first + second + blobs["packed"])
            with tarfile.open(path, ignore_zeros=True) as archive:
                wanted = [
                    (m.name, m.offset_data, m.size)
                    for m in archive
                    if m.isfile() and m.name != INDEX
                ]
            index = blobpack.scan(path, concatenated=True)
            assert [(m.name, m.offset_start, m.size) for m in index] == wanted


def test_an_index_file_of_joined_blobs(tmp_path: Path) -> None:
    path, first, second = joined(tmp_path)
    run(blobpack_command(), "index", "--concatenated", path, "-o", tmp_path / "joined.idx")
    with blobpack.open_blob(path, index=tmp_path / "joined.idx") as opened:
        assert list(opened.index.names) == [*names_in(first), *names_in(second)]
        for name in opened.index.names:
            assert opened.read(name) == png(name)


def blobpack_command() -> str:
    return os.fspath(Path(sys.executable).with_name("blobpack"))


@pytest.mark.parametrize("first", ["embed", "sidecar", "none"])
@pytest.mark.parametrize("second", ["embed", "sidecar", "none"])
def test_members_of_a_joined_blob_are_never_overwritten(
    tmp_path: Path, first: IndexPlace, second: IndexPlace
) -> None:
    """Members of the second blob stand behind the end of the first one, where an index would go."""
    path = tmp_path / "joined.tar"
    blobpack.pack(payloads(0, 20), tmp_path / "a.tar", index=first)
    blobpack.pack(payloads(100, 30), tmp_path / "b.tar", index=second)
    path.write_bytes((tmp_path / "a.tar").read_bytes() + (tmp_path / "b.tar").read_bytes())
    before = path.read_bytes()
    with pytest.raises(StorageError, match="something other than zeros follows"):
        embed_index(path)
    with pytest.raises(StorageError, match=r"data of another program|changed or joined"):
        blobpack.append(path, payloads(500, 1))
    with pytest.raises(StorageError, match="data of another program"):
        blobpack.append(path, payloads(500, 1), stale="rescan")
    assert path.read_bytes() == before


def test_a_member_of_the_index_s_name_is_a_member(tmp_path: Path) -> None:
    """Whoever extracted a blob with `tar -i` has such a file, and may pack the folder again."""
    old = packed(tmp_path)
    folder = tmp_path / "again"
    folder.mkdir()
    run(need_tool("tar"), "-ixf", old, "-C", folder)
    index_file = (folder / INDEX).read_bytes()
    blobs = {name: tmp_path / f"{name}.tar" for name in ("pack", "gnu", "merge")}
    blobpack.pack(folder, blobs["pack"], hidden=True, all_files=True)
    subprocess.run([need_tool("tar"), "-C", folder, "-cf", blobs["gnu"], INDEX, "imgs"], check=True)
    embed_index(blobs["gnu"])
    blobpack.merge([blobs["pack"]], blobs["merge"])
    for path in blobs.values():
        with blobpack.open_blob(path) as opened:
            assert len(opened.index) == 41
            assert opened.read(INDEX) == index_file
        blobpack.append(path, [("more.png", png("more"))])
        assert len(blobpack.scan(path)) == 42
        # and behind another blob, where it is the first member that follows an end marker
        path.write_bytes(old.read_bytes() + path.read_bytes())
        again = blobpack.scan(path, concatenated=True)
        assert list(again.names).count(INDEX) == 1
        assert len(again) == 40 + 42


def test_an_index_that_is_cut_is_an_error_of_the_scan(tmp_path: Path) -> None:
    path = packed(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-512])
    with pytest.raises(blobpack.TruncatedError, match="blobpack/index"):
        blobpack.scan(path, concatenated=True)
    path.write_bytes(data + END)
    assert len(blobpack.scan(path, concatenated=True)) == 40
