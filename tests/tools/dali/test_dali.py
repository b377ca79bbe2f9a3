"""NVIDIA DALI reads samples by blobpack's index, and blobpack reads members by DALI's."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from foreign_indexes import FOLDER, TAR, rows_of
from nvidia.dali import fn, pipeline_def

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def wds2idx(tar: Path, index: Path) -> None:
    """Run DALI's own program."""
    program = Path(sys.executable).with_name("wds2idx")
    subprocess.run([sys.executable, program, tar, index], check=True, capture_output=True)


def read_by_dali(tar: Path, index: Path, samples: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the payloads of each sample, as DALI reads them."""

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def pipeline():
        images, notes = fn.readers.webdataset(
            paths=[str(tar)], index_paths=[str(index)], ext=["jpg", "json"]
        )
        return images, notes

    reader = pipeline()
    reader.build()
    for _ in range(samples):
        images, notes = reader.run()
        yield images.at(0).tobytes(), notes.at(0).tobytes()


@pytest.fixture(params=FORMATS)
def tar(request, tmp_path):
    """A tar of 40 samples, in folders that have entries of their own."""
    folder = tmp_path / "files"
    for i in range(40):
        (folder / f"{i // 20}").mkdir(parents=True, exist_ok=True)
        (folder / f"{i // 20}" / f"{i:04}.jpg").write_bytes(bytes([i]) * (100 * i + 1))
        (folder / f"{i // 20}" / f"{i:04}.json").write_bytes(b'{"n": %d}' % i)
    with tarfile.open(tmp_path / "out.tar", "w", format=FORMATS[request.param]) as file:
        file.add(folder, "files")
    return tmp_path / "out.tar"


def test_the_sample_is_what_wds2idx_writes(tmp_path):
    wds2idx(TAR, tmp_path / "made.idx")
    assert (tmp_path / "made.idx").read_bytes() == (FOLDER / "dali.idx").read_bytes()


def test_the_index_has_the_bytes_that_wds2idx_writes(tar, tmp_path):
    wds2idx(tar, tmp_path / "theirs.idx")
    assert blobpack.write_foreign_index(tar, tmp_path / "ours.idx", "dali") == 80
    assert (tmp_path / "ours.idx").read_bytes() == (tmp_path / "theirs.idx").read_bytes()


def test_dali_reads_by_our_index(tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "ours.idx", "dali")
    found = list(read_by_dali(tar, tmp_path / "ours.idx", 40))
    assert found == [(bytes([i]) * (100 * i + 1), b'{"n": %d}' % i) for i in range(40)]


def test_blobpack_reads_by_the_index_of_wds2idx(tar, tmp_path):
    wds2idx(tar, tmp_path / "theirs.idx")
    with blobpack.open_blob(tar, index=tmp_path / "theirs.idx") as blob:
        assert set(blob.index.names) == set(rows_of(tar))
        assert blob.read("files/1/0039.json") == b'{"n": 39}'


def test_names_that_dali_would_cut_at_a_blank(tmp_path):
    payloads = {
        "a b/größe 1.jpg": b"1" * 300,
        "a b/größe 1.json": b"2",
        "c.jpg": b"3",
        "c.json": b"4",
    }
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    blobpack.write_foreign_index(tmp_path / "out.tar", tmp_path / "out.idx", "dali")
    found = list(read_by_dali(tmp_path / "out.tar", tmp_path / "out.idx", 2))
    assert found == [(b"1" * 300, b"2"), (b"3", b"4")]


def test_wrong_offsets_of_wds2idx_are_refused(tmp_path):
    """It does not count the blocks in which GNU tar stores a long name."""
    with tarfile.open(tmp_path / "out.tar", "w", format=tarfile.GNU_FORMAT) as file:
        (tmp_path / "file").write_bytes(b"x" * 2000)
        file.add(tmp_path / "file", f"{'long' * 40}.jpg")
    wds2idx(tmp_path / "out.tar", tmp_path / "out.idx")
    with pytest.raises(blobpack.StaleIndexError, match="where no member begins"):
        blobpack.open_blob(tmp_path / "out.tar", index=tmp_path / "out.idx")
