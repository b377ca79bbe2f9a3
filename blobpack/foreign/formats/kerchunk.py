"""References of kerchunk, as fsspec's ReferenceFileSystem reads them: key → [URL, offset, size].

Version 0 is that object; version 1 has it as "refs", and "templates" for parts of URLs. Values of other shapes are data in the
file itself, or whole files, and are no members. blobpack writes an empty payload as such data. Nothing is recorded about the
tars.
"""

from __future__ import annotations

import json
import re
from array import array
from typing import TYPE_CHECKING, Any

from blobpack.foreign.fit import ForeignRows, fit
from blobpack.foreign.same_tar import same_tar
from blobpack.index.index import Index
from blobpack.index.tables.references import to_references

if TYPE_CHECKING:
    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.stores.base import Store

TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
# A template may be long, and each URL may have it many times: a file of a megabyte could fill gigabytes of memory.
FILLED_MAX = 1 << 28


def matches(file: IndexFile) -> bool:
    """Return whether a file is an object of references."""
    found = file.json
    if not isinstance(found, dict):
        return False
    if isinstance(found.get("refs"), dict) and "version" in found:
        return True
    # Version 0 has nothing that names the format, so the shape of all values decides.
    return all(isinstance(value, list | str) for value in found.values())


def read(file: IndexFile, store: Store) -> Index:
    """Read the references to one tar; see table.py."""
    found = file.json
    templates: Any = {}
    if isinstance(found.get("refs"), dict):
        if found.get("gen"):
            raise file.fault("it generates references by templates of Jinja, which are not read")
        templates, found = found.get("templates") or {}, found["refs"]
    if not isinstance(templates, dict):
        raise file.fault("its templates are no object")
    # [URL] alone is a whole file
    ranges = [
        (key, value) for key, value in found.items() if isinstance(value, list) and len(value) == 3
    ]
    urls: dict[object, str] = {}
    left = FILLED_MAX
    for key, (url, _, _) in ranges:
        if not isinstance(url, str):
            raise file.fault(f"{key!r} has the URL {url!r}, expected text")
        # Each URL is filled in once, because a tar may have millions of references.
        if url not in urls:
            urls[url] = _filled(url, templates, file, left)
            left -= max(0, len(urls[url]) - len(url))
    # A tar without members, or with empty ones only, has such references; see to_references.
    if found is not file.json and not any(found.values()):
        return Index()
    if not urls:
        raise file.fault("it has no reference to a part of a file")
    wanted = same_tar(dict.fromkeys(urls.values()), store, file)
    return fit(_rows([each for each in ranges if urls[each[1][0]] == wanted], file), file, store)


def _rows(ranges: list[tuple[str, Any]], file: IndexFile) -> ForeignRows:
    start, end = array("q"), array("q")
    for key, (_, offset, size) in ranges:
        begin = file.checked(key, offset, "offset")
        start.append(begin)
        last = begin + file.checked(key, size, "size")
        end.append(file.checked(key, last, "offset and size that end at"))
    return ForeignRows([key for key, _ in ranges], start, end)


def _filled(url: str, templates: dict[str, Any], file: IndexFile, most: int) -> str:
    """Put the texts of templates into a URL: at most so many characters."""

    def text(found: re.Match[str]) -> str:
        nonlocal most
        value = templates.get(found[1])
        if not isinstance(value, str):
            raise file.fault(f"URL {url!r} has the template {found[1]!r}, which is no text there")
        most -= len(value)
        if most < 0:
            raise file.fault(f"its templates fill URLs of more than {FILLED_MAX:,} characters")
        return value

    # without templates, fsspec fills nothing in, either: braces are part of a name
    return TEMPLATE.sub(text, url) if templates else url


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write references; see table.py."""
    made = [to_references(blob.index, blob.name) for blob in blobs]
    refs: dict[str, object] = {}
    for one in made:
        # each of them has the URL of its blob as the only template
        url = one["templates"].get("u") if len(made) > 1 else None
        for name, value in one["refs"].items():
            refs[name] = [url, *value[1:]] if url and value else value
    templates = made[0]["templates"] if len(made) == 1 else {}
    return json.dumps({**made[0], "templates": templates, "refs": refs}).encode(), len(refs)
