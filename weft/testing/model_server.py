"""A model provider on loopback, for tests: real HTTP, answers as scripted, every request recorded.

    async with ModelServer() as server:
        server.script([Status(503), Ok("hello")])   # one answer per request; the last one repeats
        ... call something with `server.base_url` ...
        assert [request.json["model"] for request in server.requests] == ["m", "m"]

Without a script it answers `Ok()`; a model may have a script of its own, and is known by its name. Paths ending in `/messages` get Anthropic's shapes, paths with `:generateContent`
or `:streamGenerateContent` Google's, all others OpenAI's; a request with `"stream": true` gets server-sent events.

    async with Steps(directory, registry, {"openai": server.connection("openai", key)}) as steps:
        step = await steps.run({"provider": "openai", "model": "m", "num_retries": 2})

runs a workflow of one completion step as `weft run` does, and returns what the report says of the step.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Self

from aiohttp import web

CREATED = 1768721350
TEXT = "The current weather in New York City is cloudy."


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  #: names in lower case
    body: bytes
    at: float  #: instant of `time.monotonic()`

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def model(self) -> str | None:
        """The last part of the name of the model asked for, in the body or, as with Azure and Google, in the path."""
        found = re.search(r"/(?:models?|deployments)/([^/:]+)", self.path)
        name = found[1] if found else (self.json or {}).get("model")
        return name.rsplit("/", 1)[-1] if isinstance(name, str) else None

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted as a stream of events."""
        return ":streamGenerateContent" in self.path or bool((self.json or {}).get("stream"))


class Answer:
    """One scripted answer."""

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        raise NotImplementedError


@dataclass(frozen=True)
class Ok(Answer):
    """A completion that depends on nothing but the request: `n` choices, log probabilities and tool calls if asked for.

    `tools` names functions that the model calls; without it a tool is called only when `tool_choice` demands one.
    `message`, `choice` and `top` are merged into each message, each choice and the whole answer.
    """

    text: str | None = TEXT
    finish_reason: str | None = None
    tools: Sequence[str] = ()
    message: Mapping[str, Any] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] | None = field(
        default_factory=lambda: {
            "prompt_tokens": 21,
            "completion_tokens": 12,
            "total_tokens": 33,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
    )
    pause_s: float = 0.0  #: between the events of a stream

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        body = request.json if isinstance(request.json, dict) else {}
        if request.path.endswith("/messages"):
            answer = self.anthropic(body)
            if not body.get("stream"):
                return web.json_response(answer)
            return await send_events(http, anthropic_events(answer), self.pause_s, named=True)
        if ":generateContent" in request.path:
            return web.json_response(self.google(request))
        if ":streamGenerateContent" in request.path:
            return await send_events(http, google_events(self.google(request)), self.pause_s)
        answer = self.openai(body)
        if not body.get("stream"):
            return web.json_response(answer)
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return await send_events(http, [*openai_events(answer, with_usage), "[DONE]"], self.pause_s)

    def called(self, body: Mapping[str, Any]) -> list[str]:
        """Names of the functions that this answer calls."""
        if self.tools:
            return list(self.tools)
        choice = body.get("tool_choice")
        if isinstance(choice, dict) and "function" in choice:
            return [choice["function"]["name"]]
        if choice == "required":
            return [body["tools"][0]["function"]["name"]]
        return []

    def openai(self, body: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "id": "chatcmpl-CzHVeyzZj09MzGSXlmesrcTztrr66",
            "object": "chat.completion",
            "created": CREATED,
            "model": body.get("model", "m"),
            "choices": [self.openai_choice(body, index) for index in range(body.get("n") or 1)],
            "service_tier": "default",
            "system_fingerprint": "fp_29330a9688",
        }
        if self.usage is not None:
            answer["usage"] = dict(self.usage)
        return {**answer, **self.top}

    def openai_choice(self, body: Mapping[str, Any], index: int) -> dict[str, Any]:
        text = f"{self.text} ({index})" if index and self.text else self.text
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        if called := self.called(body):
            message["content"] = None
            message["tool_calls"] = [
                {
                    "id": f"call_{index}_{position}",
                    "type": "function",
                    "function": {"name": name, "arguments": '{"location": "New York City"}'},
                }
                for position, name in enumerate(called)
            ]
        logprobs = None
        message |= self.message
        if body.get("logprobs") and message["content"]:
            found = [logprob(piece, body.get("top_logprobs") or 0) for piece in pieces(message["content"])]
            logprobs = {"content": found, "refusal": None}
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason or ("tool_calls" if called else "stop"),
            **self.choice,
        }

    def anthropic(self, body: Mapping[str, Any]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": self.text}] if self.text else []
        content += [
            {"type": "tool_use", "id": f"toolu_{position}", "name": name, "input": {"location": "New York City"}}
            for position, name in enumerate(self.tools)
        ]
        return {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", "m"),
            "content": content,
            "stop_reason": self.finish_reason or ("tool_use" if self.tools else "end_turn"),
            "stop_sequence": None,
            "usage": {"input_tokens": 21, "output_tokens": 12},
        }

    def google(self, request: Request) -> dict[str, Any]:
        return {
            "candidates": [
                {
                    "index": 0,
                    "content": {"role": "model", "parts": [{"text": self.text}]},
                    "finishReason": self.finish_reason or "STOP",
                }
            ],
            "usageMetadata": {"promptTokenCount": 21, "candidatesTokenCount": 12, "totalTokenCount": 33},
            "modelVersion": request.path.rsplit("/", 1)[-1].split(":")[0],
            "responseId": "response-1",
        }


@dataclass(frozen=True)
class Status(Answer):
    """An answer with any status, headers and body; an object as body is sent as JSON.

    `{authorization}` in a text body is replaced by the request's credential, as careless providers do.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        body = self.body
        if body is None:
            body = {"error": {"message": "failure of the test", "type": "server_error", "param": None, "code": None}}
        text = body if isinstance(body, str) else json.dumps(body)
        text = text.replace("{authorization}", credential(request))
        headers = {"content-type": "application/json", **{name.lower(): value for name, value in self.headers.items()}}
        return web.Response(status=self.status, body=text.encode(), headers=headers)


@dataclass(frozen=True)
class Echo(Answer):
    """A completion whose text repeats the credential of the request."""

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        return await Ok(f"You sent {credential(request)}").reply(request, http)


@dataclass(frozen=True)
class Hang(Answer):
    """No answer at all, for `seconds`."""

    seconds: float = 60.0

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        return web.Response(status=504)


@dataclass(frozen=True)
class Drip(Answer):
    """A body that arrives byte by byte, `text` again and again, and never ends in time."""

    interval_s: float = 0.1
    content_type: str = "application/json"
    text: str = " "

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": self.content_type})
        await response.prepare(http)
        body = self.text.encode()
        for place in range(int(60 / self.interval_s)):
            await response.write(body[place % len(body) :][:1])
            await asyncio.sleep(self.interval_s)
        return response


@dataclass(frozen=True)
class Stall(Answer):
    """Headers, the first `parts` events of a stream or, of a whole answer, its first bytes; then nothing more."""

    parts: int = 0
    seconds: float = 60.0

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": content_type(request)})
        await response.prepare(http)
        for part in beginning(request, self.parts):
            await response.write(part)
        await asyncio.sleep(self.seconds)
        return response


@dataclass(frozen=True)
class Huge(Answer):
    """A body of `size` bytes, sent as fast as it is read; with `declared`, its length is told in the headers."""

    size: int = 200_000_000
    content_type: str = "application/json"
    declared: bool = False
    status: int = 200

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers={"content-type": self.content_type})
        block = b"x" * 65536
        if self.declared:
            response.content_length = self.size // len(block) * len(block)
        await response.prepare(http)
        for _ in range(self.size // len(block)):
            await response.write(block)
        return response


@dataclass(frozen=True)
class Flood(Answer):
    """A stream of correct events that never ends, sent as fast as it is read."""

    size: int = 200_000_000

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(http)
        *start, piece = beginning(request, 4)
        for part in start:
            await response.write(part)
        for _ in range(self.size // (len(piece) * 100)):
            await response.write(piece * 100)
        return response


@dataclass(frozen=True)
class Packed(Answer):
    """A small body that unpacks to `size` bytes, sent though nobody asked for a packed one."""

    size: int = 200_000_000

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        headers = {"content-type": content_type(request), "content-encoding": "gzip"}
        return web.Response(body=packed(self.size), headers=headers)


@dataclass(frozen=True)
class Reset(Answer):
    """The connection is reset instead of an answer."""

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        if http.transport is not None:
            http.transport.abort()
        return web.Response()


@dataclass(frozen=True)
class Cut(Answer):
    """The connection ends within the answer; `events` many events of a stream arrive before."""

    events: int = 4

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": content_type(request)})
        if not request.streams:
            response.content_length = 5000
        await response.prepare(http)
        for part in beginning(request, self.events):
            await response.write(part)
        await asyncio.sleep(0.05)
        if http.transport is not None:
            http.transport.close()
        return response


@dataclass(frozen=True)
class Events(Answer):
    """A stream of just these events; a text is sent as it is."""

    events: Sequence[Any]

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        return await send_events(http, self.events, 0.0)


def redirect(url: str, status: int = 307) -> Status:
    """An answer that sends the client elsewhere."""
    return Status(status, "", {"location": url})


def credential(request: Request) -> str:
    """The key that a request carries, in whichever header."""
    names = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
    found = next((request.headers[name] for name in names if name in request.headers), "")
    return found.removeprefix("Bearer ")


def pieces(text: str) -> list[str]:
    """The tokens of the test's model: words with the space before them."""
    first, *rest = text.split(" ")
    return [piece for piece in (first, *(f" {word}" for word in rest)) if piece]


def logprob(token: str, top: int) -> dict[str, Any]:
    def one(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "bytes": list(text.encode()), "logprob": value}

    likely = [one(token if place == 0 else f"{token}{place}", -0.25 * (place + 1)) for place in range(top)]
    return {**one(token, -0.25), "top_logprobs": likely}


def openai_events(answer: dict[str, Any], with_usage: bool) -> list[dict[str, Any]]:
    """The events of the stream whose sum is `answer`; the choices take turns."""
    base = {name: value for name, value in answer.items() if name not in {"choices", "usage"}}
    base["object"] = "chat.completion.chunk"
    tracks = [choice_events(choice) for choice in answer["choices"]]
    events = []
    for turn in range(max(map(len, tracks), default=0)):
        due = [track[turn] for track in tracks if turn < len(track)]
        events += [{**base, "choices": [choice], **({"usage": None} if with_usage else {})} for choice in due]
    if with_usage:
        events.append({**base, "choices": [], "usage": answer.get("usage")})
    return events


def choice_events(choice: dict[str, Any]) -> list[dict[str, Any]]:
    index, message = choice["index"], choice["message"]
    extra = {
        name: value for name, value in choice.items() if name not in {"index", "message", "logprobs", "finish_reason"}
    }
    logprobs = (choice.get("logprobs") or {}).get("content")

    def event(delta: dict[str, Any], finish: str | None = None, place: int | None = None) -> dict[str, Any]:
        found = {"content": [logprobs[place]], "refusal": None} if logprobs and place is not None else None
        return {"index": index, "delta": delta, "logprobs": found, "finish_reason": finish, **extra}

    other = {
        name: value
        for name, value in message.items()
        if name not in {"role", "content", "tool_calls"} and value not in (None, [])
    }
    events = [event({"role": "assistant", "content": None if message["content"] is None else "", "refusal": None})]
    events += [event({name: value}) for name, value in other.items()]
    events += [event({"content": text}, place=n) for n, text in enumerate(pieces(message["content"] or ""))]
    for position, call in enumerate(message.get("tool_calls") or []):
        whole = call["function"]["arguments"]
        head = {**call, "function": {**call["function"], "arguments": ""}}
        events.append(event({"tool_calls": [{"index": position, **head}]}))
        for part in (whole[: len(whole) // 2], whole[len(whole) // 2 :]):
            events.append(event({"tool_calls": [{"index": position, "function": {"arguments": part}}]}))
    return [*events, event({}, choice["finish_reason"])]


def anthropic_events(answer: dict[str, Any]) -> list[dict[str, Any]]:
    start = {**answer, "content": [], "stop_reason": None, "usage": {"input_tokens": 21, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    empty: dict[str, Any]
    for index, block in enumerate(answer["content"]):
        if block["type"] == "text":
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": text} for text in pieces(block["text"])]
        else:
            empty = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 12}})
    return [*events, {"type": "message_stop"}]


def google_events(answer: dict[str, Any]) -> list[dict[str, Any]]:
    [candidate] = answer["candidates"]
    base = {name: value for name, value in answer.items() if name not in {"candidates", "usageMetadata"}}
    texts = pieces(candidate["content"]["parts"][0]["text"] or "")
    found = [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}} for text in texts]
    events = [{**base, "candidates": [each]} for each in found]
    end = {"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": candidate["finishReason"]}
    return [*events, {**base, "candidates": [end], "usageMetadata": answer["usageMetadata"]}]


@cache
def packed(size: int) -> bytes:
    """Return what unpacks to `size` spaces."""
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(size // 1_000_000)) + packer.flush()


def content_type(request: Request) -> str:
    return "text/event-stream" if request.streams else "application/json"


def beginning(request: Request, parts: int) -> Iterator[bytes]:
    """Yield the first events of the stream that a request asks for; of a whole answer, its first bytes if any."""
    body = request.json if isinstance(request.json, dict) else {}
    anthropic, google = request.path.endswith("/messages"), "enerateContent" in request.path
    whole = Ok().anthropic(body) if anthropic else Ok().google(request) if google else Ok().openai(body)
    if not request.streams:
        yield json.dumps(whole).encode()[: 60 if parts else 0]
        return
    events = anthropic_events(whole) if anthropic else google_events(whole) if google else openai_events(whole, False)
    for event in events[:parts]:
        yield framed(event, named=anthropic)


def framed(event: Any, named: bool = False) -> bytes:
    """Return an event as it stands in a stream; a text as it is."""
    data = event if isinstance(event, str) else json.dumps(event)
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {data}\n\n".encode()


async def send_events(
    http: web.Request, events: Sequence[Any], pause_s: float, named: bool = False
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(http)
    for event in events:
        await response.write(framed(event, named))
        if pause_s:
            await asyncio.sleep(pause_s)
    return response


class ModelServer:
    """The server itself; an asynchronous context."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._scripts: dict[str | None, list[Answer]] = {}
        self._runner: web.ServerRunner | None = None
        self.port = 0

    @property
    def root(self) -> str:
        """The address without a path, as Anthropic's and Google's clients want it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The address as OpenAI's clients want it."""
        return f"{self.root}/v1"

    def connection(self, provider: str, key: str | None, **fields: Any) -> dict[str, Any]:
        """Return an entry of a connections file that leads here."""
        base = self.root if provider in {"anthropic", "azure", "gemini"} else self.base_url
        secret = {} if key is None else {"api_key": key}
        return {"type": "model_provider", "provider": provider, "api_base": base, **secret, **fields}

    def script(self, answers: Sequence[Answer] | Answer, model: str | None = None) -> None:
        """Answer the coming requests, or those for one model, with these, in order; the last one repeats."""
        self._scripts[model] = [answers] if isinstance(answers, Answer) else list(answers)

    def asked(self, model: str) -> list[Request]:
        """Return the requests for a model."""
        return [request for request in self.requests if request.model == model]

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        request = Request(
            http.method,
            http.path,
            dict(http.query),
            {name.lower(): value for name, value in http.headers.items()},
            await http.read(),
            time.monotonic(),
        )
        self.requests.append(request)
        own = self._scripts.get(None, [])
        script = own if self._scripts.keys() <= {None} else self._scripts.get(request.model, own)
        answer = (script.pop(0) if len(script) > 1 else script[0]) if script else Ok()
        try:
            return await answer.reply(request, http)  # type: ignore[arg-type]
        except ConnectionError:
            return web.Response()  # the client has gone
