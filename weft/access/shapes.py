"""Tokens and entries of the audit log as programs get them: from the API, and from the command line with --json."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from weft.access.access import Token
from weft.access.audit import Entry, Verified
from weft.access.identity import Kind, Scope
from weft.types import Json


class TokenFacts(BaseModel):
    """A token, without what opens the door."""

    id: str
    name: str
    scopes: list[Scope]
    made_by: str
    made_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class AuditEntry(BaseModel):
    """One thing that was done."""

    number: int
    at: datetime
    who: str
    kind: Kind
    action: str
    target: str
    details: Json
    hash: str = Field(description="Over this entry and the hash of the one before it.")


class AuditReport(BaseModel):
    """What a look at the whole log has found."""

    entries: int
    head: str = Field(description="Number and hash of the last entry; noted elsewhere, it shows later what is missing.")
    faults: list[str]


def facts_of(token: Token) -> TokenFacts:
    """Return a token as programs get it."""
    return TokenFacts(
        id=token.id,
        name=token.name,
        scopes=list(token.scopes),
        made_by=token.made_by,
        made_at=instant(token.made_ms),
        expires_at=None if token.expires_ms is None else instant(token.expires_ms),
        used_at=None if token.used_ms is None else instant(token.used_ms),
        revoked_at=None if token.revoked_ms is None else instant(token.revoked_ms),
    )


def shown(entry: Entry) -> AuditEntry:
    """Return an entry as programs get it."""
    facts = {name: getattr(entry, name) for name in ("number", "who", "kind", "action", "target", "details", "hash")}
    return AuditEntry(at=instant(entry.at_ms), **facts)


def report_of(found: Verified) -> AuditReport:
    """Return what verifying has found as programs get it."""
    return AuditReport(entries=found.entries, head=found.head, faults=list(found.faults))


def instant(at_ms: int) -> datetime:
    """Return an instant that a table keeps."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)
