"""SageMaker: the manifest of a labeling job of Ground Truth, or of a training job with an augmented manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.integrations.export.form import LINES, Form
from blobpack.integrations.urls import S3

if TYPE_CHECKING:
    from blobpack.integrations.export.form import Record
    from blobpack.integrations.export.image import ListedImage


def manifest_line(image: ListedImage) -> Record:
    """Return the line of an image: SageMaker passes the keys other than `source-ref` on."""
    sides = {"width": image.width, "height": image.height}
    return {"source-ref": image.url} | {name: side for name, side in sides.items() if side}


SAGEMAKER = Form(
    kind="SageMaker augmented manifest",
    file_name="sagemaker.manifest",
    record=manifest_line,
    mark='{"source-ref": ',
    around=LINES,
    # SageMaker reads objects in S3 only
    schemes=(S3,),
    # the largest number of objects of a labeling job for images
    images_max=100_000,
)
