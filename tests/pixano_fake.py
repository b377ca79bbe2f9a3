"""A fake of the parts of Pixano that BlobFolderBuilder uses, for environments without Pixano.

It stands for the contract of `DatasetBuilder` in Pixano 0.6, where a dataset consists of items, and in 0.7 and 0.8, where it
consists of records: its constructor, `schemas` or `info.tables`, `add_source`, and `build`, which takes the rows that
`generate_data` yields and collects them by table, in batches of `flush_every_n_samples`. Schemas are plain classes that keep
the columns they get and refuse columns that they do not have. tests/tools/pixano-06 to pixano-08 use the real ones.
"""

from __future__ import annotations

import itertools
import sys
from enum import Enum
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pytest

NUMBERS = itertools.count()


class Field:
    """A column of a schema, as pydantic describes it."""

    def __init__(self, annotation: type, *, required: bool) -> None:
        self.annotation, self._required = annotation, required

    def is_required(self) -> bool:
        return self._required


class Row:
    """A row; subclasses name their columns in `columns`."""

    columns: ClassVar[dict[str, type]] = {"id": str}
    required: ClassVar[frozenset[str]] = frozenset()
    model_fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls) -> None:
        cls.columns = {**cls.__mro__[1].columns, **cls.__dict__.get("columns", {})}  # type: ignore[attr-defined]
        cls.model_fields = {
            name: Field(kind, required=name in cls.required) for name, kind in cls.columns.items()
        }

    def __init__(self, **given: Any) -> None:
        unknown = given.keys() - self.columns.keys()
        missing = self.required - given.keys()
        if unknown or missing:
            raise ValueError(f"{type(self).__name__}: unknown {unknown}, missing {missing}")
        self.__dict__.update(given)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__dict__})"


class Item(Row):
    columns: ClassVar[dict[str, type]] = {"split": str, "image_type": str}
    required: ClassVar[frozenset[str]] = frozenset({"id", "image_type"})


class Record(Row):
    columns: ClassVar[dict[str, type]] = {"split": str, "image_type": str}


class Image(Row):
    columns: ClassVar[dict[str, type]] = {
        **dict.fromkeys(("item_ref", "url", "record_id", "logical_name", "format", "uri"), str),
        **dict.fromkeys(("raw_bytes", "preview"), bytes),
        **{"width": int, "height": int, "preview_format": str},
    }


class Entity(Row):
    columns: ClassVar[dict[str, type]] = dict.fromkeys(
        ("item_ref", "view_ref", "record_id", "category"), str
    )


class Annotation(Row):
    columns: ClassVar[dict[str, type]] = dict.fromkeys(
        (
            *(
                "item_ref",
                "view_ref",
                "entity_ref",
                "source_ref",
                "record_id",
                "view_id",
                "frame_id",
            ),
            *("entity_id", "source_type", "source_name"),
        ),
        str,
    )


class BBox(Annotation):
    columns: ClassVar[dict[str, type]] = {
        "coords": list,
        "format": str,
        "is_normalized": bool,
        "confidence": float,
    }


class KeyPoints(Annotation):
    columns: ClassVar[dict[str, type]] = {"template_id": str, "coords": list, "states": list}


class CompressedRLE(Annotation):
    columns: ClassVar[dict[str, type]] = {"size": list, "counts": bytes}


TABLES = {
    Record: "records",
    Image: "images",
    Entity: "entities",
    BBox: "bboxes",
    KeyPoints: "keypoints",
    CompressedRLE: "masks",
}
SLOTS = {"bbox": BBox, "keypoint": KeyPoints, "mask": CompressedRLE}
WORKSPACE = Enum("WorkspaceType", ["UNDEFINED", "IMAGE"])


class DatasetInfo:
    """The description of a dataset; since 0.7, with its schemas."""

    SCHEMAS = ("record", "entity", "bbox", "keypoint", "mask")

    def __init__(self, **given: Any) -> None:
        self.name, self.id = given.get("name", ""), given.get("id", "")
        self.views: dict[str, type] = given.get("views") or {}
        self.workspace = given.get("workspace", WORKSPACE.UNDEFINED)
        for slot in self.SCHEMAS:
            setattr(self, slot, given.get(slot))

    @property
    def tables(self) -> dict[str, type]:
        schemas = [getattr(self, slot) for slot in self.SCHEMAS]
        return {TABLES[each]: each for each in [*schemas, *self.views.values()] if each}

    def model_dump(self, exclude: set[str]) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in exclude}

    @classmethod
    def model_validate(cls, given: dict[str, Any]) -> DatasetInfo:
        return cls(**given)


class Builder:
    """DatasetBuilder: `build` returns the batches of rows, each by table."""

    def __init__(self, target_dir: Any, info: DatasetInfo, dataset_item: Any = None) -> None:
        self.target_dir, self.info = target_dir, info
        self.schemas = dataset_item.schemas if dataset_item else info.tables
        self.sources: list[tuple[str, str]] = []

    item_schema, item_schema_name = Item, "item"

    def add_source(self, name: str, kind: Enum) -> str:
        self.sources.append((name, kind.value))
        return f"source {len(self.sources)}"

    def build(self, flush_every_n_samples: int = 1024) -> list[dict[str, list[Any]]]:
        batches: list[dict[str, list[Any]]] = [{}]
        for rows in self.generate_data():  # type: ignore[attr-defined]
            if len(next(iter(batches[-1].values()), [])) == flush_every_n_samples:
                batches.append({})
            for table, value in rows.items():
                assert table in self.schemas or table == "item", table
                batches[-1].setdefault(table, []).extend(
                    value if isinstance(value, list) else [value]
                )
        return batches


class HealthItem:
    """A DatasetItem of 0.6: its tables by name."""

    schemas: ClassVar[dict[str, type]] = {
        "image": Image,
        "objects": Entity,
        "bbox": BBox,
        "keypoints": KeyPoints,
    }


def ref(name: str) -> Any:
    return lambda id, name=name: f"{name} {id}"


def is_a(*schemas: type) -> Any:
    return lambda schema: issubclass(schema, schemas)


def install(monkeypatch: pytest.MonkeyPatch, *, has_items: bool) -> None:
    """Put the fake in the place of Pixano 0.6, or else of 0.7."""
    contents: dict[str, dict[str, Any]] = {
        "shortuuid": {"uuid": lambda: f"id {next(NUMBERS)}"},
        "pixano": {},
        "pixano.datasets": {"DatasetInfo": DatasetInfo},
        "pixano.datasets.builders": {"DatasetBuilder": Builder},
        "pixano.datasets.workspaces": {"WorkspaceType": WORKSPACE},
    }
    kinds = {"bbox": BBox, "compressed_rle": CompressedRLE, "image": Image, "keypoints": KeyPoints}
    checks = {f"is_{name}": is_a(schema) for name, schema in kinds.items()}
    if has_items:
        contents["pixano.datasets"]["DatasetItem"] = HealthItem
        checks |= {"is_annotation": is_a(Annotation), "is_entity": is_a(Entity)}
        refs = {f"{name}Ref": ref(name) for name in ("Entity", "Item", "Source", "View")}
        contents |= {
            "pixano.features": checks,
            "pixano.features.schemas": {},
            "pixano.features.schemas.source": {
                "SourceKind": Enum("SourceKind", {"OTHER": "other"})
            },
            "pixano.features.types": {},
            "pixano.features.types.schema_reference": refs,
            "pixano.features.utils": {},
            "pixano.features.utils.creators": {
                "create_instance_of_schema": lambda schema, **columns: schema(**columns)
            },
        }
    else:
        schemas = {each.__name__: each for each in TABLES}
        contents["pixano.schemas"] = {
            **checks,
            **schemas,
            "canonical_table_name_for_schema": TABLES.__getitem__,
            "canonical_table_name_for_slot": lambda slot: TABLES[SLOTS[slot]],
        }
    for name, values in contents.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, module)
