"""Links by which a question is answered: who holds one may answer, once, what it was made for.

A token names run, step and person, and is signed over these, what was asked and until when (rule B1). In arguments, and so in
records, reports and logs, a handle stands for it; the token itself is made when the attempt is made that passes it on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from weft.engine.operations import Ask
from weft.errors import InvalidInputs
from weft.outcome import encode
from weft.redaction import Secret
from weft.types import JsonObject

DEFAULT_URL: Final = "http://127.0.0.1:8321"
"""Where links lead unless `WEFT_URL` says otherwise."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was asked of somebody."""

    run_id: str
    path: str
    n: int
    who: str | None  #: None: whoever has the link
    message: str
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Handle:
    """What a handle stands for."""

    question: Question
    what: Literal["approve", "reject", "token"]


@dataclass(frozen=True, slots=True)
class Named:
    """What a token says of itself; only its signature shows whether it is true."""

    run_id: str
    path: str
    n: int
    who: str | None
    signature: bytes


def links_of(run_id: str, ask: Ask, deadline: float | None) -> tuple[dict[str, Handle], list[JsonObject]]:
    """Return the handles of a question's links, and the links as steps that tell people see them."""
    handles: dict[str, Handle] = {}
    links: list[JsonObject] = []
    for who in ask.who or (None,):
        question = Question(run_id, ask.path, ask.n, who, ask.message, deadline)
        digest = hashlib.sha256(encode([ask.path, ask.n, who]).encode()).hexdigest()[:24]
        kinds: tuple[Literal["approve", "reject", "token"], ...] = ("approve", "reject", "token")
        named = {what: f"weft-{what}-{digest}" for what in kinds}
        handles.update({named[what]: Handle(question, what) for what in kinds})
        links.append({"who": who, "approve": named["approve"], "reject": named["reject"], "token": named["token"]})
    return handles, links


class Signer:
    """Makes tokens and knows its own.

    Args:
        keys: The keys in use; the first one signs, all are known.
        url: Where links lead.
        protect: Told of each token, so that none is shown anywhere.
    """

    def __init__(
        self,
        keys: Callable[[], Sequence[bytes]],
        url: str = DEFAULT_URL,
        protect: Callable[[Secret], None] | None = None,
    ) -> None:
        self._keys = keys
        self._protect = protect
        self._url = url.rstrip("/")

    def reveal(self, handles: Mapping[str, Handle], text: str) -> dict[str, str]:
        """Return what the handles stand for that stand in a text."""
        return {name: self._value(handle) for name, handle in handles.items() if name in text}

    def _value(self, handle: Handle) -> str:
        token = self.token(handle.question)
        return token if handle.what == "token" else f"{self._url}/approve/{token}?answer={handle.what}"

    def token(self, question: Question) -> str:
        """Return the token with which somebody answers a question."""
        named = encode([question.run_id, question.path, question.n, question.who])
        token = f"{_text(named.encode())}.{_text(_signature(self._keys()[0], question))}"
        if self._protect is not None:
            self._protect(Secret(token))
        return token

    def require_signed(self, named: Named, question: Question) -> None:
        """Refuse a token that was not made here for this very question.

        Raises:
            InvalidInputs: Its signature does not fit (`bad_token`).
        """
        if not any(hmac.compare_digest(_signature(key, question), named.signature) for key in self._keys()):
            raise _bad("It was not made here, or for another question.")


def read(token: str) -> Named:
    """Return what a token says of itself.

    Raises:
        InvalidInputs: It is no token (`bad_token`).
    """
    first, dot, second = token.strip().partition(".")
    try:
        named: Any = json.loads(_bytes(first))
        json.dumps(named, ensure_ascii=False).encode()  # a half of a character is nothing that a journal can look for
        signature = _bytes(second)
    except (ValueError, binascii.Error, RecursionError):
        raise _bad("It is no token, or a part of one.") from None
    kinds = (str, str, int, str | None)
    if not dot or not isinstance(named, list) or len(named) != len(kinds):
        raise _bad("It is no token, or a part of one.")
    if not all(isinstance(value, kind) for value, kind in zip(named, kinds, strict=True)):
        raise _bad("It is no token, or a part of one.")
    run_id, path, n, who = named
    return Named(run_id, path, n, who, signature)


def _signature(key: bytes, question: Question) -> bytes:
    shown = hashlib.sha256(encode(question.message).encode()).hexdigest()
    facts = [question.run_id, question.path, question.n, question.who, shown, question.deadline]
    return hmac.digest(key, encode(facts).encode(), "sha256")


def _bad(why: str) -> InvalidInputs:
    return InvalidInputs(f"The token is not valid. {why}", code="bad_token", remedy="Use the link as it was sent.")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
