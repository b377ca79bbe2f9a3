"""The examples of README.md and docs/: found in the pages, run in order, and compared with the output they show.

- A `python`, `sh` or `console` block runs. All blocks of a page share one folder, and its Python blocks share names.
- In a `console` block, each line after "$ " is a command, and the lines below it are its output.
- A `text` block right below a `python` block is what that block prints.
- A block below a line `<!-- not run: reason -->` does not run.
- A block below a line `<!-- run by scripts/test --tools TOOL -->` runs only in the environment of that tool, by its tests in
  tests/tools/TOOL/. If it is the first line of a page, so do all blocks of the page.

Shown output may hold "…" where something varies. Times and rates vary always and are not compared.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RUN = ("python", "sh", "console")
BUCKET = "bucket"  # in pages
BUCKET_USED = re.compile(r"(?<=s3://)bucket\b|(?<=s3:::)bucket\b|(?<=['\"])bucket(?=['\"])")
BLOCK = re.compile(
    r"(?P<not_run>^<!-- not run: [^\n]+ -->\n+)?(?:^<!-- run by scripts/test --tools (?P<tool>[\w-]+) -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$"
    r"(?:\n+```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
WHOLE_PAGE = re.compile(r"<!-- run by scripts/test --tools ([\w-]+) -->\n")
VARIES = re.compile(r"\d[\d,]*\.\d+ s\b|\d[\d,]* MB/s|[\d.]+ ms\b|\$\d\.\d+")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Block:
    """One example.

    Attributes:
        page: Its page.
        line: Where it begins, counted from 1.
        language: What stands behind the fence.
        code: What it shows.
        output: What a Python block prints, as the page says; None: the page does not say.
        runs: Whether it can be run.
        tool: The tool in whose environment it runs; "": in the usual one.
    """

    page: Path
    line: int
    language: str
    code: str
    output: str | None
    runs: bool
    tool: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Find the examples of a page."""
    text = page.read_text()
    whole_page = WHOLE_PAGE.match(text)
    for found in BLOCK.finditer(text):
        language = found["language"]
        if language in RUN:
            yield Block(
                page=page,
                line=text.count("\n", 0, found.start("code")) + 1,
                language=language,
                code=found["code"],
                output=found["output"] if language == "python" else None,
                runs=found["not_run"] is None,
                tool=found["tool"] or (whole_page[1] if whole_page else ""),
            )


class Runner:
    """Runs blocks one after the other, in the current folder.

    Attributes:
        names: What Python blocks have defined.
    """

    def __init__(self, bucket: str = "") -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._bucket = bucket or BUCKET
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = os.environ | {"PATH": path, "COLUMNS": "100"}

    def run(self, block: Block) -> list[tuple[str, str, str]]:
        """Run a block; of each part with a shown output the command, what is shown, and what came."""
        if block.language == "python":
            printed = self._python(block.code, str(block))
            return [] if block.output is None else [(block.code, block.output, printed)]
        if block.language == "sh":
            self.shell(block.code)
            return []
        return [(command, shown, self.shell(command)) for command, shown in commands(block.code)]

    def _in_bucket(self, code: str) -> str:
        return BUCKET_USED.sub(self._bucket, code)

    def _python(self, code: str, where: str) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            # without dont_inherit, annotations would be texts, as in this file
            exec(compile(self._in_bucket(code), where, "exec", dont_inherit=True), self.names)
        return out.getvalue().replace(self._bucket, BUCKET)

    def shell(self, code: str) -> str:
        """Run commands, which must succeed; return what they print, errors included."""
        done = subprocess.run(
            ["bash", "-euc", self._in_bucket(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._env,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{code}\nexited with {done.returncode}:\n{done.stdout}"
        return done.stdout.replace(self._bucket, BUCKET)


def commands(code: str) -> Iterator[tuple[str, str]]:
    """Split a console block into commands and what each prints."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def same(shown: str, came: str) -> bool:
    """Return whether an output is what the page shows."""
    shown = VARIES.sub("~", shown).replace("…", "...")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(shown, VARIES.sub("~", came), flags)


def rewrite(page: Path, command: str, shown: str, came: str) -> None:
    """Put the output that came into a page, in place of what is shown below a command."""
    text = page.read_text()
    console = f"$ {command}\n{shown}"
    old, new = (
        (console, f"$ {command}\n{came}")
        if console in text
        else (f"{command}```\n\n```text\n{shown}```", f"{command}```\n\n```text\n{came}```")
    )
    assert text.count(old) == 1, f"{page}: {command}"
    page.write_text(text.replace(old, new))
