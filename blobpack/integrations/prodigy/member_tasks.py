"""Tasks of the members of a blob or collection.

Strategy: the annotated members are looked up by name, all at once, before the first task. What is left is read in runs of
neighbours, each by one ranged GET. A run never spans an annotated member, so no byte of one is fetched.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Unpack

from blobpack.index.which import NAMES_SEARCHED_AT_ONCE, find_named, rows_of_several
from blobpack.integrations.prodigy.references import blob_name_of, member_of, member_reference
from blobpack.integrations.prodigy.task_stream import READ_AHEAD, Image, TaskStream
from blobpack.model import check_several, check_text, check_whole
from blobpack.opening.open import open as open_source
from blobpack.opening.reader import Reader
from blobpack.stores.access.remote import RemoteOptions, with_remote_options

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from blobpack.index.index import Index
    from blobpack.integrations.prodigy.task_stream import Task
    from blobpack.model import Which

ROWS_AT_ONCE = 256
# bound on a run, so that large images are not kept in memory by the number
RUN_BYTES_MAX = 16 << 20


class MemberTasks(TaskStream):
    """The tasks of members that are not annotated yet; made by `tasks`.

    Attributes:
        reader: The open blob or collection.
    """

    def __init__(
        self,
        reader: Reader,
        rows: Sequence[int],
        skip: Collection[str],
        *,
        blob_name: str | None,
        url: str | None,
        fields: Mapping[str, Any] | None,
        read_ahead: int,
    ) -> None:
        """Look the annotated members up.

        Args:
            reader: The open blob or collection.
            rows: The chosen rows, in the order of the tasks.
            skip: References and names of members that are annotated.
            blob_name: Name of the blobs in references; None: their file names.
            url: See tasks.
            fields: See tasks.
            read_ahead: See tasks.
        """
        super().__init__(url=url, fields=fields, read_ahead=read_ahead)
        self.reader = reader
        self._blob_name = blob_name
        done = self._rows_of(list(skip))
        self._rows = [row for row in rows if row not in done]
        self._left_out = 0
        self._chosen = len(rows)

    @property
    def annotated(self) -> int:
        """Number of chosen members that were annotated before. They are never fetched."""
        return self._chosen - len(self._rows)

    @property
    def total(self) -> int:
        """Number of chosen images, annotated or not. Members that prove to be no images no longer count."""
        return self._chosen - self._left_out

    def _rows_of(self, skip: Sequence[str]) -> set[int]:
        """Return the rows of annotated members."""
        asked = [(member_of(text), text) for text in skip]
        rows: set[int] = set()
        for first in range(0, len(asked), NAMES_SEARCHED_AT_ONCE):
            some = asked[first : first + NAMES_SEARCHED_AT_ONCE]
            names = [named.member if named else text for named, text in some]
            for (named, _), hit in zip(some, find_named(self.reader.index, names), strict=True):
                # numbered images of another blob may have the same names
                if hit is not None and (named is None or named.blob == self._blob_of(hit.row)):
                    rows.add(hit.row)
        return rows

    def _blob_of(self, row: int) -> str:
        return self._blob_name or blob_name_of(self.reader, row)

    def _images(self) -> Iterator[tuple[Image, int]]:
        """Yield the images that are left, each with its size in bytes."""
        index = self.reader.index
        knows_types = "media_type" in index.facts
        for first in range(0, len(self._rows), ROWS_AT_ONCE):
            rows = self._rows[first : first + ROWS_AT_ONCE]
            members = list(index[rows])
            hits = find_named(index, [member.name for member in members])
            for row, member, hit in zip(rows, members, hits, strict=True):
                image = Image(
                    member.name,
                    member_reference(self._blob_of(row), member.name),
                    member.media_type,
                    row,
                )
                # a later member of this name replaces it: the name means that one
                is_replaced = hit is None or hit.row != row
                if is_replaced or (knows_types and member.media_type is None):
                    self._leave_out(image)
                else:
                    yield image, member.size

    @property
    def _group_most(self) -> int:
        # two runs ahead of the one that is shown
        return (self._read_ahead + 1) // 2

    def _groups(self) -> Iterator[list[Image]]:
        run: list[Image] = []
        run_bytes = 0
        for image, size in self._images():
            if run and (
                image.place != run[-1].place + 1
                or len(run) == self._group_most
                or run_bytes + size > RUN_BYTES_MAX
            ):
                yield run
                run, run_bytes = [], 0
            run.append(image)
            run_bytes += size
        if run:
            yield run

    def _read(self, group: Sequence[Image]) -> list[bytes | None]:
        return list(self.reader.read_rows([image.place for image in group]))

    def _leave_out(self, image: Image) -> None:
        self._left_out += 1


def tasks(
    reader: Reader,
    *,
    skip: Collection[str] = (),
    members: Index | Iterable[Which] | None = None,
    shuffle: int | None = None,
    url: str | None = None,
    blob_name: str | None = None,
    fields: Mapping[str, Any] | None = None,
    read_ahead: int = READ_AHEAD,
) -> MemberTasks:
    """Return the tasks of a blob's or collection's images, as an iterator that reads them when they are needed.

    Each task has `image`, `path`, `meta.key`, `_input_hash` and `_task_hash`. The hashes are made of the reference, such as
    `blob://out.tar/cats/0001.jpg`, so they stay the same when the blob is moved. Members that are no images are left out.

    Args:
        reader: An open blob or collection; it must stay open.
        skip: References and names of members that are annotated, from `annotated`. They are never fetched.
        members: Use only these: a selection of `reader.index`, or names, Members or rows. None for all.
        shuffle: Seed of a random order, the same for the same seed and members; None for archive order.
        url: URL of the blob at a gateway, such as `http://127.0.0.1:8000/b/out`. Then `image` is the member's URL below it,
            and no image is read.
        blob_name: Name of the blob in references, if its file name is not unique in the dataset.
        fields: More fields of each task, such as `label` or `options`.
        read_ahead: Number of images to read ahead. One request brings up to half of them.

    Raises:
        MemberNotFoundError: one of the members is not in the blob.
        TypeError: an argument has a wrong type.
        ValueError: the URL is not an http(s):// URL, or read_ahead is less than 1.
        BlobpackError: an image can't be read; raised where its task is reached.
    """
    if not isinstance(reader, Reader):
        raise TypeError(f"reader must be an open blob or collection, not {reader!r}")
    check_several("skip", skip, "references and names")
    if blob_name is not None:
        check_text("blob_name", blob_name)
    rows: list[int] = list(range(len(reader)))
    if members is not None:
        rows = sorted(set(rows_of_several(reader.index, members, "members").tolist()))
    if shuffle is not None:
        random.Random(check_whole("shuffle", shuffle)).shuffle(rows)
    return MemberTasks(
        reader,
        rows,
        skip,
        blob_name=blob_name,
        url=url,
        fields=fields,
        read_ahead=read_ahead,
    )


@with_remote_options
def blob_loader(source: str | os.PathLike[str], **remote: Unpack[RemoteOptions]) -> Iterator[Task]:
    """Yield the tasks of a blob or collection, as Prodigy's loader `blob`.

    A loader does not know the dataset, so it skips no image: the recipes of blobpack do.

    Args:
        source: Path or URL of the blob or collection.
        remote: How remote blobs are reached: see RemoteOptions.

    Raises:
        BlobNotFoundError: there is no such blob or collection.
        BlobpackError: it can't be opened, or an image can't be read.
    """
    with open_source(source, **remote) as reader:
        yield from tasks(reader)
