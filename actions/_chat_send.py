"""One request to a model: fitted to it, sent once, its answer taken whole or as a stream."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, field
from typing import Any, Final

from weft.sdk import ActionContext, ActionError, Catalogue, Connection, JsonObject

from . import _litellm
from ._chat_answer import response_of, sum_of, translated, whole
from ._chat_arguments import Arguments
from ._chat_errors import Call, Kind
from ._chat_fit import NEEDS, controls, keywords, refused, supported, unfit
from ._chat_route import Route
from ._chat_stream import Chunks, Events


@dataclass
class Request:
    """One request to a model."""

    arguments: Arguments
    connection: Connection
    call: Call
    route: Route
    given: JsonObject
    extra: JsonObject
    exchange: _litellm.Exchange
    catalogue: Catalogue
    fallback: bool = False  #: not the author's first choice, so it need not take everything
    dropped: list[str] = field(default_factory=list)
    usage: JsonObject | None = None  #: of the answer, when the provider counted

    @property
    def provider(self) -> str:
        return self.arguments.provider

    @property
    def model(self) -> str:
        return self.arguments.model

    def refit(self) -> None:
        """Leave out what the model does not take, or refuse it, as the connection says; a fallback does without it."""
        if not self.catalogue.has(self.provider) and self.provider not in _litellm.load().provider_list:
            raise self.call.unsent(
                Kind.INVALID_REQUEST,
                f"There is no provider {self.provider!r}.",
                "Correct Provider; a server that speaks OpenAI's protocol is `openai`, with its address as API Base.",
            )
        if forbidden := controls(self.extra):
            raise self.call.unsent(
                Kind.INVALID_REQUEST,
                f"{forbidden[0]!r} cannot be set in Additional Parameters.",
                "It steers LiteLLM and is no member of the request's body.",
            )
        self._leave_out(unfit(self.catalogue, self.provider, self.model, self.given))

    def _leave_out(self, names: list[str]) -> None:
        if not names:
            return
        if not self.fallback and self.connection.get("unsupported_parameters") != "drop":
            listed = ", ".join(repr(name) for name in dict.fromkeys(names))
            raise self.call.unsent(
                Kind.UNSUPPORTED_PARAMETER,
                f"Model {self.model!r} of provider {self.provider!r} does not take {listed}.",
                f"Remove it, or set unsupported_parameters: drop in connection {self.connection.name!r}.",
            )
        for name in names:
            for each in (name, *NEEDS.get(name, ())):
                if self.given.pop(each, None) is not None:
                    self.dropped.append(each)

    async def answer(self, context: ActionContext) -> Any:
        """Send the request and return LiteLLM's response."""
        token = _litellm.exchange.set(self.exchange)
        litellm = _litellm.load()
        try:
            try:
                return await self._send(context)
            except litellm.UnsupportedParamsError:
                names = list(refused(self.provider, self.model, self.given))
                if self.exchange.requests or not names:
                    raise
                self._leave_out(names)
                return await self._send(context)
        except ActionError:
            raise
        except Exception as error:  # noqa: BLE001  LiteLLM raises whatever it comes by; the exchange has the facts
            response, failure = self._as_it_came(), self._failure(error)
        finally:
            _litellm.exchange.reset(token)
        if response is None:
            raise failure
        self._show(response, context)
        return response

    def _as_it_came(self) -> Any:
        """Return a completion in OpenAI's shape that LiteLLM stumbles over, as over one of groq's without a tier."""
        came = self.exchange.status == 200 and self.exchange.finished and not self.exchange.fault
        answer = whole(self.exchange) if came else None
        if not answer or not answer["choices"] or answer.get("error"):
            return None
        try:
            return response_of(answer)
        except Exception:  # noqa: BLE001  it is none after all, and the failure that led here is told
            return None

    def _failure(self, error: Exception) -> ActionError:
        package = None if self.exchange.requests else _missing_package(error)
        if package is None:
            return self.call.from_exchange(self.exchange, error.told if isinstance(error, _StreamBroken) else None)
        return self.call.unsent(
            Kind.MISSING_PACKAGE,
            f"Provider {self.provider!r} needs a library that is not installed here.",
            f"Install it with: pip install {package}",
        )

    async def _send(self, context: ActionContext) -> Any:
        listed = supported(self.provider, self.model)
        if context.watched and self._can_stream(listed):
            return await self._stream(context, listed)
        response = await self._complete()
        if whole(self.exchange) is None:
            response = translated(response)
        self._show(response, context)
        return response

    def _show(self, response: Any, context: ActionContext) -> None:
        """Show the first choice's text to whoever watches: all at once is better than nothing."""
        for choice in response.choices[:1] if context.watched else ():
            context.emit(choice.message.content or "")

    def _can_stream(self, listed: frozenset[str] | None) -> bool:
        if listed is not None and "stream" not in listed:
            return False
        several = isinstance(n := self.given.get("n"), int) and n > 1
        return not (several and not self._speaks_openai()) and not self._format_is_emulated()

    def _format_is_emulated(self) -> bool:
        """Whether LiteLLM makes the wanted format out of something else, which it does not do alike for a stream."""
        if "response_format" not in self.given:
            return False
        mapped = _litellm.load().get_optional_params(
            model=self.model,
            custom_llm_provider=self.provider,
            response_format=copy.deepcopy(self.given["response_format"]),
        )
        return not mapped.keys().isdisjoint({"fake_stream", "json_mode"})

    def _speaks_openai(self) -> bool:
        litellm = _litellm.load()
        return self.provider in {"openai", "azure"} or self.provider in litellm.openai_compatible_providers

    async def _complete(self, **stream: Any) -> Any:
        litellm = _litellm.load()
        return await litellm.acompletion(
            model=self.model,
            custom_llm_provider=self.provider,
            messages=copy.deepcopy(self.arguments.messages),
            api_base=self.route.base,
            timeout=float(self.connection.get("request_timeout_s", 300)),  # the same each time: clients are kept by it
            num_retries=0,
            max_retries=0,
            **self.route.credentials,
            **self._further(),
            **keywords(self.catalogue, self.given, self.extra, self.provider, self.model),
            **stream,
        )

    def _further(self) -> dict[str, Any]:
        """Return what only some providers have, and what keeps LiteLLM from going elsewhere."""
        found: dict[str, Any] = {}
        if self.provider.startswith("azure"):
            found["api_version"] = self.arguments.api_version or self.connection.get("api_version")
        if own := self.connection.get("organization"):
            found["organization"] = own
        if not self.route.public:  # a server that is not OpenAI's may well lack /v1/responses
            found["_skip_responses_api_bridge"] = True
        return found

    async def _stream(self, context: ActionContext, listed: frozenset[str] | None) -> Any:
        """Send the request, show the first choice's text as it comes, and return the sum of the stream."""
        events = Events()
        self.exchange.watch = events.feed
        usage = {"stream_options": {"include_usage": True}} if listed and "stream_options" in listed else {}
        stream = await self._complete(stream=True, **usage)
        chunks, stream.chunks = Chunks(), Chunks()  # ours, and LiteLLM's own of the same stream
        try:
            async with contextlib.aclosing(stream):
                async for chunk in stream:
                    shown = events.tokens() if events.openai else _text(chunk)
                    for text in shown:
                        context.emit(text)
                    if not events.openai:
                        chunks.append(chunk)
        except Exception:
            if events.error is None:
                raise
        if events.broken:
            if events.error is None and _ends_by_closing(self.exchange):
                self.exchange.fault = "lost"  # nothing else told the end from a break
            raise _StreamBroken(events.error or {})
        answer = events.answer() or whole(self.exchange)
        if answer is not None:
            return response_of(answer)
        said = events.seen or any(map(_says, chunks))
        if not said or (self.exchange.requests and self._speaks_openai()):
            raise _StreamBroken({})  # nothing came, though LiteLLM makes an end to it
        return translated(sum_of(chunks.whole(), self.arguments.messages))


class _StreamBroken(Exception):
    """A stream ended with an error, or too early."""

    def __init__(self, told: JsonObject) -> None:
        self.told = told


def _ends_by_closing(exchange: _litellm.Exchange) -> bool:
    """Whether the closing of the connection is what ends the body (RFC 9112 §6.3, rule 8)."""
    return exchange.status is not None and not {"content-length", "transfer-encoding"} & exchange.headers.keys()


def _text(chunk: Any) -> list[str]:
    """Return what a chunk adds to the first choice's text."""
    if not chunk.choices or chunk.choices[0].index != 0:
        return []
    text = chunk.choices[0].delta.content
    return [text] if text else []


def _says(chunk: Any) -> bool:
    return any(choice.delta.content or choice.delta.tool_calls for choice in chunk.choices)


_PACKAGES: Final = {"google": "google-auth", "vertexai": "google-cloud-aiplatform", "azure": "azure-identity"}
"""Packages by the modules that LiteLLM imports from them, where the two have different names."""


def _missing_package(error: BaseException | None) -> str | None:
    """Return the package whose absence an error comes from, if it does."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__ or error.__context__
    module = error.name.partition(".")[0] if isinstance(error, ImportError) and error.name else None
    return _PACKAGES.get(module, module) if module else None
