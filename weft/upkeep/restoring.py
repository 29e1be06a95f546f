"""Puts a backup in the place of a home: everything is looked at first, then the two change places.

What the runs in it have done since the backup is not known: those that have not ended are held for review (rule A14).
What was there is kept beside it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from weft.errors import JournalRefused
from weft.journal.health import in_use, living
from weft.journal.life import Life
from weft.journal.sqlite import SqliteJournal
from weft.upkeep.members import DATABASES, KEYS, WORKSPACE, Manifest, files_in, key_place
from weft.upkeep.reading import verified

JOURNAL: Final = DATABASES[0]
KEPT: Final = ("models",)
"""What no backup holds, and a restored home takes over from the one before."""

_AT_CWD: Final = -100
_EXCHANGE: Final = 2
"""Of renameat2(2): two names change places in one step."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    manifest: Manifest
    aside: Path | None  #: where the home that was there is now
    workspace: Path | None  #: where its workflows were put
    keys: tuple[str, ...]  #: that were put in their place
    keys_known: tuple[str, ...]  #: that were there already, with other content, and have stayed


def restore(file: Path, home: Path, environ: Mapping[str, str], *, workspace: Path | None = None) -> Restored:
    """Put a backup in the place of a home.

    Args:
        file: As `back_up` made it.
        home: Where it is to be; it may be there already.
        environ: Says where keys belong.
        workspace: A directory, empty or not there, for the workflows of the backup; None: they stay in it.

    Raises:
        NotFound: There is no such file.
        JournalRefused: It is not sound, a process lives on the home, or the directory for workflows is not empty.
            Nothing was changed.
    """
    if count := living(home / JOURNAL):
        raise in_use(home / JOURNAL, count)
    if workspace is not None and workspace.exists() and any(workspace.iterdir()):
        raise JournalRefused(
            f"{workspace} is not empty.", code="file_exists", remedy="Name an empty directory, and compare then."
        )
    real = home.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    with _place_beside(real) as beside, verified(file, beside / "new") as manifest:
        new = beside / "new"
        keys, known = _keep_keys(new, environ)
        put = _put_workspace(new, workspace)
        end_sessions(new / "state.db")
        asyncio.run(_begin_lineage(new / JOURNAL))
        return Restored(manifest, _swapped(new, real), put, keys, known)


@contextmanager
def _place_beside(home: Path) -> Iterator[Path]:
    """A directory on the file system of the home: beside it, or in it where it is a file system of its own."""
    parent = home if home.is_mount() else home.parent
    place = Path(tempfile.mkdtemp(prefix=".weft-restore-", dir=parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _begin_lineage(file: Path) -> None:
    """Open the journal: that is when it finds that it is a copy, and holds what has not ended for review."""
    journal = SqliteJournal(file)
    await journal.open()
    await journal.close()


def end_sessions(file: Path) -> None:
    """End all logins of a restored state: one that was ended since the backup must not count again."""
    if not file.exists():
        return
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for table in ("weft_sessions", "weft_entries"):
            if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone():
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  ours


def _keep_keys(new: Path, environ: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Put keys where they belong on this machine; one that is there already stays."""
    put, known = [], []
    for file in files_in(new / KEYS) if (new / KEYS).is_dir() else ():
        to = key_place(environ, file.name)
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if to.read_bytes() != file.read_bytes():
                known.append(str(to))
            continue
        with os.fdopen(descriptor, "wb") as out:
            out.write(file.read_bytes())
            os.fsync(out.fileno())
        put.append(str(to))
    shutil.rmtree(new / KEYS, ignore_errors=True)  # they never lie beside what they open
    return tuple(put), tuple(known)


def _put_workspace(new: Path, workspace: Path | None) -> Path | None:
    found = new / WORKSPACE
    if not found.is_dir():
        return None
    if workspace is not None:
        shutil.copytree(found, workspace, dirs_exist_ok=True)
        for file in files_in(workspace):
            file.chmod(0o644)
    shutil.rmtree(found)
    return workspace


# ---- the exchange
def _swapped(new: Path, home: Path) -> Path | None:
    """Let two directories change places, and return where the old one is now; None when there was none."""
    _sync(new)
    if not home.exists():
        new.rename(home)
        _sync_names(home.parent)
        return None
    aside = home.with_name(f"{home.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    if home.is_mount():
        return _swapped_inside(new, home, home / aside.name)
    life = Life(home / "alive")
    life.begin()  # whoever starts now finds that somebody lives here, and that the file is not the one that it opened
    try:
        if count := living(home / JOURNAL) - 1:
            raise in_use(home / JOURNAL, count)
        if not _exchanged(new, home):
            home.rename(aside)
            new.rename(home)
        else:
            new.rename(aside)
    finally:
        life.end()
    for name in KEPT:
        if (aside / name).exists():
            (aside / name).rename(home / name)
    _sync_names(home.parent)
    return aside


def _swapped_inside(new: Path, home: Path, aside: Path) -> Path:
    """The same where the home is a file system of its own, such as a container's volume: entry by entry, the journal last.

    Meanwhile a note keeps everybody from beginning an empty journal there.
    """
    note = home / f"{JOURNAL}.moved.txt"
    life = Life(home / "alive")
    life.begin()
    try:
        if count := living(home / JOURNAL) - 1:
            raise in_use(home / JOURNAL, count)
        aside.mkdir(mode=0o700)
        note.write_text("A restore was cut off. Call `weft restore` again.\n", encoding="utf-8")
        _sync_names(home)
        stays = {"alive", "locks", note.name, aside.name, *KEPT}
        old = [path for path in home.iterdir() if path.name not in stays and not path.name.startswith(".weft-restore-")]
        for path in sorted(old, key=lambda path: not path.name.startswith(JOURNAL)):
            path.rename(aside / path.name)
        for path in sorted(new.iterdir(), key=lambda path: path.name == JOURNAL):
            if path.name not in stays:
                path.rename(home / path.name)
        _sync_names(home)
        note.unlink()
    finally:
        life.end()
    return aside


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync(directory: Path) -> None:
    for file in files_in(directory):
        with file.open("rb") as content:
            os.fsync(content.fileno())
    _sync_names(directory)


def _sync_names(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
