"""What pack, append, merge, subset and collect tell of what they did; each prints as a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.writing.embed import IndexPlace

EXAMPLES = 3  # of each reason, printed


@dataclass(frozen=True, slots=True)
class PackReport:
    """What pack did.

    Attributes:
        members: Files packed.
        payload_bytes: Their bytes.
        blob_bytes: The blob's.
        skipped: Reason → how many files were left out for it.
        examples: Reason → the first few of them.
        seconds: How long it took.
        index: The blob's members.
        dry_run: Nothing was written.
        shards: How many blobs were written.
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    dry_run: bool = False
    shards: int = 1

    @property
    def megabytes_per_second(self) -> float:
        """Payload bytes a second, in units of 1,000,000."""
        return _rate(self.payload_bytes, self.seconds)

    def __str__(self) -> str:
        done = "would pack" if self.dry_run else "packed"
        return (
            f"{done} {self.members:,} members, {self.payload_bytes:,} bytes, into {self.blob_bytes:,} bytes "
            f"{f'of {self.shards:,} blobs ' if self.shards != 1 else ''}"
            f"in {self.seconds:.2f} s ({self.megabytes_per_second:,.0f} MB/s)"
        ) + _skipped(self.skipped, self.examples)


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What append did.

    Attributes:
        appended: Members added.
        appended_bytes: Their payloads' bytes.
        members: All that the blob has now.
        blob_bytes: Its bytes.
        index_place: Where its index is: "embed", "sidecar" or "none", as before.
        skipped: Reason → how many files were left out for it.
        examples: Reason → the first few of them.
        seconds: How long it took.
        index: The blob's members.
        stale_offsets: The offsets file beside the blob, which does not have the new members; None when there
            is none.
    """

    appended: int
    appended_bytes: int
    members: int
    blob_bytes: int
    index_place: IndexPlace
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    stale_offsets: str | None = None

    def __str__(self) -> str:
        text = (
            f"appended {self.appended:,} members, {self.appended_bytes:,} bytes, in {self.seconds:.2f} s; "
            f"the blob has {self.members:,} members, {self.blob_bytes:,} bytes"
        )
        if self.index_place == "none":
            text += "\nthe blob had no index, and has none now: `blobpack index` makes one"
        if self.stale_offsets:
            text += f"\n{self.stale_offsets} does not have the new members: `blobpack offsets` makes it anew"
        return text + _skipped(self.skipped, self.examples)


@dataclass(frozen=True, slots=True)
class CombineReport:
    """What merge or subset did.

    Attributes:
        members: Those of the new blob.
        payload_bytes: Their bytes.
        blob_bytes: The blob's.
        replaced: Members left out because a later one has their name.
        new_headers: Members whose header was encoded anew: hard links, and those that a global header named.
        left_out: Kind → how many of what has no payload stayed behind, as far as the sources' scans tell.
        seconds: How long it took.
        index: The blob's members.
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    replaced: int
    new_headers: int
    left_out: dict[str, int]
    seconds: float
    index: Index = field(repr=False)

    def __str__(self) -> str:
        text = (
            f"copied {self.members:,} members, {self.payload_bytes:,} bytes, into {self.blob_bytes:,} bytes "
            f"in {self.seconds:.2f} s ({_rate(self.blob_bytes, self.seconds):,.0f} MB/s)"
        )
        if self.replaced:
            text += f"\nreplaced by later members of the same name: {self.replaced:,}"
        for kind, count in sorted(self.left_out.items()):
            text += f"\nleft out {count:,}: {kind.replace('_', ' ')}"
        return text


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What collect did.

    Attributes:
        url: The collection.
        blobs: How many it is of.
        members: Theirs.
        payload_bytes: Their bytes.
        collection_bytes: The collection's.
        seconds: How long it took.
    """

    url: str
    blobs: int
    members: int
    payload_bytes: int
    collection_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"collected {self.members:,} members, {self.payload_bytes:,} bytes, of {self.blobs:,} blobs in "
            f"{self.seconds:.2f} s: {self.url}, {self.collection_bytes:,} bytes"
        )


def _rate(size: int, seconds: float) -> float:
    return size / 1e6 / seconds if seconds else 0.0


def _skipped(counts: dict[str, int], examples: dict[str, list[str]]) -> str:
    """Say what was left out, a line a reason."""
    text = ""
    for reason, count in sorted(counts.items()):
        named = ", ".join(examples[reason][:EXAMPLES])
        text += f"\nskipped {count:,}: {reason} ({named}{', …' if count > EXAMPLES else ''})"
    return text
