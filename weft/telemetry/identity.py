"""The ids of traces and spans: they follow from the run's id, so that every process that has a run in hand knows them."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


def trace_id(run_id: str) -> int:
    """Return the id of a run's trace: 128 bits, never 0."""
    return _bits(16, "weft run", run_id)


def span_id(run_id: str, path: str = "", attempt: int = 0) -> int:
    """Return the id of the span of a run, of a step in it, or of an attempt of that: 64 bits, never 0."""
    return _bits(8, "weft span", run_id, path, str(attempt))


def trace_name(run_id: str) -> str:
    """Return the id of a run's trace as it is written: 32 hexadecimal digits."""
    return f"{trace_id(run_id):032x}"


def read_traceparent(text: str) -> tuple[int, int, int] | None:
    """Return trace id, span id and flags of a `traceparent` header; None when it is none.

    Source: W3C Trace Context §3.2.
    """
    found = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(trace, 16) or not int(span, 16):
        return None
    return int(trace, 16), int(span, 16), int(flags, 16)


def _bits(size: int, *parts: str) -> int:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:size]) or 1
