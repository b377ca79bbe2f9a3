"""Calls of Encord's SDK, which is imported only here, and its errors as ours."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from blobpack.errors import PackageMissingError, SourceError, StorageError
from blobpack.integrations.encord.form.kinds import KINDS, OTHER_ITEMS_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.integrations.encord.form.items import Document

# where the SDK looks for the key
KEY_VARIABLES = ("ENCORD_SSH_KEY_FILE", "ENCORD_SSH_KEY")
# keys of the form "items" alone
ITEMS_KEYS = {kind.items_key for kind in KINDS.values()} - {kind.key for kind in KINDS.values()} | {
    "skipDuplicateUrls",
    "upsertMetadata",
    *OTHER_ITEMS_KEYS,
}


@contextmanager
def translated_errors(domain: str) -> Iterator[None]:
    """Turn errors of the SDK into StorageErrors."""
    try:
        from encord.exceptions import EncordException
    except ImportError as exc:
        raise PackageMissingError(
            f"Encord's SDK is needed here, and can't be imported ({exc}): pip install encord"
        ) from exc
    try:
        yield
    except EncordException as exc:
        # the SDK raises some errors without a message
        text = getattr(exc, "message", "") or type(exc).__name__
        raise StorageError(f"{domain}: {text}") from exc


def connected(key: str | None, domain: str) -> Any:
    """Return a client of the SDK.

    Raises:
        SourceError: the file of the key can't be read.
        ValueError: there is no key, or it is no private Ed25519 key of OpenSSH.
    """
    from encord import EncordUserClient

    if key is None and not any(os.environ.get(name) for name in KEY_VARIABLES):
        raise ValueError(
            f"key must be the path of your private SSH key, if neither {KEY_VARIABLES[0]} nor {KEY_VARIABLES[1]} is set"
        )
    try:
        return EncordUserClient.create_with_ssh_private_key(ssh_private_key_path=key, domain=domain)
    except OSError as exc:
        raise SourceError(f"{key}: can't be read: {exc.strerror}", paths=(str(key),)) from exc
    # from None, because the SDK's message holds the key
    except ValueError:
        raise ValueError(
            f"key {key or 'of the environment'!r} is no private Ed25519 key of OpenSSH without password"
        ) from None


def integration_of(client: Any, integration: str) -> str:
    """Return the id of an integration.

    Raises:
        StorageError: none or several have the title.
    """
    if _is_id(integration):
        return integration
    found = client.get_cloud_integrations()
    ids = [str(each.id) for each in found if each.title == integration]
    if len(ids) != 1:
        titles = ", ".join(sorted(repr(each.title) for each in found)) or "none"
        what = "several integrations have" if ids else "no integration has"
        raise StorageError(f"{what} the title {integration!r}; your account has {titles}")
    return ids[0]


def folder_of(client: Any, folder: str) -> tuple[Any, bool]:
    """Return a folder, and whether it was made."""
    if _is_id(folder):
        return client.get_storage_folder(folder), False
    # the search also finds folders whose names contain the text
    for found in client.list_storage_folders(search=folder):
        if found.name == folder:
            return found, False
    return client.create_storage_folder(folder), True


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def run_job(
    folder: Any, integration: str, document: Document, *, ignore_errors: bool, wait: bool
) -> tuple[str, str, int, list[str]]:
    """Start a job, and wait for its end.

    Returns:
        The job's id, its status, the number of items that it has registered, and its errors.
    """
    from encord.orm.storage import DataUploadItems

    is_items = not ITEMS_KEYS.isdisjoint(document)
    # not as a text or a TextIO: of a dict, the SDK sends exactly what was checked
    files = DataUploadItems.from_dict(document) if is_items else document
    job = folder.add_private_data_to_folder_start(integration, files, ignore_errors=ignore_errors)
    if not wait:
        return str(job), "PENDING", 0, []
    state = folder.add_private_data_to_folder_get_result(job)
    errors = [*map(str, state.errors)]
    errors += [f"{', '.join(each.object_urls[:1])}: {each.error}" for each in state.unit_errors]
    return str(job), str(state.status.value), len(state.items_with_names), errors
