"""The group of commands `blobpack encord …`."""

from __future__ import annotations

import click

from blobpack.cli.commands.encord_export import export
from blobpack.cli.commands.encord_register import register
from blobpack.cli.groups import CommandGroup


@click.group(cls=CommandGroup)
def encord() -> None:
    """Register the members of blobs with Encord, by their URLs at a gateway.

    `blobpack serve` is such a gateway. `blobpack pack --encord` packs the images that a file for Encord lists.

    \b
    blobpack encord export out.tar files/ --url https://images.example.org/b/out
    """


encord.add_command(export)
encord.add_command(register)
