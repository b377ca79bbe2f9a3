"""Mutants of Cython code, each compiled in behind a switch: `if a < b:` becomes `if (a <= b if mutant(7) else a < b):`.

Python's tokenizer reads Cython well enough to find, in each statement of a function, the expression that it computes. An
expression is changed at one token for each mutant, and all forms stand in one chain of conditional expressions. Cython may
refuse a form, for example a sum of two pointers. Then the compiler names the line, and the mutants of this line are left
out of the next build.
"""

from __future__ import annotations

import io
import re
import token
import tokenize
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
}
OTHER_OPERATORS = {
    "+": "-",
    "-": "+",
    "*": "+",
    "//": "*",
    "/": "*",
    "%": "+",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
    "^": "|",
}
WORDS = {"and": "or", "or": "and", "True": "False", "False": "True", "not": "not not"}
ASSIGNMENTS = {"=", "+=", "-=", "|=", "&=", "<<=", ">>=", "*="}
IMPORT = 'cdef extern from "mutant_switch.h" nogil:\n    bint blobpack_mutant(long number)\n'
FUNCTION = re.compile(r"(cp?def|def)\b.*\(.*\).*:\s*$", re.DOTALL)


class Statement(NamedTuple):
    """One logical line: its tokens, and its place in the file."""

    tokens: list[tokenize.TokenInfo]
    indent: int
    in_function: bool


def statements_of(source: str) -> Iterator[Statement]:
    """Yield the logical lines of a Cython file, with the depth of their indentation."""
    blocks: list[
        tuple[int, bool]
    ] = []  # indentation of each open block, and whether it is in a function
    line: list[tokenize.TokenInfo] = []
    for tok in tokenize.generate_tokens(io.StringIO(source).readline):
        if tok.type in {token.INDENT, token.DEDENT, tokenize.COMMENT, tokenize.NL, token.ENDMARKER}:
            continue
        if tok.type != token.NEWLINE:
            line.append(tok)
            continue
        indent = line[0].start[1]
        while blocks and blocks[-1][0] >= indent:
            blocks.pop()
        in_function = any(is_function for _, is_function in blocks)
        yield Statement(line, indent, in_function)
        if line[-1].string == ":":
            text = " ".join(tok.string for tok in line)
            blocks.append((indent, bool(FUNCTION.match(text))))
        line = []


def expression_of(tokens: list[tokenize.TokenInfo]) -> tuple[int, int] | None:
    """Return the first token of a statement's expression and the one behind its last; None if it has no expression."""
    first = tokens[0].string
    if first in {"if", "elif", "while"} and tokens[-1].string == ":":
        return 1, len(tokens) - 1
    if first == "return":
        return (1, len(tokens)) if len(tokens) > 1 else None
    if first in {
        "def",
        "cpdef",
        "for",
        "from",
        "cimport",
        "import",
        "class",
        "raise",
        "assert",
        "with",
    }:
        return None
    depth = 0
    assigned = None
    for place, tok in enumerate(tokens):
        if tok.string in "([{":
            depth += 1
        elif tok.string in ")]}":
            depth -= 1
        elif depth == 0 and tok.string in ASSIGNMENTS:
            if assigned is not None:  # a = b = c
                return None
            assigned = place
        elif depth == 0 and tok.string == ",":  # cdef int a = 1, b = 2
            return None
    if assigned is None or tokens[-1].string == ":":
        return None
    return assigned + 1, len(tokens)


def is_operand(tok: tokenize.TokenInfo) -> bool:
    """Return whether a token can end an operand, so that an operator behind it has two operands."""
    if tok.string in {"and", "or", "not", "in", "is", "if", "else", "return", "lambda"}:
        return False
    return tok.type in {token.NAME, token.NUMBER, token.STRING} or tok.string in {")", "]"}


def forms_of(tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[int, str]]:
    """Yield the place and the new text of each token of an expression that can be changed."""
    if [tok.string for tok in tokens] == ["-", "1"]:
        return  # the sign of a failure: callers ask whether it is below 0
    casts = 0
    for place, tok in enumerate(tokens):
        text = tok.string
        behind_operand = place > 0 and is_operand(tokens[place - 1])
        if text == "<" and not behind_operand:  # <int64_t> size
            casts += 1
            continue
        if casts:
            casts -= text == ">"
            continue
        if text in COMPARISONS and behind_operand:
            for other in COMPARISONS[text]:
                yield place, other
        elif text in OTHER_OPERATORS and behind_operand:
            yield place, OTHER_OPERATORS[text]
        elif text == "not" and place and tokens[place - 1].string == "is":
            yield place, ""
        elif text == "not" and tokens[place + 1].string == "in":
            continue
        elif tok.type == token.NAME and text in WORDS:
            yield place, WORDS[text]
        elif [other.string for other in tokens[max(0, place - 2) : place]] == ["shape", "["]:
            continue  # a view of one dimension has no other length
        elif tok.type == token.NUMBER and re.fullmatch(r"\d+|0x[0-9a-fA-F]+", text):
            yield place, str(int(text, 0) + 1)


def text_of(tokens: list[tokenize.TokenInfo], changed: int = -1, form: str = "") -> str:
    """Return tokens as one line of source, one of them changed."""
    parts = [form if place == changed else tok.string for place, tok in enumerate(tokens)]
    return " ".join(parts)


def mutate_native(source: str, add: Callable[[int, str], int | None]) -> str:
    """Return a Cython file with all of its mutants, each behind a switch.

    Args:
        source: The .pyx or .pxd file.
        add: Takes the line and a description of a mutant, and returns its number; None to leave this mutant out.
    """
    lines = source.splitlines(keepends=True)
    replaced: list[tuple[tuple[int, int], tuple[int, int], str]] = []
    for statement in statements_of(source):
        if not statement.in_function:
            continue
        tokens = statement.tokens
        found = expression_of(tokens)
        line = tokens[0].start[0]
        if found is None:
            whole = text_of(tokens)
            is_call = tokens[-1].string == ")" and tokens[0].type == token.NAME
            if is_call and tokens[0].string not in {
                "cdef",
                "def",
                "raise",
                "assert",
                "del",
                "with",
            }:
                number = add(line, f"{whole}: left out")
                if number is not None:
                    text = f"if not blobpack_mutant({number}): {whole}"
                    replaced.append((tokens[0].start, tokens[-1].end, text))
            continue
        start, stop = found
        expression = tokens[start:stop]
        original = text_of(expression)
        text = original
        # Cython makes a C value of both forms only if they have one type
        cast = "<bint> " if tokens[0].string in {"if", "elif", "while"} else ""
        for place, form in forms_of(expression):
            other = text_of(expression, place, form)
            number = add(line, f"{original} → {other}")
            if number is not None:
                if form == "and":
                    # Cython compiles "a == 1 and a == 2" to a switch, as if it were "a in (1, 2)"
                    other = text_of(expression, place, f"and blobpack_mutant({number}) and")
                text = f"{cast}({other}) if blobpack_mutant({number}) else {cast}({text})"
        if tokens[0].string == "if":
            number = add(line, f"if {original}: never")
            if number is not None:
                text = f"False if blobpack_mutant({number}) else {cast}({text})"
        if text != original:
            replaced.append((expression[0].start, expression[-1].end, f"({text})"))
    for (first, column), (last, end), text in reversed(replaced):
        # as many lines as before, so that errors of the compiler name the lines of the original
        tail = "\n" * (last - first)
        behind = lines[last - 1][end:]
        lines[first - 1 : last] = [lines[first - 1][:column] + text + behind + tail]
        if tail:
            lines[first - 1 : first] = [lines[first - 1].rstrip("\n") + "\n"] + ["\n"] * (
                last - first
            )
    return insert_import("".join(lines))


def insert_import(source: str) -> str:
    """Return a Cython file that declares the switch, behind its docstring and its first comments."""
    lines = source.splitlines(keepends=True)
    in_docstring = False
    for place, line in enumerate(lines):
        text = line.strip()
        if in_docstring:
            in_docstring = '"""' not in text
        elif text.startswith('"""'):
            in_docstring = text.count('"""') == 1
        elif text and not text.startswith("#") and not text.startswith("from __future__"):
            lines[place:place] = [IMPORT]
            break
    return "".join(lines)
