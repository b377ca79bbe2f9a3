"""Parse one JSON object: a document of a project, or a file of a registration."""

from __future__ import annotations

import json
from typing import Any

from blobpack.errors import FormatError


def json_object(data: str | bytes, where: object) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        data: Its text.
        where: Where it comes from, for messages.

    Raises:
        FormatError: the text is something else.
    """
    try:
        found = json.loads(data)
    # a UnicodeDecodeError, or a JSONDecodeError
    except ValueError as exc:
        raise FormatError(f"{where}: not JSON: {exc}", offset=getattr(exc, "pos", None)) from exc
    except RecursionError as exc:
        raise FormatError(f"{where}: its JSON is nested too deeply") from exc
    if not isinstance(found, dict):
        raise FormatError(f"{where}: expected a JSON object, not {type(found).__name__}")
    return found
