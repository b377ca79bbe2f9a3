"""The options --quiet and --no-progress, and everything that they silence: reports, notes and progress bars.

Strategy: stdout carries what was asked for, the lines of `ls`, say, and then one line of report; stderr carries notes and
progress. What was asked for, JSON and errors are always printed.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tqdm import tqdm

    from blobpack.progress import Progress, ProgressCallback

F = TypeVar("F", bound="Callable[..., Any]")

# keys in click's Context.meta, which all extensions share: hence the prefix
QUIET, NO_PROGRESS = "blobpack.quiet", "blobpack.no-progress"


def quiet_option(command: F) -> F:
    """Add the option --quiet."""

    def keep(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        ctx.meta[QUIET] = wanted
        if wanted:
            warnings.simplefilter("ignore")

    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        # handled here alone, so that no command needs a parameter for it
        expose_value=False,
        callback=keep,
        help="Print no report, no notes and no progress, only what was asked for, and errors.",
    )(command)


def progress_option(command: F) -> F:
    """Add the option --no-progress."""

    def keep(ctx: click.Context, param: click.Parameter, unwanted: bool) -> None:
        ctx.meta[NO_PROGRESS] = unwanted

    return click.option(
        "--no-progress",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Show no progress bar. If stderr is not a terminal, there is none anyway.",
    )(command)


def print_report_line(text: str) -> None:
    """Print a line of report on stdout, unless --quiet is given."""
    if not _is_set(QUIET):
        click.echo(text)


def print_note(text: str) -> None:
    """Print a note on stderr, unless --quiet is given."""
    if not _is_set(QUIET):
        click.echo(text, err=True)


def _is_set(key: str) -> bool:
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(key))


@contextmanager
def progress_bar(unit: str, total: int | None = None) -> Iterator[tqdm[Any]]:
    """Show a progress bar on stderr, if stderr is a terminal and no option forbids it."""
    # imported here, so that --help, and what needs no bar, do not wait for it
    from tqdm import tqdm

    # None: tqdm itself looks whether its file is a terminal. The bar vanishes at the end: the report stays.
    disable = True if _is_set(QUIET) or _is_set(NO_PROGRESS) else None
    with tqdm(
        total=total, unit=unit, unit_scale=True, file=sys.stderr, disable=disable, leave=False
    ) as bar:
        yield bar


@contextmanager
def progress_shown(unit: str) -> Iterator[ProgressCallback]:
    """Show a progress bar of the pieces that are done, and their bytes; yield the function that the library calls.

    If the number of all pieces is known, the bar also shows their share, and the time that is left.
    """
    with progress_bar(unit) as bar:

        def show(progress: Progress) -> None:
            # the library reports sums and not differences; update(0) then redraws, ten times a second at most
            bar.n, bar.total = progress.done, progress.total
            of = f" of {progress.total_bytes / 1e6:,.0f}" if progress.total_bytes else ""
            bar.set_postfix_str(f"{progress.done_bytes / 1e6:,.0f}{of} MB", refresh=False)
            bar.update(0)

        yield show
