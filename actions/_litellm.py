"""LiteLLM, imported late and quietly, and each of its HTTP exchanges under our rules.

LiteLLM builds every asynchronous HTTP client on one transport. Ours stands around it and holds what LiteLLM does not:
one request a call, no redirect, no other host than the one meant, a limit to what is read. It also keeps the facts of
the exchange, so that an error is judged by status, headers and body as they came, not by what became of them since.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import logging
import os
import sys
import threading
import types
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp
import httpx

_ENVIRONMENT: Final = {
    "LITELLM_MODE": "PRODUCTION",  # else a `.env` found above site-packages is read into our process
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else prices are fetched from the network during the import
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_OFFLINE_MODE": "true",
}
_LOGGERS: Final = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_ORGANISATION_HEADERS: Final = ("openai-organization", "openai-project")
_ADVERTISING: Final = {"http-referer": "https://litellm.ai", "x-title": "liteLLM"}
"""What LiteLLM says of itself to OpenRouter, which would list it as the site that asks."""
_BASE_VARIABLES: Final = ("_API_BASE", "_BASE_URL", "_ENDPOINT")

_READERS: Final = (
    "litellm.secret_managers.main",  # most of LiteLLM asks here
    "litellm.llms.azure.common_utils",
    "litellm.llms.bedrock.base_aws_llm",
    "litellm.llms.databricks.common_utils",
    "litellm.llms.gdc.chat.transformation",
    "litellm.llms.huggingface.common_utils",
    "litellm.llms.oci.common_utils",
    "litellm.llms.openai.common_utils",
    "litellm.llms.predibase.chat.transformation",
    "litellm.llms.sap.credentials",
    "openai._client",
    "openai.lib.azure",
)
"""Modules that look for keys, accounts and addresses in the environment; a test sees that none is missing here."""

_lock = threading.Lock()
_loaded: Any = None


def load() -> Any:
    """Import LiteLLM once, in several seconds of CPU the first time, and return it; safe in any thread."""
    global _loaded  # noqa: PLW0603  # one import, one process
    with _lock:
        if _loaded is None:
            _loaded = _import()
        return _loaded


async def loaded() -> Any:
    """Return LiteLLM; the first call imports it in a thread."""
    return _loaded or await asyncio.to_thread(load)


def _import() -> Any:
    os.environ.update(_ENVIRONMENT)
    for name in _LOGGERS:  # they carry prompts and write to stderr by a handler of their own
        logging.getLogger(name).disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litellm: Any = importlib.import_module("litellm")
        http: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler")
        for model in (litellm.Message, litellm.types.utils.Delta):
            model.model_rebuild()  # else at first use, with a warning
    for name in _LOGGERS:
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    logging.getLogger("openai").setLevel(logging.WARNING)  # at DEBUG it shows prompts
    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True  # it would fetch one to count tokens, while everything else waits
    litellm.disable_stop_sequence_limit = True  # it would cut a list of stops to four and say nothing
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize  # a text may well repeat itself
    build = http.AsyncHTTPHandler._create_async_transport
    http.AsyncHTTPHandler._create_async_transport = staticmethod(
        lambda ssl_context=None, ssl_verify=None, shared_session=None: _Guarded(lambda: build(ssl_context, ssl_verify))
    )
    logged = importlib.import_module("litellm.litellm_core_utils.litellm_logging").Logging
    for name in ("success_handler", "failure_handler"):  # nobody listens, and for Ollama it is one more request
        setattr(logged, name, _not_logged)
        setattr(logged, f"async_{name}", _not_logged_later)
    utils: Any = importlib.import_module("litellm.utils")
    utils._dispatch_success_logging = _not_logged  # it would make a task for each call, to log it for nobody
    logged._response_cost_calculator = _not_logged  # what an answer costs is ours to say, by the catalogue
    completions: Any = importlib.import_module("openai.resources.chat.completions.completions")
    completions.async_maybe_transform = _as_given
    for name in _READERS:
        importlib.import_module(name).os = _OsWithoutEnvironment("os")  # type: ignore[attr-defined]
    litellm.in_memory_llm_clients_cache.flush_cache()  # a client made before this would go without our rules
    gc.freeze()  # nothing of all this is ever garbage
    return litellm


def _not_logged(*args: Any, **kwargs: Any) -> None:
    """Do nothing where LiteLLM would tell its callbacks of a call, or say what it cost."""


async def _not_logged_later(*args: Any, **kwargs: Any) -> None:
    """Do nothing where LiteLLM would tell its callbacks of a call."""


async def _as_given(body: Mapping[str, Any], kind: object) -> dict[str, Any]:
    """Return the members of a body that are given, as they are: JSON, under the names of the interface already.

    OpenAI's library would look for other names and for dates in all of its types, a fifteenth of what a call costs; the
    types of a chat have none, which a test sees.
    """
    openai: Any = sys.modules["openai"]
    return {name: value for name, value in body.items() if not isinstance(value, openai.Omit | openai.NotGiven)}


class _OsWithoutEnvironment(types.ModuleType):
    """The module `os` as LiteLLM sees it: what a connection does not give is not there, whatever the environment has."""

    environ: Final[dict[str, str]] = {}

    @staticmethod
    def getenv(name: str, default: str | None = None) -> str | None:
        return default

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


Fault = Literal[
    "certificate",
    "connect",
    "encoded",
    "foreign_host",
    "lost",
    "redirect",
    "second_request",
    "timeout",
    "too_large",
]


@dataclass
class Exchange:
    """What one call may send, and what came of it."""

    max_bytes: int
    host: str | None  #: the only host that the request may go to; None: LiteLLM's own choice for the provider
    organization: str | None = None
    watch: Callable[[bytes], None] | None = None  #: sees each part of a stream of events before LiteLLM does
    requests: int = 0
    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: bytearray = field(default_factory=bytearray)  #: as received; not kept of a stream that is watched
    received: int = 0
    fault: Fault | None = None
    finished: bool = False  #: the body came to its regular end

    def stop(self, fault: Fault) -> httpx.TransportError:
        self.fault = self.fault or fault  # what came first is why the rest came
        return httpx.TransportError(f"stopped by Weft: {fault}")


exchange: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("exchange", default=None)


class _Guarded(httpx.AsyncBaseTransport):
    """LiteLLM's transport, shared by all its clients of a loop, with the rules of the current exchange around it."""

    def __init__(self, build: Callable[[], httpx.AsyncBaseTransport | None]) -> None:
        self._build = build

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        inner = await _transport(self._build)
        current = exchange.get()
        if current is None:
            return await inner.handle_async_request(request)
        _prepare(current, request)
        try:
            response = await inner.handle_async_request(request)
        except httpx.TransportError as error:
            current.fault = _fault(error)
            raise
        current.status, current.headers = response.status_code, response.headers
        if response.is_redirect:
            await response.aclose()
            raise current.stop("redirect")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()  # we asked for none; what it would unpack to is anybody's guess
            raise current.stop("encoded")
        response.stream = _Measured(response.stream, current)
        return response


def _prepare(current: Exchange, request: httpx.Request) -> None:
    current.requests += 1
    if current.requests > 1:
        raise current.stop("second_request")
    host = request.url.host
    if host != current.host if current.host else host in _hosts_of_environment():
        raise current.stop("foreign_host")
    request.headers["accept-encoding"] = "identity"
    for name in _ORGANISATION_HEADERS:  # the SDK takes them from the environment
        if request.headers.get(name) != current.organization:
            request.headers.pop(name, None)
    for name, theirs in _ADVERTISING.items():
        if request.headers.get(name) == theirs:
            request.headers.pop(name, None)


def _hosts_of_environment() -> set[str]:
    """Hosts to which variables of the environment would send LiteLLM, with a key that is not meant for them."""
    found = (value for name, value in os.environ.items() if name.endswith(_BASE_VARIABLES))
    return {httpx.URL(value).host for value in found if value.startswith(("http://", "https://"))}


def _fault(error: httpx.TransportError) -> Fault:
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientSSLError):
        return "certificate"
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    return "connect" if isinstance(cause, aiohttp.ClientConnectorError) else "lost"


class _Measured(httpx.AsyncByteStream):
    """A response's body, kept and measured while it is read."""

    def __init__(self, inner: Any, current: Exchange) -> None:
        self._inner = inner
        self._exchange = current

    async def __aiter__(self) -> AsyncIterator[bytes]:
        current = self._exchange
        watched = current.watch and current.headers.get("content-type", "").startswith("text/event-stream")
        try:
            async for part in self._inner:
                current.received += len(part)
                if current.received > current.max_bytes:
                    raise current.stop("too_large")
                if watched and current.watch:
                    current.watch(part)
                else:
                    current.body += part
                yield part
            current.finished = True
        except httpx.TransportError as error:
            current.fault = current.fault or _fault(error)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


_transports: dict[
    asyncio.AbstractEventLoop, tuple[httpx.AsyncBaseTransport, AsyncGenerator[httpx.AsyncBaseTransport]]
] = {}


async def _transport(build: Callable[[], httpx.AsyncBaseTransport | None]) -> httpx.AsyncBaseTransport:
    """Return the one transport of the running loop, which closes together with it."""
    loop = asyncio.get_running_loop()
    if loop not in _transports:
        keeper = _keep(loop, build() or httpx.AsyncHTTPTransport())
        _transports[loop] = await anext(keeper), keeper
    return _transports[loop][0]


async def _keep(
    loop: asyncio.AbstractEventLoop, transport: httpx.AsyncBaseTransport
) -> AsyncGenerator[httpx.AsyncBaseTransport]:
    try:  # a loop closes the generators it has started before it ends: `loop.shutdown_asyncgens()`
        yield transport
    finally:
        _transports.pop(loop, None)
        await transport.aclose()
