"""Columns as NumPy arrays, Arrow tables and DataFrames; from_arrow.py goes the other way.

Strategy: share memory where the layouts agree. Packed names and int64 bounds are the layout of Arrow's large_string, so
names and offsets are not copied. Names are text if all of them are UTF-8, else bytes as in the tar; both are read back.
pyarrow is optional and takes 0.2 s to import, so it is imported only by functions that make or read a table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blobpack.columns import MEDIA_TYPES, Columns
from blobpack.errors import PackageMissingError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

# in these columns, 0 stands for unknown, and becomes null
UNKNOWN_IS_ZERO = ("width", "height", "mtime")

# the columns beside the name → pyarrow's name for the type of their values in Columns
FIELDS = {
    "offset_start": "int64",
    "offset_end": "int64",
    "media_type": "uint8",
    "width": "uint32",
    "height": "uint32",
    "crc32c": "uint32",
    "mtime": "int64",
}


class NotTextError(Exception):
    """A name is not UTF-8, and the table was begun with names as text."""


def need(module: str, extra: str) -> Any:
    """Import an optional package.

    Args:
        module: Name of the module.
        extra: The extra of blobpack that installs it.

    Raises:
        PackageMissingError: the package is not installed.
    """
    return need_alone(module, f"'blobpack[{extra}]'")


def need_alone(module: str, to_install: str = "") -> Any:
    """Import an optional package that no extra of blobpack installs.

    Args:
        module: Name of the module.
        to_install: What pip installs it by; "": its own name.

    Raises:
        PackageMissingError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        package = module.partition(".")[0]
        raise PackageMissingError(
            f"{package} is needed here, and can't be imported ({exc}): pip install {to_install or package}"
        ) from exc


# Columns to tables


def to_arrays(columns: Columns) -> dict[str, NDArray[Any]]:
    """Return the columns as NumPy arrays, by name. Numbers are views of the columns."""
    import numpy as np

    # np.array(list of str) would make a fixed-width array, as wide as the longest name in every row
    names = np.empty(len(columns), object)
    names[:] = list(columns.iter_names())
    arrays: dict[str, NDArray[Any]] = {"name": names}
    for name in ("offset_start", "offset_end"):
        arrays[name] = _numpy_view(getattr(columns, name))
    for name, column in columns.facts():
        arrays[name] = _numpy_view(column)
    if "media_type" in arrays:
        # 256 codes, so that a code of a later version is an unknown type, not an IndexError
        media_types = np.full(256, None, object)
        media_types[1 : len(MEDIA_TYPES)] = MEDIA_TYPES[1:]
        arrays["media_type"] = media_types[arrays["media_type"]]
    return arrays


def to_arrow_table(columns: Columns, *, text: bool | None = None) -> pa.Table:
    """Return the columns as an Arrow table. Names and offsets are not copied.

    Args:
        columns: The members.
        text: Whether names are text. None: they are if all of them are UTF-8.

    Raises:
        PackageMissingError: pyarrow is not installed.
        NotTextError: text is True, and a name is not UTF-8.
    """
    pa = need("pyarrow", "arrow")
    names = names_to_arrow(columns, pa.large_binary() if text is False else pa.large_string())
    # not converted to text with replacement characters: a changed name would find no member
    if text is not False and not are_utf8(names):
        if text:
            raise NotTextError
        names = names_to_arrow(columns, pa.large_binary())
    table = {"name": names}
    for name in ("offset_start", "offset_end"):
        table[name] = _numbers_to_arrow(getattr(columns, name))
    for name, column in columns.facts():
        if name == "media_type":
            table[name] = _media_types_to_arrow(column)
        else:
            table[name] = _numbers_to_arrow(column, unknown_is_zero=name in UNKNOWN_IS_ZERO)
    return pa.table(table)


def with_plain_texts(table: pa.Table) -> pa.Table:
    """Return a table whose media types are strings, for packages that know no dictionaries of strings."""
    pa = need("pyarrow", "arrow")
    if "media_type" not in table.column_names:
        return table
    place = table.column_names.index("media_type")
    return table.set_column(place, "media_type", table.column(place).cast(pa.string()))


def to_frame(columns: Columns) -> Any:
    """Return the columns as a pandas.DataFrame.

    Raises:
        PackageMissingError: pandas or pyarrow is not installed.
    """
    pd = need("pandas", "pandas")
    # the extra pandas installs pyarrow, too
    pa = need("pyarrow", "pandas")
    table = to_arrow_table(columns)
    # without this, a column of widths or times with one unknown value becomes float64
    whole = {pa.uint32(): pd.UInt32Dtype()}
    frame = table.to_pandas(types_mapper=whole.get)
    # not by its type: offsets have this type, too, and none of them is unknown
    if columns.mtime is not None:
        frame["mtime"] = table.column("mtime").to_pandas(
            types_mapper={pa.int64(): pd.Int64Dtype()}.get
        )
    return frame


def _numpy_view(column: memoryview) -> NDArray[Any]:
    import numpy as np

    values = np.asarray(column)
    values.flags.writeable = False
    return values


def names_to_arrow(columns: Columns, kind: Any = None) -> Any:
    """Return the names as an Arrow array over the same memory, text if no other type is given; nothing is checked."""
    pa = need("pyarrow", "arrow")
    # no validity bitmap, as no name is null; then the offsets of the names, and their bytes
    buffers = [None, pa.py_buffer(columns.name_bounds), pa.py_buffer(columns.names)]
    return pa.Array.from_buffers(kind or pa.large_string(), len(columns), buffers)


def are_utf8(names: Any) -> bool:
    """Return whether all of an array's names are UTF-8."""
    pa = need("pyarrow", "arrow")
    try:
        # only a full validation looks at the bytes
        names.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _numbers_to_arrow(column: memoryview, *, unknown_is_zero: bool = False) -> Any:
    pa = need("pyarrow", "arrow")
    values = _numpy_view(column)
    return pa.array(values, mask=values == 0 if unknown_is_zero else None)


def _media_types_to_arrow(column: memoryview) -> Any:
    import numpy as np

    pa = need("pyarrow", "arrow")
    codes = _numpy_view(column)
    # a later version of the format may add media types
    unknown = (codes == 0) | (codes >= len(MEDIA_TYPES))
    # the dictionary begins with the second media type, as the first one stands for unknown
    places = pa.array(np.where(unknown, 0, codes - 1).astype(np.int8), mask=unknown)
    return pa.DictionaryArray.from_arrays(places, pa.array(MEDIA_TYPES[1:]))


# Tables to columns
