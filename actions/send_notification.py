"""Tell somebody through one of the services that Apprise knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from markdown_it import MarkdownIt
from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject, Problem

from ._apprise import job, notify, service_of
from ._mail_body import clean
from ._markdown_blocks import Format, check_text, refused
from ._notify_http import needed

Target = Annotated[str, Field(min_length=1, max_length=200)]
_CALL = re.compile(r"(?P<address>https?://[^\s<>]+)|(?<![\w.])@(?=\w)|<(?=[@!#&])")


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    message: str = Field(max_length=20_000)
    title: str | None = Field(None, min_length=1, max_length=200)
    type: Literal["info", "success", "warning", "failure"] = "info"
    format: Format = "text"
    targets: list[Target] | None = Field(None, min_length=1, max_length=50)


async def send_notification(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Hand the notification to the connection's service, and report what is known of it.

    Raises:
        ActionError: Nothing was sent (`effect` none), or nobody knows (`effect` unknown).
    """
    connection = needed(context, "Send Notification", "apprise")
    service = service_of(connection)
    work = job(connection, service, _message(arguments), _targets(arguments, connection))
    told = await notify(work, connection, context)
    context.log("notification sent", service=service.name)
    return {
        "state": "sent",
        "service": service.name,
        "statuses": [*told.statuses],
        "possible_repeat": context.repeated,
    }


def _message(arguments: Arguments) -> JsonObject:
    """What is said; Markdown becomes clean HTML, from which each service's own marks are made."""
    body = quiet(check_text(arguments.message, "message"))
    if arguments.format == "markdown":
        body = clean(MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).render(body))
    return {
        "title": quiet(check_text(arguments.title, "title")) if arguments.title is not None else "",
        "body": body,
        "format": "html" if arguments.format == "markdown" else "text",
        "type": arguments.type,
    }


def quiet(text: str) -> str:
    """Return `text` with an invisible space (U+200B) where services would read that somebody is called.

    In an address of the web, the sign @ is written as %40, which means the same there.
    """
    return _CALL.sub(lambda found: found[0].replace("@", "%40") if found["address"] else f"{found[0]}\u200b", text)


def _targets(arguments: Arguments, connection: Connection) -> list[str] | None:
    """Who is told: whom the step names, as far as the connection allows, else those of the connection."""
    own, allowed = connection.get("targets"), connection.get("allowed_targets", [])
    for at, target in enumerate(arguments.targets or ()):
        if "*" not in allowed and target not in (*allowed, *(own or ())):
            raise refused(
                f"The connection {connection.name!r} does not allow this recipient.",
                field=f"targets[{at}]",
                kind="recipient_not_allowed",
                remedy="Add it to the connection's `allowed_targets`.",
            )
    return arguments.targets if arguments.targets is not None else own


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the texts, when they are known."""
    for name in ("message", "title"):
        if isinstance(text := arguments.get(name), str):
            try:
                check_text(text, name)
            except ActionError as error:
                yield from error.problems
