"""Print one table of a run: ours beside each peer and floor at the same task.

table.py RUN.json [ROWS.json]; RUN.json is what pytest --benchmark-json wrote, ROWS.json takes the rows.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

OURS = "blobpack"


@dataclass(frozen=True, slots=True)
class Row:
    """Ours and one other at a task; microseconds an item.

    Attributes:
        task: What was done.
        unit: The item.
        ours_us: Our median.
        other: A peer, or a floor; empty when there is none.
        other_us: Its median.
        ratio: Ours by its.
        to_reach_us: Our aim.
    """

    task: str
    unit: str
    ours_us: float | None
    other: str
    other_us: float | None
    ratio: float | None
    to_reach_us: float | None


def microseconds(figure: dict) -> float:
    """Return the median an item, as the work or pytest-benchmark timed it."""
    info = figure["extra_info"]
    return 1e6 * info.get("seconds_an_item", figure["stats"]["median"] / info["items"])


def rows_of(run: dict) -> list[Row]:
    """Set the systems of each task side by side, in the order they were measured."""
    tasks: dict[str, list[dict]] = {}
    for figure in run["benchmarks"]:
        tasks.setdefault(figure["group"], []).append(figure)
    rows = []
    for task, figures in tasks.items():
        ours = next((f for f in figures if f["extra_info"]["system"] == OURS), None)
        others = [f for f in figures if f is not ours]
        ours_us = microseconds(ours) if ours else None
        to_reach = ours["extra_info"]["to_reach"] if ours else None
        unit = figures[0]["extra_info"]["unit"]
        if not others:
            rows.append(Row(task, unit, ours_us, "", None, None, to_reach))
        for other in others:
            other_us = microseconds(other)
            ratio = ours_us / other_us if ours_us else None
            rows.append(
                Row(task, unit, ours_us, other["extra_info"]["system"], other_us, ratio, to_reach)
            )
    return rows


def shown(number: float | None) -> str:
    """Write a number with three digits that count."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def printed(rows: list[Row]) -> str:
    """Lay the rows out in columns; what repeats is left out."""
    lines = [("task", "item", "ours µs", "to reach", "peer or floor", "its µs", "ours/its")]
    last = ""
    for row in rows:
        again = row.task == last
        last = row.task
        aim = "-" if row.to_reach_us is None else f"≤ {row.to_reach_us:g}"
        mine = ("", "", "", "") if again else (row.task, row.unit, shown(row.ours_us), aim)
        lines.append((*mine, row.other or "-", shown(row.other_us), shown(row.ratio)))
    return laid_out(lines, left={0, 1, 4})


def laid_out(lines: list[tuple[str, ...]], left: set[int]) -> str:
    """Set cells in columns, those of these columns to the left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def main() -> None:
    """Read a run, print its table, and keep the rows if asked to."""
    run = json.loads(Path(sys.argv[1]).read_text())
    rows = rows_of(run)
    print(printed(rows))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
