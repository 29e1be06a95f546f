"""The chain of attempts of one step: retries and fallbacks, decided from what the failures say of themselves."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, replace

from weft.engine.operations import Ask, Reach
from weft.errors import Effect, Problem
from weft.executor import Call, Prepared
from weft.outcome import Failure, Outcome
from weft.plan import PlannedStep
from weft.sdk import Attempt, Variant
from weft.types import Json, JsonObject
from weft.workflow import Retry, seconds

FIRST_WAIT_S = 0.5  #: doubled at each further try of an action's own chain
LONGEST_WAIT_S = 8.0  #: of our own back-off; what the other side asks for is honoured up to the step's timeout
LONGEST_ASKED_S = 900.0  #: that the other side may have us wait in a step without a timeout


@dataclass(frozen=True, slots=True)
class Spent:
    """What is known of a step that sends when the group around it is tried again."""

    series: int  #: of the idempotency key of its last attempt
    effect: Effect


@dataclass(frozen=True, slots=True)
class Doubt:
    """The last attempt of a step in the run that this one repeats: it had its effect, perhaps."""

    request: str  #: hash of what was asked
    key: str  #: the other side knows the attempt by it
    step_key: str


class Chain:
    """The attempts of one step: every variant, each as often as it may be tried.

    Args:
        step: Whose attempts they are.
        prepared: Its arguments and variants.
        run_id: The run.
        run_started_at: When it started.
        path: Where the attempts stand.
        origin: The same without the tries of groups, if there are any: what the other side knows the step by.
        earlier: What came of the step in an earlier try of its group.
        inherited: What the run that this one repeats left in doubt.
    """

    def __init__(
        self,
        step: PlannedStep,
        prepared: Prepared,
        run_id: str,
        run_started_at: float,
        path: str,
        *,
        origin: str | None = None,
        earlier: Spent | None = None,
        inherited: Doubt | None = None,
    ) -> None:
        self.problem: Problem | None = None
        self.retryable = False
        self.output: Json = None  #: what the step comes to when nothing more is tried, though the last attempt failed
        self._step = step
        self._prepared = prepared
        self._run_id = run_id
        self._run_started_at = run_started_at
        self._path = path
        self._variants = deque(prepared.variants)
        self._tried = 0  #: of the first variant in the queue
        self._number = 0
        self._previous: list[Attempt] = []
        self._origin = path if origin is None else origin
        self._repeated = earlier is not None and earlier.effect != "none"
        self._series = 1 if earlier is None else earlier.series + (not self._repeated)  #: of the idempotency key
        self._happened = False
        self._inherited = inherited
        self._is_repeat = False  #: of what the other run left in doubt
        self._asks: tuple[Variant, str] | None = None  #: whether to make one more attempt of it, and why
        # That of a loop is the whole loop's, and has a timer of its own.
        self._timeout_s = step.timeout_s if step.for_each is None else None
        self._begun_at: float | None = None
        self._spent_s = 0.0

    def next(self) -> Call | None:
        """Return the next call, or None when there is nothing left to try."""
        if not self._variants:
            return None
        self._tried += 1
        self._number += 1
        timeout = self._timeout_s
        call = Call(
            run_id=self._run_id,
            path=self._path,
            number=self._number,
            step=self._step,
            arguments=self._prepared.arguments,
            variant=self._variants[0],
            run_started_at=self._run_started_at,
            idempotency_key=idempotency_key(self._run_id, self._origin, self._series),
            step_key=idempotency_key(self._run_id, self._origin, 1),
            previous=tuple(self._previous),
            repeated=self._repeated,
            time_left_s=None if timeout is None else max(0.0, timeout - self._spent_s),
            own=self._variants[0].provider == self._prepared.variants[0].provider,
        )
        return call if self._inherited is None else self._as_repeat(call, self._inherited)

    def _as_repeat(self, call: Call, doubt: Doubt) -> Call:
        """Return a call as a repeat of the one that another run left in doubt, if it asks for the same (rule A22)."""
        if not self._is_repeat and call.request != doubt.request:
            return call
        self._is_repeat = self._repeated = True
        return replace(call, repeated=True, idempotency_key=doubt.key, step_key=doubt.step_key)

    def failed(self, outcome: Outcome, failure: Failure) -> float:
        """Take in a failure, decide what to try next, and return how long to wait before it, in seconds."""
        variant, tried = self._variants[0], self._tried
        self._begun_at = outcome.started_at if self._begun_at is None else self._begun_at
        self._spent_s = max(0.0, outcome.ended_at - self._begun_at)
        self.problem, self.output = failure.problem, failure.details.get("output")
        self.retryable = failure.retryable and failure.effect != "happened"
        self._happened = self._happened or failure.effect == "happened"
        wait_s = 0.0
        if self._again(variant, failure):
            wait_s = self._wait(failure)
        else:
            self._next_variant(failure)
            if self._doubtful(failure) and not self._out_of_time(0.0):
                self._asks = variant, _how(failure)
        self._repeated = self._repeated or failure.effect == "unknown"
        if not self._repeated:  # a refusal may be kept under its key, and would only be told again
            self._series += 1
        self._previous.append(
            Attempt(variant.name, tried, failure.kind, failure.status, outcome.ms, wait_s, failure.details)
        )
        self._spent_s += wait_s
        return wait_s

    def _next_variant(self, failure: Failure) -> None:
        self._tried = 0
        self._variants.popleft()
        if self._ends_chain(failure):
            self._variants.clear()

    def _ends_chain(self, failure: Failure) -> bool:
        if not failure.details.get("fallback", True) or failure.effect == "happened" or self._doubtful(failure):
            return True
        return self._out_of_time(0.0)

    def _again(self, variant: Variant, failure: Failure) -> bool:
        retry = self._step.retry
        tries = variant.tries if retry is None else retry.attempts
        most = failure.details.get("max_tries")
        tries = min(tries, most) if isinstance(most, int) else tries
        may = failure.retryable if retry is None or retry.on is None else failure.kind in retry.on
        may = may and failure.effect != "happened"  # the call has returned: what it returned cannot be kept
        return may and self._tried < tries and not self._doubtful(failure) and not self._too_long(failure)

    def _doubtful(self, failure: Failure) -> bool:
        """Whether another attempt could repeat an effect that the author forbade to repeat."""
        return failure.effect not in ("none", "happened") and self._step.once

    def _out_of_time(self, wait_s: float) -> bool:
        return self._timeout_s is not None and self._spent_s + wait_s >= self._timeout_s

    def _too_long(self, failure: Failure) -> bool:
        """Whether the next try would come after the step's time, or later than is reasonable to ask."""
        asked_s = failure.retry_after_s
        if self._timeout_s is None:
            return asked_s is not None and asked_s > LONGEST_ASKED_S
        return self._out_of_time(self._wait(failure))

    def _wait(self, failure: Failure) -> float:
        if failure.retry_after_s is not None:
            return failure.retry_after_s
        retry, waits_s = self._step.retry, self._variants[0].waits_s
        if retry is None and waits_s:
            return waits_s[min(self._tried, len(waits_s)) - 1]
        if retry is not None:
            return pause_s(retry, self._tried, self._run_id, self._path, self._number)
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._tried - 1, 60))
        return round(wait_s * fraction(self._run_id, self._path, self._number), 3)

    # ---- in doubt
    def question(self, reach: Reach) -> Ask | None:
        """Return what a person is asked when the chain has ended in doubt, and only somebody can say what follows.

        It has the number of the attempt: after that no pause follows, which would have the same.
        """
        if self._asks is None:
            return None
        name = self._origin.strip("/").replace("@", "")
        message = f"Whether `{name}` was sent is not known: attempt {self._number} {self._asks[1]}. Send it again?"
        until = None if self._timeout_s is None else (self._begun_at or 0.0) + self._timeout_s
        return Ask(self._path, self._number, message, until=until, reach=reach)

    def answered(self, answer: JsonObject | None) -> None:
        """Take in what somebody said, or that nobody did in time: approved, there is one more attempt."""
        asked, self._asks = self._asks, None
        if asked is None or answer is None or answer.get("answer") != "approve":
            return
        self._variants.append(asked[0])
        at = answer.get("at")
        if isinstance(at, int | float) and self._begun_at is not None:
            self._spent_s = max(self._spent_s, at - self._begun_at)

    # ---- for another try of the group around it
    def stopped(self, failure: Failure | None) -> None:
        """Take in that the last attempt was stopped, and what is known of its effect."""
        self._repeated = self._repeated or (failure is not None and failure.effect == "unknown")

    @property
    def doubt(self) -> bool:
        """Whether it had an effect, perhaps, that the author forbade to repeat."""
        return self._step.once and (self._repeated or self._happened)

    def spent(self, succeeded: bool) -> Spent:
        """Return what another chain of the same step has to know."""
        effect: Effect = "happened" if succeeded or self._happened else "unknown" if self._repeated else "none"
        return Spent(self._series, effect)


def _how(failure: Failure) -> str:
    return "was cut off" if failure.kind == "effect_unknown" else f"ended with `{failure.kind}`"


def pause_s(retry: Retry, tried: int, run_id: str, path: str, number: int | None = None) -> float:
    """Return how long a `retry` waits after so many tries; the same for the same try of the same run."""
    wait_s = min(seconds(retry.max_backoff), seconds(retry.backoff) * retry.factor ** min(tried - 1, 60))
    number = tried if number is None else number
    return round(wait_s * fraction(run_id, path, number), 3) if retry.jitter else wait_s


def idempotency_key(run_id: str, path: str, series: int) -> str:
    """Return the key under which the other side may know a repeat of the same request.

    It is the same for whatever may repeat an effect, and another one after an attempt that is proved to have had none
    (draft-ietf-httpapi-idempotency-key-header: the answer that is kept under a key may be an error).
    """
    parts = (run_id.encode(), path.encode(), str(series).encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


def fraction(run_id: str, path: str, number: int) -> float:
    """Return a number in [0.5, 1) that is always the same for the same attempt."""
    digest = hashlib.sha256(f"{run_id}\0{path}\0{number}".encode()).digest()
    return 0.5 + int.from_bytes(digest[:6], "big") / 2**49
