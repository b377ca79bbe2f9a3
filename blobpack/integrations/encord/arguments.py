"""Arguments of registration: which members become what, and which whole objects come with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from blobpack.index.which import rows_of_several
from blobpack.integrations.encord.form.kinds import KINDS
from blobpack.integrations.encord.form.urls import check_access_point, is_signed, shown_url
from blobpack.integrations.encord.objects import CloudObject
from blobpack.integrations.encord.options import json_forms
from blobpack.model import EncordKind, check_choice, check_several, check_text, shown
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobpack.index.index import Index
    from blobpack.integrations.encord.form.items import Item
    from blobpack.integrations.encord.metadata import GivenMetadata
    from blobpack.integrations.encord.options import FileOptions
    from blobpack.model import EncordImageMetadata, Which
    from blobpack.opening.reader import Reader

    # what callers pass as kind: one for all members, or the members of each
    Kinds = EncordKind | Mapping[EncordKind, Index | Iterable[Which]]


def check_csv(
    options: FileOptions, metadata: GivenMetadata, image_metadata: EncordImageMetadata
) -> None:
    """Check that a CSV can hold what a caller passes.

    Raises:
        ValueError: it can't.
    """
    if options["form"] != "csv":
        return
    if metadata is not None:
        raise ValueError(f"metadata needs {json_forms()}: a CSV holds no client metadata")
    if image_metadata == "require":
        raise ValueError(
            f"{setting('image_metadata', 'require')} needs {json_forms()}: a CSV holds none"
        )


def items_of_objects(
    objects: Iterable[CloudObject],
    access_point: str | None,
    options: FileOptions,
) -> dict[str, list[Item]]:
    """Return the items of whole objects, by their kinds.

    Args:
        objects: The objects.
        access_point: ARN of a multi-region access point, or None.
        options: The options of the files.

    Raises:
        StorageError: the https:// URL of a bucket can't be found.
        TypeError: one of them is no CloudObject.
        ValueError: a CSV can't hold them, or a URL is signed and would be compared.
    """
    check_several("objects", objects, "CloudObjects")
    arn = None if access_point is None else check_access_point(access_point)
    found: dict[str, list[Item]] = {}
    for each in objects:
        if not isinstance(each, CloudObject):
            raise TypeError(f"objects must be several CloudObjects, but one is {shown(each)}")
        item = each.to_item(arn)
        if options["form"] == "csv" and (not KINDS[item.kind].column or item.metadata):
            what = "client metadata" if KINDS[item.kind].column else f"{each.kind} items"
            raise ValueError(f"objects need {json_forms()}: a CSV holds no {what}")
        if options["skip_duplicate_urls"]:
            _check_unsigned(item)
        found.setdefault(item.kind, []).append(item)
    return found


def _check_unsigned(item: Item) -> None:
    for file in item.files:
        if is_signed(file.url):
            raise ValueError(
                f"objects: {shown_url(file.url)} is a signed URL, which differs in each run, so skip_duplicate_urls would "
                "never find it"
            )


def rows_by_kind(
    reader: Reader, kind: Kinds, members: Index | Iterable[Which] | None
) -> dict[str, Sequence[int]]:
    """Return the rows of each kind: a range if they are all rows, otherwise an array.

    Raises:
        MemberNotFoundError: one of the members is not in the blob.
        TypeError: an argument has a wrong type.
        ValueError: there is no such kind, or members are named twice.
    """
    if not isinstance(kind, Mapping):
        check_choice("kind", kind, EncordKind)
        if members is None:
            return {kind: range(len(reader))}
        return {kind: _rows(reader, members, "members")}
    if members is not None:
        raise ValueError("members can't be combined with a dict of kinds, which holds the members")
    for name in kind:
        check_text("kind", name)
        check_choice("kind", name, EncordKind)
    return {name: _rows(reader, several, f"kind {name!r}") for name, several in kind.items()}


def _rows(reader: Reader, several: Index | Iterable[Which], name: str) -> Sequence[int]:
    if several is reader.index:
        return range(len(reader))
    rows: Sequence[int] = rows_of_several(reader.index, several, name)  # type: ignore[assignment]  # an array has what is used
    return rows
