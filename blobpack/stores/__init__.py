"""Stores: each delivers the bytes of one blob."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote

from blobpack.stores.base import TAIL_BYTES
from blobpack.stores.local import LocalStore
from blobpack.stores.location import is_local, local_name, scheme_of
from blobpack.stores.zstd_format import SEEK_TABLE_BYTES_MIN

if TYPE_CHECKING:
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
