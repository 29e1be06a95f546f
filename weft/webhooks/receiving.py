"""What becomes of a request: a run that is durable before the answer says so, or a refusal that tells nothing inside."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from weft import expressions
from weft.engine.results import RunFacts
from weft.errors import (
    ExpressionError,
    InvalidInputs,
    JournalRefused,
    JournalUnavailable,
    NotFound,
    StateUnavailable,
)
from weft.runtime import Runtime
from weft.starting import Started, start_once, started_before
from weft.triggers import trigger_run_id
from weft.types import Json, JsonObject, Scope
from weft.webhooks import seen
from weft.webhooks.hooks import AGAIN_S, Hook, Hooks, signed_by
from weft.webhooks.messages import Greeting, Message, greeting, message_of, nameless
from weft.webhooks.reading import body_of, once
from weft.webhooks.requests import Refused, Request
from weft.webhooks.styles import Signed, fingerprint
from weft.webhooks.waiting import end_of
from weft.workflow import seconds

KIND: Final = "webhook"
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, `traceparent`
_LOG = logging.getLogger("weft.webhooks")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender is told."""

    status: int
    content: str
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


async def receive(hooks: Hooks, path: str, request: Request) -> Answer:
    """Take a request whose size and rate were judged already.

    Raises:
        Refused: It is not taken; the text is for the sender.
    """
    runtime = hooks.runtime
    hook: Hook | None = None
    try:
        hook = await hooks.at(path, request.at)
        signed = await signed_by(runtime, hook, request)
        data = body_of(request.headers, request.body)
        found = greeting(hook.webhook.style, request.headers, data)
        if isinstance(found, Greeting):
            _LOG.info("webhook_greeted %s", hook.told)
            return Answer(200, found.content, found.content_type)
        return await _run(runtime, hook, request, signed, data)
    except (JournalUnavailable, StateUnavailable) as error:
        _LOG.warning("webhook_failed %s %s", hook.told if hook else "unknown", error.problem.code)
        raise Refused(503, "unavailable", "The request cannot be kept now.", retry_after_s=AGAIN_S) from None


# ---- the run
async def _run(runtime: Runtime, hook: Hook, request: Request, signed: Signed, data: Json) -> Answer:
    message = message_of(hook.webhook.style, signed, data, request.body)
    run_id = trigger_run_id(KIND, hook.workflow, hook.webhook.name, await _key(runtime, hook, message, signed, request))
    trigger = _trigger(hook, message, request, data)
    try:
        started = await _started(runtime, hook, run_id, trigger, message)
    except JournalRefused as refused:
        return _kept_out(hook, refused)
    _LOG.info("webhook_accepted %s %s %s", hook.told, run_id, "new" if started.is_new else "again")
    if hook.webhook.synchronous:
        return await _ended(runtime, hook, started)
    return _accepted(started)


async def _key(runtime: Runtime, hook: Hook, message: Message, signed: Signed, request: Request) -> str:
    """Return what the run's id follows from; the author's window counts where the sender has proved no id."""
    window = hook.webhook.window
    if window is not None and not (message.id is not None and message.is_proved):
        state, body = await runtime.opened_state(), fingerprint(request.body)
        at = await seen.first_of(state, hook.workflow, hook.webhook.name, body, seconds(window))
        return f"body:{body}:{at!r}"
    return message.key(signed, request.body) or nameless()


async def _started(runtime: Runtime, hook: Hook, run_id: str, trigger: JsonObject, message: Message) -> Started:
    try:
        inputs = _inputs(runtime, hook, run_id, trigger, (await runtime.opened()).now())
    except (InvalidInputs, ExpressionError) as error:
        known = await started_before(runtime, run_id, hook.workflow, message.digest)
        if known is not None:  # the workflow has changed since; the message is still the one that it was
            return known
        _LOG.warning("webhook_unfit %s %s", hook.told, error.problem)
        raise Refused(422, "unfit", "The message does not fit what the workflow takes.") from None
    try:
        return await start_once(runtime, hook.planned, inputs, run_id=run_id, trigger=trigger, digest=message.digest)
    except NotFound as missing:
        _LOG.warning("webhook_failed %s %s", hook.told, missing.problem)
        raise Refused(503, "unready", "The workflow cannot run now.", retry_after_s=AGAIN_S) from None


def _inputs(runtime: Runtime, hook: Hook, run_id: str, trigger: JsonObject, now: float) -> JsonObject:
    scope = RunFacts(run_id, now, {}, trigger).scope(hook.planned.workflow.variables)
    given = {name: _rendered(value, scope) for name, value in hook.webhook.inputs.items()}
    return runtime.inputs(hook.planned, given)


def _rendered(value: Json, scope: Scope) -> Json:
    match value:
        case str() if expressions.has_expression(value):
            return expressions.compile(value).render(scope)
        case dict():
            return {key: _rendered(item, scope) for key, item in value.items()}
        case list():
            return [_rendered(item, scope) for item in value]
        case _:
            return value


def _trigger(hook: Hook, message: Message, request: Request, data: Json) -> JsonObject:
    """Return the request as expressions see it."""
    trigger: JsonObject = {
        "type": KIND,
        "webhook": hook.webhook.name,
        "style": hook.webhook.style,
        "id": message.id,
        "method": "POST",
        "headers": dict(request.headers.shown(hook.webhook.headers)),
        "query": dict(once(request.query)),
        "body": data,
        "received_at": datetime.fromtimestamp(request.at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
    }
    trace = request.headers.one("traceparent")
    if trace is not None and _TRACE.fullmatch(trace):
        trigger["traceparent"] = trace
    return trigger


# ---- answers
def _accepted(started: Started) -> Answer:
    told = json.dumps({"run_id": started.run_id})
    return Answer(202 if started.is_new else 200, told, headers={"Weft-Run": started.run_id})


async def _ended(runtime: Runtime, hook: Hook, started: Started) -> Answer:
    """Return the outputs of a run when it has ended in time, else its id."""
    try:
        ended = await end_of(await runtime.opened(), started.run_id, seconds(hook.webhook.timeout))
    except NotFound:  # it was removed long ago
        return _accepted(started)
    if ended is None:
        return Answer(202, json.dumps({"run_id": started.run_id}), headers={"Weft-Run": started.run_id})
    state = ended.status.state
    if state != "succeeded":
        raise Refused(500, f"run_{state}", f"The run was started, and has {_HOW[state]}.", run_id=started.run_id)
    outputs = json.loads(ended.status.result or "{}").get("outputs")
    return Answer(200, json.dumps(runtime.redactor.value(outputs)), headers={"Weft-Run": started.run_id})


_HOW: Final = {"failed": "failed", "cancelled": "been cancelled"}


def _kept_out(hook: Hook, refused: JournalRefused) -> Answer:
    """Return the answer where the journal has not taken a run."""
    match refused.problem.code:
        case "at_the_limit":  # the author says that one more is left out, so nobody is to send it again
            _LOG.info("webhook_skipped %s", hook.told)
            return Answer(200, json.dumps({"run_id": None, "skipped": "at_the_limit"}))
        case "other_request":
            raise Refused(409, "other_request", "The same id came before with another content.") from None
        case "queue_full":
            raise Refused(503, "queue_full", "Too many runs wait already.", retry_after_s=AGAIN_S) from None
        case _:
            raise refused
