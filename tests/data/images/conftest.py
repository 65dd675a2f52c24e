"""No network for any test of images, and a folder of images in classes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.data.making import tagged, write_pictures


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("reading data must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Three classes of six images."""
    for number, name in enumerate("abc"):
        write_pictures(tmp_path / "pool" / name, tagged(6, 4, 4, first=10 * number))
    return tmp_path / "pool"
