"""Compare runs of two versions: for each row, the median after by the median before.

    scripts/bench ratio [--within 0.05] BEFORE.json... -- AFTER.json...

Each file was written by `scripts/bench --json` or `scripts/bench s3 --json`. Let the two versions take turns about five
times, because times drift with the machine. The rows of peers and floors, which did not change, show that drift. The
exit status is 1 if a row of blobpack has a ratio outside the limits, or is missing on one side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from table import OURS, laid_out, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

WITHIN = 0.05
S3_FIGURES = (
    "cpu_us",
    "cpu_ms",
    "reads/s",
    "objects/s",
    "round trips",
    "requests",
    "p50_ms",
    "p90_ms",
)


class Key(NamedTuple):
    """The name of a figure.

    Attributes:
        task: The task, and the unit of the figure.
        system: The system that was measured.
    """

    task: str
    system: str


def figures_of(run: list[dict]) -> dict[Key, float]:
    """Return the figures of a run, in the order of the run."""
    figures: dict[Key, float] = {}
    for row in run:
        figures |= figures_of_s3(row) if "measurement" in row else figures_of_task(row)
    return figures


def figures_of_task(row: dict) -> dict[Key, float]:
    """Return the times of blobpack and of one other system, from a row of table.py."""
    task = f"{row['task']}, µs a {row['unit']}"
    both = {Key(task, OURS): row["ours_us"], Key(task, row["other"]): row["other_us"]}
    return {key: value for key, value in both.items() if value is not None}


def figures_of_s3(row: dict) -> dict[Key, float]:
    """Return the times and counts of a row of bench_s3.py. The texts of the row make the name of the task."""
    system = row.get("client", OURS)
    texts = [str(v) for k, v in row.items() if isinstance(v, str) and k != "client"]
    return {
        Key(", ".join([*texts, name]), system): float(row[name])
        for name in S3_FIGURES
        if name in row
    }


def medians(runs: list[list[dict]]) -> dict[Key, tuple[float, float]]:
    """Return the median of each figure over the runs, and its spread: greatest minus least, divided by the median."""
    taken: dict[Key, list[float]] = {}
    for run in runs:
        for key, value in figures_of(run).items():
            taken.setdefault(key, []).append(value)
    return {
        key: (middle := statistics.median(values), (max(values) - min(values)) / (middle or 1))
        for key, values in taken.items()
    }


def lines_of(
    before: dict[Key, tuple[float, float]], after: dict[Key, tuple[float, float]], within: float
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the lines of the table, and a text for each row of blobpack that is outside or missing."""
    lines: list[tuple[str, ...]] = [
        ("task", "system", "before", "±", "after", "±", "after/before", "")
    ]
    wrong = []
    for key in dict.fromkeys([*before, *after]):
        is_ours = key.system.startswith(OURS)
        if key not in before or key not in after:
            only = "only before" if key in before else "only after"
            lines.append((*key, "", "", "", "", "", only))
            if is_ours:
                wrong.append(f"{key.task}: {only}")
            continue
        (was, was_spread), (is_now, now_spread) = before[key], after[key]
        # a count may be 0 on both sides: that is no change
        ratio = is_now / was if was else float(is_now == was)
        is_out = is_ours and not 1 - within <= ratio <= 1 + within
        if is_out:
            wrong.append(f"{key.task}: {ratio:.3f}")
        numbers = (
            shown(was),
            f"{was_spread:.0%}",
            shown(is_now),
            f"{now_spread:.0%}",
            f"{ratio:.3f}",
        )
        lines.append((*key, *numbers, "outside" if is_out else ""))
    return lines, wrong


def load(paths: Iterable[str]) -> list[list[dict]]:
    """Read the rows of several runs."""
    return [json.loads(Path(path).read_text()) for path in paths]


def main() -> None:
    """Print the table; exit with status 1 if a row of blobpack is outside or missing."""
    parser = argparse.ArgumentParser(prog="scripts/bench ratio", description=__doc__)
    parser.add_argument("before", nargs="+", metavar="BEFORE.json")
    parser.add_argument(
        "--after", nargs="+", required=True, metavar="AFTER.json", help="or -- and the files"
    )
    parser.add_argument("--within", type=float, default=WITHIN)
    # argparse would drop "--" and take all files for the first list
    arguments = parser.parse_args(["--after" if a == "--" else a for a in sys.argv[1:]])
    before, after, within = (
        medians(load(arguments.before)),
        medians(load(arguments.after)),
        arguments.within,
    )
    lines, wrong = lines_of(before, after, within)
    print(laid_out(lines, left={0, 1, 7}))
    ours = sum(line[1].startswith(OURS) for line in lines)
    print(f"\n{len(wrong)} of {ours} rows of {OURS} outside {1 - within:.2f} to {1 + within:.2f}")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
