"""Ask another system over HTTP, with the credentials of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from weft.sdk import ActionContext, ActionError, Json, JsonObject, Problem, Where

from ._http import Request, Response, check_headers
from ._http_account import CREDENTIALS, OURS, Account
from ._http_answer import refusal
from ._http_body import As, Body, of_base64, of_form, of_json, of_text, pairs, read, shown_headers
from ._http_pages import Kind, Pages, is_path

LONGEST_SHOWN: Final = 2_000  #: characters of a refusal's body, among the details of the error
BODIES: Final = ("json", "form", "text", "content_base64")


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = "GET"
    url: Annotated[str, Field(max_length=16_000)]
    query: JsonObject | None = None
    headers: dict[str, str] | None = None
    json_: Json = Field(None, alias="json")
    form: JsonObject | None = None
    text: str | None = None
    content_base64: str | None = None
    read_as: As = "auto"
    expect: Annotated[list[int], Field(min_length=1)] | None = None
    redirects: Annotated[int, Field(ge=0, le=10)] = 0
    only_reads: bool = False
    idempotency_key: bool = False
    pagination: Kind = "none"
    items_path: str = ""
    cursor_path: str | None = None
    page_parameter: Annotated[str, Field(min_length=1)] | None = None
    first_page: Annotated[int, Field(ge=0)] = 1
    max_pages: Annotated[int, Field(ge=1, le=1000)] = 10
    max_items: Annotated[int, Field(ge=1, le=100_000)] = 1000


async def http_request(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Send the request, with `pagination` one for each page, and return what was answered.

    Raises:
        ActionError: There is no answer, or not the one that was expected.
    """
    if context.connection is None:
        raise ActionError("HTTP Request needs a connection of type http.", kind="connection_missing", effect="none")
    account = Account(context.connection, redirects=arguments.redirects)
    request = _request(arguments, account, context)
    if arguments.pagination != "none":
        return await _all_pages(arguments, account, request, context)
    response = await _answered(arguments, account, request, context)
    output = _output(response, await read(response, arguments.read_as, context))
    return output | {"possible_repeat": context.repeated and not request.safe}


def _output(
    response: Response, body: Body, *, size: int | None = None, pages: int = 1, whole: bool = True
) -> JsonObject:
    return {
        "status": response.status,
        "headers": shown_headers(response),
        "body": body.value,
        "body_type": body.type,
        "size_bytes": len(response.body) if size is None else size,
        "pages": pages,
        "complete": whole,
        "possible_repeat": False,
    }


async def _answered(arguments: Arguments, account: Account, request: Request, context: ActionContext) -> Response:
    """Return the answer, if its status is one that the step expects."""
    response = await account.send(request, context)
    expected = arguments.expect
    if response.status in expected if expected else 200 <= response.status < 300:
        context.log("answered", status=response.status, bytes=len(response.body))
        return response
    error = refusal(response)
    whole = response.body.decode("utf-8", "replace")
    shown = await asyncio.to_thread(context.mask, whole)  # first, so that the cut leaves no part of a secret
    error.details |= {"status": response.status, "body": shown[:LONGEST_SHOWN]}
    raise error


# -- the request


def _request(arguments: Arguments, account: Account, context: ActionContext) -> Request:
    """Put the request together; a credential never comes from the step."""
    headers = {name.lower(): text for name, text in (arguments.headers or {}).items()}
    _check_headers(arguments.headers or {}, account.key_header)
    url = account.place(arguments.url)
    if arguments.query:
        url = url.extend_query(list(pairs(arguments.query)))
    body = None
    if (made := _body(arguments)) is not None:
        kind, body = made
        headers.setdefault("content-type", kind)
    if arguments.idempotency_key:
        headers.setdefault("idempotency-key", context.idempotency_key)
    return Request(
        arguments.method,
        url,
        headers,
        body,
        harmless=arguments.only_reads,
        repeatable=True if "idempotency-key" in headers else None,
    )


def _body(arguments: Arguments) -> tuple[str, bytes] | None:
    if arguments.json_ is not None:
        return of_json(arguments.json_)
    if arguments.form is not None:
        return of_form(arguments.form)
    if arguments.text is not None:
        return of_text(arguments.text)
    return None if arguments.content_base64 is None else of_base64(arguments.content_base64)


def _check_headers(headers: Mapping[str, str], key_header: str | None = None) -> None:
    try:
        check_headers(headers)
    except ActionError as error:
        raise error.at(Where(field="headers")) from None
    names = [name.lower() for name in headers]
    for name in names:
        if name in OURS or names.count(name) > 1:
            what = "is made by the request itself" if name in OURS else "is given twice"
            raise _bad_header(f"The header {name!r} {what}.", "Take it out.")
        if name in CREDENTIALS or name == key_header:
            raise _bad_header(f"The header {name!r} carries credentials.", "Credentials belong to the connection.")


def _bad_header(message: str, remedy: str) -> ActionError:
    return ActionError(message, kind="invalid_header", effect="none", remedy=remedy, where=Where(field="headers"))


# -- pages


@dataclass(slots=True)
class _Gathered:
    """What the pages so far have brought."""

    items: list[Json]
    pages: int = 0
    size: int = 0


async def _all_pages(arguments: Arguments, account: Account, request: Request, context: ActionContext) -> JsonObject:
    """Ask for one page after the other, until there are no more or a limit is reached."""
    pages = Pages(
        arguments.pagination,
        arguments.items_path,
        arguments.cursor_path or "",
        arguments.page_parameter or arguments.pagination,
        arguments.first_page if arguments.pagination == "page" else 0,
    )
    gathered = _Gathered([])
    most_bytes = account.rules.max_bytes
    url: URL | None = pages.begin(URL(request.url))
    asked: set[URL] = set()
    while url is not None and gathered.pages < arguments.max_pages and len(gathered.items) < arguments.max_items:
        if url in asked:
            raise _circle()
        asked.add(url)
        account.rules = replace(account.rules, max_bytes=most_bytes - gathered.size)
        response = await _answered(arguments, account, replace(request, url=url), context)
        body = await read(response, "json", context)
        gathered.items += pages.items(body.value)
        gathered.pages += 1
        gathered.size += len(response.body)
        url = pages.next(response, body.value, url, len(gathered.items))
        if url is not None:
            account.check(url)
    complete = url is None and len(gathered.items) <= arguments.max_items
    found = Body(gathered.items[: arguments.max_items], "json")
    return _output(response, found, size=gathered.size, pages=gathered.pages, whole=complete)


def _circle() -> ActionError:
    return ActionError(
        "The server names a page as the next one that has been read already.",
        kind="bad_page",
        effect="none",
        remedy="Check `pagination` and its parameters.",
    )


# -- rules that the manifest cannot state


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the arguments that are known."""
    yield from _check_method(arguments)
    yield from _check_pages(arguments)
    headers = arguments.get("headers")
    if isinstance(headers, dict):
        yield from _told(
            lambda: _check_headers({name: text for name, text in headers.items() if isinstance(text, str)})
        )
    if isinstance(encoded := arguments.get("content_base64"), str):
        yield from _told(lambda: of_base64(encoded))


def _check_method(arguments: Mapping[str, Json]) -> Iterator[Problem]:
    method = arguments.get("method", "GET")
    given = [name for name in BODIES if arguments.get(name) is not None]
    if method in ("GET", "HEAD", "OPTIONS") and given:
        yield _problem(given[0], f"A {method} request has no body.", "Use `query`, or another method.")
    if method in ("GET", "HEAD", "OPTIONS") and arguments.get("idempotency_key") is True:
        yield _problem("idempotency_key", f"A {method} request only reads and needs no key.", "Take it out.")


def _check_pages(arguments: Mapping[str, Json]) -> Iterator[Problem]:
    kind = arguments.get("pagination", "none")
    if kind == "none" or not isinstance(kind, str):
        return
    if arguments.get("method", "GET") != "GET":
        yield _problem("pagination", "Only a GET request is asked for page by page.", "Use GET.")
    if arguments.get("read_as", "auto") not in ("auto", "json"):
        yield _problem("read_as", "Pages are read as JSON.", "Take it out.")
    if kind in ("cursor", "next_url") and "cursor_path" not in arguments:
        yield _problem(
            "cursor_path", f"Pagination by {kind} needs `cursor_path`.", "Say where it stands in the answer."
        )
    for name in ("items_path", "cursor_path"):
        if isinstance(path := arguments.get(name), str) and not is_path(path):
            yield _problem(name, f"{path!r} is no path.", "Write it like data.items or pages[0].next.")


def _problem(field: str, message: str, remedy: str) -> Problem:
    return Problem("invalid_argument", message, remedy, Where(field=field))


def _told(rule: Any) -> Iterator[Problem]:
    try:
        rule()
    except ActionError as error:
        yield from error.problems
