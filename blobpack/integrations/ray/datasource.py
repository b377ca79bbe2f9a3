"""The Datasource of Ray Data: a task for each run of members.

Strategy: the reader and the rows are put into Ray's object store once, and each task holds a reference and two numbers. A
worker process keeps the readers that it has opened, because it runs many tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blobpack.integrations.ray.matching import matching
from blobpack.integrations.ray.ray_data import BlockMetadata, Datasource, ReadTask, ray
from blobpack.model import redacted
from blobpack.recently_used import RecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from blobpack.integrations.ray.columns import Tables
    from blobpack.integrations.ray.selection import Selection
    from blobpack.opening.reader import Reader

# Bytes of a row without its payload.
ROW_BYTES = 100
# If no size was given, decoded images are assumed to be this many times as large as JPEGs.
DECODED_TIMES = 10
# Of an RGB image.
CHANNELS = 3
# Readers that a worker process keeps open.
READERS_KEPT = 4
_readers: RecentlyUsed[str, tuple[Reader, range | NDArray[np.int64]]] = RecentlyUsed(READERS_KEPT)


@dataclass(frozen=True)
class Run:
    """The work of one task: members in a row.

    Attributes:
        shared: Reference to the reader and the rows of all members.
        first: Place of the run's first member among these rows.
        last: One past the place of its last member.
        tables: Makes tables of the members.
    """

    shared: Any
    first: int
    last: int
    tables: Tables

    def read(self) -> Iterator[pa.Table]:
        """Read the members, and yield them in tables."""
        key = self.shared.hex()
        found = _readers.get(key)
        if found is None:
            found = ray.get(self.shared)
            _readers.put(key, found)
        reader, rows = found
        yield from self.tables.of_rows(reader, rows[self.first : self.last])


class BlobDatasource(Datasource):  # type: ignore[misc] # Ray is optional, and mypy runs without it
    """Members of a blob or collection, for ray.data.read_datasource."""

    def __init__(self, reader: Reader, selection: Selection, tables: Tables) -> None:
        super().__init__()
        self._reader, self._selection, self._tables = reader, selection, tables
        self._shared: Any = None
        # Ray's mixin uses this attribute, but does not set it. None: all columns.
        self._projection_map: dict[str, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # the other process puts the reader into its own cluster
        return {**self.__dict__, "_shared": None}

    def get_name(self) -> str:
        """Return the name that Ray shows."""
        return "Blobs"

    def estimate_inmemory_data_size(self) -> int:
        """Return about the bytes that the rows take in memory."""
        return self._bytes_of(0, len(self._selection))

    def supports_projection_pushdown(self) -> bool:
        """Return True: columns that nobody uses are not read."""
        return True

    def apply_projection(self, projection_map: dict[str, str] | None) -> BlobDatasource:
        """Return a datasource of fewer columns."""
        clone: BlobDatasource = super().apply_projection(projection_map)
        if clone._projection_map is not None:
            # a table without columns would have no rows
            columns = tuple(clone._projection_map) or ("row",)
            clone._tables = replace(self._tables, columns=columns)
        return clone

    def supports_predicate_pushdown(self) -> bool:
        """Return True: filters on columns of the index are evaluated before a payload is read."""
        return True

    def apply_predicate(self, predicate_expr: Any) -> BlobDatasource:
        """Return a datasource of fewer rows; this one if the filter needs payloads, so that Ray filters what was read."""
        selection = matching(
            self._reader, self._selection, self._tables, predicate_expr.to_pyarrow()
        )
        if selection is None:
            return self
        clone: BlobDatasource = super().apply_predicate(predicate_expr)
        clone._selection, clone._shared = selection, None
        return clone

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: object = None,
    ) -> list[Any]:
        """Return a task for each run of members, at most `parallelism`, and at least one."""
        if self._shared is None:
            self._shared = ray.put((self._reader, self._selection.rows))
        schema = self._tables.schema()
        return [
            self._task(first, last, schema, per_task_row_limit)
            # Without rows, one empty task tells Ray the schema of the dataset.
            for first, last in self._selection.runs(parallelism) or [(0, 0)]
        ]

    def _task(self, first: int, last: int, schema: pa.Schema | None, limit: int | None) -> Any:
        if limit is not None:
            last = min(last, first + limit)
        run = Run(self._shared, first, last, self._tables)
        metadata = BlockMetadata(
            num_rows=last - first,
            size_bytes=self._bytes_of(first, last),
            exec_stats=None,
            input_files=self._urls_of(first, last),
        )
        return ReadTask(run.read, metadata, schema, limit)

    def _bytes_of(self, first: int, last: int) -> int:
        """Return about the bytes that members take in memory."""
        rows = last - first
        stored = self._selection.bytes_before(last) - self._selection.bytes_before(first)
        size = rows * ROW_BYTES
        if "bytes" in self._tables.columns:
            size += stored
        if "image" in self._tables.columns:
            wanted = self._tables.wanted.size
            size += rows * wanted[0] * wanted[1] * CHANNELS if wanted else stored * DECODED_TIMES
        return size

    def _urls_of(self, first: int, last: int) -> list[str] | None:
        """Return the URLs of the blobs that hold members; None for members in another order than that of the archive."""
        if first == last or not self._selection.ascends:
            return None
        rows = self._selection.rows
        numbers = (self._reader._number_of(int(rows[place])) for place in (first, last - 1))
        begin, end = numbers
        return [redacted(blob.url) for blob in self._reader.blobs[begin : end + 1]]
