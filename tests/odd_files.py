"""Other things than a file in a file's place: pipes, folders, sockets, links to nothing and in a loop."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

KINDS = ["pipe", "folder", "socket", "dangling", "loop"]


def put(kind: str, path: Path) -> None:
    """Something else in place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        (path / "x").mkdir(parents=True)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            here = Path.cwd()
            os.chdir(path.parent)
            end.bind(path.name)
            os.chdir(here)
    else:
        path.symlink_to({"dangling": "gone", "loop": path.name}[kind])
