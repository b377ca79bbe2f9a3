"""Hugging Face: the metadata of an image folder, or of a data set whose images are read by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.integrations.export.form import LINES, Form

if TYPE_CHECKING:
    from blobpack.integrations.export.form import Record
    from blobpack.integrations.export.image import ListedImage


def metadata_line(image: ListedImage) -> Record:
    """Return the line of an image. `file_name` is its path below the folder of the file, as the image folder asks."""
    line: Record = {"file_name": image.name, "width": image.width, "height": image.height}
    return line | ({"url": image.url} if image.url else {})


HUGGINGFACE = Form(
    kind="Hugging Face metadata file",
    file_name="metadata.jsonl",
    record=metadata_line,
    mark='{"file_name": ',
    around=LINES,
    needs_url=False,
)
