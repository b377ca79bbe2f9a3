"""What the commands that write a blob or a collection share: where its index goes, and what is told at the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from blobpack.model import IndexPlace

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.collection.collect import CollectReport
    from blobpack.editing.append import AppendReport
    from blobpack.editing.merge import CombineReport
    from blobpack.packing.pack import PackReport
    from blobpack.stores.location import Location

F = TypeVar("F", bound="Callable[..., Any]")


def place_option(flag: str) -> Callable[[F], F]:
    """Make the option that says where OUT's index goes."""
    return click.option(
        flag,
        "place",
        type=click.Choice(get_args(IndexPlace)),
        default="embed",
        show_default=True,
        help="Where OUT's index goes: into it, beside it or nowhere.",
    )


def print_report(
    report: PackReport | AppendReport | CombineReport | CollectReport,
    *fields: str,
    as_json: bool,
    **named: object,
) -> None:
    """Print what was done.

    Args:
        report: As text.
        fields: What of it JSON has, beside the seconds.
        as_json: Print JSON.
        named: What else JSON has.
    """
    if not as_json:
        click.echo(str(report))
        return
    told = named | {field: getattr(report, field) for field in fields}
    click.echo(json.dumps(told | {"seconds": round(report.seconds, 3)}))


def print_packed(report: PackReport, *, as_json: bool) -> None:
    """Print what was packed."""
    print_report(
        report,
        *("members", "payload_bytes", "blob_bytes", "skipped", "dry_run", "shards"),
        as_json=as_json,
    )


def print_combined(report: CombineReport, out: Location, *, as_json: bool) -> None:
    """Print what was copied."""
    print_report(
        report,
        *("members", "payload_bytes", "blob_bytes", "replaced", "new_headers", "left_out"),
        as_json=as_json,
        blob=out.text,
    )
