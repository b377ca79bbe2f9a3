"""Register files with Encord through its SDK: find or make the folder, and start a job for each file.

Strategy: everything that can be checked here is checked before the first request, because a job that fails has to be looked up
in Encord. The SDK is imported only here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blobpack.errors import FormatError, SourceError
from blobpack.integrations.encord.form.check import check_registration
from blobpack.integrations.encord.form.read import is_json, read_text
from blobpack.integrations.encord.sdk import (
    connected,
    folder_of,
    integration_of,
    run_job,
    translated_errors,
)
from blobpack.integrations.json_object import json_object
from blobpack.model import check_callable, check_flag, check_text, shown
from blobpack.progress import Progress
from blobpack.stores.arguments import is_place, local_path
from blobpack.wording import counted

if TYPE_CHECKING:
    import os

    from blobpack.integrations.encord.form.items import Document
    from blobpack.progress import ProgressCallback

    File = Mapping[str, Any] | str | os.PathLike[str]

DOMAIN = "https://api.encord.com"
PROBLEMS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Job:
    """A job of Encord, which registers the items of one file.

    Attributes:
        file: Path of the file, or its number.
        id: Id of the job.
        status: "DONE", "ERROR", "CANCELLED" or "PENDING", as Encord reports it.
        items: Number of items that are registered.
        errors: Encord's messages about items that are not.
    """

    file: str
    id: str
    status: str
    items: int
    errors: list[str]


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """The result of register.

    Attributes:
        folder: Id of the folder in Encord.
        name: Its name.
        is_new: Whether it was made.
        jobs: The jobs, in the order of the files.
    """

    folder: str
    name: str
    is_new: bool
    jobs: list[Job]

    @property
    def failed(self) -> list[Job]:
        """The jobs that ended with errors."""
        return [job for job in self.jobs if job.errors or job.status in ("ERROR", "CANCELLED")]

    def __str__(self) -> str:
        items = counted(sum(job.items for job in self.jobs), "item")
        text = f"registered {items} in the {'new ' if self.is_new else ''}folder {self.name!r} by {counted(len(self.jobs), 'job')}"
        waiting = sum(job.status == "PENDING" for job in self.jobs)
        if waiting:
            text += f", {waiting} still running"
        return text


def register(
    files: Iterable[File] | File,
    *,
    integration: str,
    folder: str,
    key: str | os.PathLike[str] | None = None,
    domain: str = DOMAIN,
    ignore_errors: bool = False,
    wait: bool = True,
    progress: ProgressCallback | None = None,
) -> RegisterReport:
    """Register files with Encord, each by a job of its own.

    Files are checked by check_registration before they are sent. Paths are all checked before the first request.

    Args:
        files: Paths, or dicts, such as a Registration yields; or one of them; or the path of a folder of JSON files.
        integration: Id or title of the integration in Encord that reads the URLs.
        folder: Id of a folder in Encord; or the name of one at the top level, which is made if there is none.
        key: Path of the private SSH key of your Encord account. None: that of ENCORD_SSH_KEY_FILE or ENCORD_SSH_KEY.
        domain: Address of Encord's API; `https://api.us.encord.com` in the US.
        ignore_errors: Let a job register what it can, if some of its items fail.
        wait: Wait until each job ends. Otherwise its status is "PENDING", and Encord goes on alone.
        progress: Called with the Progress in files after each job.

    Raises:
        FormatError: a file has problems; the message shows the first ones.
        PackageMissingError: the SDK is not installed.
        SourceError: a file can't be read, or there are none.
        StorageError: Encord refused a request or can't be reached, or there is no such integration.
        TypeError: an argument has a wrong type.
        ValueError: there is no key, or it is no private Ed25519 key of OpenSSH; or a file is a CSV, which the SDK can't send.
    """
    for name, value in (("integration", integration), ("folder", folder), ("domain", domain)):
        check_text(name, value)
        if not value:
            raise ValueError(f"{name} must not be empty")
    check_flag("ignore_errors", ignore_errors)
    check_flag("wait", wait)
    check_callable("progress", progress)
    key_path = None if key is None else local_path("key", key)
    given = _files_of(files)
    if isinstance(given, list):
        for file in given:
            _checked(file, "")
    with translated_errors(domain):
        client = connected(key_path, domain)
        using = integration_of(client, integration)
        target, is_new = folder_of(client, folder)
        jobs = []
        for number, file in enumerate(given, 1):
            name, document = _checked(file, f"file {number}")
            done = run_job(target, using, document, ignore_errors=ignore_errors, wait=wait)
            jobs.append(Job(name, *done))
            if progress:
                progress(Progress(number, 0, len(given) if isinstance(given, list) else None))
        return RegisterReport(str(target.uuid), str(target.name), is_new, jobs)


def _files_of(files: Iterable[File] | File) -> list[File] | Iterable[File]:
    """Return what to send, a list if all of it is there already.

    Raises:
        SourceError: there are no files.
    """
    if isinstance(files, Mapping):
        return [files]
    if is_place(files):
        path = Path(local_path("files", files))
        if not path.is_dir():
            return [path]
        found: list[File] = [*sorted(path.glob("*.json"))]
        if not found:
            raise SourceError(f"{path}: there are no .json files", paths=(str(path),))
        return found
    if not isinstance(files, Iterable):
        raise TypeError(f"files must be paths or dicts, not {shown(files)}")
    return list(files) if isinstance(files, (list, tuple)) else files


def _checked(file: File, name: str) -> tuple[str, Document]:
    """Read and check a file; return its name and its content."""
    if isinstance(file, Mapping):
        document = dict(file)
    else:
        name = local_path("files", file)
        text = read_text(name)
        if not is_json(text):
            raise ValueError(
                f"{name} is a CSV, and the SDK sends only JSON: upload it in Encord's web page"
            )
        document = json_object(text, name)
    problems = check_registration(document)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:PROBLEMS_SHOWN])
        raise FormatError(f"{name}: {counted(len(problems), 'problem')}:{listed}")
    return name, document
