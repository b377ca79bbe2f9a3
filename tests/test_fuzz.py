"""Some hundred inputs of each fuzzer, always the same ones; scripts/fuzz runs more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zstandard
from fuzz.fuzz_scan import rows_of_gnu_tar
from fuzz.fuzz_zstd import decompressed
from fuzz.run import TARGETS, run_seeds
from tars import GNU, Tar, header

from blobpack.stores.zstd.format import encode_seek_table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_agree_with_the_oracle(name: str, tmp_path: Path) -> None:
    # an input of the writer has some thousand members
    seeds = range(100 if name == "writer" else 400)
    counts = run_seeds(name, seeds, tmp_path)
    # a fuzzer whose inputs are all refused, or all accepted, would find nothing
    assert min(counts["accepted"], counts["refused"]) >= len(seeds) / 10, counts


# The oracles


TIMES = (0, 1 << 40, -1, -(1 << 40), 1 << 62, -(1 << 62))


@pytest.mark.parametrize("time", TIMES)
def test_gnu_tar_lists_names_behind_times_of_any_width(time: int, tmp_path: Path) -> None:
    tar = Tar()
    names = ["first", "  of spaces ", "a\\101\\", "é\n-"]
    for number, name in enumerate(names):
        raw = name.encode()
        # the column of times is as wide as the widest time above
        field = (time if number == 0 else 0).to_bytes(12, "big", signed=True)
        field = bytes([field[0] | 0x80]) + field[1:]
        tar.file(raw, b"x" * number, header(raw, number, magic=GNU, put={136: field}))
    path = tmp_path / "a.tar"
    path.write_bytes(tar.end().blob)
    assert rows_of_gnu_tar(path) == [(name, number) for number, name in enumerate(names)]


def test_the_oracle_of_zstd_reads_no_frame_for_no_bytes() -> None:
    # whose frame has another size than the table says
    frame = zstandard.compress(b"content")
    file = frame + encode_seek_table([(len(frame), 9, 0)])
    assert decompressed(file, 3, 3) == b""
    with pytest.raises(AssertionError):
        decompressed(file, 3, 4)
