"""Which bodies have come a moment ago: for senders that give their messages no id (rule A11)."""

from __future__ import annotations

import time
from typing import Final

import sqlalchemy as sa

from weft.state import State, metadata

table: Final = sa.Table(
    "weft_webhook_bodies",
    metadata,
    sa.Column("workflow", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, primary_key=True),  # its hash
    sa.Column("at", sa.Double, nullable=False),  # when it came first
    sa.Column("until", sa.Double, nullable=False, index=True),
)

_COME: Final = sa.text(
    "INSERT INTO weft_webhook_bodies AS known (workflow, name, body, at, until)"
    " VALUES (:workflow, :name, :body, :now, :until)"
    " ON CONFLICT (workflow, name, body) DO UPDATE SET at = excluded.at, until = excluded.until"
    " WHERE known.until <= :now"
)


async def first_of(state: State, workflow: str, name: str, body: str, window_s: float) -> float:
    """Return when a body came first, within the window that began with it; now, when it did not come before.

    Whoever asks for the same body within the window gets the same instant, in whichever process.
    """
    now = time.time()

    def note(connection: sa.Connection) -> float:
        about = {"workflow": workflow, "name": name, "body": body}
        connection.execute(_COME, {**about, "now": now, "until": now + window_s})
        connection.execute(table.delete().where(table.c.until <= now))
        wanted = [table.c[column] == value for column, value in about.items()]
        at: float = connection.execute(sa.select(table.c.at).where(*wanted)).scalar_one()
        return at

    return await state.run(note)
