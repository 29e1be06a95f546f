"""One step, one attempt: render ▶ validate ▶ call ▶ validate ▶ outcome.

`prepare` is pure, so that a replay computes the same call; `Executor.perform` makes the call. Connections, clock and
artifacts are arguments: nothing here knows where they come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import math
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeGuard
from weakref import WeakKeyDictionary

from weft import arguments, wording
from weft.errors import (
    ActionError,
    ConnectionUnusable,
    Effect,
    InvalidArguments,
    Problem,
    StepTimeout,
    WeftError,
    Where,
)
from weft.outcome import Failure, Outcome, encode, request_hash
from weft.plan import PlannedStep, render
from weft.plan.hooks import own_problems, variants
from weft.redaction import Pieces, Redactor
from weft.registry import Action
from weft.sdk import ActionContext, Artifacts, Attempt, Connection, Variant
from weft.types import Json, JsonObject, Scope
from weft.values import ValueCheck

LONGEST_ATTEMPT_S = 900.0
"""An attempt's limit when neither the step nor the action says less."""

LARGEST_OUTPUT = 10_000_000
"""Characters of JSON that an output may have."""

LONGEST_WAIT_ASKED_S = 366 * 86_400.0
"""A longer wait that the other side asks for counts as this one."""

LARGEST_DETAILS = 100_000
"""Characters of JSON that the details of a failure may have; larger ones are left out."""

LONGEST_MESSAGE = 4_000
"""Characters of a failure's message and remedy, each."""

_THREAD_LEFT = {"max_tries": 1, "fallback": False}
"""Details of a timeout that leaves a thread behind: nothing may be tried beside it, for the work could be done twice."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step's arguments, checked, and the chain of calls to try with them."""

    arguments: JsonObject
    variants: tuple[Variant, ...]


def prepare(step: PlannedStep, scope: Scope) -> Prepared:
    """Render the step's arguments over `scope` and check them by the manifest and by the action itself.

    Raises:
        ExpressionError: A template in them cannot be evaluated.
        InvalidArguments: They break a rule; all broken rules are told.
        PackError: The action's own rules are broken.
    """
    action = _action_of(step)
    given = {name: render(value, scope) for name, value in step.arguments.items()}
    parameters = action.manifest.all_parameters
    _refuse(step, arguments.check(parameters, given))
    complete = arguments.with_defaults(parameters, given)
    _refuse(step, own_problems(action, complete, step.known))
    return Prepared(complete, variants(action, complete, step.known))


def _output_check(action: Action) -> ValueCheck:
    """Return the compiled check of the action's output schema; compiled once for each action."""
    check = _OUTPUT_CHECKS.get(action)
    if check is None:
        check = _OUTPUT_CHECKS[action] = ValueCheck(action.manifest.output.json_schema)
    return check


_OUTPUT_CHECKS: WeakKeyDictionary[Action, ValueCheck] = WeakKeyDictionary()


def _action_of(step: PlannedStep) -> Action:
    if step.action is None:
        raise InvalidArguments(f"Step {step.name!r} has no action.")
    return step.action


def _refuse(step: PlannedStep, problems: list[Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise InvalidArguments(problems=[_placed(step, problem) for problem in errors])


def _placed(step: PlannedStep, problem: Problem) -> Problem:
    """The problem of an argument at the place where the step gives it, or else of the step."""
    named = problem.where.field
    path = wording.path_of(named or "")
    where = Where(step=step.name, field=f"with.{named}" if named else "with")
    given = path[:1] and path[0] in step.arguments
    place = step.source.where((*step.at, "with", *path)) if given else step.where()
    return replace(problem, where=where.within(place))


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt to make."""

    run_id: str
    path: str
    number: int  #: from 1, over the whole chain
    step: PlannedStep
    arguments: JsonObject
    variant: Variant
    run_started_at: float
    idempotency_key: str
    step_key: str
    previous: tuple[Attempt, ...] = ()
    repeated: bool = False
    begun: bool = False  #: is on record: a crash left it half done
    time_left_s: float | None = None  #: of the step's timeout
    handles: Mapping[str, str] = field(default_factory=dict)  #: texts that stand for secrets in the arguments
    own: bool = True  #: goes to the provider that the step itself names, not to that of a fallback

    @property
    def request(self) -> str:
        """What tells this call from others: a hash of the action, its arguments and the variant."""
        return request_hash(self.step.uses, self.arguments, self.variant.name)


@dataclass(slots=True)
class Watch:
    """How an attempt is followed from outside."""

    emit: Callable[[str], None] | None = None  #: None: nobody looks
    note: Callable[[str], None] = lambda text: None
    barrier: Callable[[], Awaitable[None]] | None = None
    committed: bool = False  #: past the point of no return
    ended: bool = False  #: what comes from it now, from a thread left behind, is told to nobody


class Performer(Protocol):
    """Makes attempts: the executor, or what stands in its place."""

    async def perform(self, call: Call, watch: Watch) -> Outcome:
        """Make one attempt and return its outcome; only a hard stop of the run raises (`CancelledError`)."""


class Connections(Protocol):
    """Where a step's connection comes from."""

    async def open(
        self,
        name: str | None,
        wanted: str,
        *,
        provider: str | None,
        others: Mapping[str, str],
        note: Callable[[str], None],
        own: bool = False,
    ) -> Connection:
        """Return the connection for a call; `provider` asks for one of that provider, `own` for the step's own."""


class Executor:
    """Makes calls, one attempt each; whatever happens is an outcome."""

    def __init__(
        self,
        connections: Connections,
        redactor: Redactor,
        artifacts: Callable[[str], Artifacts],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connections = connections
        self._redactor = redactor
        self._artifacts = artifacts
        self.clock = clock  #: the journal's own time, where runs are durable

    async def perform(self, call: Call, watch: Watch) -> Outcome:
        """Make the call and return its outcome; only a hard stop of the run raises (`CancelledError`)."""
        action = _action_of(call.step)
        started = self.clock()
        try:
            output = self._checked(action, await self._call(action, call, watch))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # an attempt's every end is a record, `sys.exit` in an action too
            if isinstance(error, asyncio.CancelledError) and _being_cancelled():
                raise
            failure = self._failure(action, call, error)
            return Outcome("failed", call.variant.name, started, self.clock(), failure=failure, request=call.request)
        return Outcome("succeeded", call.variant.name, started, self.clock(), output=output, request=call.request)

    async def _opened(self, action: Action, call: Call, watch: Watch) -> Connection | None:
        """Return the step's connection; whatever goes wrong with it, the action has not begun."""
        if action.manifest.connection is None:
            return None
        named = call.step.connection or call.variant.provider
        try:
            async with asyncio.timeout(call.time_left_s) as scope:
                connection = await self._connections.open(
                    call.step.connection,
                    action.manifest.connection,
                    provider=call.variant.provider,
                    others=call.step.connections,
                    note=watch.note,
                    own=call.own,
                )
        except WeftError:
            raise
        except Exception as error:  # noqa: BLE001  it must not pass for a fault of the action
            if isinstance(error, TimeoutError) and scope.expired():
                problem = f"Connection {named!r} was not ready when the step's time was up."
                raise ConnectionUnusable(
                    problem, code="timeout", remedy="Allow more with `timeout` in the step."
                ) from None
            self._log_crash(f"connection_failed {named}", call, error)
            raise ConnectionUnusable(
                f"Connection {named!r} could not be opened: {type(error).__name__}.",
                code="connection_failed",
                remedy="The log has the details.",
            ) from None
        watch.note("")
        return connection

    async def _call(self, action: Action, call: Call, watch: Watch) -> Json:
        begun = time.monotonic()
        connection = await self._opened(action, call, watch)
        limit = LONGEST_ATTEMPT_S
        if call.time_left_s is not None:
            limit = min(limit, max(0.0, call.time_left_s - (time.monotonic() - begun)))
        pieces = self._pieces(call, watch)
        context = self._context(call, watch, connection, pieces, time.monotonic() + limit)
        try:
            async with asyncio.timeout(limit) as scope:
                output: Json = await self._invoke(action, call, context, watch)
                return output
        except TimeoutError:
            if not scope.expired():
                raise
            raise StepTimeout(
                f"The attempt was stopped after {limit:g} s.", remedy="Allow more with `timeout` in the step."
            ) from None
        finally:
            if pieces is not None:
                pieces.end()

    async def _invoke(self, action: Action, call: Call, context: ActionContext, watch: Watch) -> Any:
        given = {**call.arguments, **call.variant.arguments}
        if call.handles:
            given = {name: _filled(value, call.handles) for name, value in given.items()}
        bound = action.load().bind(given, context)
        if not _in_own_thread(action):
            return await bound()
        if action.manifest.effects == "send":
            watch.committed = True  # it cannot say when, and a thread cannot be stopped
        return await _in_thread(bound)

    def _pieces(self, call: Call, watch: Watch) -> Pieces | None:
        if watch.emit is None:
            return None
        show = _from_thread(watch.emit) if _in_own_thread(_action_of(call.step)) else watch.emit
        return Pieces(self._redactor, show)

    def _context(
        self, call: Call, watch: Watch, connection: Connection | None, pieces: Pieces | None, deadline: float
    ) -> ActionContext:
        extra: dict[str, Any] = {} if pieces is None else {"emit": pieces.add}
        if watch.barrier is not None:
            extra["barrier"] = watch.barrier
        return ActionContext(
            run_id=call.run_id,
            path=call.path,
            attempt=call.number,
            started_at=datetime.fromtimestamp(call.run_started_at, UTC),
            idempotency_key=call.idempotency_key,
            step_key=call.step_key,
            deadline=deadline,
            repeated=call.repeated,
            connection=connection,
            variant=call.variant,
            previous=call.previous,
            watched=pieces is not None,
            artifacts=self._artifacts(call.run_id),
            catalogue=call.step.known.catalogue,
            protect=self._redactor.add,
            mask=self._redactor.text,
            write=self._writer(call),
            **extra,
        )

    def _writer(self, call: Call) -> Callable[[str, Mapping[str, Json]], None]:
        logger = logging.getLogger("weft.action")

        def write(message: str, facts: Mapping[str, Json]) -> None:
            clean = self._redactor.value(dict(facts))
            logger.info(self._redactor.text(message), extra={"facts": clean, "run_id": call.run_id, "path": call.path})

        return write

    def _checked(self, action: Action, output: Any) -> Json:
        """Return the output as a JSON value without secrets; what is not one is a fault of the action."""
        try:
            text = encode(output)
        except (TypeError, ValueError, RecursionError):
            raise ActionError(
                f"{action.manifest.id!r} returned something that is not JSON.",
                kind="bad_output",
                remedy="This is a fault of the action: tell its author.",
                effect="happened",
            ) from None
        if len(text) > LARGEST_OUTPUT:
            raise ActionError(
                f"The output has {len(text):,} characters of JSON, at most {LARGEST_OUTPUT:,} can be kept.",
                kind="output_too_large",
                remedy="Ask for less, or let the action keep it as an artifact.",
                effect="happened",
            )
        clean: Json = self._redactor.value(json.loads(text))
        problems = _output_check(action).problems(clean)
        if problems:
            first = problems[0]
            raise ActionError(
                f"The output of {action.manifest.id!r} breaks its schema at {first.where.field!r}: {first.message}",
                kind="bad_output",
                remedy="This is a fault of the action: tell its author.",
                effect="happened",
            )
        return clean

    def _failure(self, action: Action, call: Call, error: BaseException) -> Failure:
        sends = action.manifest.effects == "send"
        doubt: Effect = "unknown" if sends else "none"
        match error:
            case ActionError():
                failure = Failure(
                    error.problem,
                    bool(error.retryable),
                    error.retry_after_s,
                    error.effect if sends or error.effect == "happened" else "none",
                    error.status,
                    error.details,
                )
            case StepTimeout() if _in_own_thread(action):
                failure = Failure(error.problem, effect=doubt, details=_THREAD_LEFT)
            case StepTimeout():
                failure = Failure(error.problem, retryable=True, effect=doubt)
            case WeftError():
                failure = Failure(error.problem, effect="none")
            case _:
                self._log_crash(f"action_crashed {action.id}", call, error)
                problem = Problem(
                    "crashed",
                    f"The action raised {type(error).__name__}.",
                    "This is a fault of the action; the log has the details.",
                )
                failure = Failure(problem, effect=doubt)
        return self._kept(failure, call)

    def _kept(self, failure: Failure, call: Call) -> Failure:
        """Return the failure as it can be recorded, whatever the action put into it: clean, bounded, JSON."""
        told = failure.problem
        problem = _placed(call.step, told) if told.where.field and not told.where.file else told.at(call.step.where())
        wait_s, status = failure.retry_after_s, failure.status
        return Failure(
            Problem(
                self._told(problem.code), self._told(problem.message), self._remedy(problem), self._where(problem.where)
            ),
            failure.retryable,
            min(float(wait_s), LONGEST_WAIT_ASKED_S) if _number(wait_s) and wait_s >= 0 else None,
            failure.effect if failure.effect in ("none", "happened") else "unknown",
            int(status) if _number(status) else None,
            self._details(failure.details),
        )

    def _told(self, text: object) -> str:
        return self._redactor.text(str(text))[:LONGEST_MESSAGE]

    def _where(self, where: Where) -> Where:
        file, step, field = (text and self._told(text) for text in (where.file, where.step, where.field))
        return replace(where, file=file, step=step, field=field)

    def _remedy(self, problem: Problem) -> str | None:
        return None if problem.remedy is None else self._told(problem.remedy)

    def _details(self, details: Mapping[str, Any]) -> JsonObject:
        try:
            text = encode(dict(details))
        except (TypeError, ValueError, RecursionError):
            return {}
        clean: JsonObject = self._redactor.value(json.loads(text)) if len(text) <= LARGEST_DETAILS else {}
        return clean

    def _log_crash(self, what: str, call: Call, error: BaseException) -> None:
        # The text of an exception may hold anything, so it goes to the log alone, and cleaned.
        told = self._redactor.text("".join(traceback.format_exception(error)))
        logging.getLogger("weft.executor").error("%s\n%s", what, told, extra={"run_id": call.run_id})


def _filled(value: Json, handles: Mapping[str, str]) -> Json:
    match value:
        case str():
            for handle, secret in handles.items():
                value = value.replace(handle, secret)
            return value
        case dict():
            return {key: _filled(item, handles) for key, item in value.items()}
        case list():
            return [_filled(item, handles) for item in value]
        case _:
            return value


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _being_cancelled() -> bool:
    """Whether somebody cancels the attempt's task; otherwise a `CancelledError` is the action's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _in_own_thread(action: Action) -> bool:
    return not inspect.iscoroutinefunction(action.load().function)


def _from_thread(emit: Callable[[str], None]) -> Callable[[str], None]:
    """Return `emit` for a thread: observers are called in the loop's own."""
    loop = asyncio.get_running_loop()

    def show(text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody looks any more
            loop.call_soon_threadsafe(emit, text)

    return show


async def _in_thread(bound: Callable[[], Json]) -> Json:
    """Call `bound` in a thread that does not keep the process alive, and return what it returns."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Json, BaseException | None]] = loop.create_future()

    def settle(output: Json, error: BaseException | None) -> None:
        if not done.done():  # nobody waits any more after a timeout or a cancel
            done.set_result((output, error))  # as a value: a future refuses some exceptions

    def work() -> None:
        output, raised = None, None
        try:
            output = bound()
        except BaseException as error:  # noqa: BLE001  it is the caller who must see it
            raised = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, output, raised)

    threading.Thread(target=work, name="weft-action", daemon=True).start()
    output, error = await done
    if error is not None:
        raise error
    return output
