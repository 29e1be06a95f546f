"""All places that connections come from, asked in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from weft import wording
from weft.connections.base import ConnectionSource
from weft.errors import ConnectionUnusable, NotFound
from weft.plan import ConnectionFacts, variable
from weft.redaction import Redactor, Secret
from weft.sdk import Connection


@dataclass(frozen=True, slots=True)
class Listed:
    """A connection as a list shows it."""

    facts: ConnectionFacts
    shadowed_by: str | None = None  #: the source that answers in its stead


class Connections:
    """All sources, asked in order; every secret that is opened is known to the redactor from then on."""

    def __init__(self, sources: Sequence[ConnectionSource], redactor: Redactor) -> None:
        self._sources = sources
        self._redactor = redactor

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        """Return what is known of a connection without opening it."""
        return next((found for s in self._sources if (found := s.facts(name, wanted)) is not None), None)

    def listed(self, asked: Iterable[tuple[str, str]] = ()) -> list[Listed]:
        """Return every connection that some source has, by name, the one that is used before those that it hides.

        Args:
            asked: Names and types to look for besides, because a source may not know its own: variables.
        """
        known = [facts for source in self._sources for facts in source.known()]
        wanted = {(facts.name, facts.type) for facts in known} | set(asked)
        listed: list[Listed] = []
        for name in sorted({name for name, _ in wanted}):
            first: ConnectionFacts | None = None
            for facts in self._of(name, sorted(kind for each, kind in wanted if each == name)):
                listed.append(Listed(facts, first.source if first is not None else None))
                first = first or facts
        return listed

    def _of(self, name: str, types: Sequence[str]) -> list[ConnectionFacts]:
        """Return what the sources have under a name, in their order; variables count for each of the types."""
        found = [f for source in self._sources for kind in types if (f := source.facts(name, kind)) is not None]
        return list({(facts.source, facts.type): facts for facts in found}.values())

    def named(self, name: str, types: Sequence[str]) -> list[ConnectionFacts]:
        """Return what the sources have under a name, the one that is used first.

        Args:
            name: The connection.
            types: The types that it may be of; a source that does not state a connection's type tries them all.

        Raises:
            NotFound: There is none of this name.
        """
        stated = {facts.type for source in self._sources for facts in source.known() if facts.name == name}
        found = self._of(name, sorted(stated.intersection(types) or stated.union(types)))
        if not found:
            raise self._unknown(name)
        return found

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
        known = sorted({facts.name for s in self._sources for facts in s.known()})
        hint = f"{close} " if (close := wording.meant(name, known)) else ""
        return NotFound(
            f"There is no connection {name!r}.",
            remedy=f"{hint}Add it: weft connections add {name} --type TYPE. Or set its variables ({variable(name)}_…).",
            code="unknown_connection",
        )

    def choose(
        self, name: str | None, wanted: str, *, provider: str | None, others: Mapping[str, str], own: bool = False
    ) -> str:
        """Return the name of the connection that serves a call; one of one provider never serves another.

        Args:
            name: The step's own connection, if it names one.
            wanted: The type that the action needs.
            provider: The provider that the call goes to; None when the action has no providers.
            others: The step's connections by provider.
            own: Whether it is the step's own provider, for which its own connection is meant and no other.

        Raises:
            ConnectionUnusable: There is none, or there are several, or the one named belongs to another provider.
        """
        if name is not None:
            facts = self.facts(name, wanted)
            if provider is None or facts is None or facts.provider in (None, provider):
                return name
            if own:
                raise _another_provider(name, facts.provider, provider, f"Name a connection of {provider!r}.")
        if provider is None:
            raise ConnectionUnusable(f"The step names no connection of type {wanted!r}.", code="missing_connection")
        if provider not in others:
            return self._only_one(wanted, provider)
        chosen = others[provider]
        facts = self.facts(chosen, wanted)
        if facts is not None and facts.provider not in (None, provider):
            remedy = f"Name another under connections: {{{provider}: …}}."
            raise _another_provider(chosen, facts.provider, provider, remedy)
        return chosen

    async def open(
        self,
        name: str | None,
        wanted: str,
        *,
        provider: str | None,
        others: Mapping[str, str],
        note: Callable[[str], None],
        own: bool = False,
    ) -> Connection:
        """Return the connection that `choose` names, opened; `note` is told what it is busy with.

        Raises:
            NotFound: There is no such connection.
            ConnectionUnusable: It cannot serve the call.
        """
        return await self.get(self.choose(name, wanted, provider=provider, others=others, own=own), wanted, note)

    def _only_one(self, wanted: str, provider: str) -> str:
        names = {facts.name for s in self._sources for facts in s.known()} | {provider}
        known = [facts for name in sorted(names) if (facts := self.facts(name, wanted)) and facts.type == wanted]
        # What is built in answers only to its name: nobody means the local model by the name of a provider.
        found = [facts.name for facts in known if facts.provider == provider and facts.source != "built in"]
        if len(found) == 1:
            return found[0]
        got = f"There are several: {', '.join(found)}." if found else f"There is none of type {wanted!r} here."
        raise ConnectionUnusable(
            f"A call goes to provider {provider!r}, and the step names no connection of it. {got}",
            remedy=f"Name one for each provider, in the place of `connection`: connections: {{{provider}: <name>, …}}.",
            code="several_connections" if found else "unknown_connection",
        )


def _another_provider(name: str, owner: str | None, provider: str | None, remedy: str) -> ConnectionUnusable:
    return ConnectionUnusable(
        f"Connection {name!r} belongs to {owner!r} and is never used for {provider!r}.",
        remedy=remedy,
        code="wrong_provider",
    )
