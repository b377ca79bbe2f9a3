"""Processor time to write and read the indexes of other programs: .venv/bin/python bench/foreign_indexes.py [--members N]

It prints the table of docs/guides/foreign-indexes.md, beside a scan of the same tar.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import blobpack
from blobpack.model import ForeignFormat
from blobpack.tar.header import END_OF_ARCHIVE, member_header, padding

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = b"x" * 100


def write_samples(path: Path, members: int) -> None:
    """Write a tar of samples of two small files each."""
    with path.open("wb") as file:
        for number in range(members):
            name = f"{number // 10_000:03}/{number // 2:07}.{('jpg', 'cls')[number % 2]}"
            file.write(member_header(name.encode(), len(PAYLOAD)) + PAYLOAD)
            file.write(padding(len(PAYLOAD)))
        file.write(END_OF_ARCHIVE)


def cpu_s(call: Callable[[], object]) -> float:
    """Return the processor time of a call, in seconds."""
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    """Measure each format, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1_000_000)
    members = parser.parse_args().members
    with tempfile.TemporaryDirectory() as folder:
        tar, index = Path(folder, "samples.tar"), Path(folder, "index")
        write_samples(tar, members)
        blobpack.scan(tar, threads=1).save(tar.with_name("samples.tar.idx"))
        print(f"scan: {cpu_s(lambda: blobpack.scan(tar, threads=1)):.1f} s")
        print("| format | read and compare | write |\n|---|---|---|")
        for format in get_args(ForeignFormat):
            index.unlink(missing_ok=True)
            written = cpu_s(partial(blobpack.write_foreign_index, tar, index, format))
            read = cpu_s(lambda: blobpack.open_blob(tar, index=index).close())
            print(f"| `{format}` | {read:.1f} s | {written:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
