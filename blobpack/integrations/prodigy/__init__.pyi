"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .annotated import (
    annotated as annotated,
    store_references as store_references,
)
from .member_tasks import (
    MemberTasks as MemberTasks,
    blob_loader as blob_loader,
    tasks as tasks,
)
from .object_tasks import (
    ObjectTasks as ObjectTasks,
    object_tasks as object_tasks,
)
from .rehydrate import rehydrate as rehydrate

__all__ = [
    "MemberTasks",
    "ObjectTasks",
    "annotated",
    "blob_loader",
    "object_tasks",
    "rehydrate",
    "store_references",
    "tasks",
]
