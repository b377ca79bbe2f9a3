"""An image folder of Pixano inside a blob: images in `<split>/`, described in `<split>/metadata.jsonl`.

Strategy: one pass over the names finds the splits and their images. The lines of a split are read in groups, and the
images of a group are looked up together, because a look-up in a remote index costs a request. No image is read here.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import FormatError, SourceError, StorageError
from blobpack.index.which import find_named
from blobpack.integrations.pixano.metadata import parse_lines
from blobpack.integrations.pixano.record_line import RecordLine
from blobpack.model import check_text
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.stores.arguments import local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobpack.integrations.pixano.record_line import Tables
    from blobpack.model import Member

METADATA = "metadata.jsonl"
LINES_AT_ONCE = 256
# where the index does not know media types: what browsers show, and TIFF, which Pixano's importers take, too
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".jp2", ".png", ".tif", ".tiff", ".webp"),
)


class FolderRecord(NamedTuple):
    """A record of an image folder.

    Attributes:
        split: Its split.
        number: Number of its line or image in the split, from 0.
        line: What its line says. A record of a split without metadata has its images only.
        images: The member of each view.
        where: Names it in messages.
        is_bare: Whether its split has no metadata.
    """

    split: str
    number: int
    line: RecordLine
    images: dict[str, Member]
    where: str
    is_bare: bool


class Problem(NamedTuple):
    """A line that can't be read.

    Attributes:
        file: Name of its file in the folder.
        line: Its number, from 1.
        text: What is wrong.
    """

    file: str
    line: int
    text: str


class BlobFolder:
    """An image folder in a blob.

    Attributes:
        reader: The open blob or collection.
        splits: Names of the splits, in order.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        metadata: str | os.PathLike[str] | None = None,
        folder: str = "",
    ) -> None:
        """Find the splits.

        Args:
            reader: An open blob or collection; it must stay open.
            metadata: A folder with `<split>/metadata.jsonl`, for a blob that has none; or one such file, if there is
                one split. The blob's own metadata is used for splits that it lacks.
            folder: Folder in the blob that holds the splits.

        Raises:
            SourceError: there is no such metadata.
            BlobpackError: the index can't be read.
            TypeError: an argument has a wrong type.
        """
        if not isinstance(reader, Reader):
            raise TypeError(f"reader must be an open blob or collection, not {reader!r}")
        check_text("folder", folder)
        self.reader = reader
        self._beside = None if metadata is None else Path(local_path("metadata", metadata))
        # without this check, a wrong path would make a dataset without annotations
        if self._beside is not None and not self._beside.exists():
            raise SourceError(f"there is no metadata at {quoted(str(self._beside))}")
        self._prefix = f"{folder.rstrip('/')}/" if folder else ""
        self._rows: dict[str, array[int]] = {}
        found: set[str] = set()
        for row, name in enumerate(reader.index.names):
            if not name.startswith(self._prefix):
                continue
            split, slash, rest = name[len(self._prefix) :].partition("/")
            if slash and rest and not split.startswith("."):
                found.add(split)
                self._rows.setdefault(split, array("q")).append(row)
        self.splits = sorted(found)

    def records(
        self, tables: Tables, on_problem: Callable[[Problem], object] | None = None
    ) -> Iterator[FolderRecord]:
        """Yield the records of all splits: as the lines of their metadata, or, without metadata, images by name.

        Args:
            tables: The tables of the dataset.
            on_problem: Called for each line that can't be read, which is then left out. None: such a line is an error.

        Raises:
            FormatError: a line can't be read, or names an image that the blob does not have.
            BlobpackError: the blob can't be read.
            ValueError: the dataset has no view of images.
        """
        if not tables.views:
            raise ValueError("the dataset must have a view of images")
        for split in self.splits:
            text = self._metadata_of(split)
            if text is None:
                yield from self._bare_records(split, next(iter(tables.views)))
            else:
                yield from self._described_records(split, text, tables, on_problem)

    def metadata_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each file of metadata that is used."""
        for split in self.splits:
            text = self._metadata_of(split)
            if text is not None:
                yield f"{split}/{METADATA}", text

    def member(self, name: str) -> Member | None:
        """Return the last member of a name below the folder; None if there is none."""
        return self.members([name])[0]

    def members(self, names: Sequence[str]) -> list[Member | None]:
        """Return the last member of each name below the folder."""
        index = self.reader.index
        hits = find_named(index, [f"{self._prefix}{name}" for name in names])
        there = iter(index[[hit.row for hit in hits if hit is not None]])
        return [None if hit is None else next(there) for hit in hits]

    def _metadata_of(self, split: str) -> bytes | None:
        """Return the metadata of a split: that beside the blob, or else that in it."""
        if self._beside is not None:
            place = self._beside
            if place.is_dir():
                place = place / split / METADATA
            elif len(self.splits) > 1:
                raise FormatError(
                    f"{self.reader.url} has {len(self.splits)} splits, so their metadata must be a folder, and not the "
                    f"file {place}"
                )
            # a split may have its metadata in the blob
            with suppress(FileNotFoundError, NotADirectoryError):
                return _read(place)
        member = self.member(f"{split}/{METADATA}")
        return None if member is None else self.reader.read(member)

    def _bare_records(self, split: str, view: str) -> Iterator[FolderRecord]:
        index = self.reader.index
        knows_types = "media_type" in index.facts
        members: Iterable[Member] = index[self._rows[split]]
        chosen = {
            member.name: member for member in members if _is_image(member, knows_types=knows_types)
        }
        for number, name in enumerate(sorted(chosen)):
            line = RecordLine(None, None, {}, {view: name}, [])
            yield FolderRecord(split, number, line, {view: chosen[name]}, quoted(name), True)

    def _described_records(
        self,
        split: str,
        text: bytes,
        tables: Tables,
        on_problem: Callable[[Problem], object] | None,
    ) -> Iterator[FolderRecord]:
        """Yield the records of a split's metadata."""
        file = f"{split}/{METADATA}"

        def report(line: int, text: str) -> None:
            if on_problem is None:
                raise FormatError(f"{self.reader.url}: {file}, line {line}: {text}")
            on_problem(Problem(file, line, text))

        lines = parse_lines(text, tables, report)
        number = 0
        while some := list(islice(lines, LINES_AT_ONCE)):
            # paths may begin with the split's name, or not, as in Pixano
            paths = [
                path if path.startswith(f"{split}/") else f"{split}/{path}"
                for _, line in some
                for path in line.images.values()
            ]
            members = iter(self.members(paths))
            for at, line in some:
                images = {view: next(members) for view in line.images}
                missing = [quoted(line.images[view]) for view in images if images[view] is None]
                if missing:
                    report(at, f"{', '.join(missing)}: not in the blob")
                    continue
                there = {view: member for view, member in images.items() if member is not None}
                yield FolderRecord(
                    line.split or split, number, line, there, f"{file}, line {at}", False
                )
                number += 1


def _read(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as exc:
        raise StorageError(f"can't read {quoted(str(place))}: {exc}") from exc


def _is_image(member: Member, *, knows_types: bool) -> bool:
    if knows_types:
        return member.media_type is not None
    return member.name.lower().endswith(IMAGE_SUFFIXES)
