"""Where text goes: what a stream can show, and text made harmless for it."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console


class Screen(Console):
    """A console that prints text as it is, and says so when its reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(file=stream, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def is_live(stream: TextIO) -> bool:
    """Tell whether lines on `stream` can be drawn again: a terminal that understands cursor movement."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


@dataclass(frozen=True, slots=True)
class Symbols:
    """Marks that differ in shape, not in colour alone."""

    pending: str
    running: str  #: frames, one character each
    waiting: str
    succeeded: str
    failed: str
    skipped: str
    cancelled: str
    bar: str
    dot: str
    more: str


UNICODE = Symbols("○", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "◷", "✓", "✗", "-", "⊘", "│", "·", "…")
ASCII = Symbols(".", "|/-\\", "~", "+", "x", "-", "o", "|", "-", "...")


def symbols(stream: TextIO) -> Symbols:
    """Return the marks that the encoding of `stream` has."""
    return UNICODE if (stream.encoding or "").lower().replace("-", "").startswith("utf") else ASCII


_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_REPLACED = (
    range(0x80, 0xA0),  # further control characters, which some terminals obey
    range(0x061C, 0x061D),
    range(0x200E, 0x2010),
    range(0x2028, 0x202F),  # line and paragraph separators; overrides of the writing direction
    range(0x2066, 0x206A),
    range(0xD800, 0xE000),  # lone surrogates, which no encoding takes
    range(0xFEFF, 0xFF00),
    range(0xE0000, 0xE0080),  # invisible tags
)
_HARMLESS = _PICTURES | {code: 0xFFFD for codes in _REPLACED for code in codes}


def clean(text: str) -> str:
    """Return foreign text with everything that could steer a terminal made visible instead.

    Line ends and tabs stay; CR LF becomes LF.
    """
    return text.replace("\r\n", "\n").translate(_HARMLESS)


def clean_line(text: str) -> str:
    """Return foreign text as one harmless line."""
    return " ".join(clean(text).split())


_ESCAPED = re.compile(  # by ranges: each character above U+FFFF that has an entry of its own slows the search down
    f"[{''.join(map(chr, _PICTURES))}{''.join(f'{chr(codes[0])}-{chr(codes[-1])}' for codes in _REPLACED)}]"
)


def to_json(value: Any) -> str:
    """Return JSON that may be shown on a terminal: what could steer one is escaped, which changes no value."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: json.dumps(match[0])[1:-1], text)


def duration(seconds: float) -> str:
    """Tell a length of time to a person: `0.4 s`, `1 min 05 s`, `2 h 10 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def whole(seconds: float) -> str:
    """Tell a length of time that is counted down: `12 s`, then as `duration`."""
    return f"{math.ceil(seconds)} s" if seconds < 59.95 else duration(seconds)


def size(count: int) -> str:
    """Tell a number of bytes to a person: `812 B`, `14 kB`, `92.9 MB`."""
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.1f} MB"


def share_of(done: int, total: int) -> str:
    """Tell how much of something is there: `42.1/92.9 MB`; just how much when the whole is not known."""
    told, whole_size = size(done), size(total)
    if not total:
        return told
    unit = whole_size.partition(" ")[2]
    return f"{told.removesuffix(f' {unit}')}/{whole_size}"
