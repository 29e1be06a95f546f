"""Sessions, API tokens and the link that may be used once: who may come in, and until when."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from weft.access.identity import SCOPES, Identity, Kind, Scope, told
from weft.access.tables import entries, sessions, tokens
from weft.errors import InvalidInputs, NotAuthenticated, NotFound
from weft.state import State
from weft.types import JsonObject

PREFIX: Final = "weft_"
"""What every API token begins with, so that programs that look for leaked secrets know it."""
SESSION_S: Final = 12 * 3600.0
"""How long a browser stays logged in after it was last used."""
LONGEST_SESSION_S: Final = 7 * 86_400.0
"""How long at most, however much it is used."""
LINK_S: Final = 15 * 60.0
"""How long the link works that is printed at start."""
NOTED_S: Final = 60.0
"""How exactly it is known when a token or session was last used; each use would otherwise be a write."""

MOST_ENTRIES: Final = 5_000
"""Logins that may be under way at an identity provider."""

Use = Literal["link", "oidc"]


@dataclass(frozen=True, slots=True)
class Token:
    """An API token as it is shown: everything but what opens the door."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    made_by: str
    made_ms: int
    expires_ms: int | None
    used_ms: int | None
    revoked_ms: int | None


class Access:
    """Knows who may come in.

    Secrets are random and have 256 bits, so that their plain SHA-256 is kept and looked up; nothing can be guessed from
    the time that this takes.

    Args:
        state: The tables beside the journal.
        now: The clock, in seconds since 1970.
    """

    def __init__(self, state: State, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = now

    def _now(self) -> int:
        return int(self._clock() * 1000)

    # ---- API tokens
    async def create_token(
        self, name: str, scopes: Collection[Scope], *, by: str, expires_s: float | None = None
    ) -> tuple[str, Token]:
        """Make a token; return it, for this once, and what is kept of it.

        Raises:
            InvalidInputs: It has no name or no scope, or a time that is over.
        """
        name = name.strip()
        if not name or len(name) > 100:
            raise InvalidInputs("A token needs a name of at most 100 characters.")
        if not scopes or not set(scopes) <= set(SCOPES):
            raise InvalidInputs(f"A token needs scopes, of: {', '.join(SCOPES)}.")
        if expires_s is not None and expires_s <= 0:
            raise InvalidInputs("A token must be valid for longer than no time.")
        now, content = self._now(), PREFIX + secrets.token_urlsafe(32)
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        expires_ms = None if expires_s is None else now + int(expires_s * 1000)
        token = Token(secrets.token_hex(6), name, ordered, by, now, expires_ms, None, None)

        def work(connection: sa.Connection) -> None:
            row = {
                "id": token.id,
                "name": name,
                "hash": _hash(content),
                "scopes": " ".join(ordered),
                "made_by": by,
                "made_ms": now,
                "expires_ms": expires_ms,
            }
            connection.execute(tokens.insert().values(row))

        await self._state.run(work)
        return content, token

    async def tokens(self) -> list[Token]:
        """Return all tokens, the newest first, revoked and expired ones too."""

        def work(connection: sa.Connection) -> list[Token]:
            return [_token(row) for row in connection.execute(tokens.select().order_by(tokens.c.made_ms.desc()))]

        return await self._state.read(work)

    async def revoke_token(self, id_: str) -> Token:
        """End a token and the sessions made of it, now; one that is ended already stays as it is.

        Raises:
            NotFound: There is none with this id.
        """
        now = self._now()

        def work(connection: sa.Connection) -> Token | None:
            ours = tokens.c.id == id_
            connection.execute(tokens.update().where(ours, tokens.c.revoked_ms.is_(None)).values(revoked_ms=now))
            connection.execute(sessions.delete().where(sessions.c.token == id_))
            row = connection.execute(tokens.select().where(ours)).one_or_none()
            return None if row is None else _token(row)

        found = await self._state.run(work)
        if found is None:
            raise NotFound(
                f"There is no token {id_!r}.", code="unknown_token", remedy="weft tokens list shows their ids."
            )
        return found

    async def has_token(self) -> bool:
        """Tell whether there is a token that works."""
        return any(
            token.revoked_ms is None and (token.expires_ms is None or token.expires_ms > self._now())
            for token in await self.tokens()
        )

    async def by_token(self, content: str) -> Identity:
        """Return whose token this is.

        Raises:
            NotAuthenticated: It is none of ours, or it is over.
        """
        now, hash_ = self._now(), _hash(content)

        def look(connection: sa.Connection) -> Token | None:
            row = connection.execute(tokens.select().where(tokens.c.hash == hash_)).one_or_none()
            return None if row is None else _token(row)

        token = await self._state.read(look)
        if token is None:
            raise NotAuthenticated("This token is not one of this server's.", code="unknown_token")
        if token.revoked_ms is not None:
            raise NotAuthenticated(f"The token {token.name!r} was revoked.", code="token_revoked")
        if token.expires_ms is not None and token.expires_ms <= now:
            raise NotAuthenticated(f"The token {token.name!r} has expired.", code="token_expired")
        if now - (token.used_ms or 0) > NOTED_S * 1000:
            used = tokens.update().where(tokens.c.id == token.id).values(used_ms=now)
            await self._state.run(lambda connection: connection.execute(used).close())
        return Identity(token.name, "token", frozenset(token.scopes), token.id)

    # ---- sessions
    async def begin_session(self, name: str, kind: Kind, scopes: Collection[Scope], *, token: str | None = None) -> str:
        """Log a browser in, and return what its cookie holds."""
        now, content = self._now(), secrets.token_urlsafe(32)
        row = {
            "hash": _hash(content),
            "name": name,
            "kind": kind,
            "scopes": " ".join(scope for scope in SCOPES if scope in scopes),
            "token": token,
            "made_ms": now,
            "used_ms": now,
            "expires_ms": now + int(SESSION_S * 1000),
        }

        def work(connection: sa.Connection) -> None:
            for table in (sessions, entries):
                connection.execute(table.delete().where(table.c.expires_ms <= now))
            connection.execute(sessions.insert().values(row))

        await self._state.run(work)
        return content

    async def by_session(self, content: str) -> Identity:
        """Return whose session this is; using it makes it last.

        Raises:
            NotAuthenticated: There is no such session, or it is over.
        """
        now, hash_ = self._now(), _hash(content)

        def look(connection: sa.Connection) -> sa.Row[Any] | None:
            query = sessions.select().where(sessions.c.hash == hash_, sessions.c.expires_ms > now)
            row = connection.execute(query).one_or_none()
            return row if row is not None and _token_lasts(connection, row.token, now) else None

        row = await self._state.read(look)
        if row is None:
            raise NotAuthenticated("This session is over.", code="session_over")
        if now - row.used_ms > NOTED_S * 1000:
            end = min(now + int(SESSION_S * 1000), row.made_ms + int(LONGEST_SESSION_S * 1000))
            used = sessions.update().where(sessions.c.hash == hash_).values(used_ms=now, expires_ms=end)
            await self._state.run(lambda connection: connection.execute(used).close())
        return Identity(row.name, row.kind, frozenset(_scopes(row.scopes)), hash_)

    async def still(self, identity: Identity) -> bool:
        """Tell whether somebody who came in earlier would be let in now; for answers that take long."""
        now = self._now()

        def work(connection: sa.Connection) -> bool:
            table, is_ours = (tokens, tokens.c.id) if identity.kind == "token" else (sessions, sessions.c.hash)
            row = connection.execute(table.select().where(is_ours == identity.key)).one_or_none()
            if row is None:
                return False
            if identity.kind == "token":
                return row.revoked_ms is None and (row.expires_ms is None or row.expires_ms > now)
            return bool(row.expires_ms > now) and _token_lasts(connection, row.token, now)

        return await self._state.read(work)

    async def end_session(self, identity: Identity) -> None:
        """Log a browser out."""

        def work(connection: sa.Connection) -> None:
            connection.execute(sessions.delete().where(sessions.c.hash == identity.key))

        await self._state.run(work)

    # ---- what may be used once
    async def issue(self, use: Use, facts: JsonObject, *, lasts_s: float = LINK_S, content: str | None = None) -> str:
        """Keep facts under a secret, a new one unless it is given, for whoever brings it back once."""
        content, until = content or secrets.token_urlsafe(32), self._now() + int(lasts_s * 1000)
        row = {"hash": _hash(content), "use": use, "facts": json.dumps(facts), "expires_ms": until}

        def work(connection: sa.Connection) -> None:
            """Anybody can begin a login, again and again: what is over goes, and what is too many, the oldest first."""
            connection.execute(entries.delete().where(entries.c.expires_ms <= self._now()))
            same = entries.c.use == use
            oldest = (
                sa.select(entries.c.hash).where(same).order_by(entries.c.expires_ms.desc()).offset(MOST_ENTRIES - 1)
            )
            connection.execute(entries.delete().where(entries.c.hash.in_(oldest.limit(MOST_ENTRIES))))
            connection.execute(entries.insert().values(row))

        await self._state.run(work)
        return content

    async def redeem(self, use: Use, content: str) -> JsonObject:
        """Return the facts of a secret, and forget it; of two who bring it, one gets them.

        Raises:
            NotAuthenticated: It was used already, is too old or none of ours.
        """
        now, hash_ = self._now(), _hash(content)

        def work(connection: sa.Connection) -> tuple[str, int] | None:
            taken = entries.delete().where(entries.c.hash == hash_, entries.c.use == use)
            row = connection.execute(taken.returning(entries.c.facts, entries.c.expires_ms)).one_or_none()
            return None if row is None else (row.facts, row.expires_ms)

        found = await self._state.run(work)
        if found is None or found[1] <= now:
            raise NotAuthenticated(
                "This link was used already, or it is too old.",
                code="link_used",
                remedy="Start weft serve again for a new one, or log in with a token (weft tokens create).",
            )
        facts: JsonObject = json.loads(found[0])
        return facts


def _token_lasts(connection: sa.Connection, id_: str | None, now: int) -> bool:
    """Tell whether the token that a session was made of still works; the session ends with it."""
    if id_ is None:
        return True
    row = connection.execute(tokens.select().where(tokens.c.id == id_)).one()
    return row.revoked_ms is None and (row.expires_ms is None or row.expires_ms > now)


def describe(token: Token) -> str:
    """Tell a token in a few words."""
    return f"{token.name} ({told(token.scopes)})"


def _hash(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def _scopes(text: str) -> tuple[Scope, ...]:
    words = text.split()
    return tuple(scope for scope in SCOPES if scope in words)


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    facts = {name: value for name, value in row._mapping.items() if name != "hash"}
    return Token(**{**facts, "scopes": _scopes(facts["scopes"])})
