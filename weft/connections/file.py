"""Connections from a YAML file."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from weft import source, wording
from weft.catalogue import Catalogue
from weft.connections.fields import LARGEST_VALUE, checked, fields_of, from_text, settings_of, text_of
from weft.errors import InvalidConnections, Problem
from weft.manifest import ConnectionType, Parameter
from weft.plan import ConnectionFacts
from weft.sdk import Connection
from weft.types import Json, JsonObject


class File:
    """Connections from a YAML file: name → type and fields; a field may point elsewhere by `{env: …}` or `{file: …}`."""

    def __init__(
        self,
        path: Path,
        types: Mapping[str, ConnectionType],
        environ: Mapping[str, str],
        catalogue: Catalogue | None = None,
    ) -> None:
        self._path = path
        self._types = types
        self._environ = environ
        self._catalogue = catalogue
        self._source = source.read_file(path)
        self._entries = self._read()
        self._literal = frozenset(
            name for name, entry in self._entries.items() if not any(map(_refers, entry.values()))
        )
        self._told: dict[str, ConnectionFacts] = {}  #: of literal entries, which never change
        self._opened: dict[str, Connection] = {}  #: the same
        self._refuse_open_secrets()

    @property
    def variables(self) -> frozenset[str]:
        """The variables that its connections refer to by `{env: …}`."""
        found = set()
        for entry in self._entries.values():
            for value in entry.values():
                match value:
                    case {"env": str(wanted), **rest} if not rest:
                        found.add(wanted)
        return frozenset(found)

    def _read(self) -> dict[str, JsonObject]:
        value = self._source.value
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._invalid("not_a_mapping", "A connections file maps names to connections.", ())
        for name, entry in value.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
                raise self._invalid("no_type", f"Connection {name!r} needs a type and fields.", (name,))
            if entry["type"] not in self._types:
                hint = wording.meant(entry["type"], self._types) or f"There are: {', '.join(self._types)}."
                text = f"There is no type of connection {entry['type']!r}."
                raise self._invalid("unknown_connection_type", text, (name, "type"), hint)
        return {name: dict(entry) for name, entry in value.items() if isinstance(entry, dict)}

    def _invalid(
        self, code: str, message: str, path: tuple[str | int, ...], remedy: str | None = None
    ) -> InvalidConnections:
        return InvalidConnections(problems=[Problem(code, message, remedy, self._source.where(path))])

    def _refuse_open_secrets(self) -> None:
        """Refuse a file that holds secrets themselves and that others may read."""
        if not stat.S_IMODE(self._path.stat().st_mode) & 0o077:
            return
        for name, entry in self._entries.items():
            for field in self._fields(name).values():
                if field.secret and isinstance(entry.get(field.name), str):
                    raise self._invalid(
                        "open_secrets",
                        f"{self._path.name} holds a secret and others may read it.",
                        (name, field.name),
                        f"Run: chmod 600 {self._path}",
                    )

    def _kind(self, name: str) -> ConnectionType:
        return self._types[str(self._entries[name]["type"])]

    def _fields(self, name: str) -> dict[str, Parameter]:
        kind = self._kind(name)
        known = self._known_values(name, {field.name: field for field in kind.fields})
        return {field.name: field for field in fields_of(kind, known, self._catalogue)}

    def _known_values(self, name: str, fields: Mapping[str, Parameter]) -> JsonObject:
        """Return the values of fields that are not secret, those left out whose reference leads nowhere."""
        found: JsonObject = {}
        for key, value in self._entries[name].items():
            field = fields.get(key)
            if field is None or field.secret:
                continue
            resolved, fault = self._resolved(value, field)
            if fault is None:
                found[key] = resolved
        return found

    def known(self) -> Iterator[ConnectionFacts]:
        for name in self._entries:
            yield self._facts(name)

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        return self._facts(name) if name in self._entries else None

    def _facts(self, name: str) -> ConnectionFacts:
        if name not in self._literal:
            return self._looked_up(name)
        found = self._told.get(name)
        if found is None:
            found = self._told[name] = self._looked_up(name)
        return found

    def _looked_up(self, name: str) -> ConnectionFacts:
        fields = self._fields(name)
        values = self._known_values(name, fields)
        unknown = self._entries[name].keys() - values.keys()  # of these the default must not be told
        declared = tuple(field for key, field in fields.items() if key not in unknown)
        provider = values.get("provider")
        return ConnectionFacts(
            name,
            self._kind(name).id,
            f"file {self._path.name}",
            provider if isinstance(provider, str) else None,
            settings_of(declared, values),
        )

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        if name not in self._literal:
            return self._open(name)
        found = self._opened.get(name)
        if found is None:
            found = self._opened[name] = self._open(name)
        return found

    def _open(self, name: str) -> Connection:
        fields = self._fields(name)
        values: JsonObject = {}
        for key, value in self._entries[name].items():
            if key == "type":
                continue
            values[key], fault = self._resolved(value, fields.get(key))
            if fault is not None:
                raise self._invalid(*fault, (name, key))
        return checked(
            name, self._kind(name), values, self._path.name, document=self._source, catalogue=self._catalogue
        )

    def _resolved(self, value: Json, field: Parameter | None) -> tuple[Json, tuple[str, str] | None]:
        """Return a field's value, read from the variable or file that it points to, and what is wrong with that."""
        match value:
            case {"env": str(wanted), **rest} if not rest:
                text = self._environ.get(wanted) or None
                fault = ("unset_variable", f"The variable {wanted} is not set.")
            case {"file": str(wanted), **rest} if not rest:
                text = text_of(self._path.parent / wanted)
                fault = ("unreadable_file", f"{wanted} is no readable text of at most {LARGEST_VALUE:,} bytes.")
            case _:
                return value, None
        if text is None:
            return None, fault
        return (text if field is None else from_text(field, text)), None


def _refers(value: Json) -> bool:
    """Whether a field's value is read from a variable or a file each time."""
    return isinstance(value, dict) and len(value) == 1 and bool(value.keys() & {"env", "file"})
