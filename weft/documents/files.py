"""What is done to a directory of documents on a disk; everything here waits for the disk, so call it in a thread."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weft.documents import layout
from weft.documents.base import require_size, unknown
from weft.documents.exchange import exchange, name_if_free
from weft.errors import NotFound, StateUnavailable
from weft.source import MAX_BYTES
from weft.workflow import BESIDE

SUFFIX: Final = ".yaml"
_PART: Final = ".weft-"  #: names of files that are not complete; no name of a workflow begins so, nor ends as they do
_PART_END: Final = ".part"
ABANDONED_S: Final = 60.0
"""After which an incomplete file belongs to a process that died."""

LOCK_S: Final = 10.0

SETTLED_S: Final = 0.1
"""A file that was written to within this time may be written to once more, and look as if it was not."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was changed, without reading it."""

    changed_ns: int
    size: int
    inode: int

    @property
    def is_settled(self) -> bool:
        """Whether it was not written to just now: clocks of file systems tick every few milliseconds."""
        return abs(time.time() - self.changed_ns / 1e9) >= SETTLED_S


def stamp_of(facts: os.stat_result) -> Stamp:
    return Stamp(facts.st_mtime_ns, facts.st_size, facts.st_ino)


class Overtaken(Exception):
    """A file is not what it was when its writer looked, and was left as it is."""


class Files:
    """The documents in one directory.

    Args:
        directory: Where they are; made when the first one is saved.
        locks: Where the lock file is: outside of the workspace, which belongs to its owner and to git.
    """

    def __init__(self, directory: Path, locks: Path) -> None:
        self.directory = directory
        self._locks = locks
        self._etags: dict[str, tuple[Stamp, str]] = {}

    @property
    def root(self) -> Path:
        return self.directory.resolve()

    # ---- names
    def listed(self) -> dict[str, Stamp]:
        """Return the documents that are there, by name; and the layouts, by name with `.layout`.

        Raises:
            StateUnavailable: Nobody can say what is there; a directory that is not there has none.
        """
        root, found = self.root, {}
        try:
            entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise _unusable(self.directory, error) from None
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.endswith(SUFFIX):
                continue
            if entry.name.endswith(BESIDE) and not entry.name.endswith(layout.SUFFIX):
                continue
            if not _can_be_named(entry.name.removesuffix(SUFFIX)):
                continue
            with contextlib.suppress(OSError):  # removed a moment ago, or a link to nowhere
                facts = entry.stat()
                inside = not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root)
                if stat.S_ISREG(facts.st_mode) and inside:
                    found[entry.name.removesuffix(SUFFIX)] = stamp_of(facts)
        return found

    def path(self, name: str) -> Path:
        """Return the file of a name that may be in a request.

        Raises:
            NotFound: It leads out of the workspace, or cannot be the name of a file.
        """
        root = self.root
        if not _can_be_named(name) or f"{name}{SUFFIX}".endswith(BESIDE):
            raise unknown(name, str(self.directory))
        path = root / f"{name}{SUFFIX}"
        real = path.resolve()
        if not real.is_relative_to(root):
            raise NotFound(
                f"{path} is a link that leads out of the workspace.",
                code="outside_workspace",
                remedy="Put the file itself there, or run it by its path.",
            )
        return real

    def shown(self, name: str) -> str:
        """Return how messages name the file: as its owner would type it."""
        return str(self.directory / f"{name}{SUFFIX}")

    # ---- reading
    def content(self, name: str) -> bytes | None:
        """Return the bytes of a document, None when there is none. Raises TooLarge."""
        return self._read(self.path(name), name, MAX_BYTES)

    def layout(self, name: str) -> bytes | None:
        """Return the bytes of a layout; None when there is none, or one that is larger than any picture needs."""
        path = self.path(name)
        content = self._read(path.with_name(f"{name}{layout.SUFFIX}"), name, layout.MOST_BYTES)
        return None if content is None or len(content) > layout.MOST_BYTES else content

    def _read(self, path: Path, name: str, most: int) -> bytes | None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return None
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # were it a pipe by now
                content = file.read(most + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unusable(path, error) from None
        require_size(name, len(content))
        return content

    def etag(self, name: str, stamp: Stamp) -> str | None:
        """Return the etag of a document that was listed, None when it is gone; read once for each stamp."""
        known = self._etags.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            with self.path(name).open("rb") as file:
                digest = hashlib.sha256(file.read(MAX_BYTES + 1))
        except (OSError, NotFound):
            return None
        if stamp.size > MAX_BYTES:  # nobody reads it as a whole; that it changes is seen
            digest.update(repr(stamp).encode())
        if stamp.is_settled:
            self._etags[name] = stamp, digest.hexdigest()
        return digest.hexdigest()

    # ---- writing
    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing while the block lasts.

        Raises:
            StateUnavailable: Another process does not let go (`workspace_busy`), or there can be no locks.
        """
        handle = self.lock()
        try:
            yield
        finally:
            os.close(handle)

    def lock(self) -> int:
        """Return an open file that is locked until it is closed: flock(2) holds among handles, and ends with its process."""
        self._locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = hashlib.sha256(str(self.root).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        handle = os.open(self._locks / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES) and time.monotonic() < until:
                    time.sleep(0.005)
                    continue
                os.close(handle)
                raise _unlocked(self.directory, error) from None
            return handle

    def write(self, name: str, content: bytes, *, over: bytes | None) -> Stamp:
        """Let a document be `content`: whoever reads it sees the old bytes or the new ones, also after a power cut.

        Args:
            name: Of the document.
            content: What it is to be.
            over: What its writer knows that it is; None: it is not there.

        Raises:
            Overtaken: It is something else, and stays that.
        """
        path = self.path(name)
        with self._part(path, content) as (part, stamp):
            if _content(path) != over:
                raise Overtaken
            if over is None:
                if not name_if_free(part, path):
                    raise Overtaken
            elif not exchange(part, path):
                part.replace(path)
            elif _content(part) != over:  # an editor was faster by less than a millisecond: its text goes back
                _put_back(part, path, content)
                raise Overtaken
        return stamp

    def write_layout(self, name: str, content: bytes | None) -> Stamp | None:
        """Let a layout be `content`; None removes it."""
        path = self.path(name).with_name(f"{name}{layout.SUFFIX}")
        if content is None:
            with _used(path):
                path.unlink(missing_ok=True)
            return None
        with self._part(path, content) as (part, stamp):
            part.replace(path)
        return stamp

    @contextlib.contextmanager
    def _part(self, path: Path, content: bytes) -> Iterator[tuple[Path, Stamp]]:
        """Write a file beside another, which the block puts in its place; when it has ended, the names are on the disk."""
        directory = path.parent
        with _used(path):
            directory.mkdir(parents=True, exist_ok=True)
            self._sweep(directory)
            part = _part_in(directory)
            handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                with os.fdopen(handle, "wb") as file:
                    _like(file.fileno(), path)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    stamp = stamp_of(os.fstat(file.fileno()))
                yield part, stamp
                _sync(directory)
            finally:
                part.unlink(missing_ok=True)

    def remove(self, name: str, *, over: bytes) -> None:
        """Remove a document and its layout. Raises Overtaken when it is not `over`."""
        path, real = self._entry(name), self.path(name)
        with _used(path):
            _take(path, over)
            real.with_name(f"{name}{layout.SUFFIX}").unlink(missing_ok=True)
            _sync(path.parent)

    def rename(self, name: str, to: str, *, over: bytes) -> Stamp:
        """Give a document and its layout another name. Raises Overtaken when somebody has it, or it is not `over`."""
        path, new, real = self._entry(name), self._entry(to), self.path(name)
        with _used(path):
            stamp = stamp_of(path.stat())
            if not name_if_free(path, new):
                raise Overtaken
            if os.path.lexists(path):  # else it could only be moved
                try:
                    _take(path, over)
                except Overtaken:
                    new.unlink()
                    raise
            with contextlib.suppress(FileNotFoundError):
                real.with_name(f"{name}{layout.SUFFIX}").rename(real.with_name(f"{to}{layout.SUFFIX}"))
            _sync(path.parent)
        return stamp

    def _entry(self, name: str) -> Path:
        """Return the file of a name as it lies in the directory: where it is a link, the link."""
        self.path(name)
        return self.root / f"{name}{SUFFIX}"

    def _sweep(self, directory: Path) -> None:
        """Remove what processes have left that died while they wrote."""
        for part in directory.glob(f"{_PART}*{_PART_END}"):
            with contextlib.suppress(OSError):
                if time.time() - part.lstat().st_mtime > ABANDONED_S:
                    part.unlink()


def _can_be_named(name: str) -> bool:
    """Tell whether a request can name a file so: in UTF-8, within one directory, and not hidden."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # how Python shows bytes that are not UTF-8
        return False
    return 0 < length < 200 and not name.startswith(".") and not set(name) & set("/\\\0")


def _part_in(directory: Path) -> Path:
    return directory / f"{_PART}{secrets.token_hex(8)}{_PART_END}"


def _content(path: Path) -> bytes | None:
    """Return what a file holds, or so much of it that it is no document; None when it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None


def _put_back(part: Path, path: Path, ours: bytes) -> None:
    """Give a file its place again that was exchanged for ours; one that came since is the newer one, and stays."""
    exchange(part, path)
    if _content(part) != ours:
        exchange(part, path)


def _take(path: Path, over: bytes) -> None:
    """Remove a file that holds `over`; raises Overtaken when it does not, and leaves it."""
    part = _part_in(path.parent)
    path.rename(part)
    try:
        if _content(part) == over:
            return
        name_if_free(part, path)
    finally:
        part.unlink(missing_ok=True)
    raise Overtaken


@contextlib.contextmanager
def _used(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unusable(path, error) from None


def _like(handle: int, path: Path) -> None:
    """Give a new file the mode of the one whose place it takes, and its owner where that is allowed."""
    try:
        facts = path.stat()
    except OSError:
        return
    with contextlib.suppress(PermissionError):
        os.fchown(handle, facts.st_uid, facts.st_gid)
    os.fchmod(handle, stat.S_IMODE(facts.st_mode))


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> StateUnavailable:
    return StateUnavailable(
        f"{path} cannot be used: {error.strerror or type(error).__name__}.",
        code="workspace_unusable",
        remedy="See that there is room, and that this user may read and write there.",
    )


def _unlocked(directory: Path, error: OSError) -> StateUnavailable:
    if error.errno in (errno.EAGAIN, errno.EACCES):
        return StateUnavailable(
            f"Another process has been writing to {directory} for too long.", code="workspace_busy", remedy="Try again."
        )
    return StateUnavailable(
        f"No file can be locked for {directory} ({errno.errorcode.get(error.errno or 0, 'unknown')}).",
        code="workspace_no_locks",
        remedy="Choose a local directory with --home or WEFT_HOME.",
    )
