"""A journal that was put back to an older state: what has not ended is held for review (rule A14).

Replacing the file alone would leave its log beside the copy: SQLite would put pages of one into the other. So file and log
go aside together, while nobody lives on them.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from weft.errors import JournalRefused
from weft.journal.base import Schedule
from weft.journal.checking import check_file
from weft.journal.decisions import restored, unknown_since
from weft.journal.health import database, in_use, living, rows
from weft.journal.moving import UNFINISHED
from weft.journal.postgres_link import Connection

LOGS: Final = ("-wal", "-shm")
"""What SQLite keeps beside a file. The mark stays: it shows that the file is an older one."""


def restore(file: Path, copy: Path) -> Path | None:
    """Put a copy in the place of a journal's file, and return where that is now; None when there was none.

    The next start begins a new lineage: what has not ended is held for review.

    Args:
        file: Of the journal.
        copy: As `weft journal backup` made it; it stays.

    Raises:
        NotFound: There is no copy.
        JournalRefused: A process lives on the file, or the copy is not sound.
    """
    real = file.resolve()
    if copy.resolve() == real:
        raise JournalRefused(f"{copy} is the journal itself.", remedy="Name the copy.")
    found = check_file(copy, is_copy=True)
    if not found.sound:
        raise JournalRefused(
            f"{copy} is not sound: {found.problems[0].message}", code="journal_damaged", remedy="Take an older copy."
        )
    if count := living(file):
        raise in_use(file, count)
    real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = real.with_name(f"{real.name}.part")
    shutil.copyfile(copy, part)
    part.chmod(0o600)
    with part.open("rb") as written:
        os.fsync(written.fileno())
    aside = _put_aside(real)
    part.replace(real)
    return aside


def _put_aside(file: Path) -> Path | None:
    aside = file.with_name(f"{file.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    for suffix in LOGS:
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    if not file.exists():
        return None
    return file.rename(aside)


async def hold(address: str) -> int:
    """Hold all runs of a database that have not ended for review, and return how many; their claims are void.

    Raises:
        NotFound: There is no journal.
        JournalUnavailable: The database does not answer.
    """
    async with database(address) as connection, connection.transaction():
        held = await connection.execute(
            f"UPDATE weft.states SET state = 'parked', reason = %s, epoch = epoch + 1, token = '', alone = false, wake_at = NULL,"  # noqa: S608  ours
            " since = extract(epoch FROM now())::float8, changed_at = extract(epoch FROM now())::float8"
            f" WHERE {UNFINISHED}".encode(),
            (restored(),),
        )
        if await rows(
            connection, "SELECT true FROM pg_catalog.pg_tables WHERE schemaname = 'weft' AND tablename = 'schedules'"
        ):
            await _hold_schedules(connection)
        return held.rowcount


async def _hold_schedules(connection: Connection) -> None:
    """Let no instant fire that may have fired after the copy was made."""
    await connection.execute("DELETE FROM weft.holds WHERE live")  # their claims are void
    found = await rows(
        connection,
        "UPDATE weft.schedules SET watermark = greatest(watermark, extract(epoch FROM now())::float8) WHERE NOT retired"
        " RETURNING extract(epoch FROM now())::float8, id, workflow, source, spec, document, watermark, next_at, fire_at, paused",
    )
    for now, *row in found:
        if not row[-1]:
            each = unknown_since(Schedule(*row), now)
            await connection.execute(
                "INSERT INTO weft.occurrences (schedule, key, at, fate, decided_at, reason, run_id, count)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (each.schedule, each.key, each.at, each.fate, each.decided_at, each.reason, each.run_id, each.count),
            )
