"""The native modules; everything else is declared in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED_API = "0x030B0000"  # one wheel for CPython 3.11 and later
NATIVE = Path("_native")

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"blobpack._native.{source.stem}",
                [str(source)],
                depends=sorted(map(str, NATIVE.glob("*/*.pxd"))),
                define_macros=[("Py_LIMITED_API", LIMITED_API)],
                extra_compile_args=["-O3", "-pthread"],
                extra_link_args=["-pthread"],
                py_limited_api=True,
            )
            for source in sorted(NATIVE.glob("*/*.pyx"))
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
