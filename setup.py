"""Builds arena._native with CMake and Ninja; everything else is in pyproject.toml.

ARENA_NATIVE=0 installs without it (plain torch instead, far slower). ARENA_CUDA=auto|0|1 and whatever is in CMAKE_ARGS
are passed to CMake.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError


class CMakeBuild(build_ext):  # type: ignore[misc]  # setuptools has no types
    def build_extension(self, ext: Extension) -> None:
        import pybind11

        source = Path(__file__).parent.resolve()
        build = Path(self.build_temp).resolve() / ext.name
        (build / "CMakeCache.txt").unlink(missing_ok=True)  # options of an earlier build must not linger
        configure = [
            "cmake", "-S", source, "-B", build, "-G", "Ninja",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_INSTALL_PREFIX={Path(self.get_ext_fullpath(ext.name)).resolve().parent}",
            f"-DARENA_CUDA={os.environ.get('ARENA_CUDA', 'auto')}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]  # fmt: skip
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", build, "--target", "install"], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(
                "arena._native was not built; it needs CMake, Ninja and a C++17 compiler (GCC 12, Clang 14 or newer). "
                f"ARENA_NATIVE=0 installs without it. ({error})"
            ) from error


native = [] if os.environ.get("ARENA_NATIVE") == "0" else [Extension("arena._native", sources=[])]
setup(ext_modules=native, cmdclass={"build_ext": CMakeBuild})
