"""Brings a directory and the database together, in one direction, and overwrites nothing that is newer.

What both had in common last is remembered in the home. A document of which only the source has changed since is carried;
one of which only the target has changed is newer there; one of which both have changed is left to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa

from weft.documents import base
from weft.documents.base import Document
from weft.documents.database import DatabaseDocuments
from weft.documents.directory import DirectoryDocuments
from weft.documents.tables import MARKS
from weft.errors import NotFound, TooLarge
from weft.state import State

Store: TypeAlias = DirectoryDocuments | DatabaseDocuments
What: TypeAlias = Literal["added", "changed", "removed", "same", "newer", "gone", "missing", "conflict", "unfit"]
"""`newer`: only the target has changed; `gone`: it was removed there; `missing`: only the target has it."""

DOING: Final = ("added", "changed", "removed")
REFUSED: Final = ("newer", "gone", "conflict", "unfit")


@dataclass(frozen=True, slots=True)
class Step:
    """What is to become of one document of the target."""

    name: str
    what: What
    source: Document | None  #: what is there; None: nothing
    target: Document | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sides:
    """A direction, and where is noted what both sides had in common."""

    source: Store
    target: Store
    home: State  #: of this machine: two machines may have different directories at one path
    directory: Path

    async def marks(self) -> dict[str, str]:
        def read(connection: sa.Connection) -> dict[str, str]:
            rows = connection.execute(sa.select(MARKS.c.name, MARKS.c.etag).where(MARKS.c.directory == self._key))
            return {row.name: row.etag for row in rows}

        return await self.home.read(read)

    async def mark(self, name: str, etag: str | None) -> None:
        """Note what both sides have now; None: neither has the document."""

        def write(connection: sa.Connection) -> None:
            connection.execute(MARKS.delete().where(MARKS.c.directory == self._key, MARKS.c.name == name))
            if etag is not None:
                connection.execute(MARKS.insert().values(directory=self._key, name=name, etag=etag))

        await self.home.run(write)

    @property
    def _key(self) -> str:
        return str(self.directory.resolve())


async def compare(sides: Sides, *, prune: bool = False) -> list[Step]:
    """Return what carrying would do, document by document; nothing is changed.

    Args:
        sides: From where to where.
        prune: Also remove what the source no longer has.
    """
    marks = await sides.marks()
    sources, targets = await _all(sides.source), await _all(sides.target)
    steps = []
    for name in sorted(sources.keys() | targets.keys()):
        source, target, mark = sources.get(name), targets.get(name), marks.get(name)
        if source is None:
            assert target is not None  # noqa: S101  one of both has it
            steps.append(_without_source(name, target, mark, prune=prune))
        else:
            steps.append(await _step(sides, source, target, mark))
    return steps


async def _all(store: Store) -> dict[str, Document]:
    found = {}
    for facts in await store.list():
        try:
            found[facts.name] = await store.peek(facts.name)
        except TooLarge as error:  # told as unfit: it has no text that could be carried
            found[facts.name] = Document(facts.name, facts.file, error.problem.message, facts.etag, is_exact=False)
        except NotFound:  # removed a moment ago
            continue
    return found


def _without_source(name: str, target: Document, mark: str | None, *, prune: bool) -> Step:
    if not prune:
        return Step(name, "missing", None, target)
    if target.etag == mark:
        return Step(name, "removed", None, target)
    note = "changed there since, and no longer here" if mark else "never carried from here"
    return Step(name, "conflict", None, target, note)


async def _step(sides: Sides, source: Document, target: Document | None, mark: str | None) -> Step:
    name = source.name
    if not source.is_exact:
        return Step(name, "unfit", source, target, "is not UTF-8, or too large")
    if target is None and not base.is_name(name):
        return Step(name, "unfit", source, target, "its name cannot be the name of a workflow")
    if target is None and sides.target.kind == "directory":  # to write a file that is not there takes nothing away
        return Step(name, "added", source, None)
    if target is None:
        if source.etag == mark or (mark is None and await _has_been(sides.target, source)):
            return Step(name, "gone", source, None, "removed there")
        return Step(name, "added", source, None) if mark is None else _conflict(source, None, "removed there")
    if source.etag == target.etag:
        return Step(name, "same", source, target)
    if target.etag == mark:
        return Step(name, "changed", source, target)
    if source.etag == mark or (mark is None and await _has_been(sides.target, source)):
        return Step(name, "newer", source, target, "changed there since")
    return _conflict(source, target, "changed on both sides" if mark else "differs, and was never carried from here")


def _conflict(source: Document, target: Document | None, note: str) -> Step:
    return Step(source.name, "conflict", source, target, note)


async def _has_been(store: Store, document: Document) -> bool:
    return await store.has_been(document.name, document.etag)


async def carry(
    sides: Sides,
    steps: Sequence[Step],
    *,
    by: str,
    why: str,
    force: bool = False,
    done: Callable[[Step], None] = lambda step: None,
) -> None:
    """Do what `compare` has found, a document at a time; each is carried whole or not at all.

    Args:
        sides: From where to where.
        steps: As `compare` returned them.
        by: Who does it.
        why: What its versions say.
        force: Also carry over what is newer there, was removed there, or was changed on both sides.
        done: Told of each document that was carried.

    Raises:
        Conflict: The target has changed since it was compared; what was carried before stays.
    """
    for step in steps:
        if step.what == "same":
            await _settle(sides, step, by)
        elif step.what in DOING or (force and step.what in ("newer", "gone", "conflict")):
            await _carry(sides, step, by=by, why=why)
            done(step)


async def _settle(sides: Sides, step: Step, by: str) -> None:
    assert step.source is not None  # noqa: S101  both sides have it
    if not await sides.target.layout(step.name) and (layout := await sides.source.layout(step.name)):
        await sides.target.save_layout(step.name, layout, by=by)
    await sides.mark(step.name, step.source.etag)


async def _carry(sides: Sides, step: Step, *, by: str, why: str) -> None:
    if step.source is None:
        assert step.target is not None  # noqa: S101  it is what is removed
        await sides.target.remove(step.name, if_match=step.target.etag, by=by)
        await sides.mark(step.name, None)
        return
    if_match = None if step.target is None else step.target.etag
    await sides.target.save(step.name, step.source.text, if_match=if_match, by=by, why=why)
    layout = await sides.source.layout(step.name)
    if layout != await sides.target.layout(step.name):
        await sides.target.save_layout(step.name, layout, by=by)
    await sides.mark(step.name, step.source.etag)
