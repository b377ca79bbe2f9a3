"""Groups of commands, such as `blobpack supervisely build`."""

from __future__ import annotations

from typing import Any

import click


class CommandGroup(click.Group):
    """A group of commands. The outermost one remembers the options of the command that runs.

    Attributes:
        options: The options of the command that runs.
    """

    options: frozenset[str] = frozenset()

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command of a command line, and remember its options."""
        name, command, rest = super().resolve_command(ctx, args)
        outermost = ctx.find_root().command
        # not asked of click's current context, which other threads do not have
        if command and isinstance(outermost, CommandGroup):
            outermost.options = frozenset(flag for param in command.params for flag in param.opts)
        return name, command, rest


def all_commands(group: click.Group, before: str = "") -> dict[str, click.Command]:
    """Return the commands of a group by how they are typed, such as `pack` and `supervisely build`."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        typed = f"{before}{name}"
        if isinstance(command, click.Group):
            found |= all_commands(command, f"{typed} ")
        else:
            found[typed] = command
    return found
