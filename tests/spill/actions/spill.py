from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import urllib.parse
from typing import Literal

from markupsafe import escape
from pydantic import BaseModel, ConfigDict

from weft.sdk import ActionContext, ActionError, Json, Problem, Where

FORMS = {
    "raw": lambda text: text,
    "json": lambda text: json.dumps(text)[1:-1],
    "json-unicode": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json-in-json": lambda text: json.dumps(json.dumps(text))[3:-3],
    "url": lambda text: urllib.parse.quote(text, safe=""),
    "path": urllib.parse.quote,
    "query": urllib.parse.quote_plus,
    "html": html.escape,
    "markup": lambda text: str(escape(text)),
    "hex": lambda text: text.encode().hex(),
    "hex-upper": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64-1": lambda text: base64.b64encode(b"u" + text.encode()).decode(),
    "base64-2": lambda text: base64.b64encode(b"u:" + text.encode() + b"..").decode(),
    "base64-url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64-url-1": lambda text: base64.urlsafe_b64encode(b"u" + text.encode()).decode(),
    "base64-url-2": lambda text: base64.urlsafe_b64encode(b"u:" + text.encode() + b"..").decode(),
    "repr": lambda text: repr(text)[1:-1],
    "repr-bytes": lambda text: repr(text.encode())[2:-1],
}
"""How others spell a text; written without a look at how Weft searches for it."""


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    way: Literal[
        "output",
        "key",
        "bad output",
        "error",
        "details",
        "crash",
        "cause",
        "group",
        "refused",
        "log",
        "library",
        "emit",
        "pieces",
        "slow",
        "exit",
    ]
    form: str


async def spill(arguments: Arguments, context: ActionContext) -> Json:  # noqa: PLR0912 - a way out each
    """Let the secret out, in the form and on the way that are asked for."""
    secret = context.connection.secret("token") if context.connection else None
    assert secret is not None
    text = f"before {FORMS[arguments.form](secret.reveal())} after"
    match arguments.way:
        case "output":
            return {"said": [text, {"deep": text}]}
        case "key":
            return {text: 1}
        case "bad output":
            return text
        case "error":
            raise ActionError(text, kind="refused", remedy=text, where=Where(field=text), effect="none")
        case "details":
            raise ActionError("No.", kind=text, details={text: [text]}, retryable=True)
        case "crash":
            raise KeyError(text)
        case "cause":
            raise ValueError("no") from OSError(text)
        case "group":
            raise ExceptionGroup(text, [RuntimeError(text)])
        case "refused":
            error = ActionError("No.")
            error.problems = (Problem(text, text, text),)
            raise error
        case "log":
            context.log(text, fact=[text])
        case "library":
            logging.getLogger("another.package").warning("asked with %s", text)
        case "emit":
            context.emit(text)
        case "pieces":
            for start in range(0, len(text), 7):
                context.emit(text[start : start + 7])
        case "slow":
            context.emit(text)
            await asyncio.sleep(60)
        case "exit":
            raise SystemExit(text)
    return {"connection": repr(context.connection), "secret": f"{secret}"}
