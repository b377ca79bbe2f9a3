"""The native modules; everything else is declared in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED_API = "0x030B0000"  # one wheel for CPython 3.11 and later

# Cython's code for memoryviews is 30,000 lines of C. Each module would carry and compile a copy,
# so they share this one. That takes the build from 90 s of processor time to 25.
SHARED = "blobpack._native.cython_shared"

HEADERS = sorted(map(str, Path().glob("_native/*/*.pxd")))


def native(name: str, *sources: str) -> Extension:
    """Describe one compiled module."""
    return Extension(
        f"blobpack._native.{name}",
        list(sources),
        depends=[*HEADERS, *sources],  # the sdist takes its native files from here
        define_macros=[("Py_LIMITED_API", LIMITED_API)],
        # -g0: Python's own flags ask for debugging symbols, which take a third of the build;
        # -fwrapv: those flags have it too, but a CFLAGS of the environment takes their place
        extra_compile_args=["-O3", "-g0", "-fwrapv", "-pthread", "-Wall", "-Wextra"],
        libraries=["dl"],  # dlopen(), which glibc has in a library of its own before 2.34
        extra_link_args=["-pthread"],
        py_limited_api=True,
    )


setup(
    ext_modules=cythonize(
        # cython_shared comes first because it takes the compiler longest
        [native(SHARED.rpartition(".")[2])]
        + [native(path.stem, str(path)) for path in sorted(Path().glob("_native/*/*.pyx"))],
        build_dir="build",  # generated C stays out of the tree, and of the sdist
        include_path=["_native"],
        nthreads=len(os.sched_getaffinity(0)),
        shared_utility_qualified_name=SHARED,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "autotestdict": False,
            "auto_pickle": False,
        },
    ),
    options={"bdist_wheel": {"py_limited_api": "cp311"}, "build_ext": {"parallel": True}},
)
