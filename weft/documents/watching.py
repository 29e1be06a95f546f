"""Tells listeners of changes; one look for all of them, and none while nobody listens.

The disk is looked at, not subscribed to: a look at 200 files takes 1 ms, sees what editors and git do on every kind of
mount, in containers too, and misses nothing. inotify does not see the other side of a network or of a shared folder.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from weft.documents.base import Change
from weft.errors import WeftError

_LOG = logging.getLogger("weft.documents")

Look = Callable[[], Awaitable[float]]
"""Looks once, and returns after how many seconds to look again."""


class Watching:
    """Listeners, and the look that is taken for them.

    Args:
        start: Called before the first look for the first listener: what is there then is no news.
        look: One look; tells what it finds by `tell`.
    """

    def __init__(self, start: Callable[[], Awaitable[None]], look: Look) -> None:
        self._start = start
        self._look = look
        self._listeners: set[asyncio.Queue[Change]] = set()
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    def tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener.put_nowait(change)

    async def changes(self) -> AsyncIterator[Change]:
        """Yield what changes from now on."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            if self._task is None or self._task.done():
                self._begun = asyncio.Event()
                self._task = asyncio.create_task(self._run())
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
            if not self._listeners:
                await self.close()

    async def begun(self) -> None:
        """Wait until what is there is known, so that everything after it is news."""
        await self._begun.wait()

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        is_begun, pause_s, fault = False, 0.0, ""
        while True:
            try:
                if not is_begun:
                    await self._start()
                    is_begun = True
                    self._begun.set()
                pause_s = await self._look()
                fault = ""
            except WeftError as error:  # the directory, or the tables: told once, and looked for until it is back
                if error.problem.code != fault:
                    fault = error.problem.code
                    _LOG.warning("documents_away %s", fault)
                pause_s = 1.0
            except Exception:  # noqa: BLE001  whoever listens would hear nothing any more
                _LOG.exception("documents_unseen")
                pause_s = 1.0
            await asyncio.sleep(pause_s)
