"""Which message a request brings: what it is called, and what makes it the same one when it comes again (rule A11)."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Final, Literal

from weft.starting import digest_of
from weft.types import Json
from weft.webhooks.requests import Headers, Refused
from weft.webhooks.styles import Signed, Style, fingerprint

LONGEST_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose sender is known."""

    id: str | None  #: that its sender has given it
    is_proved: bool  #: whether the id is among what was signed
    digest: str  #: of what it says; the same when it is sent again

    def key(self, signed: Signed, body: bytes) -> str | None:
        """Return what tells it from others; None: nothing does, and each post is one of its own."""
        if self.id is not None:
            return f"id:{self.id}"
        if signed.timestamp is not None:  # sent once more by somebody who has listened, it has the same time
            return f"signed:{signed.timestamp}:{fingerprint(body)}"
        return None


@dataclass(frozen=True, slots=True)
class Greeting:
    """What asks only whether somebody is there."""

    content: str
    content_type: Literal["text/plain", "application/json"]


def greeting(style: Style, headers: Headers, data: Json) -> Greeting | None:
    """Return the answer to a request that is to start nothing, None for every other.

    Slack asks for its challenge back when the address is entered (docs.slack.dev, url_verification); GitHub sends a
    ping when a webhook is made.
    """
    if style == "slack" and isinstance(data, dict) and data.get("type") == "url_verification":
        challenge = data.get("challenge")
        if not isinstance(challenge, str) or len(challenge) > 1_000:
            raise Refused(400, "bad_body", "The challenge is not a text.")
        return Greeting(challenge, "text/plain")
    if style == "github" and headers.one("x-github-event") == "ping":
        return Greeting(json.dumps({"pong": True}), "application/json")
    return None


def message_of(style: Style, signed: Signed, data: Json, body: bytes) -> Message:
    """Return the message of a request."""
    match style:
        case "standard":
            return Message(signed.id, is_proved=True, digest=digest_of(body))
        case "github":
            return Message(signed.id, is_proved=False, digest=digest_of(body))
        case "slack":
            return Message(_text(data, "event_id"), is_proved=True, digest=digest_of(body))
        case "stripe":
            return Message(_text(data, "id"), is_proved=True, digest=_of_event(data, body))


def _of_event(data: Json, body: bytes) -> str:
    """Return what an event of Stripe says, without the count of deliveries that are left: it is another each time."""
    if not isinstance(data, dict):
        return digest_of(body)
    return digest_of({name: value for name, value in data.items() if name != "pending_webhooks"})


def _text(data: Json, name: str) -> str | None:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None


def nameless() -> str:
    """Return a key that nothing else has."""
    return f"post:{secrets.token_hex(16)}"
