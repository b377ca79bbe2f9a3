"""The records of an export, one for each image, and the table of the tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from blobpack.integrations.export.coco import COCO
from blobpack.integrations.export.cvat import CVAT
from blobpack.integrations.export.fiftyone import FIFTYONE
from blobpack.integrations.export.huggingface import HUGGINGFACE
from blobpack.integrations.export.image import ListedImages
from blobpack.integrations.export.label_studio import LABEL_STUDIO
from blobpack.integrations.export.sagemaker import SAGEMAKER
from blobpack.integrations.urls import check_base
from blobpack.model import ExportTool, check_choice, check_several
from blobpack.opening.open import opened, source_of
from blobpack.stores.access.remote import Access, with_remote_options
from blobpack.wording import setting, with_article

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from blobpack.index.index import Index
    from blobpack.integrations.export.form import Form, Record
    from blobpack.model import Which
    from blobpack.opening.reader import Reader
    from blobpack.stores.access.remote import RemoteOptions
    from blobpack.stores.location import Location

FORMS: dict[str, Form] = {
    "coco": COCO,
    "cvat": CVAT,
    "fiftyone": FIFTYONE,
    "huggingface": HUGGINGFACE,
    "label-studio": LABEL_STUDIO,
    "sagemaker": SAGEMAKER,
}
# the usual name of each tool's file
FILE_NAMES = {tool: form.file_name for tool, form in FORMS.items()}


@with_remote_options
def export_records(
    source: Reader | str | os.PathLike[str],
    tool: ExportTool,
    *,
    url: str | None = None,
    members: Index | Iterable[Which] | None = None,
    **remote: Unpack[RemoteOptions],
) -> Iterator[Record]:
    """Return an annotation tool's records of the images of a blob or collection, as an iterator in archive order.

    They are made of the index; no image is read. Members that are no images are left out, and so are members that a later
    member of the same name replaces.

    Args:
        source: An open blob or collection, which must stay open, or its path or URL.
        tool: "coco" for entries of a COCO image list; "cvat" for lines of CVAT's manifest; "fiftyone" for samples;
            "huggingface" for lines of metadata.jsonl; "label-studio" for tasks; "sagemaker" for lines of an augmented
            manifest.
        url: URL of the blob at a gateway, such as `http://127.0.0.1:8000/b/out`. For SageMaker, the s3:// URL of the prefix
            that holds the images; Label Studio takes either. CVAT takes none.
        members: Use only these: a selection of `reader.index`, or names, Members or rows. None for all.
        remote: How a remote blob is reached: see RemoteOptions.

    Returns:
        Dicts that JSON can hold.

    Raises:
        BlobNotFoundError: there is no such blob or collection.
        FactsMissingError: the index does not have the media types of its members, or their widths and heights for CVAT and
            COCO.
        FormatError: a name is not UTF-8; raised where its record is reached.
        MemberNotFoundError: one of the members is not in the blob.
        TypeError: an argument has a wrong type.
        ValueError: there is no such tool, or the URL is missing, or is of a kind that the tool can't use.
    """
    form = checked_form(tool, url)
    found = source_of("source", source, Access.of("export_records", remote))
    check_members(members)
    return _records(form, found, url, members)


def _records(
    form: Form,
    source: Reader | Location,
    url: str | None,
    members: Index | Iterable[Which] | None,
) -> Iterator[Record]:
    with opened(source, duplicates="last") as reader:
        for image in listed_images(form, reader, url, members):
            yield form.record(image)


def listed_images(
    form: Form, reader: Reader, url: str | None, members: Index | Iterable[Which] | None
) -> ListedImages:
    """Return the images that a tool can use; see ListedImages."""
    return ListedImages(reader.index, members, url=url, sides=form.needs_sides)


def checked_form(tool: ExportTool, url: str | None) -> Form:
    """Return the form of a tool's files, after a check of the URL.

    Raises:
        TypeError: the URL is no str.
        ValueError: there is no such tool, or the URL is missing, or is of a kind that the tool can't use.
    """
    check_choice("tool", tool, ExportTool)
    form = FORMS[tool]
    if url is None:
        if form.needs_url:
            scheme = form.schemes[0]
            raise ValueError(
                f"url must be given, because {with_article(form.kind)} holds the URLs of the images, such as "
                f"{setting('url', f'{scheme}://…')}"
            )
    elif not form.schemes:
        raise ValueError(
            f"url must not be given, because {with_article(form.kind)} holds names in a bucket, and no URLs"
        )
    else:
        check_base("url", url, form.schemes)
    return form


def check_members(members: object) -> None:
    """Check that an argument may be a selection of members.

    Raises:
        TypeError: it is neither None nor several.
    """
    if members is not None:
        check_several("members", members, "names, Members or rows")
