"""A workspace that lies in the database of an installation: one truth for all its processes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from weft.documents import base, history, layout
from weft.documents.base import Change, Document, DocumentFacts, Version
from weft.documents.tables import DOCUMENTS, REVISIONS, TEXTS
from weft.documents.watching import Watching
from weft.state import News, State
from weft.types import Json, JsonObject

WORKSPACE: Final = base.DATABASE
"""Under which its versions are kept, and what is armed from it."""

LISTEN_S: Final = 5.0
BREATH_S: Final = 0.05
"""Between two looks, however much others write to the same database."""


class DatabaseDocuments:
    """Documents as rows.

    Args:
        state: Opens the tables.
    """

    kind: Literal["directory", "database"] = "database"
    place = WORKSPACE
    workspace = WORKSPACE

    def __init__(self, state: Callable[[], Awaitable[State]]) -> None:
        self._state = state
        self._watching = Watching(self._begin_looking, self._look)
        self._news: News | None = None
        self._revision = -1
        self._seen: dict[str, tuple[str, str]] = {}  #: name → etag and layout, as told last

    # ---- reading
    async def list(self) -> list[DocumentFacts]:
        def facts(connection: sa.Connection) -> list[DocumentFacts]:
            rows = connection.execute(sa.select(DOCUMENTS).order_by(DOCUMENTS.c.name))
            return [
                DocumentFacts(row.name, base.file_in_database(row.name), row.etag, row.size, row.at) for row in rows
            ]

        return await (await self._state()).read(facts)

    async def peek(self, name: str) -> Document:
        return await self.read(name)

    async def read(self, name: str) -> Document:
        def content(connection: sa.Connection) -> bytes | None:
            found: bytes | None = connection.scalar(
                sa.select(TEXTS.c.content).join(DOCUMENTS, DOCUMENTS.c.etag == TEXTS.c.etag).where(_is(name))
            )
            return found

        found = await (await self._state()).read(content) if _may_be(name) else None
        if found is None:
            raise base.unknown(name, "the database")
        return base.document(name, base.file_in_database(name), found)

    # ---- writing
    async def save(self, name: str, text: str, *, if_match: str | None, by: str, why: str = "") -> Document:
        content = base.content_of(name, text)
        if if_match is None:
            base.require_name(name)
        found = base.document(name, base.file_in_database(name), content)

        def save(connection: sa.Connection) -> None:
            now = _locked(connection, name)
            if if_match is None and now is not None:
                raise base.exists(name, _text(connection, now.etag), text)
            if if_match is not None and (now is None or now.etag != if_match):
                raise base.conflict(name, None if now is None else _text(connection, now.etag), text)
            if now is not None and now.etag == found.etag:
                return
            facts = {"etag": history.keep_text(connection, content), "size": len(content), "at": time.time(), "by": by}
            if now is None:
                connection.execute(DOCUMENTS.insert().values(name=name, **facts))
            else:
                connection.execute(DOCUMENTS.update().where(_is(name)).values(**facts))
            history.add(connection, WORKSPACE, name, content, by=by, why=why)
            _grow(connection)

        await self._write(save)
        return found

    async def _write(self, work: Callable[[sa.Connection], None]) -> None:
        state = await self._state()
        try:
            await state.run(work)
        except IntegrityError:  # another process has made a document of this name at the same moment: it is seen now
            await state.run(work)

    async def remove(self, name: str, *, if_match: str, by: str) -> None:
        def remove(connection: sa.Connection) -> None:
            _require(connection, name, if_match)
            connection.execute(DOCUMENTS.delete().where(_is(name)))
            history.add(connection, WORKSPACE, name, None, by=by, why="removed")
            history.keep_pins(connection, WORKSPACE, name, {})
            _grow(connection)

        await self._write(remove)

    async def rename(self, name: str, to: str, *, if_match: str, by: str) -> Document:
        base.require_name(to)

        def rename(connection: sa.Connection) -> bytes:
            now, other = _require(connection, name, if_match), _locked(connection, to)
            content = history.text(connection, now.etag) or b""
            if other is not None:
                yours = content.decode("utf-8", "replace")
                raise base.exists(to, _text(connection, other.etag), yours)
            connection.execute(DOCUMENTS.update().where(_is(name)).values(name=to, by=by, at=time.time()))
            history.add(connection, WORKSPACE, name, None, by=by, why=f"renamed to {to}")
            history.add(connection, WORKSPACE, to, content, by=by, why=f"renamed from {name}")
            history.move_pins(connection, WORKSPACE, name, to)
            _grow(connection)
            return content

        state = await self._state()
        try:
            content = await state.run(rename)
        except IntegrityError:
            content = await state.run(rename)
        return base.document(to, base.file_in_database(to), content)

    # ---- history
    async def versions(self, name: str, *, before: int | None = None, limit: int = 50) -> Sequence[Version]:
        state = await self._state()
        return await state.read(lambda connection: history.versions(connection, WORKSPACE, name, before, limit))

    async def version(self, name: str, number: int) -> str:
        return await (await self._state()).read(lambda connection: history.version(connection, WORKSPACE, name, number))

    async def known(self, etag: str) -> str | None:
        content = await (await self._state()).read(lambda connection: history.text(connection, etag))
        return None if content is None else content.decode("utf-8", "replace")

    async def has_been(self, name: str, etag: str) -> bool:
        """Tell whether a document was once what an etag stands for."""
        state = await self._state()
        return await state.read(lambda connection: history.has_been(connection, WORKSPACE, name, etag))

    # ---- layout and pins
    async def layout(self, name: str) -> JsonObject:
        def kept(connection: sa.Connection) -> str | None:
            found: str | None = connection.scalar(sa.select(DOCUMENTS.c.layout).where(_is(name)))
            return found

        text = await (await self._state()).read(kept)
        found: JsonObject = json.loads(text or "{}")
        return found

    async def save_layout(self, name: str, value: JsonObject, *, by: str) -> None:
        layout.write(value)  # what could not come into a directory is not kept here either
        kept = json.dumps(value, ensure_ascii=True, sort_keys=True, allow_nan=False)

        def save(connection: sa.Connection) -> None:
            now = _locked(connection, name)
            if now is None:
                raise base.unknown(name, "the database")
            if now.layout != kept:
                connection.execute(DOCUMENTS.update().where(_is(name)).values(layout=kept, layout_by=by))
                _grow(connection)

        await self._write(save)

    async def pins(self, name: str) -> dict[str, Json]:
        return await (await self._state()).read(lambda connection: history.pins(connection, WORKSPACE, name))

    async def save_pins(self, name: str, pins: Mapping[str, Json]) -> None:
        await (await self._state()).run(lambda connection: history.keep_pins(connection, WORKSPACE, name, pins))

    async def change_pins(self, name: str, pins: Mapping[str, Json], *, without: Collection[str] = ()) -> None:
        await self._write(lambda connection: history.change_pins(connection, WORKSPACE, name, pins, without))

    # ---- changes
    def changes(self) -> AsyncIterator[Change]:
        return self._watching.changes()

    async def watched(self) -> None:
        """Wait until what is there is known to those who listen: everything after it is news."""
        await self._watching.begun()

    async def _begin_looking(self) -> None:
        state = await self._state()
        self._news = state.news()
        self._revision = await state.read(_revision)
        self._seen = {row.name: (row.etag, row.layout) for row in await state.read(_standing)}

    async def _look(self) -> float:
        state = await self._state()
        if self._news is None or not await self._news.changed(LISTEN_S):
            return 0.0
        revision = await state.read(_revision)
        if revision != self._revision:
            self._revision = revision
            await self._compare(await state.read(_standing))
        return BREATH_S

    async def _compare(self, rows: Sequence[Any]) -> None:
        before, self._seen = self._seen, {row.name: (row.etag, row.layout) for row in rows}
        for row in rows:
            old = before.get(row.name)
            if old is None or old[0] != row.etag:
                self._watching.tell(Change("added" if old is None else "changed", row.name, row.etag, row.by))
            if old is not None and old[1] != row.layout:
                self._watching.tell(Change("changed", row.name, row.etag, row.layout_by, "layout"))
        state = await self._state()
        for name in before.keys() - self._seen.keys():
            gone = await state.read(lambda connection, name=name: history.last(connection, WORKSPACE, name))  # type: ignore[misc]
            self._watching.tell(Change("removed", name, "", "" if gone is None else str(gone.by)))

    async def close(self) -> None:
        await self._watching.close()


def _is(name: str) -> sa.ColumnElement[bool]:
    return DOCUMENTS.c.name == name


def _may_be(name: str) -> bool:
    return "\0" not in name and len(name) <= 200  # PostgreSQL takes no NUL


def _locked(connection: sa.Connection, name: str) -> Any:
    """Return the row of a document, which nobody else changes until the transaction ends; None when there is none."""
    return (
        connection.execute(sa.select(DOCUMENTS).where(_is(name)).with_for_update()).first() if _may_be(name) else None
    )


def _require(connection: sa.Connection, name: str, if_match: str) -> Any:
    now = _locked(connection, name)
    if now is None:
        raise base.unknown(name, "the database")
    if now.etag != if_match:
        raise base.conflict(name, _text(connection, now.etag), None)
    return now


def _text(connection: sa.Connection, etag: str) -> str:
    return (history.text(connection, etag) or b"").decode("utf-8", "replace")


def _standing(connection: sa.Connection) -> Sequence[Any]:
    columns = [DOCUMENTS.c[each] for each in ("name", "etag", "by", "layout", "layout_by")]
    return connection.execute(sa.select(*columns).order_by(DOCUMENTS.c.name)).all()


def _revision(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(REVISIONS.c.revision).where(REVISIONS.c.workspace == WORKSPACE)) or 0


def _grow(connection: sa.Connection) -> None:
    """Count a change of the workspace."""
    counted = connection.execute(
        REVISIONS.update().where(REVISIONS.c.workspace == WORKSPACE).values(revision=REVISIONS.c.revision + 1)
    )
    if counted.rowcount == 0:
        connection.execute(REVISIONS.insert().values(workspace=WORKSPACE, revision=1))
