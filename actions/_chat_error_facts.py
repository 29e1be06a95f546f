"""What a provider's error says in its body and its headers, by identifiers that it documents."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Final

from weft.sdk import Json, JsonObject

DAILY_QUOTA: Final = "daily_quota"
"""Our code for Google's quotas of a day, whose ids say so where those of a minute have the same status."""

_PLAIN_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,63}")


def parsed(body: bytes) -> Json:
    """Return the JSON of an error's body, None when it is none."""
    try:
        found: Json = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found[0] if isinstance(found, list) and found else found  # Google's streams begin with a list


def codes_of(body: Json) -> Iterator[str]:
    """Yield the codes and types of an error body, the narrowest first."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return
    inner, details = error.get("innererror"), error.get("details")
    for part in (*_parts(details), inner, error):
        if isinstance(part, dict):
            if any("PerDay" in str(each.get("quotaId")) for each in _parts(part.get("violations"))):
                yield DAILY_QUOTA
            for name in ("reason", "code", "type", "status"):
                value = part.get(name)
                if isinstance(value, str | int) and not isinstance(value, bool):
                    yield str(value)


def _parts(value: Json) -> list[JsonObject]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def first_code(codes: list[str]) -> str | None:
    return next((code for code in codes if _PLAIN_CODE.fullmatch(code)), None)


def status_told(codes: list[str]) -> int | None:
    """Return the status that a stream's error names as its code, as gateways do."""
    return next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)


def retry_after_s(headers: Mapping[str, str], body: Json = None) -> float | None:
    """Return how long the provider asks us to wait, by its headers or else by its body.

    RFC 9110 §10.2.3, the milliseconds of OpenAI and Azure, and Google's `google.rpc.RetryInfo`.
    """
    asked = _asked_by_header(headers)
    return _asked_by_google(body) if asked is None else asked


def _asked_by_google(body: Json) -> float | None:
    error = body.get("error") if isinstance(body, dict) else None
    for part in _parts(error.get("details")) if isinstance(error, dict) else ():
        delay = part.get("retryDelay")  # a duration in JSON's form of protocol buffers: `1.25s`
        if isinstance(delay, str) and delay.endswith("s"):
            return _number(delay[:-1])
    return None


def _asked_by_header(headers: Mapping[str, str]) -> float | None:
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, round(until.timestamp() - time.time(), 3))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
