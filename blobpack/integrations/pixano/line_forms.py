"""Lines of `metadata.jsonl`, in the three forms that versions of Pixano define, as one structure.

- 0.6: `{"image": "a.jpg", "colour": "red", "objects": {"category": ["cell"], "bbox": [[x, y, w, h]]}}`: one list for each
  attribute of all objects.
- 0.7: `{"views": {"image": "a.jpg"}, "entities": [{"category": "cell", "annotations": {"image": {"bbox": [x, y, w, h]}}}]}`.
- 0.8, "JSONL v2": `{"views": …, "attrs": {…}, "entities": [{"attrs": {…}, "annotations": [{"kind": "bbox", …}]}]}`, with a
  header line of defaults, which metadata.py reads.

Strategy: each part of a line is recognised by itself, so every version of Pixano reads each of these forms from a blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.integrations.pixano.record_line import (
    AnnotationLine,
    ObjectLine,
    RecordLine,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blobpack.integrations.pixano.record_line import Defaults, Tables

# parts of JSONL v2 that name further files, or belong to other views than images
NOT_READ = ("annotation_files", "conversations")
# keys of an annotation of JSONL v2 that are not columns of its table
NOT_COLUMNS = frozenset(("attrs", "frame_index", "id", "kind", "rle", "source", "view"))
BOX_NUMBERS = 4


class LineError(ValueError):
    """A line does not have a form that can be read."""


def parse_record(
    fields: Mapping[str, Any], tables: Tables, defaults: Defaults | None = None
) -> RecordLine:
    """Return the record of a line.

    Args:
        fields: The line, decoded.
        tables: The tables of the dataset.
        defaults: What the header line says.

    Raises:
        LineError: a part of the line has a form that can't be read.
    """
    rest = dict(fields)
    for name in NOT_READ:
        if rest.pop(name, None):
            raise LineError(f"{name!r} can't be read from a blob")
    images = dict(_images(mapping_of(rest.pop("views", None) or {}, "views"), tables.views))
    named = {name: rest.pop(name) for name in list(rest) if _view_of(name, tables.views)}
    images |= _images(named, tables.views)
    objects = [
        each
        for name in list(rest)
        if name in tables.objects
        for each in _objects(tables.objects[name], rest.pop(name), tables, defaults)
    ]
    return RecordLine(
        _text_or_none(rest.pop("id", None)),
        _text_or_none(rest.pop("split", None)),
        _with_attrs(rest),
        images,
        objects,
    )


def _images(named: Mapping[str, Any], views: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield each view and the path of its image."""
    for name, value in named.items():
        view = _view_of(name, views)
        if view is None:
            raise LineError(f"the dataset has no view {name!r} of images")
        path = _path_of(value)
        if path is not None:
            yield view, path


def _view_of(name: str, views: frozenset[str]) -> str | None:
    """Return the view that a key names, as Pixano 0.7 finds it: in any case, and with `_image` behind it."""
    if name in views:
        return name
    asked = name.strip().lower().removesuffix("_image")
    return next((view for view in views if view.lower() in (asked, name.strip().lower())), None)


def _path_of(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("uri", value.get("path"))
    if isinstance(value, list):
        if len(value) > 1:
            raise LineError("several images in one view (a mosaic) can't be read from a blob")
        value = value[0] if value else None
    if value is None or (isinstance(value, str) and value):
        return value
    raise LineError(f"the path of an image must be a text, not {value!r}")


def _objects(
    table: str, value: Any, tables: Tables, defaults: Defaults | None
) -> Iterator[ObjectLine]:
    if value is None:
        return
    if isinstance(value, dict):
        entries: Sequence[Any] = _transposed(value)
    elif isinstance(value, list):
        entries = value
    else:
        raise LineError(f"objects must be a list, or lists of their attributes, not {value!r}")
    for entry in entries:
        rest = dict(mapping_of(entry, "an object"))
        nested = rest.pop("annotations", None) or {}
        annotations = [
            _annotation(name, None, rest.pop(name), tables)
            for name in list(rest)
            if name in tables.annotations and rest[name] is not None
        ]
        if isinstance(nested, list):
            annotations += [_annotation_of_kind(each, tables, defaults) for each in nested]
        else:
            annotations += _annotations_by_view(mapping_of(nested, "annotations"), tables)
        yield ObjectLine(table, _text_or_none(rest.pop("id", None)), _with_attrs(rest), annotations)


def _transposed(lists: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one mapping for each object, of a list for each attribute."""
    columns = {
        name: value if isinstance(value, list) else [value]
        for name, value in lists.items()
        if value is not None
    }
    if len({len(column) for column in columns.values()}) > 1:
        raise LineError("the lists of attributes of objects have different lengths")
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _annotations_by_view(groups: Mapping[str, Any], tables: Tables) -> Iterator[AnnotationLine]:
    for name, group in groups.items():
        view = _view_of(name, tables.views)
        if view is None:
            raise LineError(f"the dataset has no view {name!r} of images")
        for kind, value in mapping_of(group or {}, "annotations of a view").items():
            if value is not None:
                yield _annotation(kind, view, value, tables)


def _annotation(name: str, view: str | None, value: Any, tables: Tables) -> AnnotationLine:
    """Return an annotation of 0.6 or 0.7: columns by name, or a box as four numbers."""
    table = _table_of(name, tables)
    if isinstance(value, dict):
        return AnnotationLine(table, view, None, dict(value))
    if table not in tables.boxes or not is_box(value):
        raise LineError(f"{name!r} must be an object of JSON with its columns, not {value!r}")
    # as Pixano 0.6.12 and 0.7 decide it
    is_normalized = all(0 <= number <= 1 for number in value)
    box = {"coords": value, "format": "xywh", "is_normalized": is_normalized, "confidence": 1.0}
    return AnnotationLine(table, view, None, box)


def is_box(value: Any) -> bool:
    """Return whether a value is a list of four numbers."""
    return (
        isinstance(value, list)
        and len(value) == BOX_NUMBERS
        and all(isinstance(number, int | float) for number in value)
    )


def _annotation_of_kind(entry: Any, tables: Tables, defaults: Defaults | None) -> AnnotationLine:
    """Return an annotation of JSONL v2."""
    fields = mapping_of(entry, "an annotation")
    table = _table_of(str(fields.get("kind")), tables)
    columns = {name: value for name, value in fields.items() if name not in NOT_COLUMNS}
    columns |= mapping_of(fields.get("rle") or {}, "rle")
    columns |= mapping_of(fields.get("attrs") or {}, "attrs")
    source = mapping_of(fields.get("source") or {}, "source")
    columns |= {f"source_{name}": value for name, value in source.items()}
    if defaults is not None:
        columns = {**defaults.source, **(defaults.box if table in tables.boxes else {}), **columns}
    if table in tables.boxes:
        for name in ("format", "is_normalized"):
            if columns.get(name) is None:
                raise LineError(
                    f"a box needs {name!r}, or the header line of the file must have it"
                )
        columns.setdefault("confidence", 1.0)
    return AnnotationLine(table, fields.get("view"), _text_or_none(fields.get("id")), columns)


def _table_of(name: str, tables: Tables) -> str:
    table = tables.annotations.get(name)
    if table is None:
        raise LineError(f"the dataset has no table for annotations of the kind {name!r}")
    return table


def _with_attrs(rest: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that are left, with those that JSONL v2 puts into `attrs`, but not those that are null."""
    attrs = mapping_of(rest.pop("attrs", None) or {}, "attrs")
    return {name: value for name, value in {**rest, **attrs}.items() if value is not None}


def mapping_of(value: Any, name: str) -> Mapping[str, Any]:
    """Return a value that must be an object of JSON.

    Raises:
        LineError: it is something else.
    """
    if not isinstance(value, dict):
        raise LineError(f"{name} must be an object of JSON, not {value!r}")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
