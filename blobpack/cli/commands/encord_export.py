"""The command `blobpack encord export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack.cli.opened import opened_source, select
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    index_option,
    json_option,
    selection_options,
)
from blobpack.cli.params import LocalPath, TwoParts, Whole, usage_errors
from blobpack.cli.printing import (
    print_note,
    print_report_line,
    progress_option,
    progress_shown,
)
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json
from blobpack.errors import SourceError

# each of its names is loaded at its first use: `blobpack --help` loads none of them
from blobpack.integrations import encord as library
from blobpack.model import EncordForm, EncordImageMetadata, EncordKind, EncordTitle
from blobpack.progress import Progress
from blobpack.quoting import printable
from blobpack.wording import counted
from blobpack.writing.new_folder import new_folder

if TYPE_CHECKING:
    from blobpack.integrations.encord import Registration
    from blobpack.stores.location import Location

KINDS = get_args(EncordKind)


class KindGlob(TwoParts):
    """A kind, or a kind and a glob, such as image_groups=scans/*."""

    name = "kind"

    def fault_of(self, text: str, first: str, second: str | None) -> str:
        """Demand a kind that exists, and a glob behind "="."""
        if first in KINDS and second != "":
            return ""
        return f"{text!r} is none of {', '.join(KINDS)}, with or without =GLOB, such as images='cats/*'"


@click.command()
@blob_argument
@click.argument("folder", type=LocalPath(file_okay=False), metavar="FOLDER")
@click.option(
    "--url",
    "base_url",
    required=True,
    metavar="URL",
    help="URL of BLOB at the gateway, such as https://host/b/out, or https://host/k/TOKEN/b/out. Names of members follow it.",
)
@click.option(
    "--kind",
    "kinds",
    type=KindGlob(),
    multiple=True,
    metavar="KIND[=GLOB]",
    help="Register members as images, image_groups or image_sequences. A group or sequence consists of the images of a folder. With GLOB, only "
    'members whose names match it are registered; * also matches "/". Repeatable.  [default: images]',
)
@selection_options
@click.option(
    "--title",
    type=click.Choice(get_args(EncordTitle)),
    default="name",
    show_default=True,
    help='Title of an image. name: its name. basename: the part of its name after the last "/". url: no title is written, and '
    "Encord uses the path of the URL.",
)
@click.option(
    "--metadata",
    # the name `metadata` belongs to the metadata of objects in S3; see cli/remote.py
    "metadata_file",
    type=LocalPath(exists=True, dir_okay=False),
    metavar="FILE",
    help="Client metadata, key frames and custom embeddings: .jsonl, .csv or .parquet, with a column `name`.",
)
@click.option(
    "--image-metadata",
    type=click.Choice(get_args(EncordImageMetadata)),
    default="known",
    show_default=True,
    help="Media type, size, width and height of images. known: write them if the index has them. require: fail if the index "
    "does not have them for an image, because strict client-only access needs them. none: do not write them.",
)
@click.option(
    "--objects",
    type=LocalPath(exists=True, dir_okay=False),
    metavar="FILE",
    help="Also register the whole objects in this file of JSON lines, such as "
    '{"kind": "videos", "url": "s3://bucket/v.mp4"}.',
)
@click.option("--blobs", is_flag=True, help="Also register the tars themselves, as text files.")
@click.option(
    "--access-point",
    metavar="ARN",
    help="ARN of a multi-region access point. It replaces the bucket in s3:// URLs of whole objects.",
)
@click.option(
    "--form",
    type=click.Choice(get_args(EncordForm)),
    default="json",
    show_default=True,
    help="JSON for the web page and the SDK, JSON of the SDK's DataUploadItems, or CSV.",
)
@click.option(
    "--chunk",
    type=Whole(1, 500_000),
    metavar="N",
    help="Largest number of items in a file.  [default: Encord's limit, 500000]",
)
@click.option(
    "--skip-duplicate-urls",
    is_flag=True,
    help="Let Encord skip items whose URLs are already in its folder.",
)
@click.option(
    "--upsert-metadata",
    is_flag=True,
    help="With --skip-duplicate-urls: let Encord update the metadata of skipped items.",
)
@index_option
@allow_option
@progress_option
@remote_options
@json_option
def export(
    blob: Location,
    folder: str,
    base_url: str,
    kinds: tuple[tuple[str, str], ...],
    objects: str | None,
    blobs: bool,
    index_path: Location | None,
    allow: tuple[Location, ...],
    as_json: bool,
    title: EncordTitle,
    metadata_file: str | None,
    image_metadata: EncordImageMetadata,
    access_point: str | None,
    form: EncordForm,
    chunk: int | None,
    skip_duplicate_urls: bool,
    upsert_metadata: bool,
    **selection: Any,
) -> None:
    """Write files that register the images in BLOB with Encord.

    FOLDER must be new or empty. It appears whole or not at all. The files are called registration-00001.json and so on, and
    none of them exceeds Encord's limits.

    \b
    blobpack encord export out.tar files/ --url https://images.example.org/b/out --skip-duplicate-urls
    blobpack encord export out.tar groups/ --url https://images.example.org/b/out --kind image_groups
    blobpack encord export out.tar both/ --url https://images.example.org/b/out --kind images='cats/*' --kind image_groups='dogs/*'
    """
    reader = opened_source(blob, index_path, rescan=None, allow=allow)
    chosen = select(reader.index, **selection)
    members = {
        kind: chosen.select(*globs) if all(globs) else chosen
        for kind, globs in _globs(kinds or (("images", ""),)).items()
    }
    with usage_errors(base_url="--url"), progress_shown("items") as progress:
        whole = [*(library.read_objects(objects) if objects else ())]
        whole += library.blob_objects(reader) if blobs else []
        with (
            new_folder(Path(folder), "a registration") as new,
            library.registration(
                reader,
                base_url,
                members,
                title=title,
                metadata=metadata_file,
                image_metadata=image_metadata,
                objects=whole,
                access_point=access_point,
                form=form,
                output="files",
                folder=new,
                chunk=chunk,
                skip_duplicate_urls=skip_duplicate_urls,
                upsert_metadata=upsert_metadata,
            ) as made,
        ):
            total = sum(map(len, members.values())) + len(whole)
            files: dict[str, int] = {}
            for path in made:
                name = os.path.join(folder, Path(str(path)).name)  # noqa: PTH118 (as the user typed it)
                files[name] = made.items - sum(files.values())
                progress(Progress(made.items, 0, total))
            if not made.items:
                raise SourceError(
                    f"{reader.url}: there is nothing to register, so {folder} is not written"
                )
    _print_export(made, folder, files, as_json=as_json)


def _globs(kinds: tuple[tuple[str, str], ...]) -> dict[Any, list[str]]:
    """Return the globs of each kind; [""] stands for all members."""
    return {kind: [glob for other, glob in kinds if other == kind] for kind, _ in kinds}


def _print_export(made: Registration, folder: str, files: dict[str, int], *, as_json: bool) -> None:
    if made.unused:
        print_note(f"{counted(made.unused, 'row')} of metadata belong to no item")
    if as_json:
        print_json(
            {
                "folder": folder,
                "files": files,
                "items": made.items,
                "urls": made.urls,
                "skipped": dict(made.left_out),
                "unused_rows": made.unused,
            }
        )
        return
    for reason, count in made.left_out.items():
        print_report_line(f"left out {counted(count, 'member')}: {reason}")
    print_report_line(
        printable(
            f"wrote {counted(made.files, 'file')} to {folder}: {counted(made.items, 'item')}, {counted(made.urls, 'URL')}"
        )
    )
