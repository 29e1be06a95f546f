"""Counts HTTP requests by their route: the server puts this around itself."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from weft.telemetry.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Counted:
    """An ASGI application whose answers are counted.

    A request that came to no route is counted under the route `none`: what people try must not make names.

    Args:
        app: The application.
        metrics: Where they are counted.
    """

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(
                    _method(scope), _route(scope), int(message["status"]), time.perf_counter() - began
                )
            await send(message)

        await self._app(scope, receive, counting)


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", None) or "none")


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
