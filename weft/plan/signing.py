"""Which connections can prove who has sent a request: those of a type that must have a signing secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from weft.registry import Registry

if TYPE_CHECKING:
    from weft.plan.compiler import ConnectionFacts, ConnectionsKnown

SECRET: Final = "signing_secret"  # noqa: S105  the name of a field
PREVIOUS: Final = "previous_signing_secret"


def signing_types(registry: Registry) -> list[str]:
    """Return the types of connections with a signing secret, those that need the least besides it first."""
    found = [
        (sum(field.required for field in kind.fields), kind.id)
        for kind in registry.connection_types()
        if any(field.name == SECRET and field.secret and field.required for field in kind.fields)
    ]
    return [name for _, name in sorted(found)]


def signing_facts(connections: ConnectionsKnown, registry: Registry, name: str) -> ConnectionFacts | None:
    """Return what is known of a connection, as one that signs where it can be one; None when there is none."""
    types = signing_types(registry)
    found = [facts for kind in types if (facts := connections.facts(name, kind)) is not None]
    return next((facts for facts in found if facts.type in types), found[0] if found else None)
