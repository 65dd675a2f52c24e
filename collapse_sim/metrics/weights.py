"""Files of weights that feature networks are read from: where they are looked for, and what they are known by."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from collapse_sim.core.errors import MissingError
from collapse_sim.core.files import file_hash

FOLDER = "weights"  # below the data folder
TIMEOUT_S = 20.0  # without a byte from a server, before a download is given up
OTHERS = "choose another feature map: {use: torchscript, file: FILE} for a network of your own, classifier, or pixels"


LARGE = 4096  # numbers of a vector of features, where it is not known


@dataclass
class WeightsFile:
    """The file behind a feature map. Label and hash go into the keys of features and scores, the place does not."""

    label: str  # what figures call the network: "inception", "net.pt"
    path: Path
    sha256: str
    dimensions: int | None  # of a vector of features; of a network that is code, None until it has been tried out
    classes: int = 0  # that it gives probabilities of
    remark: str = ""  # what a reader of its figures has to know, such as "not the published weights"

    @property
    def most_numbers(self) -> int:
        """How many are kept of an image; an estimate, where the network has not been tried out."""
        return (self.dimensions or LARGE) + self.classes

    def verified(self) -> Path:
        """The path of a file that is still what it was when the run began; raises MissingError."""
        if not self.path.is_file() or hash_of(self.path) != self.sha256:
            raise MissingError(f"{self.path}: it was changed or removed after this run began; start the run again")
        return self.path


def places(name: str, folder: Path) -> list[Path]:
    """Where a file of weights is looked for: an absolute path as it is, else the data folder and its `weights`."""
    given = Path(name)
    return [given] if given.is_absolute() else [folder / given, folder / FOLDER / given]


def first_file(candidates: Sequence[Path]) -> Path | None:
    """The first that is there."""
    return next((path for path in candidates if path.is_file()), None)


def looked_in(candidates: Sequence[Path]) -> str:
    """The folders of files that are not there, for a message."""
    return ", ".join(dict.fromkeys(str(path.parent) for path in candidates))


def hub_file(name: str) -> Path:
    """A file in the folder where torch keeps what it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def download(url: str, path: Path, hash_prefix: str) -> None:
    """Fetch `url` into `path`, whole or not at all; raises OSError or RuntimeError (another content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket_timeout():
        torch.hub.download_url_to_file(url, str(path), hash_prefix)


@contextlib.contextmanager
def socket_timeout() -> Iterator[None]:
    """Within it a server that does not answer is an error after TIMEOUT_S, where torch would wait for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def hash_of(path: Path) -> str:
    """sha256 of a file, computed once in a process for each size and time of change."""
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _hash(path: Path, size: int, changed: int) -> str:
    return file_hash(path)
