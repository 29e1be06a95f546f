"""Connections kept in the database of an installation, so that all its processes have the same.

Rows are sealed as in the home's store (`store.py`), and are read and written as the other tables beside the journal
are. The key never comes near the database, nor from a file that only one machine has: each process is given WEFT_KEY.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLong
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from weft.connections.keys import MAKE_ONE, Key, Keys
from weft.connections.store import CHECK, VERSION, Entry, Facts, Row, Vault, about, canonical, seal
from weft.errors import ConnectionUnusable, NotFound, StateUnavailable, Where
from weft.redaction import Secret
from weft.state import metadata
from weft.state.blocking import DEADLINE_S, Blocking
from weft.types import JsonObject

T = TypeVar("T")

FRESH_S: Final = 0.25
"""How long what was read counts as what is there."""

PATIENCE_S: Final = 0.5
"""How long a look waits for the database when it knows what was there before."""

store_table: Final = sa.Table(
    "weft_connection_store",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("key_check", sa.Text, nullable=False),
)
connection_table: Final = sa.Table(
    "weft_connections",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("secrets", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
)


class DatabaseStore(Vault):
    """The connections of an installation, in PostgreSQL; raises StateUnavailable where the database is away.

    Args:
        address: A connection string of libpq.
        keys: What opens the secrets.
    """

    def __init__(self, address: str, keys: Keys) -> None:
        super().__init__(keys, "in the database", Where())
        self._database = Blocking(address)
        self._looking: Future[list[Entry]] | None = None
        self._known: list[Entry] | None = None
        self._good_until = 0.0

    # ---- reading, which needs no key
    def entries(self) -> list[Entry]:
        """Return all connections by name; what was there a moment ago, when the database does not answer.

        Raises:
            InvalidConnections: A row is damaged.
            StateUnavailable: The database cannot be asked, and never could.
        """
        known = self._known
        if known is not None and time.monotonic() < self._good_until:
            return known
        if self._looking is None:
            self._looking = _in_thread(self._look)
        looking = self._looking
        try:
            found = looking.result(DEADLINE_S if known is None else PATIENCE_S)
        except (TooLong, StateUnavailable):
            if looking.done():
                self._looking, self._good_until = None, time.monotonic() + PATIENCE_S
            if known is None:
                raise
            return known
        except BaseException:
            self._looking = None
            raise
        self._looking, self._known, self._good_until = None, found, time.monotonic() + FRESH_S
        return found

    def entry(self, name: str, *, now: bool = False) -> Entry | None:
        """Return one connection, None when it is not here; `now`: whatever was read a moment ago."""
        if now:
            self._good_until = 0.0
        return next((entry for entry in self.entries() if entry.name == name), None)

    def opened(self, name: str) -> tuple[Entry, dict[str, Secret]]:
        """Return a connection and its secret fields, as they are now.

        Raises:
            NotFound: There is no such connection.
            ConnectionUnusable: WEFT_KEY is missing or does not fit.
            InvalidConnections: The row was changed by somebody without the key.
        """

        def read(connection: sa.Connection) -> tuple[Facts | None, Row | None]:
            return self._facts(connection), next((row for row in self._rows(connection, name)), None)

        facts, row = self._database.do(read, writes=False)
        if facts is None or row is None:
            raise self._unknown(name)
        return row.entry, self._unsealed(facts, row, self._key(facts)) if row.sealed else {}

    # ---- writing
    def write(self, name: str, type_: str, settings: JsonObject, values: Mapping[str, Secret]) -> None:
        """Keep a connection, in the place of one of the same name.

        Raises:
            ConnectionUnusable: WEFT_KEY is missing or does not fit.
        """
        self._require_shared()

        def change(connection: sa.Connection) -> None:
            facts = self._facts(connection, locks=True) or self._begun(connection)
            key = self._key(facts)
            entry = Entry(name, type_, settings, frozenset(values), time.time())
            sealed = {field: seal(key, about(facts, entry, field), value.reveal()) for field, value in values.items()}
            _put(connection, entry, sealed, key)

        self._changed(change)

    def remove(self, name: str) -> None:
        """Forget a connection; raises NotFound when there is none."""

        def change(connection: sa.Connection) -> None:
            gone = connection.execute(connection_table.delete().where(connection_table.c.name == name))
            if not gone.rowcount:
                raise self._unknown(name)

        self._changed(change)

    def rotate_key(self) -> tuple[str, str, int]:
        """Seal every secret with the first key of WEFT_KEY; return the ids of the old and the new one, and how many.

        Raises:
            NotFound: Nothing is kept yet.
            ConnectionUnusable: The key in use is missing, or WEFT_KEY brings no new one.
        """
        self._require_shared()

        def change(connection: sa.Connection) -> tuple[str, str, int]:
            facts = self._facts(connection, locks=True)
            if facts is None:
                raise NotFound("Nothing is kept yet, so there is no key.", code="no_store")
            old = self._key(facts)
            new = self._next(facts, old)
            rows = self._rows(connection)
            for entry, sealed in self._sealed_anew(facts, rows, old, new):
                _put(connection, entry, sealed, new)
            check = seal(new, facts.id.encode(), CHECK)
            connection.execute(store_table.update().values(key_id=new.id, key_check=check))
            return old.id, new.id, len(rows)

        return self._changed(change)

    def _require_shared(self) -> None:
        if not self._keys.shared:
            raise ConnectionUnusable(
                "The connections of this installation are in its database, and neither WEFT_KEY is set nor does "
                "WEFT_KEY_FILE name a file that is there.",
                code="missing_key",
                remedy=f"Give every process the same key in WEFT_KEY or such a file; a new one comes from: {MAKE_ONE}",
            )

    def _key(self, facts: Facts) -> Key:
        self._require_shared()
        return super()._key(facts)

    # ---- rows
    def _begun(self, connection: sa.Connection) -> Facts:
        """Make the store, or find that another process was faster."""
        id_ = secrets.token_hex(8)
        key = self._keys.load(id_)[0]
        row = {"one": 1, "id": id_, "version": VERSION, "key_id": key.id, "key_check": seal(key, id_.encode(), CHECK)}
        connection.execute(insert(store_table).values(row).on_conflict_do_nothing())
        facts = self._facts(connection, locks=True)
        assert facts is not None  # noqa: S101  it is there now
        return facts

    def _facts(self, connection: sa.Connection, *, locks: bool = False) -> Facts | None:
        about_it = store_table.c
        query = sa.select(about_it.id, about_it.version, about_it.key_id, about_it.key_check)
        found = connection.execute(query.with_for_update() if locks else query).all()
        return self._facts_of(found) if found else None

    def _rows(self, connection: sa.Connection, name: str | None = None) -> list[Row]:
        query = connection_table.select().order_by(connection_table.c.name)
        if name is not None:
            query = query.where(connection_table.c.name == name)
        return [self._row_of(row) for row in connection.execute(query)]

    # ---- transactions
    def _look(self) -> list[Entry]:
        return self._database.do(lambda connection: [row.entry for row in self._rows(connection)], writes=False)

    def _changed(self, change: Callable[[sa.Connection], T]) -> T:
        done = self._database.do(change, writes=True)
        self._known = self._looking = None  # whoever has changed something sees it
        return done


def _put(connection: sa.Connection, entry: Entry, sealed: Mapping[str, str], key: Key) -> None:
    row = {
        "name": entry.name,
        "type": entry.type,
        "settings": canonical(entry.settings),
        "secrets": json.dumps(dict(sealed)),
        "key_id": key.id,
        "changed_at": entry.changed_at,
    }
    statement = insert(connection_table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Do something in a thread of its own, for which nobody has to wait for ever."""
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=do, daemon=True, name="weft-connections").start()
    return future
