"""The result of making a collection."""

from __future__ import annotations

from dataclasses import dataclass

from blobpack.quoting import one_line
from blobpack.wording import counted


@dataclass(frozen=True, slots=True)
class CollectReport:
    """The result of collect.

    Attributes:
        url: Path or URL of the collection.
        blobs: Number of blobs in it.
        members: Number of members in these blobs.
        payload_bytes: Bytes of the members' payloads.
        collection_bytes: Bytes of the collection's file.
        members_behind: Blobs that have members behind the end of their archive, which the collection does not have.
        seconds: Time that collect took.
    """

    url: str
    blobs: int
    members: int
    payload_bytes: int
    collection_bytes: int
    members_behind: list[str]
    seconds: float

    def __str__(self) -> str:
        return (
            f"collected {counted(self.members, 'member')}, {counted(self.payload_bytes, 'byte')}, of {counted(self.blobs, 'blob')} in "
            f"{self.seconds:.2f} s: {one_line(self.url)}, {counted(self.collection_bytes, 'byte')}"
        )
