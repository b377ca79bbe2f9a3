"""Label Studio: tasks for its import, one for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.integrations.export.form import LIST, Form
from blobpack.integrations.urls import S3, WEB

if TYPE_CHECKING:
    from blobpack.integrations.export.form import Record
    from blobpack.integrations.export.image import ListedImage


def task(image: ListedImage) -> Record:
    """Return the task of an image. A labeling configuration shows it with `value="$image"`."""
    known = {"name": image.name, "width": image.width, "height": image.height}
    data = {"image": image.url} | {
        name: value for name, value in known.items() if value is not None
    }
    return {"data": data}


LABEL_STUDIO = Form(
    kind="list of Label Studio tasks",
    file_name="tasks.json",
    record=task,
    mark='{"data": {"image": ',
    around=LIST,
    # a storage that the project has connected resolves s3:// URLs
    schemes=(*WEB, S3),
    # Label Studio's guide, "Get data into Label Studio": limits of one import
    images_max=250_000,
    bytes_max=50_000_000,
)
