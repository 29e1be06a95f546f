"""Versions, texts and pins in the tables; every function is part of a transaction of its caller."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from weft.documents.base import OUTSIDE, Version, etag_of, unknown, unknown_version
from weft.documents.tables import INTENTS, PINS, TEXTS, VERSIONS
from weft.types import Json

REMOVED: Final = ""
"""The etag of a document that is not there."""


def keep_text(connection: sa.Connection, content: bytes) -> str:
    """Keep a text, once, and return its etag."""
    etag = etag_of(content)
    there = sa.exists().where(TEXTS.c.etag == etag)
    values = sa.select(sa.literal(etag), sa.literal(content, sa.LargeBinary)).where(~there)
    if connection.dialect.name == "postgresql":  # another may be keeping the same at this moment
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415

        connection.execute(insert(TEXTS).values(etag=etag, content=content).on_conflict_do_nothing())
    else:
        connection.execute(TEXTS.insert().from_select(["etag", "content"], values))
    return etag


def text(connection: sa.Connection, etag: str) -> bytes | None:
    found: bytes | None = connection.scalar(sa.select(TEXTS.c.content).where(TEXTS.c.etag == etag))
    return found


# ---- versions
def last(connection: sa.Connection, workspace: str, name: str) -> Any:
    """Return number, etag, by and why of the youngest version, or None."""
    return connection.execute(
        sa.select(VERSIONS.c.number, VERSIONS.c.etag, VERSIONS.c.by, VERSIONS.c.why)
        .where(VERSIONS.c.workspace == workspace, VERSIONS.c.name == name)
        .order_by(VERSIONS.c.number.desc())
        .limit(1)
    ).first()


def last_of_all(connection: sa.Connection, workspace: str) -> dict[str, str]:
    """Return the etag of the youngest version of every document that there has been."""
    youngest = (
        sa.select(VERSIONS.c.name, sa.func.max(VERSIONS.c.number).label("number"))
        .where(VERSIONS.c.workspace == workspace)
        .group_by(VERSIONS.c.name)
        .subquery()
    )
    rows = connection.execute(
        sa.select(VERSIONS.c.name, VERSIONS.c.etag)
        .join(youngest, sa.and_(VERSIONS.c.name == youngest.c.name, VERSIONS.c.number == youngest.c.number))
        .where(VERSIONS.c.workspace == workspace)
    )
    return {row.name: row.etag for row in rows}


def add(connection: sa.Connection, workspace: str, name: str, content: bytes | None, *, by: str, why: str) -> int:
    """Add a version, and return its number."""
    before = last(connection, workspace, name)
    number = 1 if before is None else before.number + 1
    etag = REMOVED if content is None else keep_text(connection, content)
    connection.execute(
        VERSIONS.insert().values(
            workspace=workspace,
            name=name,
            number=number,
            etag=etag,
            at=time.time(),
            by=by,
            why=why,
            size=0 if content is None else len(content),
        )
    )
    return number


def intend(connection: sa.Connection, workspace: str, name: str, content: bytes | None, *, by: str, why: str) -> None:
    """Note who is about to write what into a file."""
    etag = REMOVED if content is None else etag_of(content)
    connection.execute(INTENTS.delete().where(*_of(workspace, name), INTENTS.c.etag == etag))
    connection.execute(INTENTS.insert().values(workspace=workspace, name=name, etag=etag, by=by, why=why))


def note(connection: sa.Connection, workspace: str, name: str, content: bytes | None) -> str | None:
    """Make a version of what a file holds, if it is not the youngest one, and return by whom it is.

    Args:
        connection: The transaction.
        workspace: That the file belongs to.
        name: Of the document.
        content: What the file holds; None: it is not there.
    """
    etag = REMOVED if content is None else etag_of(content)
    before = last(connection, workspace, name)
    if before is not None and before.etag == etag:
        return str(before.by)
    if before is None and content is None:
        return None
    meant = connection.execute(
        sa.select(INTENTS.c.by, INTENTS.c.why).where(*_of(workspace, name), INTENTS.c.etag == etag)
    ).first()
    by, why = (OUTSIDE, "") if meant is None else (str(meant.by), str(meant.why))
    add(connection, workspace, name, content, by=by, why=why)
    forget_intents(connection, workspace, name)
    return by


def forget_intents(connection: sa.Connection, workspace: str, name: str) -> None:
    connection.execute(INTENTS.delete().where(*_of(workspace, name)))


def _of(workspace: str, name: str) -> Sequence[sa.ColumnElement[bool]]:
    return INTENTS.c.workspace == workspace, INTENTS.c.name == name


def versions(connection: sa.Connection, workspace: str, name: str, before: int | None, limit: int) -> list[Version]:
    columns = [VERSIONS.c[each] for each in ("number", "etag", "at", "by", "why", "size")]
    query = sa.select(*columns).where(VERSIONS.c.workspace == workspace, VERSIONS.c.name == name)
    if before is not None:
        query = query.where(VERSIONS.c.number < before)
    rows = connection.execute(query.order_by(VERSIONS.c.number.desc()).limit(limit)).all()
    if not rows and last(connection, workspace, name) is None:
        raise unknown(name, "this workspace, and has never been")
    return [Version(*row) for row in rows]


def version(connection: sa.Connection, workspace: str, name: str, number: int) -> str:
    etag = connection.scalar(
        sa.select(VERSIONS.c.etag).where(
            VERSIONS.c.workspace == workspace, VERSIONS.c.name == name, VERSIONS.c.number == number
        )
    )
    content = None if not etag else text(connection, etag)
    if content is None:
        raise unknown_version(name, number)
    return content.decode("utf-8", "replace")


def has_been(connection: sa.Connection, workspace: str, name: str, etag: str) -> bool:
    """Tell whether a document was once what an etag stands for."""
    found = sa.select(VERSIONS.c.number).where(
        VERSIONS.c.workspace == workspace, VERSIONS.c.name == name, VERSIONS.c.etag == etag
    )
    return connection.execute(found.limit(1)).first() is not None


# ---- pins
def pins(connection: sa.Connection, workspace: str, name: str) -> dict[str, Json]:
    kept = connection.scalar(sa.select(PINS.c.pins).where(PINS.c.workspace == workspace, PINS.c.name == name))
    found: dict[str, Json] = json.loads(kept) if kept else {}
    return found


def change_pins(
    connection: sa.Connection, workspace: str, name: str, given: Mapping[str, Json], without: Collection[str]
) -> None:
    of_it = PINS.c.workspace == workspace, PINS.c.name == name
    kept = connection.scalar(sa.select(PINS.c.pins).where(*of_it).with_for_update())
    now = {step: value for step, value in {**json.loads(kept or "{}"), **given}.items() if step not in without}
    if kept is None:
        keep_pins(connection, workspace, name, now)
    else:  # the row stays, so that whoever waits for it sees it
        connection.execute(PINS.update().where(*of_it).values(pins=_json(now)))


def keep_pins(connection: sa.Connection, workspace: str, name: str, given: Mapping[str, Json]) -> None:
    connection.execute(PINS.delete().where(PINS.c.workspace == workspace, PINS.c.name == name))
    if given:
        connection.execute(PINS.insert().values(workspace=workspace, name=name, pins=_json(given)))


def _json(given: Mapping[str, Json]) -> str:
    return json.dumps(given, ensure_ascii=True, allow_nan=False)  # PostgreSQL's text takes no NUL: it is \u0000 here


def move_pins(connection: sa.Connection, workspace: str, name: str, to: str) -> None:
    keep_pins(connection, workspace, to, pins(connection, workspace, name))
    keep_pins(connection, workspace, name, {})
