"""The images of a blob in batches, as the REST API and the SDK take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from blobpack.index.index import Index
from blobpack.index.tables.offsets import BATCH_ROWS
from blobpack.indexfile.identity import COLLECTION_IDENTITY
from blobpack.integrations.supervisely.image_info import batches, infos_of
from blobpack.model import ImageForm, check_choice, check_number, check_whole
from blobpack.opening.open import opened, source_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.integrations.supervisely.image_info import BlobImageInfo
    from blobpack.opening.reader import Reader


@overload
def offset_batches(
    source: Index | Reader | str | os.PathLike[str],
    team_file_id: int | None = None,
    batch_size: int = BATCH_ROWS,
    form: Literal["dicts"] = "dicts",
) -> Iterator[list[dict[str, Any]]]: ...
@overload
def offset_batches(
    source: Index | Reader | str | os.PathLike[str],
    team_file_id: int | None = None,
    batch_size: int = BATCH_ROWS,
    *,
    form: Literal["objects"],
) -> Iterator[list[BlobImageInfo]]: ...
def offset_batches(
    source: Index | Reader | str | os.PathLike[str],
    team_file_id: int | None = None,
    batch_size: int = BATCH_ROWS,
    form: ImageForm = "dicts",
) -> Iterator[list[dict[str, Any]]] | Iterator[list[BlobImageInfo]]:
    """Return the images of a blob in batches, in archive order.

    Names are the part of the members' names after the last "/", because an image has no folders in Supervisely.

    Args:
        source: The members: an index, such as a selection; an open blob; or its path or URL.
        team_file_id: Number of the blob among the team's files; None if it was not uploaded yet.
        batch_size: Number of images in each batch; the last one may have fewer.
        form: "dicts" for the REST API's `images.bulk.add`; "objects" for BlobImageInfo.

    Raises:
        DuplicateNameError: two members have the same name without their folders; the message names both.
        BlobNotFoundError: there is no such blob.
        TypeError: an argument has another type.
        ValueError: there is no such form, batch_size is less than 1, or the source is a collection: offsets mean places
            in one blob.
    """
    if not isinstance(source, Index):
        source_of("source", source)
    if team_file_id is not None:
        check_whole("team_file_id", team_file_id)
    check_number("batch_size", batch_size, 1)
    check_choice("form", form, ImageForm)
    cut = batches(infos_of(_titled(source)), batch_size)
    if form == "dicts":
        return ([info.to_dict(team_file_id) for info in batch] for batch in cut)
    if team_file_id is None:
        return cut
    return ([info.add_team_file_id(team_file_id) for info in batch] for batch in cut)


def _titled(source: Index | Reader | str | os.PathLike[str]) -> Index:
    """Return the members of one blob, with names without folders."""
    if not isinstance(source, Index):
        with opened(source) as reader:
            return _titled(reader.index)
    if source.identity == COLLECTION_IDENTITY:
        raise ValueError(
            "source must be one blob, because an offset is a place in one blob, and not a collection"
        )
    return source.with_basenames()
