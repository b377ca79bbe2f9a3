"""Check files for Encord: what Encord or its SDK refuses, and what they ignore without a message.

Strategy: the SDK checks only required keys and types of the form "items", and nothing at all of the other JSON form. An unknown
key, a URL with a space or a file that is too long shows up in the job, hours later, or never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blobpack.errors import FormatError
from blobpack.integrations.encord.form.check_csv import csv_problems
from blobpack.integrations.encord.form.client_metadata import check_fields
from blobpack.integrations.encord.form.kinds import (
    KINDS,
    OTHER_ITEMS_KEYS,
    Kind,
    camel,
    faults_of_media,
)
from blobpack.integrations.encord.form.problems import (
    Problem,
    counts_problems,
    title_problems,
    url_problems,
)
from blobpack.integrations.encord.form.read import (
    NUMBERED_URL,
    is_json,
    read_text,
    urls_of,
)
from blobpack.integrations.json_object import json_object
from blobpack.model import shown
from blobpack.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.integrations.encord.form.items import Document

FLAGS = ("skip_duplicate_urls", "upsert_metadata")
# keys that the SDK's models have, and that files do not need
IGNORED_KEYS = ("externalFileType", "placeholderItemUuid")


def check_registration(file: Mapping[str, Any] | str | os.PathLike[str]) -> list[Problem]:
    """Check a file for Encord, whichever program made it.

    Args:
        file: A dict; a text of JSON or CSV, which begins with "{" or holds a newline; or a path.

    Returns:
        The problems, in the order of the file; an empty list if there are none.

    Raises:
        FormatError: the file is not UTF-8.
        SourceError: the file can't be read.
        TypeError: this is none of these.
    """
    if isinstance(file, Mapping):
        return list(_of_document(dict(file)))
    is_text = isinstance(file, str) and (is_json(file) or "\n" in file)
    text = str(file).removeprefix("\ufeff") if is_text else read_text(file)
    try:
        if is_json(text):
            return list(_of_document(json_object(text, "the file")))
        return list(csv_problems(text))
    except FormatError as exc:
        return [Problem("", str(exc))]


def _of_document(document: Document) -> Iterator[Problem]:
    """Yield the problems of a JSON file of either form."""
    # both forms have some keys in common
    is_items = any(_is_camel(key) for key in document)
    known = {
        kind.items_key if is_items else kind.key: name for name, kind in reversed(KINDS.items())
    }
    flags = [camel(flag) if is_items else flag for flag in FLAGS]
    items = urls = 0
    for key, value in document.items():
        if key in flags:
            if not isinstance(value, bool):
                yield Problem(key, f"must be true or false, not {shown(value)}")
        elif is_items and key in OTHER_ITEMS_KEYS:
            items += len(value) if isinstance(value, list) else 0
        elif key not in known:
            form = "DataUploadItems" if is_items else "a JSON file"
            yield Problem(key, f"is no key of {form}, and is ignored")
        elif not isinstance(value, list):
            yield Problem(key, f"must be a list, not {shown(value)}")
        else:
            for number, item in enumerate(value):
                yield from _of_item(f"{key}[{number}]", item, KINDS[known[key]], is_items=is_items)
            items += len(value)
            urls += sum(len(urls_of(item)) for item in value if isinstance(item, dict))
    yield from counts_problems(items, urls)
    if document.get(flags[1]) is True and document.get(flags[0]) is not True:
        yield Problem(flags[1], f"has no effect without {flags[0]}")


def _is_camel(key: str) -> bool:
    items_keys = {kind.items_key for kind in KINDS.values()} - {kind.key for kind in KINDS.values()}
    return key in items_keys or key in OTHER_ITEMS_KEYS or key in map(camel, FLAGS)


def _of_item(where: str, item: object, kind: Kind, *, is_items: bool) -> Iterator[Problem]:
    if not isinstance(item, dict):
        yield Problem(where, f"must be an object, not {shown(item)}")
        return
    keys = {"title", "clientMetadata", *IGNORED_KEYS}
    if not kind.has_files:
        keys |= {"objectUrl", kind.media}
        yield from _of_file(where, item, "objectUrl", kind)
    else:
        keys.add("createVideo" if kind.key == "image_groups" else "title")
        if is_items:
            files_key = "images" if kind.key == "image_groups" else "dicomFiles"
            keys.add(files_key)
            yield from _of_files(where, item, files_key, kind)
        else:
            numbered = [key for key in item if NUMBERED_URL.fullmatch(key)]
            keys |= set(numbered)
            yield from _of_numbered(where, item, len(numbered))
        yield from _of_group(where, item, kind)
    for key in item:
        if key not in keys:
            yield Problem(where, f"{key!r} is no key of {_article(kind)}, and is ignored")
    yield from _of_metadata(where, item)


def _article(kind: Kind) -> str:
    return f"an item in {kind.key}"


def _of_group(where: str, item: Document, kind: Kind) -> Iterator[Problem]:
    # the SDK: "required if using cloud integration"
    if not isinstance(item.get("title"), str):
        yield Problem(where, "has no title")
    if kind.key == "image_groups" and not isinstance(item.get("createVideo", False), bool):
        yield Problem(where, f"createVideo must be true or false, not {shown(item['createVideo'])}")
    yield from title_problems(where, item)


def _of_files(where: str, item: Document, key: str, kind: Kind) -> Iterator[Problem]:
    files = item.get(key)
    if not isinstance(files, list) or not files:
        yield Problem(where, f"{key} must be a list of objects with a url")
        return
    for number, file in enumerate(files):
        place = f"{where}.{key}[{number}]"
        if not isinstance(file, dict):
            yield Problem(place, f"must be an object with a url, not {shown(file)}")
            continue
        yield from _of_file(place, file, "url", kind)
        for name in file:
            if name not in ("url", "title", kind.media, *IGNORED_KEYS):
                yield Problem(place, f"{name!r} is ignored")
        if key == "dicomFiles" and "title" not in file:
            yield Problem(place, "has no key title, which the SDK demands; null will do")


def _of_numbered(where: str, item: Document, count: int) -> Iterator[Problem]:
    if not count:
        yield Problem(where, "has no objectUrl_0")
    for number in range(count):
        key = f"objectUrl_{number}"
        if key not in item:
            yield Problem(where, f"has {counted(count, 'URL')}, but no {key}")
            return
        yield from url_problems(where, key, item[key])


def _of_file(where: str, file: Document, url_key: str, kind: Kind) -> Iterator[Problem]:
    yield from url_problems(where, url_key, file.get(url_key))
    yield from title_problems(where, file)
    if kind.media and file.get(kind.media) is not None:
        for fault in faults_of_media(kind.media, file[kind.media]):
            yield Problem(where, f"{kind.media} {fault}")


def _of_metadata(where: str, item: Document) -> Iterator[Problem]:
    if "clientMetadata" not in item:
        return
    try:
        check_fields(f"{where}.clientMetadata", item["clientMetadata"])
    except FormatError as exc:
        yield Problem("", str(exc))
