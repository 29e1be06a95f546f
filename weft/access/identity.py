"""Who asks, and what that one may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from weft.errors import NotAllowed

Scope = Literal["view", "run", "edit", "connections", "admin"]
"""What somebody may do: read; start, stop and answer runs; change workflows; change connections; everything, tokens and
the audit log included. A scope stands for itself alone; only `admin` includes the others."""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

Role = Literal["viewer", "operator", "editor", "admin"]
"""What people are called who log in through an identity provider."""

ROLES: Final[dict[Role, frozenset[Scope]]] = {
    "viewer": frozenset({"view"}),
    "operator": frozenset({"view", "run"}),
    "editor": frozenset({"view", "run", "edit"}),
    "admin": frozenset(SCOPES),
}

Kind = Literal["session", "token", "local", "oidc"]
"""How it is known who asks: a browser that came with the link of `weft serve` or with a token, an API token, the
command line of this machine, a browser that came through an identity provider."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who is known, for the length of one request."""

    name: str  #: what the audit log calls it
    kind: Kind
    scopes: frozenset[Scope]
    key: str = ""  #: the id of the token or of the session, by which it can be ended

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """Refuse what this one may not do.

        Raises:
            NotAllowed: The scope is not among its own.
        """
        if not self.may(scope):
            raise NotAllowed(
                f"This needs the scope {scope!r}, and {self.name} has {told(self.scopes)}.",
                remedy="Use a token with that scope, or ask an administrator for one.",
            )


def told(scopes: Iterable[Scope]) -> str:
    """Tell scopes in their usual order."""
    return ", ".join(scope for scope in SCOPES if scope in set(scopes)) or "none"
