"""Filters of Ray Data on columns of the index, which are evaluated before any payload is read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from blobpack.index.row_numbers import rows_as_array
from blobpack.integrations.ray.columns import PAYLOADS
from blobpack.integrations.ray.selection import SomeMembers

if TYPE_CHECKING:
    from blobpack.integrations.ray.columns import Tables
    from blobpack.integrations.ray.selection import Selection
    from blobpack.opening.reader import Reader

# a column that numbers the members; no column of a dataset has this name
PLACE = "place"


def matching(
    reader: Reader, selection: Selection, tables: Tables, expression: Any
) -> SomeMembers | None:
    """Return the members that match a filter; None if the filter uses columns that the index does not have.

    Args:
        reader: The blob or collection.
        selection: The members that are filtered.
        tables: Makes tables of the columns of the dataset.
        expression: The filter, as an expression of Arrow.
    """
    columns = [name for name in tables.columns if name not in PAYLOADS]
    # The sizes are needed later, to cut the members into runs of about equal bytes.
    facts = replace(tables, columns=tuple(dict.fromkeys([*columns, "size"])))
    rows, sizes, first = rows_as_array(selection.rows), [np.zeros(0, np.int64)], 0
    places = [np.zeros(0, np.int64)]
    for table in facts.of_rows(reader, selection.rows):
        numbered = table.append_column(PLACE, pa.array(np.arange(first, first + len(table))))
        try:
            found = numbered.filter(expression)
        # a column is missing: FieldRef
        except pa.ArrowInvalid:
            return None
        places.append(found.column(PLACE).to_numpy())
        sizes.append(found.column("size").to_numpy())
        first += len(table)
    return SomeMembers(reader, rows[np.concatenate(places)], np.concatenate(sizes))
