"""The names of the headers that an offsets file is compared with, and blobs that changed since their index was made."""

from __future__ import annotations

import io
import itertools
import tarfile
from typing import TYPE_CHECKING

import pytest
from tars import Tar, header

import blobpack
from blobpack import Index, Member, StaleIndexError
from blobpack.foreign.headers import is_named, names_in, read_before
from blobpack.index.tables.offsets import offsets_path
from blobpack.indexfile.identity import Identity, identify
from blobpack.opening.freshness import check_identity
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}
# three blocks; a longer extended header is not read
EXTENDED_BYTES_MAX = 1536


def name_of(length: int) -> str:
    """A name of so many characters, in folders that ustar can split."""
    return ("d" * 40 + "/") * (length // 41) + "x" * (length % 41 or 1)


def names_before(name: str, kind: int, *, pax: dict[str, str] | None = None) -> list[str]:
    """Make a tar of two members by tarfile, and return the names that the header of the second one may have."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        archive.addfile(tarfile.TarInfo("first"))
        member = tarfile.TarInfo(name)
        member.size = 5
        member.pax_headers = pax or {}
        archive.addfile(member, io.BytesIO(b"12345"))
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        start = archive.getmembers()[1].offset_data
    return names_in(read_before(MemoryStore(file.getvalue()), start))


LENGTHS = (1, 40, 99, 100, 101, 154, 200)
EXTENDED_LENGTHS = (255, 511, 512, 1000, 1023)


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        *itertools.product(FORMATS, LENGTHS),
        *itertools.product(("gnu", "pax"), EXTENDED_LENGTHS),
    ],
)
def test_a_whole_name_is_found_wherever_the_format_puts_it(kind: str, length: int) -> None:
    name = name_of(length)
    found = names_before(name, FORMATS[kind])
    # 100 characters, which no extended header repeats, may be the beginning of a longer name
    assert found[-1:] == ([] if length == 100 else [name])
    # an extended header comes with a header whose name is cut
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("kind", "most"),
    # the NUL behind the name; the record's "1536 path=" and newline
    [(tarfile.GNU_FORMAT, EXTENDED_BYTES_MAX - 1), (tarfile.PAX_FORMAT, EXTENDED_BYTES_MAX - 11)],
    ids=["gnu", "pax"],
)
def test_a_name_that_is_longer_than_what_is_read_is_not_known(kind: int, most: int) -> None:
    assert names_before("y" * most, kind)[-1] == "y" * most
    assert names_before("y" * (most + 1), kind) == []


def test_a_name_that_fills_its_field_is_not_known() -> None:
    """It may be the beginning of a longer one."""
    assert names_before("y" * 99, tarfile.USTAR_FORMAT) == ["y" * 99]
    assert names_before("y" * 100, tarfile.USTAR_FORMAT) == []


def test_records_of_a_pax_header_that_are_no_path_name_nothing() -> None:
    assert names_before("a", tarfile.PAX_FORMAT, pax={"comment": "path=b"}) == ["a"]
    assert names_before("a", tarfile.PAX_FORMAT, pax={"comment": "\n7 path\n"}) == ["a"]
    both = {"comment": "x", "path": "b"}
    assert names_before("a", tarfile.PAX_FORMAT, pax=both)[-1] == "b"


def test_bytes_of_a_name_that_are_not_utf_8_come_back() -> None:
    assert names_in(header(b"\xff", 0)) == ["\udcff"]


def test_only_ustar_has_a_prefix() -> None:
    """GNU tar stores times where ustar stores the prefix."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("d" * 90 + "/" + "x" * 90))
    block = file.getvalue()[:512]
    assert names_in(block) == ["d" * 90 + "/" + "x" * 90]
    assert names_in(block[:257] + b"ustar  \0" + block[265:]) == ["x" * 90]


def extended(kind: bytes, data: bytes, *, size: int | None = None) -> bytes:
    block = header(b"long", len(data) if size is None else size, typeflag=kind)
    return block + data.ljust(-(-len(data) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(extended(b"K", b"target\0"), id="the target of a link"),
        pytest.param(extended(b"g", b"12 path=all\n"), id="a global header"),
        pytest.param(extended(b"0", b"12 path=all\n"), id="a member"),
        pytest.param(extended(b"L", b"other\0") + header(b"o", 0), id="the name of another member"),
        pytest.param(extended(b"x", b"12 path=all\n", size=600), id="another size"),
        pytest.param(extended(b"L", b"", size=0) + bytes(512), id="no bytes"),
        pytest.param(
            extended(b"x", b"12 path=all\n").replace(b"long", b"lon\1"), id="a wrong checksum"
        ),
    ],
)
def test_what_is_not_the_extended_header_of_the_member_names_nothing(before: bytes) -> None:
    blocks = (bytes(2048) + before)[-2048:] + header(b"a", 0)
    assert names_in(blocks) == ["a"]


def test_basenames_stand_for_their_member() -> None:
    assert is_named("b.jpg", ["a/b.jpg"])
    assert is_named("a/b.jpg", ["cut", "a/b.jpg"])
    assert not is_named("a", ["a/b.jpg"])
    assert not is_named("jpg", ["a/b.jpg"])
    assert not is_named("a/b.jpg", ["b.jpg"])


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("place", ["first", "last"])
def test_the_first_and_the_last_member_are_always_compared(
    place: str, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "o.tar"
    blobpack.pack(
        [(f"{i:03}", b"%03d" % i) for i in range(count)], path, all_files=True, index="none"
    )
    members = list(blobpack.scan(path))
    row = 0 if place == "first" else count - 1
    wrong = members[row]
    members[row] = Member("other", wrong.offset_start, wrong.offset_end)
    blobpack.write_offsets(Index(members), offsets_path(path))
    with pytest.raises(StaleIndexError, match=f"'other', and the header there names '{row:03}'"):
        blobpack.open_blob(path)
    members[row] = Member(wrong.name, wrong.offset_start, wrong.offset_end + 1)
    blobpack.write_offsets(Index(members), offsets_path(path), force=True)
    with pytest.raises(StaleIndexError, match=f"no header before member '{row:03}'"):
        blobpack.open_blob(path)


class RemoteStore(MemoryStore):
    """A blob in memory that counts as remote, with a version as a server gives it; it records what is read."""

    is_remote = True

    def __init__(self, data: bytes, version: str) -> None:
        super().__init__(data)
        self.version = version
        self.read: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.read.append((start, end))
        return super().fetch(start, end)

    def forget(self, start: int, end: int) -> bool:
        """Bytes from a server may have been damaged on their way."""
        return True


ARCHIVE = bytes(Tar().file("a", bytes(range(256)) * 100).end(bytes(1024)).blob)


def index_of(identity: Identity) -> Index:
    index = Index([Member("a", 512, 512 + 25_600)])
    index.identity = identity
    return index


def test_an_equal_version_proves_that_a_remote_blob_is_the_same() -> None:
    index = index_of(identify(MemoryStore(ARCHIVE), len(ARCHIVE), '"1"'))
    store = RemoteStore(ARCHIVE, '"1"')
    assert check_identity(store, index, "i.idx") is index
    assert store.read == []


@pytest.mark.parametrize("version", ['"2"', ""])
def test_a_remote_blob_of_another_version_is_compared(version: str) -> None:
    index = index_of(identify(MemoryStore(ARCHIVE), len(ARCHIVE), '"1"'))
    assert check_identity(RemoteStore(ARCHIVE, version), index, "i.idx") is index
    changed = ARCHIVE[:-2000] + b"!" + ARCHIVE[-1999:]
    with pytest.raises(StaleIndexError, match="the last 4096 bytes of the archive have changed"):
        check_identity(RemoteStore(changed, version), index, "i.idx")


def test_an_index_without_a_version_is_compared_with_a_blob_without_one() -> None:
    index = index_of(identify(MemoryStore(ARCHIVE), len(ARCHIVE)))
    changed = ARCHIVE[:-2000] + b"!" + ARCHIVE[-1999:]
    with pytest.raises(StaleIndexError, match="the last 4096 bytes"):
        check_identity(RemoteStore(changed, ""), index, "i.idx")


def test_a_change_in_the_samples_of_a_local_blob_is_found() -> None:
    index = index_of(identify(MemoryStore(ARCHIVE), len(ARCHIVE)))
    changed = ARCHIVE[:600] + b"!" + ARCHIVE[601:]
    with pytest.raises(StaleIndexError, match="samples of the archive's bytes have changed"):
        check_identity(MemoryStore(changed), index, "i.idx")


@pytest.mark.parametrize("difference", [-512, -1, 1, 512])
def test_a_blob_of_another_size_without_an_index_inside_is_refused(difference: int) -> None:
    index = index_of(identify(MemoryStore(ARCHIVE), len(ARCHIVE)))
    changed = ARCHIVE[:difference] if difference < 0 else ARCHIVE + bytes(difference)
    with pytest.raises(
        StaleIndexError, match=f"has {len(changed)} bytes, and its archive had {len(ARCHIVE)}"
    ):
        check_identity(MemoryStore(changed), index, "i.idx")


def scanned(archive: bytes, version: str = "") -> Index:
    """The index of an archive, as it is written beside it."""
    index = scan_store(MemoryStore(archive))
    index.identity = identify(MemoryStore(archive), len(archive), version)
    return index


@pytest.mark.parametrize("zeros", [1024, 4096, 4608, 20_480])
def test_one_request_compares_a_remote_archive_that_ends_in_its_last_bytes(zeros: int) -> None:
    archive = bytes(Tar().file("a", bytes(range(256)) * 100).end(bytes(zeros)).blob)
    store = RemoteStore(archive, '"2"')
    index = scanned(archive, '"1"')
    assert check_identity(store, index, "i.idx") is index
    end = index.report.bytes_scanned
    tail = (len(archive) - 4096, len(archive))
    # members may have been put over the zeros where it ended, without a change of its last bytes
    assert store.read == [tail, *([(end, end + 512)] if end < tail[0] else [])]


@pytest.mark.parametrize("zeros", [4608, 20_480])
def test_members_over_the_zeros_of_the_last_record_are_found(zeros: int) -> None:
    """`tar -r` changes neither the size nor the last bytes of such an archive."""
    archive = bytes(Tar().file("a", bytes(range(256)) * 100).end(bytes(zeros)).blob)
    index = scanned(archive)
    end = index.report.bytes_scanned
    grown = archive[:end] + header(b"b", 0) + archive[end + 512 :]
    message = f"the archive ended at byte {end}, and now has more bytes there"
    with pytest.raises(StaleIndexError, match=message):
        check_identity(RemoteStore(grown, '"2"'), index, "i.idx")


@pytest.mark.parametrize("size", [0, 1, 2048])
def test_a_short_archive_is_compared_from_its_first_byte(size: int) -> None:
    archive = bytes(Tar().file("a", b"1" * size).end().blob)
    index = scanned(archive)
    for store in (MemoryStore(archive), RemoteStore(archive, '"2"')):
        assert check_identity(store, index, "i.idx") is index
    with pytest.raises(StaleIndexError, match="bytes of the archive have changed"):
        check_identity(RemoteStore(b"b" + archive[1:], '"2"'), index, "i.idx")


@pytest.mark.parametrize("size", [0, 1, 511, 512])
def test_an_offsets_file_fits_an_archive_that_ends_with_its_last_payload(
    size: int, tmp_path: Path
) -> None:
    """The padding and the end-of-archive marker are left out."""
    path = tmp_path / "o.tar"
    path.write_bytes(header(b"a", size) + b"1" * size)
    blobpack.write_offsets(Index([Member("a", 512, 512 + size)]), offsets_path(path))
    with blobpack.open_blob(path) as blob:
        assert blob.read("a") == b"1" * size
    path.write_bytes(header(b"a", size + 1) + b"1" * size)
    blobpack.write_offsets(Index([Member("a", 512, 513 + size)]), offsets_path(path), force=True)
    with pytest.raises(StaleIndexError, match="no header before member 'a'"):
        blobpack.open_blob(path)


def test_a_prefix_ends_with_its_field() -> None:
    """The 12 bytes behind it belong to nobody, and some programs use them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("d" * 155 + "/" + "x" * 90))
    block = file.getvalue()[:500] + b"tar\0".rjust(12, b"!")
    assert names_in(block) == ["d" * 155 + "/" + "x" * 90]
