"""Time that passes only when nobody has anything to do, and processes that can be stopped between any two steps of theirs."""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

_HOME: contextvars.ContextVar[Any] = contextvars.ContextVar("home")


class _NoSockets(selectors.SelectSelector):
    """Waits for nothing but time, which it makes pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the world stands still: nobody has anything to do, ever")
        self.now += max(0.0, timeout)
        return []


@dataclass(eq=False)
class Frozen:
    """A process: all that was begun from it. It can be stopped, woken, and killed, as by SIGSTOP, SIGCONT and SIGKILL."""

    loop: VirtualLoop
    dead: bool = False
    held: list[_Step] | None = None  #: while it is stopped: what it would have done
    context: contextvars.Context = field(default_factory=contextvars.Context)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.context.run(_HOME.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let the process do something."""
        task = self.loop.create_task(work, context=self.context.copy())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard, context=contextvars.Context())
        return task

    def stop(self) -> None:
        if self.held is None:
            self.held = []

    def kill(self) -> None:
        self.dead = True
        self.stop()

    def wake(self) -> None:
        held, self.held = self.held or [], None
        for step in held:
            self.loop.again(step)

    async def bury(self) -> None:
        """Give up what a dead process has left, when the world is over."""
        self.dead = False
        self.wake()
        tasks = list(self.tasks)
        while left := [task for task in tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(eq=False)
class _Step:
    home: Frozen
    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context
    handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.handle is not None and self.handle.cancelled():
            return
        if self.home.held is not None:
            self.home.held.append(self)
        else:
            self.callback(*self.args)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is its own, and which knows whose every step is."""

    def __init__(self) -> None:
        self._world = _NoSockets()
        super().__init__(self._world)

    def time(self) -> float:
        return self._world.now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        step, context = self._step(callback, args, context)
        if step is None:
            return super().call_soon(callback, *args, context=context)
        step.handle = super().call_soon(step, context=context)
        return step.handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        step, context = self._step(callback, args, context)
        if step is None:
            return super().call_at(when, callback, *args, context=context)
        handle = super().call_at(when, step, context=context)
        step.handle = handle
        return handle

    def again(self, step: _Step) -> None:
        super().call_soon(step, context=step.context)

    @staticmethod
    def _step(
        callback: Any, args: tuple[Any, ...], context: contextvars.Context | None
    ) -> tuple[_Step | None, contextvars.Context]:
        context = contextvars.copy_context() if context is None else context
        home = context.get(_HOME)
        return (None if home is None else _Step(home, callback, args, context)), context
