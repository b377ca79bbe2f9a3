"""While a local blob is written, the disk begins to write what is there already."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="sync_file_range is a call of Linux only"
)
MIB = 1 << 20
MEMBERS = 36

# Notes each call, and fails as a kernel without the call would. A real call leaves nothing that a test could see.
NOTING = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

int sync_file_range(int fd, off_t from, off_t bytes, unsigned flags) {
    FILE *notes = fopen(getenv("NOTES"), "a");
    fprintf(notes, "%lld %lld %u\n", (long long)from, (long long)bytes, flags);
    fclose(notes);
    errno = ENOSYS;
    return -1;
}
"""
WORK = """
import sys
import blobpack
folder = sys.argv[1]
blobpack.pack(f"{folder}/in", f"{folder}/o.tar", all_files=True)
"""


def test_pack_asks_for_each_eight_mebibytes_once(tmp_path: Path) -> None:
    (tmp_path / "noting.c").write_text(NOTING)
    library, notes = tmp_path / "noting.so", tmp_path / "notes"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "noting.c"], check=True)
    (tmp_path / "in").mkdir()
    rng = random.Random(6)
    payloads = {f"{i:02d}": rng.randbytes(MIB) for i in range(MEMBERS)}
    for name, payload in payloads.items():
        (tmp_path / "in" / name).write_bytes(payload)
    env = {**os.environ, "LD_PRELOAD": os.fspath(library), "NOTES": os.fspath(notes)}
    subprocess.run([sys.executable, "-c", WORK, tmp_path], env=env, check=True)
    calls = [tuple(map(int, line.split())) for line in notes.read_text().splitlines()]
    # SYNC_FILE_RANGE_WRITE: begins to write, and does not wait
    assert {flags for _, _, flags in calls} == {2}
    assert sorted((start, size) for start, size, _ in calls) == [
        (8 * MIB * i, 8 * MIB) for i in range(MEMBERS // 8)
    ]
