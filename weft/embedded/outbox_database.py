"""The outbox of an installation with a database: whichever process takes a mail, all of them can show it."""

from __future__ import annotations

import secrets
import time
from email import policy
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from weft.embedded.outbox import Kept, Outbox, kept_of
from weft.errors import NotFound
from weft.state import metadata
from weft.state.blocking import Blocking

HEAD: Final = 65_536
"""Bytes of a mail in which its header is looked for, when mails are listed."""

KEEPING_S: Final = 60.0
"""Seconds that keeping or fetching one mail may take; it may be large."""

table: Final = sa.Table(
    "weft_outbox",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False, index=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)


class DatabaseOutbox(Outbox):
    """Keeps mails in a table; the server that takes them runs in the process that sends.

    Args:
        directory: Where they would be without a database; nothing is written there.
        address: A connection string of libpq.
    """

    def __init__(self, directory: Path, address: str) -> None:
        super().__init__(directory)
        self._database = Blocking(address)

    def messages(self) -> list[Kept]:
        size, head = sa.func.octet_length(table.c.content), sa.func.substring(table.c.content, 1, HEAD)
        query = sa.select(table.c.id, size, head).order_by(table.c.at, table.c.id)
        rows = self._database.do(lambda connection: connection.execute(query).all(), writes=False)
        parser = BytesHeaderParser(policy=policy.compat32)
        return [
            kept_of(id_, number, parser.parsebytes(bytes(start)), length)
            for number, (id_, length, start) in enumerate(rows, 1)
        ]

    def _content(self, id_: str) -> bytes:
        query = sa.select(table.c.content).where(table.c.id == id_)
        found = self._database.do(lambda connection: connection.scalar(query), writes=False, deadline_s=KEEPING_S)
        if found is None:
            raise NotFound(f"The outbox has no mail {id_!r} any more.", remedy="See `weft outbox` for the list.")
        return bytes(found)

    def _prepare(self) -> None:
        self._database.do(lambda connection: connection.execute(sa.select(table.c.id).limit(1)), writes=False)

    def _keep(self, message: bytes) -> str:
        now = time.time()
        id_ = f"{now:.6f}.{secrets.token_hex(8)}"
        row = {"id": id_, "at": now, "content": message}
        self._database.do(
            lambda connection: connection.execute(table.insert().values(row)), writes=True, deadline_s=KEEPING_S
        )
        return id_
