"""Commands to break: what each finds in its folder, and what it writes."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Folder → name → width and height of an image. k1.png is in both old and new, with equal sizes and different pixels.
# k0.png has the size of k1.png, too: an offsets file of old, read for a blob of new, finds k0.png under the name k1.png.
IMAGES = {
    "old": {"k1.png": (40, 30), "k2.png": (40, 30), "sub/long.png": (70, 80)},
    "new": {"k0.png": (40, 30), "k1.png": (40, 30), "sub/other.png": (90, 60), "z.png": (5, 5)},
    "more": {"m1.png": (70, 70), "sub/m2.png": (30, 20)},
    # a blob of these has its first zero block at the end of a page, and the second one in the next page
    "odd": {"a.png": (40, 30), "b.png": (30, 20)},
}
# members of a blob that is packed by many.csv
MANY = 1030
BEFORE = {
    "nothing": (),
    "embed": ("pack old out.tar",),
    "sidecar": ("pack old out.tar --index sidecar",),
    "offsets": ("pack old out.tar --index none", "offsets out.tar"),
    "both": ("pack old out.tar --index sidecar", "offsets out.tar"),
}


@dataclass(frozen=True)
class Scenario:
    """A command in a folder.

    Attributes:
        name: Its first word is the command.
        before: Commands that make the folder what it is before.
        command: The command to break.
        in_place: The blob that the command changes in place; "" if it writes new files. Its bytes depend on what
            happened before, so only its members are compared.
        own_folder: The folder that the command fills; it must be empty before. "" if there is none.
        output: The blob or collection that two commands write in a race.
        meanwhile: A command that others run in the same folder while this one runs; "" for none.
        repeats: A second run leaves the same files as the first one. An append to a collection refuses names that are
            there, or adds another blob.
    """

    name: str
    before: tuple[str, ...]
    command: str
    in_place: str = ""
    own_folder: str = ""
    output: str = "out.tar"
    meanwhile: str = ""
    repeats: bool = True


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by their names."""
    listed = [*packs(), *edits(), *indexes(), *copies(), *races()]
    return {scenario.name: scenario for scenario in listed}


def packs() -> list[Scenario]:
    """Return the scenarios of pack."""
    plain = [
        Scenario(
            f"pack {place} over {old}", before, f"pack new out.tar --index {place} --threads 1"
        )
        for place in ("embed", "sidecar", "none")
        for old, before in BEFORE.items()
    ]
    compressed = "pack new out.tar.zst --threads 1"
    return [
        *plain,
        Scenario("pack zst over nothing", (), compressed),
        Scenario("pack zst over sidecar", ("pack old out.tar.zst --index sidecar",), compressed),
        Scenario(
            "pack shards",
            (),
            "pack new shards --shard-size 8Ki --threads 1",
            own_folder="shards",
        ),
    ]


def edits() -> list[Scenario]:
    """Return the scenarios of append and index --index embed, which change a blob in place."""
    # "last": when the members are there already, a second append must not fail
    append = "append out.tar more --threads 1 --duplicates last"
    places = {
        **BEFORE,
        "none": ("pack old out.tar --index none",),
        "page": ("pack new out.tar",),
        "odd page": ("pack odd out.tar",),
    }
    del places["nothing"]
    appends = [
        Scenario(f"append to {place}", before, append, "out.tar")
        for place, before in places.items()
    ]
    # foreign.tar ends with zeros up to 10,240 bytes, as GNU tar's archives do; a blob has none
    embeds = {
        "foreign": ((), "foreign.tar"),
        "foreign with sidecar": (("index foreign.tar",), "foreign.tar"),
        "foreign with offsets": (("offsets foreign.tar",), "foreign.tar"),
        "foreign again": (("index foreign.tar --index embed",), "foreign.tar"),
        "none": (places["none"], "out.tar"),
        "sidecar": (places["sidecar"], "out.tar"),
        "embed": (places["embed"], "out.tar"),
        "appended": ((*places["embed"], append), "out.tar"),
    }
    collected = ("pack old set/a.tar", "collect set")
    return [
        *appends,
        Scenario("add a blob", collected, "append set more --threads 1", repeats=False),
        *(
            Scenario(f"index embed in {name}", before, f"index {blob} --index embed", blob)
            for name, (before, blob) in embeds.items()
        ),
    ]


def indexes() -> list[Scenario]:
    """Return the scenarios of commands that write an index or an offsets file."""
    blob = BEFORE["embed"]
    collected = ("pack old set/a.tar", "pack more set/b.tar")
    # more members than a block of the index has, so that whole blocks are copied; see indexfile/extend.py
    grown = ("pack --manifest many.csv set/a.tar", "collect set", collected[1])
    return [
        Scenario("index beside", (), "index foreign.tar"),
        Scenario("index beside again", ("index foreign.tar",), "index foreign.tar --facts"),
        Scenario("index elsewhere", (), "index foreign.tar -o elsewhere.idx"),
        Scenario("index of hfutils again", ("index foreign.tar --format hfutils",),
                 "index foreign.tar --format hfutils --concatenated"),
        Scenario("offsets pkl", blob, "offsets out.tar"),
        Scenario("offsets pkl again", (*blob, "offsets out.tar --filter k1.png"), "offsets out.tar"),
        Scenario("offsets csv", blob, "offsets out.tar -o out.csv"),
        Scenario("offsets parquet", blob, "offsets out.tar -o out.parquet"),
        Scenario("export", blob, "export coco out.tar"),
        Scenario("export chunks again", (*blob, "export coco out.tar --chunk 2"),
                 "export coco out.tar --chunk 1"),
        Scenario("gallery", blob, "gallery out.tar"),
        Scenario("gallery again", (*blob, "gallery out.tar"), "gallery out.tar --url other.tar"),
        Scenario("collect", collected, "collect set"),
        Scenario("collect again", ("pack old set/a.tar", "collect set", collected[1]), "collect set"),
        Scenario("collect add to nothing", collected, "collect set --add"),
        Scenario("collect add", grown, "collect set --add"),
    ]  # fmt: skip


def copies() -> list[Scenario]:
    """Return the scenarios of commands that copy members."""
    parts = ("pack old one.tar", "pack more two.tar")
    merge = "merge one.tar two.tar out.tar"
    subset = "subset one.tar out.tar --filter k*"
    repack = "repack foreign.tar.gz out.tar"
    return [
        *(
            Scenario(f"{name} over {old}", (*parts, *BEFORE[old]), command)
            for name, command in (("merge", merge), ("subset", subset), ("repack", repack))
            for old in ("nothing", "both")
        ),
        Scenario("merge sidecar", parts, f"{merge} --index sidecar"),
        Scenario("merge from zst", ("pack old one.tar.zst", parts[1]),
                 "merge one.tar.zst two.tar out.tar"),
        Scenario("subset from zst", ("pack old one.tar.zst",), "subset one.tar.zst out.tar --filter k*"),
        Scenario("repack zst", (), "repack foreign.tar.gz out.tar.zst"),
        Scenario("extract", parts, "extract one.tar there"),
        Scenario("extract zst", ("pack old one.tar.zst",), "extract one.tar.zst there"),
        Scenario("extract over files", (*parts, "extract two.tar there", "pack new three.tar"),
                 "extract three.tar there"),
        Scenario("supervisely build", BEFORE["embed"], "supervisely build out.tar project --copy",
                 own_folder="project", repeats=False),
        Scenario("supervisely build link", BEFORE["sidecar"], "supervisely build out.tar project",
                 own_folder="project", repeats=False),
    ]  # fmt: skip


def races() -> list[Scenario]:
    """Return the scenarios in which another command works on the same blob."""
    embed, sidecar = BEFORE["embed"], BEFORE["sidecar"]
    pack = "pack new out.tar --threads 1"
    other_pack = "pack more out.tar --threads 1"
    append, other_append = "append out.tar more --threads 1", "append out.tar new/z.png --threads 1"
    beside = "--index sidecar"
    return [
        Scenario("race pack", (), f"{pack} {beside}", meanwhile=f"{other_pack} {beside}"),
        Scenario("race pack over", sidecar, f"{pack} {beside}", meanwhile=f"{other_pack} {beside}"),
        Scenario("race pack over mixed", sidecar, pack, meanwhile=f"{other_pack} {beside}"),
        Scenario("race pack none over", sidecar, f"{pack} --index none", meanwhile=other_pack),
        Scenario("race append", embed, append, "out.tar", meanwhile=other_append),
        Scenario("race append beside", sidecar, append, "out.tar", meanwhile=other_append),
        Scenario("race append pack", sidecar, append, "out.tar", meanwhile=pack),
        Scenario("race pack append", sidecar, pack, meanwhile=append),
        Scenario("race embed append", sidecar, "index out.tar --index embed", "out.tar", meanwhile=append),
        Scenario("race append embed", sidecar, append, "out.tar", meanwhile="index out.tar --index embed"),
        *collect_races(),
        Scenario("race index pack", embed, "index out.tar", meanwhile=f"{pack} {beside}"),
    ]  # fmt: skip


def collect_races() -> list[Scenario]:
    """Return the scenarios in which another command works on the same collection."""
    parts = ("pack old set/a.tar", "pack more set/b.tar", "pack odd set/c.tar")
    collected = (*parts, "collect set/a.tar -o set/collection.idx")
    add_b, add_c = (f"collect set/{name}.tar --add -o set/collection.idx" for name in "bc")
    again, append = "collect set", "append set new/z.png --threads 1"
    return [
        Scenario(f"race collect {name}", before, command, output="set/collection.idx", meanwhile=other)
        for name, before, command, other in (
            ("adds to nothing", parts, add_b, add_c),
            ("adds", collected, add_b, add_c),
            ("add again", collected, add_b, again),
            ("again add", collected, again, add_b),
            ("add append", collected, add_b, append),
            ("append add", collected, append, add_b),
        )
    ]  # fmt: skip


def make_sources(folder: Path) -> None:
    """Make the files that commands read: folders of images, and archives of another program."""
    for number, (name, images) in enumerate(IMAGES.items()):
        for image, (width, height) in images.items():
            path = folder / name / image
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(width, height, seed=number * 100 + len(image) + width))
    with tarfile.open(folder / "foreign.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for image in IMAGES["old"]:
            payload = (folder / "old" / image).read_bytes()
            member = tarfile.TarInfo(image)
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
    archive = (folder / "foreign.tar").read_bytes()
    # without the time: each process makes the same files
    (folder / "foreign.tar.gz").write_bytes(gzip.compress(archive, mtime=0))
    (folder / "set").mkdir()
    rows = "".join(f"new/z.png,many/{number}.png\n" for number in range(MANY))
    (folder / "many.csv").write_text("path,name\n" + rows)


def png(width: int, height: int, seed: int) -> bytes:
    """Make a grey PNG. It is not compressed, so images of the same size have files of the same size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(
        b"\0" + bytes((seed + x * y) % 256 for x in range(width)) for y in range(height)
    )
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(rows, 0)), chunk(b"IEND", b""))
    )
