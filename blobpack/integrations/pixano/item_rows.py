"""Rows of Pixano 0.6: an item, its image, its objects and their annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixano.features import (
    is_annotation,
    is_bbox,
    is_compressed_rle,
    is_entity,
    is_image,
    is_keypoints,
)
from pixano.features.schemas.source import SourceKind
from pixano.features.types.schema_reference import EntityRef, ItemRef, SourceRef, ViewRef
from pixano.features.utils.creators import create_instance_of_schema

from blobpack.integrations.pixano.image_facts import facts_in_index, facts_in_payload
from blobpack.integrations.pixano.line_forms import LineError
from blobpack.integrations.pixano.missing_columns import with_missing
from blobpack.integrations.pixano.new_ids import NewIds, new_id
from blobpack.integrations.pixano.record_line import Tables
from blobpack.quoting import url_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.integrations.pixano.blob_folder import FolderRecord
    from blobpack.integrations.pixano.record_line import AnnotationLine, ObjectLine

    Rows = dict[str, Any]

# the kinds of annotations, as lines of later versions name them
KINDS = {
    ("bbox", "bboxes"): is_bbox,
    ("keypoint", "keypoints"): is_keypoints,
    ("mask", "masks"): is_compressed_rle,
}


class ItemRows:
    """Makes the rows of a dataset of Pixano 0.6.

    Attributes:
        tables: The tables of the dataset.
    """

    def __init__(self, builder: Any, *, url_prefix: str, use_image_name_as_id: bool) -> None:
        """Find the tables of a builder of Pixano 0.6.

        Args:
            builder: The DatasetBuilder.
            url_prefix: What stands before the names of members in URLs.
            use_image_name_as_id: Make ids of the names of images.
        """
        schemas = builder.schemas
        self.tables = tables_of(schemas)
        self._builder, self._schemas = builder, schemas
        self._url_prefix = url_prefix
        self._ids = NewIds("item", use_image_names=use_image_name_as_id)
        self._source: str | None = None

    def rows(self, record: FolderRecord, payloads: Mapping[str, bytes]) -> Rows:
        """Return the rows of a record by table.

        Args:
            record: The record.
            payloads: The image of each view, if the index does not know its size and format.

        Raises:
            ValueError: a row does not fit its schema; pydantic's error is one.
        """
        item = self._item(record)
        rows: Rows = {self._builder.item_schema_name: item}
        views = {}
        for view, member in record.images.items():
            facts = (
                facts_in_payload(member.name, payloads[view])
                if payloads
                else facts_in_index(member)
            )
            rows[view] = views[view] = self._schemas[view](
                id=self._ids.view(item.id, view, member),
                item_ref=ItemRef(id=item.id),
                url=url_below(self._url_prefix, member.name),
                **facts._asdict(),
            )
        for each in record.line.objects:
            self._add_object(rows, item, views, each)
        return rows

    def _item(self, record: FolderRecord) -> Any:
        line = record.line
        schema = self._builder.item_schema
        columns = {"id": line.id or self._ids.record(record), "split": record.split, **line.attrs}
        return schema(**(with_missing(schema, columns) if record.is_bare else columns))

    def _add_object(self, rows: Rows, item: Any, views: Rows, line: ObjectLine) -> None:
        # An object belongs to one view in 0.6: to the one of its first annotation.
        named = next((each.view for each in line.annotations if each.view), None)
        view = named or next(iter(views), None)
        if view not in views:
            raise LineError("its objects have no image")
        object_id = line.id or new_id()
        place = {
            "item_ref": ItemRef(id=item.id),
            "view_ref": ViewRef(id=views[view].id, name=view),
        }
        rows.setdefault(line.table, []).append(
            self._schemas[line.table](id=object_id, **place, **line.attrs)
        )
        place["entity_ref"] = EntityRef(id=object_id, name=line.table)
        for annotation in line.annotations:
            rows.setdefault(annotation.table, []).append(self._annotation(annotation, place))

    def _annotation(self, line: AnnotationLine, place: Mapping[str, Any]) -> Any:
        columns = {
            # sources are rows of their own in 0.6
            name: value
            for name, value in line.columns.items()
            if name not in ("source_type", "source_name")
        }
        return create_instance_of_schema(
            self._schemas[line.table],
            id=line.id or new_id(),
            source_ref=SourceRef(id=self._source_id()),
            **place,
            **columns,
        )

    def _source_id(self) -> str:
        if self._source is None:
            # the name that Pixano's own folder builders use
            self._source = self._builder.add_source("Builder", SourceKind.OTHER)
        return self._source


def tables_of(schemas: Mapping[str, Any]) -> Tables:
    """Return the tables of a dataset of Pixano 0.6, by the names that lines may use for them."""
    objects = {name: name for name, schema in schemas.items() if is_entity(schema)}
    annotations = {name: name for name, schema in schemas.items() if is_annotation(schema)}
    boxes = frozenset(name for name in annotations if is_bbox(schemas[name]))
    # the names that the forms of later versions have
    if len(objects) == 1:
        for name in ("entities", "object", "objects"):
            objects.setdefault(name, next(iter(objects.values())))
    for kinds, is_kind in KINDS.items():
        tables = [name for name, schema in schemas.items() if is_kind(schema)]
        for kind in kinds if tables else ():
            annotations.setdefault(kind, tables[0])
    views = frozenset(name for name, schema in schemas.items() if is_image(schema))
    return Tables(views, objects, annotations, boxes)
