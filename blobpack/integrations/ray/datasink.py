"""The Datasink of Ray Data: each task writes blobs, and the driver makes one collection of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from blobpack.errors import FormatError
from blobpack.integrations.ray.ray_data import BlockAccessor, Datasink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.collection.report import CollectReport
    from blobpack.integrations.ray.blob_set import BlobSet
    from blobpack.model import Payload

# Ray keeps the rows of a task in its object store until the task ends.
GATHERED_BYTES_MAX = 256 << 20


class BlobDatasink(Datasink):  # type: ignore[misc] # Ray is optional, and mypy runs without it
    """Writes the rows of a dataset into the blobs of a set.

    Attributes:
        report: What was written, once the write is complete.
    """

    def __init__(self, blobs: BlobSet, name: str, payload: str) -> None:
        """Set what is written.

        Args:
            blobs: The blobs.
            name: The column of names.
            payload: The column of payloads.
        """
        self.report: CollectReport | None = None
        self._blobs, self._name, self._payload = blobs, name, payload

    def get_name(self) -> str:
        """Return the name that Ray shows."""
        return "Blobs"

    @property
    def min_bytes_per_write(self) -> int:
        """Bytes that Ray gathers for a task: mostly, they fit into one blob."""
        # Half, because rows that fill a little more than one blob would leave a small second one.
        return min(self._blobs.shard_bytes // 2, GATHERED_BYTES_MAX)

    def write(self, blocks: Iterable[Any], ctx: Any) -> list[str]:
        """Write the rows of one attempt of a task; return the names of its blobs."""
        return self._blobs.write_blobs(ctx.task_idx, self._payloads(blocks))

    def on_write_complete(self, write_result: Any) -> None:
        """Make the collection of the blobs of those attempts that have succeeded."""
        names = [name for returned in write_result.write_returns for name in returned]
        self.report = self._blobs.commit(names)

    def _payloads(self, blocks: Iterable[Any]) -> Iterator[Payload]:
        """Yield name and payload of each row; payloads are not copied."""
        for block in blocks:
            table = BlockAccessor.for_block(block).to_arrow()
            # Ray's blocks without rows may lack the columns.
            if not table.num_rows:
                continue
            for column in (self._name, self._payload):
                if column not in table.column_names:
                    raise FormatError(
                        f"the dataset has no column {column!r}, only {', '.join(table.column_names)}"
                    )
            columns = (_plain(table.column(each)) for each in (self._name, self._payload))
            for name, payload in zip(*columns, strict=True):
                yield _name_of(name), _payload_of(name, payload)


def _plain(column: Any) -> Any:
    """Return a column without a dictionary of its values; a column from Parquet may have one."""
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _name_of(scalar: Any) -> str:
    name = scalar.as_py()
    if not isinstance(name, str):
        raise FormatError(f"a name in the dataset must be text, not {name!r:.100}")
    return name


def _payload_of(name: Any, scalar: Any) -> memoryview:
    buffer = scalar.as_buffer() if hasattr(scalar, "as_buffer") else None
    if buffer is None:
        raise FormatError(f"{name}: a payload must be bytes, not {scalar.as_py()!r:.100}")
    return memoryview(buffer)
