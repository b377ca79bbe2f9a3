"""Items for Encord, whichever form of file holds them, and their two JSON forms.

Strategy: Encord takes two JSON forms. The one of its web page spells some keys in snake_case, and numbers the URLs of a group;
the one of the SDK's DataUploadItems is camelCase, and has a list of images in each group. Items are made once, and each form
is a function of the item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.integrations.encord.form.kinds import KINDS, camel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blobpack.model import EncordForm, EncordKeyStyle

    Document = dict[str, Any]


class File(NamedTuple):
    """A file by its URL: an item, or one of the files of an item.

    Attributes:
        url: Its URL or ARN.
        title: Its title; None lets Encord make one of the URL.
        media: Its media metadata, with keys in snake_case; None if it is not known.
    """

    url: str
    title: str | None
    media: Mapping[str, Any] | None = None


class Item(NamedTuple):
    """An item of Encord.

    Attributes:
        kind: A key of KINDS.
        files: Its files, in order; one, unless the kind has several.
        title: Title of a group or series; for other kinds, that of its file counts.
        metadata: Its client metadata.
    """

    kind: str
    files: Sequence[File]
    title: str | None = None
    metadata: Document | None = None


def to_document(item: Item, form: EncordForm, style: EncordKeyStyle) -> Document:
    """Return an item as one of the two JSON forms.

    Args:
        item: The item.
        form: "json" or "items".
        style: How the keys of media metadata are spelled in the form "json".
    """
    kind = KINDS[item.kind]
    style = "camel" if form == "items" else style
    if not kind.has_files:
        document = _of_file(item.files[0], "objectUrl", kind.media, style)
    elif form == "json":
        document = {"title": item.title}
        if kind.key == "image_groups":
            document["createVideo"] = item.kind == "image_sequences"
        document |= {f"objectUrl_{number}": file.url for number, file in enumerate(item.files)}
    else:
        key = "images" if kind.key == "image_groups" else "dicomFiles"
        files = [_of_file(file, "url", kind.media, style) for file in item.files]
        if key == "dicomFiles":
            # the SDK demands the key, and accepts null
            files = [{"title": None, **file} for file in files]
        document = {key: files, "title": item.title}
        if key == "images":
            document["createVideo"] = item.kind == "image_sequences"
    if item.metadata:
        document["clientMetadata"] = item.metadata
    return document


def _of_file(file: File, url_key: str, media_key: str, style: EncordKeyStyle) -> Document:
    document: Document = {url_key: file.url}
    if file.title is not None:
        document["title"] = file.title
    if file.media:
        if style == "camel":
            document[media_key] = {camel(key): value for key, value in file.media.items()}
        else:
            document[media_key] = dict(file.media)
    return document


def key_of(item: Item, form: EncordForm) -> str:
    """Return the key under which a JSON file holds an item."""
    kind = KINDS[item.kind]
    return kind.items_key if form == "items" else kind.key


def flags_of(form: EncordForm, *, skip_duplicate_urls: bool, upsert_metadata: bool) -> Document:
    """Return the flags of a JSON file."""
    flags = {"skip_duplicate_urls": skip_duplicate_urls, "upsert_metadata": upsert_metadata}
    return {camel(key) if form == "items" else key: value for key, value in flags.items()}
