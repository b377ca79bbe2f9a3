"""Client metadata: what Encord accepts in it, and its JSON."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal

from blobpack.errors import FormatError
from blobpack.integrations.encord.form.kinds import EMBEDDING_MAX
from blobpack.model import shown

KEY_FRAMES = "keyframes"
# where Encord expects the metadata of frames, by their numbers
RESERVED, FRAMES = "$encord", "frames"


def _plain(value: object) -> object:
    """Return a value of a table as JSON has it. Encord reads dates as ISO 8601."""
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"JSON can't hold {shown(value)}")


# NaN and Infinity are no JSON (RFC 8259, 6). ASCII only, so that a name that is not UTF-8 can be written.
ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)


def check_fields(where: str, fields: object) -> str:
    """Check client metadata, and return it as JSON.

    Args:
        where: Where it is, for messages.
        fields: The metadata.

    Raises:
        FormatError: this is no dict of values that JSON can hold; key frames are no list of whole numbers; or an embedding
            is longer than Encord accepts.
    """
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise FormatError(
            f"{where}: client metadata must be a dict with texts as keys, not {shown(fields)}"
        )
    for key, value in fields.items():
        fault = fault_of_value(key, value)
        if fault:
            raise FormatError(f"{where}: {key!r} {fault}")
    try:
        return ENCODER.encode(fields)
    except (ValueError, TypeError, RecursionError) as exc:
        raise FormatError(f"{where}: {exc}") from exc


def fault_of_value(key: str, value: object) -> str:
    """Return what Encord would not accept in a value of client metadata; "" if nothing."""
    if key == KEY_FRAMES and not (
        isinstance(value, list) and all(type(frame) is int and frame >= 0 for frame in value)
    ):
        return "must be a list of the numbers of frames, counted from 0"
    if key == RESERVED and not (
        isinstance(value, dict) and isinstance(value.get(FRAMES, {}), dict)
    ):
        return "must be an object, and so must its frames"
    if (
        isinstance(value, list)
        and len(value) > EMBEDDING_MAX
        and all(isinstance(number, (int, float)) for number in value)
    ):
        return f"has {len(value):,} numbers, and an embedding has at most {EMBEDDING_MAX:,}"
    return ""
