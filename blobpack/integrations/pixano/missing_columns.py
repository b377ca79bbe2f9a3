"""Columns that records without metadata lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_missing(schema: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns with an empty value for each one that a schema of Pixano requires and that is not there.

    Pixano's folder builders fill records of splits without metadata in this way: a text is empty, a number is 0.
    """
    missing = {
        name: field.annotation()
        for name, field in schema.model_fields.items()
        if field.is_required() and name not in columns
    }
    return {**missing, **columns}
