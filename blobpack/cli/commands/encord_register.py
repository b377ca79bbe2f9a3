"""The command `blobpack encord register`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blobpack.cli.options import json_option
from blobpack.cli.params import LocalPath, usage_errors
from blobpack.cli.printing import print_report_line, progress_option, progress_shown
from blobpack.cli.report import print_json
from blobpack.errors import SourceError

# each of its names is loaded at its first use: `blobpack --help` loads none of them
from blobpack.integrations import encord as library
from blobpack.quoting import printable

if TYPE_CHECKING:
    from blobpack.integrations.encord import RegisterReport


@click.command()
@click.argument("files", nargs=-1, required=True, type=LocalPath(exists=True), metavar="FILE...")
@click.option(
    "--integration",
    required=True,
    metavar="TEXT",
    help="Title or id of the integration in Encord that reads the URLs.",
)
@click.option(
    "--folder",
    required=True,
    metavar="TEXT",
    help="Name or id of the folder in Encord. If no folder has this name, it is made.",
)
@click.option(
    "--key",
    type=LocalPath(exists=True, dir_okay=False),
    metavar="FILE",
    help="Private SSH key of your Encord account.  [default: ENCORD_SSH_KEY_FILE or ENCORD_SSH_KEY]",
)
@click.option(
    "--domain",
    metavar="URL",
    default="https://api.encord.com",
    show_default=True,
    envvar="ENCORD_DOMAIN",
    show_envvar=True,
    help="Address of Encord's API; https://api.us.encord.com in the US.",
)
@click.option(
    "--ignore-errors",
    is_flag=True,
    help="If some items of a file fail, let Encord register the others.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until Encord has finished each job.",
)
@progress_option
@json_option
@click.pass_context
def register(
    ctx: click.Context,
    files: tuple[str, ...],
    integration: str,
    folder: str,
    key: str | None,
    domain: str,
    ignore_errors: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Register files with Encord, through its SDK.

    FILE is a JSON file, or a folder of JSON files that `blobpack encord export` has written. All files are checked before the
    first one is sent. If a job ends with errors, the exit code is 1. The SDK must be installed: pip install encord.

    \b
    blobpack encord register files/ --integration gateway --folder animals
    """
    paths = [
        path
        for given in map(Path, files)
        for path in (sorted(given.glob("*.json")) if given.is_dir() else [given])
    ]
    if not paths:
        raise SourceError(f"{files[0]}: there are no .json files", paths=files)
    with usage_errors(), progress_shown("files") as progress:
        report = library.register(
            paths,
            integration=integration,
            folder=folder,
            key=key,
            domain=domain,
            ignore_errors=ignore_errors,
            wait=wait,
            progress=progress,
        )
    _print_registered(report, as_json=as_json)
    if report.failed:
        ctx.exit(1)


def _print_registered(report: RegisterReport, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "folder": report.folder,
                "title": report.name,
                "new": report.is_new,
                "items": sum(job.items for job in report.jobs),
                "jobs": [
                    {"file": job.file, "id": job.id, "status": job.status, "errors": job.errors}
                    for job in report.jobs
                ],
            }
        )
        return
    for job in report.failed:
        for error in job.errors or [job.status]:
            click.echo(printable(f"{job.file}: {error}"))
    print_report_line(printable(str(report)))
