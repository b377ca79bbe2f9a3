r"""Names as URLs hold them, and as they are shown to people: control characters reach neither a terminal nor a log.

A name in a blob is hostile input. Printed as it is, "\x1b]0;…" sets the title of a terminal, and a newline forges a line
of a report.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

# what a shell would not take as it is: quoted, but not escaped
SPECIAL = frozenset(" !\"$&'()*;<=>?[\\^`|")
# with these beside it, a single quote needs no backslash between double quotes
HARMLESS_IN_DOUBLE_QUOTES = re.compile(r"[\w%+,./:@\]' -]*")
UNINDENTED = re.compile(r"\n(?!  )")
ESCAPES = {"\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}
# everything but newlines and tabs, which messages hold by themselves; also C1 and the marks that turn text around
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def quoted(name: str) -> str:
    r"""Return a name so that a shell reads it back, in printable characters only: 'a'$'\n''b'.

    A name of harmless characters stays as it is. The form is that of GNU ls on a terminal (shell-escape).
    """
    printable = name.isprintable()
    if printable and name and name[0] not in "#~" and name not in ("{", "}"):
        if SPECIAL.isdisjoint(name):
            return name
        if "'" in name and HARMLESS_IN_DOUBLE_QUOTES.fullmatch(name):
            return f'"{name}"'
    if printable:
        return "'" + name.replace("'", "'\\''") + "'"
    parts = []
    escaping = False
    for character in name:
        if character.isprintable():
            # ends the $'…' and begins the next '…'
            parts.append("''" if escaping else "")
            parts.append("'\\''" if character == "'" else character)
        else:
            parts.append("" if escaping else "'$'")
            parts.append(_escaped(character))
        escaping = not character.isprintable()
    return f"'{''.join(parts)}'"


def _escaped(character: str) -> str:
    if character in ESCAPES:
        return f"\\{ESCAPES[character]}"
    # bytes that are not UTF-8 stand as surrogates (PEP 383)
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def one_line(text: str) -> str:
    """Return a text with its control characters escaped, newlines too."""
    return printable(text).replace("\n", "\\n")


def printable(text: str) -> str:
    """Return a text of several lines with all other control characters escaped."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def message_of(exc: BaseException) -> str:
    """Return the message of an exception for a terminal: its lines are those that are indented by two spaces."""
    # a name in the message may hold a newline, and would forge a line; lists of files are indented
    return UNINDENTED.sub(r"\\n", printable(str(exc)))


def quoted_path(name: str) -> str:
    """Return a name as a path of a URL; a surrogate stands for a byte that is not UTF-8 (PEP 383)."""
    return quote(name, errors="surrogateescape")


def url_below(base: str, name: str) -> str:
    """Return the URL of a member or object below the URL of its blob or bucket."""
    return f"{base.rstrip('/')}/{quoted_path(name)}"
