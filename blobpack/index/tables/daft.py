"""A DataFrame of Daft, with a column of files that Daft reads from the blob by ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.index.tables.arrow import need_alone, with_plain_texts
from blobpack.index.tables.places import places_of

if TYPE_CHECKING:
    from blobpack.index.tables.places import Urls
    from blobpack.index.tabular import TabularRows

FILE = "file"


def to_daft(index: TabularRows, url: Urls | None = None) -> Any:
    """Return the members as a daft.DataFrame; see Index.to_daft."""
    import numpy as np

    daft = need_alone("daft")
    # installed with Daft
    pa = need_alone("pyarrow")
    places = places_of(index, url)
    # Daft decodes no percent-encoding
    urls = [each if "://" in each else f"file://{each}" for each in places.urls]
    starts = np.asarray(index.offset_start)
    sizes = index.offset_end - starts
    # The parts of a daft.File, as Daft keeps them. A daft.File for each member would take 80 us.
    parts = {
        "url": pa.array(urls, pa.string()).take(pa.array(places.numbers)),
        "io_config": pa.nulls(len(index), pa.binary()),
        "position": pa.array(starts.astype(np.uint64)),
        "size": pa.array(sizes.astype(np.uint64)),
    }
    # Daft can't read a range of no bytes
    files = pa.StructArray.from_arrays(list(parts.values()), list(parts), mask=pa.array(sizes == 0))
    frame = daft.from_arrow(with_plain_texts(index.to_arrow()).append_column(FILE, files))
    return frame.with_column(FILE, daft.col(FILE).cast(daft.DataType.file()))
