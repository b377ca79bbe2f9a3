"""Count comments and the first words of docstrings in blobpack/; fail if there are too few comments or vague openers.

    scripts/prose.py [FOLDER]

scripts/check runs it. A comment gives a reason that the code can't show, and a docstring that opens with a word such as
"Tell" mostly hides what the function does.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

# for each hundred lines of code: code that we admire has 8 to 10
COMMENTS_MIN = 6.0
# share of all docstrings
OPENERS_MAX = 1 / 20
OPENERS = {"Tell", "Say", "Give", "Take", "Refuse", "What", "Where", "Whose", "How"}
# a comment for a tool says nothing to a reader
DIRECTIVE = re.compile(r"#\s*(noqa|type:|pragma|fmt:|mypy:)")


class Count(NamedTuple):
    """The counts of one file."""

    code_lines: int
    comments: int
    docstrings: int
    openers: list[str]


def count(path: Path) -> Count:
    """Count the lines of code, the comments that are no directives, and the docstrings of a file."""
    source = path.read_text()
    docstrings = list(find_docstrings(ast.parse(source)))
    inside = {
        line
        for node in docstrings
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code: set[int] = set()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments += not DIRECTIVE.match(token.string)
        elif token.string.strip() and token.type != tokenize.ENDMARKER:
            code.update(range(token.start[0], token.end[0] + 1))
    openers = [
        f"{path}:{node.lineno}: {words[0]}"
        for node in docstrings
        if (words := re.findall(r"[A-Za-z]+", str(node.value))) and words[0] in OPENERS
    ]
    return Count(len(code - inside), comments, len(docstrings), openers)


def find_docstrings(tree: ast.AST) -> list[ast.Constant]:
    """Find the docstrings of a module, and of its classes and functions."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, owners)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
        and isinstance(node.body[0].value.value, str)
    ]


def main(folder: str = "blobpack") -> int:
    """Print the counts of a folder; return 1 if one of them is out of bounds, else 0."""
    counts = [count(path) for path in sorted(Path(folder).rglob("*.py"))]
    code_lines = sum(one.code_lines for one in counts)
    docstrings = sum(one.docstrings for one in counts)
    density = 100 * sum(one.comments for one in counts) / code_lines
    openers = [found for one in counts for found in one.openers]
    print(
        f"{folder}: {density:.1f} comments for each hundred lines of code (at least {COMMENTS_MIN:g}), "
        f"{len(openers)} of {docstrings} docstrings open with a word to avoid (at most 1 in {1 / OPENERS_MAX:.0f})"
    )
    if density >= COMMENTS_MIN and len(openers) <= OPENERS_MAX * docstrings:
        return 0
    print(*openers, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
