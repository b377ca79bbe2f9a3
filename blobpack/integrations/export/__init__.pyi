"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .records import (
    FILE_NAMES as FILE_NAMES,
    export_records as export_records,
)
from .write import (
    ExportReport as ExportReport,
    write_export as write_export,
)

__all__ = [
    "FILE_NAMES",
    "ExportReport",
    "export_records",
    "write_export",
]
