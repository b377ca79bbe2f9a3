"""Ids of rows, as the folder builders of Pixano 0.6 and 0.7 make them: random, or of the names of images."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import shortuuid

if TYPE_CHECKING:
    from blobpack.integrations.pixano.blob_folder import FolderRecord
    from blobpack.model import Member


class NewIds:
    """Makes ids that lines do not have."""

    def __init__(self, kind: str, *, use_image_names: bool) -> None:
        """Make ids.

        Args:
            kind: What Pixano calls a record: "item" or "record".
            use_image_names: Make ids of the names of images and the numbers of records, and no random ids.
        """
        self._kind, self._uses_names = kind, use_image_names

    def record(self, record: FolderRecord) -> str:
        """Return the id of a record."""
        if record.is_bare:
            return stem_of(next(iter(record.images.values())))
        if self._uses_names:
            return f"{self._kind}_{record.split}_{record.number}"
        return new_id()

    def view(self, record_id: str, view: str, member: Member) -> str:
        """Return the id of an image."""
        return stem_of(member) if self._uses_names else new_id()

    def below(self, owner: str, kind: str, number: int) -> str:
        """Return the id of an object or annotation; these are always random."""
        return new_id()


def new_id() -> str:
    """Return a random id, as Pixano makes them."""
    made: str = shortuuid.uuid()
    return made


def stem_of(member: Member) -> str:
    """Return the name of an image's file without its suffix."""
    return PurePosixPath(member.name).stem
