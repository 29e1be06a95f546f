"""Connections from a mounted directory of secrets, as Kubernetes and Docker give them to a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from weft import wording
from weft.catalogue import Catalogue
from weft.connections.fields import LARGEST_VALUE, checked, fields_of, from_text, settings_of, text_of
from weft.errors import ConnectionUnusable, InvalidConnections, Where
from weft.manifest import ConnectionType
from weft.plan import ConnectionFacts
from weft.sdk import Connection
from weft.types import JsonObject

TYPE = "type"
"""The file that names a connection's type."""


class Directory:
    """A directory of connections: one directory for each, in it one file for each field, and one named `type`.

    Files are read when they are asked for, since a mounted secret changes in place. Names that begin with a dot are
    the mount's own (`..data`). A directory without `type` is no connection.
    """

    def __init__(self, path: Path, types: Mapping[str, ConnectionType], catalogue: Catalogue | None = None) -> None:
        if not path.is_dir():
            raise InvalidConnections(
                f"The directory of secrets {path} is not there.",
                code="no_directory",
                remedy="Mount it, or correct WEFT_SECRETS_DIR.",
                where=Where(str(path)),
            )
        self._path = path
        self._types = types
        self._catalogue = catalogue

    def known(self) -> Iterator[ConnectionFacts]:
        for folder in sorted(self._path.iterdir()):
            if not folder.name.startswith(".") and (facts := self.facts(folder.name, "")):
                yield facts

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        kind = self._kind(name)
        if kind is None:
            return None
        values, _ = self._values(name, kind, secrets=False)
        provider = values.get("provider")
        return ConnectionFacts(
            name,
            kind.id,
            f"directory {self._path.name}",
            provider if isinstance(provider, str) else None,
            settings_of(fields_of(kind, values, self._catalogue), values),
        )

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        kind = self._kind(name)
        if kind is None:
            raise ConnectionUnusable(f"Connection {name!r} was taken away.", code="unknown_connection")
        values, unreadable = self._values(name, kind, secrets=True)
        if unreadable:
            raise ConnectionUnusable(
                f"{unreadable[0]} is no readable text of at most {LARGEST_VALUE:,} bytes.",
                code="unreadable_file",
                where=Where(str(unreadable[0])),
            )
        return checked(name, kind, values, str(self._path / name), catalogue=self._catalogue)

    def _kind(self, name: str) -> ConnectionType | None:
        file = self._path / name / TYPE
        if "/" in name or name.startswith(".") or not file.is_file():
            return None
        stated = (text_of(file) or "").strip()
        if stated not in self._types:
            raise InvalidConnections(
                f"There is no type of connection {stated[:64]!r}.",
                code="unknown_connection_type",
                remedy=wording.meant(stated, self._types) or f"There are: {', '.join(self._types)}.",
                where=Where(str(file)),
            )
        return self._types[stated]

    def _values(self, name: str, kind: ConnectionType, *, secrets: bool) -> tuple[JsonObject, list[Path]]:
        """Return the fields that the files give, and the files that give none; secret ones only when asked for."""
        files = {f.name: f for f in sorted((self._path / name).iterdir()) if f.name != TYPE and f.name[0] != "."}
        by = kind.further_fields.by if kind.further_fields else None
        chosen = {by: text_of(files[by])} if by in files and by is not None else {}
        fields = {field.name: field for field in fields_of(kind, chosen, self._catalogue)}
        values: JsonObject = {}
        unreadable = []
        for key, file in files.items():
            field = fields.get(key)
            if not secrets and (field is None or field.secret):
                continue
            text = text_of(file)
            if text is None:
                unreadable.append(file)
            else:
                values[key] = text if field is None else from_text(field, text)
        return values, unreadable
