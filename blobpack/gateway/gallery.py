"""The gallery: one HTML page that shows the members of blobs, and reads them by ranged GETs.

Strategy: the page contains everything that it needs: its style, its scripts, and the reader of `static/blobpack.js`. So it
can be put on any web server. Each JavaScript module becomes a function in one script, because a page in one file can't
import others. A Content-Security-Policy allows only that script, by its hash, and connections to the origins of the blobs.
So even if a member's name or bytes were taken for code, the browser would not run them.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from blobpack.errors import StorageError
from blobpack.foreign.index_command import index_command
from blobpack.indexfile.open import INDEX
from blobpack.opening.find_index import embedded_index, first_found, sidecar_index
from blobpack.opening.kind import collection_location, kind_of
from blobpack.stores.access.objects import put_object
from blobpack.stores.location import Location
from blobpack.stores.open import open_store, open_tar
from blobpack.stores.output import replacing
from blobpack.stores.replace import OutputKind, check_replaceable, check_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.stores.base import Store

STATIC = Path(__file__).with_name("static")
ENTRY = "gallery.js"
MEDIA_TYPE = "text/html; charset=utf-8"
# the first lines of every gallery
MARK = b'<meta name="generator" content="blobpack gallery">'
HEAD_BYTES = 1024

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)


def _is_gallery(store: Store) -> bool:
    return MARK in store.read_range(0, min(HEAD_BYTES, store.size))


GALLERY = OutputKind("gallery", _is_gallery)


class ShownBlob(NamedTuple):
    """A blob or collection that a gallery shows.

    Attributes:
        name: The name that people see.
        url: Where the browser reads the blob's bytes: an http(s):// URL, or one relative to the page.
        s3: The s3:// URL of the blob; "" if it is not known.
        endpoint: URL of the S3 server, if the server is not AWS.
        size: Bytes of the file that the URL names, as far as they are known; the browser then sends one request less.
    """

    name: str
    url: str
    s3: str = ""
    endpoint: str = ""
    size: int = 0

    def located(self, blob: Location | None) -> ShownBlob:
        """Return this blob with its place in S3, if it lies there."""
        if blob is None or not blob.is_s3:
            return self
        return self._replace(s3=blob.whole, endpoint=_custom_endpoint(blob))


class WrittenGallery(NamedTuple):
    """A gallery that was written.

    Attributes:
        page: The file or object.
        address: Where a browser finds it; "" for a local file.
        blob: URL of the blob, as the page has it.
    """

    page: Location
    address: str
    blob: str


def page(blobs: Sequence[ShownBlob]) -> bytes:
    """Return a page that shows blobs: HTML in UTF-8, which needs no other file."""
    script = _as_one_script()
    style = _style()
    settings = json.dumps({"blobs": [blob._asdict() for blob in blobs]})
    parts = {
        "policy": escape(_policy(blobs, script, style)),
        "title": escape(blobs[0].name if len(blobs) == 1 else "blobpack"),
        "style": style,
        # "</script>" in a name would end the element; JSON has an escape for each character
        "settings": settings.replace("<", "\\u003c"),
        "script": script,
    }
    html = (STATIC / "gallery.html").read_text()
    whole = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], html)
    # a name in the title may have bytes that are not UTF-8
    return whole.encode("utf-8", "replace")


def write_gallery(
    blob: Location, target: Location | None = None, *, url: str = "", force: bool = False
) -> WrittenGallery:
    """Write the page that shows a blob or collection.

    Args:
        blob: The blob or collection, or the folder or prefix of a collection. A blob must have an index that a browser
            can read.
        target: The file or object to write; None: beside the blob, named as the blob, with the suffix .html.
        url: Where browsers read the blob; "": beside the page, if the page lies beside it, else at the blob's own URL.
        force: Replace a file that is not a gallery.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the blob has no index that a browser can read, the page can't be written, or would replace a file
            that is not a gallery.
        ValueError: the suffix of the target promises another format, or the blob's address in a browser is not known.
    """
    blob = _file_of(blob)
    target = target or _page_beside(blob)
    check_suffix("target", target, GALLERY, force=force)
    address = url or _url_from(blob, target)
    shown = ShownBlob(_name_of(blob), address, size=_readable_bytes(blob)).located(blob)
    check_replaceable(target, GALLERY, force=force)
    written = page([shown])
    if target.is_local:
        with replacing(target) as file:
            file.write(written)
        return WrittenGallery(target, "", shown.url)
    put_object(target, written, MEDIA_TYPE)
    return WrittenGallery(target, _web_url(target) if target.is_s3 else "", shown.url)


def _file_of(blob: Location) -> Location:
    """Return the blob, or the file of the collection in a folder or prefix."""
    kind = kind_of(blob)
    return blob if kind == "blob" else collection_location(blob, kind)


def _page_beside(blob: Location) -> Location:
    if blob.kind == "http":
        return Location(f"{_stem(blob.path_or_name)}.html", "local", blob.access)
    folder, slash, name = blob.address.rpartition("/")
    return Location(f"{folder}{slash}{_stem(name)}.html", blob.kind, blob.access)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0] or "gallery"  # noqa: PTH122 (a name and no path)


def _name_of(blob: Location) -> str:
    return blob.path_or_name.rpartition("/")[2]


def _url_from(blob: Location, target: Location) -> str:
    """Return the URL of a blob for a page: relative if they lie on one server, so that both can move together."""
    if blob.is_local and target.is_local:
        folder = os.path.dirname(os.path.abspath(target.path))  # noqa: PTH100, PTH120 (keeps links)
        return _quoted(os.path.relpath(blob.path, folder))
    if blob.has_key and target.has_key and blob.folder == target.folder:
        return _quoted(_name_of(blob))
    if blob.is_s3:
        return _web_url(blob)
    if blob.kind == "http":
        return blob.whole
    if blob.kind == "cloud":
        raise ValueError(f"a page elsewhere can't read {blob} by this URL: name its https:// URL")
    raise ValueError(f"{blob} is a local file, which a page in S3 can't read: name its URL")


def _web_url(place: Location) -> str:
    from blobpack.stores.s3.bucket import ObjectKey

    return ObjectKey.at(place).web_url()


def _quoted(path: str) -> str:
    # "./", because a colon in the first part of a relative URL would end a scheme (RFC 3986, 4.2)
    return "./" + quote(os.fsencode(path))


def _custom_endpoint(blob: Location) -> str:
    from blobpack.stores.s3.client import client_of

    endpoint = str(client_of(blob.access.s3).meta.endpoint_url)
    return "" if (urlsplit(endpoint).hostname or "").endswith(".amazonaws.com") else endpoint


def _readable_bytes(blob: Location) -> int:
    """Check that a browser can read a blob, not compressed and with an index, and return the blob's size."""
    if kind_of(blob) == "collection":
        with open_store(blob, tail=True) as store:
            if INDEX.recognise(store):
                raise StorageError(f"{blob}: this is the index of one blob: name the blob itself")
            return store.size
    with open_tar(blob, tail=True) as store:
        if store.is_compressed:
            raise StorageError(
                f"{blob}: a browser can't read compressed blobs; `blobpack repack` makes a plain one"
            )
        if first_found(store, embedded_index, sidecar_index) is None:
            raise StorageError(
                f"{blob} has no index, without which a browser can't find members; "
                f"{index_command(blob) or f'`blobpack index {blob} -o FILE`'} makes one"
            )
        return store.size


def _policy(blobs: Sequence[ShownBlob], script: str, style: str) -> str:
    """Return the Content-Security-Policy of a page."""
    origins = {
        f"{parts.scheme}://{parts.netloc}"
        for parts in (urlsplit(blob.url) for blob in blobs)
        if parts.scheme
    }
    rules = {
        "default-src": ["'none'"],
        "script-src": [_source_of(script)],
        "style-src": [_source_of(style)],
        # pictures are made of bytes that the script has read and checked
        "img-src": ["blob:"],
        "connect-src": ["'self'", *sorted(origins)],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in rules.items())


def _source_of(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _style() -> str:
    return (STATIC / "gallery.css").read_text()


@cache
def _as_one_script() -> str:
    """Return the gallery's modules as one script: each one is a function that returns what it exports."""
    functions: dict[str, str] = {}
    _add_module(ENTRY, functions)
    script = "".join(
        f"const {_variable(name)} = (() => {{\n{text}}})();\n" for name, text in functions.items()
    )
    return f"\n{script}"


def _add_module(name: str, functions: dict[str, str]) -> None:
    """Add a module behind the modules that it imports."""
    if name in functions:
        return
    text = (STATIC / name).read_text()
    for found in IMPORT.finditer(text):
        _add_module(found[2], functions)
    exported = ", ".join(EXPORT.findall(text))
    text = IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};\n", text)
    functions[name] = f"{EXPORT.sub('', text)}return {{ {exported} }};\n"


def _variable(module: str) -> str:
    return f"module_{module.removesuffix('.js')}"
