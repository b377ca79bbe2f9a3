"""Names that a blob has already, refused before members of those names are appended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from blobpack._native.gather import recognise_image
from blobpack.errors import DuplicateNameError
from blobpack.packing.files import Skipped, Sources, filtered
from blobpack.packing.objects import Objects
from blobpack.packing.sources import narrowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.editing.blob_state import Before
    from blobpack.index.index import Index
    from blobpack.model import Payload
    from blobpack.packing.choices import Choices
    from blobpack.packing.sources import Found

HEAD_BYTES = 4096  # of a file, to tell whether it is an image


def without_taken(found: Found, before: Before, choices: Choices, skipped: Skipped) -> Found:
    """Refuse names that the blob has already: of files at once, of payloads as they come.

    Raises:
        DuplicateNameError: there is one.
    """
    if isinstance(found, Objects):
        found, _ = narrowed(found, choices, skipped)
    if not isinstance(found, Sources):
        return _checked(found, before.index)
    chosen = filtered(found, choices.globs, choices.exclude, Skipped())
    for path, name in zip(chosen.paths, chosen.names, strict=True):
        if os.fsdecode(name) in before.found:
            whole = os.path.join(found.root, path)  # noqa: PTH118 (bytes)
            if choices.all_files or _is_image(whole, name):
                _refuse(os.fsdecode(name))
    return found


def _checked(payloads: Iterable[Payload], index: Index) -> Iterator[Payload]:
    for name, payload in payloads:
        if name in index:
            _refuse(name)
        yield name, payload


def _refuse(name: str) -> NoReturn:
    raise DuplicateNameError(
        f"the blob has a member {name!r} already; with duplicates='last' the new one would count"
    )


def _is_image(path: bytes, name: bytes) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (bytes)
            return recognise_image(file.read(HEAD_BYTES), name)
    except OSError:
        return False  # packing it tells what is wrong
