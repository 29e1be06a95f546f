"""What a request needs that is the same for both kinds of client: the address, the token, when to ask again."""

from __future__ import annotations

import ipaddress
import os
import random
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from weft.errors import InvalidInputs, ServerUnavailable, TooLarge
from weft.redaction import Secret

SERVER: Final = "WEFT_SERVER"
TOKEN: Final = "WEFT_TOKEN"  # noqa: S105  the name of a variable
TOKEN_FILE: Final = "WEFT_TOKEN_FILE"  # noqa: S105

TIMEOUT_S: Final = 30.0
"""For a whole call, further tries included."""
CONNECT_S: Final = 10.0
ATTEMPTS: Final = 4
MOST_BYTES: Final = 64_000_000
"""Of an answer."""
PAUSES_S: Final = (0.2, 0.5, 1.0)
SAFE: Final = frozenset({"GET", "HEAD"})


def address(given: str | None) -> str:
    """Return the address of a server: as given, or from the environment.

    Raises:
        InvalidInputs: There is none, or it is no address of HTTP.
    """
    url = (given or os.environ.get(SERVER) or "").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInputs(
            "The address of a server must be like http://127.0.0.1:8321.",
            code="bad_server",
            remedy=f"Give it, or set {SERVER}.",
        )
    if parts.username or parts.password:
        raise InvalidInputs(
            "The address of a server holds no password.", code="bad_server", remedy=f"Put the token into {TOKEN}."
        )
    return url


def token(given: str | None) -> Secret | None:
    """Return the token: as given, or from the environment, or from the file that the environment names.

    Raises:
        InvalidInputs: The file cannot be read, others can read it, or it holds no token.
    """
    if given is not None:
        return _checked(given, "token")
    if text := os.environ.get(TOKEN):
        return _checked(text, TOKEN)
    if name := os.environ.get(TOKEN_FILE):
        return _from_file(Path(name))
    return None


def _from_file(file: Path) -> Secret:
    try:
        facts = file.stat()
        text = file.read_text(encoding="ascii", errors="strict")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds other characters than ASCII"
        raise InvalidInputs(f"The token file {file} cannot be read: {why}.", code="bad_token_file") from None
    if os.name == "posix" and stat.S_IMODE(facts.st_mode) & 0o077:
        raise InvalidInputs(
            f"Others than you can read the token file {file}.", code="bad_token_file", remedy=f"Say: chmod 600 {file}"
        )
    return _checked(text.strip(), str(file))


def _checked(text: str, where: str) -> Secret:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInputs(f"What {where} holds is no token.", code="bad_token")
    return Secret(text)


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def quoted(value: str | int) -> str:
    """Return a value as one segment of a path."""
    return quote(str(value), safe="") if value not in (".", "..") else str(value).replace(".", "%2E")


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given; what is None was not."""
    return {name: value for name, value in values.items() if value is not None}


_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what reads and writes values of a type; the second call costs nothing."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def written(body: Any) -> bytes:
    """Return the body of a request: a model, or any JSON value."""
    content: bytes = adapter(type(body)).dump_json(body, by_alias=True, exclude_unset=True)
    return content


def read(kind: Any, body: bytes) -> Any:
    """Return the body of an answer as what it should be.

    Raises:
        ServerUnavailable: It is something else.
    """
    if kind is None:
        return None
    if kind is bytes:
        return body
    try:
        return adapter(kind).validate_json(body)
    except ValidationError as error:
        what = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in what["loc"])
        raise ServerUnavailable(
            f"The server's answer is not what this client knows: {place}: {what['msg']}.",
            code="bad_answer",
            remedy="Server and client should be of the same version.",
        ) from None


class Deadline:
    """How much time is left for a call."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._seconds = seconds

    def left(self) -> float:
        return self._until - time.monotonic()

    def timeout(self) -> httpx.Timeout:
        """Return the time for the next wait.

        Raises:
            ServerUnavailable: There is none left.
        """
        left = self.left()
        if left <= 0:
            raise self.over()
        return httpx.Timeout(left, connect=min(left, CONNECT_S))

    def over(self) -> ServerUnavailable:
        return ServerUnavailable(
            f"The server has not answered within {self._seconds:g} seconds.",
            code="server_timeout",
            remedy="Whether it has done what was asked is not known.",
        )


def pause_before(attempt: int, asked_s: float | None) -> float:
    """Return how long to wait before the next attempt, numbered from 1."""
    own = PAUSES_S[min(attempt, len(PAUSES_S)) - 1]
    return asked_s if asked_s is not None else own * random.uniform(0.75, 1.25)  # noqa: S311  only to spread calls


def unreachable(url: str, error: Exception) -> ServerUnavailable:
    """Return what a failed connection means; its text may name proxies and addresses, but no token."""
    return ServerUnavailable(
        f"The server at {url} cannot be reached ({type(error).__name__}).", remedy="Look whether it runs: weft serve"
    )


def too_large() -> TooLarge:
    return TooLarge(f"The server's answer is larger than {MOST_BYTES:,} bytes.")
