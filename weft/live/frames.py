"""One thing that is told, and what it may weigh."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from weft.redaction import MASK, PATTERNS, Redactor
from weft.types import JsonObject

EVERYBODY: Final = ""
"""The topic of frames that every listener is told: that a process has begun to tell."""

RUNS: Final = "runs"
"""The topic of the list of runs."""

BEGAN: Final = "refresh"
"""Its event: what happened before it was told to nobody, and must be read again."""

RESET: Final = "reset"
"""The event of a listener that has missed frames: it must read again whatever it listens for."""

LARGEST: Final = 16_000
"""Characters of one frame's data; an output that is longer is told in several."""

LONGEST_TEXT: Final = 2_000
"""Characters of one text in it, except the output of a step."""

TOPIC: Final = re.compile(r"runs|approvals|documents|schedules|run:[0-9A-Za-z_.:/@+-]{1,200}")
"""What may be listened for."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a listener is told."""

    id: str  #: what comes after it is asked for by this
    topic: str
    event: str
    data: JsonObject


@dataclass(slots=True)
class Draft:
    """What is to be told, before it has its place among all frames."""

    topic: str
    event: str
    data: JsonObject
    once: str | None = None  #: several processes tell the same under the same key; the first one counts

    def text(self) -> str:
        """Return the data as JSON, no longer than `LARGEST`."""
        text = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        if len(text) <= LARGEST:
            return text
        small = {name: value for name, value in self.data.items() if isinstance(value, int | float | bool | None)}
        named = {name: value for name, value in self.data.items() if isinstance(value, str) and len(value) < 300}
        return json.dumps({**named, **small, "cut": True}, ensure_ascii=False, separators=(",", ":"))


def mark(era: str, number: int) -> str:
    """Return the id of a frame. The era is another one when what was kept is gone and the count begins anew."""
    return f"{era}-{number}"


def number_in(era: str, text: str | None) -> int | None:
    """Return the number in an id of this era; None for an id of another one, or none at all."""
    before, dash, number = (text or "").rpartition("-")
    return (
        int(number) if dash and before == era and number.isascii() and number.isdigit() and len(number) < 19 else None
    )


def masked(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value with secrets masked and long texts cut."""
    match value:
        case str():
            text = PATTERNS.sub(MASK, redactor.text(value))
            return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
        case dict():
            return {masked(key, redactor): masked(item, redactor) for key, item in value.items()}
        case list() | tuple():
            return [masked(item, redactor) for item in value]
        case _:
            return value


def merged(drafts: Sequence[Draft]) -> list[Draft]:
    """Return drafts with the pieces of one output put together, and of a run's summaries the last one alone."""
    last: dict[tuple[object, ...], int] = {}  #: where in the result
    kept: list[Draft | None] = []
    for draft in drafts:
        at: tuple[object, ...] | None = None
        if draft.event == "output":
            at = (draft.topic, draft.data["path"], draft.data["attempt"], draft.data["epoch"])
            before = kept[last[at]] if at in last else None
            text = "" if before is None else f"{before.data['text']}{draft.data['text']}"
            if before is not None and len(text) <= LARGEST // 2:
                before.data = {**before.data, "text": text}
                continue
        elif draft.topic == RUNS:
            at = (RUNS, str(draft.data.get("run_id")))
            if at in last and (before := kept[last[at]]) is not None:
                if _epoch(before) > _epoch(draft):  # it was read before somebody took the run
                    continue
                kept[last[at]] = None
        if at is not None:
            last[at] = len(kept)
        kept.append(draft)
    return [each for each in kept if each is not None]


def _epoch(draft: Draft) -> int:
    found = draft.data.get("epoch")
    return found if isinstance(found, int) else 0
