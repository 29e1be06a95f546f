"""One SQLite file that is safe to stand on: where it may lie, how it is opened, how it grows from version to version."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from weft.errors import JournalUnavailable
from weft.journal.life import SUFFIX, is_alive

NETWORK: Final = frozenset(
    "9p afs afpfs ceph cifs davfs fuse.glusterfs fuse.sshfs glusterfs gpfs lustre nfs nfs4 smb3 smbfs vboxsf".split()  # noqa: SIM905
)
"""File systems on which locks or the order of writes are not what SQLite needs (sqlite.org/howtocorrupt.html §2.1)."""

BUSY_MS: Final = 250
"""How long SQLite itself waits for another writer; whoever asked waits on, and looks about between two tries."""

LONGEST_OPENING_S: Final = 30.0
"""After that, who holds the file is no other process that is just opening it."""

_LOG = logging.getLogger("weft.journal")

Migrations: TypeAlias = Sequence[Sequence[str]]
"""Statements, the n-th group of which leads from version n to n + 1; never changed once released."""


def open_file(path: Path, migrations: Migrations, *, make: bool = True) -> sqlite3.Connection:
    """Open the file, and bring it to the newest version.

    Args:
        path: Its place; a link is followed to where it really is.
        migrations: What made each version out of the one before.
        make: Make the file if it is not there.

    Raises:
        JournalUnavailable: It lies where it cannot be kept safe, is no journal, or was written by a newer Weft.
    """
    real = path.resolve()
    _refuse_place(real)
    is_new = not real.exists()
    if is_new and not make:
        raise was_moved(path)
    real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if is_new:
        os.close(os.open(real, os.O_CREAT | os.O_WRONLY, 0o600))
        _sync_directory(real.parent)
    connection = sqlite3.connect(real, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    try:
        patiently(lambda: _prepare(connection, real))
        patiently(lambda: _migrate(connection, real, migrations))
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _unusable(real, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def patiently(step: Callable[[], None]) -> None:
    """Do a step of the opening; while another process does the same one, wait for it."""
    until = time.monotonic() + LONGEST_OPENING_S
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another process holds the file, so that waiting helps."""
    code = getattr(error, "sqlite_errorcode", None)  # with details in its upper bits (sqlite.org/rescode.html §2)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _unusable(path: Path, error: sqlite3.DatabaseError) -> JournalUnavailable:
    if is_busy(error):
        return JournalUnavailable(
            f"{path} is held by another program.", code="journal_busy", remedy="Wait for it, or end it."
        )
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return JournalUnavailable(
            f"{path} cannot be used as a journal ({name}).",
            remedy="Put a backup in its place, or move the file away to begin anew.",
        )
    full = name.startswith(("SQLITE_FULL", "SQLITE_IOERR"))
    return JournalUnavailable(
        f"{path} cannot be opened ({name}).",
        remedy="Make room on the disk, and see that it works."
        if full
        else "See that this user can write to it and beside it.",
    )


def failed(path: Path, error: Exception, what: str) -> JournalUnavailable:
    """Return what to tell of a fault of the file while it was being written, or read."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    _LOG.error("journal_failed %s %s", path, name, exc_info=error)
    remedy = "Make room on the disk." if name.startswith("SQLITE_FULL") else "The log has the details."
    return JournalUnavailable(f"The journal {path} could not be {what} ({name}).", remedy=remedy)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at `path` from any other; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def was_moved(path: Path) -> JournalUnavailable:
    return JournalUnavailable(
        f"{path} was moved or deleted while it was in use.",
        code="journal_moved_away",
        remedy="Put it back, or end the processes that use it and start anew.",
    )


def refuse_new_beside_live(path: Path, lives: Path) -> None:
    """Refuse to begin an empty journal in the place of one that a process works on.

    Raises:
        JournalUnavailable: The file is missing, and a process that uses it lives.
    """
    alive = any(is_alive(lives, file.stem) for file in lives.glob(f"*{SUFFIX}"))
    if alive and not path.exists():  # in this order: who lives has made its file before
        raise was_moved(path)


def _refuse_place(path: Path) -> None:
    kind = file_system(path)
    if kind in NETWORK:
        raise JournalUnavailable(
            f"{path} lies on a network file system ({kind}), where a journal cannot be kept safe.",
            code="journal_on_network",
            remedy="Choose a local directory with --home or WEFT_HOME, or set WEFT_DATABASE_URL.",
        )
    if path.exists() and path.stat().st_nlink > 1:
        raise JournalUnavailable(
            f"{path} has a second name (a hard link); two processes could miss each other's locks.",
            code="journal_linked",
            remedy="Delete the other name.",
        )


def file_system(path: Path) -> str | None:
    """Return the kind of file system that `path` lies on, or None where the system does not tell."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return None
    return kind_in(table, path)


def kind_in(table: bytes, path: Path) -> str | None:
    """Return the kind of file system of `path` by a table of mounts as Linux has it (proc(5), `mountinfo`)."""
    best, kind = -1, None
    for line in table.strip(b"\n").split(b"\n"):  # a name may hold any other end of line
        left, _, right = line.partition(b" - ")
        escaped = left.split(b" ")[4]
        place = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), escaped))
        if path.is_relative_to(place) and len(place) >= best:  # of two mounts at one place the later is seen
            best, kind = len(place), os.fsdecode(right.split(b" ")[0])
    return kind


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set what durability needs and read it back."""
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")  # macOS: without it a disk may keep what it has called written
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", 2):
        raise JournalUnavailable(
            f"{path} cannot be kept durable: journal_mode is {mode}, synchronous is {synchronous}; "
            "wal and 2 are needed.",
            remedy="Choose another directory with --home or WEFT_HOME.",
        )


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> None:
    version = _version(connection)
    if version > len(migrations):
        raise JournalUnavailable(
            f"{path} has version {version}, this Weft knows versions up to {len(migrations)}.",
            code="journal_too_new",
            remedy="Use the newer Weft that wrote it.",
        )
    if 0 < version < len(migrations):
        back_up(connection, path.with_name(f"{path.name}.v{version}.backup"))
    while (version := _version(connection)) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == version:  # else another process was faster
                advance(connection, migrations[: version + 1])
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def advance(connection: sqlite3.Connection, migrations: Migrations) -> None:
    """Bring a file to the newest version of some, in the transaction that is open."""
    for number in range(_version(connection), len(migrations)):
        for statement in migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={number + 1}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def back_up(connection: sqlite3.Connection, to: Path, *, note: str | None = None) -> None:
    """Write a copy of the whole file, complete or not at all.

    Args:
        connection: To the file.
        to: Where the copy will be; what is there is replaced.
        note: A statement that is carried out in the copy.
    """
    part = to.with_name(f"{to.name}.part")
    part.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(part),))
    if note is not None:
        copy = sqlite3.connect(part, isolation_level=None)
        try:
            copy.execute(note)
        finally:
            copy.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(to)
    _sync_directory(to.parent)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
