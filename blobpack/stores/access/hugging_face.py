"""hf:// URLs, and the token of Hugging Face, which opens gated files.

Source: huggingface_hub, "HfFileSystem" and "Environment variables".
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from blobpack.stores.url import origin_of

HUB = "https://huggingface.co"
# A revision may be a branch with a "/" in its name only if it is one of these.
PARTS = re.compile(
    r"(?P<kind>datasets/|spaces/)?(?P<name>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?/(?P<path>.+)",
    re.DOTALL,
)


def hub_url(rest: str) -> str:
    """Return the https:// URL of a file of Hugging Face.

    Args:
        rest: The hf:// URL behind its scheme: `datasets/USER/NAME/path`, or with a revision `datasets/USER/NAME@main/path`;
            a model has no word in front.

    Raises:
        ValueError: the URL names no file.
    """
    found = PARTS.fullmatch(rest)
    if found is None:
        raise ValueError(f"'hf://{rest}' is not hf://datasets/USER/NAME/path")
    revision = quote(found["revision"] or "main", safe="%")
    return (
        f"{_hub()}/{found['kind'] or ''}{found['name']}/resolve/{revision}/{quote(found['path'])}"
    )


def hub_token(url: str) -> str:
    """Return the token for a URL, if it leads to Hugging Face and the user has logged in; else ""."""
    if not url.startswith(_hub()) or origin_of(url) != origin_of(_hub()):
        return ""
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return ""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    try:
        return _token_file().read_text().strip()
    # not logged in
    except (OSError, ValueError):
        return ""


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _token_file() -> Path:
    if path := os.environ.get("HF_TOKEN_PATH"):
        return Path(path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface") / "token"
