"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .build import (
    ProjectReport as ProjectReport,
    build_project as build_project,
)
from .check import (
    Problem as Problem,
    check_project as check_project,
)
from .image_info import BlobImageInfo as BlobImageInfo
from .offsets import offset_batches as offset_batches
from .project import (
    Dataset as Dataset,
    Project as Project,
    open_project as open_project,
)
from .server.client import Client as Client
from .server.download import DownloadReport as DownloadReport
from .server.files import TeamFile as TeamFile
from .server.upload import UploadReport as UploadReport

__all__ = [
    "BlobImageInfo",
    "Client",
    "Dataset",
    "DownloadReport",
    "Problem",
    "Project",
    "ProjectReport",
    "TeamFile",
    "UploadReport",
    "build_project",
    "check_project",
    "offset_batches",
    "open_project",
]
