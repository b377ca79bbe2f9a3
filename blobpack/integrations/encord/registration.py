"""Make files that register the members of a blob, and whole objects, with Encord."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

from blobpack.closing import Closing
from blobpack.integrations.encord.arguments import check_csv, items_of_objects, rows_by_kind
from blobpack.integrations.encord.files import Files
from blobpack.integrations.encord.form.kinds import KINDS
from blobpack.integrations.encord.form.urls import check_base_url
from blobpack.integrations.encord.member_items import MemberItems
from blobpack.integrations.encord.metadata import open_metadata
from blobpack.integrations.encord.options import DEFAULTS, FileOptions, complete_options
from blobpack.model import EncordImageMetadata, EncordTitle, check_callable, check_choice
from blobpack.opening.reader import Reader
from blobpack.stores.access.signature import with_options

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from blobpack.index.index import Index
    from blobpack.integrations.encord.arguments import Kinds
    from blobpack.integrations.encord.form.items import Document, Item
    from blobpack.integrations.encord.metadata import GivenMetadata, Metadata
    from blobpack.integrations.encord.objects import CloudObject
    from blobpack.model import Member, Which


class Registration(Closing, Iterator["Document | str | Path"]):
    """The files that register members and objects; an iterator that makes each file when it is reached.

    Each file is a dict, a text or a path, as the option `output` says.

    Attributes:
        left_out: Why members were left out so far, with the number of them.
    """

    def __init__(
        self,
        options: FileOptions,
        items: Iterator[Item],
        left_out: Counter[str],
        metadata: Metadata | None,
    ) -> None:
        """Divide items among files; see registration."""
        self._counts = Files(options)
        self._files: Generator[Any, None, None] = self._counts.of(items)
        self.left_out = left_out
        self._metadata = metadata

    @property
    def files(self) -> int:
        """Number of files so far."""
        return self._counts.files

    @property
    def items(self) -> int:
        """Number of items in them."""
        return self._counts.items

    @property
    def urls(self) -> int:
        """Number of URLs in them."""
        return self._counts.urls

    @property
    def unused(self) -> int:
        """Number of rows of metadata that no item has used so far."""
        return self._metadata.unused if self._metadata else 0

    def __next__(self) -> Document | str | Path:
        try:
            file: Document | str | Path = next(self._files)
        except BaseException:
            # also at the end, so that a plain loop leaves no temporary file behind
            self.close()
            raise
        return file

    def close(self) -> None:
        """Stop, and remove the temporary file of the metadata. Closing twice is harmless."""
        self._files.close()
        if self._metadata:
            self._metadata.close()


@with_options(DEFAULTS, FileOptions)
def registration(
    reader: Reader,
    base_url: str,
    kind: Kinds = "images",
    *,
    members: Index | Iterable[Which] | None = None,
    group: Callable[[Member], str | None] | None = None,
    title: EncordTitle | Callable[[Member], str | None] = "name",
    metadata: GivenMetadata = None,
    image_metadata: EncordImageMetadata = "known",
    objects: Iterable[CloudObject] = (),
    access_point: str | None = None,
    **options: Unpack[FileOptions],
) -> Registration:
    """Make files that register a blob's images with Encord, by their URLs at a gateway.

    A URL is made only from the base URL and the member's name, so it is the same in each run. Members that are not images, and
    members that a later member of the same name replaces, are left out.

    Args:
        reader: An open blob or collection; it must stay open.
        base_url: URL of the blob at the gateway, such as `https://host/b/out`, or `https://host/k/<token>/b/out`.
        kind: "images" makes one item of each image; "image_groups" or "image_sequences" makes one item of all images of a
            folder. Encord makes a video of a sequence. Or a dict: its keys are kinds, and its values are their members.
        members: Register only these, in this order: a selection of `reader.index`, or names, Members or rows. None: all.
        group: Returns the name of the group of an image; None leaves the image out. Default: the folder of the member. In a
            group, images are sorted by name, and numbers in names are sorted by value.
        title: Title of an image: "name", "basename", "url" to let Encord use the path of the URL, or a function. The title
            of a group is its name.
        metadata: Client metadata, with key frames and custom embeddings. A path of JSON lines, CSV or Parquet, or a table
            that exports Arrow, such as a DataFrame, with a column `name`: the name of a member or group. Or a dict by name;
            or a function of the Member. See the guide for the metadata of images in groups.
        image_metadata: "known" writes media type, size, width and height for the images whose facts the index knows;
            "require" raises an error if they are not known for an image, because strict client-only access needs them;
            "none" writes none.
        objects: Whole objects that are registered with the images. They are kept in memory.
        access_point: ARN of a multi-region access point, for objects whose URLs begin with s3://.
        options: See FileOptions.

    Raises:
        DuplicateNameError: two rows of metadata have the same name.
        FactsMissingError: imageMetadata is required, and the index does not know the facts of an image.
        FormatError: a title or URL is too long for Encord, Encord would not accept client metadata, or the images of a
            sequence have different sizes. Errors of this kind are raised where the item is reached.
        MemberNotFoundError: one of the members is not in the blob.
        PackageMissingError: the metadata is Parquet or a table, and pyarrow is not installed.
        SourceError: the metadata can't be read.
        StorageError: a file can't be written.
        TypeError: an argument has a wrong type.
        ValueError: an argument is not one of its choices or out of range, the base URL is not an http(s):// URL of ASCII without a
            query, or two arguments contradict each other.
    """
    if not isinstance(reader, Reader):
        raise TypeError(f"reader must be an open blob or collection, not {reader!r}")
    base_url = check_base_url(base_url)
    complete = complete_options("registration", options)
    if not callable(title):
        check_choice("title", title, EncordTitle)
    check_callable("group", group)
    check_choice("image_metadata", image_metadata, EncordImageMetadata)
    check_csv(complete, metadata, image_metadata)
    extra = items_of_objects(objects, access_point, complete)
    rows = rows_by_kind(reader, kind, members)
    opened = open_metadata(metadata, reader.index)
    made = MemberItems(
        reader, base_url, opened, title=title, group=group, image_metadata=image_metadata
    )
    return Registration(complete, _ordered(made, rows, extra), made.left_out, opened)


@with_options(DEFAULTS, FileOptions)
def object_registration(
    objects: Iterable[CloudObject],
    *,
    access_point: str | None = None,
    **options: Unpack[FileOptions],
) -> Registration:
    """Make files that register whole objects with Encord: images, videos, DICOM series and others, by URL or ARN.

    Args:
        objects: The objects. They are kept in memory.
        access_point: ARN of a multi-region access point. It replaces the bucket in s3:// URLs. None: s3:// URLs become
            https:// URLs of the bucket, for which AWS credentials are needed.
        options: See FileOptions.

    Raises:
        StorageError: the https:// URL of a bucket can't be found, or a file can't be written.
        TypeError: an argument has a wrong type.
        ValueError: an argument is no choice or out of range, a signed URL can't be compared, or a CSV can't hold the objects.
    """
    complete = complete_options("object_registration", options)
    extra = items_of_objects(objects, access_point, complete)
    return Registration(complete, _ordered(None, {}, extra), Counter(), None)


def _ordered(
    members: MemberItems | None,
    rows: Mapping[str, Sequence[int]],
    objects: Mapping[str, list[Item]],
) -> Iterator[Item]:
    """Yield all items, those of one key of a file after the other."""
    for kind in KINDS:
        if members and kind in rows:
            if kind == "images":
                yield from members.images(rows[kind])
            else:
                yield from members.groups(rows[kind], kind)
        yield from objects.get(kind, ())
