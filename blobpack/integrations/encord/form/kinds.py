"""Encord's kinds of items, the keys of its files, media metadata, and limits.

Sources: Encord's documentation of cloud data registration, and the models of its SDK, `encord.orm.storage`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

# limits of one file
URLS_MAX = 1_000_000
ITEMS_MAX = 500_000
# The documentation says 16 KB, which may also mean 16,384.
URL_BYTES_MAX = 16_000
TITLE_CHARACTERS_MAX = 300
# of a custom embedding
EMBEDDING_MAX = 4096


class Kind(NamedTuple):
    """A kind of item.

    Attributes:
        key: Its key in the JSON file of the web page.
        items_key: Its key in the SDK's DataUploadItems.
        column: Its column of titles in a CSV; "" if a CSV can't hold it.
        media: The key of its media metadata; "" if it has none.
        has_files: Whether an item has several URLs.
        noun: What it is called in messages.
    """

    key: str
    items_key: str
    column: str
    media: str
    has_files: bool
    noun: str


# in the order in which a file holds them
KINDS = {
    "images": Kind("images", "images", "Image title", "imageMetadata", False, "image"),
    "image_groups": Kind(
        "image_groups", "imageGroups", "Image group title", "imageMetadata", True, "image group"
    ),
    "image_sequences": Kind(
        "image_groups", "imageGroups", "Image group title", "imageMetadata", True, "image sequence"
    ),
    "videos": Kind("videos", "videos", "Video title", "videoMetadata", False, "video"),
    "dicom_series": Kind(
        "dicom_series", "dicomSeries", "Dicom title", "dicomMetadata", True, "DICOM series"
    ),
    "audio": Kind("audio", "audio", "", "audioMetadata", False, "audio file"),
    "text": Kind("text", "text", "", "textMetadata", False, "text"),
    "pdf": Kind("pdf", "pdf", "", "pdfMetadata", False, "PDF"),
    "nifti": Kind("nifti", "nifti", "", "", False, "NIfTI volume"),
}
# keys of files for Encord that blobpack reads and checks, but does not write
OTHER_ITEMS_KEYS = {
    "imageGroupsFromItems": "image group of registered images",
    "timeSeries": "time series",
    "scenes": "scene",
}

# key of media metadata → its fields, as the SDK's models name them, and their types
MEDIA_FIELDS: dict[str, dict[str, type]] = {
    "imageMetadata": {"mime_type": str, "file_size": int, "height": int, "width": int},
    "videoMetadata": {
        "fps": float,
        "duration": float,
        "width": int,
        "height": int,
        "file_size": int,
        "mime_type": str,
    },
    "audioMetadata": {
        "duration": float,
        "file_size": int,
        "mime_type": str,
        "sample_rate": int,
        "bit_depth": int,
        "codec": str,
        "num_channels": int,
    },
    "textMetadata": {"file_size": int, "mime_type": str},
    "pdfMetadata": {"file_size": int, "num_pages": int},
    "dicomMetadata": {"tags": dict},
}
# the SDK's CustomerProvidedDicomSeriesDicomFileMetadata: each must be a key of `tags`
DICOM_TAGS = (
    *("00080018", "00100020", "00180050", "00181114", "00181164", "0020000D", "0020000E"),
    *("00200013", "00200032", "00200037", "00209113", "00209116", "00280004", "00280008"),
    *("00280010", "00280011", "00280030", "00281050", "00281051", "00289110", "52009229"),
    "52009230",
)

URL_COLUMN = "ObjectURL"
VIDEO_COLUMN = "Create video"


# cached, because it is called for each key of each imageMetadata
@lru_cache(maxsize=256)
def camel(name: str) -> str:
    """Return a name such as file_size as fileSize."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def faults_of_media(key: str, media: object) -> list[str]:
    """Return what is wrong with media metadata, whichever way its keys are spelled.

    Args:
        key: Its key in an item, such as "imageMetadata".
        media: Its value.
    """
    if not isinstance(media, dict):
        return ["must be an object"]
    faults = []
    fields = MEDIA_FIELDS[key]
    for name, kind in fields.items():
        value = media.get(name, media.get(camel(name)))
        accepted = (int, float) if kind is float else (kind,)
        if isinstance(value, bool) or not isinstance(value, accepted):
            faults.append(f"needs {camel(name)}, of type {kind.__name__}")
    known = {*fields, *map(camel, fields)}
    faults += [f"has an unknown key {name!r}" for name in media if name not in known]
    tags = media.get("tags")
    if key == "dicomMetadata" and isinstance(tags, dict):
        faults += [f"needs the DICOM tag {tag}" for tag in DICOM_TAGS if tag not in tags]
    return faults
