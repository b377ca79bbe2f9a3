"""The parts that all routes of one application use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blobpack.gateway.metrics import Metrics
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.routes.pictures import Pictures
    from blobpack.gateway.routes.raw_files import RawFiles
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.tokens import Access


@dataclass(frozen=True)
class Services:
    """The parts that all routes of one application use.

    Attributes:
        blobs: The blobs that are served.
        access: Who may read what.
        metrics: Counts the answers.
        payloads: Reads payloads.
        raw_files: The blobs as files.
        pictures: Makes decoded images of members.
    """

    blobs: ServedBlobs
    access: Access
    metrics: Metrics
    payloads: Payloads
    raw_files: RawFiles
    pictures: Pictures
