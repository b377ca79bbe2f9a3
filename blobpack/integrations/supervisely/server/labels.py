"""Annotations on the server: added in batches by several threads, and read in batches."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from blobpack.errors import FormatError, StorageError
from blobpack.integrations.supervisely.server.coordinates import to_file, to_server
from blobpack.integrations.supervisely.server.images import images_by_id
from blobpack.look_ahead import map_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.server.rest import Rest

# as many as the SDK sends and asks for in one call; the server refuses more than 100
# (api/annotation_api.py, BULK_INFO_MAX_BATCH_SIZE)
AT_ONCE = 50
# The SDK sends these by other calls (AnnotationApi._upload_batch): their geometry does not go with the annotation.
NOT_SENT = ("alpha_mask", "multipolygon")
SHOWN_KEYS = ("objects", "tags", "description")


def check_classes(meta: Document, where: object) -> None:
    """Check that annotations of these classes can be uploaded.

    Raises:
        FormatError: a class has a shape that only the SDK uploads.
    """
    for each in meta["classes"]:
        if each.get("shape") in NOT_SENT:
            raise FormatError(
                f"{where}: class {each['title']!r} has the shape {each['shape']!r}, which only Supervisely's SDK uploads"
            )


def has_content(annotation: Document) -> bool:
    """Return whether an annotation says anything; a new image has one that does not."""
    return any(annotation.get(key) for key in SHOWN_KEYS)


def add_annotations(
    rest: Rest,
    dataset_id: int,
    annotations: Iterable[tuple[int, Document]],
    *,
    threads: int,
    show: Callable[[int], None],
) -> int:
    """Add annotations to images; return how many.

    Args:
        rest: The server.
        dataset_id: Number of the dataset.
        annotations: Number of each image, and its annotation; empty ones are not sent.
        threads: Number of calls at the same time.
        show: Called with the number of images after each batch.
    """

    def add(batch: list[tuple[int, Document]]) -> int:
        rows = [
            {"imageId": number, "annotation": to_server(_sendable(each))} for number, each in batch
        ]
        fields = {"datasetId": dataset_id, "annotations": rows, "skipBoundsValidation": False}
        rest.ask(
            "annotations.bulk.add", fields, recover=lambda: _were_added(rest, dataset_id, batch)
        )
        return len(batch)

    wanted = ((number, each) for number, each in annotations if has_content(each))
    batches = iter(lambda: list(islice(wanted, AT_ONCE)), [])
    count = 0
    for more in map_ahead(add, batches, threads=threads, most=2 * threads, name="annotate"):
        count += more
        show(more)
    return count


def _were_added(rest: Rest, dataset_id: int, batch: list[tuple[int, Document]]) -> Document | None:
    """Return a response if the annotations of a batch are on the server already."""
    # a call does all of its work or nothing, so one image that shows it is enough
    shown = [number for number, each in batch if each["objects"] or each["tags"]]
    return {} if any(map(is_annotated, images_by_id(rest, dataset_id, shown[:1]))) else None


def is_annotated(image: Document) -> bool:
    """Return whether an image on the server has objects or tags."""
    return bool(image.get("labelsCount") or image.get("tags"))


def _sendable(annotation: Document) -> Document:
    for each in annotation["objects"]:
        if each.get("geometryType") in NOT_SENT:
            raise FormatError(
                f"an object of class {each['classTitle']!r} has the geometry {each['geometryType']!r}, which only "
                "Supervisely's SDK uploads"
            )
    return annotation


def read_annotations(
    rest: Rest, dataset_id: int, images: Iterable[Document], threads: int
) -> Iterator[list[tuple[Document, Document]]]:
    """Yield batches of images, each with its annotation as files hold it."""

    def read(batch: list[Document]) -> list[tuple[Document, Document]]:
        fields = {
            "datasetId": dataset_id,
            "imageIds": [image["id"] for image in batch],
            "withCustomData": False,
            "forceMetadataForLinks": True,
            "integerCoords": False,
        }
        found = {each["imageId"]: each for each in rest.ask("annotations.bulk.info", fields)}
        if missing := [image["name"] for image in batch if image["id"] not in found]:
            raise StorageError(
                f"{rest.address}: annotations.bulk.info: no annotation of {missing[0]!r} and {len(missing) - 1} more"
            )
        return [(image, to_file(found[image["id"]]["annotation"])) for image in batch]

    source = iter(images)
    batches = iter(lambda: list(islice(source, AT_ONCE)), [])
    return map_ahead(read, batches, threads=threads, most=2 * threads, name="annotations")
