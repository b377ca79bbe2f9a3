"""The command `blobpack export`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack.cli.opened import opened_source, select
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    force_option,
    index_option,
    json_option,
    selection_options,
)
from blobpack.cli.params import PathOrS3, Whole
from blobpack.cli.printing import print_note, print_report_line
from blobpack.cli.remote import upload_options
from blobpack.cli.report import print_json
from blobpack.errors import BlobpackError

# each of its names is loaded at its first use: `blobpack --help` loads none of them
from blobpack.integrations import export as library
from blobpack.model import ExportTool
from blobpack.quoting import printable
from blobpack.wording import counted

if TYPE_CHECKING:
    from blobpack.integrations.export import ExportReport
    from blobpack.stores.location import Location


@click.command()
@click.argument("tool", type=click.Choice(get_args(ExportTool)))
@blob_argument
@click.option(
    "-o",
    "--output",
    type=PathOrS3(is_read=False, prefix=True, allow_dash=True),
    metavar="FILE",
    help="Path or s3:// URL of the file, or a folder or prefix for it; - writes the list to stdout.  [default: in the "
    "current folder: images.json (coco), manifest.jsonl (cvat), samples.jsonl (fiftyone), metadata.jsonl (huggingface), "
    "tasks.json (label-studio) or sagemaker.manifest]",
)
@click.option(
    "--url",
    metavar="URL",
    help="URL of BLOB at a gateway, such as http://127.0.0.1:8000/b/out; for sagemaker, the s3:// URL of the prefix that "
    "holds the images. fiftyone, label-studio and sagemaker need it; cvat does not accept it.",
)
@click.option(
    "--chunk",
    type=Whole(1),
    metavar="N",
    help="Write at most N images into one file.  [default: the limit of the tool, if it has one]",
)
@force_option
@index_option
@allow_option
@selection_options
@upload_options
@json_option
def export(
    tool: ExportTool,
    blob: Location,
    output: Location | None,
    url: str | None,
    chunk: int | None,
    force: bool,
    index_path: Location | None,
    allow: tuple[Location, ...],
    as_json: bool,
    **selection: Any,
) -> None:
    """Write a file that lists the images of BLOB for an annotation tool.

    The file is made from the index, and no image is read. The tool then reads the images by their URLs, from
    `blobpack serve`, or by their names. Options select members: an image is listed if it meets all of them. If there are
    more images than the tool accepts in one file, several files are written: tasks.json, tasks-2.json and so on.

    \b
    blobpack export label-studio out.tar --url http://127.0.0.1:8000/b/out -o tasks.json
    blobpack export coco out.tar --filter 'cats/*' -o cats.json
    blobpack export cvat out.tar -o manifest.jsonl
    """
    to_stdout = output is not None and output.whole == "-"
    if to_stdout and chunk:
        raise click.UsageError("--chunk needs files: name one with -o")
    reader = opened_source(blob, index_path, rescan=None, allow=allow)
    try:
        report = library.write_export(
            reader,
            sys.stdout.buffer if to_stdout else output or library.FILE_NAMES[tool],
            tool,
            url=url,
            members=select(reader.index, **selection),
            chunk=chunk,
            force=force,
        )
    except BlobpackError:
        raise
    # the URL is missing or of another kind, or the suffix promises another format
    except ValueError as exc:
        message = str(exc).replace("target", "-o", 1) if "target" in str(exc) else f"--{exc}"
        raise click.UsageError(message) from exc
    _print(report, as_json=as_json, to_stdout=to_stdout)


def _print(report: ExportReport, *, as_json: bool, to_stdout: bool) -> None:
    """Print the report; to stderr, if stdout carries the images."""
    if as_json:
        fields = {
            "images": report.images,
            "files": report.files,
            "not_exported": report.left_out,
            "first_url": report.first_url,
            "seconds": round(report.seconds, 3),
        }
        print_json(fields, err=to_stdout)
        return
    tell = print_note if to_stdout else print_report_line
    tell(printable(str(report)))
    if report.first_url:
        tell(printable(f"the first one: {report.first_url}"))
    if report.left_out:
        print_note(
            f"left out: {counted(report.left_out, 'member')} (no image, no known width and height, or replaced by a later "
            "member of the same name)"
        )
