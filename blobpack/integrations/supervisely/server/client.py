"""The public class `Client`: blobs, images and projects on a Supervisely server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from blobpack.closing import Closing
from blobpack.errors import FormatError
from blobpack.index.index import Index
from blobpack.index.tables.offsets import BATCH_ROWS, read_offsets
from blobpack.integrations.supervisely.annotations import given_annotations
from blobpack.integrations.supervisely.documents import faults_of_annotation, faults_of_meta
from blobpack.integrations.supervisely.image_info import BlobImageInfo, batches
from blobpack.integrations.supervisely.layout import OFFSETS_SUFFIX
from blobpack.integrations.supervisely.offsets import offset_batches
from blobpack.integrations.supervisely.server.blob_download import check_digest, download
from blobpack.integrations.supervisely.server.download import (
    DownloadReport,
    download_project,
    fetch_blob,
)
from blobpack.integrations.supervisely.server.files import (
    TeamFile,
    file_of,
    one_blob,
    showing,
    upload_blob,
)
from blobpack.integrations.supervisely.server.images import (
    add_images,
    mark_blob_project,
    project_of,
)
from blobpack.integrations.supervisely.server.labels import add_annotations, check_classes
from blobpack.integrations.supervisely.server.rest import Rest
from blobpack.integrations.supervisely.server.upload import UploadReport, upload_project
from blobpack.model import (
    NameConflict,
    check_callable,
    check_choice,
    check_flag,
    check_number,
    check_text,
    check_whole,
    shown,
)
from blobpack.opening.open import source_of
from blobpack.opening.reader import Reader
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import local_path
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.integrations.supervisely.annotations import Annotations
    from blobpack.integrations.supervisely.documents import Document
    from blobpack.progress import ProgressCallback

    # an open blob, or its path or URL
    BlobSource = Reader | str | os.PathLike[str]

THREADS_MAX = 64


class Client(Closing):
    """Talks to a Supervisely server by its REST API. A context manager. Safe to share between threads.

    If a call fails because the server is busy, restarts or can't be reached, it is sent again for at least a minute. If the
    server refuses a call, a StorageError is raised, with the server's own message, and the HTTP status as `status`.

    If a method was interrupted, call it again to continue: blobs, images and annotations that are already on the server are
    not sent again, and bytes that are already on this disk are not fetched again.
    """

    def __init__(self, server: str, token: str, *, threads: int = 8) -> None:
        """Set the server; nothing is sent yet.

        Args:
            server: Address of the server, such as https://app.supervisely.com.
            token: API token of your account.
            threads: Number of calls at the same time, from 1 to 64.

        Raises:
            TypeError: an argument has another type.
            ValueError: the server is not an http(s) address, the token is empty, or threads is out of range.
        """
        check_number("threads", threads, 1, THREADS_MAX)
        self._rest = Rest(server, token, threads)
        self._threads = threads

    def create_project(
        self, workspace_id: int, name: str, meta: dict[str, Any] | None = None
    ) -> int:
        """Make an empty project for images, and return its number.

        Args:
            workspace_id: Number of the workspace.
            name: Name of the project; the server refuses a name that another project has.
            meta: Classes and tags; None for none.
        """
        check_whole("workspace_id", workspace_id)
        check_text("name", name)
        _check_meta(meta)
        fields = {"name": name, "workspaceId": workspace_id, "description": "", "type": "images"}
        number: int = self._rest.ask("projects.add", fields)["id"]
        if meta is not None:
            self._rest.ask("projects.meta.update", {"id": number, "meta": meta})
        return number

    def create_dataset(self, project_id: int, name: str, parent_id: int | None = None) -> int:
        """Make an empty dataset, and return its number.

        Args:
            project_id: Number of the project.
            name: Name of the dataset; the server refuses a name that another dataset has.
            parent_id: Number of the dataset that contains the new one; None for none.
        """
        check_whole("project_id", project_id)
        check_text("name", name)
        if parent_id is not None:
            check_whole("parent_id", parent_id)
        fields = {"projectId": project_id, "name": name, "description": "", "parentId": parent_id}
        number: int = self._rest.ask("datasets.add", fields)["id"]
        return number

    @with_remote_options
    def upload_blob(
        self,
        team_id: int,
        blob: BlobSource,
        path: str | None = None,
        *,
        offsets: bool = True,
        progress: ProgressCallback | None = None,
        **remote: Unpack[RemoteOptions],
    ) -> TeamFile:
        """Upload a blob to the files of a team, and its offsets file beside it.

        If the team already has the blob, it is not sent again. If another file has the path, the blob gets another path.

        Args:
            team_id: Number of the team.
            blob: An open blob, or its path or URL. It is sent as a plain tar.
            path: Path in Team Files; None for /blob-files/ and the name of the blob.
            offsets: Also upload the offsets file, with the names of all members without folders.
            progress: Called with the Progress in bytes.
            remote: How a remote blob is reached: see RemoteOptions.

        Returns:
            The file, whose `id` upload_images takes.

        Raises:
            DuplicateNameError: two members have the same name without folders, so there can be no offsets file.
            StorageError: the blob can't be read, or the server refuses it, or stored other bytes.
            ValueError: this is a collection.
        """
        check_whole("team_id", team_id)
        found = source_of("blob", blob, Access.of("upload_blob", remote))
        if path is not None:
            check_text("path", path)
            if not path.startswith("/"):
                raise ValueError(
                    f"path must begin with a slash, as /blob-files/images.tar, not {path!r}"
                )
        check_flag("offsets", offsets)
        check_callable("progress", progress)
        with one_blob(found) as (part, index):
            return upload_blob(
                self._rest, team_id, part, index if offsets else None, path, progress
            )

    @with_remote_options
    def upload_images(
        self,
        dataset_id: int,
        images: Index | Iterable[BlobImageInfo] | BlobSource,
        team_file: TeamFile | int | None = None,
        *,
        metas: Mapping[str, dict[str, Any]] | None = None,
        conflict: NameConflict = "refuse",
        batch_size: int = BATCH_ROWS,
        progress: ProgressCallback | None = None,
        **remote: Unpack[RemoteOptions],
    ) -> dict[str, int]:
        """Add images of a blob to a dataset. No byte of an image is sent: the server has the blob.

        One blob can serve several datasets and projects of a team. An image that the dataset has already, at the same
        offsets of the same file, is left as it is.

        Args:
            dataset_id: Number of the dataset.
            images: The images: an index, such as a selection; BlobImageInfo; or an open blob, its path or URL, for all.
            team_file: The blob among the team's files, or its number. None uploads the blob that `images` is.
            metas: Metadata of images, by their names without folders.
            conflict: What to do if another image of the dataset has the name of a new one: "refuse" the whole batch;
                "rename" the new image, by adding the time; "skip" the new image; or "replace" the old one.
            batch_size: Number of images in each call.
            progress: Called with the Progress in images after each call.
            remote: How a remote blob is reached: see RemoteOptions.

        Returns:
            Name of each image, without folders, with its number on the server.

        Raises:
            DuplicateNameError: two images have the same name without folders; or another image of the dataset has the
                name, and conflict is "refuse".
            StorageError: the server refuses the images.
            ValueError: there is no blob to upload, the images are a collection, or an argument is not one of its choices.
        """
        check_whole("dataset_id", dataset_id)
        check_choice("conflict", conflict, NameConflict)
        check_number("batch_size", batch_size, 1)
        check_callable("progress", progress)
        _check_metas(metas)
        _check_team_file(team_file)
        access = Access.of("upload_images", remote)
        if isinstance(images, (str, os.PathLike)):
            images = source_of("images", images, access)
        if team_file is None and not isinstance(images, (Reader, Location)):
            raise ValueError("team_file must be given, if images are no blob that can be uploaded")
        cut = _batches(images, batch_size)
        project = project_of(self._rest, dataset_id)
        if team_file is None:
            # checked above
            with one_blob(cast("BlobSource", images)) as (part, index):
                team_file = upload_blob(self._rest, project["teamId"], part, index, None, None)
        mark_blob_project(self._rest, project)
        return dict(
            add_images(
                self._rest,
                dataset_id,
                team_file.id if isinstance(team_file, TeamFile) else team_file,
                cut,
                metas=metas or {},
                conflict=conflict,
                show=showing(progress),
            )
        )

    def upload_annotations(
        self,
        dataset_id: int,
        annotations: Iterable[tuple[int, dict[str, Any]]] | Mapping[int, dict[str, Any]],
        *,
        progress: ProgressCallback | None = None,
    ) -> int:
        """Add annotations to images of a dataset, and return how many were sent. Empty ones are not sent.

        Args:
            dataset_id: Number of the dataset.
            annotations: Annotations in Supervisely's format, with the numbers of their images.
            progress: Called with the Progress in images.

        Raises:
            FormatError: Supervisely would refuse an annotation; or it names a class or tag that the project does not have;
                or it has an alpha mask or multipolygon, which only the SDK uploads.
            StorageError: the server refuses an annotation.
        """
        check_whole("dataset_id", dataset_id)
        check_callable("progress", progress)
        if not isinstance(annotations, Iterable):
            raise TypeError(f"annotations must be pairs, or a dict, not {shown(annotations)}")
        pairs = annotations.items() if isinstance(annotations, Mapping) else annotations
        meta = self._meta_of(project_of(self._rest, dataset_id))
        return self._annotate(
            dataset_id,
            ((number, each, f"image {number}") for number, each in pairs),
            meta,
            progress,
        )

    @with_remote_options
    def quick_import(
        self,
        dataset_id: int,
        blob: BlobSource,
        annotations: Annotations | None = None,
        *,
        metas: Mapping[str, dict[str, Any]] | None = None,
        conflict: NameConflict = "refuse",
        progress: ProgressCallback | None = None,
        **remote: Unpack[RemoteOptions],
    ) -> dict[str, int]:
        """Upload a blob, and add all its images, with annotations, to a dataset.

        Args:
            dataset_id: Number of the dataset.
            blob: An open blob, or its path or URL.
            annotations: Annotations by the name of the image, or the path of a folder of them; see build_project. Images
                without annotation are added, too.
            metas: Metadata of images, by their names without folders.
            conflict: What to do if another image of the dataset has the name of a new one; see upload_images.
            progress: Called with the Progress in images.
            remote: How a remote blob is reached: see RemoteOptions.

        Returns:
            Name of each image, without folders, with its number on the server.

        Raises:
            BlobpackError: for a reason that upload_images or upload_annotations lists.
        """
        check_whole("dataset_id", dataset_id)
        found = source_of("blob", blob, Access.of("quick_import", remote))
        check_choice("conflict", conflict, NameConflict)
        check_callable("progress", progress)
        _check_metas(metas)
        given = given_annotations(annotations)
        project = project_of(self._rest, dataset_id)
        meta = self._meta_of(project)
        with one_blob(found) as (part, index):
            file = upload_blob(self._rest, project["teamId"], part, index, None, None)
            paths = {path.rpartition("/")[2]: path for path in index.names}
            ids = self.upload_images(
                dataset_id, index, file, metas=metas, conflict=conflict, progress=progress
            )

        def annotated() -> Iterator[tuple[int, Document, object]]:
            for title, number in ids.items():
                if found := given.find("", paths[title]):
                    yield number, *found

        self._annotate(dataset_id, annotated(), meta, None)
        return ids

    def upload_project(
        self,
        folder: str | os.PathLike[str],
        workspace_id: int,
        name: str | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> UploadReport:
        """Upload a local project as a new project, with its blobs, datasets, images, metadata and annotations.

        If an upload of the same project under this name was interrupted, it is continued.

        Args:
            folder: Path of the project's folder.
            workspace_id: Number of the workspace.
            name: Name of the new project. If another project has the name, a number is added. None for the name of the
                folder.
            progress: Called with the Progress in images; while a blob is sent, in bytes.

        Raises:
            FormatError: the local project is damaged; or has images that are files of their own, or alpha masks or
                multipolygons, which only the SDK uploads.
            StorageError: the server refuses a part of it.
        """
        path = Path(local_path("folder", folder))
        check_whole("workspace_id", workspace_id)
        if name is not None:
            check_text("name", name)
        check_callable("progress", progress)
        return upload_project(
            self._rest, path, workspace_id, name, threads=self._threads, progress=progress
        )

    def offsets_file(self, team_file: TeamFile | int, folder: str | os.PathLike[str]) -> Path:
        """Download the offsets file beside a blob of the team, and return its path.

        Args:
            team_file: The blob among the team's files, or its number.
            folder: Path of the folder to write to, which must exist.

        Raises:
            FormatError: the downloaded file is not an offsets file.
            StorageError: there is no such file, or the file can't be written.
        """
        _check_team_file(team_file)
        if team_file is None:
            raise TypeError("team_file must be a TeamFile or a whole number, not None")
        target = Path(local_path("folder", folder))
        blob = team_file if isinstance(team_file, TeamFile) else file_of(self._rest, team_file)
        remote = Path(blob.path)
        name = f"{remote.stem}{OFFSETS_SUFFIX}"
        fields = {"teamId": blob.team_id, "path": str(remote.with_name(name))}
        # parsed before it gets its final name
        download(
            self._rest,
            "file-storage.download",
            fields,
            target / name,
            verify=_check_offsets,
        )
        return target / name

    def download_blob(
        self,
        project_id: int,
        download_id: str,
        target: str | os.PathLike[str],
        *,
        team_file: TeamFile | int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Path:
        """Download a blob of a project, and return its path.

        Args:
            project_id: Number of the project.
            download_id: The `downloadId` of any image in the blob.
            target: Path of the file.
            team_file: The blob among the team's files, or its number (`relatedDataId` of an image). If given, size and
                SHA-256 are compared with those of the server; if None, only the length of the response.
            progress: Called with the Progress in bytes.

        Raises:
            ChecksumError: the downloaded bytes differ from the server's.
            StorageError: the server refuses, or the file can't be written.
            TruncatedError: fewer bytes were downloaded than the server has.
        """
        check_whole("project_id", project_id)
        check_text("download_id", download_id)
        path = Path(local_path("target", target))
        _check_team_file(team_file)
        check_callable("progress", progress)
        file = (
            team_file
            if isinstance(team_file, (TeamFile, type(None)))
            else file_of(self._rest, team_file)
        )

        def verify(part: Path) -> None:
            if file is not None:
                check_digest(part, file.size, file.sha256)

        fetch_blob(self._rest, project_id, download_id, path, verify, progress)
        return path

    def download_project(
        self,
        project_id: int,
        folder: str | os.PathLike[str],
        *,
        progress: ProgressCallback | None = None,
    ) -> DownloadReport:
        """Download a project with its blobs, in the form that open_project and the SDK open.

        Each blob is fetched once, as a whole, and named after its number, as the SDK does. If the folder holds an earlier
        download of this project, only what is new or has changed is fetched, and what the server no longer has is removed.
        If nothing has changed, nothing is written.

        Args:
            project_id: Number of the project.
            folder: Path of the folder, which is made if it does not exist.
            progress: Called with the Progress in images; while a blob is fetched, in bytes.

        Raises:
            ChecksumError: the bytes of a blob differ from the server's.
            StaleIndexError: the offsets of the images do not fit their blob.
            StorageError: the server refuses, or a file can't be written; or the folder holds another project.
            UnsafeNameError: an image has a name that no file can have.
        """
        check_whole("project_id", project_id)
        path = Path(local_path("folder", folder))
        check_callable("progress", progress)
        return download_project(
            self._rest, project_id, path, threads=self._threads, progress=progress
        )

    def _meta_of(self, project: Document) -> Document:
        meta: Document = self._rest.ask("projects.meta", {"id": project["id"]})
        check_classes(meta, f"{self._rest.address}: project {project['id']}")
        return meta

    def _annotate(
        self,
        dataset_id: int,
        annotations: Iterable[tuple[int, Document, object]],
        meta: Document,
        progress: ProgressCallback | None,
    ) -> int:
        def checked() -> Iterator[tuple[int, Document]]:
            for number, annotation, where in annotations:
                for fault in faults_of_annotation(annotation, meta):
                    raise FormatError(f"{where}: {fault}")
                yield number, annotation

        return add_annotations(
            self._rest, dataset_id, checked(), threads=self._threads, show=showing(progress)
        )

    def close(self) -> None:
        """Close the connections; closing twice is harmless."""
        self._rest.close()

    def __repr__(self) -> str:
        return f"<Client of {self._rest.address}>"


def _batches(
    images: Index | Iterable[BlobImageInfo] | BlobSource, size: int
) -> Iterable[list[BlobImageInfo]]:
    if isinstance(images, (Index, Reader, str, os.PathLike)):
        return offset_batches(images, None, size, form="objects")
    if not isinstance(images, Iterable):
        raise TypeError(f"images must be an index, a blob or BlobImageInfo, not {shown(images)}")
    return batches(map(_checked_info, images), size)


def _checked_info(info: object) -> BlobImageInfo:
    if not isinstance(info, BlobImageInfo):
        raise TypeError(f"images must be BlobImageInfo, and one is {shown(info)}")
    return info


def _check_offsets(path: Path) -> None:
    read_offsets(path)


def _check_team_file(team_file: object) -> None:
    if team_file is not None and not isinstance(team_file, TeamFile):
        check_whole("team_file", team_file)


def _check_metas(metas: object) -> None:
    if metas is not None and not isinstance(metas, Mapping):
        raise TypeError(f"metas must be a dict of dicts, not {shown(metas)}")


def _check_meta(meta: Document | None) -> None:
    if meta is None:
        return
    if not isinstance(meta, dict):
        raise TypeError(f"meta must be a dict or None, not {shown(meta)}")
    for fault in faults_of_meta(meta):
        raise ValueError(f"meta: {fault}")
