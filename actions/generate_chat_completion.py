"""Generate a chat completion from a model of any provider, through LiteLLM: one call, one request."""

from __future__ import annotations

import asyncio
import time

from weft.sdk import ActionContext, ActionError, Attempt, JsonObject

from . import _litellm
from ._chat_answer import output_of, usage_of
from ._chat_arguments import Arguments, check, check_complete, rules
from ._chat_chain import attempts, is_fallback
from ._chat_errors import Call, Kind
from ._chat_estimate import estimate, usage
from ._chat_record import earlier, price, price_of_failure, tokens, total
from ._chat_request import body
from ._chat_route import Route
from ._chat_schema import mismatch
from ._chat_send import Request

__all__ = ["Arguments", "Kind", "attempts", "check", "estimate", "generate_chat_completion", "usage", "warm"]


def warm() -> None:
    """Import LiteLLM ahead of the first call; safe in any thread, and free when it is done."""
    _litellm.load()


async def generate_chat_completion(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Send the conversation once and return the completion, with what Weft adds under `weft`.

    Tokens are shown while they come when somebody watches; what is returned is the same either way.

    Raises:
        ActionError: Of a kind in `_chat_errors.Kind`; its details say what the attempt cost and what was left out.
    """
    connection = context.connection
    if connection is None:
        raise ActionError("Generate Chat Completion needs a connection.", kind="connection_missing", effect="none")
    call = Call(f"{arguments.provider}/{arguments.model}", connection.name)
    given, extra = _body(arguments, call)
    route = Route(arguments.provider, arguments.api_base, connection, context.catalogue, call)
    exchange = _litellm.Exchange(
        max_bytes=int(float(connection.get("max_response_mb", 10)) * 1_000_000),
        host=route.host,
        organization=connection.get("organization"),
    )
    fallback = is_fallback(context.variant)
    request = Request(arguments, connection, call, route, given, extra, exchange, context.catalogue, fallback)
    try:
        output, outcome, ms = await _answered(request, context)
    except ActionError as error:
        failure = error
    else:
        output["weft"] = _weft(request, context, output, outcome, ms)
        context.log("completion received", model=call.target, ms=ms, outcome=outcome, metadata=arguments.metadata or {})
        return output
    failure.details |= _spent(request)
    raise failure


async def _answered(request: Request, context: ActionContext) -> tuple[JsonObject, str, int]:
    """Send the request within the time there is; return the completion, how it ended, and its milliseconds."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(context.remaining_s()):
            await _litellm.loaded()  # seconds of CPU the first time, which are not the request's
        limit_s = min(context.remaining_s(), float(request.connection.get("request_timeout_s", 300)))
        started = time.monotonic()
        async with asyncio.timeout(limit_s):
            request.refit()
            response = await request.answer(context)
    except TimeoutError:
        response = None
    if response is None:
        raise request.call.fail(Kind.TIMEOUT, status=request.exchange.status)
    request.usage = usage_of(response)
    output, outcome = output_of(response, request.call)
    if fault := mismatch(output, request.given.get("response_format")):
        raise request.call.fail(Kind.SCHEMA_MISMATCH, status=request.exchange.status, detail=fault)
    return output, outcome, round((time.monotonic() - started) * 1000)


def _spent(request: Request) -> JsonObject:
    """Return what a failed attempt took, for the record of the chain."""
    arguments, usage = request.arguments, request.usage
    if usage is None:
        cost = price_of_failure(request.exchange, request.catalogue, arguments.provider, arguments.model)
    else:
        cost = price(usage, request.catalogue, arguments.provider, arguments.model, public=request.route.public)
    counted = tokens(usage)
    return {"cost": cost, "dropped_parameters": [*request.dropped], **({"usage": {**counted}} if counted else {})}


def _weft(request: Request, context: ActionContext, output: JsonObject, outcome: str, ms: int) -> JsonObject:
    target = request.call.target
    number = 1 + sum(attempt.variant == target for attempt in context.previous)
    this = Attempt(target, number, "ok", request.exchange.status, ms, 0.0, _spent(request))
    made = [earlier(attempt) for attempt in (*context.previous, this)]
    return {
        "provider": request.arguments.provider,
        "model": request.arguments.model,
        "outcome": outcome,
        "attempts": list(made),
        "cost": total(made, "cost"),
        "tokens": total(made, "tokens"),
        "dropped_parameters": [*request.dropped],
    }


def _body(arguments: Arguments, call: Call) -> tuple[JsonObject, JsonObject]:
    """Return the body's members; what `check` would refuse is refused here as well."""
    values = {name: value for name, value in arguments if value is not None}
    problems = (problem for problem in rules(values) if problem.severity == "error")
    if (problem := next(problems, None)) is None:
        given, extra = body(values)
        problem = next(check_complete(given), None)
        if problem is None:
            return given, extra
    raise call.unsent(Kind.INVALID_REQUEST, problem.message, problem.remedy or "Correct it.")
