"""Write a dataset of Ray Data into blobs."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

from blobpack.integrations.ray.blob_set import BlobSet
from blobpack.integrations.ray.datasink import BlobDatasink
from blobpack.integrations.ray.ray_data import Dataset
from blobpack.integrations.ray.read import absolute
from blobpack.model import check_number, check_text, shown
from blobpack.packing.shard_folder import discarded_on_error, shard_location
from blobpack.packing.shards import SHARD_BYTES_MIN
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from blobpack.collection.report import CollectReport

SHARD_BYTES = 128 << 20


@with_remote_options
def write_blobs(
    dataset: Dataset,
    prefix: str | os.PathLike[str],
    *,
    shard_bytes: int = SHARD_BYTES,
    name: str = "name",
    payload: str = "bytes",
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **remote: Unpack[RemoteOptions],
) -> CollectReport:
    """Write the rows of a dataset into blobs, in parallel, and make one collection of these blobs.

    Each row becomes a member. Blobs of at most `shard_bytes` are written by many tasks, each with its index inside, and
    `collection.idx` appears last. If a worker is killed, Ray runs its task again; what the killed one has written is
    removed, also the parts of its uploads to S3. After an error, nothing is left.

    Args:
        dataset: A ray.data.Dataset with a column of names and one of payloads.
        prefix: The folder to write to: a path that all workers reach, or s3://bucket/prefix. It must be empty, or not exist
            yet.
        shard_bytes: The largest size of an archive, without its index. A single member that is larger gets a blob of its
            own. Ray gives each task rows of at least half this size, or of 256 MiB, if the dataset has enough rows.
        name: The column of the members' names, which is text.
        payload: The column of their payloads, which is binary.
        concurrency: Largest number of tasks that run at the same time; None: Ray decides.
        ray_remote_args: Other resources of each task, such as {"num_cpus": 2}; see ray.data.Dataset.write_datasink.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        A report of the collection.

    Raises:
        PackageMissingError: Ray is not installed.
        SourceError: the dataset has no rows.
        DuplicateNameError: two rows have one name, and were written to two blobs.
        StorageError: the folder is not empty, or can't be written to.
        TypeError: an argument has a wrong type.
        ValueError: shard_bytes is too small for any member, or the URL names no prefix.
        RayTaskError: a task failed. It is also an instance of the error that the task has raised: a DuplicateNameError for
            two rows of one name in one blob, or a FormatError if a column is missing or has another type.
    """
    began = perf_counter()
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a ray.data.Dataset, not {shown(dataset)}")
    # A worker has another current folder.
    folder = absolute(shard_location(prefix, Access.of("write_blobs", remote)))
    check_number("shard_bytes", shard_bytes, SHARD_BYTES_MIN)
    check_text("name", name)
    check_text("payload", payload)
    blobs = BlobSet.begin(folder, shard_bytes)
    sink = BlobDatasink(blobs, name, payload)
    with discarded_on_error(blobs):
        dataset.write_datasink(
            sink, ray_remote_args=dict(ray_remote_args or {}), concurrency=concurrency
        )
        if sink.report is None:
            raise RuntimeError("Ray has not completed the write")
    return replace(sink.report, seconds=perf_counter() - began)
