"""Files with the weights of feature networks: where they are searched, and how they are identified."""

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
TIMEOUT_S = 20.0  # without a byte from a server, after which a download is aborted
OTHERS = "choose another feature map: {use: torchscript, file: FILE} for a network of your own, classifier, or pixels"
LARGE = 4096  # assumed length of a feature vector if it is not known


@dataclass
class WeightsFile:
    """The file of a feature map. Label and hash are in the keys of features and scores, the path is not."""

    label: str  # the network's name beside figures: "inception", "net.pt"
    path: Path
    sha256: str
    dimensions: int | None  # of a feature vector; None for a network that is code, until it has been tried out
    classes: int = 0  # number of class probabilities
    remark: str = ""  # for readers of its figures, such as "not the published weights"

    @property
    def most_numbers(self) -> int:
        """How many numbers are stored per image; an estimate if the network has not been tried out."""
        return (self.dimensions or LARGE) + self.classes

    def verified(self) -> Path:
        """The path, if the file has not changed since the run began; else raises MissingError."""
        if not self.path.is_file() or hash_of(self.path) != self.sha256:
            raise MissingError(f"{self.path}: it was changed or removed after this run began; start the run again")
        return self.path


def candidate_paths(name: str, folder: Path) -> list[Path]:
    """Where a file of weights is searched: an absolute path as it is, else the data folder and its `weights`."""
    path = Path(name)
    return [path] if path.is_absolute() else [folder / path, folder / FOLDER / path]


def first_file(candidates: Sequence[Path]) -> Path | None:
    """The first existing file."""
    return next((path for path in candidates if path.is_file()), None)


def folders_of(candidates: Sequence[Path]) -> str:
    """The folders of the candidates, for a message."""
    return ", ".join(dict.fromkeys(str(path.parent) for path in candidates))


def hub_file(name: str) -> Path:
    """A file in torch's download folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def download(url: str, path: Path, hash_prefix: str) -> None:
    """Download `url` to `path`, completely or not at all; raises OSError or RuntimeError (unexpected content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket_timeout():
        torch.hub.download_url_to_file(url, str(path), hash_prefix)


@contextlib.contextmanager
def socket_timeout() -> Iterator[None]:
    """Makes a server that does not answer an error after TIMEOUT_S; torch would wait for minutes."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def hash_of(path: Path) -> str:
    """sha256 of a file, computed once per process for each size and modification time."""
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _hash(path: Path, size: int, changed: int) -> str:
    return file_hash(path)
