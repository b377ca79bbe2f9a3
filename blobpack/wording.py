"""Words of messages that depend on a number, on a noun, or on who reads the message: Python's caller or a shell's user."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as 1 member or 1,000 members."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def with_article(noun: str) -> str:
    """Return a noun behind "a" or "an"."""
    return f"{'an' if noun[0] in 'aeioAEIO' or noun.startswith('SVG') else 'a'} {noun}"


def python_spelling(name: str, value: object) -> str:
    """Return how Python's caller passes an argument, such as force=True."""
    return f"{name}={value if value is ... else repr(value)}".replace("Ellipsis", "[…]")


_spelling: Callable[[str, object], str] = python_spelling


def setting(name: str, value: object) -> str:
    """Return how the reader of a message passes an argument: force=True in Python, --force on the command line.

    Where stale="rescan" would be spelled, the text is empty if the command that runs has no --rescan.

    Args:
        name: Name of the argument of the public function.
        value: Its value; ... stands for a list of the reader's own.
    """
    return _spelling(name, value)


@contextmanager
def spelled_by(spelling: Callable[[str, object], str]) -> Iterator[None]:
    """Let `setting` spell arguments by another function; the command line does so while it runs."""
    global _spelling
    before, _spelling = _spelling, spelling
    try:
        yield
    finally:
        _spelling = before


def remedy(command: str, format: str = "") -> str:
    """Return what to do about an index that does not fit its blob, which a command makes, in a format of other programs."""
    again = f"make it again with `blobpack {command}`"
    if format:
        again = f"make it again with `blobpack {command} --format {format}`"
    # commands such as merge can't rescan
    rescan = setting("stale", "rescan")
    return f"{again}, or open the blob with {rescan}" if rescan else again
