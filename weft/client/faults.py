"""What a server refuses, as the error that it was there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from weft.errors import (
    Conflict,
    InvalidInputs,
    JournalRefused,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Problem,
    ServerUnavailable,
    Severity,
    TooLarge,
    TooMany,
    WeftError,
    Where,
)


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", defer_build=True)


class _Where(_Lenient):
    file: str | None = None
    line: int | None = None
    column: int | None = None
    step: str | None = None
    field: str | None = None


class _Problem(_Lenient):
    code: str
    message: str
    remedy: str | None = None
    severity: Severity = "error"
    where: _Where = _Where()


class _Details(_Lenient):
    """Problem details (RFC 9457) as a Weft server tells them."""

    code: str
    kind: str | None = None
    detail: str = ""
    problems: list[_Problem] = []
    theirs: str | None = None
    yours: str | None = None


_BY_STATUS: Final[Mapping[int, type[WeftError]]] = {
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: JournalRefused,
    412: Conflict,
    413: TooLarge,
    422: InvalidInputs,
    429: TooMany,
}


def _kinds(root: type[WeftError]) -> dict[str, type[WeftError]]:
    found = {root.code: root}
    for each in root.__subclasses__():
        found |= _kinds(each)
    return found


def error_of(response: httpx.Response, body: bytes) -> WeftError:
    """Return the error that an answer tells: of the class that it had on the server."""
    try:
        details = _Details.model_validate_json(body)
    except ValidationError:
        return ServerUnavailable(
            f"The server has answered with status {response.status_code}, and not as a Weft server does.",
            code="bad_answer",
            remedy="Look whether the address is that of a Weft server, or of a proxy before one.",
        )
    problems = [
        Problem(each.code, each.message, each.remedy, Where(**each.where.model_dump()), each.severity)
        for each in details.problems
    ] or [Problem(details.code, details.detail)]
    kind = _kinds(WeftError).get(details.kind or "") or _BY_STATUS.get(response.status_code, WeftError)
    return _made(kind, problems, details, response)


def _made(kind: type[WeftError], problems: list[Problem], details: _Details, response: httpx.Response) -> WeftError:
    """Return an error of a class, whatever else its maker takes."""
    error = kind.__new__(kind)
    WeftError.__init__(error, problems=problems)
    extra: dict[str, Any] = {}
    if isinstance(error, Conflict):
        extra = {"theirs": details.theirs, "yours": details.yours}
    elif isinstance(error, TooMany):
        extra = {"retry_after_s": retry_after(response) or 1.0}
    for name, value in extra.items():
        setattr(error, name, value)
    return error


def retry_after(response: httpx.Response) -> float | None:
    """Return how long a server wants to be left alone, None when it does not say so in seconds."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
