"""The commands `blobpack supervisely …`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blobpack.cli.groups import CommandGroup
from blobpack.cli.opened import opened_source
from blobpack.cli.options import allow_option, blob_argument, index_option, json_option
from blobpack.cli.params import LocalPath, TwoParts, Whole, usage_errors
from blobpack.cli.printing import (
    print_note,
    print_report_line,
    progress_option,
    progress_shown,
)
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json

# each of its names is loaded at its first use: `blobpack --help` loads none of them
from blobpack.integrations import supervisely as library
from blobpack.model import THREADS_ASKED_MAX
from blobpack.quoting import printable
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.index.index import Index
    from blobpack.integrations.supervisely import Client
    from blobpack.stores.location import Location

F = TypeVar("F", bound="Callable[..., Any]")

DEFAULT_DATASET = "ds0"


class DatasetGlob(TwoParts):
    """A dataset's name and a glob, such as train=train/*."""

    name = "dataset"

    def fault_of(self, text: str, first: str, second: str | None) -> str:
        """Demand a name and a glob."""
        return "" if first and second else f"{text!r} is not NAME=GLOB, such as train='train/*'"


@click.group(cls=CommandGroup)
def supervisely() -> None:
    """Build, check, upload and download blob projects of Supervisely.

    These commands don't need Supervisely's SDK. The SDK can open and upload the projects that they build.

    \b
    blobpack supervisely build out.tar project/
    blobpack supervisely check project/
    """


@supervisely.command()
@blob_argument
@click.argument("folder", type=LocalPath(file_okay=False), metavar="PROJECT")
@click.option(
    "--dataset",
    "datasets",
    type=DatasetGlob(),
    multiple=True,
    metavar="NAME=GLOB",
    help='Put the members whose names match GLOB, in which * also matches "/", into the dataset NAME. Repeatable, also '
    f"for one NAME.  [default: all members, in {DEFAULT_DATASET}]",
)
@click.option(
    "--annotations",
    type=LocalPath(exists=True, file_okay=False),
    metavar="DIR",
    help="Take the annotation of an image from the file NAME.json in this folder, or in the folder of the member or "
    "dataset there. Other images get an empty annotation.",
)
@click.option(
    "--meta",
    type=LocalPath(exists=True, dir_okay=False),
    metavar="FILE",
    help="The project's classes and tags: a meta.json.  [default: none]",
)
@click.option(
    "--link/--copy",
    default=True,
    show_default=True,
    help="Make a hard link to a local BLOB, if the file system can, or always copy it.",
)
@index_option
@allow_option
@progress_option
@remote_options
@json_option
def build(
    blob: Location,
    folder: str,
    datasets: tuple[tuple[str, str], ...],
    annotations: str | None,
    meta: str | None,
    link: bool,
    index_path: Location | None,
    allow: tuple[Location, ...],
    as_json: bool,
) -> None:
    """Make a local project of the members of BLOB.

    The name of an image is the part of its member's name after the last /. PROJECT must not exist yet, or be an empty
    folder. It appears whole or not at all. If BLOB is a collection, or a folder, prefix or glob of blobs, the project has
    several blobs.

    \b
    blobpack supervisely build cats.tar project/
    blobpack supervisely build out.tar both/ --dataset train='cats/*' --dataset val='dogs/*'
    """
    reader = opened_source(blob, index_path, rescan=None, allow=allow)
    chosen: dict[str, Index] = {}
    for name, glob in datasets or [(DEFAULT_DATASET, "*")]:
        globs = [other for same, other in datasets if same == name] or [glob]
        chosen[name] = reader.index.select(*globs)
        if not len(chosen[name]):
            print_note(f"dataset {name!r}: no member matches {', '.join(globs)}")
    # read here, because the library takes a dict
    from blobpack.integrations.supervisely.documents import read_document

    with progress_shown("images") as progress, usage_errors():
        report = library.build_project(
            folder,
            {name: index for name, index in chosen.items() if len(index)},
            annotations=annotations,
            meta=read_document(Path(meta)) if meta else None,
            link=link,
            progress=progress,
        )
    if as_json:
        fields = {"folder": report.folder, "images": report.images, "datasets": report.datasets}
        print_json(
            {
                **fields,
                "blobs": len(report.blobs),
                "blob_bytes": sum(report.blobs.values()),
                "annotated": report.annotated,
                "unused": report.unused,
                "seconds": round(report.seconds, 3),
            }
        )
    else:
        print_report_line(str(report))


@supervisely.command()
@click.argument("folder", type=LocalPath(exists=True, file_okay=False), metavar="PROJECT")
@json_option
@click.pass_context
def check(ctx: click.Context, folder: str, as_json: bool) -> None:
    """Check a local project, whichever tool made it.

    Each problem is printed to stdout: images without annotation, annotations that Supervisely's SDK refuses, offsets that
    do not fit their blob, images that are listed twice, and anything else that the SDK can't read. If there are any
    problems, the exit code is 1.

    \b
    blobpack supervisely check project/
    """
    problems = library.check_project(folder)
    if as_json:
        print_json({"folder": folder, "ok": not problems, "problems": list(map(asdict, problems))})
    else:
        for problem in problems:
            click.echo(printable(str(problem)))
        print_report_line(counted(len(problems), "problem") if problems else "no problems")
    if problems:
        ctx.exit(1)


def server_options(command: F) -> F:
    """Add the options for the server; the token comes from the environment alone."""
    command = click.option(
        "--threads",
        type=Whole(1, THREADS_ASKED_MAX),
        metavar="N",
        default=8,
        show_default=True,
        help="Number of calls to the server at the same time.",
    )(command)
    return click.option(
        "--server",
        envvar="SERVER_ADDRESS",
        show_envvar=True,
        required=True,
        metavar="URL",
        help="Address of the server, such as https://app.supervisely.com. The API token of your account is read from the "
        "environment variable API_TOKEN.",
    )(command)


def connected(server: str, threads: int) -> Client:
    """Return a client of a server; click closes it when the command ends."""
    # no option: other users of this machine see the arguments of a command
    token = os.environ.get("API_TOKEN", "")
    if not token:
        raise click.UsageError("the environment variable API_TOKEN must hold your API token")
    with usage_errors():
        client = library.Client(server, token, threads=threads)
    return click.get_current_context().with_resource(client)


@supervisely.command()
@click.argument("folder", type=LocalPath(exists=True, file_okay=False), metavar="PROJECT")
@click.option(
    "--workspace",
    type=Whole(1),
    required=True,
    metavar="ID",
    help="Number of the workspace that gets the project.",
)
@click.option(
    "--name",
    metavar="TEXT",
    help="Name of the new project. If another project has it, a number is added.  [default: the name of the "
    "folder]",
)
@server_options
@progress_option
@json_option
def upload(
    folder: str, workspace: int, name: str | None, server: str, threads: int, as_json: bool
) -> None:
    """Upload a local project as a new project.

    The blobs are uploaded to the team's files. Then the images are added by their names and their offsets in the blobs. If
    an upload of this project was interrupted, run the same command again to continue it.

    \b
    blobpack supervisely upload project/ --workspace 12 --server https://app.supervisely.com
    """
    client = connected(server, threads)
    with progress_shown("images") as progress:
        report = client.upload_project(folder, workspace, name, progress=progress)
    if as_json:
        print_json(
            {
                "project": report.project_id,
                "title": report.name,
                "images": report.images,
                "annotated": report.annotated,
                "blobs": len(report.blobs),
                "url": report.url,
                "resumed": report.resumed,
            }
        )
    else:
        print_report_line(printable(str(report)))
        print_report_line(printable(f"open {report.url}"))


@supervisely.command()
@click.argument("project", type=Whole(1), metavar="ID")
@click.argument("folder", type=LocalPath(file_okay=False), metavar="PROJECT")
@server_options
@progress_option
@json_option
def download(project: int, folder: str, server: str, threads: int, as_json: bool) -> None:
    """Download the project with the number ID, and its blobs.

    Each blob is downloaded once, as a whole, and verified. If the folder holds an earlier download, only what is new or has
    changed is fetched. If a download was interrupted, run the same command again to continue it.

    \b
    blobpack supervisely download 101 down/ --server https://app.supervisely.com
    """
    client = connected(server, threads)
    with progress_shown("images") as progress:
        report = client.download_project(project, folder, progress=progress)
    if as_json:
        print_json(
            {
                "project": project,
                "folder": report.folder,
                "images": report.images,
                "datasets": report.datasets,
                "fetched": report.fetched,
                "blobs": report.blobs,
            }
        )
    else:
        print_report_line(printable(str(report)))
