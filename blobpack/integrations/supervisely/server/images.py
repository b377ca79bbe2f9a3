"""Images of a blob in a dataset: each is a name, and offsets in a team's file.

Strategy: images go in batches, each in one call. If a batch holds names that the dataset has already, the server refuses all
of it and lists them. Those that are the same image, at the same offsets of the same file, were uploaded before: by an
upload that was interrupted, or by a call whose response was lost. They are left out, and the rest is sent again.
"""

from __future__ import annotations

import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from blobpack.errors import DuplicateNameError, StorageError
from blobpack.integrations.supervisely.server.rest import BAD_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.image_info import BlobImageInfo
    from blobpack.integrations.supervisely.server.rest import Rest
    from blobpack.model import NameConflict

# as the SDK sets it (project/project_type.py), so that the server and the SDK download blobs and not single images
BLOB_PROJECT = "is_blob_project"
NAMES_SHOWN = 3
# each round settles all names that the server has listed; more of them appear only if somebody else uploads, too
ROUNDS_MAX = 10
# of a filter by number, in one call
IDS_AT_ONCE = 1000


def project_of(rest: Rest, dataset_id: int) -> Document:
    """Return the project of a dataset, as the server describes it."""
    dataset = rest.ask("datasets.info", {"id": dataset_id})
    found: Document = rest.ask("projects.info", {"id": dataset["projectId"]})
    return found


def mark_blob_project(rest: Rest, project: Document, **more: Any) -> None:
    """Mark a project as one with blobs, and keep its other custom data."""
    before = project.get("customData") or {}
    wanted = {**before, BLOB_PROJECT: True, **more}
    if wanted != before:
        fields = {"id": project["id"], "customData": wanted, "silent": False}
        rest.ask("projects.editInfo", fields)


def add_images(
    rest: Rest,
    dataset_id: int,
    team_file_id: int,
    batches: Iterable[list[BlobImageInfo]],
    *,
    metas: Mapping[str, Document],
    conflict: NameConflict,
    show: Callable[[int], None],
) -> Iterator[tuple[str, int]]:
    """Add images to a dataset, and yield the name of each and its number.

    Args:
        rest: The server.
        dataset_id: Number of the dataset.
        team_file_id: Number of the blob among the team's files.
        batches: The images, each batch for one call.
        metas: Metadata of images, by their names.
        conflict: What to do about names that other images of the dataset have.
        show: Called with the number of images after each batch.
    """
    for batch in batches:
        adding = _Batch(rest, dataset_id, team_file_id, metas, conflict)
        ids = adding.add(batch)
        yield from ((info.name, ids[info.name]) for info in batch)
        show(len(batch))


class _Batch:
    def __init__(
        self,
        rest: Rest,
        dataset_id: int,
        team_file_id: int,
        metas: Mapping[str, Document],
        conflict: NameConflict,
    ) -> None:
        self._rest = rest
        self._dataset_id = dataset_id
        self._team_file_id = team_file_id
        self._metas = metas
        self._conflict = conflict
        # name → the name that it gets instead
        self._renamed: dict[str, str] = {}

    def add(self, batch: Sequence[BlobImageInfo]) -> dict[str, int]:
        """Add images; return their numbers by name."""
        ids: dict[str, int] = {}
        for _ in range(ROUNDS_MAX):
            left = [info for info in batch if info.name not in ids]
            if not left:
                return ids
            fields = {
                "datasetId": self._dataset_id,
                "images": list(map(self._row, left)),
                "forceMetadataForLinks": True,
                "skipValidation": False,
            }
            answer = self._rest.ask_or_refused("images.bulk.add", fields)
            if answer.status != BAD_REQUEST:
                added = answer.document
                if len(added) != len(left):
                    raise StorageError(
                        f"{self._rest.address}: images.bulk.add: {len(added)} of {len(left)} images were added"
                    )
                return ids | {info.name: each["id"] for info, each in zip(left, added, strict=True)}
            taken = _taken_names(answer.document)
            if not taken:
                raise self._rest.refused("images.bulk.add", answer)
            ids |= self._settle(left, taken)
        raise StorageError(
            f"{self._rest.address}: images.bulk.add: names are refused again and again"
        )

    def _row(self, info: BlobImageInfo) -> Document:
        row = info.to_dict(self._team_file_id)
        row["title"] = self._renamed.get(info.name, info.name)
        meta = self._metas.get(info.name)
        return {**row, "meta": meta} if meta else row

    def _settle(self, left: Sequence[BlobImageInfo], taken: dict[str, int]) -> dict[str, int]:
        """Decide about names that the dataset has; return the numbers of images that need not be added."""
        there = {
            each["id"]: each for each in images_by_id(self._rest, self._dataset_id, taken.values())
        }
        settled: dict[str, int] = {}
        others: dict[str, int] = {}
        for info in left:
            number = taken.get(self._renamed.get(info.name, info.name))
            if number is not None:
                is_same = is_image(there.get(number), info, self._team_file_id)
                (settled if is_same else others)[info.name] = number
        if not others:
            return settled
        if self._conflict == "refuse":
            some = ", ".join(map(repr, list(others)[:NAMES_SHOWN]))
            raise DuplicateNameError(
                f"{self._rest.address}: dataset {self._dataset_id} has other images of {len(others)} of these names: {some}"
            )
        if self._conflict == "skip":
            return settled | others
        if self._conflict == "replace":
            self._rest.ask("images.bulk.remove", {"imageIds": list(others.values())})
        else:
            self._renamed |= {name: with_time(name) for name in others}
        return settled


def _taken_names(refusal: Any) -> dict[str, int]:
    """Return the names that the server has refused because images have them, and the numbers of these images."""
    details = refusal.get("details") if isinstance(refusal, dict) else None
    first = details[0] if isinstance(details, list) and details else details
    if not isinstance(first, dict) or first.get("type") != "NONUNIQUE":
        return {}
    return {each["name"]: each["id"] for each in first.get("errors", [])}


def images_by_id(rest: Rest, dataset_id: int, ids: Iterable[int]) -> Iterator[Document]:
    """Yield images of a dataset, as the server describes them, by their numbers."""
    listed = list(ids)
    for first in range(0, len(listed), IDS_AT_ONCE):
        some = listed[first : first + IDS_AT_ONCE]
        only = {"field": "id", "operator": "in", "value": some}
        yield from images_of(rest, dataset_id, [only])


def images_of(rest: Rest, dataset_id: int, only: Sequence[Document] = ()) -> Iterator[Document]:
    """Yield the images of a dataset, as the server describes them, in the order of their numbers."""
    fields = {
        "datasetId": dataset_id,
        "filter": list(only),
        "sort": "id",
        "sort_order": "asc",
        # what the server knows: the widths of images that it has not measured yet are not waited for
        "forceMetadataForLinks": False,
    }
    return rest.pages("images.list", fields)


def is_image(there: Document | None, info: BlobImageInfo, team_file_id: int) -> bool:
    """Return whether an image on the server is the same range of the same file."""
    return there is not None and (
        there.get("relatedDataId"),
        there.get("offsetStart"),
        there.get("offsetEnd"),
    ) == (team_file_id, info.offset_start, info.offset_end)


def with_time(name: str) -> str:
    """Return a name with the time before its suffix, as the SDK renames images."""
    path = PurePosixPath(name)
    return f"{path.stem}_{time.strftime('%Y_%m_%d_%H_%M_%S')}{path.suffix}"
