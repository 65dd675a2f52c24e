"""What torch.compile calls is there, or a message says what to install."""

from __future__ import annotations

import importlib.util
import sysconfig

import pytest

from collapse_sim.core.compilers import compiler_problem


@pytest.fixture
def compilers(tmp_path, monkeypatch):
    """A folder that is the whole PATH, and a function that puts a program there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    def put(name):
        (tmp_path / name).touch(mode=0o755)

    return put


def test_no_compiler(compilers):
    assert "needs a C++ compiler, and g++ was not found: install g++" in compiler_problem("cpu")
    assert "needs a C compiler, and gcc or clang was not found: install gcc" in compiler_problem("cuda")


def test_a_compiler_that_is_named(compilers, monkeypatch):
    compilers("g++")
    monkeypatch.setenv("CXX", "mine -O1")
    assert "mine, which CXX names, was not found" in compiler_problem("cpu")
    compilers("mine")
    assert compiler_problem("cpu") is None


def test_everything_is_there(compilers):
    compilers("g++")
    assert compiler_problem("cpu") is None
    compilers("clang")
    assert compiler_problem("cuda") is None


def test_no_triton(compilers, monkeypatch):
    compilers("gcc")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "install the package triton" in compiler_problem("cuda")


def test_no_headers(compilers, tmp_path):
    compilers("g++")
    (tmp_path / "Python.h").unlink()
    assert "needs Python.h" in compiler_problem("cpu")
