"""Problems of files for Encord, and the checks that JSON and CSV share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.integrations.encord.form.kinds import ITEMS_MAX, TITLE_CHARACTERS_MAX, URLS_MAX
from blobpack.integrations.encord.form.urls import fault_of_url
from blobpack.model import shown
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.integrations.encord.form.items import Document


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a file for Encord.

    Attributes:
        where: The item, such as `images[3]`, or the line of a CSV; "" for the file as a whole.
        message: Description of the problem.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def counts_problems(items: int, urls: int) -> Iterator[Problem]:
    """Yield what is wrong with the numbers of items and URLs in a file."""
    if not items:
        yield Problem("", "there are no items")
    if items > ITEMS_MAX:
        yield Problem("", f"{counted(items, 'item')}, and Encord accepts {ITEMS_MAX:,} in a file")
    if urls > URLS_MAX:
        yield Problem("", f"{counted(urls, 'URL')}, and Encord accepts {URLS_MAX:,} in a file")


def url_problems(where: str, key: str, url: object) -> Iterator[Problem]:
    """Yield what is wrong with a URL."""
    fault = fault_of_url(url)
    if fault:
        yield Problem(where, f"{key} {fault}")


def title_problems(where: str, item: Document) -> Iterator[Problem]:
    """Yield what is wrong with the title of an item or file."""
    title = item.get("title")
    if title is None:
        return
    if not isinstance(title, str):
        yield Problem(where, f"title must be a text, not {shown(title)}")
    elif len(title) > TITLE_CHARACTERS_MAX:
        yield Problem(
            where, f"title has {len(title)} characters, and Encord accepts {TITLE_CHARACTERS_MAX}"
        )
