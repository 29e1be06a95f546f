"""Tables of who may come in, and of what was done. Nothing in them opens a door: of every secret only its hash is kept."""

from __future__ import annotations

from sqlalchemy import DDL, BigInteger, Column, Connection, Integer, Table, Text, event

from weft.state import metadata

tokens = Table(
    "weft_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),  # SHA-256 of the token, hexadecimal
    Column("scopes", Text, nullable=False),  # words with a space between
    Column("made_by", Text, nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("used_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

sessions = Table(
    "weft_sessions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("token", Text),  # the id of the API token that it was made of; ends with it
    Column("made_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

entries = Table(
    "weft_entries",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("use", Text, nullable=False),  # link | oidc
    Column("facts", Text, nullable=False),  # JSON
    Column("expires_ms", BigInteger, nullable=False),
)
"""What may be used once: the link that `weft serve` prints, and a login that is under way at an identity provider."""

audit = Table(
    "weft_audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("details", Text, nullable=False),  # JSON, never values of secrets
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

audit_head = Table(
    "weft_audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
)
"""One row: the last entry of the audit log. Rows cut from its end are missed here, and writers queue for it."""

_REFUSAL = "the audit log is only ever added to"
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION weft_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION '{_REFUSAL}'; END$$"""
_TRIGGER = """
CREATE TRIGGER weft_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weft_audit
FOR EACH STATEMENT EXECUTE FUNCTION weft_audit_refuse()"""
_GUARDS = {
    "sqlite": [
        f"CREATE TRIGGER weft_audit_no_{what} BEFORE {what} ON weft_audit BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for what in ("update", "delete")
    ],
    "postgresql": [_FUNCTION, _TRIGGER],
}
for _dialect, _guards in _GUARDS.items():
    for _guard in _guards:
        event.listen(audit, "after_create", DDL(_guard).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]


def _first(target: Table, connection: Connection, **_: object) -> None:
    connection.execute(audit_head.insert().values(id=1, number=0, hash="0" * 64))


event.listen(audit_head, "after_create", _first)
