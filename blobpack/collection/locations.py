"""Where the shards of a collection lie: their names relative to its folder, and back."""

from __future__ import annotations

import os

from blobpack.errors import FormatError
from blobpack.stores.location import is_local


def folder_of(url: str) -> str:
    """Give the folder that a file or object lies in, with "/" at its end."""
    if is_local(url):
        return os.path.join(os.path.dirname(os.path.abspath(url)), "")  # noqa: PTH100, PTH118, PTH120
    return url[: url.rindex("/") + 1]


def name_from(folder: str, url: str) -> str:
    """Say where a blob lies, from a folder if it is below."""
    whole = os.path.abspath(url) if is_local(url) else url  # noqa: PTH100 (keeps links)
    name = whole.removeprefix(folder)
    return whole if name.startswith("/") or "://" in name or not name else name


def url_from(folder: str, name: str, where: str) -> str:
    """Find the blob that name_from wrote.

    Raises:
        FormatError: a collection far away names a local file, or one leads out of its folder by "..".
    """
    url = name if "://" in name or name.startswith("/") else folder + name
    is_far = "://" in folder
    try:
        leads_out = is_local(url) if is_far else url.startswith(folder) and ".." in name.split("/")
    except ValueError as exc:
        raise FormatError(f"{where}: a blob at {name!r}: {exc}") from exc
    if leads_out:
        raise FormatError(f"{where}: a blob at {name!r}, which no collection there may name")
    return url
