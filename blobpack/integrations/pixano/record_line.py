"""The content of a line of `metadata.jsonl`, whichever form it has: a record, its images and its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tables(NamedTuple):
    """The tables of a dataset, by the names that a line may use for them.

    Attributes:
        views: Names of the views that are images.
        objects: Table of objects, by name.
        annotations: Table of annotations, by name or kind.
        boxes: Tables of bounding boxes. A box may be a list of numbers.
    """

    views: frozenset[str]
    objects: Mapping[str, str]
    annotations: Mapping[str, str]
    boxes: frozenset[str]


class Defaults(NamedTuple):
    """The columns that the header line of JSONL v2 sets for all lines below it.

    Attributes:
        box: Columns of boxes: `format` and `is_normalized`.
        source: Columns of annotations: `source_type` and `source_name`.
    """

    box: Mapping[str, Any]
    source: Mapping[str, Any]


class AnnotationLine(NamedTuple):
    """An annotation of one object.

    Attributes:
        table: Its table.
        view: Name of the view that it is drawn on; None if the line names none.
        id: Its id, if the line has one.
        columns: Its columns.
    """

    table: str
    view: str | None
    id: str | None
    columns: dict[str, Any]


class ObjectLine(NamedTuple):
    """An object, which Pixano calls an entity.

    Attributes:
        table: Its table.
        id: Its id, if the line has one.
        attrs: Its columns.
        annotations: Its annotations.
    """

    table: str
    id: str | None
    attrs: dict[str, Any]
    annotations: list[AnnotationLine]


class RecordLine(NamedTuple):
    """A line: one record, which Pixano 0.6 calls an item.

    Attributes:
        id: Its id, if the line has one.
        split: Its split, if the line names one.
        attrs: Its columns.
        images: Path of the image of each view.
        objects: Its objects.
    """

    id: str | None
    split: str | None
    attrs: dict[str, Any]
    images: dict[str, str]
    objects: list[ObjectLine]
