"""JSON documents of a project: reading and writing them, and what Supervisely demands of a meta and an annotation."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.integrations.json_object import json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Document = dict[str, Any]

# Annotation.from_json and ProjectMeta.from_json of the SDK fail without these
ANNOTATION_KEYS = ("size", "tags", "objects")
META_KEYS = ("classes", "tags")


def read_document(path: Path) -> Document:
    """Read a file that holds one JSON object.

    Raises:
        BlobNotFoundError: there is no such file.
        FormatError: the file holds something else.
        StorageError: the file can't be read.
    """
    try:
        # opening a FIFO would wait for its other end
        if not stat.S_ISREG(path.stat().st_mode):
            raise StorageError(f"{path}: is no plain file")
        return json_object(path.read_bytes(), path)
    except StorageError:
        raise
    except FileNotFoundError as exc:
        raise BlobNotFoundError(f"{path}: no such file") from exc
    except OSError as exc:
        raise StorageError(f"{path}: can't be read: {exc.strerror}") from exc


def faults_of_meta(meta: Document) -> Iterator[str]:
    """Yield what the SDK would refuse in a meta."""
    for key in META_KEYS:
        if not _are_named(meta.get(key), "title" if key == "classes" else "name"):
            yield f"`{key}` must be a list of objects with names"


def faults_of_annotation(annotation: Document, meta: Document) -> Iterator[str]:
    """Yield what the SDK would refuse in an annotation."""
    size = annotation.get("size")
    if not (
        isinstance(size, dict) and all(type(size.get(side)) is int for side in ("height", "width"))
    ):
        yield "`size` must have height and width, in pixels"
    if not _are_named(annotation.get("tags"), "name"):
        yield "`tags` must be a list of objects with names"
        return
    if not _are_named(annotation.get("objects"), "classTitle"):
        yield "`objects` must be a list of objects with a classTitle"
        return
    known = {each["title"] for each in meta["classes"]}
    for each in annotation["objects"]:
        if each["classTitle"] not in known:
            yield f"the meta has no class {each['classTitle']!r}"
        if not _are_named(each.get("tags", []), "name"):
            yield "`tags` of an object must be a list of objects with names"
            return
    tags = {each["name"] for each in meta["tags"]}
    for name in _names(
        annotation["tags"], *(each.get("tags", []) for each in annotation["objects"])
    ):
        if name not in tags:
            yield f"the meta has no tag {name!r}"


def _are_named(values: object, key: str) -> bool:
    return isinstance(values, list) and all(
        isinstance(each, dict) and isinstance(each.get(key), str) for each in values
    )


def _names(*lists: Iterable[Document]) -> Iterator[str]:
    return (each["name"] for listed in lists for each in listed)


def empty_annotation(width: int, height: int) -> Document:
    """Return the annotation of an image without objects, with the keys that the SDK writes."""
    size = {"height": height, "width": width}
    return {"description": "", "tags": [], "size": size, "objects": []}
