"""The command `blobpack serve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import opened_source
from blobpack.cli.options import (
    PORT_MAX,
    allow_option,
    cache_option,
    json_option,
    keys_option,
    listen_options,
)
from blobpack.cli.params import BlobUrl, Whole
from blobpack.cli.printing import print_note, print_report_line
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json
from blobpack.opening.open import open as open_any
from blobpack.quoting import one_line
from blobpack.stores.access.remote import NO_ACCESS
from blobpack.stores.location import Location
from blobpack.wording import counted

if TYPE_CHECKING:
    from blobpack.gateway.app import GatewayApp
    from blobpack.gateway.s3.face import S3Face
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.server import Listener
    from blobpack.gateway.tokens import Keys
    from blobpack.opening.reader import Reader

PORT = 8000


@click.command()
@click.argument("blobs", nargs=-1, metavar="[BLOB]...", type=BlobUrl(prefix=True))
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Serve BLOB under this name. Repeatable: the first name is for the first BLOB, and so on.  [default: the name of the "
    "file or folder, without .tar]",
)
@listen_options(PORT)
@keys_option
@click.option(
    "--require-token",
    is_flag=True,
    help="Answer requests without a token with 401. On an address that other machines can reach, this is the default, unless "
    "--insecure-public is given.",
)
@click.option(
    "--insecure-public",
    is_flag=True,
    help="Let everybody who can reach the address read everything.",
)
@click.option(
    "--pinned",
    is_flag=True,
    help="Promise that the names will never lead to other bytes, so that browsers and proxies may keep all answers.",
)
@click.option(
    "--s3-port",
    type=Whole(0, PORT_MAX),
    metavar="N",
    help="Also answer S3 requests, on this port: each BLOB is a bucket, and members are keys.",
)
@click.option(
    "--s3-unsigned", is_flag=True, help="With --s3-port, also answer requests without a signature."
)
@click.option(
    "--s3-overlay",
    "overlay",
    multiple=True,
    metavar="s3://BUCKET",
    callback=lambda _context, _option, values: tuple(map(bucket_at, values)),
    help="With --s3-port, also serve this real bucket, read-only. In it, each blob is also a folder of its members. "
    "Repeatable.",
)
@allow_option
@cache_option
@remote_options
@json_option
def serve(
    blobs: tuple[Location, ...],
    names: tuple[str, ...],
    host: str,
    port: int,
    keys: Keys,
    require_token: bool,
    insecure_public: bool,
    pinned: bool,
    s3_port: int | None,
    s3_unsigned: bool,
    overlay: tuple[Location, ...],
    allow: tuple[Location, ...],
    cache: str | None,
    cache_bytes: int,
    as_json: bool,
) -> None:
    """Serve the members of BLOBs over HTTP, until SIGTERM or Ctrl-C.

    The URL `/b/NAME/MEMBER` returns a member's payload, and `/` a gallery. `/openapi.json` describes all routes. A BLOB may
    also be a collection, or a folder, prefix or glob of blobs. The server reads its key pair from the environment variables
    BLOBPACK_SERVE_ACCESS_KEY and BLOBPACK_SERVE_SECRET_KEY, or its key pairs from the file of --keys. `blobpack token` makes
    tokens with a key pair.

    \b
    blobpack serve out.tar
    blobpack serve s3://bucket/train/ --name train --host 0.0.0.0 --keys keys.txt
    blobpack serve out.tar --s3-port 9000 --s3-unsigned
    """
    # imported here, because Starlette and uvicorn are an extra
    from blobpack.gateway.app import gateway_app
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.server import Listener, is_loopback, run

    is_private = is_loopback(host)
    _check_usage(
        host,
        is_private or insecure_public,
        has_keys=bool(keys),
        has_blobs=bool(blobs or overlay),
        has_s3=s3_port is not None,
        s3_unsigned=s3_unsigned,
        has_overlay=bool(overlay),
    )
    if require_token and (not keys or insecure_public):
        raise click.UsageError(
            "--require-token needs a key pair, and does not go with --insecure-public"
        )
    buckets = [place.bucket for place in overlay]
    named = names_of(blobs, names)
    readers: dict[str, Reader] = {
        name: opened_source(
            blob, None, rescan=None, allow=allow, cache=cache, cache_bytes=cache_bytes
        )
        for name, blob in named.items()
    }
    served = ServedBlobs(readers, pinned=pinned, reopen=lambda name: open_any(named[name]))
    app = gateway_app(
        served, keys=keys, require_token=require_token or not (is_private or insecure_public)
    )
    listeners = [Listener(app, host, port, app.ready_answer)]
    if s3_port is not None:
        face = _s3_face(app, served, keys, overlay, unsigned=s3_unsigned)
        listeners.append(Listener(face, host, s3_port))
    if not is_private and insecure_public:
        print_note(f"everybody who can reach {host} can read everything")
    run(listeners, lambda: print_ready(served, listeners, buckets, as_json=as_json))


def _check_usage(
    host: str,
    may_be_open: bool,
    *,
    has_keys: bool,
    has_blobs: bool,
    has_s3: bool,
    s3_unsigned: bool,
    has_overlay: bool,
) -> None:
    """Check that the options fit together.

    Args:
        host: The address to listen on.
        may_be_open: Whether everybody who can reach this address may read everything.
        has_keys: Whether there is a key pair.
        has_blobs: Whether there is anything to serve.
        has_s3: Whether S3 requests are answered.
        s3_unsigned: Whether S3 requests without a signature are answered.
        has_overlay: Whether real buckets are served.

    Raises:
        click.UsageError: they do not.
    """
    if not (may_be_open or has_keys):
        raise click.UsageError(
            f"other machines can reach {host}: give --keys or a key pair in the environment, or --insecure-public"
        )
    if not has_blobs:
        raise click.UsageError("Missing argument '[BLOB]...'.")
    if not has_s3 and (s3_unsigned or has_overlay):
        raise click.UsageError(f"--s3-{'unsigned' if s3_unsigned else 'overlay'} needs --s3-port")
    if has_s3 and not (has_keys or s3_unsigned):
        raise click.UsageError("--s3-port needs a key pair or --s3-unsigned")
    if s3_unsigned and not may_be_open:
        raise click.UsageError(
            f"other machines can reach {host}: --s3-unsigned also needs --insecure-public"
        )


def _s3_face(
    app: GatewayApp,
    served: ServedBlobs,
    keys: Keys,
    overlay: tuple[Location, ...],
    *,
    unsigned: bool,
) -> S3Face:
    """Return the application that answers S3 requests for the blobs, and for real buckets.

    Raises:
        click.UsageError: a blob has the name of one of these buckets.
    """
    from blobpack.gateway.s3.face import s3_app

    try:
        return s3_app(
            served,
            keys,
            unsigned=unsigned,
            overlay=[place.bucket for place in overlay],
            options=overlay[0].access.s3 if overlay else NO_ACCESS.s3,
            payloads=app.services.payloads,
            metrics=app.services.metrics,
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def bucket_at(url: str) -> Location:
    """Return the location of `s3://bucket`.

    Raises:
        click.BadParameter: this is no bucket's URL.
    """
    scheme, _, name = url.removesuffix("/").partition("://")
    if scheme != "s3" or not name or "/" in name or "?" in name:
        raise click.BadParameter(f"{url!r} is no bucket: write s3://bucket")
    return Location(f"s3://{name}", "s3")


def names_of(blobs: tuple[Location, ...], names: tuple[str, ...]) -> dict[str, Location]:
    """Return the blobs by the names under which they are served.

    Raises:
        click.UsageError: two have one name, or a name has a form that it can't have.
    """
    from blobpack.opening.kind import name_of

    if len(names) > len(blobs):
        raise click.UsageError("there are more --name than BLOBs")
    found: dict[str, Location] = {}
    for number, blob in enumerate(blobs):
        name = names[number] if number < len(names) else name_of(blob.whole)
        if not name or name.strip("/") != name:
            raise click.UsageError(
                f"{name!r} can't be the name of {blob}: it must begin and end without '/'; give it one with --name"
            )
        if name in found:
            raise click.UsageError(
                f"{found[name]} and {blob} have one name, {name!r}: give them different ones with --name"
            )
        found[name] = blob
    return found


def print_ready(
    served: ServedBlobs, listeners: list[Listener], overlay: list[str], *, as_json: bool
) -> None:
    """Print where the servers listen; programs wait for this line."""
    from blobpack.gateway.s3.buckets import blobs_by_bucket

    http, *s3 = listeners
    buckets = sorted((*blobs_by_bucket(served), *overlay)) if s3 else []
    if as_json:
        print_json(
            {
                "url": http.url,
                "s3_url": s3[0].url if s3 else None,
                "buckets": buckets,
                "served": {blob.name: len(blob.index) for blob in served},
            }
        )
    else:
        for blob in served:
            print_report_line(
                f"{one_line(blob.name)}: {counted(len(blob.index), 'member')} of {one_line(blob.reader.url)}"
            )
        of = f"{'buckets' if len(buckets) > 1 else 'bucket'} {', '.join(buckets)}"
        where = f", and S3 at {s3[0].url} ({of})" if s3 else ""
        print_report_line(f"serving at {http.url}{where}")
    sys.stdout.flush()
