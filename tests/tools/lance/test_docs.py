"""The examples of docs/ that need this tool run, and print what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOOL = "lance"


def test_examples_run_and_print_what_is_shown(run_pages: Callable[[str], set[str]]) -> None:
    assert run_pages(TOOL) == {"datasets"}
