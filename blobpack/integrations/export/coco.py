"""COCO: the image list of a data set without annotations yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.integrations.export.form import LIST, Form

if TYPE_CHECKING:
    from blobpack.integrations.export.form import Record
    from blobpack.integrations.export.image import ListedImage

# the images come last, so that the file can be written while the index is read
HEAD = '{"info": {}, "licenses": [], "categories": [], "annotations": [], "images": '


def image_entry(image: ListedImage) -> Record:
    """Return the entry of an image. Its id is the number of its row, so that it is the same in every export."""
    entry: Record = {
        "id": image.number,
        "file_name": image.name,
        "width": image.width,
        "height": image.height,
    }
    return entry | ({"coco_url": image.url} if image.url else {})


COCO = Form(
    kind="COCO image list",
    file_name="images.json",
    record=image_entry,
    mark='{"id": ',
    around=(HEAD + LIST[0], LIST[1], "\n]}\n"),
    needs_url=False,
    needs_sides=True,
)
