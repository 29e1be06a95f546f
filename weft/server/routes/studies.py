"""Documents as the routes see them: read and checked once for each text, whoever asks."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request

from weft import source
from weft.documents import Document as Kept
from weft.documents import DocumentFacts
from weft.documents.base import DATABASE
from weft.errors import ConnectionUnusable, InvalidSource, NotFound, Problem, WeftError, Where
from weft.plan import ConnectionFacts, Document, Documents
from weft.plan.compiler import ConnectionsKnown
from weft.plan.studying import Around, Study, study
from weft.reading import learn_secrets
from weft.runtime import _Wanted
from weft.server.house import House

T = TypeVar("T")

LEARNED_S: Final = 5.0
"""For how long the secrets of connections are not looked at again; another process may have changed one."""
MOST_KEPT: Final = 200
"""Documents whose study is remembered."""
MOST_WORDS: Final = 10_000
"""Documents whose title and description are remembered, for whoever looks for words in all of them."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document that is no YAML that Weft reads."""

    problems: tuple[Problem, ...]


Studied = Study | Unreadable


class Studies:
    """Reads and checks documents; what is unchanged, in a world that is unchanged, is not checked again."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._kept: OrderedDict[str, Studied] = OrderedDict()
        self._words: dict[str, str] = {}  #: etag → title and description, as they are compared
        self._learned = ("", -LEARNED_S)

    async def world(self) -> World:
        """Return what documents are judged against, as it is now: connections, and the other documents."""
        documents = await self._house.runtime.documents.list()
        names = tuple((each.name, each.etag) for each in documents)
        return await asyncio.to_thread(self._world, names)

    def _world(self, names: tuple[tuple[str, str], ...]) -> World:
        runtime = self._house.runtime
        listed = runtime.connections.listed()
        told = repr((names, [(each.facts, each.shadowed_by) for each in listed]))
        return World(hashlib.sha256(told.encode()).hexdigest(), _Remembered(runtime.connections), {})

    async def learn(self, world: World) -> None:
        """Have the redactor know the secrets of all connections, as they are or were a moment ago (rule B2)."""
        mark, at = self._learned
        if mark != world.mark or time.monotonic() > at + LEARNED_S:
            await learn_secrets(self._house.runtime)
            self._learned = world.mark, time.monotonic()

    async def of(self, file: str, text: str, world: World | None = None) -> Studied:
        """Return what is known of a document, whether anybody has saved it or not."""
        world = world or await self.world()
        key = hashlib.sha256(f"{world.mark}\n{file}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
        found = self._kept.get(key)
        if found is None:
            found = await self.asked(world, lambda around: _study(file, text, around))
            self._kept[key] = found
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    async def listed(self, facts: DocumentFacts, world: World) -> tuple[Kept, Studied]:
        """Return a document of a list and what is known of it, also of one whose text nobody can have.

        Raises:
            NotFound: It was removed meanwhile.
        """
        try:
            document = await self._house.runtime.documents.peek(facts.name)
        except NotFound:
            raise
        except WeftError as error:  # too large, or not to be read: that is said of it, and the others are listed
            told = tuple(replace(each, where=Where(facts.file)) for each in error.problems)
            return Kept(facts.name, facts.file, "", facts.etag, is_exact=False), Unreadable(told)
        return document, await self.of(document.file, document.text, world)

    async def is_meant(self, find: str, facts: DocumentFacts) -> bool:
        """Return whether each word of `find` stands in the name, the title or the description of a document."""
        words = find.casefold().split()
        if all(word in facts.name for word in words):
            return True
        if facts.etag not in self._words:
            while len(self._words) >= MOST_WORDS:
                del self._words[next(iter(self._words))]
            self._words[facts.etag] = await self._words_of(facts)
        told = f"{facts.name.casefold()} {self._words[facts.etag]}"
        return all(word in told for word in words)

    async def _words_of(self, facts: DocumentFacts) -> str:
        try:
            document = await self._house.runtime.documents.peek(facts.name)
            value = (await asyncio.to_thread(source.read, document.text, document.file)).value
        except WeftError:
            return ""
        told = value if isinstance(value, dict) else {}
        return " ".join(str(told.get(key) or "") for key in ("title", "description")).casefold()

    async def asked(self, world: World, work: Callable[[Around], T]) -> T:
        """Return what `work` makes of what documents are judged against; children it names are read from the database."""
        runtime = self._house.runtime
        while True:
            try:
                return await asyncio.to_thread(work, self._around(world))
            except _Wanted as wanted:
                try:
                    world.children[wanted.name] = await runtime.source_of(wanted.name)
                except NotFound as missing:
                    world.children[wanted.name] = missing

    def _around(self, world: World) -> Around:
        runtime = self._house.runtime
        in_database = runtime.documents.kind == "database"
        # A child is looked for in the workspace, whatever file a request says that its text is of.
        parent = source.Source(
            f"{DATABASE}:" if in_database else str(Path(runtime.documents.place) / "any.yaml"), "", None
        )

        def find(name: str, _: source.Source) -> Document:
            return runtime._child_document(name, parent, world.children if in_database else None)

        documents = Documents(find, runtime.on_failure)
        return Around(runtime.registry, world.connections, runtime.catalogue, documents, runtime.environment.applied)


@dataclass(frozen=True, slots=True)
class World:
    """What documents are judged against at one moment."""

    mark: str  #: another one whenever a judgement could be
    connections: ConnectionsKnown
    children: dict[str, source.Source | NotFound]  #: those that were read from the database


def _study(file: str, text: str, around: Around) -> Studied:
    try:
        return study(source.read(text, file), around)
    except InvalidSource as invalid:
        return Unreadable(invalid.problems)


def studies_of(request: Request) -> Studies:
    state = request.app.state
    if not hasattr(state, "studies"):
        state.studies = Studies(state.house)
    found: Studies = state.studies
    return found


StudiesDep = Annotated[Studies, Depends(studies_of)]


@dataclass(slots=True)
class _Remembered:
    """Connections, each asked for once: a document names the same few in many steps."""

    known: ConnectionsKnown
    _facts: dict[tuple[str, str], ConnectionFacts | None] = field(default_factory=dict)
    _chosen: dict[object, str | ConnectionUnusable] = field(default_factory=dict)

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        key = name, wanted
        if key not in self._facts:
            self._facts[key] = self.known.facts(name, wanted)
        return self._facts[key]

    def choose(
        self, name: str | None, wanted: str, *, provider: str | None, others: Mapping[str, str], own: bool = False
    ) -> str:
        key = name, wanted, provider, tuple(sorted(others.items())), own
        if key not in self._chosen:
            try:
                self._chosen[key] = self.known.choose(name, wanted, provider=provider, others=others, own=own)
            except ConnectionUnusable as error:
                self._chosen[key] = error
        found = self._chosen[key]
        if isinstance(found, ConnectionUnusable):
            raise found
        return found
