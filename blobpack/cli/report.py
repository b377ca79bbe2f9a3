"""Shared by the commands that write a blob or a collection: the option for its index, and the printed report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from blobpack.cli.printing import print_note, print_report_line
from blobpack.model import IndexPlace
from blobpack.quoting import printable
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blobpack.collection.report import CollectReport
    from blobpack.editing.append import AppendReport
    from blobpack.editing.combine import CombineReport
    from blobpack.model import ScanReport
    from blobpack.packing.pack import PackReport
    from blobpack.stores.location import Location

F = TypeVar("F", bound="Callable[..., Any]")


def place_option(command: F) -> F:
    """Add the option for the place of OUT's index."""
    return click.option(
        "--index",
        "place",
        type=click.Choice(get_args(IndexPlace)),
        default="embed",
        show_default=True,
        help="Where to write OUT's index: into OUT, into a file OUT.idx beside it, or nowhere.",
    )(command)


def print_left_out(what: str, report: ScanReport | None, *, folders: bool = True) -> None:
    """Print on stderr what a scan found and the command did not take, because it has no payload of its own.

    Members behind the end of the archive are not among these: for them the library has a LeftOutWarning, which is printed
    on stderr, too.

    Args:
        what: What these have not, or were not, such as "without offsets".
        report: The report of the index; None if it has none.
        folders: Name folders, too.
    """
    # `tar -t` lists them: without this line, members would seem to be missing
    counts = report.without_row() if report else {}
    listed = [
        counted(count, kind.replace("_", " ").removesuffix("s"), kind.replace("_", " "))
        for kind, count in counts.items()
        if folders or kind != "folders"
    ]
    if listed:
        print_note(f"{what}: {', '.join(listed)}")


def left_out_fields(report: ScanReport | None) -> dict[str, object]:
    """Return what a scan found and did not take, as keys and values for JSON."""
    if report is None:
        return {}
    return {
        "left_out": report.without_row(),
        "members_behind": report.members_behind,
        "other_behind": report.other_behind,
        "unseen_behind": report.unseen_behind,
    }


def print_json(fields: Mapping[str, object], *, err: bool = False) -> None:
    """Print one line of JSON: the name of the command, and what it has to say. docs/schema.json describes the keys.

    Args:
        fields: Keys and values.
        err: Print to stderr, because stdout carries what was asked for.
    """
    click.echo(json.dumps({"command": typed_name(), **fields}), err=err)


def typed_name() -> str:
    """Return the name of the command that runs; of `supervisely build`, both words."""
    ctx, words = click.get_current_context(), []
    # the outermost context is that of the program
    while ctx.parent is not None:
        words.append(ctx.info_name or "")
        ctx = ctx.parent
    return " ".join(reversed(words))


def print_report(
    report: PackReport | AppendReport | CombineReport | CollectReport,
    *fields: str,
    as_json: bool,
    **named: object,
) -> None:
    """Print a report, as text or as one line of JSON.

    Args:
        report: Returned by the library.
        fields: Attributes of the report that JSON has, in addition to the seconds.
        as_json: Print JSON.
        named: Other keys and values that JSON has.
    """
    if not as_json:
        print_report_line(printable(str(report)))
        return
    # the keys are public: fields are chosen one by one, so that a new attribute of a report changes no output
    printed = named | {field: getattr(report, field) for field in fields}
    print_json(printed | {"seconds": round(report.seconds, 3)})


def print_packed(report: PackReport, *more: str, as_json: bool) -> None:
    """Print the report of pack or repack; JSON has more fields if they are named, and all names of a dry run."""
    names = {"names": list(report.index.names)} if report.dry_run else {}
    print_report(
        report,
        *("members", "payload_bytes", "blob_bytes", "skipped", "dry_run", "shards"),
        *more,
        as_json=as_json,
        **names,
    )


def print_combined(report: CombineReport, out: Location, *, as_json: bool) -> None:
    """Print the report of merge or subset."""
    print_report(
        report,
        *("members", "payload_bytes", "blob_bytes", "replaced", "new_headers", "left_out"),
        as_json=as_json,
        blob=out.text,
        with_members_behind=report.members_behind,
    )
