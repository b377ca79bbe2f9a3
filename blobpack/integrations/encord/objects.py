"""Whole objects for Encord: images, videos, DICOM series and other files in a bucket, and blobs themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blobpack.errors import FormatError, SourceError
from blobpack.integrations.encord.form.client_metadata import check_fields
from blobpack.integrations.encord.form.items import File, Item
from blobpack.integrations.encord.form.kinds import (
    KINDS,
    MEDIA_FIELDS,
    TITLE_CHARACTERS_MAX,
    camel,
    faults_of_media,
)
from blobpack.integrations.encord.form.urls import check_object_url, registered_url
from blobpack.model import EncordObjectKind, check_choice, check_text, check_texts, shown
from blobpack.opening.reader import Reader
from blobpack.stores.arguments import local_path
from blobpack.stores.location import Location

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

TAR_TYPE = "application/x-tar"
# keys of a line in a file of objects
LINE_KEYS = {"kind", "url", "urls", "title", "metadata", "media"}


@dataclass(frozen=True, slots=True)
class CloudObject:
    """A whole object that Encord reads by its URL.

    Attributes:
        kind: "images", "videos", "dicom_series", "audio", "text", "pdf" or "nifti". "blobs" registers a tar as a text:
            Encord has no kind for archives.
        url: An https:// or s3:// URL, or the ARN of a multi-region access point, "/" and the key. Several for a DICOM series.
        title: Its title; None lets Encord make a title from the URL. A DICOM series needs a title.
        metadata: Client metadata.
        media: Facts that Encord would otherwise read from the file, and needs for strict client-only access: `mime_type`,
            `file_size`, `width` and `height` of an image, for example. For a DICOM series, one for each file.
    """

    kind: EncordObjectKind
    url: str | Sequence[str]
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    media: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        """Check all fields.

        Raises:
            FormatError: Encord would not accept the metadata.
            TypeError: a field has another type.
            ValueError: there is no such kind, Encord would not accept a URL, a series has no title, or media metadata is
                not complete.
        """
        check_choice("kind", self.kind, EncordObjectKind)
        urls = check_texts("url", self.url)
        for url in urls:
            check_object_url("url", url)
        if len(urls) != 1 and not (self.is_series and urls):
            raise ValueError(f"url must be one URL for {self.kind}, not {len(urls)}")
        if self.title is not None:
            check_text("title", self.title)
            if len(self.title) > TITLE_CHARACTERS_MAX:
                raise ValueError(
                    f"title must have at most {TITLE_CHARACTERS_MAX} characters, not {len(self.title)}"
                )
        elif self.is_series:
            raise ValueError("title must be a str for a DICOM series, not None")
        if not isinstance(self.metadata, Mapping):
            raise TypeError(f"metadata must be a dict, not {shown(self.metadata)}")
        check_fields(f"metadata of {urls[0]}", dict(self.metadata))
        self._check_media(len(urls))

    @property
    def is_series(self) -> bool:
        """True if the object consists of several files."""
        return self.kind == "dicom_series"

    def _check_media(self, files: int) -> None:
        media = self._media()
        key = KINDS["text" if self.kind == "blobs" else self.kind].media
        if not media:
            return
        if not key:
            raise ValueError(f"media must be None for {self.kind}")
        if len(media) != files:
            raise ValueError(f"media must have one value for each file, {files}, not {len(media)}")
        for each in media:
            for fault in faults_of_media(key, each):
                raise ValueError(f"media {fault}")

    def _media(self) -> list[Mapping[str, Any]]:
        if self.media is None:
            return []
        return [self.media] if isinstance(self.media, Mapping) else list(self.media)

    def to_item(self, access_point: str | None = None) -> Item:
        """Return the item for Encord.

        Args:
            access_point: ARN of a multi-region access point, which replaces s3://bucket.
        """
        kind = "text" if self.kind == "blobs" else self.kind
        urls = [registered_url(url, access_point) for url in check_texts("url", self.url)]
        media: list[Any] = [_snake(KINDS[kind].media, each) for each in self._media()]
        media = media or [None] * len(urls)
        titles = [None if self.is_series else self.title] * len(urls)
        files = [File(*each) for each in zip(urls, titles, media, strict=True)]
        return Item(kind, files, self.title, dict(self.metadata) or None)


def _snake(key: str, media: Mapping[str, Any]) -> dict[str, Any]:
    fields = MEDIA_FIELDS[key]
    return {name: media[name] if name in media else media[camel(name)] for name in fields}


def read_objects(path: str | os.PathLike[str]) -> Iterator[CloudObject]:
    """Read whole objects from a file of JSON lines, each with `kind`, `url` or `urls`, and the other fields of CloudObject.

    Raises:
        FormatError: a line is no such object.
        SourceError: the file can't be read.
        TypeError: the path is no path.
        ValueError: the path is a URL.
    """
    where = local_path("path", path)
    return _read_objects(where)


def _read_objects(path: str) -> Iterator[CloudObject]:
    try:
        with open(path, encoding="utf-8", newline="\n") as file:  # noqa: PTH123 (a str)
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _of_line(f"{path}, line {number}", line)
    except UnicodeDecodeError as exc:
        raise FormatError(f"{path}: {exc}") from exc
    except SourceError:
        raise
    except OSError as exc:
        raise SourceError(f"{path}: can't be read: {exc.strerror}", paths=(path,)) from exc


def _of_line(where: str, line: str) -> CloudObject:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise TypeError(f"expected a JSON object, not {type(row).__name__}")
        unknown = sorted(set(row) - LINE_KEYS)
        if unknown:
            raise ValueError(
                f"an unknown key {unknown[0]!r}; known are {', '.join(sorted(LINE_KEYS))}"
            )
        urls = row.pop("urls", None)
        return CloudObject(**{"kind": None, "url": urls, **row})
    except (ValueError, TypeError, RecursionError) as exc:
        raise FormatError(f"{where}: {exc}") from exc


def blob_objects(reader: Reader) -> list[CloudObject]:
    """Return the blobs of a reader as whole objects, each with its number of members as client metadata.

    Raises:
        TypeError: the reader is no open blob or collection.
        ValueError: a blob is a local file, which has no URL.
    """
    if not isinstance(reader, Reader):
        raise TypeError(f"reader must be an open blob or collection, not {reader!r}")
    found = []
    for blob in reader.blobs:
        place = Location.parse(blob.url)
        if place.is_local:
            raise ValueError(f"{place} is a local file, and Encord reads objects by their URLs")
        found.append(
            CloudObject(
                "blobs",
                place.whole,
                place.path_or_name,
                {"members": blob.rows},
                {"file_size": blob.bytes, "mime_type": TAR_TYPE},
            )
        )
    return found
