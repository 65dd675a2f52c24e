"""A real S3 server, moto's, in a process of its own, which prints its port and serves until it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass
class S3Server:
    process: subprocess.Popen[str]
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What clients are told by."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, bucket: str) -> None:
        self._files().mkdir(bucket)

    def names(self, bucket: str) -> list[str]:
        return [path.removeprefix(f"{bucket}/") for path in self._files().find(bucket)]

    def overwrite(self, bucket: str, name: str, content: bytes | None) -> None:
        """Replace an object; None: remove it."""
        if content is None:
            self._files().rm_file(f"{bucket}/{name}")
        else:
            self._files().pipe_file(f"{bucket}/{name}", content)

    def ask_for_rights(self) -> None:
        """From now on, requests need the credentials of a user that exists; there is none."""
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data=b"0", headers=plain)
        urllib.request.urlopen(request, timeout=20).close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _files(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    for package in ("moto.server", "s3fs"):
        pytest.importorskip(package, reason="an S3 server and its client: pip install 's3fs' 'moto[server]'")
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield S3Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    time.sleep(600)
