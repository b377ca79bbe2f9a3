"""References to payloads, as kerchunk writes them and fsspec's ReferenceFileSystem reads them: version 1 of their format.

Strategy: the references of a blob hold a template instead of its URL, so that the URL stands once, and a copy of the blob
elsewhere needs one change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.index.tables.places import places_of

if TYPE_CHECKING:
    from blobpack.index.tables.places import Urls
    from blobpack.index.tabular import TabularRows

VERSION = 1
# what begins a template in a URL; a URL that holds it can't be written as one
TEMPLATE = "{{"


def to_references(index: TabularRows, url: Urls | None = None) -> dict[str, Any]:
    """Return references to the members; see Index.to_references."""
    places = places_of(index, url)
    urls = [each if "://" in each else f"file://{each}" for each in places.urls]
    templates = _templates(urls)
    # without templates, the URLs are written as they are
    spelled = [f"{TEMPLATE}{name}}}}}" for name in templates] or urls
    starts = index.offset_start
    sizes = index.offset_end - starts
    references: dict[str, Any] = {}
    for name, number, start, size in zip(
        index.names, places.numbers.tolist(), starts.tolist(), sizes.tolist(), strict=True
    ):
        # an empty payload is written as such, because HTTP has no request for no bytes (RFC 9110, 14.1.1)
        references[name] = [spelled[number], start, size] if size else ""
    return {"version": VERSION, "templates": templates, "refs": references}


def _templates(urls: list[str]) -> dict[str, str]:
    """Return a name for each URL; none if a URL would be taken for a template itself."""
    if any(TEMPLATE in url for url in urls):
        return {}
    return {"u": urls[0]} if len(urls) == 1 else {f"u{i}": url for i, url in enumerate(urls)}
