"""Files of an object store, or of anything else that fsspec knows, by URL: s3://BUCKET/PREFIX, file:///DIR, ...

What is read is checked by the caller: nothing here trusts names or sizes. Errors and messages never contain what may be
a password (`masked`). Importing this module does not import fsspec.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from collapse_sim.core.daemons import Daemons
from collapse_sim.core.errors import MissingError, RecipeError, RemoteError
from collapse_sim.core.memory_errors import first_line

MIRROR = "--mirror"  # the option that has a URL
PROBE_S = 30.0  # how long the first answer may take
PAUSES_S = (0.5, 2.0)  # before the second and the third try
# Bytes of one request, small: a transfer makes progress when one is answered, and many share a slow line.
CHUNK, PART, MOST_PARTS = 4 * 2**20, 5 * 2**20, 10_000  # that reads; of an upload to S3, and their number
LOCAL = ("file", "local")
FINAL = (PermissionError, NotImplementedError, IsADirectoryError, ValueError, TypeError)
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
KNOWN = "s3://, gs://, az://, sftp://, file://"
EXTRAS = {"s3": "s3", "s3a": "s3"}  # what to install for a scheme: an extra of this package

T = TypeVar("T")


def masked(text: str) -> str:
    """A text with its URLs without user names, passwords and queries: rather too much is masked than too little."""
    text = re.sub(r"://(?:[^\s'\"/@:]*:[^\s'\"]*|[^\s'\"/@]*)@", "://***@", text)
    return re.sub(r"(://[^\s'\"?]*)\?[^\s'\"]*", r"\1?***", text)


def masked_command(words: Sequence[str], option: str) -> list[str]:
    """The words of a command line; the value of `option`, a URL, is masked."""
    shown = []
    for before, word in zip(("", *words), words, strict=False):
        is_value = before == option or word.startswith(f"{option}=")
        shown.append(masked(word) if is_value else word)
    return shown


class Remote:
    """A folder that a URL names. Names of files are relative to it, with "/" between folders.

    Raises RecipeError for what is no URL of this kind, MissingError for a package that is not installed.
    """

    def __init__(self, url: str, option: str = MIRROR) -> None:
        self.url, self.shown = url, masked(url)
        self._pauses: tuple[float, ...] = PAUSES_S
        scheme, separator, place = url.partition("://")
        if not separator or "::" in url or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
            raise RecipeError(
                f"{option} {self.shown}: not a URL; write s3://BUCKET/PREFIX, file:///DIR, or another that fsspec knows"
            )
        self._local, self._s3 = scheme in LOCAL, scheme in EXTRAS
        if not place.strip("/") and scheme != "memory":
            raise RecipeError(
                f"{option} {self.shown}: name a {'folder' if self._local else 'bucket, and a prefix in it'}"
            )
        import fsspec

        try:
            kind = fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            extra = f"pip install 'collapse-sim[{EXTRAS[scheme]}]'" if scheme in EXTRAS else "install it with pip"
            raise MissingError(f"{option} {self.shown}: a package is missing: {first_line(error)}: {extra}") from None
        except ValueError:
            raise RecipeError(
                f"{option} {self.shown}: unknown scheme {scheme}://; known are {KNOWN} and others of fsspec"
            ) from None
        options = {"auto_mkdir": True} if self._local else {}
        try:
            urls: dict[str, Any] = getattr(kind, "_get_kwargs_from_urls", lambda _: {})(url)
            self._root = str(kind._strip_protocol(url)).rstrip("/")
            self._files = kind(**{**urls, **options}, use_listings_cache=False, skip_instance_cache=True)
        except Exception as error:
            raise RemoteError(f"{option} {self.shown}: {self._reason(error)}") from None

    def check(self) -> None:
        """Write a small file, read it back and remove it. Raises RemoteError, at the latest after PROBE_S."""
        name, content = f"probe-{secrets.token_hex(8)}", secrets.token_bytes(16)

        def probe() -> bytes:
            self.replace(name, content)
            try:
                return self.read(name, len(content))
            finally:
                with contextlib.suppress(Exception):  # the right to remove is not needed otherwise
                    self._files.rm_file(self._path(name))

        if self._first(probe) != content:
            raise RemoteError(f"{self.shown}: what is written there is not what is read back")

    def reach(self) -> None:
        """Raises RemoteError if nothing can be read there, at the latest after PROBE_S. Nothing is written."""
        self._first(lambda: self.names(""))

    def names(self, folder: str) -> dict[str, int]:
        """The names of the files in a folder, with their bytes; {} when there is no such folder. Raises RemoteError."""
        try:
            entries = self._call(lambda: self._files.ls(self._path(folder), detail=True), "cannot list")
        except FileNotFoundError:
            return {}
        return {str(e["name"]).rpartition("/")[2]: int(e["size"] or 0) for e in entries if e["type"] == "file"}

    def size(self, name: str) -> int | None:
        """The bytes of a file; None when there is none. Raises RemoteError."""
        try:
            return int(self._call(lambda: self._files.info(self._path(name)), "cannot read")["size"])
        except FileNotFoundError:
            return None

    def read(self, name: str, size: int) -> bytes:
        """A file of `size` bytes. One that is longer is read one byte further, so that this can be seen.

        Raises RemoteError, FileNotFoundError.
        """
        return b"".join(self.chunks(name, size))

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """The same in pieces, each of at most CHUNK + 1 bytes."""
        for start in range(0, size, CHUNK):
            end = start + CHUNK if start + CHUNK < size else size + 1
            try:
                chunk = self._call(lambda: self._files.cat_file(self._path(name), start=start, end=end), "cannot read")  # noqa: B023
            except RemoteError:
                if self.size(name) == size:
                    raise
                return  # it ends before `start`, which is an error for some servers
            yield chunk
            if len(chunk) < end - start:
                return

    def put(self, path: Path, name: str, moved: Callable[[int], None] = lambda count: None) -> None:
        """Copy a local file there; one that is there is replaced. `moved`: called with the bytes of each piece.

        Object stores show a file when it is complete; on local file systems it is moved into place. Raises RemoteError,
        and OSError for the local file.
        """
        with path.open("rb") as file:  # an error of the local file is none of the mirror's
            size = os.fstat(file.fileno()).st_size
        if self._local:
            self._write(lambda: self._in_place(name, lambda scratch: _copy(path, scratch, moved)))
        else:
            pieces = {"chunksize": max(PART, size // MOST_PARTS + 1), "max_concurrency": 1} if self._s3 else {}
            self._write(lambda: self._files.put_file(str(path), self._path(name), callback=_counting(moved), **pieces))

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file. Returns False, and changes nothing, if it exists. Raises RemoteError."""
        try:
            if self._local:
                self._write(lambda: self._in_place(name, lambda scratch: scratch.write_bytes(content), create=True))
            else:
                self._write(lambda: self._create(self._path(name), content))
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file, in place of any that is there. Raises RemoteError."""
        if self._local:
            self._write(lambda: self._in_place(name, lambda scratch: scratch.write_bytes(content)))
        else:
            self._write(lambda: self._files.pipe_file(self._path(name), content))

    def _create(self, path: str, content: bytes) -> None:
        try:
            self._files.pipe_file(path, content, mode="create")
        except (NotImplementedError, TypeError, ValueError):  # no such mode: another may write between these two
            if self._files.exists(path):
                raise FileExistsError from None
            self._files.pipe_file(path, content)

    def _in_place(self, name: str, write: Callable[[Path], object], *, create: bool = False) -> None:
        """Write a local file in one step. Raises FileExistsError if `create` is set and it exists."""
        target = Path(self._path(name))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(*error.args) from None  # not what `create` means by it
        scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            write(scratch)
            if create:
                _give_name(scratch, target)
            else:
                scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    def _write(self, act: Callable[[], object]) -> None:
        try:
            self._call(act, "cannot write")
        except FileNotFoundError as error:
            raise RemoteError(f"{self.shown}: cannot write: {self._reason(error)}") from None

    def _call(self, act: Callable[[], T], failure: str) -> T:
        """What `act` returns, after up to three tries. Raises RemoteError, FileNotFoundError and FileExistsError."""
        for pause in (*self._pauses, None):
            try:
                return act()
            except (FileNotFoundError, FileExistsError):
                raise
            except NotADirectoryError as error:  # a file where a folder should be: nothing is below it
                raise FileNotFoundError(*error.args) from None
            except Exception as error:
                if pause is None or isinstance(error, FINAL):
                    raise RemoteError(f"{self.shown}: {failure}: {self._reason(error)}") from None
            time.sleep(pause)
        raise AssertionError

    def _first(self, act: Callable[[], T]) -> T:
        """What `act` returns, after one try of at most PROBE_S. Raises RemoteError."""
        self._pauses = ()
        try:
            return Daemons(1, "probe").submit(act).result(PROBE_S)
        except TimeoutError:
            raise RemoteError(f"{self.shown}: no answer within {PROBE_S:.0f} s") from None
        finally:
            self._pauses = PAUSES_S

    def _reason(self, error: BaseException) -> str:
        """Why, in one line without the URL's secrets."""
        text = first_line(error) if str(error) else ""
        for secret in re.findall(r"://([^/@\s]*)@", self.url):
            for part in (secret, *secret.split(":")):
                text = text.replace(part, "***") if part else text
        text = masked(text.replace(self.url, self.shown))
        if isinstance(error, PermissionError):
            return (
                f"no permission ({text or 'refused'}); check the credentials, and their rights to list, read and write"
            )
        if isinstance(error, FileNotFoundError):
            return f"{text or 'no such bucket or folder'}"
        return f"{type(error).__name__}{': ' if text else ''}{text}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/") if self._root else name


def _copy(path: Path, target: Path, moved: Callable[[int], None]) -> None:
    with path.open("rb") as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
            moved(len(chunk))


def _give_name(scratch: Path, target: Path) -> None:
    """Raises FileExistsError if the name is taken. Without hard links, another may take it between two steps."""
    try:
        os.link(scratch, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(*error.args) from None
        scratch.replace(target)


def _counting(moved: Callable[[int], None]) -> Any:
    from fsspec.callbacks import Callback

    class Counting(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            moved(inc)

    return Counting()
