"""Named accounts on other systems: where they come from, and how a step gets one.

A connection lives outside workflows, in the environment, in a file, or built in. Its secrets are read at the last
moment, wrapped in `Secret`, and made known to the redactor before anything else sees them.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from weft import arguments, source, wording
from weft.errors import ConnectionUnusable, InvalidConnections, NotFound, Problem, Where
from weft.manifest import ConnectionType, Parameter
from weft.plan import ConnectionFacts, variable
from weft.redaction import MASK, Redactor, Secret
from weft.sdk import Connection
from weft.source import Source
from weft.types import Json, JsonObject

LARGEST_SECRET = 65_536  #: bytes of a file that holds one value


class ConnectionSource(Protocol):
    """One place that connections come from."""

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        """Return what is known of the connection without opening it, or None when it is not here."""

    def names(self) -> Iterable[str]:
        """Return the names that are known without being asked for one."""

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        """Return the connection; called only after `facts` found it."""


class Environment:
    """Connections made of environment variables, by the names that their type declares: `OPENAI_API_KEY`."""

    def __init__(self, types: Mapping[str, ConnectionType], environ: Mapping[str, str]) -> None:
        self._types = types
        self._environ = environ

    def names(self) -> Iterable[str]:
        return ()

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        values = self._given(name, wanted)
        if not values:
            return None
        provider = values.get("provider")
        return ConnectionFacts(name, wanted, "environment", provider or name)

    def _given(self, name: str, wanted: str) -> dict[str, str]:
        """The fields that variables give; empty when none of the connection's own variables is set."""
        kind = self._types.get(wanted)
        found: dict[str, str] = {}
        for field, variables in (kind.environment if kind else {}).items():
            names = [pattern.replace("{NAME}", variable(name)) for pattern in variables]
            value = next((self._environ[key] for key in names if self._environ.get(key)), None)
            if value is not None:
                found[field] = value
        return found

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        kind = self._types[wanted]
        given = self._given(name, wanted)
        fields = {field.name: field for field in kind.fields}
        values: JsonObject = {key: _from_text(fields[key], text) for key, text in given.items()}
        if "provider" in fields:
            values.setdefault("provider", name)
        return checked(name, kind, values, f"the environment ({', '.join(sorted(self._used(name, kind, given)))})")

    def _used(self, name: str, kind: ConnectionType, given: Mapping[str, str]) -> Iterable[str]:
        for field in given:
            for pattern in kind.environment[field]:
                key = pattern.replace("{NAME}", variable(name))
                if self._environ.get(key):
                    yield key
                    break


def _from_text(field: Parameter, text: str) -> Json:
    """Return the value that a variable's text means for a field of this type."""
    types = field.types
    if "string" in types:
        return text
    if "array" in types:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value: Json = json.loads(text.lower() if types == ("boolean",) else text)
    except ValueError:
        return text
    return value


class File:
    """Connections from a YAML file: name → type and fields; a field may point elsewhere by `{env: …}` or `{file: …}`."""

    def __init__(self, path: Path, types: Mapping[str, ConnectionType], environ: Mapping[str, str]) -> None:
        self._path = path
        self._types = types
        self._environ = environ
        self._source = source.read_file(path)
        self._entries = self._read()
        self._refuse_open_secrets()

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
        for name, entry in self._entries.items():
            for field in self._types[str(entry["type"])].fields:
                literal = field.secret and isinstance(entry.get(field.name), str)
                if literal and stat.S_IMODE(self._path.stat().st_mode) & 0o077:
                    raise self._invalid(
                        "open_secrets",
                        f"{self._path.name} holds a secret and others may read it.",
                        (name, field.name),
                        f"Run: chmod 600 {self._path}",
                    )

    def names(self) -> Iterable[str]:
        return self._entries

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        provider = entry.get("provider")
        return ConnectionFacts(
            name, str(entry["type"]), f"file {self._path.name}", provider if isinstance(provider, str) else None
        )

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        entry = self._entries[name]
        kind = self._types[str(entry["type"])]
        fields = {field.name: field for field in kind.fields}
        values = {
            key: self._resolved(name, key, value, fields.get(key)) for key, value in entry.items() if key != "type"
        }
        return checked(name, kind, values, self._path.name, self._source)

    def _resolved(self, name: str, key: str, value: Json, field: Parameter | None) -> Json:
        """Return a field's value, read from the variable or the file that it points to."""
        match value:
            case {"env": str(wanted), **rest} if not rest:
                text = self._environ.get(wanted)
                if not text:
                    raise self._invalid("unset_variable", f"The variable {wanted} is not set.", (name, key))
            case {"file": str(wanted), **rest} if not rest:
                path = self._path.parent / wanted
                found = _text_of(path)
                if found is None:
                    message = f"{wanted} is no readable text of at most {LARGEST_SECRET:,} bytes."
                    raise self._invalid("unreadable_file", message, (name, key))
                text = found
            case _:
                return value
        return text if field is None else _from_text(field, text)


def _text_of(path: Path) -> str | None:
    """Return a small text file's content without its last line end, None when it is none."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_SECRET + 1)
        return None if len(data) > LARGEST_SECRET else data.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        return None  # raised from here, an error would carry the content with it, as its context


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Connections to servers that Weft brings along, started when they are first asked for."""

    openers: Mapping[str, tuple[ConnectionFacts, Callable[[], Awaitable[Connection]]]]

    def names(self) -> Iterable[str]:
        return self.openers

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        known = self.openers.get(name)
        return None if known is None else known[0]

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        note(f"starting {name}")
        return await self.openers[name][1]()


class Connections:
    """All sources, asked in order; every secret that is opened is known to the redactor from then on."""

    def __init__(self, sources: Sequence[ConnectionSource], redactor: Redactor) -> None:
        self._sources = sources
        self._redactor = redactor

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        """Return what is known of a connection without opening it."""
        return next((found for s in self._sources if (found := s.facts(name, wanted)) is not None), None)

    async def get(self, name: str, wanted: str, note: Callable[[str], None] = lambda text: None) -> Connection:
        """Open the connection `name` of type `wanted`.

        Raises:
            NotFound: There is none of this name.
            ConnectionUnusable: It is of another type, or lacks a field.
        """
        for place in self._sources:
            facts = place.facts(name, wanted)
            if facts is None:
                continue
            if facts.type != wanted:
                raise ConnectionUnusable(
                    f"Connection {name!r} is of type {facts.type!r}, but the action needs {wanted!r}.",
                    code="wrong_connection",
                )
            connection = await place.open(name, wanted, note)
            for value in connection.values.values():
                if isinstance(value, Secret):
                    self._redactor.add(value)
            return connection
        raise self._unknown(name)

    def _unknown(self, name: str) -> NotFound:
        known = sorted({known for s in self._sources for known in s.names()})
        hint = f"{close} " if (close := wording.meant(name, known)) else ""
        return NotFound(
            f"There is no connection {name!r}.",
            remedy=f"{hint}Set its variables ({variable(name)}_…) or add it to connections.yaml.",
            code="unknown_connection",
        )

    def choose(self, name: str | None, wanted: str, *, provider: str | None, others: Mapping[str, str]) -> str:
        """Return the name of the connection that serves a call; one of one provider never serves another.

        Args:
            name: The step's own connection, if it names one.
            wanted: The type that the action needs.
            provider: The provider that the call goes to; None when the action has no providers.
            others: The step's connections by provider.

        Raises:
            ConnectionUnusable: There is none, or there are several, or the one named belongs to another provider.
        """
        if name is not None:
            facts = self.facts(name, wanted)
            if provider is None or facts is None or facts.provider in (None, provider):
                return name
        if provider is None:
            raise ConnectionUnusable(f"The step names no connection of type {wanted!r}.", code="missing_connection")
        if provider not in others:
            return self._only_one(wanted, provider)
        chosen = others[provider]
        facts = self.facts(chosen, wanted)
        if facts is not None and facts.provider not in (None, provider):
            raise ConnectionUnusable(
                f"Connection {chosen!r} belongs to {facts.provider!r} and is never used for {provider!r}.",
                remedy=f"Name another under connections: {{{provider}: …}}.",
                code="wrong_provider",
            )
        return chosen

    async def open(
        self,
        name: str | None,
        wanted: str,
        *,
        provider: str | None,
        others: Mapping[str, str],
        note: Callable[[str], None],
    ) -> Connection:
        """Return the connection that `choose` names, opened; `note` is told what it is busy with.

        Raises:
            NotFound: There is no such connection.
            ConnectionUnusable: It cannot serve the call.
        """
        return await self.get(self.choose(name, wanted, provider=provider, others=others), wanted, note)

    def _only_one(self, wanted: str, provider: str) -> str:
        names = {n for s in self._sources for n in s.names()} | {provider}
        found = sorted(n for n in names if (f := self.facts(n, wanted)) and f.type == wanted and f.provider == provider)
        if len(found) == 1:
            return found[0]
        got = f"There are several: {', '.join(found)}." if found else f"There is none of type {wanted!r} here."
        raise ConnectionUnusable(
            f"A call goes to provider {provider!r}, and the step names no connection of it. {got}",
            remedy=f"Name one in the step: connections: {{{provider}: <name>}}.",
            code="several_connections" if found else "unknown_connection",
        )


def checked(
    name: str, kind: ConnectionType, values: Mapping[str, Json], origin: str, document: Source | None = None
) -> Connection:
    """Check a connection's fields by its type and wrap the secret ones.

    Raises:
        ConnectionUnusable: A field is missing, unknown or wrong; the values of secret fields are never shown.
    """
    secret = {field.name for field in kind.fields if field.secret}
    shown: dict[str, Json] = {k: MASK if k in secret and isinstance(v, str) else v for k, v in values.items()}
    problems = arguments.check(kind.fields, shown)
    if problems:
        raise ConnectionUnusable(problems=[_named(problem, name, origin, document) for problem in problems])
    complete = arguments.with_defaults(kind.fields, dict(values))
    for key in secret & complete.keys():
        _refuse_blank(name, key, complete[key])
    wrapped: dict[str, Any] = {k: Secret(v) if k in secret and isinstance(v, str) else v for k, v in complete.items()}
    return Connection(name, kind.id, wrapped)


def _refuse_blank(name: str, key: str, value: Json) -> None:
    if isinstance(value, str) and (value != value.strip() or not value):
        raise ConnectionUnusable(
            f"{key!r} of connection {name!r} begins or ends with blanks, or is empty.",
            remedy="Give it exactly as it was issued.",
            code="blank_secret",
        )


def _named(problem: Problem, name: str, origin: str, document: Source | None) -> Problem:
    field = problem.where.field or ""
    where = Where(field=field or None)
    if document is not None:
        place = document.where((name, field.split("[")[0].split(".")[0]))
        where = Where(place.file, place.line, place.column, None, f"{name}.{field}")
    message = f"Connection {name!r} from {origin}: {problem.message}"
    return Problem(problem.code, message, problem.remedy, where, problem.severity)
