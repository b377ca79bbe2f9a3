"""An append goes to the real end of an archive, whatever an index with right checksums says."""

from __future__ import annotations

import io
import itertools
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import blobpack
from blobpack.errors import BlobpackError
from blobpack.indexfile.footer import FOOTER_BYTES, Footer
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan_store
from blobpack.writing.embed import write_beside

if TYPE_CHECKING:
    from pathlib import Path

PAYLOADS = {"a": bytes(3000), "b": b"b"}
FOLDERS = ["f", "f/g", "link"]


def tar_of(payloads: dict[str, bytes], folders: list[str], record_bytes: int = 10_240) -> bytes:
    """Make a tar by Python's tarfile; the folders come last."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, payload in payloads.items():
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
        for name in folders:
            member = tarfile.TarInfo(name)
            member.type = tarfile.SYMTYPE if name == "link" else tarfile.DIRTYPE
            # a pax header comes first
            member.linkname = "a" * 120 if name == "link" else ""
            archive.addfile(member)
        end = archive.offset
    packed = made.getvalue()
    return packed[: end + 1024 + -(end + 1024) % record_bytes]


ARCHIVES = {
    "as small as it may be": tar_of(PAYLOADS, [], 512),
    "with zeros behind it": tar_of(PAYLOADS, []),
    "with folders at the end": tar_of(PAYLOADS, FOLDERS),
    "of folders only": tar_of({}, FOLDERS),
    "without members": tar_of({}, []),
    "without its second zero block": tar_of(PAYLOADS, FOLDERS, 512)[:-512],
    "without zero blocks": tar_of(PAYLOADS, FOLDERS, 512)[:-1024],
    "joined with one of folders": tar_of(PAYLOADS, FOLDERS, 512) + tar_of({}, ["h"]),
}


def index_beside(blob: Path) -> Path:
    with open_tar(Location(str(blob), "local")) as store:
        found = scan_store(store, concatenated=True)
        write_beside(store, found, sidecar := blob.with_name(blob.name + ".idx"))
    return sidecar


def read_footer(index: Path) -> Footer:
    footer = Footer.decode(index.read_bytes()[-FOOTER_BYTES:], index.name, 0)
    assert footer is not None
    return footer


def write_footer(index: Path, footer: Footer) -> None:
    index.write_bytes(index.read_bytes()[:-FOOTER_BYTES] + footer.encode())


def names_in(blob: Path) -> list[str]:
    with tarfile.open(blob, ignore_zeros="joined" in blob.name) as archive:
        return archive.getnames()


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_end_that_a_scan_found_is_right(name: str, tmp_path: Path) -> None:
    blob = tmp_path / f"{name}.tar"
    blob.write_bytes(ARCHIVES[name])
    before = names_in(blob)
    index_beside(blob)
    blobpack.append(blob, [("new", b"new")], all_files=True)
    assert names_in(blob) == [*before, "new"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_another_end_is_damage(name: str, tmp_path: Path) -> None:
    """At another end, headers would be overwritten, or zeros would hide the new members."""
    blob = tmp_path / f"{name}.tar"
    blob.write_bytes(ARCHIVES[name])
    footer = read_footer(index := index_beside(blob))
    report = footer.report
    assert report is not None
    ends = {*range(0, len(ARCHIVES[name]) + 1024, 512)} - {report.bytes_scanned}
    for end, marker in itertools.product(ends, range(3)):
        lie = replace(report, bytes_scanned=end, end_marker=marker)
        write_footer(index, replace(footer, report=lie))
        # headers behind the end may also be those of a later append, or of another tar
        refusals = "damaged|has more bytes there|data of another program stands behind"
        with pytest.raises(BlobpackError, match=refusals):
            blobpack.append(blob, [("new", b"new")], all_files=True)
        assert blob.read_bytes() == ARCHIVES[name]


def test_a_rescan_finds_the_right_end(tmp_path: Path) -> None:
    blob = tmp_path / "o.tar"
    blob.write_bytes(ARCHIVES["with folders at the end"])
    footer = read_footer(index := index_beside(blob))
    assert footer.report is not None
    for end in (0, 512 * 9, 9216):
        lie = replace(footer.report, bytes_scanned=end)
        write_footer(index, replace(footer, report=lie))
        before = names_in(blob)
        blobpack.append(blob, [(f"new{end}", b"")], all_files=True, stale="rescan")
        assert names_in(blob) == [*before, f"new{end}"]
        footer = read_footer(index)
        assert footer.report is not None
