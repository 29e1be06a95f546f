"""Every error as problem details (RFC 9457): the same codes and problems that the command line tells with --json."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from weft.errors import (
    ActionError,
    Conflict,
    ConnectionUnusable,
    Diverged,
    EditRefused,
    ExpressionError,
    InvalidArguments,
    InvalidDocument,
    InvalidInputs,
    JournalRefused,
    JournalUnavailable,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PackError,
    Problem,
    RunCancelled,
    Severity,
    StateUnavailable,
    StepTimeout,
    TooLarge,
    TooMany,
    WeftError,
    Where,
)
from weft.redaction import MASK, PATTERNS, Redactor

MEDIA_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:weft:problem:"

STATUS: Final[dict[type[WeftError], int]] = {
    NotAuthenticated: 401,
    NotAllowed: 403,
    NotFound: 404,
    JournalRefused: 409,
    ConnectionUnusable: 409,
    Diverged: 409,
    RunCancelled: 409,
    Conflict: 412,
    TooLarge: 413,
    InvalidDocument: 422,
    InvalidInputs: 422,
    InvalidArguments: 422,
    ExpressionError: 422,
    EditRefused: 422,
    PackError: 422,
    TooMany: 429,
    ActionError: 502,
    JournalUnavailable: 503,
    StateUnavailable: 503,
    StepTimeout: 504,
}
"""What an error is as an HTTP status; that of its nearest class."""

_LOG = logging.getLogger("weft.server")


class WhereObject(BaseModel):
    """The place that a problem speaks of; every part may be missing."""

    model_config = ConfigDict(title="Where")

    file: str | None
    line: int | None
    column: int | None
    step: str | None
    field: str | None


class ProblemObject(BaseModel):
    """One fault or warning, as `weft … --json` tells it."""

    model_config = ConfigDict(title="Problem")

    code: str = Field(description="A stable name, for programs.")
    severity: Severity
    message: str
    remedy: str | None
    where: WhereObject


class ProblemDetails(BaseModel):
    """Why a request was refused or failed (RFC 9457)."""

    type: str = Field(description="`urn:weft:problem:` and the code.")
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="The id of this request, which the log knows too.")
    code: str
    problems: list[ProblemObject]
    theirs: str | None = Field(default=None, description="Of a conflict: the text as it is now.")
    yours: str | None = Field(default=None, description="Of a conflict: the text that was to be kept.")
    base: str | None = Field(default=None, description="Of a conflict: the text that `yours` was made from.")


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {
        "description": "Refused.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    },
    "5XX": {
        "description": "Failed.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    },
}
"""What every operation may answer besides."""


def problem_object(problem: Problem, redactor: Redactor) -> ProblemObject:
    """Return a problem for programs, secrets masked."""
    facts = asdict(problem)
    for part, name in ((facts, "message"), (facts, "remedy"), (facts["where"], "step"), (facts["where"], "field")):
        if part[name] is not None:
            part[name] = PATTERNS.sub(MASK, redactor.text(part[name]))
    return ProblemObject.model_validate(_whole(facts))


def is_storable(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: a parser of JSON lets halves of surrogate pairs through."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(value: Any) -> Any:
    """Return facts that can be answered: what a problem repeats of a request may be no text that UTF-8 has."""
    if isinstance(value, str):
        return value if is_storable(value) else value.encode("utf-8", "replace").decode()
    return {name: _whole(each) for name, each in value.items()} if isinstance(value, dict) else value


def status_of(error: WeftError) -> int:
    """Return the HTTP status of an error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def details_of(error: WeftError, redactor: Redactor, instance: str | None = None) -> ProblemDetails:
    """Return an error as problem details."""
    status, problems = status_of(error), [problem_object(problem, redactor) for problem in error.problems]
    sides: dict[str, str | None] = {}
    if isinstance(error, Conflict):
        sides = {"theirs": error.theirs, "yours": error.yours, "base": getattr(error, "base", None)}
    return ProblemDetails(
        type=TYPE + problems[0].code,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=problems[0].message,
        instance=instance,
        code=problems[0].code,
        problems=problems,
        **sides,
    )


def answer(error: WeftError, redactor: Redactor, instance: str | None = None) -> Response:
    """Return the response that tells an error."""
    return _told(details_of(error, redactor, instance), headers_of(error))


def headers_of(error: WeftError) -> dict[str, str]:
    """Return what an answer to an error says in its headers (RFC 6750 §3, RFC 9110 §10.2.3)."""
    match error:
        case NotAuthenticated():
            wrong = "" if error.problem.code == error.code else ', error="invalid_token"'
            return {"WWW-Authenticate": f'Bearer realm="weft"{wrong}'}
        case NotAllowed():
            return {"WWW-Authenticate": 'Bearer realm="weft", error="insufficient_scope"'}
        case TooMany():
            return {"Retry-After": str(math.ceil(error.retry_after_s))}
        case _:
            return {}


def _told(details: ProblemDetails, headers: dict[str, str] | None = None) -> Response:
    leaving = set() if details.status == STATUS[Conflict] else {"theirs", "yours", "base"}
    text = details.model_dump_json(exclude=leaving)
    return Response(text, details.status, headers, media_type=MEDIA_TYPE)


def plain(status: int, code: str, message: str, *, remedy: str | None = None, instance: str | None = None) -> Response:
    """Return the response that tells a refusal for which there is no class of error."""
    problem = ProblemObject(code=code, severity="error", message=message, remedy=remedy, where=_where(Where()))
    title = HTTPStatus(status).phrase
    return _told(
        ProblemDetails(
            type=TYPE + code,
            title=title,
            status=status,
            detail=message,
            instance=instance,
            code=code,
            problems=[problem],
        )
    )


def _where(where: Where) -> WhereObject:
    return WhereObject.model_validate(asdict(where))


def install(app: FastAPI) -> None:
    """Have an application tell every error so."""
    app.add_exception_handler(WeftError, _of_weft)
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _fault)


def request_id(request: Request) -> str | None:
    """Return the id that the middleware has given to a request."""
    found: str | None = request.scope.get("weft.request_id")
    return None if found is None else f"urn:weft:request:{found}"


async def _of_weft(request: Request, error: Exception) -> Response:
    assert isinstance(error, WeftError)  # noqa: S101  that is what it is installed for
    if status_of(error) >= 500:
        _LOG.warning("request_failed %s %s", error.problem.code, request.scope.get("weft.request_id"))
    redactor = request.app.state.house.runtime.redactor
    if _is_visit(request):
        from weft.server.pages import of_error  # noqa: PLC0415  it stands on this module

        return of_error(error, redactor)
    return answer(error, redactor, request_id(request))


def _is_visit(request: Request) -> bool:
    """Tell whether somebody looks at a page, and not a program at the API."""
    is_page = not request.url.path.startswith("/api/v1/") and request.method in {"GET", "POST"}
    return is_page and "text/html" in request.headers.get("accept", "")


async def _of_request(request: Request, error: Exception) -> Response:
    """Tell what is wrong with a request, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  as above
    problems = [
        Problem("invalid_request", f"{each['msg']}.", where=Where(field=".".join(str(part) for part in each["loc"])))
        for each in error.errors()
    ]
    told = InvalidInputs(problems=problems)
    return answer(told, request.app.state.house.runtime.redactor, request_id(request))


_WORDS: Final = {
    404: ("unknown_path", "There is nothing at this path."),
    405: ("wrong_method", "This path does not take this method."),
    400: ("bad_request", "The request cannot be read."),
}


async def _of_http(request: Request, error: Exception) -> Response:
    from weft.server.deps import identified  # noqa: PLC0415  it stands on this module

    assert isinstance(error, HTTPException)  # noqa: S101  as above
    code: str | None = getattr(error, "code", None)
    if code is not None:
        refused = plain(error.status_code, code, error.detail, instance=request_id(request))
        refused.headers.update(error.headers or {})
        return refused
    try:
        await identified(request)  # who is not known is not told which paths there are
    except WeftError as refused:
        return await _of_weft(request, refused)
    code, message = _WORDS.get(error.status_code, ("refused", HTTPStatus(error.status_code).phrase + "."))
    response = plain(error.status_code, code, message, instance=request_id(request))
    response.headers.update(error.headers or {})
    return response


async def _fault(request: Request, error: Exception) -> Response:
    """Tell a fault of Weft itself in a line; its traceback is in the log, which the server writes after this."""
    message = f"A fault of Weft itself ({type(error).__name__}). The log has its details."
    response = plain(500, "fault", message, instance=request_id(request))
    response.headers["connection"] = "close"  # the server lets go of it, and a client must not use it again
    return response
