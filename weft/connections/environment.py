"""Connections made of environment variables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache

from weft.catalogue import Catalogue
from weft.connections.fields import checked, fields_of, from_text, settings_of
from weft.manifest import LIMITS, ConnectionType
from weft.plan import ConnectionFacts, variable
from weft.sdk import Connection
from weft.types import JsonObject


class Environment:
    """Connections made of environment variables, by the names that their type declares: `OPENAI_API_KEY`.

    Args:
        types: The types of connections.
        environ: The variables.
        catalogue: What brings further fields; left out, there are none.
        taken: Variables that a connections file refers to: they belong to its connections and make none of their own.
    """

    def __init__(
        self,
        types: Mapping[str, ConnectionType],
        environ: Mapping[str, str],
        catalogue: Catalogue | None = None,
        taken: Collection[str] = (),
    ) -> None:
        self._types = types
        self._environ = environ
        self._catalogue = catalogue
        self._taken = taken

    def known(self) -> Iterator[ConnectionFacts]:
        """Yield the connections of providers; other names cannot be told from variables that mean something else."""
        if self._catalogue is None:
            return
        for kind in self._types.values():
            listed = any(field.options and field.options.source == "providers" for field in kind.fields)
            for provider in self._catalogue.names() if listed else ():
                if facts := self.facts(provider, kind.id):
                    yield facts

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        kind = self._types.get(wanted)
        if kind is None or not (given := self._given(name, kind)):
            return None
        values = self._values(name, kind, given)
        provider = values.get("provider")
        settings = settings_of(fields_of(kind, values, self._catalogue), values)
        return ConnectionFacts(name, wanted, "environment", provider if isinstance(provider, str) else None, settings)

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        kind = self._types[wanted]
        given = self._given(name, kind)
        used = ", ".join(sorted(variable_ for variable_, _ in given.values()))
        values = self._values(name, kind, given)
        return checked(name, kind, values, f"the environment ({used})", catalogue=self._catalogue)

    def _given(self, name: str, kind: ConnectionType) -> dict[str, tuple[str, str]]:
        """Return field → variable and its text; empty when no variable of its own is set, or one of them is taken."""
        found = {field: set_ for field, names in kind.environment.items() if (set_ := self._first(name, names))}
        further = kind.further_fields
        if further is not None:
            own = {field.name for field in kind.fields}
            chosen = {further.by: found[further.by][1] if further.by in found else name}
            for field in fields_of(kind, chosen, self._catalogue):
                if field.name not in own and (set_ := self._first(name, [f"{{NAME}}_{field.name.upper()}"])):
                    found[field.name] = set_
        if not found.keys() - set(LIMITS):  # limits alone make no connection
            return {}
        return {} if any(key in self._taken for key, _ in found.values()) else found

    def _first(self, name: str, patterns: Iterable[str]) -> tuple[str, str] | None:
        keys = _variables(name, tuple(patterns))
        return next(((key, text) for key in keys if (text := self._environ.get(key))), None)

    def _values(self, name: str, kind: ConnectionType, given: Mapping[str, tuple[str, str]]) -> JsonObject:
        texts = {field: text for field, (_, text) in given.items()}
        provided = any(field.name == "provider" for field in kind.fields)
        known = {"provider": name, **texts} if provided else texts
        fields = {field.name: field for field in fields_of(kind, known, self._catalogue)}
        return {key: from_text(fields[key], text) for key, text in known.items()}


@lru_cache(maxsize=1024)
def _variables(name: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the variables that a connection of this name may have; asked for several times at each attempt."""
    return tuple(pattern.replace("{NAME}", variable(name)) for pattern in patterns)
