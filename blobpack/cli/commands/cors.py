"""The command `blobpack cors`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from blobpack.cli.options import json_option
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_note, print_report_line
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json
from blobpack.gateway.cors import read_rules, set_rules
from blobpack.wording import counted

if TYPE_CHECKING:
    from blobpack.stores.location import Location


class Origin(click.ParamType[str]):
    """The origin of web pages, such as https://example.org, or *."""

    name = "origin"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check an origin; a URL with a path is wrong usage."""
        scheme, separator, host = value.partition("://")
        if value != "*" and not (
            scheme in ("http", "https") and separator and host and not set(host) & set("/?#@ ")
        ):
            self.fail(
                f"{value!r} is neither * nor an origin, such as https://example.org", param, ctx
            )
        return value


@click.command()
@click.argument("bucket", type=PathOrS3(is_read=False, prefix=True), metavar="BUCKET")
@click.option(
    "--origin",
    "origins",
    type=Origin(),
    multiple=True,
    default=["*"],
    show_default="*, all pages",
    help="Allow pages of this origin, such as https://example.org. Repeatable.",
)
@click.option("--set", "is_setting", is_flag=True, help="Set the rules, instead of printing them.")
@remote_options
@json_option
def cors(bucket: Location, origins: tuple[str, ...], is_setting: bool, as_json: bool) -> None:
    """Print or set the CORS rules that let web pages read the blobs of BUCKET.

    BUCKET is s3://bucket. Pages outside of BUCKET need such a rule. This command prints the rules of BUCKET, with the needed
    rule added, in the form that `aws s3api put-bucket-cors` takes. All other rules are kept.

    \b
    blobpack cors s3://bucket --origin https://example.org
    blobpack cors s3://bucket --set
    """
    if not bucket.is_s3 or bucket.key.strip("/"):
        raise click.UsageError(f"{bucket} is not a bucket, such as s3://bucket")
    found = read_rules(bucket, origins)
    for rule in found.in_the_way:
        print_note(
            f"the rule {rule.get('ID', '')!r} fits first for {', '.join(rule['AllowedOrigins'])}, and exposes too few headers: "
            f"add {', '.join(found.rules[-1]['ExposeHeaders'])} to its ExposeHeaders"
        )
    if not is_setting:
        click.echo(json.dumps({"CORSRules": found.rules}, indent=None if as_json else 2))
        return
    if not found.is_set:
        set_rules(bucket, found.rules)
    if as_json:
        print_json({"bucket": bucket.text, "CORSRules": found.rules, "changed": not found.is_set})
        return
    kept = len(found.rules) - 1
    others = f"; {counted(kept, 'other rule')} kept" if kept else ""
    done = "already allows" if found.is_set else "allows"
    print_report_line(f"{bucket} {done} pages of {', '.join(origins)} to read it{others}")
