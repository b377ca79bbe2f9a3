"""Rows of Pixano 0.6: an item, its image, its objects and their annotations."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import shortuuid
from pixano.features import is_annotation, is_bbox, is_entity, is_image
from pixano.features.schemas.source import SourceKind
from pixano.features.types.schema_reference import EntityRef, ItemRef, SourceRef, ViewRef
from pixano.features.utils.creators import create_instance_of_schema

from blobpack.errors import FormatError
from blobpack.integrations.pixano.image_facts import facts_in_index, facts_in_payload
from blobpack.integrations.pixano.missing_columns import with_missing
from blobpack.integrations.pixano.record_line import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.integrations.pixano.blob_folder import FolderRecord
    from blobpack.integrations.pixano.record_line import AnnotationLine, ObjectLine

    Rows = dict[str, Any]


class ItemRows:
    """Makes the rows of a dataset of Pixano 0.6.

    Attributes:
        tables: The tables of the dataset.
    """

    # the application reads images by their URLs
    needs_payloads = False

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
        self._url_prefix = PurePosixPath(url_prefix)
        self._uses_names = use_image_name_as_id
        self._source: str | None = None

    def rows(self, record: FolderRecord, payloads: Mapping[str, bytes]) -> Rows:
        """Return the rows of a record by table.

        Args:
            record: The record.
            payloads: The image of each view, if the index does not know its size and format.
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
                id=PurePosixPath(member.name).stem if self._uses_names else shortuuid.uuid(),
                item_ref=ItemRef(id=item.id),
                url=(self._url_prefix / member.name).as_posix(),
                **facts._asdict(),
            )
        for each in record.line.objects:
            self._add_object(rows, record, item, views, each)
        return rows

    def _item(self, record: FolderRecord) -> Any:
        line = record.line
        default_id = f"item_{record.split}_{record.number}" if self._uses_names else shortuuid.uuid()
        if record.is_bare:
            default_id = PurePosixPath(next(iter(record.images.values())).name).stem
        schema = self._builder.item_schema
        columns = {"id": line.id or default_id, "split": record.split, **line.attrs}
        return schema(**(with_missing(schema, columns) if record.is_bare else columns))

    def _add_object(
        self, rows: Rows, record: FolderRecord, item: Any, views: Rows, line: ObjectLine
    ) -> None:
        # An object belongs to one view in 0.6: to the one of its first annotation.
        named = next((each.view for each in line.annotations if each.view), None)
        view = named or next(iter(views), None)
        if view not in views:
            raise FormatError(f"{record.where}: its objects have no image")
        object_id = line.id or shortuuid.uuid()
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
            id=line.id or shortuuid.uuid(),
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
    # the names of the other versions
    if len(objects) == 1:
        for name in ("entities", "objects"):
            objects.setdefault(name, next(iter(objects.values())))
    if boxes:
        annotations.setdefault("bbox", min(boxes))
    views = frozenset(name for name, schema in schemas.items() if is_image(schema))
    return Tables(views, objects, annotations, boxes)
