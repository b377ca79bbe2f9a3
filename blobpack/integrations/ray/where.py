"""Conditions on the members to read, as `Index.select` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict, cast

from blobpack.model import check_texts

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from blobpack.index.index import Index
    from blobpack.model import Member


class Conditions(TypedDict, total=False):
    """Conditions on members, which `Index.select` describes.

    Attributes:
        globs: At least one of these globs matches the whole name.
        exclude: None of these globs matches the whole name.
        regex: Some part of the name matches.
        names: The name is one of these.
        min_size: Least size of the payload, in bytes.
        max_size: Largest size of the payload, in bytes.
        media_type: The media type is one of these, or matches one of these globs, such as "image/*".
        min_width: Least width of the image, in pixels.
        max_width: Largest width.
        min_height: Least height.
        max_height: Largest height.
        where: Function that is called with each Member that meets all other conditions; returns true to keep it.
    """

    globs: Iterable[str]
    exclude: Iterable[str]
    regex: str | re.Pattern[str] | None
    names: Iterable[str | Member] | None
    min_size: int | None
    max_size: int | None
    media_type: str | Iterable[str] | None
    min_width: int | None
    max_width: int | None
    min_height: int | None
    max_height: int | None
    where: Callable[[Member], object] | None


Where = str | Iterable[str] | Conditions


def narrowed(index: Index, where: Where) -> Index:
    """Return the members that meet conditions, in archive order.

    Raises:
        FactsMissingError: a condition needs facts that the index does not have.
        TypeError: a condition does not exist, or has a wrong type.
        ValueError: a condition has a wrong value.
    """
    if not isinstance(where, Mapping):
        globs = check_texts("where", where)
        # An empty list of globs matches no member, but select() without globs returns all members.
        if not globs:
            raise ValueError("where must have at least one glob; None reads all members")
        return index.select(*globs)
    conditions = dict(cast("Conditions", where))
    # A misspelled condition would otherwise be ignored, and all members would be read.
    unknown = conditions.keys() - Conditions.__annotations__.keys()
    if unknown:
        known = ", ".join(Conditions.__annotations__)
        raise TypeError(f"where has no condition {', '.join(sorted(unknown))}, only {known}")
    globs = check_texts("globs", conditions.pop("globs", ()))
    return index.select(*globs, **conditions)  # type: ignore[arg-type]  # checked by select
