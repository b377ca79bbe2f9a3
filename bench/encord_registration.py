"""Seconds and peak memory of making files for Encord: .venv/bin/python bench/encord_registration.py [MEMBERS]

It prints the table of docs/guides/encord.md. The blob has a million members, in folders of a hundred, unless another number is
given. Each row is a process of its own. Its seconds are of processor time, and begin behind the imports. Its memory is the peak of
the process; the first row opens the blob only. "own script" is what Encord's documentation suggests: list what there is, and dump one JSON.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

import blobpack
from blobpack.integrations.encord import check_registration, registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMBERS = 1_000_000
FOLDER_MEMBERS = 100
EMBEDDING = 64
BASE = "https://images.example.org/b/images"


def names(members: int) -> Iterator[str]:
    """Yield the names of the members."""
    return (f"{n // FOLDER_MEMBERS:05}/{n % FOLDER_MEMBERS:03}.png" for n in range(members))


def make(folder: Path, members: int) -> None:
    """Make the blob and the file of client metadata."""
    with io.BytesIO() as file:
        Image.new("L", (64, 48)).save(file, "PNG")
        payload = file.getvalue()
    blobpack.pack(((name, payload) for name in names(members)), folder / "images.tar")
    with (folder / "metadata.jsonl").open("w") as file:
        for number, name in enumerate(names(members)):
            vector = [round((number * 31 + i) % 997 / 997, 4) for i in range(EMBEDDING)]
            file.write(json.dumps({"name": name, "camera": number % 8, "embedding": vector}) + "\n")


def opened(folder: Path) -> None:
    """Open the blob, and make nothing."""
    with blobpack.open(folder / "images.tar") as reader:
        assert len(reader)


def files(**options: Any) -> Callable[[Path], None]:
    """Return what writes files with some options."""

    def write(folder: Path) -> None:
        kind = options.pop("kind", "images")
        if options.pop("with_metadata", False):
            options["metadata"] = folder / "metadata.jsonl"
        with blobpack.open(folder / "images.tar") as reader:
            made = registration(reader, BASE, kind, output="files", folder=folder, **options)
            paths = list(made)
            print(
                f"{made.items:,}", len(paths), sum(path.stat().st_size for path in paths), sep="\t"
            )

    return write


def own_script(folder: Path) -> None:
    """List the blob with tarfile, and dump one JSON with URLs only."""
    import tarfile

    with tarfile.open(folder / "images.tar") as tar:
        listed = [{"objectUrl": f"{BASE}/{member.name}"} for member in tar]
    path = folder / "own.json"
    path.write_text(json.dumps({"images": listed, "skip_duplicate_urls": True}))
    print(f"{len(listed):,}", 1, path.stat().st_size, sep="\t")


def checked(folder: Path) -> None:
    """Check the first file that the row before has written."""
    path = min(folder.glob("registration-*.json"))
    assert check_registration(path) == []
    items = path.read_bytes().count(b'"objectUrl"')
    print(f"{items:,}", 1, path.stat().st_size, sep="\t")


ROWS: dict[str, Callable[[Path], None]] = {
    "open the blob only": opened,
    "own script: tarfile and one JSON of URLs": own_script,
    "images, JSON": files(),
    "images, DataUploadItems": files(form="items"),
    "images, CSV": files(form="csv"),
    "image groups, JSON": files(kind="image_groups"),
    f"images, JSON, with a JSONL of embeddings of {EMBEDDING} numbers": files(with_metadata=True),
    "check_registration of one file of those": checked,
}


def measured(name: str, folder: Path) -> None:
    """Run one row in this process, and print its seconds of processor time and its peak memory."""
    began = time.process_time()
    ROWS[name](folder)
    took = time.process_time() - began
    print(f"{took:.1f}", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, sep="\t")


def in_a_process(*arguments: str) -> str:
    """Run a step in a process of its own; return what it prints."""
    # a child's peak of memory begins with that of its parent, so the parent does nothing itself
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(members: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        in_a_process("--make", folder, str(members))
        print("| | items | files | MB | seconds | peak memory |\n|---|---|---|---|---|---|")
        for name in ROWS:
            printed = in_a_process("--row", folder, name).splitlines()
            *counts, (took, peak) = [line.split("\t") for line in printed]
            items, count, size = counts[0] if counts else ("", "", "0")
            megabytes = f"{int(size) / 1e6:,.0f}" if counts else ""
            print(f"| {name} | {items} | {count} | {megabytes} | {took} | {peak} MB |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        measured(sys.argv[3], Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else MEMBERS)
