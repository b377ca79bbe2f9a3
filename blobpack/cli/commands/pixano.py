"""The commands `blobpack pixano …`."""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from blobpack.cli.commands.serve import names_of
from blobpack.cli.groups import CommandGroup
from blobpack.cli.opened import opened_source
from blobpack.cli.options import allow_option, cache_option, json_option, listen_options
from blobpack.cli.params import BlobUrl, LocalPath
from blobpack.cli.printing import print_note, print_report_line
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json
from blobpack.quoting import one_line
from blobpack.wording import counted

if TYPE_CHECKING:
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.server import Listener
    from blobpack.stores.location import Location

PORT = 7000


@click.group(cls=CommandGroup)
def pixano() -> None:
    """Show datasets of Pixano 0.6 with images from blobs.

    \b
    blobpack pixano serve library/ health.tar
    """


@pixano.command()
@click.argument("library", type=LocalPath(exists=True, file_okay=False))
@click.argument("blobs", nargs=-1, required=True, metavar="BLOB...", type=BlobUrl(prefix=True))
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Name of BLOB, with which the URLs of its images begin. Repeatable: the first name is for the first BLOB, and so on.  "
    "[default: the name of the file or folder, without .tar]",
)
@listen_options(PORT)
@click.option(
    "--insecure-public",
    is_flag=True,
    help="Let everybody who can reach the address read and change all datasets: Pixano asks for no password.",
)
@allow_option
@cache_option
@remote_options
@json_option
def serve(
    library: str,
    blobs: tuple[Location, ...],
    names: tuple[str, ...],
    host: str,
    port: int,
    insecure_public: bool,
    allow: tuple[Location, ...],
    cache: str | None,
    cache_bytes: int,
    as_json: bool,
) -> None:
    """Serve the application of Pixano 0.6, until SIGTERM or Ctrl-C.

    LIBRARY is the folder of Pixano's datasets. Images are read from BLOBs instead of a folder of media. If the URL of an image
    is NAME/MEMBER, the image is the member MEMBER of the BLOB with the name NAME. A BLOB may also be a collection, or a folder,
    prefix or glob of blobs.

    \b
    blobpack pixano serve library/ health.tar
    """
    # imported here, because Pixano, Starlette and uvicorn are optional
    from blobpack.gateway.app import gateway_app
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.server import Listener, is_loopback, run
    from blobpack.integrations.pixano.application import PixanoApp

    if not (is_loopback(host) or insecure_public):
        raise click.UsageError(
            f"other machines can reach {host}, and Pixano asks for no password: give --insecure-public"
        )
    readers = {
        name: opened_source(
            blob, None, rescan=None, allow=allow, cache=cache, cache_bytes=cache_bytes
        )
        for name, blob in names_of(blobs, names).items()
    }
    served = ServedBlobs(readers)

    def read(path: str) -> bytes | None:
        member = served.find(path)
        return None if member is None else member.blob.reader.read(member.row)

    # Pixano demands a folder of media
    media = click.get_current_context().with_resource(TemporaryDirectory(prefix="blobpack-media-"))
    app = PixanoApp(library, media, gateway_app(served), read)
    if not is_loopback(host):
        print_note(f"everybody who can reach {host} can read and change everything")
    listener = Listener(app, host, port)
    run([listener], lambda: print_ready(served, listener, library, as_json=as_json))


def print_ready(served: ServedBlobs, listener: Listener, library: str, *, as_json: bool) -> None:
    """Print where the server listens; programs wait for this line."""
    if as_json:
        members = {blob.name: len(blob.index) for blob in served}
        print_json({"url": listener.url, "library": library, "served": members})
    else:
        for blob in served:
            print_report_line(
                f"{one_line(blob.name)}: {counted(len(blob.index), 'member')} of {one_line(blob.reader.url)}"
            )
        print_report_line(f"Pixano's library {one_line(library)} at {listener.url}")
    sys.stdout.flush()
