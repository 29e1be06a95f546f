"""The limits of the connection that an attempt uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from weft.budgets import keys, units
from weft.errors import WeftError
from weft.executor import Call
from weft.journal.base import Meter
from weft.manifest import CONCURRENCY, LIMITS, REQUESTS, TOKENS
from weft.plan import ConnectionFacts, ConnectionsKnown
from weft.types import Json

WINDOW_S: Final = 60.0


def limits(call: Call, connections: ConnectionsKnown) -> tuple[Meter, ...]:
    """Return the meters of the connection that an attempt uses; those of tokens still lack their amount.

    A connection that cannot be found has none: the attempt itself says what is wrong with it.
    """
    action = call.step.action
    wanted = action.manifest.connection if action else None
    if wanted is None:
        return ()
    try:
        name = connections.choose(
            call.step.connection,
            wanted,
            provider=call.variant.provider,
            others=call.step.connections,
            own=call.own,
        )
        facts = connections.facts(name, wanted)
    except WeftError:
        return ()
    if facts is None or facts.settings.keys().isdisjoint(LIMITS):
        return ()
    return tuple(_meters(facts.settings, facts.type, _account(facts)))


def _account(facts: ConnectionFacts) -> str:
    """Return the name that counts: `my-mail` and `my_mail` have the same variables, and so are the same account."""
    return facts.name.replace("_", "-") if facts.source == "environment" else facts.name


def is_of_tokens(meter: Meter) -> bool:
    """Whether a meter counts a connection's tokens."""
    return meter.key.startswith(keys.limit("tokens", "", "").rstrip("/"))


def _meters(settings: Mapping[str, Json], type_: str, name: str) -> Iterator[Meter]:
    if most := _most(settings, CONCURRENCY):
        yield Meter(keys.limit("slots", type_, name), 1, most, live=True)
    if most := _most(settings, REQUESTS):
        yield Meter(keys.limit("requests", type_, name), 1, most, WINDOW_S)
    if most := _most(settings, TOKENS):
        yield Meter(keys.limit("tokens", type_, name), most, most, WINDOW_S)


def _most(settings: Mapping[str, Json], field: str) -> int | None:
    found = settings.get(field)
    return (
        min(found, units.LARGEST_TOKENS) if type(found) is int and found > 0 else None
    )  # what is none makes the connection unusable
