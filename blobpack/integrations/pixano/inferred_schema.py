"""The schema of a dataset of Pixano 0.8, inferred from its metadata."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from blobpack.integrations.pixano.metadata import parse_lines
from blobpack.integrations.pixano.record_line import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blobpack.integrations.pixano.blob_folder import BlobFolder

VIEW = "image"
SLOTS = {
    "bbox": "bbox",
    "bboxes": "bbox",
    "classification": "classification",
    "keypoint": "keypoint",
    "keypoints": "keypoint",
    "mask": "mask",
    "masks": "mask",
    "multi_path": "multi_path",
}
DEFAULT_SLOTS = ("bbox", "keypoint")
TYPES = {bool: "bool", int: "int", float: "float", str: "str"}
OWN_COLUMNS = frozenset(("comment", "created_at", "id", "split", "status", "updated_at"))


def infer_schema(folder: BlobFolder) -> dict[str, Any]:
    """Return a schema in which all lines of the metadata fit, as `schema` in dataset.yaml has it.

    Attributes whose values are objects of JSON, or have several types, are left out. Lines that can't be read are not
    reported here.
    """
    texts = [text for _, text in folder.metadata_files()]
    views = _views(texts)
    tables = Tables(
        views,
        dict.fromkeys(("entities", "object", "objects"), "entities"),
        SLOTS,
        frozenset(("bbox",)),
    )
    records: dict[str, set[str]] = defaultdict(set)
    objects: dict[str, set[str]] = defaultdict(set)
    slots: set[str] = set()
    for text in texts:
        for _, line in parse_lines(text, tables, lambda _number, _reason: None):
            _note_types(records, line.attrs)
            for each in line.objects:
                _note_types(objects, each.attrs)
                slots.update(annotation.table for annotation in each.annotations)
    return {
        "views": dict.fromkeys(sorted(views), "image"),
        "record": {"attrs": _attributes(records)},
        "entity": {"attrs": _attributes(objects)},
        "annotations": sorted(slots.union(DEFAULT_SLOTS)),
    }


def _views(texts: Iterable[bytes]) -> frozenset[str]:
    """Return the names of the views that lines name."""
    found: set[str] = set()
    for text in texts:
        for line in text.splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            named = fields.get("views") if isinstance(fields, dict) else None
            # a line without "views" has the form of 0.6, whose view is "image"
            found.update(named if isinstance(named, dict) else ())
    return frozenset(found or {VIEW})


def _note_types(seen: Mapping[str, set[str]], attrs: Mapping[str, Any]) -> None:
    for name, value in attrs.items():
        values = value if isinstance(value, list) else [value]
        ending = "[]" if isinstance(value, list) else ""
        seen[name].update(f"{TYPES.get(type(each), 'other')}{ending}" for each in values)


def _attributes(seen: Mapping[str, set[str]]) -> dict[str, Any]:
    """Return the attributes whose values have one type; whole numbers among others are fractions, too."""
    found: dict[str, Any] = {}
    for name, types in sorted(seen.items()):
        if types in ({"int", "float"}, {"int[]", "float[]"}):
            types = {kind for kind in types if kind.startswith("float")}
        kind = min(types, default="")
        if len(types) != 1 or kind.startswith("other") or name in OWN_COLUMNS:
            continue
        found[name] = {"type": kind.removesuffix("[]"), "collection": kind.endswith("[]")}
    return found
