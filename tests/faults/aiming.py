"""What the fault suite does to a process of Weft that it starts: it notes what was acknowledged, and kills at a point.

The product knows nothing of this. A child process is given its orders by variables, patches what it must, and then
calls the command line as anybody does.
"""

from __future__ import annotations

import functools
import mmap
import os
import signal
import sqlite3
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from procrastinate.manager import JobManager

from weft import executor
from weft.dispatch import keeper, procrastinate
from weft.journal import postgres, writer
from weft.journal.base import Claim, Record, Then
from weft.journal.postgres import PostgresJournal
from weft.journal.postgres_turn import Turn
from weft.journal.sqlite import SqliteJournal

EFFECTS: Final = "FAULTS_EFFECTS"
AIM: Final = "FAULTS_AIM"
"""`before 7`: die just before the 7th COMMIT; `after 7`: just after it; `fetched 2`: when the 2nd job is fetched."""
HOLD: Final = "FAULTS_HOLD"
"""Wait until somebody traces this process."""
DEAD_S: Final = "FAULTS_DEAD_S"
"""Seconds after which a process without a beat is dead, on PostgreSQL; left out, what Weft ships."""

ATTEMPT_S: Final = "FAULTS_ATTEMPT_S"
"""Seconds that one attempt may take; left out, what Weft ships."""

SPACE: Final = "FAULTS_SPACE"
"""The directory to be in: the one that holds `workflows/`."""
CLOCK: Final = "FAULTS_CLOCK"
"""A file with one number: by how many seconds the clock of this machine differs."""

PER_BEAT: Final = 5
"""Beats in that time, as in what Weft ships."""


def real_time() -> float:
    """Return what the clock of the machine shows, whatever `time.time` has become."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def note(what: str, run_id: str, path: str = "-", n: int = 0, more: object = 0) -> None:
    """Append a line to the effects log: `time pid what run path n more`."""
    words = (real_time(), os.getpid(), what, run_id, path or "-", n, more)
    handle = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(handle)


def prepare() -> None:
    """Patch this process as its variables say."""
    if space := os.environ.get(SPACE):
        os.chdir(space)
    if clock := os.environ.get(CLOCK):
        _mistime(Path(clock))
    while HOLD in os.environ and "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        time.sleep(0.01)
    if EFFECTS in os.environ:
        for kind in (SqliteJournal, PostgresJournal):
            _note_answers(kind)
    point, _, number = os.environ.get(AIM, "").partition(" ")
    if number:
        _aim(_Shot(point, int(number)))
    if dead_s := os.environ.get(DEAD_S):
        _shorten(float(dead_s))
    if attempt_s := os.environ.get(ATTEMPT_S):
        executor.LONGEST_ATTEMPT_S = float(attempt_s)


# ---- what was acknowledged
def _note_answers(kind: type[Any]) -> None:
    for name, what in (("accept", "accepted"), ("submit", "accepted"), ("claim", "claimed")):
        setattr(kind, name, _noted(getattr(kind, name), what))
    write = kind.write

    @functools.wraps(write)
    async def noted_write(
        self: Any, claim: Claim, news: int, records: Sequence[Record] = (), then: Then = None, **more: Any
    ) -> None:
        await write(self, claim, news, records, then, **more)
        for record in records:
            note("kept", claim.run_id, record.path, record.n, record.kind)
        if then is not None:
            note("then", claim.run_id, more=then.state)

    kind.write = noted_write


def _noted(method: Callable[..., Awaitable[Any]], what: str) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def noted(self: Any, run: Any, *arguments: Any, **options: Any) -> Any:
        result = await method(self, run, *arguments, **options)
        run_id = run if isinstance(run, str) else run.id
        note(what, run_id)
        if what == "accepted" and result is not None:
            note("claimed", run_id)
        return result

    return noted


# ---- dying
class _Shot:
    """Kills this process at the n-th passage of a point."""

    def __init__(self, point: str, number: int) -> None:
        self._point, self._left = point, number

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class _Watched:
    """A connection to a file that tells of its COMMITs."""

    def __init__(self, connection: sqlite3.Connection, shot: _Shot) -> None:
        self._connection, self._shot = connection, shot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, text: str, *values: Any) -> Any:
        if text != "COMMIT":
            return self._connection.execute(text, *values)
        self._shot("before")
        result = self._connection.execute(text, *values)
        self._shot("after")
        return result


def _aim(shot: _Shot) -> None:
    commit = writer.Writer._commit

    def watched_commit(self: Any, connection: Any, batch: Any) -> None:
        commit(self, _Watched(connection, shot), batch)  # type: ignore[arg-type]  # it stands for a connection

    writer.Writer._commit = watched_commit  # type: ignore[method-assign]

    write = Turn._write

    async def watched_write(self: Any) -> None:
        is_beat = not (self._changed or self._new or self._ready or self.accepted)
        if is_beat:
            return await write(self)
        shot("before")
        await write(self)
        shot("after")
        return None

    Turn._write = watched_write  # type: ignore[method-assign]
    fetch = JobManager.fetch_job

    async def watched_fetch(self: Any, *arguments: Any, **options: Any) -> Any:
        job = await fetch(self, *arguments, **options)
        if job is not None:
            shot("fetched")
        return job

    JobManager.fetch_job = watched_fetch  # type: ignore[method-assign]


# ---- shorter times
def _shorten(dead_s: float) -> None:
    _given(postgres.PostgresJournal, dead_s=dead_s)
    _given(keeper.Keeper, beat_s=dead_s / PER_BEAT, takeover_s=dead_s / 10, sweep_s=6 * dead_s)
    _given(procrastinate.ProcrastinateDispatcher, beat_s=dead_s / PER_BEAT, stalled_s=dead_s)


def _mistime(file: Path) -> None:
    """Let this process read a clock that somebody else sets."""
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), 8, access=mmap.ACCESS_READ)

    def clock() -> float:
        return real_time() + float(struct.unpack("d", shared[:8])[0])

    time.time = clock
    _given(SqliteJournal, clock=clock)


def _given(kind: type[Any], **defaults: Any) -> None:
    begin = kind.__init__

    @functools.wraps(begin)
    def init(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **{**defaults, **options})

    kind.__init__ = init
