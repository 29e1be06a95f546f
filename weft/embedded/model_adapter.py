"""The door in front of llama.cpp's own server: it checks who asks, ends what nobody waits for, and makes tools work.

Every generation is asked for as a stream, also where the client wants one object: llama.cpp goes on with an unstreamed
one to its end when the client is gone (llama.cpp issue 9273), and its server cannot be stopped meanwhile.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from weft.embedded import model_stream, model_tools
from weft.redaction import Secret
from weft.types import Json, JsonObject

LARGEST_REQUEST_BYTES = 8 << 20
REQUEST_READ_S = 30.0
IDLE_WITHIN_S = 10.0
LOOPBACK_NAMES = {"127.0.0.1", "localhost"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Failed(Exception):
    """The request ends with this error, told in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, *, kind: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: JsonObject = {"message": message, "type": kind, "param": param, "code": code}


def _invalid(message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> _Failed:
    return _Failed(status, message, kind="invalid_request_error", param=param, code=code)


def _broken(message: str, *, status: int = 502) -> _Failed:
    return _Failed(status, message, kind="server_error")


def _from_upstream(status: int, error: Any) -> _Failed:
    """Translate llama.cpp's error object, which is OpenAI's but for `code` and `param`."""
    told = error if isinstance(error, dict) else {}
    message = str(told.get("message", "The model refused the request."))
    if told.get("type") == "exceed_context_size_error":
        return _invalid(message, param="messages", code="context_length_exceeded")
    return _Failed(status, message, kind=str(told.get("type", "server_error")))


class ModelAdapter:
    """An OpenAI-shaped server on loopback that serves whoever knows the key.

    Args:
        upstream: Address of llama.cpp's server, with its own key.
        key: What clients have to show.
        request_timeout_s: How long one generation may take.

    It is made where an event loop runs.
    """

    def __init__(self, upstream: str, upstream_key: Secret, key: Secret, *, request_timeout_s: float) -> None:
        self._upstream = upstream
        self._expected = f"Bearer {key.reveal()}".encode()
        self._request_timeout_s = request_timeout_s
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {upstream_key.reveal()}"},
            timeout=aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=10),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            read_bufsize=1 << 20,  # a line of an event stream has to fit in
        )
        app = web.Application(client_max_size=LARGEST_REQUEST_BYTES, middlewares=[self._guarded])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/tokenize", self._tokenize)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)

    async def start(self) -> str:
        """Listen on a free port and return the address for clients: `http://127.0.0.1:…/v1`."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> bool:
        """Close the port, abort running generations, and return whether the model has come to rest."""
        await self._runner.cleanup()
        try:
            async with asyncio.timeout(IDLE_WITHIN_S):
                await self._rest()
        except (TimeoutError, _Failed):
            return False
        finally:
            await self._session.close()
        return True

    async def _rest(self) -> None:
        """Wait for the end of the batch of prompt tokens that an aborted generation may be in."""
        while True:
            slots = await self._json("GET", "/slots")
            if not any(slot["is_processing"] for slot in slots):
                return
            await asyncio.sleep(0.02)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
            return await handler(request)
        except model_tools.RequestRefused as refused:
            failed = _invalid(str(refused), param=refused.param)
        except web.HTTPException as refused:  # no such path, another method, too large a body
            failed = _invalid(refused.reason, status=refused.status)
        except _Failed as error:
            failed = error
        return web.json_response({"error": failed.error}, status=failed.status)

    def _check(self, request: web.Request) -> None:
        """Refuse other names than loopback's, which a page in a browser may have bound to it, and other keys."""
        if request.headers.get("Host", "").rpartition(":")[0] not in LOOPBACK_NAMES:
            raise _invalid("This server answers on loopback only.", status=403)
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            raise _Failed(401, "The API key is wrong.", kind="authentication_error", code="invalid_api_key")

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._json("GET", "/v1/models"))

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._json("POST", "/tokenize", await _body(request)))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        asked = model_tools.read(body)
        if not asked.functions or not (asked.is_forced or await self._wants_function(body, asked)):
            answer = model_tools.plain(body, asked)
            if not asked.logprobs or asked.top_logprobs:
                return await (self._passed_on(request, answer) if asked.stream else self._whole(answer))
            completion = _without_alternatives(await self._completion(answer | {"top_logprobs": 1}))
        else:
            completion = model_tools.called(await self._completion(model_tools.calling(body, asked)))
        if not asked.stream:
            return web.json_response(completion)
        wants_usage = (body.get("stream_options") or {}).get("include_usage") is True
        return await _streamed(request, completion, usage=wants_usage)

    async def _wants_function(self, body: dict[str, Any], asked: model_tools.ChatRequest) -> bool:
        return model_tools.is_yes(await self._completion(model_tools.question(body, asked)))

    async def _whole(self, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(await self._completion(body))

    async def _completion(self, body: dict[str, Any]) -> JsonObject:
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with self._asked("POST", "/v1/chat/completions", streamed) as response:
            return await model_stream.fold(model_stream.chunks(response.content))

    async def _passed_on(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Hand on the stream as it comes; a fault in the middle of it becomes its last event."""
        stream = _event_stream()
        async with self._asked("POST", "/v1/chat/completions", body) as response:
            await stream.prepare(request)
            try:
                async for chunk in response.content.iter_any():
                    await stream.write(chunk)
            except (aiohttp.ClientError, TimeoutError):
                await stream.write(model_stream.event({"error": _broken("The answer broke off.").error}))
        await stream.write_eof()
        return stream

    async def _json(self, method: str, path: str, body: Any = None) -> Any:
        async with self._asked(method, path, body) as response:
            return await response.json()

    @asynccontextmanager
    async def _asked(self, method: str, path: str, body: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask llama.cpp; leaving the block early closes the connection, which ends the generation."""
        try:
            async with self._session.request(method, self._upstream + path, json=body) as response:
                if response.status != 200:
                    told = await response.json(content_type=None)
                    raise _from_upstream(response.status, told.get("error") if isinstance(told, dict) else None)
                yield response
        except model_stream.StreamBroken as broken:
            raise _from_upstream(502, broken.error) if broken.error else _broken(str(broken)) from None
        except TimeoutError:
            raise _broken(f"The model did not answer within {self._request_timeout_s:g} s.", status=504) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise _broken("The model's server does not answer as it should.") from error


def _without_alternatives(completion: JsonObject) -> JsonObject:
    """Return a completion that names no other tokens beside those of its text, as OpenAI's do unless asked for them.

    llama.cpp names twenty when no number is given, and gives no log probabilities at all when it is 0.
    """
    choices: Any = completion["choices"]
    for choice in choices:
        for token in (choice.get("logprobs") or {}).get("content") or ():
            token["top_logprobs"] = []
    return completion


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(REQUEST_READ_S):
            value: Json = json.loads(await request.read())
    except TimeoutError:
        raise _invalid("The request did not arrive in time.", status=408) from None
    except (ValueError, RecursionError):
        raise _invalid("The body of the request is not JSON.") from None
    if not isinstance(value, dict):
        raise _invalid("The body of the request is not a JSON object.")
    return value


def _event_stream() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})


async def _streamed(request: web.Request, completion: JsonObject, *, usage: bool) -> web.StreamResponse:
    stream = _event_stream()
    await stream.prepare(request)
    for chunk in model_stream.unfold(completion, usage=usage):
        await stream.write(model_stream.event(chunk))
    await stream.write(model_stream.DONE)
    await stream.write_eof()
    return stream
