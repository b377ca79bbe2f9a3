"""The matrix of servers and steps: what is written of each cell in tests/data/servers.json, and the tables of the docs.

Strategy: a cell is "" if the step works, or else the sentence that refuses it. The tests compare each cell that they run
with the file. With BLOBPACK_REWRITE_DOCS, they write what came to the file and to the page.
"""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle import STEPS
from lookalike import LIKE, TRAITS
from servers import LIGHT, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS = Path(__file__).parent / "data" / "servers.json"
PAGE = Path(__file__).parents[1] / "docs" / "guides" / "servers.md"
RGW = "Ceph RGW"
REAL = (RGW, *SERVERS)
ALWAYS = (RGW, *LIGHT, *LIKE)
# The steps that scripts/test runs for each trait by itself; the others take as long again, and scripts/test --servers
# runs them.
SAMPLE = (
    "pack in parts",
    "read 500",
    "pack a prefix",
    "append, large",
    "overwrite while open",
    "shards, collection",
)
Results = dict[str, dict[str, str]]


def plain(sentence: str) -> str:
    """Return a sentence without what differs from run to run: buckets, ports and the ids of requests."""
    sentence = re.sub(r"bucket-\d+-\d+", "bucket", sentence)
    sentence = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:9000", sentence)
    return re.sub(r", request [\w-]+\)", ")", sentence)


def read_results() -> Results:
    """Return column → step → sentence, as the file has them."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def write_result(column: str, step: str, sentence: str) -> None:
    """Write one cell to the file; several processes may do so at the same time."""
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read_results()
        found.setdefault(column, {})[step] = sentence
        in_order = {
            name: {one: found[name][one] for one in STEPS if one in found[name]}
            for name in (*REAL, *LIKE, *TRAITS)
            if name in found
        }
        # in one step: other processes read the file meanwhile
        new = RESULTS.with_suffix(".new")
        new.write_text(json.dumps(in_order, indent=1, ensure_ascii=False) + "\n")
        new.replace(RESULTS)


class Notes:
    """The numbered sentences below the tables."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, sentence: str) -> int:
        """Return the number of a sentence, which is a new one at its first use."""
        return self._numbers.setdefault(_shortened(sentence), len(self._numbers) + 1)

    def lines(self) -> Iterable[str]:
        """Yield the lines of a list."""
        for sentence, number in self._numbers.items():
            yield f"{number}. {sentence}"


def _shortened(sentence: str) -> str:
    """Return a sentence with one name for all objects, so that steps which fail alike share a note."""
    sentence = re.sub(r"s3://bucket.*?(?=: )", "s3://…", sentence)
    return re.sub(r"(?<=can't be replaced: )s3://…: ", "", sentence)


def tables(results: Results) -> str:
    """Return the tables of the page, in Markdown."""
    notes = Notes()
    lines = ["### Servers that were run", "", *_table(REAL, results, notes), ""]
    lines += ["### Services that were imitated", "", *_table(LIKE, results, notes), ""]
    lines += ["### Single behaviours", "", "| The server … | What works |", "|---|---|"]
    for trait, meaning in TRAITS.items():
        lines.append(f"| {meaning} | {_summary(results[trait], notes)} |")
    return "\n".join([*lines, "", "### What is refused, and how", "", *notes.lines(), ""])


def _table(columns: Iterable[str], results: Results, notes: Notes) -> Iterable[str]:
    columns = [name for name in columns if name in results]
    yield f"| | {' | '.join(columns)} |"
    yield f"|---{'|:-:' * len(columns)}|"
    for step in STEPS:
        cells = [_cell(results[name][step], notes) for name in columns]
        yield f"| {step} | {' | '.join(cells)} |"


def _cell(sentence: str, notes: Notes) -> str:
    return f"no ({notes.number(sentence)})" if sentence else "yes"


def _summary(steps: dict[str, str], notes: Notes) -> str:
    by_note: dict[int, list[str]] = {}
    for step, sentence in steps.items():
        if sentence:
            by_note.setdefault(notes.number(sentence), []).append(step)
    if not by_note:
        return "everything"
    if sum(map(len, by_note.values())) == len(STEPS):
        numbers = ", ".join(map(str, by_note))
        return f"nothing ({numbers})"
    refused = "; ".join(f"{', '.join(steps)} ({number})" for number, steps in by_note.items())
    return f"everything but: {refused}"


def page(results: Results) -> str:
    """Return the page with the tables of the results."""
    before, mark, _ = PAGE.read_text().partition("## The matrix\n")
    return f"{before}{mark}\n{tables(results)}"
