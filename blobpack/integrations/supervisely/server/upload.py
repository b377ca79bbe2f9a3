"""Upload a local project: blobs, datasets, images and annotations.

Strategy: the new project gets a mark, which is made of the local project's content. If an upload starts again, it finds the
unfinished project with this mark and continues there: blobs, images and annotations that the server has are not sent again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.errors import FormatError, StorageError
from blobpack.index.tables.offsets import BATCH_ROWS
from blobpack.integrations.supervisely.documents import faults_of_annotation, read_document
from blobpack.integrations.supervisely.image_info import BlobImageInfo
from blobpack.integrations.supervisely.layout import IMAGE_META, JSON_SUFFIX, OFFSETS_SUFFIX
from blobpack.integrations.supervisely.project import open_project
from blobpack.integrations.supervisely.server.files import BLOBS_FOLDER, Upload, showing
from blobpack.integrations.supervisely.server.images import (
    BLOB_PROJECT,
    add_images,
    images_of,
    is_image,
)
from blobpack.integrations.supervisely.server.labels import (
    add_annotations,
    check_classes,
    is_annotated,
)
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.project import Dataset, Project
    from blobpack.integrations.supervisely.server.files import TeamFile
    from blobpack.integrations.supervisely.server.rest import Rest
    from blobpack.progress import ProgressCallback

# keys in a project's custom data: what is uploaded there, until it is complete
UNDER_WAY = "blobpack_upload"
NAMES_TRIED_MAX = 1000


@dataclass(frozen=True, slots=True)
class UploadReport:
    """The result of upload_project.

    Attributes:
        project_id: Number of the project.
        name: Its name; if another project had the name that was asked for, a number is added.
        images: Number of its images.
        annotated: Number of annotations that were sent; empty ones are not sent.
        blobs: Path of each blob among the team's files, with its number.
        url: Where a browser finds the project.
        resumed: Whether an upload that was interrupted was continued.
    """

    project_id: int
    name: str
    images: int
    annotated: int
    blobs: dict[str, int]
    url: str
    resumed: bool

    def __str__(self) -> str:
        return (
            f"{'continued' if self.resumed else 'uploaded'} {self.name!r}, project {self.project_id}: "
            f"{counted(self.images, 'image')}, {counted(self.annotated, 'annotation')} and {counted(len(self.blobs), 'blob')}"
        )


def upload_project(
    rest: Rest,
    folder: Path,
    workspace_id: int,
    name: str | None,
    *,
    threads: int,
    progress: ProgressCallback | None,
) -> UploadReport:
    """Upload a local project; see Client.upload_project."""
    with open_project(folder) as local:
        check_classes(local.meta, folder)
        for dataset in local:
            if dataset.image_files:
                raise FormatError(
                    f"{dataset.folder}: has images that are files of their own: pack them, and build a project of blobs"
                )
        upload = _Upload(rest, local, workspace_id, threads, progress)
        return upload.run(name or local.folder.absolute().name)


class _Upload:
    def __init__(
        self,
        rest: Rest,
        local: Project,
        workspace_id: int,
        threads: int,
        progress: ProgressCallback | None,
    ) -> None:
        self._rest = rest
        self._local = local
        self._workspace_id = workspace_id
        self._threads = threads
        self._show = showing(progress, sum(map(len, local)))
        self._progress = progress
        self._annotated = 0

    def run(self, name: str) -> UploadReport:
        """Upload everything."""
        mark = self._mark()
        project, is_new = self._project(name, mark)
        self._rest.ask("projects.meta.update", {"id": project["id"], "meta": self._local.meta})
        blobs = {
            path.stem: self._upload_blob(path, project["teamId"]) for path in self._local.blob_files
        }
        ids: dict[str, int] = {}
        for dataset in self._local:
            parent, _, short = dataset.name.rpartition("/")
            ids[dataset.name] = self._dataset(project["id"], short, ids.get(parent))
            self._upload_dataset(dataset, ids[dataset.name], blobs, is_new=is_new)
        # complete: a second upload makes a second project
        custom = {**(project.get("customData") or {}), BLOB_PROJECT: True}
        custom.pop(UNDER_WAY, None)
        self._rest.ask(
            "projects.editInfo", {"id": project["id"], "customData": custom, "silent": False}
        )
        return UploadReport(
            project["id"],
            project["name"],
            sum(map(len, self._local)),
            self._annotated,
            {file.path: file.id for file in blobs.values()},
            f"{self._rest.address}/projects/{project['id']}/datasets",
            resumed=not is_new,
        )

    def _mark(self) -> str:
        """Return a mark of what is uploaded: of the meta, and of the names and offsets of all images."""
        digest = hashlib.sha256(json.dumps(self._local.meta, sort_keys=True).encode())
        for path in self._local.blob_files:
            digest.update(f"{path.name} {path.stat().st_size}".encode())
        for dataset in self._local:
            digest.update(dataset.name.encode())
            for file in dataset.offsets_files:
                digest.update(file.read_bytes())
        return digest.hexdigest()[:32]

    def _project(self, name: str, mark: str) -> tuple[Document, bool]:
        """Return the project to upload to, and whether it is new."""
        there = self._find_projects()
        for each in there:
            if each == name or each.startswith(f"{name}_"):
                # a list of projects has no custom data
                found = self._rest.ask("projects.info", {"id": there[each]["id"]})
                if (found.get("customData") or {}).get(UNDER_WAY) == mark:
                    return found, False
        free = next(
            free
            for free in (name, *(f"{name}_{number:03}" for number in range(NAMES_TRIED_MAX)))
            if free not in there
        )
        fields = {
            "name": free,
            "workspaceId": self._workspace_id,
            "description": "",
            "type": "images",
            "customData": {BLOB_PROJECT: True, UNDER_WAY: mark},
        }

        def added() -> Document | None:
            return self._find_projects().get(free)

        made = self._rest.ask("projects.add", fields, recover=added)
        # with the team, which not every server names when it makes a project
        return self._rest.ask("projects.info", {"id": made["id"]}), True

    def _find_projects(self) -> dict[str, Document]:
        fields = {
            "workspaceId": self._workspace_id,
            "filter": [],
            "sort": "id",
            "sort_order": "asc",
        }
        return {each["name"]: each for each in self._rest.pages("projects.list", fields)}

    def _dataset(self, project_id: int, name: str, parent_id: int | None) -> int:
        """Return the number of a dataset, which is made if it does not exist."""

        def find() -> Document | None:
            for each in datasets_of(self._rest, project_id):
                if each["name"] == name and each.get("parentId") == parent_id:
                    return each
            return None

        fields = {"projectId": project_id, "name": name, "description": "", "parentId": parent_id}
        found = find() or self._rest.ask("datasets.add", fields, recover=find)
        number: int = found["id"]
        return number

    def _upload_blob(self, path: Path, team_id: int) -> TeamFile:
        with LocalStore(Location.parse(path)) as store:
            upload = Upload(self._rest, team_id, store, self._progress)
            return upload.put(f"{BLOBS_FOLDER}/{path.name}", replace=False)

    def _upload_dataset(
        self, dataset: Dataset, dataset_id: int, blobs: dict[str, TeamFile], *, is_new: bool
    ) -> None:
        there = {} if is_new else {each["name"]: each for each in images_of(self._rest, dataset_id)}
        for file in dataset.offsets_files:
            stem = file.name.removesuffix(OFFSETS_SUFFIX)
            if stem not in blobs:
                raise StorageError(f"{file}: there is no blob {dataset.blob_of(file)}")
            blob = blobs[stem]
            for batch in BlobImageInfo.load_from_pickle_generator(file, BATCH_ROWS):
                ids = self._add_missing(dataset, dataset_id, blob.id, batch, there)
                self._annotate(dataset, dataset_id, ids, there)

    def _add_missing(
        self,
        dataset: Dataset,
        dataset_id: int,
        team_file_id: int,
        batch: list[BlobImageInfo],
        there: dict[str, Document],
    ) -> dict[str, int]:
        """Add the images of a batch that are not there yet; return the numbers of all."""
        ids = {
            info.name: there[info.name]["id"]
            for info in batch
            if is_image(there.get(info.name), info, team_file_id)
        }
        self._show(len(ids))
        missing = [info for info in batch if info.name not in ids]
        metas = {info.name: meta for info in missing if (meta := _meta_of(dataset, info.name))}
        added = add_images(
            self._rest,
            dataset_id,
            team_file_id,
            [missing] if missing else [],
            metas=metas,
            conflict="refuse",
            show=self._show,
        )
        return ids | dict(added)

    def _annotate(
        self, dataset: Dataset, dataset_id: int, ids: dict[str, int], there: dict[str, Document]
    ) -> None:
        def annotations() -> Iterator[tuple[int, Document]]:
            for name, number in ids.items():
                if name in there and is_annotated(there[name]):
                    continue
                path = dataset.annotation_path(name)
                annotation = read_document(path)
                for fault in faults_of_annotation(annotation, self._local.meta):
                    raise FormatError(f"{path}: {fault}")
                yield number, annotation

        self._annotated += add_annotations(
            self._rest, dataset_id, annotations(), threads=self._threads, show=lambda _: None
        )


def datasets_of(rest: Rest, project_id: int) -> Iterator[Document]:
    """Yield all datasets of a project, nested ones too, as the server describes them."""
    return rest.pages(
        "datasets.list",
        {
            "projectId": project_id,
            "filter": [],
            "recursive": True,
            "sort": "id",
            "sort_order": "asc",
        },
    )


def _meta_of(dataset: Dataset, name: str) -> Document | None:
    path = dataset.folder / IMAGE_META / f"{name}{JSON_SUFFIX}"
    return read_document(path) if path.exists() else None
