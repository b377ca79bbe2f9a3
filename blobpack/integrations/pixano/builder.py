"""A dataset builder for Pixano 0.6, 0.7 and 0.8 that reads an image folder from a blob."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from blobpack.errors import FormatError, PackageMissingError
from blobpack.integrations.pixano.blob_folder import BlobFolder
from blobpack.integrations.pixano.image_facts import has_facts, with_payloads
from blobpack.model import check_flag, check_text
from blobpack.opening.kind import name_of
from blobpack.opening.open import opened, source_of
from blobpack.stores.access.remote import Access, with_remote_options
from blobpack.stores.arguments import local_path

try:
    from pixano.datasets.builders import DatasetBuilder
except ImportError as exc:
    raise PackageMissingError(
        f"BlobFolderBuilder needs Pixano, which can't be imported ({exc}): pip install pixano"
    ) from exc

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from blobpack.integrations.pixano.blob_folder import FolderRecord
    from blobpack.integrations.pixano.item_rows import ItemRows
    from blobpack.integrations.pixano.record_rows import RecordRows
    from blobpack.opening.reader import Reader
    from blobpack.stores.access.remote import RemoteOptions

# slots that an image dataset of Pixano 0.7 has, if its DatasetInfo does not name others
DEFAULT_SLOTS = {"record": "Record", "entity": "Entity", "bbox": "BBox", "keypoint": "KeyPoints"}


class BlobFolderBuilder(DatasetBuilder):  # type: ignore[misc]  # Pixano is missing where types are checked
    """Builds a dataset from an image folder in a blob, as Pixano's `ImageFolderBuilder` builds one from a folder on disk.

    The blob holds `<split>/<image>` and, for each split, `<split>/metadata.jsonl`. It is not unpacked. The metadata may
    have the form of Pixano 0.6, 0.7 or 0.8, whichever version is installed. If a split has no metadata, each of
    its images becomes a record. `build` is Pixano's own, with its modes "create", "overwrite" and "add", and `flush_every_n_samples`.
    """

    @with_remote_options
    def __init__(
        self,
        source: Reader | str | os.PathLike[str],
        target_dir: str | os.PathLike[str],
        info: Any,
        dataset_item: type | None = None,
        *,
        metadata: str | os.PathLike[str] | None = None,
        folder: str = "",
        url_prefix: str | None = None,
        use_image_name_as_id: bool = False,
        **remote: Unpack[RemoteOptions],
    ) -> None:
        """Describe the dataset. Nothing is read yet.

        Args:
            source: Path or URL of a blob or collection, or an open one.
            target_dir: Folder of the dataset, in Pixano's library.
            info: Pixano's DatasetInfo.
            dataset_item: With Pixano 0.6, the DatasetItem that describes an item. Later versions have none.
            metadata: A folder with `<split>/metadata.jsonl`, for a blob that has none; or one such file, if there is one
                split. The blob's own metadata is used for splits that it lacks.
            folder: Folder in the blob that holds the splits.
            url_prefix: Text before the names of members in the URLs of images. With Pixano 0.6, this is the name
                under which `blobpack pixano serve` serves the blob, and None means the blob's file name without .tar. With
                later versions, this is the URL of the blob at a server, such as `http://127.0.0.1:8000/b/health`; if None,
                the images are stored in the dataset.
            use_image_name_as_id: Make ids from the names of images, instead of random ids.
            remote: How remote blobs are reached: see RemoteOptions.

        Raises:
            TypeError: an argument has a wrong type, or Pixano 0.6 gets no dataset_item.
            ValueError: a path is empty, or a URL where a path is needed.
        """
        found = source_of("source", source, Access.of("BlobFolderBuilder", remote))
        check_text("folder", folder)
        check_flag("use_image_name_as_id", use_image_name_as_id)
        if url_prefix is not None:
            check_text("url_prefix", url_prefix)
        if metadata is not None:
            local_path("metadata", metadata)
        self.source = found
        self._metadata, self._folder = metadata, folder
        self._url_prefix, self._uses_names = url_prefix, use_image_name_as_id
        if has_items():
            if dataset_item is None:
                raise TypeError("Pixano 0.6 needs dataset_item, a subclass of DatasetItem")
            super().__init__(target_dir=target_dir, dataset_item=dataset_item, info=info)
        else:
            super().__init__(target_dir=target_dir, info=with_default_slots(info))

    @contextmanager
    def open_folder(self) -> Iterator[BlobFolder]:
        """Yield the open image folder, for a `generate_data` of your own."""
        # two blobs of a collection may have images of one name, or its metadata twice
        with opened(self.source, duplicates="last") as reader:
            yield BlobFolder(reader, metadata=self._metadata, folder=self._folder)

    def generate_data(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of each record, by table. Images are read only if the dataset stores them.

        Raises:
            FormatError: a line of the metadata can't be read, does not fit the dataset, or names an image that the blob does
                not have.
            BlobpackError: the blob can't be read.
        """
        with self.open_folder() as folder:
            rows = self._rows(folder.reader)
            records = folder.records(rows.tables)
            pairs: Iterable[tuple[FolderRecord, dict[str, bytes]]] = (
                ((record, {}) for record in records)
                if has_items() and has_facts(folder.reader)
                else with_payloads(folder.reader, records)
            )
            for record, payloads in pairs:
                try:
                    made = rows.rows(record, payloads)
                except ValueError as exc:
                    raise FormatError(f"{folder.reader.url}: {record.where}: {exc}") from exc
                yield made

    def _rows(self, reader: Reader) -> ItemRows | RecordRows:
        """Return what makes rows for the installed version of Pixano."""
        if has_items():
            from blobpack.integrations.pixano.item_rows import ItemRows

            prefix = name_of(reader.url) if self._url_prefix is None else self._url_prefix
            return ItemRows(self, url_prefix=prefix, use_image_name_as_id=self._uses_names)
        from blobpack.integrations.pixano.new_ids import NewIds
        from blobpack.integrations.pixano.record_rows import RecordRows

        return RecordRows(
            self.info,
            NewIds("record", use_image_names=self._uses_names),
            url_prefix=self._url_prefix,
            # as Pixano's own folder builders name it
            source={"source_type": "other", "source_name": "Builder"},
            frame_ids=True,
        )


def has_items() -> bool:
    """Return whether the installed Pixano is 0.6, whose datasets consist of items instead of records."""
    import pixano.datasets

    return hasattr(pixano.datasets, "DatasetItem")


def with_default_slots(info: Any) -> Any:
    """Return a DatasetInfo of Pixano 0.7 or 0.8 with the tables of an image dataset, if it names none itself."""
    from pixano import schemas
    from pixano.datasets import DatasetInfo
    from pixano.datasets.workspaces import WorkspaceType

    columns = info.model_dump(exclude={"tables"})
    for slot, schema in DEFAULT_SLOTS.items():
        if columns.get(slot) is None:
            columns[slot] = getattr(schemas, schema)
    if not columns.get("views"):
        columns["views"] = {"image": schemas.Image}
    if info.workspace == WorkspaceType.UNDEFINED:
        columns["workspace"] = WorkspaceType.IMAGE
    return DatasetInfo.model_validate(columns)
