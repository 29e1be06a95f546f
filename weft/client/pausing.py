"""A pause, and a limit to how long something takes, for both kinds of client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def async_pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def sync_pause(seconds: float) -> None:
    time.sleep(seconds)


async def async_within(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` does; a `TimeoutError` when it takes longer."""
    async with asyncio.timeout(seconds):
        return await work()


def sync_within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` does; a `TimeoutError` when it takes longer.

    It is done in a thread, which then is left alone: a socket has a limit for each wait, not for all of them together, so
    that a server could keep whoever reads from it busy for ever with a byte now and then.
    """
    outcome: Future[T] = Future()

    def doing() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=doing, name="weft-client", daemon=True).start()
    return outcome.result(max(0.0, seconds))
