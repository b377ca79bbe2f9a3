"""The native modules; everything else is declared in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED_API = "0x030B0000"  # one wheel for CPython 3.11 and later

FACTS = (
    *("boxes", "columns", "crc32c", "dimensions", "directory"),
    *("fact_columns", "images", "peek"),
)
INDEX = ("blocks", "columns", "crc32c", "index_faults", "index_rows", "names", "pages")
WALK = ("columns", "extensions", "group", "tar", "walk_status", "window")


def native(name: str, *pxds: str) -> Extension:
    """Describe one module of _native/, compiled into blobpack/."""
    return Extension(
        f"blobpack._{name}",
        [f"_native/{name}.pyx"],
        depends=[f"_native/{name}.pyx", *(f"_native/{pxd}.pxd" for pxd in pxds)],
        define_macros=[("Py_LIMITED_API", LIMITED_API)],
        extra_compile_args=["-O3", "-pthread"],
        extra_link_args=["-pthread"],
        py_limited_api=True,
    )


setup(
    ext_modules=cythonize(
        [
            native("copying"),
            native("facts", *FACTS, "pthreads", "rereading", "threads"),
            native("gather", *FACTS, "headers", "pthreads", "share", "tar", "threads", "utf8"),
            native("fetched_index", *INDEX),
            native("globs", "utf8"),
            native("mapped_index", *INDEX, "index_region"),
            native("index_writer", "blocks", "crc32c", "names", "pages"),
            native("lookup", "names"),
            native("members"),
            native("packed", "columns"),
            native("pickles", "columns", "pickle_reader", "pickle_rows", "pickle_writer", "utf8"),
            native("scan", *WALK, "links", "names", "pthreads", "runs", "walk"),
            native("splice", *WALK, "headers", "utf8"),
        ],
        build_dir="build",  # generated C stays out of the tree, and of the sdist
        include_path=["_native"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "autotestdict": False,
            "auto_pickle": False,
        },
    ),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
