"""Why an instant of a schedule became what it did: told to people and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from weft.journal.base import Occurrence
from weft.types import JsonObject


def told(occurrence: Occurrence) -> JsonObject:
    """Return the reason of an occurrence with a sentence in it; `code` is empty when there is none."""
    reason: JsonObject = {} if occurrence.reason is None else json.loads(occurrence.reason)
    code = str(reason.get("code", ""))
    make = SENTENCES.get(code)
    message = str(reason.get("message", code)) if make is None else make(reason)
    return {**reason, "code": code, "message": message}


def length(seconds: float) -> str:
    """Tell how late something was: `90 s`, `12 min`, `3.5 h`, `4 d`."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:.0f} s"


def _overlap(reason: dict[str, Any]) -> str:
    runs, count = reason["blockers"], reason["count"]
    others = f" and {count - 1} more" if count > 1 else ""
    return f"Run {runs[0]}{others} had not ended."


SENTENCES: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "": lambda reason: "",
    "late": lambda reason: f"Nothing ran then; {length(reason['late_s'])} later it is not made up for.",
    "grace": lambda reason: f"Nothing ran then; {length(reason['late_s'])} is later than its grace.",
    "superseded": lambda reason: f"The start of {reason['by']} stands for it.",
    "gap": lambda reason: f"Nothing ran until {reason['until']}.",
    "made_up": lambda reason: f"Started {length(reason['late_s'])} late.",
    "overlap": _overlap,
    "paused": lambda reason: "The schedule was paused.",
    "edited": lambda reason: "The schedule was given other times.",
    "retired": lambda reason: "The schedule was taken out of use.",
    "backfill": lambda reason: "Started by hand.",
    "known_run": lambda reason: "Its run had been started already.",
}
