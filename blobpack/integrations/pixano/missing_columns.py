"""Columns that records without metadata lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}


def with_missing(schema: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns with an empty value for each one that a schema of Pixano requires and that is not there.

    Pixano's folder builders fill records of splits without metadata in this way: a text is empty, a number is 0.
    """
    missing = {
        name: EMPTY[field.annotation]
        for name, field in schema.model_fields.items()
        # Pixano itself fills columns of other types, such as times
        if field.is_required() and field.annotation in EMPTY
    }
    return {**missing, **columns}
