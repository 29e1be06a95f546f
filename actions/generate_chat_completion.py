"""Generate a chat completion from a model of any provider, through LiteLLM: one call, one request."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections.abc import Iterator, Mapping
from typing import Any

from weft.sdk import ActionContext, ActionError, Json, JsonObject, Variant

from . import _litellm
from ._chat_answer import attempts_of, cost_of, output_of
from ._chat_arguments import Arguments, check, check_complete
from ._chat_errors import Call, Kind
from ._chat_request import Route, body
from ._chat_send import Request
from ._providers import CHAT_PROVIDERS

__all__ = ["Arguments", "Kind", "attempts", "check", "generate_chat_completion", "warm"]


def warm() -> None:
    """Import LiteLLM ahead of the first call; safe in any thread, and free when it is done."""
    _litellm.load()


def attempts(arguments: Mapping[str, Json]) -> list[Variant]:
    """Return the chain of calls: the step's model and then its fallbacks, each `1 + num_retries` times.

    Of the patterns in Fallbacks the best match counts: an exact name before the longest glob before `*`. Models that
    stand there without a pattern come after those. A fallback has no fallbacks of its own.
    """
    provider, model = arguments.get("provider"), arguments.get("model")
    if not isinstance(provider, str) or not isinstance(model, str):
        return []
    retries = arguments.get("num_retries")
    tries = 1 + (retries if isinstance(retries, int) else 0)
    chain: dict[str, Variant] = {}
    for to, name in ((provider, model), *_fallbacks(arguments.get("fallbacks"), provider, model)):
        replaced: JsonObject = {"provider": to, "model": name}
        if to != provider:  # an address belongs to the provider that it was given for
            replaced |= {key: None for key in ("api_base", "api_version") if arguments.get(key) is not None}
        variant = Variant(f"{to}/{name}", tries, replaced, to)
        chain.setdefault(variant.name, variant)
    return list(chain.values())


def _fallbacks(fallbacks: Json, provider: str, model: str) -> Iterator[tuple[str, str]]:
    """Yield provider and model of each fallback; one without a provider, by LiteLLM's names, is of the same."""
    best: tuple[tuple[int, int], list[Any]] = ((0, 0), [])
    plain = []
    for item in fallbacks if isinstance(fallbacks, list) else ():
        if isinstance(item, str):
            plain.append(item)
        elif isinstance(item, dict):
            for pattern, targets in item.items():
                rank = _rank(pattern, provider, model)
                if rank > best[0] and isinstance(targets, list):
                    best = (rank, targets)
    for target in (*map(str, best[1]), *plain):
        own, _, rest = target.partition("/")
        yield (own, rest) if rest and own in CHAT_PROVIDERS else (provider, target)


def _rank(pattern: str, provider: str, model: str) -> tuple[int, int]:
    names = (f"{provider}/{model}", model)
    if pattern in names:
        return 3, len(pattern)
    if pattern == "*":
        return 1, 0
    return (2, len(pattern)) if any(fnmatch.fnmatchcase(name, pattern) for name in names) else (0, 0)


async def generate_chat_completion(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Send the conversation once and return the completion, with what Weft adds under `weft`.

    Tokens are shown while they come when somebody watches; what is returned is the same either way.

    Raises:
        ActionError: Of a kind in `_chat_errors.Kind`.
    """
    connection = context.connection
    if connection is None:
        raise ActionError("Generate Chat Completion needs a connection.", kind="connection_missing", effect="none")
    call = Call(f"{arguments.provider}/{arguments.model}", connection.name)
    route = Route(arguments.provider, arguments.api_base, connection, call)
    given, extra = _body(arguments, call)
    limit_s = min(context.remaining_s(), float(connection.get("request_timeout_s", 300)))
    started = time.monotonic()
    exchange = _litellm.Exchange(
        max_bytes=int(float(connection.get("max_response_mb", 10)) * 1_000_000),
        host=route.host,
        organization=connection.get("organization"),
    )
    failure: ActionError | None = None
    try:
        async with asyncio.timeout(limit_s):
            await _litellm.loaded()
            request = Request(arguments, connection, call, route, given, extra, exchange)
            request.refit()
            response = await request.answer(context)
    except TimeoutError:
        failure = call.fail(Kind.TIMEOUT, status=exchange.status)
    if failure is not None:
        raise failure
    output, outcome = output_of(response, call)
    ms = round((time.monotonic() - started) * 1000)
    cost = cost_of(response, arguments.provider, arguments.model, public=route.public)
    output["weft"] = {
        "provider": arguments.provider,
        "model": arguments.model,
        "outcome": outcome,
        "attempts": attempts_of(context.previous, call.target, exchange.status, ms),
        "cost": cost,
        "dropped_parameters": list(request.dropped),
    }
    context.log("completion received", model=call.target, ms=ms, outcome=outcome, metadata=arguments.metadata or {})
    return output


def _body(arguments: Arguments, call: Call) -> tuple[JsonObject, JsonObject]:
    """Return the body's members; what `check` would refuse is refused here as well."""
    values = {name: value for name, value in arguments if value is not None}
    problems = (problem for problem in check(values) if problem.severity == "error")
    if (problem := next(problems, None)) is None:
        given, extra = body(values)
        problem = next(check_complete(given), None)
        if problem is None:
            return given, extra
    raise call.unsent(Kind.INVALID_REQUEST, problem.message, problem.remedy or "Correct it.")
