"""Make columns of a table of Arrow or pandas; whatever it holds, they are right or it is a FormatError."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from blobpack.columns import FACT_WITHOUT_UNKNOWN, FACTS, MEDIA_TYPES, Columns
from blobpack.errors import FormatError
from blobpack.index.tables.arrow import FIELDS, need
from blobpack.model import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


def from_arrow_table(table: Any) -> Columns:
    """Return the columns of an Arrow table, or of an object that can be converted to one; other columns are ignored.

    Raises:
        PackageMissingError: pyarrow is not installed.
        FormatError: a column is missing, has another type, or holds an impossible value; the message names it.
        TypeError: the argument is not a table.
    """
    pa = need("pyarrow", "arrow")
    if not isinstance(table, pa.Table):
        try:
            # accepts a DataFrame, and any object with Arrow's PyCapsule interface
            table = pa.table(table)
        except pa.ArrowTypeError as exc:
            raise _not_columns(exc) from exc
        except TypeError as exc:
            raise TypeError(
                f"table must be an Arrow table or a DataFrame, not {table!r:.200}"
            ) from exc
        # of a DataFrame: two columns have one name, or a number is too large
        except (ValueError, OverflowError) as exc:
            raise _not_columns(exc) from exc
    places = {name: table.schema.get_all_field_indices(name) for name in ("name", *FIELDS)}
    for name, found in places.items():
        if len(found) > 1 or (not found and name not in FACTS):
            count = len(found) or "no"
            # Arrow tables may have several columns of one name
            raise FormatError(f"{count} columns {name!r} among {', '.join(table.column_names)}")
    taken = {name: table.column(found[0]) for name, found in places.items() if found}
    names, name_bounds = _names_from_arrow(taken.pop("name"))
    # crc32c is left out if some of its values are missing
    columns = {
        name: values
        for name, column in taken.items()
        if (values := _numbers_from_arrow(name, column)) is not None
    }
    # an index promises 0 ≤ offset_start ≤ offset_end, and the code that reads payloads relies on it
    _check_order(columns["offset_start"], columns["offset_end"])
    views = {name: values.data.toreadonly() for name, values in columns.items()}
    return Columns(names, name_bounds, **views)


def from_frame(frame: Any) -> Columns:
    """Return the columns of a pandas.DataFrame; other columns are ignored.

    Raises:
        PackageMissingError: pandas or pyarrow is not installed.
        FormatError: a column is missing, has another type, or holds an impossible value; the message names it.
        TypeError: the argument is not a DataFrame.
    """
    pd = need("pandas", "pandas")
    pa = need("pyarrow", "pandas")
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas.DataFrame, not {shown(frame)}")
    if "name" not in frame.columns and frame.index.name == "name":
        frame = frame.reset_index()
    known = [name for name in frame.columns if name == "name" or name in FIELDS]
    try:
        # the other columns may hold objects that Arrow has no type for
        table = pa.Table.from_pandas(frame[known], preserve_index=False)
    # pyarrow.ArrowInvalid is a ValueError; pandas and pyarrow raise others, too
    except (ValueError, OverflowError, pa.ArrowTypeError) as exc:
        raise _not_columns(exc) from exc
    return from_arrow_table(table)


def _not_columns(exc: Exception) -> FormatError:
    return FormatError(f"the DataFrame has a column that an index can't have: {exc}")


def _names_from_arrow(values: Any) -> tuple[memoryview, memoryview]:
    """Return packed names and their bounds of a column of text or bytes; no copy if it is one large array."""
    pa = need("pyarrow", "arrow")
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not any(test(kind) for test in _text_or_bytes_tests(pa)):
        raise FormatError(f"column name: {values.type}, expected text or bytes")
    if values.null_count:
        raise FormatError(f"column name: row {_first_null(values)} is null")
    if kind != values.type:
        values = values.cast(kind)
    packed = _combine_chunks(values.cast(pa.large_binary()))
    # a table from elsewhere may hold offsets that point outside its buffers: without this check, reading a name could
    # crash the process
    try:
        packed.validate(full=True)
    except pa.ArrowInvalid as exc:
        raise FormatError(f"column name: {exc}") from exc
    _, bounds, names = packed.buffers()
    # an empty array may have no buffers at all
    if not len(packed):
        return memoryview(b""), memoryview(bytes(8)).cast("q")
    # a slice of an Arrow array keeps the whole buffers, and an offset into them
    first = packed.offset
    name_bounds = memoryview(bounds).cast("B").cast("q")[first : first + len(packed) + 1]
    return (
        memoryview(names).cast("B").toreadonly() if names else memoryview(b""),
        name_bounds.toreadonly(),
    )


def _text_or_bytes_tests(pa: Any) -> tuple[Callable[[Any], bool], ...]:
    types = pa.types
    return (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
    )


def _numbers_from_arrow(name: str, values: Any) -> NDArray[Any] | None:
    """Return a column of numbers or media types; None for a fact with missing values that has no value for unknown."""
    pa = need("pyarrow", "arrow")
    kind = getattr(pa, FIELDS[name])()
    missing = values.null_count
    if missing and name not in FACTS:
        raise FormatError(f"column {name}: row {_first_null(values)} is null")
    # a column that says nothing about some members would be read as a checksum of 0
    if missing and name == FACT_WITHOUT_UNKNOWN:
        return None
    # the type of a column that holds nothing but null
    if pa.types.is_null(values.type):
        return cast("NDArray[Any]", pa.array([0] * len(values), kind).to_numpy())
    if name == "media_type":
        return _codes_from_arrow(values)
    if not pa.types.is_integer(values.type):
        raise FormatError(f"column {name}: {values.type}, expected whole numbers")
    try:
        # the cast is checked: a number that does not fit is an ArrowInvalid, never another number
        whole = _combine_chunks(values.fill_null(0).cast(kind))
    except pa.ArrowInvalid as exc:
        raise FormatError(f"column {name}: {exc}") from exc
    return cast("NDArray[Any]", whole.to_numpy())


def _codes_from_arrow(values: Any) -> NDArray[np.uint8]:
    import numpy as np

    pa = need("pyarrow", "arrow")
    compute = need("pyarrow.compute", "arrow")
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise FormatError(f"column media_type: {values.type}, expected text")
    places = compute.index_in(values, pa.array(MEDIA_TYPES[1:], values.type))
    if places.null_count > values.null_count:
        strange = compute.filter(values, compute.and_(places.is_null(), values.is_valid()))
        raise FormatError(
            f"column media_type: {strange[0].as_py()!r} is no media type that blobpack knows"
        )
    # index_in counts from the second media type, as the first one is "" for unknown: null becomes -1, then 0
    codes: NDArray[np.int32] = _combine_chunks(places.fill_null(-1)).to_numpy() + 1
    return codes.astype(np.uint8)


def _check_order(offset_start: NDArray[np.int64], offset_end: NDArray[np.int64]) -> None:
    wrong = (offset_start < 0) | (offset_end < offset_start)
    if wrong.any():
        row = int(wrong.argmax())
        raise FormatError(
            f"columns offset_start and offset_end: row {row} is {offset_start[row]} to {offset_end[row]}"
        )


def _first_null(values: Any) -> int:
    return int(need("pyarrow.compute", "arrow").index(values.is_null(), value=True).as_py())


def _combine_chunks(values: Any) -> Any:
    # compute functions return a ChunkedArray for a column of a table, and an Array for an Array
    return values.combine_chunks() if hasattr(values, "combine_chunks") else values
