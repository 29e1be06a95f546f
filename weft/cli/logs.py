"""The log: what is not for the terminal, secrets masked; a file in the home, or lines of JSON on standard error."""

from __future__ import annotations

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO, TypeAlias

from weft.cli.state import State
from weft.redaction import MASK, PATTERNS
from weft.telemetry.switches import wants_json

LARGEST, KEPT = 1_000_000, 3
"""Bytes of the log, and how many full ones are kept beside it."""


class LogFile(RotatingFileHandler):
    """Writes warnings, and the tracebacks of faults, to `logs/weft.log` in the home; the file is the user's alone.

    The file is made when there is something to write.
    """

    def __init__(self, state: State) -> None:
        self.file = state.find_home() / "logs" / "weft.log"
        self.has_errors = False
        self._state = state
        super().__init__(self.file, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8", delay=True)
        self.setLevel(logging.WARNING)
        self.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))

    def format(self, record: logging.LogRecord) -> str:
        return PATTERNS.sub(MASK, self._state.redactor.text(super().format(record)))

    def emit(self, record: logging.LogRecord) -> None:
        self.has_errors |= record.levelno >= logging.ERROR
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Go on without the log: it would be written to the terminal instead, traceback and all."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


class LogLines(logging.StreamHandler[TextIO]):
    """Writes what happens as lines of JSON on standard error, for whoever gathers the logs of many processes."""

    def __init__(self, state: State) -> None:
        from weft.telemetry.lines import JsonLines  # noqa: PLC0415  only where it is asked for

        self.file = Path("standard error")
        self.has_errors = False  #: they were shown already
        super().__init__(sys.stderr)
        self.setLevel(logging.INFO)
        self.setFormatter(JsonLines(lambda: state.redactor))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Go on without the log: nobody reads it any more."""


Log: TypeAlias = LogFile | LogLines


def start(state: State) -> Log:
    """Send what libraries and Weft log, and Python's warnings, to the log and not to the terminal."""
    log: Log = LogLines(state) if wants_json(os.environ) else LogFile(state)
    logging.getLogger().addHandler(log)
    logging.captureWarnings(True)
    return log


def keep(error: Exception, state: State) -> Path:
    """Write the traceback of `error` to the log and return the file."""
    log: Log = LogLines(state) if wants_json(os.environ) else LogFile(state)
    facts = (type(error), error, error.__traceback__)
    log.handle(logging.LogRecord("weft.cli", logging.ERROR, __file__, 0, "fault", (), facts))
    log.close()
    return log.file
