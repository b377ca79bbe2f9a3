"""Print the table of a run: for each task, blobpack beside each peer and floor.

    table.py RUN.json [ROWS.json]

RUN.json is the file that pytest --benchmark-json wrote. The rows are also written to ROWS.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

OURS = "blobpack"


@dataclass(frozen=True, slots=True)
class Row:
    """Blobpack and one other system at a task; times are medians in microseconds an item.

    Attributes:
        task: Name of the task.
        unit: Name of an item.
        ours_us: Time of blobpack.
        other: A peer or a floor; "" if there is none.
        other_us: Time of the other system.
        ratio: Time of blobpack divided by that of the other system.
        to_reach_us: The aim for blobpack.
    """

    task: str
    unit: str
    ours_us: float | None
    other: str
    other_us: float | None
    ratio: float | None
    to_reach_us: float | None


def microseconds(figure: dict) -> float:
    """Return the median time of an item, measured by the work itself or by pytest-benchmark."""
    info = figure["extra_info"]
    return 1e6 * info.get("seconds_an_item", figure["stats"]["median"] / info["items"])


def rows_of(run: dict) -> list[Row]:
    """Make the rows of all tasks, in the order in which they were measured."""
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
    """Format a number with three significant digits."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def printed(rows: list[Row]) -> str:
    """Format the rows in columns; a task that repeats is left out."""
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
    """Align cells in columns: the columns in `left` to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def main() -> None:
    """Read a run, print its table, and write the rows to a file if one is named."""
    run = json.loads(Path(sys.argv[1]).read_text())
    rows = rows_of(run)
    print(printed(rows))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
