"""Members as files of items: their URLs, titles and imageMetadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import FactsMissingError, FormatError
from blobpack.integrations.encord.form.items import File
from blobpack.integrations.encord.form.kinds import TITLE_CHARACTERS_MAX, URL_BYTES_MAX
from blobpack.quoting import quoted, url_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.integrations.encord.form.items import Document
    from blobpack.model import EncordImageMetadata, EncordTitle, Member

    Titling = EncordTitle | Callable[[Member], str | None]


class MemberFiles:
    """Makes files of members."""

    def __init__(
        self, blob_url: str, base_url: str, title: Titling, image_metadata: EncordImageMetadata
    ) -> None:
        """Set what files have; see registration.

        Args:
            blob_url: Path or URL of the blob, for messages.
            base_url: URL of the blob at the gateway.
            title: See registration.
            image_metadata: See registration.
        """
        self._blob_url, self._base_url = blob_url, base_url
        self._title, self._image_metadata = title, image_metadata

    def of(self, member: Member) -> File:
        """Return a member as a file of an item.

        Raises:
            FactsMissingError: imageMetadata is required, and the facts are not known.
            FormatError: the URL or the title is too long for Encord.
        """
        url = url_below(self._base_url, member.name)
        # quoted names are ASCII
        if len(url) > URL_BYTES_MAX:
            raise FormatError(
                f"{self._blob_url}: the URL of {quoted(member.name)[:80]} has {len(url):,} bytes, and Encord accepts 16 KB"
            )
        return File(url, self._title_of(member), self._media(member))

    def _title_of(self, member: Member) -> str | None:
        if self._title == "url":
            return None
        if self._title == "name":
            title = member.name
        elif self._title == "basename":
            title = member.name.rpartition("/")[2]
        else:
            made = self._title(member)
            if made is None:
                return None
            if not isinstance(made, str):
                raise TypeError(
                    f"title must return a str or None, not {made!r} for {member.name!r}"
                )
            title = made
        return self.checked_title(title)

    def checked_title(self, title: str) -> str:
        """Return a title as JSON can hold it.

        Raises:
            FormatError: it is too long for Encord.
        """
        if not title.isascii():
            # JSON is UTF-8, and a name may hold other bytes
            title = title.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if len(title) > TITLE_CHARACTERS_MAX:
            raise FormatError(
                f"{self._blob_url}: a title has {len(title)} characters, and Encord accepts {TITLE_CHARACTERS_MAX}: "
                f"{quoted(title)}"
            )
        return title

    def _media(self, member: Member) -> Document | None:
        if self._image_metadata == "none":
            return None
        if member.media_type and member.width and member.height:
            return {
                "mime_type": member.media_type,
                "file_size": member.size,
                "width": member.width,
                "height": member.height,
            }
        if self._image_metadata == "require":
            raise FactsMissingError(
                f"{self._blob_url}: {quoted(member.name)} has no known media type, width and height, so its imageMetadata "
                "can't be written; an index made with facts holds them"
            )
        return None
