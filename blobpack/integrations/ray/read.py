"""Read a blob or collection as a dataset of Ray Data."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from blobpack.integrations.ray.columns import Tables, check_columns
from blobpack.integrations.ray.datasource import BlobDatasource
from blobpack.integrations.ray.ray_data import processors, ray, to_images
from blobpack.integrations.ray.selection import select
from blobpack.model import RayOrder, check_choice, check_number
from blobpack.opening.open import open as open_source, source_of
from blobpack.opening.reader import Reader
from blobpack.reading.wanted import Wanted, check_mode, check_size
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blobpack.integrations.ray.ray_data import Dataset
    from blobpack.integrations.ray.where import Where
    from blobpack.model import RayColumn
    from blobpack.stores.location import Location

# By default each processor gets this many tasks: fewer if a task would read less than the least number of bytes, and more if
# it would read more than the largest.
TASK_BYTES_MIN = 8 << 20
TASK_BYTES_MAX = 128 << 20
TASKS_PER_PROCESSOR = 4
SEED_MAX = (1 << 63) - 1


@with_remote_options
def read_blobs(
    source: Reader | str | os.PathLike[str],
    *,
    columns: Iterable[RayColumn] = ("name", "bytes"),
    where: Where | None = None,
    order: RayOrder = "archive",
    seed: int = 0,
    mode: str | None = "RGB",
    size: tuple[int, int] | None = None,
    override_num_blocks: int | None = None,
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **remote: Unpack[RemoteOptions],
) -> Dataset:
    """Make a dataset of the members of a blob or collection: a row for each member.

    The members are chosen here, from the index, so the number of rows is known before any task runs. Each task reads members
    that lie next to each other, of one blob if there are enough tasks. Ray's `select_columns`, and its `filter` with an
    expression on columns of the index, are also evaluated before payloads are read.

    Args:
        source: An open blob or collection; or a path or URL that `blobpack.open` opens. All workers must reach it, as a path
            or URL, in the version that is opened here.
        columns: Columns of the dataset. "name": name of the member, str. "bytes": its payload. "image": its payload decoded,
            (height, width, 3) uint8, RGB. "blob": path or URL of the blob. "row": row in the index. "offset_start",
            "offset_end", "size": the bytes of the payload in that blob. "media_type", "width", "height", "crc32c", "mtime":
            facts of the index.
        where: Which members are read: a glob that their names match; several globs, of which one must match; or a dict of
            conditions, see Conditions. None: all members.
        order: "archive" order, by "name", or "random". Ray keeps the order of blocks only if
            `DataContext.execution_options.preserve_order` is set.
        seed: Seed of the random order.
        mode: Pillow's mode to convert images to; see blobpack.read_image.
        size: (height, width) to resize images to, or None; see blobpack.read_image.
        override_num_blocks: Number of blocks, if there are as many members. Each is made by a task of its own, unless the
            sizes of members differ a lot. None: chosen by the bytes that are read and the processors of the cluster.
        concurrency: Largest number of tasks that run at the same time; None: Ray decides.
        ray_remote_args: Other resources of each task, such as {"num_cpus": 2}; see ray.data.read_datasource.
        remote: How remote blobs are reached: see RemoteOptions. Headers and tokens can't be sent to workers; the path of a
            file with a token can.

    Returns:
        A ray.data.Dataset.

    Raises:
        PackageMissingError: Ray is not installed.
        FactsMissingError: a column or condition needs facts that the index does not have.
        TypeError: an argument has a wrong type.
        ValueError: an argument is not one of its choices, or out of range.
        BlobpackError: the source can't be opened. A task that can't read or decode a member fails with such an error, too.
    """
    found = source_of("source", source, Access.of("read_blobs", remote))
    check_choice("order", order, RayOrder)
    check_number("seed", seed, 0, SEED_MAX)
    check_mode(mode)
    wanted = Wanted(mode, size=check_size(size))
    if override_num_blocks is not None:
        check_number("override_num_blocks", override_num_blocks, 1)
    reader = found if isinstance(found, Reader) else open_source(absolute(found))
    tables = Tables(check_columns(columns, reader.index.facts), wanted, to_images)
    datasource = BlobDatasource(reader, select(reader, where, order, seed), tables)
    return ray.data.read_datasource(
        datasource,
        override_num_blocks=override_num_blocks or default_tasks(datasource),
        concurrency=concurrency,
        **(ray_remote_args or {}),
    )


def absolute(location: Location) -> Location:
    """Return the location with an absolute path: the current folder of a worker is another one."""
    if not location.is_local:
        return location
    return replace(location, whole=os.path.abspath(location.whole))  # noqa: PTH100 (keeps links)


def default_tasks(datasource: BlobDatasource) -> int:
    """Return the number of tasks: some for each processor, fewer if they would be too small, more if too large."""
    # Ray would make blocks of 1 MiB, and its overhead for each of them is larger than the time to read it
    size = datasource.estimate_inmemory_data_size()
    for_all = TASKS_PER_PROCESSOR * processors()
    return max(1, min(for_all, size // TASK_BYTES_MIN), -(-size // TASK_BYTES_MAX))
