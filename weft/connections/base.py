"""What a place that connections come from can be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from weft.plan import ConnectionFacts
from weft.sdk import Connection


class ConnectionSource(Protocol):
    """One place that connections come from."""

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        """Return what is known of the connection without opening it, or None when it is not here."""

    def known(self) -> Iterable[ConnectionFacts]:
        """Return the connections that are known without being asked for one."""

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        """Return the connection; called only after `facts` found it."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Connections to servers that Weft brings along, started when they are first asked for."""

    openers: Mapping[str, tuple[ConnectionFacts, Callable[[], Awaitable[Connection]]]]

    def known(self) -> Iterable[ConnectionFacts]:
        return [facts for facts, _ in self.openers.values()]

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        known = self.openers.get(name)
        return None if known is None else known[0]

    async def open(self, name: str, wanted: str, note: Callable[[str], None]) -> Connection:
        note(f"starting {name}")
        return await self.openers[name][1]()
