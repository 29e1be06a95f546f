"""Ways to break Weft on purpose, in a child of the fault suite: the judges must notice each of them.

tests/faults/all --break early-answer kills
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from weft import executor
from weft.engine import reactor
from weft.journal import postgres, sqlite, sqlite_file, writer
from weft.journal.base import Claim
from weft.schedules import times

BREAK: Final = "FAULTS_BREAK"


def prepare() -> None:
    """Break this process as its variable says."""
    if name := os.environ.get(BREAK):
        WAYS[name]()


def early_answer() -> None:
    """Answer before the COMMIT."""
    commit = writer.Writer._commit

    class Early:
        def __init__(self, connection: sqlite3.Connection, batch: Any) -> None:
            self._connection, self._batch = connection, batch

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, text: str, *values: Any) -> Any:
            if text == "COMMIT":
                writer._answer(self._batch)
                time.sleep(0.02)
            return self._connection.execute(text, *values)

    def early(self: Any, connection: Any, batch: Any) -> None:
        commit(self, Early(connection, batch), batch)  # type: ignore[arg-type]  # it stands for a connection

    writer.Writer._commit = early  # type: ignore[method-assign]


def no_begun() -> None:
    """Send without a record that it begins."""
    reactor._sends = lambda call: False


def no_flush() -> None:
    """Do not wait for the disk at each COMMIT (`synchronous` NORMAL instead of FULL)."""
    prepare_file = sqlite_file._prepare

    def unsafe(connection: sqlite3.Connection, path: Any) -> None:
        prepare_file(connection, path)
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlite_file._prepare = unsafe


def no_marks() -> None:
    """Repeat what may have happened without saying so."""
    perform = executor.Executor.perform

    async def unmarked(self: Any, call: Any, watch: Any) -> Any:
        return await perform(self, replace(call, repeated=False), watch)

    executor.Executor.perform = unmarked  # type: ignore[method-assign]


def no_owner() -> None:
    """Let everybody write to a run and send for it, whoever has it."""
    module: Any = postgres
    decide = module.written

    def written(turn: Any, claim: Claim, *rest: Any) -> None:
        turn.life.void.clear()
        row = turn.row(claim.run_id)
        decide(turn, Claim(claim.run_id, row.epoch, row.token), *rest)

    async def agreed(self: Any, claim: Claim) -> None:
        return None

    module.written = written
    postgres.PostgresJournal.confirm = agreed  # type: ignore[method-assign]


def lost_instants() -> None:
    """Overlook every seventh second."""
    after = times.Times.after

    def some(self: Any, at: float) -> Iterator[times.Instant]:
        return (each for each in after(self, at) if round(each.at / (60 if round(each.at) % 60 == 0 else 1)) % 7)

    times.Times.after = some  # type: ignore[method-assign]


def doubled_starts() -> None:
    """Start each instant's run twice, under another id."""
    for kind in (sqlite.SqliteJournal, postgres.PostgresJournal):
        _double(kind)


def _double(kind: type[Any]) -> None:
    schedule = kind.schedule

    async def twice(self: Any, id_: str, think: Any, keys: Any = ()) -> Any:
        def rethink(view: Any) -> Any:
            move = think(view)
            if move is None:
                return None
            return replace(move, runs=[*move.runs, *(replace(run, id=run.id[::-1]) for run in move.runs)])

        return await schedule(self, id_, rethink, keys)

    kind.schedule = twice


WAYS: Final[dict[str, Callable[[], None]]] = {
    "doubled-starts": doubled_starts,
    "early-answer": early_answer,
    "lost-instants": lost_instants,
    "no-begun": no_begun,
    "no-flush": no_flush,
    "no-marks": no_marks,
    "no-owner": no_owner,
}
