"""The promises that a folder must keep after a fault: outputs are old or new, and each index that is found is right."""

from __future__ import annotations

import io
import re
import tarfile
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import zstandard

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from commands import Outcome

# Relative path → bytes; None for a folder.
Tree = dict[str, bytes | None]
BLOB_SUFFIXES = (".tar", ".tar.zst")
# A file of these may be removed where its blob is replaced: it can be made again.
INDEX_SUFFIXES = (".idx", "_offsets.pkl")


def read_tree(folder: Path) -> Tree:
    """Read all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def members_of(blob: bytes) -> dict[str, bytes]:
    """Read a blob by Python's tarfile: name → payload, the last one if there are several."""
    if blob[:4] == b"\x28\xb5\x2f\xfd":
        stream = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
        blob = stream.read()
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isreg()}


def output_members(path: Path) -> dict[str, bytes]:
    """Read a blob, or a collection and its blobs: name → payload; nothing if there is no such file."""
    if not path.exists():
        return {}
    if path.suffix == ".tar":
        return members_of(path.read_bytes())
    with blobpack.open_collection(path) as collection:
        return dict(
            zip(collection.index.names, collection.read_many(range(len(collection))), strict=True)
        )


def state_problems(
    tree: Tree,
    before: Tree,
    after: Tree,
    *,
    in_place: str = "",
    leftovers: bool = False,
    disk_is_full: bool = False,
) -> list[str]:
    """Compare each file with what it was before the command, and with what it is after a command without a fault.

    Args:
        tree: The files now.
        before: The files before the command.
        after: The files after a command without a fault.
        in_place: The blob of which only the members are compared.
        leftovers: Other files may be there, because the command was killed.
        disk_is_full: A file that was removed can't be written again.
    """
    problems = []
    for path in sorted({*tree, *before, *after}):
        now = tree.get(path)
        # The note says that the files beside the blob are void. It stays if they can't be written (again).
        if in_place and path == f".{in_place}.idx.void":
            if path in tree and not leftovers and not disk_is_full:
                is_new = members_of(tree[in_place]) == members_of(after[in_place])
                problems += [] if is_new else [f"left behind, though nothing is appended: {path}"]
        # the sidecar belongs to the bytes of its blob, so it is read and not compared
        elif in_place and path == f"{in_place}.idx":
            pass
        elif path not in before and path not in after:
            if not leftovers:
                problems.append(f"left behind: {hide_hex(path)}")
        elif path not in tree:
            if path in before and path in after and not path.endswith(INDEX_SUFFIXES):
                problems.append(f"lost: {path}")
        elif path == in_place:
            problems += in_place_problems(path, now, before[path], after[path])
        elif all(path not in known or now != known[path] for known in (before, after)):
            problems.append(f"neither old nor new: {path}")
    return problems


def in_place_problems(path: str, now: bytes, before: bytes, after: bytes) -> list[str]:
    """Compare the members of a blob that is changed in place."""
    try:
        found = members_of(now)
    except (tarfile.TarError, EOFError) as exc:
        return [f"tarfile can't read {path}: {exc}"]
    if found in (members_of(before), members_of(after)):
        return []
    return [f"members of {path} are neither the old nor the new ones: {sorted(found)}"]


def reading_problems(folder: Path) -> list[str]:
    """Read every blob of a folder by each index that is there, and compare it with tarfile."""
    problems = []
    for path in sorted(folder.rglob("*")):
        # what a killed command has left in a hidden folder is no output
        if any(part.startswith(".") for part in path.relative_to(folder).parts[:-1]):
            continue
        if path.name.endswith(BLOB_SUFFIXES) and not path.name.startswith("."):
            try:
                expected = members_of(path.read_bytes())
            except (tarfile.TarError, EOFError) as exc:
                problems.append(f"tarfile can't read {path.name}: {exc}")
                continue
            problems += blob_problems(path, expected)
        elif path.name == "collection.idx":
            problems += collection_problems(path)
    return problems


def blob_problems(path: Path, expected: dict[str, bytes]) -> list[str]:
    """Read a blob by the index that is found, and by each index file beside it."""
    problems = []
    with noted(problems, path.name), blobpack.open_blob(path) as blob:
        problems += differences(path.name, contents(blob), expected)
    stem = path.name.rpartition(".")[0]
    for beside in (path.with_name(f"{path.name}.idx"), path.with_name(f"{stem}_offsets.pkl")):
        if not beside.exists():
            continue
        where = f"{path.name} by {beside.name}"
        try:
            with noted(problems, where), blobpack.open_blob(path, index=beside) as blob:
                found = contents(blob)
                wanted = {name: expected.get(name) for name in found}
                problems += differences(where, found, wanted)
        # who names an index that does not fit is told so
        except blobpack.StaleIndexError:
            pass
    return problems


def has_index(path: Path) -> bool:
    """Return whether a blob is opened without a scan."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", blobpack.MissingIndexWarning)
        try:
            blobpack.open_blob(path).close()
        except blobpack.MissingIndexWarning:
            return False
    return True


def collection_problems(path: Path) -> list[str]:
    """Read all members of a collection, and compare them with the blobs in its folder."""
    problems = []
    expected = {}
    for blob in path.parent.glob("*.tar*"):
        if blob.name.endswith(BLOB_SUFFIXES):
            expected |= members_of(blob.read_bytes())
    with noted(problems, path.name), blobpack.open_collection(path) as collection:
        names = [name for name in expected if name in collection]
        found = dict(zip(names, collection.read_many(names), strict=True))
        problems += differences(path.name, found, {name: expected[name] for name in names})
        if len(names) != len(collection):
            problems.append(f"{path.name} has {len(collection)} members, its blobs {len(names)}")
    return problems


@contextmanager
def noted(problems: list[str], where: str) -> Iterator[None]:
    """Note an error of the block, except that a named index is stale."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except blobpack.StaleIndexError as exc:
            if " by " in where:
                raise
            problems.append(f"refused: {where}: {type(exc).__name__}: {hide_folder(exc)}")
        except Exception as exc:
            problems.append(f"refused: {where}: {type(exc).__name__}: {hide_folder(exc)}")


def contents(blob: blobpack.Blob) -> dict[str, bytes]:
    """Read all members of a blob."""
    names = [member.name for member in blob.index]
    return dict(zip(names, blob.read_many(names), strict=True))


def differences(where: str, found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Compare members with those that tarfile finds."""
    problems = [
        f"{where}: wrong bytes of {name}"
        for name in found
        if name in expected and found[name] != expected[name]
    ]
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or more:
        problems.append(f"{where}: missing {sorted(missing)}, too many {sorted(more)}")
    return problems


def message_problems(outcome: Outcome) -> list[str]:
    """Check what a command that failed has printed."""
    text, problems = outcome.stderr, []
    for sign in ("Traceback", "Exception ignored", ".tmp", "[Errno", "Errno "):
        if sign in text:
            problems.append(f"stderr has {sign!r}: {last_line(text)}")
            break
    if sum(line.startswith("Error: ") for line in text.splitlines()) != 1:
        problems.append(f"stderr has no line of its own with 'Error: ': {last_line(text)}")
    return problems


def last_line(text: str) -> str:
    """Return the end of what a command has printed, without what differs from run to run."""
    return (
        hide_hex(re.sub(r"/\S*/scene/", "", text).strip().splitlines()[-1][:200])
        if text.strip()
        else "(nothing)"
    )


def hide_hex(text: str) -> str:
    """Put HEX for the random part of temporary names."""
    return re.sub(r"[0-9a-f]{8,}", "HEX", text)


def hide_folder(exc: Exception) -> str:
    """Return a message without the folders in it."""
    return re.sub(r"/\S*/", "", str(exc))[:160]
