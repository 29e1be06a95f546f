"""One call of a server: its deadline, when it is made again, how large its answer may be, what a refusal means.

Made by tests/client/generate.py of weft/client/async_transport.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from weft import __version__
from weft.client import asking
from weft.client.asking import ATTEMPTS, MOST_BYTES, SAFE, TIMEOUT_S, Deadline
from weft.client.faults import error_of, retry_after
from weft.client.frames import Frame, Frames
from weft.client.pausing import sync_pause, sync_within
from weft.errors import WeftError

REPEATABLE = (429, 502, 503, 504)
"""Statuses after which a safe call is made again; after 429 every call, for nothing was done."""
QUIET_S = 60.0
"""After such a silence of an event stream its connection is taken for dead: a server sends something every 15 s."""


class SyncTransport:
    """Makes calls.

    Args:
        server: The address, as `http://127.0.0.1:8321`; left out, `WEFT_SERVER`.
        token: An API token; left out, `WEFT_TOKEN`, or what the file says that `WEFT_TOKEN_FILE` names.
        timeout_s: For each whole call.

    Raises:
        InvalidInputs: The address or the token cannot be one.
    """

    def __init__(self, server: str | None = None, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.server = asking.address(server)
        self.timeout_s = timeout_s
        self._token = asking.token(token)
        headers = {"User-Agent": f"weft/{__version__}", "Accept": "application/json, application/problem+json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        self._http = httpx.Client(
            base_url=self.server,
            headers=headers,
            follow_redirects=False,
            trust_env=not asking.is_loopback(self.server),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._http.close()

    def _send(
        self,
        method: str,
        path: str,
        kind: Any,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
        body: Any = None,
        once_key: str | None = None,
    ) -> Any:
        """Make a call and return its answer.

        Args:
            method: Of HTTP.
            path: Behind the address.
            kind: What the answer is read as.
            query: Parameters of the address; None for what is not given.
            headers: Further headers, the same way.
            body: A model or JSON value.
            once_key: The name of a header that makes a repeat the same call; it is filled in where it is not given.
        """
        given = asking.without_none(headers or {})
        if once_key is not None:
            given.setdefault(once_key, secrets.token_hex(16))
        content = None
        if body is not None:
            content = asking.written(body)
            given["Content-Type"] = "application/json"
        request = {
            "method": method,
            "url": path,
            "params": asking.without_none(query or {}),
            "headers": given,
            "content": content,
        }
        return asking.read(kind, self._answer(request, again=method in SAFE or once_key is not None))

    def _answer(self, request: Mapping[str, Any], *, again: bool) -> bytes:
        deadline = Deadline(self.timeout_s)
        attempt = 0
        while True:
            attempt += 1
            asked_s = None
            try:
                error, status, asked_s, body = sync_within(deadline.left(), lambda: self._once(request, deadline))
            except TimeoutError:
                raise deadline.over() from None
            except httpx.ConnectError as failed:  # nothing was sent
                error, may = asking.unreachable(self.server, failed), True
            except httpx.TimeoutException:
                error, may = deadline.over(), again
            except httpx.TransportError as failed:
                error, may = asking.unreachable(self.server, failed), again
            else:
                if error is None:
                    return body
                may = status in REPEATABLE and (again or status == 429)
            pause_s = asking.pause_before(attempt, asked_s)
            if not may or attempt >= ATTEMPTS or deadline.left() <= pause_s:
                raise error
            sync_pause(pause_s)

    def _once(
        self, request: Mapping[str, Any], deadline: Deadline
    ) -> tuple[WeftError | None, int, float | None, bytes]:
        """Return an answer: the error that it tells, its status, how long to wait, and its body."""
        with self._http.stream(**request, timeout=deadline.timeout()) as response:
            body = self._body(response, deadline)
            error = None if response.is_success else error_of(response, body)
            return error, response.status_code, retry_after(response), body

    def _body(self, response: httpx.Response, deadline: Deadline) -> bytes:
        pieces: list[bytes] = []
        size = 0
        for piece in response.iter_bytes():
            size += len(piece)
            if size > MOST_BYTES:
                raise asking.too_large()
            if deadline.left() <= 0:
                raise deadline.over()
            pieces.append(piece)
        return b"".join(pieces)

    def _frames(self, path: str, query: Mapping[str, Any], after: str | None) -> Iterator[Frame]:
        """Yield events without end; a connection that breaks is made again where it has broken."""
        last, broken = after, 0
        while True:
            frames = Frames()
            headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": last})}
            try:
                with self._http.stream(
                    "GET",
                    path,
                    params=asking.without_none(query),
                    headers=headers,
                    timeout=httpx.Timeout(QUIET_S, connect=asking.CONNECT_S),
                ) as response:
                    if response.status_code == 204:  # nothing more will come
                        return
                    if not response.is_success:
                        error = error_of(response, self._body(response, Deadline(self.timeout_s)))
                        if response.status_code not in REPEATABLE:
                            raise error
                        raise httpx.RemoteProtocolError(str(error))
                    for piece in response.iter_bytes():
                        for frame in frames.feed(piece):
                            broken = 0
                            last = frame.id or last
                            yield frame
            except httpx.TransportError as failed:
                broken += 1
                if broken >= ATTEMPTS:
                    raise asking.unreachable(self.server, failed) from None
            sync_pause(asking.pause_before(max(broken, 1), frames.retry_s))
