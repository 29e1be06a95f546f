"""A workspace that is a directory of files: what an editor and git see is what there is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from weft.documents import base, layout
from weft.documents.base import Change, Document, DocumentFacts, Version
from weft.documents.files import SETTLED_S, Files, Overtaken, Stamp
from weft.documents.watching import Watching
from weft.errors import StateUnavailable, TooLarge, WeftError
from weft.types import Json, JsonObject

if TYPE_CHECKING:
    import sqlalchemy as sa

    from weft.state import State

T = TypeVar("T")
Kind: TypeAlias = Literal["added", "changed", "removed"]

LOOK_S: Final = 0.12
"""Between two looks at the directory."""

AT_ONCE: Final = 50
"""Files of which versions are made in one transaction: git may change hundreds."""


class DirectoryDocuments:
    """Documents as files.

    Args:
        directory: Where they are.
        home: Where the lock of the directory is.
        state: Opens the tables of versions and pins; not called by `list`, `peek` and `layout`.
    """

    kind: Literal["directory", "database"] = "directory"

    def __init__(self, directory: Path, home: Path, state: Callable[[], Awaitable[State]]) -> None:
        self._files = Files(directory, home / "locks")
        self._state = state
        self._turn = asyncio.Lock()
        self._watching = Watching(self._begin_looking, self._look)
        self._seen: dict[str, tuple[Stamp, str]] = {}  #: name → what was told of it last
        self._fresh: dict[str, Stamp] = {}  #: name → written to a moment ago
        self._noted: dict[str, str] = {}  #: name → etag of its youngest version
        self._noted_of = ""  #: of which workspace: a link may lead to another one
        self._saving = set[asyncio.Task[Any]]()
        self._touched = set[str]()  #: written by this process since the look began
        self._untold: dict[str, Kind] = {}  #: seen, and not yet a version

    @property
    def place(self) -> str:
        return str(self._files.directory)

    @property
    def workspace(self) -> str:
        """Under which its versions are kept."""
        return str(self._files.root)

    # ---- reading
    async def list(self) -> list[DocumentFacts]:
        def facts() -> list[DocumentFacts]:
            found = []
            for name, stamp in self._files.listed().items():
                etag = None if _is_layout(name) else self._files.etag(name, stamp)
                if etag is not None:
                    found.append(DocumentFacts(name, self._files.shown(name), etag, stamp.size, stamp.changed_ns / 1e9))
            return found

        return await asyncio.to_thread(facts)

    def find(self, name: str) -> Document | None:
        """Return a document, None when there is none; waits for the disk. Raises what `read` raises for a bad one."""
        content = self._files.content(name)
        return None if content is None else base.document(name, self._files.shown(name), content)

    async def peek(self, name: str) -> Document:
        found = await asyncio.to_thread(self.find, name)
        if found is None:
            raise base.unknown(name, self.place)
        return found

    async def read(self, name: str) -> Document:
        found = await self.peek(name)
        if self._noted.get(name) != found.etag:
            await self._alone(lambda: self._note(name))
        return found

    # ---- writing
    async def save(self, name: str, text: str, *, if_match: str | None, by: str, why: str = "") -> Document:
        content = base.content_of(name, text)
        if if_match is None:
            base.require_name(name)

        async def save() -> Document:
            now = await self._note(name)
            self._require(name, now, if_match, text)
            found = base.document(name, self._files.shown(name), content)
            if now == content:
                return found
            stamp = await self._do({name: (content, why)}, by, lambda: self._files.write(name, content, over=now))
            await self._done(Change("added" if now is None else "changed", name, found.etag, by), content, stamp)
            return found

        return await self._alone(save)

    async def remove(self, name: str, *, if_match: str, by: str) -> None:
        async def remove() -> None:
            now = await self._required(name, if_match)
            await self._do({name: (None, "removed")}, by, lambda: self._files.remove(name, over=now))
            await self._done(Change("removed", name, "", by), None, None)

        await self._alone(remove)

    async def rename(self, name: str, to: str, *, if_match: str, by: str) -> Document:
        base.require_name(to)

        async def rename() -> Document:
            now, other = await self._required(name, if_match), await self._note(to)
            if other is not None:
                raise base.exists(to, other.decode("utf-8", "replace"), now.decode("utf-8", "replace"))
            intents = {name: (None, f"renamed to {to}"), to: (now, f"renamed from {name}")}
            stamp = await self._do(intents, by, lambda: self._files.rename(name, to, over=now))
            found = base.document(to, self._files.shown(to), now)
            await self._done(Change("added", to, found.etag, by), now, stamp, pins_of=name)
            await self._done(Change("removed", name, "", by), None, None)
            return found

        return await self._alone(rename)

    async def _required(self, name: str, if_match: str) -> bytes:
        now = await self._note(name)
        if now is None:
            raise base.unknown(name, self.place)
        self._require(name, now, if_match, None)
        return now

    def _require(self, name: str, now: bytes | None, if_match: str | None, yours: str | None) -> None:
        """Refuse to write over what is not what the writer knows."""
        theirs = None if now is None else now.decode("utf-8", "replace")
        if if_match is None and theirs is not None:
            raise base.exists(name, theirs, yours)
        if if_match is not None and (now is None or base.etag_of(now) != if_match):
            raise base.conflict(name, theirs, yours)

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `work` while no other process writes here; a caller who goes away does not stop it halfway."""

        async def do() -> T:
            async with self._turn:
                handle = await asyncio.to_thread(self._files.lock)
                if self._noted_of != self.workspace:
                    self._noted.clear()
                    self._noted_of = self.workspace
                try:
                    while True:
                        with contextlib.suppress(Overtaken):  # by an editor, which knows no lock: it is seen now
                            return await work()
                finally:
                    os.close(handle)

        task = asyncio.create_task(do())
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)
        return await asyncio.shield(task)

    # ---- history
    async def _note(self, name: str) -> bytes | None:
        """Make a version of what is in a file now, if it was changed outside, and return it; only while alone."""
        from weft.documents import history  # noqa: PLC0415  it loads SQLAlchemy, which `weft run` does without

        content = await asyncio.to_thread(self._files.content, name)
        if content == b"" and self._noted.get(name) != base.etag_of(b""):  # an editor that is about to write
            await asyncio.sleep(SETTLED_S / 2)
            content = await asyncio.to_thread(self._files.content, name)
        etag = history.REMOVED if content is None else base.etag_of(content)
        if self._noted.get(name) != etag:
            state = await self._state()
            await state.run(lambda connection: history.note(connection, self.workspace, name, content))
            self._noted[name] = etag
        return content

    async def _do(self, intents: Mapping[str, tuple[bytes | None, str]], by: str, act: Callable[[], T]) -> T:
        """Change files, after it was noted by whom and why; what was not done is not noted any more.

        Args:
            intents: What each document is to be (None: not there), and why.
            by: Who does it.
            act: Does it, in a thread.
        """
        from weft.documents import history  # noqa: PLC0415

        def intend(connection: sa.Connection) -> None:
            for name, (content, why) in intents.items():
                history.intend(connection, self.workspace, name, content, by=by, why=why)

        def forget(connection: sa.Connection) -> None:
            for name in intents:
                history.forget_intents(connection, self.workspace, name)

        state = await self._state()
        await state.run(intend)
        try:
            return await asyncio.to_thread(act)
        except BaseException:
            with contextlib.suppress(StateUnavailable):
                await state.run(forget)
            raise

    async def _done(
        self, change: Change, content: bytes | None, stamp: Stamp | None, *, pins_of: str | None = None
    ) -> None:
        """What was written is a version now, and is told; should the tables be away, whoever looks next makes it one.

        Args:
            change: What has happened.
            content: What the file was given, whatever an editor has made of it since.
            stamp: Of the file that was written.
            pins_of: Whose pins it takes along.
        """
        from weft.documents import history  # noqa: PLC0415

        def keep(connection: sa.Connection) -> None:
            history.note(connection, self.workspace, change.name, content)
            if pins_of is not None:
                history.move_pins(connection, self.workspace, pins_of, change.name)
            if content is None:
                history.keep_pins(connection, self.workspace, change.name, {})

        try:
            await (await self._state()).run(keep)
            self._noted[change.name] = change.etag
        except StateUnavailable:
            self._noted.pop(change.name, None)
        self._told(change.name, change, stamp)

    def _told(self, key: str, change: Change, stamp: Stamp | None) -> None:
        """Tell what was written here, once: the next look finds it known."""
        self._touched.add(key)
        if stamp is None:
            self._seen.pop(key, None)
        else:
            self._seen[key] = stamp, change.etag
        self._watching.tell(change)

    async def versions(self, name: str, *, before: int | None = None, limit: int = 50) -> Sequence[Version]:
        from weft.documents import history  # noqa: PLC0415

        with contextlib.suppress(TooLarge):  # what it was before can be had all the same
            await self._alone(lambda: self._note(name))
        state = await self._state()
        return await state.read(lambda connection: history.versions(connection, self.workspace, name, before, limit))

    async def version(self, name: str, number: int) -> str:
        from weft.documents import history  # noqa: PLC0415

        state = await self._state()
        return await state.read(lambda connection: history.version(connection, self.workspace, name, number))

    async def known(self, etag: str) -> str | None:
        from weft.documents import history  # noqa: PLC0415

        content = await (await self._state()).read(lambda connection: history.text(connection, etag))
        return None if content is None else content.decode("utf-8", "replace")

    async def has_been(self, name: str, etag: str) -> bool:
        """Tell whether a document was once what an etag stands for."""
        from weft.documents import history  # noqa: PLC0415

        state = await self._state()
        return await state.read(lambda connection: history.has_been(connection, self.workspace, name, etag))

    # ---- layout and pins
    async def layout(self, name: str) -> JsonObject:
        content = await asyncio.to_thread(self._files.layout, name)
        return {} if content is None else layout.read(content)

    async def save_layout(self, name: str, value: JsonObject, *, by: str) -> None:
        content = layout.write(value) if value else None

        async def save() -> None:
            if await asyncio.to_thread(self._files.content, name) is None:
                raise base.unknown(name, self.place)
            if await asyncio.to_thread(self._files.layout, name) == content:
                return
            stamp = await asyncio.to_thread(self._files.write_layout, name, content)
            self._told(f"{name}{_LAYOUT}", Change("changed", name, "", by, "layout"), stamp)

        await self._alone(save)

    async def pins(self, name: str) -> dict[str, Json]:
        from weft.documents import history  # noqa: PLC0415

        return await (await self._state()).read(lambda connection: history.pins(connection, self.workspace, name))

    async def save_pins(self, name: str, pins: Mapping[str, Json]) -> None:
        from weft.documents import history  # noqa: PLC0415

        state = await self._state()
        await state.run(lambda connection: history.keep_pins(connection, self.workspace, name, pins))

    async def change_pins(self, name: str, pins: Mapping[str, Json], *, without: Collection[str] = ()) -> None:
        from weft.documents import history  # noqa: PLC0415

        def change(connection: sa.Connection) -> None:
            history.change_pins(connection, self.workspace, name, pins, without)

        await (await self._state()).run(change)

    # ---- changes
    def changes(self) -> AsyncIterator[Change]:
        return self._watching.changes()

    async def watched(self) -> None:
        """Wait until what is there is known to those who listen: everything after it is news."""
        await self._watching.begun()

    async def _begin_looking(self) -> None:
        """Learn what is there; what was changed while nobody looked becomes versions."""
        from weft.documents import history  # noqa: PLC0415

        stamps = await asyncio.to_thread(self._files.listed)
        state = await self._state()
        youngest = await state.read(lambda connection: history.last_of_all(connection, self.workspace))
        self._seen, self._fresh = {}, {}
        for name, stamp in stamps.items():
            etag = await self._etag(name, stamp)
            if etag is not None:
                self._seen[name] = stamp, etag
        there = {name: etag for name, (_, etag) in self._seen.items() if not _is_layout(name)}
        await self._looked([name for name in {**youngest, **there} if there.get(name, "") != youngest.get(name, "")])

    async def _look(self) -> float:
        began = time.monotonic()
        self._touched.clear()  # what is written here from now on is told by whoever does
        stamps = await asyncio.to_thread(self._files.listed)
        pause_s = max(LOOK_S, 20 * (time.monotonic() - began))
        found, self._untold = self._untold, {}
        for name in [name for name in self._seen if name not in stamps and name not in self._touched]:
            del self._seen[name]
            found[name] = "removed"
        for name, stamp in stamps.items():
            before = self._seen.get(name)
            if (before is not None and before[0] == stamp) or not self._is_settled(name, stamp):
                continue
            etag = await self._etag(name, stamp)
            current = self._seen.get(name)  # a save of our own may have come in between
            if etag is None or name in self._touched or (current is not None and current[0] == stamp):
                continue
            self._seen[name] = stamp, etag
            if _is_layout(name) or current is None or current[1] != etag:
                found[name] = "added" if current is None else "changed"
        if found:
            self._untold = found
            await self._tell(found)
            self._untold = {}
        return pause_s

    def _is_settled(self, name: str, stamp: Stamp) -> bool:
        """Tell whether a file has come to rest: it was not written to just now, or not since the last look."""
        if self._fresh.get(name) != stamp and not stamp.is_settled:
            self._fresh[name] = stamp
            return False
        self._fresh.pop(name, None)
        return True

    async def _etag(self, name: str, stamp: Stamp) -> str | None:
        return "" if _is_layout(name) else await asyncio.to_thread(self._files.etag, name, stamp)

    async def _tell(self, found: Mapping[str, Kind]) -> None:
        looked = await self._looked([name for name in found if not _is_layout(name)])
        for name, kind in found.items():
            if _is_layout(name):
                change = Change("changed", name.removesuffix(_LAYOUT), "", base.OUTSIDE, "layout")
                self._watching.tell(change)
                continue
            by, etag = looked[name]
            if etag == (self._seen[name][1] if name in self._seen else ""):
                self._watching.tell(Change(kind, name, etag, by))
            # else it was written to once more: that is told by whoever did, or by the next look

    async def _looked(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Make versions of what somebody has written; return of each who it was, and what there is now."""
        found: dict[str, tuple[str, str]] = {}
        for start in range(0, len(names), AT_ONCE):
            found |= await self._alone(partial(self._note_all, names[start : start + AT_ONCE]))
        return found

    async def _note_all(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        from weft.documents import history  # noqa: PLC0415

        contents: dict[str, bytes | None] = {}
        found: dict[str, tuple[str, str]] = {}
        for name in names:
            try:
                contents[name] = await asyncio.to_thread(self._files.content, name)
            except WeftError:  # too large, or not to be read: nothing that could be run, and so nothing to keep
                found[name] = base.OUTSIDE, self._seen[name][1] if name in self._seen else ""

        def note(connection: sa.Connection) -> dict[str, str]:
            return {
                name: history.note(connection, self.workspace, name, content) or base.OUTSIDE
                for name, content in contents.items()
            }

        by = await (await self._state()).run(note)
        for name, content in contents.items():
            self._noted[name] = history.REMOVED if content is None else base.etag_of(content)
            found[name] = by[name], self._noted[name]
        return found

    async def close(self) -> None:
        await self._watching.close()
        if self._saving:
            await asyncio.wait(self._saving)


_LAYOUT: Final = layout.SUFFIX.removesuffix(".yaml")


def _is_layout(name: str) -> bool:
    return name.endswith(_LAYOUT)
