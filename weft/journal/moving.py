"""From the file in the home to a database: what must not begin before, or after, a move (rule A24).

`carrying` does the move; this stands apart, since every start asks it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from weft.errors import JournalUnavailable
from weft.journal.base import OPEN
from weft.journal.reader import connect
from weft.journal.sqlite_file import failed

UNFINISHED: Final = f"state IN ({', '.join(repr(state) for state in OPEN)})"
"""A condition on the file's table of states."""


def refuse_left_behind(file: Path) -> None:
    """Refuse to work with a database while the file holds runs that have not ended, or armed schedules (rule A24).

    Raises:
        JournalUnavailable: It does, or it cannot be read.
    """
    if not file.exists():
        return
    try:
        with contextlib.closing(connect(file)) as connection:
            sealed, count, armed = is_sealed(connection), _unfinished(connection), _armed(connection)
    except sqlite3.Error as error:
        raise failed(file, error, "read") from None
    if sealed:
        raise JournalUnavailable(
            f"{file} is being moved to a database, and the move has not come to its end.",
            code="journal_moving",
            remedy="Call `weft journal move` again.",
        )
    if count:
        raise JournalUnavailable(
            f"{file} holds {count} {'run that has' if count == 1 else 'runs that have'} not ended; "
            "with WEFT_DATABASE_URL set nobody would go on with them.",
            code="journal_left_behind",
            remedy="Move them with `weft journal move`, or let them end: unset WEFT_DATABASE_URL and start `weft worker`.",
        )
    if armed:
        raise JournalUnavailable(
            f"{file} holds {armed} armed {'schedule' if armed == 1 else 'schedules'}; with WEFT_DATABASE_URL set "
            "nobody would know how far they have come.",
            code="journal_left_behind",
            remedy="Move them with `weft journal move`.",
        )


def refuse_moved(file: Path) -> None:
    """Refuse to begin a new file in the place of one that was moved: its runs are elsewhere.

    Raises:
        JournalUnavailable: It was moved.
    """
    note = note_of(file)
    if note.exists() and not file.exists():
        raise JournalUnavailable(
            f"The runs of {file} were moved to a database; {note} says which.",
            code="journal_moved",
            remedy=f"Set WEFT_DATABASE_URL. To begin a new journal here, delete {note.name}.",
        )


def note_of(file: Path) -> Path:
    """Return where it stands that a file was moved."""
    return file.with_name(f"{file.name}.moved.txt")


def _unfinished(connection: sqlite3.Connection) -> int:
    if not _has_table(connection, "statuses"):
        return 0
    return int(connection.execute(f"SELECT count(*) FROM statuses WHERE {UNFINISHED}").fetchone()[0])  # noqa: S608


def _armed(connection: sqlite3.Connection) -> int:
    if not _has_table(connection, "schedules"):
        return 0
    return int(connection.execute("SELECT count(*) FROM schedules WHERE retired = 0").fetchone()[0])


def is_sealed(connection: sqlite3.Connection) -> bool:
    """Tell whether a move has closed the file to all writers."""
    return _has_table(connection, "sealed")


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None
