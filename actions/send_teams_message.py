"""Post a card in a channel of Microsoft Teams, by a webhook of Workflows or through Microsoft Graph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject, Problem

from ._http import Response
from ._http_answer import refusal
from ._markdown_blocks import Format, blocks, check_text
from ._notify_http import bearer, incomplete, needed, ok, parsed, post, text_of, unclear
from ._notify_http import webhook_address as webhook_of
from ._teams_card import card, check_size

CARD = "application/vnd.microsoft.card.adaptive"


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    message: str = Field(max_length=20_000)
    title: str | None = Field(None, min_length=1, max_length=200)
    format: Format = "markdown"


async def send_teams_message(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Build the card, post it, and report what is known of it.

    Raises:
        ActionError: Nothing was posted (`effect` none), or nobody knows (`effect` unknown).
    """
    connection = needed(context, "Send Teams Message", "teams")
    content = _card(arguments)
    url, token = webhook_of(connection), connection.secret("token")
    if url is not None:
        answer = _webhook_answer(await post(url, _by_webhook(content), context, connection))
    elif token is not None:
        target, headers = channel_address(connection).joinpath("messages"), bearer(token.reveal())
        answer = _graph_answer(await post(target, _by_graph(content), context, connection, headers=headers))
    else:
        raise incomplete(connection, "has neither a `webhook_url` nor a `token`")
    context.log("message posted", state=answer["state"])
    return {**answer, "possible_repeat": context.repeated}


def channel_address(connection: Connection) -> URL:
    """Return the address of the connection's channel in Microsoft Graph.

    Raises:
        ActionError: The connection names no team or no channel.
    """
    team, channel = connection.get("team_id"), connection.get("channel_id")
    if not team or not channel:
        raise incomplete(connection, "has a `token`, which needs `team_id` and `channel_id`")
    base = URL(str(connection.get("graph_base", "https://graph.microsoft.com/v1.0")).rstrip("/"))
    return base.joinpath("teams", team, "channels", channel)


def _card(arguments: Arguments) -> JsonObject:
    if arguments.title is not None:
        check_text(arguments.title, "title")
    content = card(blocks(arguments.message, arguments.format, "message"), arguments.title)
    check_size(_by_webhook(content), "message")
    return content


def _by_webhook(content: JsonObject) -> JsonObject:
    return {"type": "message", "attachments": [{"contentType": CARD, "contentUrl": None, "content": content}]}


def _by_graph(content: JsonObject) -> JsonObject:
    """The body that Graph wants: a page that holds the card, and the card as text."""
    return {
        "body": {"contentType": "html", "content": '<attachment id="card"></attachment>'},
        "attachments": [{"id": "card", "contentType": CARD, "content": json.dumps(content, ensure_ascii=False)}],
    }


def _webhook_answer(response: Response) -> JsonObject:
    """Workflows takes a card on and posts it later; a success says no more than that."""
    if not ok(response):
        raise refusal(response)
    return {"state": "accepted", "message_id": None, "url": None}


def _graph_answer(response: Response) -> JsonObject:
    if not ok(response):
        raise refusal(response)
    answer = parsed(response)
    if not isinstance(answer.get("id"), str):
        raise unclear(response)
    return {"state": "sent", "message_id": answer["id"], "url": text_of(answer.get("webUrl"))}


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the message, when it is known."""
    message, title, form = arguments.get("message"), arguments.get("title"), arguments.get("format", "markdown")
    if isinstance(message, str) and isinstance(title, str | None) and form in ("markdown", "text"):
        try:
            _card(Arguments.model_construct(message=message, title=title, format=form))
        except ActionError as error:
            yield from error.problems
