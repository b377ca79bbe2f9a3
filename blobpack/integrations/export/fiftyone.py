"""FiftyOne: samples that hold URLs, one a line, for `Sample.from_dict`.

FiftyOne's own data set format is not written: its importer makes a local path of every URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.integrations.export.form import LINES, Form

if TYPE_CHECKING:
    from blobpack.integrations.export.form import Record
    from blobpack.integrations.export.image import ListedImage


def sample(image: ListedImage) -> Record:
    """Return the sample of an image, with the metadata for which FiftyOne would have to fetch the image."""
    sides = {"width": image.width, "height": image.height}
    return {
        "filepath": image.url,
        "name": image.name,
        "tags": [],
        "metadata": {
            "_cls": "ImageMetadata",
            "size_bytes": image.size,
            "mime_type": image.media_type,
            **{name: side for name, side in sides.items() if side},
        },
    }


FIFTYONE = Form(
    kind="list of FiftyOne samples",
    file_name="samples.jsonl",
    record=sample,
    mark='{"filepath": ',
    around=LINES,
)
