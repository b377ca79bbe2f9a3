"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .form.check import check_registration as check_registration
from .form.problems import Problem as Problem
from .objects import (
    CloudObject as CloudObject,
    blob_objects as blob_objects,
    read_objects as read_objects,
)
from .options import FileOptions as FileOptions
from .packed import read_registration as read_registration
from .register import (
    Job as Job,
    RegisterReport as RegisterReport,
    register as register,
)
from .registration import (
    Registration as Registration,
    object_registration as object_registration,
    registration as registration,
)

__all__ = [
    "CloudObject",
    "FileOptions",
    "Job",
    "Problem",
    "RegisterReport",
    "Registration",
    "blob_objects",
    "check_registration",
    "object_registration",
    "read_objects",
    "read_registration",
    "register",
    "registration",
]
