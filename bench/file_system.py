"""Files of fsspec: .venv/bin/python bench/file_system.py [--members N] [--rounds N]

It prints the table of docs/guides/fsspec.md: the file system `blob` beside fsspec's own `tar`, and its `reference` with the
references of the same blob. All read one local tar of JPEG-sized members. Each figure is the least processor time of all
rounds, so other programs change it little.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from typing import TYPE_CHECKING, Any

import fsspec

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable

MEMBER_BYTES = 4000
READ = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out.tar"
        names = [f"{i * 20 // given.members:02}/{i:07}.bin" for i in range(given.members)]
        blobpack.pack({name: os.urandom(MEMBER_BYTES) for name in names}, path, all_files=True)
        with blobpack.open_blob(path) as blob:
            references = blob.index.to_references()
        places = {"blob": path, "tar": path, "reference": references}
        print("| file system | open, find a name | list all | read 2,000 by `cat` | by `open` |")
        print("|---|---|---|---|---|")
        for kind, fo in places.items():
            rounds = [measure(kind, fo, names) for _ in range(given.rounds)]
            print(
                f"| `{kind}` |",
                " | ".join(f"{1000 * min(times):,.1f} ms" for times in zip(*rounds, strict=True)),
                "|",
            )


def measure(kind: str, fo: Any, names: list[str]) -> list[float]:
    """Return the processor times of a file system, in seconds."""
    chosen = random.Random(1).sample(names, READ)
    made: list[Any] = []

    def open_and_find() -> None:
        made.append(fsspec.filesystem(kind, fo=fo, skip_instance_cache=True))
        assert made[0].exists(chosen[0])

    return [
        seconds(open_and_find),
        seconds(lambda: made[0].find("")),
        seconds(lambda: made[0].cat(chosen)),
        seconds(lambda: [made[0].open(name).read() for name in chosen]),
    ]


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
