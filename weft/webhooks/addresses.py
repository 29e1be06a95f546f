"""Under which address a webhook is reached: 256 random bits, made once and kept whatever becomes of the document.

An address alone starts nothing: requests are signed. So it is kept as it is, to be shown again; it is looked for by its
hash, so that how long that takes tells nothing of how much of a guess was right.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from weft.state import State, metadata

BYTES: Final = 32
"""Of randomness in a path."""

_PATH = re.compile(r"[A-Za-z0-9_-]{43}")

table: Final = sa.Table(
    "weft_webhooks",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),  # SHA-256 of the path, hexadecimal
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("made_at", sa.Double, nullable=False),
    sa.Column("until", sa.Double),  # when it ends, after another has taken its place
)
sa.event.listen(
    table,
    "after_create",
    # As text: an index of a part needs words of each dialect, and SQLAlchemy would load both of them for that.
    sa.DDL(  # type: ignore[no-untyped-call]
        "CREATE UNIQUE INDEX weft_webhooks_current ON weft_webhooks (workflow, name) WHERE until IS NULL"
    ),
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests for a webhook go."""

    path: str
    workflow: str
    name: str
    made_at: float  #: seconds since 1970, UTC
    until: float | None = None  #: when it ends


async def find(state: State, path: str) -> Address | None:
    """Return what is reached under a path, None when that is nothing; `until` may be past."""
    if not _PATH.fullmatch(path):
        return None

    def read(connection: sa.Connection) -> Address | None:
        row = connection.execute(_SELECT.where(table.c.hash == _hash(path))).first()
        return None if row is None else Address(*row)

    return await state.read(read)


async def address_of(state: State, workflow: str, name: str) -> Address:
    """Return the address of a webhook; it is made when there is none."""
    known = await state.read(lambda connection: _current(connection, workflow, name))
    if known is not None:
        return known
    return await state.run(lambda connection: _made(connection, workflow, name))


async def rotate(state: State, workflow: str, name: str, *, overlap_s: float = 0.0) -> Address:
    """Give a webhook a new address and return it.

    Args:
        state: The tables.
        workflow: The workflow's name.
        name: The webhook's.
        overlap_s: For how long the old one is reached, too.
    """

    def change(connection: sa.Connection) -> Address:
        now = time.time()
        old = (table.c.workflow == workflow) & (table.c.name == name)
        ends = sa.or_(table.c.until.is_(None), table.c.until > now + overlap_s)
        connection.execute(table.update().where(old, ends).values(until=now + overlap_s))
        return _made(connection, workflow, name)

    return await state.run(change)


async def rename(state: State, workflow: str, to: str) -> None:
    """Let a workflow's addresses go along when it gets another name."""

    def change(connection: sa.Connection) -> None:
        connection.execute(
            table.update().where(table.c.workflow == to, table.c.until.is_(None)).values(until=time.time())
        )
        connection.execute(table.update().where(table.c.workflow == workflow).values(workflow=to))

    await state.run(change)


_SELECT: Final[sa.Select[Any]] = sa.select(table.c.path, table.c.workflow, table.c.name, table.c.made_at, table.c.until)


def _current(connection: sa.Connection, workflow: str, name: str) -> Address | None:
    wanted = (table.c.workflow == workflow) & (table.c.name == name) & table.c.until.is_(None)
    row = connection.execute(_SELECT.where(wanted)).first()
    return None if row is None else Address(*row)


def _made(connection: sa.Connection, workflow: str, name: str) -> Address:
    """Make an address; whoever was faster has made the one that counts."""
    path = secrets.token_urlsafe(BYTES)
    row = {"hash": _hash(path), "path": path, "workflow": workflow, "name": name, "made_at": time.time()}
    insert = sa.text(
        "INSERT INTO weft_webhooks (hash, path, workflow, name, made_at) VALUES (:hash, :path, :workflow, :name, :made_at)"
        " ON CONFLICT DO NOTHING"  # the words of both databases
    )
    connection.execute(insert, row)
    found = _current(connection, workflow, name)
    assert found is not None  # noqa: S101  it is there now
    return found


def _hash(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()
