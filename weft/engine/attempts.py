"""The chain of attempts of one step: retries and fallbacks, decided from what the failures say of themselves."""

from __future__ import annotations

import hashlib
from collections import deque

from weft.errors import Problem
from weft.executor import Call, Prepared
from weft.outcome import Failure, Outcome
from weft.plan import PlannedStep
from weft.sdk import Attempt, Variant
from weft.types import Json
from weft.workflow import seconds

FIRST_WAIT_S = 0.5  #: doubled at each further try of an action's own chain
LONGEST_WAIT_S = 8.0  #: of our own back-off; what the other side asks for is honoured up to the step's timeout
LONGEST_ASKED_S = 900.0  #: that the other side may have us wait in a step without a timeout


class Chain:
    """The attempts of one step: every variant, each as often as it may be tried."""

    def __init__(self, step: PlannedStep, prepared: Prepared, run_id: str, run_started_at: float, path: str) -> None:
        self.problem: Problem | None = None
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
        self._repeated = False
        self._series = 1  #: of the idempotency key
        self._begun_at: float | None = None
        self._spent_s = 0.0

    def next(self) -> Call | None:
        """Return the next call, or None when there is nothing left to try."""
        if not self._variants:
            return None
        self._tried += 1
        self._number += 1
        timeout = self._step.timeout_s
        return Call(
            run_id=self._run_id,
            path=self._path,
            number=self._number,
            step=self._step,
            arguments=self._prepared.arguments,
            variant=self._variants[0],
            run_started_at=self._run_started_at,
            idempotency_key=idempotency_key(self._run_id, self._path, self._series),
            step_key=idempotency_key(self._run_id, self._path, 1),
            previous=tuple(self._previous),
            repeated=self._repeated,
            time_left_s=None if timeout is None else max(0.0, timeout - self._spent_s),
            own=self._variants[0].provider == self._prepared.variants[0].provider,
        )

    def failed(self, outcome: Outcome, failure: Failure) -> float:
        """Take in a failure, decide what to try next, and return how long to wait before it, in seconds."""
        variant, tried = self._variants[0], self._tried
        self._begun_at = outcome.started_at if self._begun_at is None else self._begun_at
        self._spent_s = max(0.0, outcome.ended_at - self._begun_at)
        self.problem, self.output = failure.problem, failure.details.get("output")
        wait_s = 0.0
        if self._again(variant, failure):
            wait_s = self._wait(failure)
        else:
            self._next_variant(failure)
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
        return self._step.timeout_s is not None and self._spent_s + wait_s >= self._step.timeout_s

    def _too_long(self, failure: Failure) -> bool:
        """Whether the next try would come after the step's time, or later than is reasonable to ask."""
        asked_s = failure.retry_after_s
        if self._step.timeout_s is None:
            return asked_s is not None and asked_s > LONGEST_ASKED_S
        return self._out_of_time(self._wait(failure))

    def _wait(self, failure: Failure) -> float:
        if failure.retry_after_s is not None:
            return failure.retry_after_s
        retry, waits_s = self._step.retry, self._variants[0].waits_s
        if retry is None and waits_s:
            return waits_s[min(self._tried, len(waits_s)) - 1]
        first, factor, longest, jitter = FIRST_WAIT_S, 2.0, LONGEST_WAIT_S, True
        if retry is not None:
            first, factor, longest, jitter = (
                seconds(retry.backoff),
                retry.factor,
                seconds(retry.max_backoff),
                retry.jitter,
            )
        wait_s = min(longest, first * factor ** min(self._tried - 1, 60))
        return round(wait_s * _fraction(self._run_id, self._path, self._number), 3) if jitter else wait_s


def idempotency_key(run_id: str, path: str, series: int) -> str:
    """Return the key under which the other side may know a repeat of the same request.

    It is the same for whatever may repeat an effect, and another one after an attempt that is proved to have had none
    (draft-ietf-httpapi-idempotency-key-header: the answer that is kept under a key may be an error).
    """
    parts = (run_id.encode(), path.encode(), str(series).encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


def _fraction(run_id: str, path: str, number: int) -> float:
    """Return a number in [0.5, 1) that is always the same for the same attempt."""
    digest = hashlib.sha256(f"{run_id}\0{path}\0{number}".encode()).digest()
    return 0.5 + int.from_bytes(digest[:6], "big") / 2**49
