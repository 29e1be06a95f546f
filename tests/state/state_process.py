"""Another process on the same tables: `state_process.py PLACE open|count|lock`."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from pathlib import Path

import sqlalchemy as sa

from weft.state import State, metadata

COUNTS = sa.Table(
    "weft_test_counts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
)


def add(connection: sa.Connection) -> None:
    """Read, think, write: what two who do not wait for one another would lose."""
    now = connection.scalar(sa.select(COUNTS.c.times).where(COUNTS.c.id == 1).with_for_update())
    if now is None:
        connection.execute(COUNTS.insert().values(id=1, times=1))
    else:
        connection.execute(COUNTS.update().where(COUNTS.c.id == 1).values(times=now + 1))


async def count(state: State, times: int) -> None:
    for _ in range(times):
        try:
            await state.run(add)
        except sa.exc.IntegrityError:  # both have found none
            await state.run(add)


async def main(place: str, what: str) -> None:
    state = State(place if place.startswith("postgresql") else Path(place))
    await state.open()
    if what == "count":
        await count(state, 25)
    await state.close()


if __name__ == "__main__":
    _, where, doing = sys.argv
    if doing == "lock":
        connection = sqlite3.connect(where, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        time.sleep(1.5)
    else:
        asyncio.run(main(where, doing))
