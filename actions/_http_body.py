"""What goes into a request, and what an answer's body is."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlencode

from weft.sdk import ActionContext, ActionError, Json, JsonObject, Where

from ._http import Response
from ._json_text import NotJson, Reader

LARGEST_INLINE: Final = 2_000_000  #: characters of JSON; a larger body is kept as an artifact where a run keeps any
WITHHELD: Final = frozenset({"set-cookie", "set-cookie2", "authentication-info", "proxy-authentication-info"})
"""Headers of an answer that carry credentials."""

As = Literal["auto", "json", "text", "base64", "artifact"]
_JSON = re.compile(r"(application|text)/([\w.!#$&^+-]+\+)?json", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Body:
    """A body as output shows it."""

    value: Json
    type: Literal["json", "text", "base64", "artifact", "none"]


# -- of a request


def pairs(given: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield names and texts of a query or a form: one for each item of a list, none for null."""
    for name, value in given.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                yield name, item if isinstance(item, str) else json.dumps(item)


def of_json(value: Json) -> tuple[str, bytes]:
    """Return type and bytes of a JSON body."""
    try:
        return "application/json", json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # half of a surrogate pair
        raise _unsendable("json") from None


def of_form(form: Mapping[str, Json]) -> tuple[str, bytes]:
    """Return type and bytes of a form."""
    try:
        return "application/x-www-form-urlencoded", urlencode(list(pairs(form))).encode()
    except ValueError:
        raise _unsendable("form") from None


def of_text(text: str) -> tuple[str, bytes]:
    """Return type and bytes of a text."""
    try:
        return "text/plain; charset=utf-8", text.encode()
    except ValueError:
        raise _unsendable("text") from None


def of_base64(text: str) -> tuple[str, bytes]:
    """Return type and bytes of a body given in base64."""
    try:
        return "application/octet-stream", base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ActionError(
            "This is not base64.", kind="invalid_body", effect="none", where=Where(field="content_base64")
        ) from None


def _unsendable(field: str) -> ActionError:
    message = "The body holds half of a surrogate pair, which is no character."
    return ActionError(message, kind="invalid_body", effect="none", where=Where(field=field))


# -- of an answer


def shown_headers(response: Response) -> JsonObject:
    """Return an answer's headers, names in lower case, those that carry credentials left out."""
    names = dict.fromkeys(name.lower() for name in response.headers)
    return {name: _printable(", ".join(response.headers.getall(name))) for name in names if name not in WITHHELD}


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # bytes that are no UTF-8 come as halves of surrogate pairs


async def read(response: Response, wanted: As, context: ActionContext) -> Body:
    """Return the body as `wanted`.

    With `auto` it is JSON where its type says so and it is, else text where it is text, else base64; one that is too
    large to be kept with the run becomes an artifact.

    Raises:
        ActionError: It is not what is wanted (`bad_response`).
    """
    bodiless = response.request.method == "HEAD" or response.status in (204, 205, 304)
    if not response.body and (bodiless or wanted in ("auto", "artifact")):
        return Body(None, "none")
    if wanted == "artifact":
        return await _artifact(response, context)
    body = _auto(response) if wanted == "auto" else _as(response, wanted)
    if wanted == "auto" and context.artifacts is not None and len(json.dumps(body.value)) > LARGEST_INLINE:
        return await _artifact(response, context)
    return body


def _auto(response: Response) -> Body:
    if _JSON.fullmatch(_type(response)):
        try:
            return Body(_json(response.body), "json")
        except ValueError:
            pass
    try:
        return Body(_text(response), "text")
    except ValueError:
        return Body(base64.b64encode(response.body).decode(), "base64")


def _as(response: Response, wanted: Literal["json", "text", "base64"]) -> Body:
    try:
        match wanted:
            case "json":
                return Body(_json(response.body), "json")
            case "text":
                return Body(_text(response), "text")
            case "base64":
                return Body(base64.b64encode(response.body).decode(), "base64")
    except ValueError as error:
        why = f": {error}" if isinstance(error, NotJson) else ""
        raise ActionError(
            f"The answer is no {'JSON' if wanted == 'json' else 'text'} that can be used{why}.",
            kind="bad_response",
            effect="none" if response.request.safe else "unknown",
            remedy="Let it be read as auto, or check the address.",
            status=response.status,
        ) from None


def _json(body: bytes) -> Json:
    return Reader().whole(body.decode("utf-8"))  # RFC 8259 §8.1


def _text(response: Response) -> str:
    """Return the body as text.

    Raises:
        ValueError: It is none.
    """
    found = re.search(r"charset\s*=\s*\"?([\w.:-]+)", response.headers.get("Content-Type", ""), re.IGNORECASE)
    try:
        text = response.body.decode(found[1] if found else "utf-8")
    except LookupError:  # an encoding that nobody knows, or one that makes no text
        raise ValueError("encoding") from None
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise ValueError("no text")
    return text


def _type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _artifact(response: Response, context: ActionContext) -> Body:
    if context.artifacts is None:
        raise ActionError(
            "This run keeps no artifacts.",
            kind="no_artifacts",
            effect="none" if response.request.safe else "unknown",
            remedy="Let the body be read in another way.",
        )
    name = response.url.name or "body"
    kind = _type(response) or "application/octet-stream"
    return Body(await context.artifacts.save(response.body, name=name, content_type=kind), "artifact")
