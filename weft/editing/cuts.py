"""Cuts: pieces of a text that are replaced by others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece of the text, and what comes in its place."""

    start: int
    end: int
    text: str = ""


def made(text: str, cuts: Iterable[Cut]) -> str | None:
    """Return the text with all cuts made, by the indexes that it has before; None when two of them overlap."""
    pieces, behind = [], 0
    for cut in sorted(cuts, key=lambda cut: (cut.start, cut.end)):
        if cut.start < behind or cut.end > len(text) or cut.end < cut.start:
            return None
        pieces += [text[behind : cut.start], cut.text]
        behind = cut.end
    return "".join([*pieces, text[behind:]])
