"""The proof that a process lives: a lock on a file of its own, which the kernel drops when the process dies.

A lock of `flock(2)` belongs to the open file, so that it holds against the same process, and against others of the
same machine, in containers too. It needs a local file system, as the journal does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from pathlib import Path
from typing import Final

from weft.errors import JournalUnavailable

SUFFIX: Final = ".alive"


class Life:
    """This process, as other processes see it.

    Args:
        directory: Where the files of all processes of one journal are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.name = secrets.token_hex(8)  #: written beside what the process owns
        self._path = directory / f"{self.name}{SUFFIX}"
        self._handle: int | None = None

    def begin(self) -> None:
        """Begin to be alive; again, it does nothing."""
        if self._handle is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path
        while self._handle is None:
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                os.close(handle)
                raise JournalUnavailable(
                    f"{path} cannot be locked ({errno.errorcode.get(error.errno or 0, 'unknown')}).",
                    code="journal_no_locks",
                    remedy="Choose a local directory with --home or WEFT_HOME.",
                ) from None
            if _same_file(handle, path):
                self._handle = handle
            else:  # an observer found it before it was locked, and cleared it away
                os.close(handle)

    def holds(self) -> bool:
        """Tell whether others can see this life: its file is still the one that is locked."""
        return self._handle is not None and _same_file(self._handle, self._path)

    def end(self) -> None:
        """Stop being alive, as if the process had died."""
        if self._handle is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


def is_alive(directory: Path, name: str) -> bool:
    """Tell whether the process of this name lives; what a dead one left is cleared away."""
    path = directory / f"{name}{SUFFIX}"
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def clear_away(directory: Path) -> None:
    """Clear away what dead processes have left."""
    for path in directory.glob(f"*{SUFFIX}"):
        is_alive(directory, path.name.removesuffix(SUFFIX))


def _same_file(handle: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)
