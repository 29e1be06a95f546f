"""A record of the log as a line of JSON: its event, when, where, and the facts by name."""

from __future__ import annotations

import json
import logging
import math
import traceback
from datetime import UTC, datetime
from typing import Any

from weft.redaction import MASK, PATTERNS, Redactor
from weft.telemetry.events import EVENTS
from weft.telemetry.identity import trace_name


class JsonLines(logging.Formatter):
    """Writes a record as one line; secrets are masked.

    Args:
        redactor: Returns what knows the secrets, which may be another one later on.
    """

    def __init__(self, redactor: Any) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        redactor: Redactor = self._redactor()
        told = PATTERNS.sub(MASK, _json(redactor.value(facts_of(record))))
        return told.encode("utf-8", "replace").decode()  # half a character would be none in the file


def _json(facts: Any) -> str:
    try:
        return json.dumps(facts, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # JSON has no word for what is no number
        return json.dumps({name: _plain(value) for name, value in facts.items()}, ensure_ascii=False, default=str)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record tells, by name."""
    event, facts = _named(record, _text(record))
    told: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": event,
        "logger": record.name,
        "pid": record.process,
        **{name: value for name in ("run_id", "path") if (value := getattr(record, name, None)) is not None},
        **facts,
    }
    if isinstance(run_id := told.get("run_id"), str):
        told["trace_id"] = trace_name(run_id)
    if record.exc_info and record.exc_info[0] is not None:
        told["exception"] = record.exc_info[0].__name__
        told["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return told


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # values that do not fit their text: what a library says is not lost
        return f"{record.msg} {record.args!r}"


def _named(record: logging.LogRecord, text: str) -> tuple[str, dict[str, Any]]:
    """Return the event of a record, and its facts; of what is not ours, or has no name of its own, the text."""
    if record.name == "weft.action":
        return "action_log", {"message": text}
    words = text.split(None, 1)
    name = words[0].rstrip(":") if words and record.name.split(".")[0] == "weft" else ""
    known = EVENTS.get(name)
    if known is None:
        return "log", {"message": text}
    given = getattr(record, "facts", None)
    if isinstance(given, dict):
        return name, given
    values = record.args if isinstance(record.args, tuple) else ()
    if not record.msg.startswith(name):  # the name itself came as a value: what follows it is told as it is
        return name, {"message": words[1]} if len(words) > 1 else {}
    return name, {field: _plain(value) for field, value in zip(known.facts, values, strict=False)}


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)) else str(value)
