"""The stream of tasks that a recipe of Prodigy gets, wherever the images come from.

Strategy: Prodigy asks for a batch of tasks when the annotator is about to need it. Threads fetch the images that follow, so
that this batch is in memory already. What is read ahead is bounded by a number of images, because a session may end at
any time, and images that nobody sees were fetched for nothing.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack._native.facts import facts_of
from blobpack.columns import media_type_of
from blobpack.integrations.prodigy.references import hashes_of
from blobpack.integrations.urls import check_base
from blobpack.look_ahead import map_ahead
from blobpack.model import check_number
from blobpack.quoting import url_below

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    Task = dict[str, Any]

READ_AHEAD = 16
READS_AT_ONCE = 8


class Image(NamedTuple):
    """An image that is not annotated yet.

    Attributes:
        key: Name of the member, or key of the object.
        reference: Its reference.
        media_type: Its media type, if the index knows it.
        place: Where `_read` finds it: the member's row, or the object in the listing.
    """

    key: str
    reference: str
    media_type: str | None
    place: Any


class TaskStream(ABC, Iterator["Task"]):
    """An iterator of tasks.

    A task holds `image`, a data URI with the true media type, or a URL; `path`, the image's reference; `meta.key`, the
    member's name or the object's key; the hashes `_input_hash` and `_task_hash`, made of the reference; and more fields, if
    the caller gave any.
    """

    def __init__(
        self, *, url: str | None, fields: Mapping[str, Any] | None, read_ahead: int
    ) -> None:
        if url is not None:
            check_base("url", url)
        check_number("read_ahead", read_ahead, 1)
        self._url = url
        self._fields = dict(fields or {})
        self._read_ahead = read_ahead
        self._tasks = self._stream()

    @property
    @abstractmethod
    def annotated(self) -> int:
        """Number of chosen images that were annotated before. They are not in the stream, and are never fetched."""

    @property
    @abstractmethod
    def total(self) -> int | None:
        """Number of chosen images, annotated or not; None while it is not known."""

    @property
    @abstractmethod
    def _group_most(self) -> int:
        """Largest number of images in a group."""

    @abstractmethod
    def _groups(self) -> Iterator[Sequence[Image]]:
        """Yield images that are read together, in the order of the tasks."""

    @abstractmethod
    def _read(self, group: Sequence[Image]) -> list[bytes | None]:
        """Read images of one group, in a thread. None stands for an image that is gone."""

    @abstractmethod
    def _leave_out(self, image: Image) -> None:
        """Note that an image is gone, or is no image."""

    def __next__(self) -> Task:
        return next(self._tasks)

    def close(self) -> None:
        """Stop reading ahead. Closing twice is harmless."""
        # Prodigy may close while one of its threads waits for a task: that thread gets its task, and then no more
        with suppress(ValueError):
            self._tasks.close()

    def _stream(self) -> Generator[Task, None, None]:
        if self._url is not None:
            for group in self._groups():
                for image in group:
                    yield self._task(image, url_below(self._url, image.key))
            return
        reads = map_ahead(
            lambda group: (group, self._read(group)),
            self._groups(),
            threads=READS_AT_ONCE,
            # the first group is shown already while those behind it are read ahead
            most_size=self._read_ahead + self._group_most,
            size_of=len,
            name="tasks",
        )
        with closing(reads):
            for group, payloads in reads:
                for image, payload in zip(group, payloads, strict=True):
                    uri = (
                        None if payload is None else data_uri(payload, image.key, image.media_type)
                    )
                    if uri is None:
                        self._leave_out(image)
                    else:
                        yield self._task(image, uri)

    def _task(self, image: Image, shown: str) -> Task:
        return {
            "image": shown,
            "path": image.reference,
            "meta": {"key": image.key},
            **self._fields,
            **hashes_of(image.reference, self._fields),
        }


def data_uri(payload: bytes, name: str, media_type: str | None = None) -> str | None:
    """Return an image as a data: URI (RFC 2397); None if it is no image.

    Args:
        payload: The image.
        name: Its name, which tells formats apart that have no magic bytes.
        media_type: Its media type; None to recognise it by its content.
    """
    if media_type is None:
        facts = facts_of(payload, name.encode("utf-8", "surrogateescape"))
        media_type = media_type_of(facts.media_type)
    if media_type is None:
        return None
    return f"data:{media_type};base64,{base64.b64encode(payload).decode('ascii')}"
