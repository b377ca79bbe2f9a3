"""The README.md of a project: what is where, for a person who finds the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blobpack.integrations.supervisely.documents import Document

# of each folder with one file for each image
NAMES_SHOWN = 2


def readme(
    title: str,
    meta: Document,
    blobs: Mapping[str, int],
    datasets: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> str:
    """Return the text of the README.

    Args:
        title: Name of the project.
        meta: The meta.
        blobs: File name of each blob, with its size in bytes.
        datasets: Name of each dataset, with the names of its offsets files and of its images.
    """
    images = sum(len(names) for _, names in datasets.values())
    classes = ", ".join(each["title"] for each in meta["classes"]) or "none"
    lines = [
        f"# {title}",
        "",
        f"A project in Supervisely's format with blobs: {counted(images, 'image')} in {counted(len(datasets), 'dataset')}.",
        "",
        f"- Classes: {classes}",
        f"- Tags: {', '.join(each['name'] for each in meta['tags']) or 'none'}",
        "",
        "An image is a range of bytes in a tar in `blob/`. The offsets file of the same name in the folder of a dataset",
        "lists name, start and end of each image.",
        "",
        "```text",
        "meta.json",
        "blob/",
        *(f"    {name}  {size:,} bytes" for name, size in blobs.items()),
    ]
    for name, (files, titles) in datasets.items():
        lines.append(f"{name.replace('/', '/datasets/')}/  {counted(len(titles), 'image')}")
        lines += [f"    {file}" for file in files]
        lines += ["    ann/", *(f"        {each}.json" for each in titles[:NAMES_SHOWN])]
        if len(titles) > NAMES_SHOWN:
            lines.append(f"        … {len(titles) - NAMES_SHOWN:,} more")
    return "\n".join([*lines, "```", ""])
