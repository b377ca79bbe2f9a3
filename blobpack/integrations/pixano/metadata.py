"""Files `metadata.jsonl`: each line is a record. In JSONL v2, the form of Pixano 0.8, the first line is a header."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from blobpack.integrations.pixano.line_forms import mapping_of, parse_record
from blobpack.integrations.pixano.record_line import Defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from blobpack.integrations.pixano.record_line import RecordLine, Tables

HEADER = "$pixano"


def parse_lines(
    text: bytes, tables: Tables, report: Callable[[int, str], object]
) -> Iterator[tuple[int, RecordLine]]:
    """Yield the records of a file, each with the number of its line, from 1.

    Args:
        text: Content of the file.
        tables: The tables of the dataset.
        report: Called with the number of each line that can't be read, and the reason.
    """
    defaults = None
    for number, line in enumerate(io.BytesIO(text), start=1):
        if not line.strip():
            continue
        record = None
        try:
            fields = mapping_of(json.loads(line), "a line")
            if HEADER in fields:
                defaults = parse_header(fields)
            else:
                record = parse_record(fields, tables, defaults)
        # json.loads raises ValueError, also for bytes that are not UTF-8
        except ValueError as exc:
            report(number, str(exc))
        if record is not None:
            yield number, record


def parse_header(fields: Mapping[str, Any]) -> Defaults:
    """Return the defaults of a header line.

    Raises:
        LineError: the header has another form.
    """
    defaults = mapping_of(fields.get("defaults") or {}, "defaults")
    box = mapping_of(defaults.get("bbox") or {}, "bbox")
    source = mapping_of(defaults.get("source") or {}, "source")
    return Defaults(box, {f"source_{name}": value for name, value in source.items()})
