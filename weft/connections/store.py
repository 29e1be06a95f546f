"""Connections kept in the home, their secrets encrypted: one SQLite database, and a key that lies elsewhere.

Each secret is sealed on its own by AES-256-GCM (NIST SP 800-38D) with a random nonce. What it belongs to is sealed in
with it as associated data: store, connection, type, field and the fields that are not secret. So a row that somebody
exchanges, or a host that somebody redirects in the file, makes the secret unreadable instead of sending it elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weft.connections.keys import Key, Keys, new_key, remove_leftovers, sync_directory
from weft.errors import ConnectionUnusable, InvalidConnections, NotFound, Where
from weft.redaction import Secret
from weft.types import JsonObject

PATIENCE_S = 10.0  #: for another process that is writing
NONCE = 12  #: bytes, as SP 800-38D §5.2.1.1 recommends
_ID = re.compile("[0-9a-f]{16}")
CHECK = "weft"  #: what the key-check value holds
VERSION = 1

_SCHEMA = """
CREATE TABLE weft_store (id TEXT PRIMARY KEY, version INTEGER NOT NULL, key_id TEXT NOT NULL, key_check TEXT NOT NULL);
CREATE TABLE weft_connections (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, settings TEXT NOT NULL, secrets TEXT NOT NULL, key_id TEXT NOT NULL,
    changed_at DOUBLE PRECISION NOT NULL
);
"""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FILES = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What can be known of a kept connection without the key."""

    name: str
    type: str
    settings: JsonObject
    secrets: frozenset[str]  #: names of the secret fields that have a value
    changed_at: float


@dataclass(frozen=True, slots=True)
class Row:
    entry: Entry
    sealed: Mapping[str, str]
    key_id: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store says of itself."""

    id: str
    key_id: str
    key_check: str


class Vault:
    """What opens and seals the secrets of a store, wherever its rows are.

    Args:
        keys: What opens them.
        told: How messages call the store.
        where: The place that they name.
    """

    def __init__(self, keys: Keys, told: str, where: Where) -> None:
        self._keys = keys
        self._told = told
        self._where = where

    def _unknown(self, name: str) -> NotFound:
        return NotFound(
            f"No connection {name!r} is kept here.", code="unknown_connection", remedy="weft connections list"
        )

    def _sealed_anew(
        self, facts: Facts, rows: Sequence[Row], old: Key, new: Key
    ) -> Iterator[tuple[Entry, dict[str, str]]]:
        """Yield what is kept, each secret sealed with another key."""
        for row in rows:
            values = self._unsealed(facts, row, old)
            yield (
                row.entry,
                {name: seal(new, about(facts, row.entry, name), text.reveal()) for name, text in values.items()},
            )

    def _facts_of(self, found: Sequence[Sequence[Any]]) -> Facts:
        """Read the one row in which a store tells of itself: id, version, key_id, key_check."""
        if len(found) != 1:
            raise self._damaged("it does not say which store it is")
        id_, version, key_id, check = found[0]
        if not all(isinstance(text, str) and _ID.fullmatch(text) for text in (id_, key_id)) or not isinstance(
            check, str
        ):
            raise self._damaged("it does not say which store it is")  # the id becomes the name of a key file
        if version != VERSION:
            raise InvalidConnections(
                f"The store {self._told} is of version {version}; this Weft reads version {VERSION}.",
                code="store_version",
                remedy="Use the Weft that made it, or a newer one.",
                where=self._where,
            )
        return Facts(id_, key_id, check)

    def _row_of(self, row: Sequence[Any]) -> Row:
        """Read a kept connection: name, type, settings, secrets, key_id, changed_at."""
        name, type_, settings, sealed, key_id, changed_at = row
        try:
            clear, closed = json.loads(settings), json.loads(sealed)
        except (ValueError, TypeError, RecursionError):
            clear = closed = None
        texts = all(isinstance(text, str) for text in (name, type_, key_id))
        if not (texts and isinstance(clear, dict) and isinstance(closed, dict) and isinstance(changed_at, float)):
            raise self._damaged(f"the row of {name!r} cannot be read")
        return Row(Entry(name, type_, clear, frozenset(closed), changed_at), closed, key_id)

    def _damaged(self, why: str) -> InvalidConnections:
        return InvalidConnections(
            f"The store of connections is damaged: {why}.",
            code="damaged_store",
            remedy=f"Nothing was written. Put a backup of {self._where.file or self._told} in its place, or move it away and begin anew.",
            where=self._where,
        )

    def _next(self, facts: Facts, old: Key) -> Key:
        if not self._keys.given:
            new = new_key()
            self._keys.keep(facts.id, [new, old])
            return new
        first = self._keys.load(facts.id)[0]
        if first.id == old.id:
            raise ConnectionUnusable(
                "The first key in WEFT_KEY is the one in use.",
                code="same_key",
                remedy="Put a new key and a comma before it, rotate, then take the old one out.",
            )
        return first

    # ---- keys
    def _key(self, facts: Facts) -> Key:
        """Return the key in use, when it is here and fits."""
        keys = self._keys.load(facts.id)
        key = next((key for key in keys if key.id == facts.key_id), None)
        origin = self._keys.origin(facts.id)
        remedy = (
            f"Give the key {facts.key_id} in WEFT_KEY, or put its file back; nobody can open the secrets without it."
        )
        if not keys:
            message = f"The key of the store {self._told} is missing; expected {origin} with key id {facts.key_id}."
            raise ConnectionUnusable(message, code="missing_key", remedy=remedy)
        if key is None:
            got = ", ".join(key.id for key in keys)
            message = f"This key does not fit this store; expected key id {facts.key_id}, got {got} from {origin}."
            raise ConnectionUnusable(message, code="wrong_key", remedy=remedy)
        if _open(key, facts.id.encode(), facts.key_check) != CHECK:
            raise self._damaged("its key-check value was changed")
        return key

    def _unsealed(self, facts: Facts, row: Row, key: Key) -> dict[str, Secret]:
        found = {}
        for field, sealed in row.sealed.items():
            value = _open(key, about(facts, row.entry, field), sealed) if row.key_id == key.id else None
            if value is None:
                raise InvalidConnections(
                    f"Connection {row.entry.name!r} in {self._told} was changed by somebody without the key.",
                    code="changed_connection",
                    remedy=f"Remove it, then add it again: weft connections remove {row.entry.name}",
                    where=replace(self._where, field=f"{row.entry.name}.{field}"),
                )
            found[field] = Secret(value)
        return found


class Store(Vault):
    """The connections that are kept in a database; it is made when the first is written.

    Args:
        file: The database.
        keys: What opens the secrets in it.
    """

    def __init__(self, file: Path, keys: Keys) -> None:
        super().__init__(keys, file.name, Where(str(file)))
        self.file = file

    # ---- reading, which needs no key
    def entries(self) -> list[Entry]:
        """Return all connections by name.

        Raises:
            InvalidConnections: The database is damaged; it is left as it is.
            ConnectionUnusable: Another process keeps it busy, or the file cannot be read.
        """
        if not self.file.exists():
            return []
        with self._open() as database:
            self._facts(database)
            return [row.entry for row in self._rows(database)]

    def entry(self, name: str, *, now: bool = False) -> Entry | None:
        """Return one connection, None when it is not here; a file is always read as it is `now`."""
        return next((entry for entry in self.entries() if entry.name == name), None)

    def opened(self, name: str) -> tuple[Entry, dict[str, Secret]]:
        """Return a connection and its secret fields.

        Raises:
            NotFound: There is no such connection.
            ConnectionUnusable: The key is missing or does not fit.
            InvalidConnections: The database is damaged, or was changed by somebody without the key.
        """
        if not self.file.exists():
            raise self._unknown(name)
        with self._open() as database:
            facts = self._facts(database)
            row = next((row for row in self._rows(database) if row.entry.name == name), None)
            if row is None:
                raise self._unknown(name)
            return row.entry, self._unsealed(facts, row, self._key(facts)) if row.sealed else {}

    # ---- writing
    def write(self, name: str, type_: str, settings: JsonObject, values: Mapping[str, Secret]) -> None:
        """Keep a connection, in the place of one of the same name.

        Raises:
            ConnectionUnusable: The key is missing or does not fit.
            InvalidConnections: The database is damaged; it is left as it is.
        """
        if not self.file.exists():
            self._make()
        remove_leftovers(self.file.parent, f".{self.file.name}-")
        with self._changing() as (database, facts):
            key = self._key(facts)
            entry = Entry(name, type_, settings, frozenset(values), time.time())
            sealed = {field: seal(key, about(facts, entry, field), value.reveal()) for field, value in values.items()}
            _put(database, entry, sealed, key)

    def remove(self, name: str) -> None:
        """Forget a connection.

        Raises:
            NotFound: There is no such connection.
        """
        if not self.file.exists():
            raise self._unknown(name)
        with self._changing() as (database, _):
            if not database.execute("DELETE FROM weft_connections WHERE name = ?", (name,)).rowcount:
                raise self._unknown(name)

    def rotate_key(self) -> tuple[str, str, int]:
        """Seal every secret with a new key; return the ids of the old and the new one, and the number of connections.

        With WEFT_KEY the new key is the first of several. Otherwise a new one is made: it is in the key file before
        the database knows it, and the old one is taken out after, so that a crash between leaves both.

        Raises:
            NotFound: There is no store.
            ConnectionUnusable: The key in use is missing, or WEFT_KEY brings no new one.
        """
        if not self.file.exists():
            raise NotFound("Nothing is kept yet, so there is no key.", code="no_store", remedy=_ADD)
        with self._changing() as (database, facts):
            old = self._key(facts)
            new = self._next(facts, old)
            rows = self._rows(database)
            for entry, sealed in self._sealed_anew(facts, rows, old, new):
                _put(database, entry, sealed, new)
            database.execute(
                "UPDATE weft_store SET key_id = ?, key_check = ?", (new.id, seal(new, facts.id.encode(), CHECK))
            )
        if not self._keys.given:
            with self._changing() as (_, now):  # another rotation may have put its key into the file meanwhile
                if now.key_id == new.id:
                    self._keys.keep(facts.id, [new])
        return old.id, new.id, len(rows)

    # ---- the database
    @contextlib.contextmanager
    def _open(self, file: Path | None = None) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(_connected(file or self.file)) as database:
                yield database
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[sqlite3.Connection, Facts]]:
        """Hold the database for one change: all of it is on the disk when this ends well, else nothing."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                self._look_through(database)
                yield database, self._facts(database)
            except BaseException:
                database.rollback()
                raise
            database.commit()

    def _look_through(self, database: sqlite3.Connection) -> None:
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise self._damaged("its pages do not fit together")

    def _make(self) -> None:
        """Make the database beside its place and put it there whole, unless another process was faster."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        id_ = secrets.token_hex(8)
        key = self._keys.first(id_)
        new = self.file.with_name(f".{self.file.name}-{id_}")
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with self._open(new) as database:
                database.executescript(_SCHEMA)
                row = (id_, VERSION, key.id, seal(key, id_.encode(), CHECK))
                database.execute("INSERT INTO weft_store VALUES (?, ?, ?, ?)", row)
                database.commit()
            with contextlib.suppress(FileExistsError):
                self.file.hardlink_to(new)
        finally:
            new.unlink(missing_ok=True)
        sync_directory(self.file.parent)

    def _facts(self, database: sqlite3.Connection) -> Facts:
        return self._facts_of(database.execute("SELECT id, version, key_id, key_check FROM weft_store").fetchall())

    def _rows(self, database: sqlite3.Connection) -> list[Row]:
        query = "SELECT name, type, settings, secrets, key_id, changed_at FROM weft_connections ORDER BY name"
        return [self._row_of(row) for row in database.execute(query)]

    def _fault(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _BUSY:
            return ConnectionUnusable(
                f"Another process has kept {self.file} busy for {PATIENCE_S:g} s.",
                code="store_busy",
                remedy="Try again when it is done.",
            )
        if code in _FILES:
            return ConnectionUnusable(
                f"{self.file} cannot be used: {error}.",
                code="store_files",
                remedy="Look at the permissions of the file and its directory, and at the space on the disk.",
            )
        return self._damaged(str(error))


_ADD = "Add a connection: weft connections add NAME"


def _connected(file: Path) -> sqlite3.Connection:
    """Open a database that exists; what is written is on the disk when a commit returns, and what is deleted is gone."""
    database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=PATIENCE_S)
    database.execute("PRAGMA synchronous = EXTRA")
    database.execute("PRAGMA secure_delete = ON")
    return database


def _put(database: sqlite3.Connection, entry: Entry, sealed: Mapping[str, str], key: Key) -> None:
    database.execute(
        "INSERT INTO weft_connections VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET type = excluded.type, "
        "settings = excluded.settings, secrets = excluded.secrets, key_id = excluded.key_id, "
        "changed_at = excluded.changed_at",
        (entry.name, entry.type, canonical(entry.settings), json.dumps(dict(sealed)), key.id, entry.changed_at),
    )


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def about(facts: Facts, entry: Entry, field: str) -> bytes:
    """Return what a secret belongs to: its associated data."""
    return canonical(["weft connection 1", facts.id, entry.name, entry.type, field, entry.settings]).encode()


def seal(key: Key, about: bytes, text: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only the store needs it

    nonce = secrets.token_bytes(NONCE)
    return base64.b64encode(nonce + AESGCM(key.content).encrypt(nonce, text.encode(), about)).decode()


def _open(key: Key, about: bytes, sealed: str) -> str | None:
    """Return a sealed text, or None when it was sealed with another key, about something else, or was changed."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    try:
        raw = base64.b64decode(sealed, validate=True)
        return AESGCM(key.content).decrypt(raw[:NONCE], raw[NONCE:], about).decode()
    except (InvalidTag, ValueError, TypeError):
        return None
