"""Download a project with its blobs: each blob once, whole, and its images as offsets.

Strategy: a journal in the project's folder records which images were downloaded, and the time of each one's last change. A
second run lists the images, fetches those that are new or have changed on the server, and removes those that the server no
longer has. Each file is written whole, and only if it differs.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.errors import FormatError, StorageError
from blobpack.foreign.headers import check_headers
from blobpack.index.index import Index
from blobpack.index.tables.offsets import read_offsets
from blobpack.integrations.supervisely.annotations import as_json
from blobpack.integrations.supervisely.documents import META_KEYS
from blobpack.integrations.supervisely.layout import (
    ANNOTATIONS,
    BLOB_SUFFIX,
    BLOBS,
    IMAGE_META,
    IMAGES,
    JSON_SUFFIX,
    META_FILE,
    OFFSETS_SUFFIX,
    README_FILE,
    check_image_name,
    dataset_folder,
    is_plain,
)
from blobpack.integrations.supervisely.readme import readme
from blobpack.integrations.supervisely.server.blob_download import check_digest, download
from blobpack.integrations.supervisely.server.files import file_of, showing
from blobpack.integrations.supervisely.server.images import images_of
from blobpack.integrations.supervisely.server.labels import read_annotations
from blobpack.integrations.supervisely.server.upload import datasets_of
from blobpack.look_ahead import map_ahead
from blobpack.model import Member
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.output import hidden_path, translate_write_errors
from blobpack.wording import counted
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.server.rest import Rest
    from blobpack.progress import ProgressCallback

JOURNAL = ".blobpack-download.jsonl"


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """The result of download_project.

    Attributes:
        folder: Path of the project.
        datasets: Name of each dataset, with the number of its images.
        fetched: Number of images whose annotations were fetched; the others were there already.
        blobs: Number of blobs that were fetched.
    """

    folder: str
    datasets: dict[str, int]
    fetched: int
    blobs: int

    @property
    def images(self) -> int:
        """Number of all images."""
        return sum(self.datasets.values())

    def __str__(self) -> str:
        return (
            f"downloaded {counted(self.images, 'image')} in {counted(len(self.datasets), 'dataset')} to {self.folder}: "
            f"{counted(self.blobs, 'new blob')}, {counted(self.fetched, 'new or changed annotation')}"
        )


def download_project(
    rest: Rest,
    project_id: int,
    folder: Path,
    *,
    threads: int,
    progress: ProgressCallback | None,
) -> DownloadReport:
    """Download a project; see Client.download_project."""
    with translate_write_errors(folder):
        (folder / BLOBS).mkdir(parents=True, exist_ok=True)
        return _Download(rest, project_id, folder, threads, progress).run()


class _Download:
    def __init__(
        self,
        rest: Rest,
        project_id: int,
        folder: Path,
        threads: int,
        progress: ProgressCallback | None,
    ) -> None:
        self._rest = rest
        self._project_id = project_id
        self._folder = folder
        self._threads = threads
        self._progress = progress
        self._journal = _Journal(folder / JOURNAL, f"{rest.address} {project_id}")
        self._fetched = 0
        self._blobs = 0

    def run(self) -> DownloadReport:
        """Download everything."""
        project = self._rest.ask("projects.info", {"id": self._project_id})
        meta = self._rest.ask("projects.meta", {"id": self._project_id})
        kept = {key: meta[key] for key in (*META_KEYS, "projectType") if key in meta}
        write_if_new(self._folder / META_FILE, as_json(kept))
        listed = self._list_datasets()
        self._show = showing(self._progress, sum(map(len, listed.values())))
        files: dict[str, tuple[list[str], list[str]]] = {}
        for (name, dataset_id), images in listed.items():
            offsets = self._write_dataset(name, dataset_id, images)
            files[name] = (offsets, [image["name"] for image in images])
        blobs = {
            path.name: path.stat().st_size
            for path in sorted((self._folder / BLOBS).glob(f"*{BLOB_SUFFIX}"))
        }
        write_if_new(
            self._folder / README_FILE, readme(project["name"], meta, blobs, files).encode()
        )
        return DownloadReport(
            str(self._folder),
            {name: len(titles) for name, (_, titles) in files.items()},
            self._fetched,
            self._blobs,
        )

    def _list_datasets(self) -> dict[tuple[str, int], list[Document]]:
        """Return the images of each dataset, by its name and number."""
        names: dict[int, str] = {}
        listed: dict[tuple[str, int], list[Document]] = {}
        # a dataset is made before those that are nested in it
        for dataset in sorted(
            datasets_of(self._rest, self._project_id), key=lambda each: each["id"]
        ):
            if not is_plain(dataset["name"]):
                raise FormatError(
                    f"{self._rest.address}: a dataset is named {dataset['name']!r}, as no folder can be"
                )
            parent = names.get(dataset.get("parentId") or 0)
            name = f"{parent}/{dataset['name']}" if parent else dataset["name"]
            names[dataset["id"]] = name
            images = list(images_of(self._rest, dataset["id"]))
            for image in images:
                check_image_name(image["name"], f"{self._rest.address}: dataset {name}")
            listed[name, dataset["id"]] = images
        return listed

    def _write_dataset(self, name: str, dataset_id: int, images: list[Document]) -> list[str]:
        """Write a dataset, and return the names of its offsets files."""
        folder = dataset_folder(self._folder, name)
        (folder / ANNOTATIONS).mkdir(parents=True, exist_ok=True)
        by_blob: dict[int, list[Document]] = {}
        singles: list[Document] = []
        for image in images:
            blob_id = image.get("relatedDataId")
            (singles if blob_id is None else by_blob.setdefault(blob_id, [])).append(image)
        for blob_id, some in by_blob.items():
            index = Index(
                Member(each["name"], each["offsetStart"], each["offsetEnd"]) for each in some
            )
            self._fetch_blob(blob_id, some[0]["downloadId"], index)
            _write_offsets_if_new(folder / f"{blob_id}{OFFSETS_SUFFIX}", index)
        offsets = [f"{blob_id}{OFFSETS_SUFFIX}" for blob_id in by_blob]
        for path in folder.glob(f"*{OFFSETS_SUFFIX}"):
            if path.name not in offsets:
                path.unlink()
        self._fetch_images(folder, singles)
        self._fetch_annotations(folder, name, dataset_id, images)
        self._remove(folder, name, {image["name"] for image in images})
        return offsets

    def _fetch_blob(self, blob_id: int, download_id: str, index: Index) -> None:
        target = self._folder / BLOBS / f"{blob_id}{BLOB_SUFFIX}"
        # the file exists only after it was verified
        if target.exists():
            return
        file = file_of(self._rest, blob_id)

        def verify(path: Path) -> None:
            check_digest(path, file.size, file.sha256)
            with LocalStore(Location.parse(path)) as store:
                check_headers(store, index, f"{self._rest.address}: dataset")

        fetch_blob(self._rest, self._project_id, download_id, target, verify, self._progress)
        self._blobs += 1

    def _fetch_images(self, folder: Path, images: list[Document]) -> None:
        """Fetch images that are files of their own."""
        wanted = [image for image in images if not (folder / IMAGES / image["name"]).exists()]
        if wanted:
            (folder / IMAGES).mkdir(exist_ok=True)

        def fetch(image: Document) -> None:
            download(
                self._rest,
                "images.download",
                {"id": image["id"]},
                folder / IMAGES / image["name"],
                verify=lambda path: check_digest(path, -1, image.get("hash") or ""),
            )

        for _ in map_ahead(fetch, wanted, threads=self._threads, most=2 * self._threads):
            pass

    def _fetch_annotations(
        self, folder: Path, name: str, dataset_id: int, images: list[Document]
    ) -> None:
        done = self._journal.images.get(name, {})
        wanted = [
            image
            for image in images
            if done.get(image["name"], "") != _time_of(image)
            or not (folder / ANNOTATIONS / f"{image['name']}{JSON_SUFFIX}").exists()
        ]
        self._show(len(images) - len(wanted))
        for batch in read_annotations(self._rest, dataset_id, wanted, self._threads):
            for image, annotation in batch:
                path = folder / ANNOTATIONS / f"{image['name']}{JSON_SUFFIX}"
                write_if_new(path, as_json(annotation))
                if image.get("meta"):
                    (folder / IMAGE_META).mkdir(exist_ok=True)
                    write_if_new(
                        folder / IMAGE_META / f"{image['name']}{JSON_SUFFIX}",
                        as_json(image["meta"]),
                    )
            self._journal.note(name, {image["name"]: _time_of(image) for image, _ in batch})
            self._fetched += len(batch)
            self._show(len(batch))

    def _remove(self, folder: Path, name: str, there: set[str]) -> None:
        """Remove the files of images that an earlier run has downloaded and that the server no longer has."""
        for title in self._journal.images.get(name, {}).keys() - there:
            for path in (
                folder / ANNOTATIONS / f"{title}{JSON_SUFFIX}",
                folder / IMAGE_META / f"{title}{JSON_SUFFIX}",
                folder / IMAGES / title,
            ):
                path.unlink(missing_ok=True)


def fetch_blob(
    rest: Rest,
    project_id: int,
    download_id: str,
    target: Path,
    verify: Callable[[Path], None],
    progress: ProgressCallback | None,
) -> None:
    """Download a blob of a project."""
    fields = {"projectId": project_id, "downloadId": download_id}
    download(rest, "images.data.download", fields, target, verify=verify, progress=progress)


def _time_of(image: Document) -> str:
    return image.get("updatedAt") or ""


class _Journal:
    """A file of the images that were fetched: a line for each batch, with the time of each image.

    Attributes:
        images: Of each dataset, the images that were fetched, and their times.
    """

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._head = json.dumps({"source": source})
        self.images: dict[str, dict[str, str]] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        if lines and lines[0] != self._head:
            raise StorageError(f"{path.parent}: holds another project, as {path.name} says")
        for line in lines[1:]:
            # a process that is killed may leave half of a line
            with suppress(ValueError):
                for name, images in json.loads(line).items():
                    self.images.setdefault(name, {}).update(images)
        self._is_whole = bool(lines) and not lines[-1]

    def note(self, name: str, images: dict[str, str]) -> None:
        """Add images that are on disk."""
        line = json.dumps({name: images}) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(f"{self._head}\n")
            elif not self._is_whole:
                file.write("\n")
            file.write(line)
        self._is_whole = True
        self.images.setdefault(name, {}).update(images)


def write_if_new(path: Path, data: bytes) -> None:
    """Write a file whole, unless it holds these bytes already."""
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    # not synced: a download that a power failure has cut off is repeated
    temporary = hidden_path(path, os.urandom(6).hex())
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_offsets_if_new(path: Path, index: Index) -> None:
    with suppress(FormatError, FileNotFoundError):
        if read_offsets(path) == index:
            return
    write_offsets(index, path)
