"""Ctrl-C and SIGTERM while a run goes on: first it is asked to stop, then it is stopped, then the process ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from weft.cli.exits import ExitCode

PATIENCE_S = 5.0
"""How long a run that was told to stop at once may take to let go of what it holds."""

CODES = {signal.SIGINT: ExitCode.CANCELLED, signal.SIGTERM: ExitCode.TERMINATED}


class Interrupts:
    """Turns the signals into calls of `ask`, in the loop's own time.

    The handlers are plain ones, not the loop's, so that they also run while the loop is busy importing something.

    Args:
        ask: Called for the first and for the second signal.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self.code = ExitCode.CANCELLED  #: of the process, if the run is cancelled
        self.count = 0
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in CODES:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.code = CODES[signal.Signals(number)]
        if self.count == 2:
            timer = threading.Timer(PATIENCE_S, self._leave)
            timer.daemon = True
            timer.start()
        if self.count > 2:
            self._leave()
        self._loop.call_soon_threadsafe(self._ask)

    def _leave(self) -> None:
        """End the process without waiting for anything; a hidden cursor is shown again."""
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")
            sys.stderr.flush()
        os._exit(self.code)
