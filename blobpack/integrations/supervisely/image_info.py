"""The public class `BlobImageInfo`: one row of an offsets file, with the methods that Supervisely's SDK gives it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from blobpack.index.index import Index
from blobpack.index.tables.offsets import BATCH_ROWS, iter_offsets
from blobpack.model import (
    Member,
    check_flag,
    check_number,
    check_several,
    check_text,
    check_whole,
    shown,
)
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    class ImageInfo(Protocol):
        """An image of a blob as the server describes it: `ImageInfo` of the SDK, or a Member of blobpack."""

        @property
        def name(self) -> str: ...  # noqa: D102
        @property
        def offset_start(self) -> int: ...  # noqa: D102
        @property
        def offset_end(self) -> int: ...  # noqa: D102


@dataclass
class BlobImageInfo:
    """The name of an image, and where its bytes lie in a blob.

    It has the fields and methods of the SDK's class of this name, and is written to offsets files under the SDK's name.
    Unlike there, wrong input is an error and never a line in a log.

    Attributes:
        name: Name of the image, without folders.
        offset_start: Start of its bytes in the blob.
        offset_end: End of its bytes in the blob, one past the last byte.
        team_file_id: Number of the blob among the team's files; None if it is not known. It is not stored in an offsets
            file, and does not count when two are compared.
    """

    name: str
    offset_start: int
    offset_end: int

    def __post_init__(self) -> None:
        """Start without a team file."""
        # no field: the SDK's class has three fields, and its add_team_file_id sets a plain attribute
        self.team_file_id: int | None = None

    @staticmethod
    def from_image_info(image_info: ImageInfo) -> BlobImageInfo:
        """Make one of an image that has a name and offsets, such as a Member, or an ImageInfo of the SDK."""
        return BlobImageInfo(image_info.name, image_info.offset_start, image_info.offset_end)

    def add_team_file_id(self, team_file_id: int) -> BlobImageInfo:
        """Set the number of the blob among the team's files, and return this object."""
        self.team_file_id = check_whole("team_file_id", team_file_id)
        return self

    def to_dict(self, team_file_id: int | None = None) -> dict[str, Any]:
        """Return the image as the REST API takes it: title, teamFileId, and sourceBlob with offsetStart and offsetEnd.

        Args:
            team_file_id: Number of the blob among the team's files; None for the one of add_team_file_id, if there is one.
        """
        return {
            "title": self.name,
            "teamFileId": self.team_file_id if team_file_id is None else team_file_id,
            "sourceBlob": self.offsets_dict,
        }

    @staticmethod
    def from_dict(offset_dict: dict[str, Any], return_team_file_id: bool = False) -> BlobImageInfo:
        """Make one of a dict as to_dict returns it.

        Args:
            offset_dict: The dict.
            return_team_file_id: Also take its teamFileId.

        Raises:
            TypeError: this is no dict.
            ValueError: a key is missing.
        """
        check_flag("return_team_file_id", return_team_file_id)
        if not isinstance(offset_dict, dict):
            raise TypeError(f"offset_dict must be a dict, not {shown(offset_dict)}")
        try:
            place = offset_dict["sourceBlob"]
            found = BlobImageInfo(offset_dict["title"], place["offsetStart"], place["offsetEnd"])
            return (
                found.add_team_file_id(offset_dict["teamFileId"]) if return_team_file_id else found
            )
        except KeyError as exc:
            raise ValueError(f"offset_dict has no key {exc}: {shown(offset_dict)}") from None

    @property
    def offsets_dict(self) -> dict[str, int]:
        """The offsets as the REST API names them: offsetStart and offsetEnd."""
        return {"offsetStart": self.offset_start, "offsetEnd": self.offset_end}

    @staticmethod
    def load_from_pickle_generator(
        file_path: str | os.PathLike[str], batch_size: int = BATCH_ROWS
    ) -> Iterator[list[BlobImageInfo]]:
        """Read an offsets file of any version of the SDK in batches. No code in the file is run.

        Args:
            file_path: Path of the file.
            batch_size: Number of images in each batch, however the file was cut; the last one may have fewer.

        Raises:
            BlobNotFoundError: there is no such file; raised when the iterator starts.
            FormatError: the file is damaged, or no offsets file; raised when the iterator gets there.
        """
        check_number("batch_size", batch_size, 1)
        return batches(chain.from_iterable(map(infos_of, iter_offsets(file_path))), batch_size)

    @staticmethod
    def dump_to_pickle(
        offsets: Iterable[BlobImageInfo] | Iterable[list[BlobImageInfo]],
        file_path: str | os.PathLike[str],
    ) -> int:
        """Write an offsets file, which replaces an older one.

        Args:
            offsets: The images, or batches of them, such as offset_batches returns with form="objects".
            file_path: Path or s3:// URL of the file.

        Returns:
            The number of images.

        Raises:
            StorageError: the file can't be written, or would replace a file of another kind.
            TypeError: one of these is no BlobImageInfo.
        """
        check_several("offsets", offsets, "BlobImageInfo, or batches of them")
        # several indexes are written in bounded memory
        return write_offsets(map(_index_of, batches(_flat(offsets), BATCH_ROWS)), file_path)


def infos_of(index: Index) -> Iterator[BlobImageInfo]:
    """Return an iterator of the members of an index."""
    # offsets as int, because NumPy's are not what JSON and the REST API take
    starts, ends = index.offset_start.tolist(), index.offset_end.tolist()
    return map(BlobImageInfo, index.names, starts, ends)


def batches(infos: Iterator[BlobImageInfo], size: int) -> Iterator[list[BlobImageInfo]]:
    """Cut images into batches; the last one may be shorter."""
    return iter(lambda: list(islice(infos, size)), [])


def _flat(
    offsets: Iterable[BlobImageInfo] | Iterable[list[BlobImageInfo]],
) -> Iterator[BlobImageInfo]:
    for each in offsets:
        if isinstance(each, BlobImageInfo):
            yield each
        elif isinstance(each, list):
            yield from _flat(each)
        else:
            raise TypeError(
                f"offsets must be BlobImageInfo, or batches of them, and one is {shown(each)}"
            )


def _index_of(batch: list[BlobImageInfo]) -> Index:
    for info in batch:
        check_text("name", info.name)
    return Index(Member(info.name, info.offset_start, info.offset_end) for info in batch)
