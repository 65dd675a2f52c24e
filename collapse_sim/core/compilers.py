"""Whether torch.compile finds what it calls to compile."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path


def compiler_problem(device: str) -> str | None:
    """What torch.compile lacks for "cpu" or "cuda", and what to install; None: nothing.

    On a CPU it calls a C++ compiler; on CUDA triton, which calls a C compiler. Both read the headers of Python.
    """
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton on CUDA, and it is not installed: install the package triton"
    language, variable = ("C", "CC") if device == "cuda" else ("C++", "CXX")
    named = shlex.split(os.environ.get(variable, ""))[:1]
    if not any(shutil.which(program) for program in named or _usual(language)):
        sought = f"{named[0]}, which {variable} names," if named else " or ".join(_usual(language))
        return (
            f"torch.compile needs a {language} compiler, and {sought} was not found: install {_usual(language)[0]} (on "
            f"Debian and Ubuntu the package build-essential), or name one in {variable}"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        return (
            f"torch.compile needs Python.h, which is not in {headers}: install the headers of this Python (on Debian "
            "and Ubuntu the package python3-dev)"
        )
    return None


def _usual(language: str) -> tuple[str, ...]:
    """The compilers that are called where none is named."""
    if language == "C":
        return ("gcc", "clang")
    return {"darwin": ("clang++",), "win32": ("cl",)}.get(sys.platform, ("g++",))
