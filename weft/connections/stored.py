"""Connections from the store: of the home, or of the database where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from weft.catalogue import Catalogue
from weft.connections.fields import checked, fields_of, settings_of
from weft.connections.keys import Keys
from weft.connections.store import Entry, Store
from weft.errors import ConnectionUnusable
from weft.manifest import ConnectionType
from weft.plan import ConnectionFacts
from weft.redaction import Secret
from weft.sdk import Connection
from weft.types import JsonObject

SOURCE = "store"


class ConnectionStore(Protocol):
    """What keeps connections: a file of the home, or the database of an installation."""

    def entries(self) -> list[Entry]: ...

    def entry(self, name: str, *, now: bool = False) -> Entry | None:
        """Return one connection; `now`: whatever was read a moment ago."""

    def opened(self, name: str) -> tuple[Entry, dict[str, Secret]]: ...

    def write(self, name: str, type_: str, settings: JsonObject, values: Mapping[str, Secret]) -> None: ...

    def remove(self, name: str) -> None: ...

    def rotate_key(self) -> tuple[str, str, int]: ...


def store_at(home: Path, environ: Mapping[str, str], database: str | None) -> ConnectionStore:
    """Return the store of an installation.

    Args:
        home: Where it is, when there is no database.
        environ: What names the key.
        database: The address of the database, if there is one.
    """
    keys = Keys(environ, home)
    if database is None:
        return Store(home / "connections.db", keys)
    from weft.connections.database import DatabaseStore  # noqa: PLC0415  it loads SQLAlchemy

    return DatabaseStore(database, keys)


class Stored:
    """Connections that were added with `weft connections add`; read each time, since another process may change them."""

    def __init__(
        self, store: ConnectionStore, types: Mapping[str, ConnectionType], catalogue: Catalogue | None = None
    ) -> None:
        self._store = store
        self._types = types
        self._catalogue = catalogue

    def known(self) -> Iterator[ConnectionFacts]:
        for entry in self._store.entries():
            yield self._facts(entry)

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        entry = self._store.entry(name)
        return None if entry is None else self._facts(entry)

    def _facts(self, entry: Entry) -> ConnectionFacts:
        provider = entry.settings.get("provider")
        kind = self._types.get(entry.type)
        settings = entry.settings
        if kind is not None:
            settings = settings_of(fields_of(kind, settings, self._catalogue), settings)
        return ConnectionFacts(
            entry.name, entry.type, SOURCE, provider if isinstance(provider, str) else None, settings
        )

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        return await asyncio.to_thread(self._opened, name)

    def _opened(self, name: str) -> Connection:
        entry, secrets = self._store.opened(name)
        kind = self._types.get(entry.type)
        if kind is None:
            raise ConnectionUnusable(
                f"Connection {name!r} is of type {entry.type!r}, which no pack here brings.",
                code="unknown_connection_type",
                remedy="Install the pack that it was made for, or remove it.",
            )
        values: JsonObject = {**entry.settings, **{key: value.reveal() for key, value in secrets.items()}}
        return checked(name, kind, values, "the store", catalogue=self._catalogue)
