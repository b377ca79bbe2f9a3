"""Items of the members of a blob: each image alone, or groups and sequences of images.

Strategy: members are looked at in blocks, so that memory does not grow with the blob. For groups, the number of its group is
kept for each member, because the images of one folder need not be neighbours: with `a/b/1.jpg`, the names `a/1.jpg` and
`a/c.jpg` are not.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import FormatError
from blobpack.index.which import NAMES_SEARCHED_AT_ONCE
from blobpack.integrations.encord.form.client_metadata import FRAMES, KEY_FRAMES, RESERVED
from blobpack.integrations.encord.form.items import Item
from blobpack.integrations.encord.member_files import MemberFiles
from blobpack.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from blobpack.index.index import Index
    from blobpack.integrations.encord.form.items import Document
    from blobpack.integrations.encord.member_files import Titling
    from blobpack.integrations.encord.metadata import Metadata
    from blobpack.model import EncordImageMetadata, Member
    from blobpack.opening.reader import Reader

    Grouping = Callable[[Member], str | None]

NUMBERS = re.compile(r"([0-9]+)")
# in the metadata of an image: whether it is a key frame of its group
KEY_FRAME = "keyframe"


class Found(NamedTuple):
    """An image, with its row."""

    row: int
    member: Member


class MemberItems:
    """Makes items of the members of a blob or collection.

    Attributes:
        left_out: Why members were left out, with the number of them.
    """

    def __init__(
        self,
        reader: Reader,
        base_url: str,
        metadata: Metadata,
        *,
        title: Titling,
        group: Grouping | None,
        image_metadata: EncordImageMetadata,
    ) -> None:
        """Use a blob; see registration.

        Args:
            reader: The open blob or collection.
            base_url: URL of the blob at the gateway.
            metadata: Client metadata of members and groups.
            title: See registration.
            group: See registration.
            image_metadata: See registration.
        """
        self._reader, self._base_url, self._metadata = reader, base_url, metadata
        self._files = MemberFiles(reader.url, base_url, title, image_metadata)
        self._group = group or folder_of
        self.left_out: Counter[str] = Counter()

    def images(self, rows: Sequence[int]) -> Iterator[Item]:
        """Yield an item for each image."""
        of_member = self._metadata.of_member
        for found in self._images(rows):
            metadata = of_member(found.row, found.member)
            yield Item("images", (self._files.of(found.member),), None, metadata)

    def groups(self, rows: Sequence[int], kind: str) -> Iterator[Item]:
        """Yield an item for each group of images, in the order of their first images.

        Raises:
            FormatError: the images of a sequence have different sizes.
        """
        for name, images in self._grouped(rows):
            images.sort(key=lambda found: natural(found.member.name))
            if kind == "image_sequences":
                self._check_sizes(name, images)
            title = self._files.checked_title(name)
            files = [self._files.of(found.member) for found in images]
            yield Item(kind, files, title, self._metadata_of_group(name, images))

    def _images(self, rows: Sequence[int]) -> Iterator[Found]:
        """Yield the images among some rows, and count what is left out."""
        index = self._reader.index
        knows_types = "media_type" in index.facts
        for first in range(0, len(rows), NAMES_SEARCHED_AT_ONCE):
            block = rows[first : first + NAMES_SEARCHED_AT_ONCE]
            members = members_at(index, block)
            # a URL holds a name, which means the last member of this name
            hits = index._search([member.name for member in members])
            for row, member, hit in zip(block, members, hits, strict=True):
                if hit is None or hit.row != row:
                    self.left_out["replaced by a later member of this name"] += 1
                elif knows_types and member.media_type is None:
                    self.left_out["not an image"] += 1
                else:
                    yield Found(int(row), member)

    def _grouped(self, rows: Sequence[int]) -> Iterator[tuple[str, list[Found]]]:
        import numpy as np

        numbers: dict[str, int] = {}
        kept, groups = array("q"), array("q")
        for found in self._images(rows):
            name = self._group(found.member)
            if name is None:
                self.left_out["in no group"] += 1
                continue
            kept.append(found.row)
            groups.append(numbers.setdefault(name or self._blob_name(), len(numbers)))
        names = list(numbers)
        order = np.argsort(np.asarray(groups), kind="stable")
        of_rows, of_groups = np.asarray(kept)[order], np.asarray(groups)[order]
        ends = np.flatnonzero(np.diff(of_groups, append=-1)) + 1
        yield from self._in_blocks(names, of_rows, ends)

    def _in_blocks(
        self, names: Sequence[str], rows: Any, ends: Any
    ) -> Iterator[tuple[str, list[Found]]]:
        """Yield each group; the members of several small groups are looked at together."""
        index, first, block = self._reader.index, 0, 0
        members: list[Member] = []
        for number, end in enumerate(map(int, ends)):
            if end > block + len(members):
                block = first
                later = ends[number:]
                fitting = later[later <= first + NAMES_SEARCHED_AT_ONCE]
                last = max(end, int(fitting[-1]) if len(fitting) else 0)
                members = members_at(index, rows[block:last])
            chosen = members[first - block : end - block]
            yield (
                names[number],
                [Found(int(row), each) for row, each in zip(rows[first:end], chosen, strict=True)],
            )
            first = end

    def _blob_name(self) -> str:
        """Return the name of the blob in URLs, for images that lie in no folder."""
        return self._base_url.rpartition("/")[2]

    def _check_sizes(self, name: str, images: list[Found]) -> None:
        """Check that the images of a sequence have one size: Encord would make several sequences of them."""
        first: Member | None = None
        for _, member in images:
            if not (member.width and member.height):
                continue
            if first is None:
                first = member
            elif (member.width, member.height) != (first.width, first.height):
                raise FormatError(
                    f"{self._reader.url}: the images of the sequence {quoted(name)} have different sizes, such as "
                    f"{first.width} x {first.height} ({quoted(first.name)}) and {member.width} x {member.height} "
                    f"({quoted(member.name)}), and Encord would make several sequences; image_groups may have any sizes"
                )

    def _metadata_of_group(self, name: str, images: list[Found]) -> Document | None:
        """Return the metadata of a group, with that of its images by their positions."""
        metadata = self._metadata.of_group(name) or {}
        frames: dict[str, Document] = {}
        key_frames: list[int] = list(metadata.get(KEY_FRAMES, ()))
        for position, found in enumerate(images):
            of_frame = self._metadata.of_member(found.row, found.member)
            if of_frame is None:
                continue
            if of_frame.pop(KEY_FRAME, False) is True:
                key_frames.append(position)
            if of_frame:
                frames[str(position)] = of_frame
        if key_frames:
            self._check_positions(name, key_frames, len(images))
            metadata[KEY_FRAMES] = sorted(set(key_frames))
        if frames:
            given = metadata.get(RESERVED, {})
            metadata[RESERVED] = {**given, FRAMES: {**given.get(FRAMES, {}), **frames}}
        return metadata or None

    def _check_positions(self, name: str, key_frames: list[int], count: int) -> None:
        if max(key_frames) >= count:
            raise FormatError(
                f"{self._reader.url}: {quoted(name)} has {count} images, and no key frame {max(key_frames)}, counted from 0"
            )


def members_at(index: Index, rows: Sequence[int]) -> list[Member]:
    """Return the members in some rows; of a stored index, a run of rows is read without the rest of the index."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and all(one + 1 == other for one, other in pairwise(rows)):
        return list(index[first : last + 1])
    return list(index[rows])


def folder_of(member: Member) -> str:
    """Return the folder of a member, the part of its name before the last "/"."""
    return member.name.rpartition("/")[0]


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key for sorting names, in which numbers count by their value: frame_2 comes before frame_10."""
    parts = NUMBERS.split(name)
    # texts and numbers alternate; equal numbers such as 1 and 01 are told apart by the text behind
    return [(int(part), part) if place % 2 else (0, part) for place, part in enumerate(parts)]
