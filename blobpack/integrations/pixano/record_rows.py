"""Rows of Pixano 0.7 and 0.8: a record, its images, its objects and their annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pixano.schemas import (
    CompressedRLE,
    canonical_table_name_for_schema,
    canonical_table_name_for_slot,
    is_bbox,
    is_image,
)

from blobpack.integrations.pixano.image_facts import facts_in_index, facts_in_payload, preview_of
from blobpack.integrations.pixano.line_forms import LineError
from blobpack.integrations.pixano.missing_columns import with_missing
from blobpack.integrations.pixano.record_line import Tables
from blobpack.quoting import url_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.integrations.pixano.blob_folder import FolderRecord
    from blobpack.integrations.pixano.record_line import AnnotationLine, ObjectLine
    from blobpack.model import Member

    Rows = dict[str, list[Any]]

RECORDS = "records"
ENTITIES = "entities"
# a kind of annotation, as lines name it → the slot of a dataset that holds its schema
SLOTS = {
    "bbox": "bbox",
    "classification": "classification",
    "keypoint": "keypoint",
    "keypoints": "keypoint",
    "mask": "mask",
    "multi_path": "multi_path",
}


class Ids(Protocol):
    """Makes ids that lines do not have."""

    def record(self, record: FolderRecord) -> str:
        """Return the id of a record."""
        ...

    def view(self, record_id: str, view: str, member: Member) -> str:
        """Return the id of an image."""
        ...

    def below(self, owner: str, kind: str, number: int) -> str:
        """Return the id of an object of a record, or of an annotation of an object."""
        ...


class RecordRows:
    """Makes the rows of a dataset of Pixano 0.7 or 0.8.

    Attributes:
        tables: The tables of the dataset.
    """

    def __init__(
        self,
        info: Any,
        ids: Ids,
        *,
        url_prefix: str | None,
        previews: bool = True,
        source: Mapping[str, str],
        frame_ids: bool = False,
    ) -> None:
        """Find the tables of a dataset.

        Args:
            info: The DatasetInfo.
            ids: Makes the ids.
            url_prefix: URL below which the members are served; None: images are stored in the dataset.
            previews: Make previews of images that are read by URL; Pixano makes those of stored images.
            source: The columns `source_type` and `source_name` of annotations whose lines name no source.
            frame_ids: Write the id of the image into the column `frame_id` of annotations, too.
        """
        self.tables = tables_of(info)
        self._info, self._ids = info, ids
        self._url_prefix, self._previews = url_prefix, previews
        self._source, self._frame_ids = source, frame_ids
        self._schemas = info.tables

    def rows(self, record: FolderRecord, payloads: Mapping[str, bytes]) -> Rows:
        """Return the rows of a record by table.

        Args:
            record: The record.
            payloads: The image of each view; empty if images are read by URL and have no preview.

        Raises:
            ValueError: a row does not fit its schema; pydantic's error is one.
        """
        line, schema = record.line, self._info.record
        columns = {"id": line.id or self._ids.record(record), "split": record.split, **line.attrs}
        made = schema(**(with_missing(schema, columns) if record.is_bare else columns))
        rows: Rows = {RECORDS: [made]}
        views = {}
        for view, member in record.images.items():
            views[view] = self._image(made.id, view, member, payloads.get(view))
            table = canonical_table_name_for_schema(type(views[view]))
            rows.setdefault(table, []).append(views[view])
        for number, each in enumerate(line.objects):
            self._add_object(rows, made.id, views, number, each)
        return rows

    def _image(self, record_id: str, view: str, member: Member, payload: bytes | None) -> Any:
        facts = (
            facts_in_index(member) if payload is None else facts_in_payload(member.name, payload)
        )
        columns: dict[str, Any] = {
            "id": self._ids.view(record_id, view, member),
            "record_id": record_id,
            "logical_name": view,
            **facts._asdict(),
        }
        if self._url_prefix is None:
            # analysing makes rows without images
            columns["raw_bytes"] = payload or b""
        else:
            columns["uri"] = url_below(self._url_prefix, member.name)
        if self._previews and payload is not None and (preview := preview_of(payload)):
            columns |= {"preview": preview, "preview_format": "jpeg"}
        return self._info.views[view](**columns)

    def _add_object(
        self,
        rows: Rows,
        record_id: str,
        views: Mapping[str, Any],
        number: int,
        line: ObjectLine,
    ) -> None:
        object_id = line.id or self._ids.below(record_id, "ent", number)
        made = self._schemas[line.table](id=object_id, record_id=record_id, **line.attrs)
        rows.setdefault(line.table, []).append(made)
        for at, annotation in enumerate(line.annotations):
            view = annotation.view or (next(iter(views)) if len(views) == 1 else "")
            if view not in views:
                raise LineError("an annotation must name one of its images")
            columns = {
                "id": annotation.id or self._ids.below(object_id, annotation.table, at),
                "record_id": record_id,
                "entity_id": object_id,
                "view_id": views[view].id,
                **({"frame_id": views[view].id} if self._frame_ids else {}),
                **self._source,
            }
            rows.setdefault(annotation.table, []).append(
                self._annotation(annotation, columns, views[view])
            )

    def _annotation(self, line: AnnotationLine, columns: dict[str, Any], view: Any) -> Any:
        schema, own = self._schemas[line.table], dict(line.columns)
        polygons = own.pop("polygons", None)
        if polygons is not None:
            scaled = [
                [number * (view.height if at % 2 else view.width) for at, number in enumerate(one)]
                for one in polygons
            ]
            mask = CompressedRLE.from_polygons(scaled, height=view.height, width=view.width)
            own |= {"size": mask.size, "counts": mask.counts}
        if isinstance(own.get("counts"), str):
            own["counts"] = own["counts"].encode()
        if "labels" in own and own.get("confidences") is None:
            own["confidences"] = [1.0] * len(own["labels"])
        return schema(**columns | own)


def tables_of(info: Any) -> Tables:
    """Return the tables of a dataset of Pixano 0.7 or 0.8, by the names that lines may use for them."""
    views = frozenset(name for name, schema in info.views.items() if is_image(schema))
    objects = (
        {} if info.entity is None else dict.fromkeys(("entities", "objects", "object"), ENTITIES)
    )
    annotations: dict[str, str] = {}
    for kind, slot in SLOTS.items():
        # 0.7 has no slot for classifications
        if getattr(info, slot, None) is not None:
            table = canonical_table_name_for_slot(slot)
            annotations |= {kind: table, table: table}
    boxes = frozenset(table for table in annotations.values() if is_bbox(info.tables[table]))
    return Tables(views, objects, annotations, boxes)
