"""CVAT: the manifest of a cloud storage, from which CVAT takes names and sizes instead of opening each image."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from blobpack.integrations.export.form import LINES, Form

if TYPE_CHECKING:
    from blobpack.integrations.export.form import Record
    from blobpack.integrations.export.image import ListedImage

HEADER = '{"version": "1.1"}\n{"type": "images"}\n'


def manifest_line(image: ListedImage) -> Record:
    """Return the line of an image. The width and height are those of the image as shown, as CVAT stores them."""
    name, extension = posixpath.splitext(image.name)
    return {"name": name, "extension": extension, "width": image.width, "height": image.height}


CVAT = Form(
    kind="CVAT manifest",
    file_name="manifest.jsonl",
    record=manifest_line,
    mark='{"name": ',
    around=(HEADER, *LINES[1:]),
    # the names are keys in the bucket of the storage
    schemes=(),
    needs_url=False,
    needs_sides=True,
)
