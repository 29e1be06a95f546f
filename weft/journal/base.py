"""What every journal promises.

A run is a row; each thing that happened in it is a record under its path in the document and a number. Payloads are
JSON text, kept byte for byte. A write counts only under the claim that the writer holds: whoever claims a run raises
its epoch, and an older owner is refused from then on.

A run is `ready` (anybody may claim it), `running` (somebody has), `waiting` (for an instant, or for a signal), `parked`
(it cannot go on by itself; the reason says why), or it has ended.

Others than the owner write two kinds of record: `cancel` and `signal`. They are the run's news. Every write of the owner
names how many of them it has seen and is refused when there are more, so that the order of the records is the order
in which the run learned of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from weft.errors import JournalBehind, JournalRefused, NotFound
from weft.types import JsonObject

RecordKind = Literal[
    "begun", "succeeded", "failed", "cancelled", "timer", "rang", "choice", "waits", "cancel", "signal"
]
OUTCOMES: tuple[RecordKind, ...] = ("succeeded", "failed", "cancelled")
NEWS: tuple[RecordKind, ...] = ("cancel", "signal")
"""The kinds that others than the owner write."""

State = Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("ready", "running", "waiting", "parked")
ENDS: tuple[State, ...] = ("succeeded", "failed", "cancelled")

LARGEST_ARTIFACT = 50_000_000
"""Bytes of a file that an action may keep with its run."""

LARGEST_INLINE = 2_000_000
"""Bytes of a payload that stand in the record; a larger one is kept once, under its hash."""

LARGEST_RUN = 64_000_000
"""Bytes of all payloads of a run; with more it is not loaded."""

CRASHES_TOGETHER = 2
"""Crashes without a new record between them, after which a run is tried alone, in a process of its own."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened.

    `begun` before an effect, an outcome after it; a `timer` set, a timer that `rang`; a `choice` of the document's own
    rules; a run that `waits` for a signal; a `signal`; a `cancel` (path empty, n counts them).
    """

    path: str  #: of the step: `/answer`, `/each[3]/mail`; empty for the run itself
    n: int  #: the attempt, from 1
    kind: RecordKind
    payload: str  #: JSON text


LARGEST_QUEUE = 1_000
"""Runs that may wait before one gate."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What lets only so many runs of a key go on at once."""

    key: str  #: runs with the same count together, until they have ended; parked ones count
    limit: int
    policy: Literal[
        "queue", "skip", "cancel"
    ]  #: what happens to one more; `cancel` cancels the oldest and waits for it


@dataclass(frozen=True, slots=True)
class Parent:
    """The step of another run that waits for the end of this one."""

    run_id: str
    path: str
    n: int = 1  #: of its `waits` record


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it was accepted; it never changes."""

    id: str
    workflow: str
    document: str  #: hash of what it follows
    inputs: str  #: JSON text
    trigger: str  #: JSON text; `null` for a run that a person started
    started_at: float  #: seconds since 1970, UTC
    scheduled_at: float | None = None
    origin: str | None = None  #: the run that it repeats
    schedule: str | None = None  #: id of the schedule that started it
    parent: Parent | None = None
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run stands; the part of its row that changes."""

    state: State
    epoch: int  #: how often it was claimed or taken from a dead owner
    owner: str  #: name of the process that had it last
    changed_at: float
    wake_at: float | None = None  #: when a waiting run goes on, if a signal does not come first
    news: int = 0  #: records that others wrote
    crashes: int = 0  #: of its owners, without a new record between them
    alone: bool = False  #: claimed by a process that does nothing else
    size: int = 0  #: bytes of all payloads
    reason: str | None = None  #: of a parked run: its problem, as JSON text
    result: str | None = None  #: of an ended run: JSON text
    queued: bool = False  #: waits before its gate; it has not begun


@dataclass(frozen=True, slots=True)
class Listed:
    """A run without its records."""

    row: RunRow
    status: Status


@dataclass(frozen=True, slots=True)
class Kept(Listed):
    """A run and its records in the order in which they were accepted."""

    records: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to a run; the next claim of the same run ends it."""

    run_id: str
    epoch: int
    token: str  #: 128 random bits: after a fail-over two owners could have one epoch


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    state: Literal["succeeded", "failed", "cancelled"]
    result: str  #: JSON text
    doubt: bool = False  #: it holds an effect of which nobody knows whether it happened


@dataclass(frozen=True, slots=True)
class Rest:
    """How an owner lets go of a run that has not ended."""

    state: Literal["ready", "waiting", "parked"]
    wake_at: float | None = None
    reason: str | None = None


Then: TypeAlias = "Ended | Rest | None"


@dataclass(frozen=True, slots=True)
class Meter:
    """An amount that an attempt may use up, and how much all together may.

    The amounts of a key count together. With `window_s`, those of the last seconds count; with `live`, those of attempts
    that are under way under a claim that is not void; with neither, all that there ever were.
    """

    key: str
    amount: int  #: at least 0
    most: int  #: refused where the sum would be more; one's own amount counts
    window_s: float | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Full:
    """Why an attempt may not begin."""

    key: str
    used: int
    most: int
    retry_at: float | None = None  #: when enough has left the window; None: when others end, or never


@dataclass(frozen=True, slots=True)
class Settled:
    """What an attempt has really used up, by the keys of its meters; a key that is left out keeps what was reserved."""

    path: str
    n: int
    amounts: Mapping[str, int] = field(default_factory=dict)


Fate = Literal["fired", "skipped", "missed"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What starts runs of a workflow by the clock, and how far it has come."""

    id: str
    workflow: str
    source: str  #: the workspace that it comes from
    spec: str  #: JSON text: what the document says
    document: str  #: hash of what its runs follow
    watermark: float  #: nothing at or before this instant fires any more, but by hand
    next_at: float | None = None  #: its next instant, without jitter; None: there is none
    fire_at: float | None = None  #: when that is due, with jitter
    paused: bool = False
    retired: bool = False  #: its document no longer has it; its rows stay


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What became of one instant of a schedule; there is never a second row for the same."""

    schedule: str
    key: str  #: nominal local time with its offset, without jitter
    at: float  #: the same instant, seconds since 1970, UTC
    fate: Fate
    decided_at: float
    reason: str | None = None  #: JSON text
    run_id: str | None = None
    count: int = 1  #: a range of missed instants is one row, under the key of its first; 0: unknown, after a restore


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """What a decision about a schedule is made from."""

    schedule: Schedule | None
    now: float  #: by the journal's own clock
    open: tuple[Listed, ...] = ()  #: its runs that have not ended, the oldest first; at most `LARGEST_QUEUE`
    known: frozenset[str] = frozenset()  #: which of the keys that were asked for have a row


@dataclass(frozen=True, slots=True)
class ScheduleMove:
    """What is to become of a schedule, all or nothing."""

    schedule: Schedule
    occurrences: Sequence[Occurrence] = ()
    runs: Sequence[RunRow] = ()  #: submitted
    cancels: Sequence[str] = ()  #: runs to be cancelled


@dataclass(frozen=True, slots=True)
class OccurrenceQuery:
    """Which occurrences to list, the youngest first."""

    schedule: str | None = None
    workflow: str | None = None
    fates: tuple[Fate, ...] = ()  #: none: all
    since: float | None = None  #: seconds since 1970, of `at`, inclusive
    until: float | None = None  #: exclusive
    limit: int = 50


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list, the youngest first."""

    workflow: str | None = None
    states: tuple[State, ...] = ()  #: none: all
    since: float | None = None  #: seconds since 1970, of `started_at`, inclusive
    until: float | None = None  #: exclusive
    text: str | None = None  #: stands in the id, workflow, inputs, result or reason, in either case
    limit: int = 50
    before: str | None = None  #: id of the last run of the page before
    schedule: str | None = None
    parent: str | None = None  #: id of the run whose steps wait for them


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed."""

    runs: int = 0
    records: int = 0
    documents: int = 0
    artifacts: int = 0
    kept: dict[str, int] = field(default_factory=dict)  #: why → how many that were old enough have stayed


def refuse_large_artifact(content: bytes, name: str) -> None:
    if len(content) > LARGEST_ARTIFACT:
        raise JournalRefused(
            f"{name!r} has {len(content):,} bytes, at most {LARGEST_ARTIFACT:,} can be kept with a run."
        )


def reference(artifact: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
    """Return how a step's output speaks of an artifact with this SHA-256."""
    return {"artifact": f"sha256:{artifact}", "name": name, "content_type": content_type, "size": len(content)}


def known_already(run_id: str) -> JournalRefused:
    return JournalRefused(
        f"Run {run_id!r} is known already.", code="known_run", remedy="Give the new run an id of its own."
    )


def another_owner(run_id: str) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} has another owner since.", code="another_owner")


def not_ready(run_id: str, state: State) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} is {state}; only a run that is ready can be claimed.", code="not_ready")


def at_the_limit(run_id: str, gate: Gate, blockers: Sequence[str]) -> JournalRefused:
    return JournalRefused(
        f"Run {run_id!r} was not accepted: {len(blockers)} of its kind go on, and at most {gate.limit} may.",
        code="at_the_limit",
        remedy=f"Wait for run {blockers[0]}." if blockers else None,
    )


def queue_is_full(run_id: str) -> JournalRefused:
    return JournalRefused(
        f"Run {run_id!r} was not accepted: {LARGEST_QUEUE:,} wait before it.",
        code="queue_full",
        remedy="Start fewer, or let more go on at once.",
    )


def has_ended(run_id: str, state: State) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} has ended: {state}.", code="has_ended")


def other_content(run_id: str, record: Record) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} holds another record for {record.path!r} {record.n}.", code="other_content")


def behind(run_id: str) -> JournalBehind:
    return JournalBehind(f"Run {run_id!r} has news that its owner has not read.")


def not_waiting(run_id: str, path: str, why: str) -> JournalRefused:
    """Return the refusal of a signal; `why` says what became of the wait."""
    return JournalRefused(f"Step {path!r} of run {run_id!r} waits for no answer: {why}.", code="not_waiting")


def too_large(run_id: str, size: int) -> JournalRefused:
    return JournalRefused(
        f"Run {run_id!r} holds {size:,} bytes, at most {LARGEST_RUN:,} can be loaded.",
        code="run_too_large",
        remedy="Keep large values as artifacts, or divide the work among several runs.",
    )


def unknown_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id!r}.", code="unknown_run", remedy="`weft runs list` shows all.")


def unknown_document(hash_: str) -> NotFound:
    return NotFound(f"The journal has no document {hash_!r}.", code="unknown_document")


def unknown_artifact(artifact: str) -> NotFound:
    return NotFound(
        f"This run has no artifact {artifact!r}.",
        remedy="Use the `artifact` of an earlier step's output.",
        code="unknown_artifact",
    )


class Journal(Protocol):
    """Remembers runs.

    Every method may raise `JournalUnavailable`: it could not be asked, or whether it kept what it was given is not known.
    Then the same call may be made again: what is there already, with the same content, is accepted.
    """

    @property
    def name(self) -> str:
        """The name of this process; written beside what it claims. It is another one when others took it for dead."""

    # ---- the process
    async def open(self) -> None:
        """Make it ready: find or make its place, bring it to the newest version, begin to be alive."""

    async def close(self) -> None:
        """Write what waits, then let go; the process is no longer alive for others."""

    def now(self) -> float:
        """Return the journal's own time, in seconds since 1970, UTC: that of the database where there is one."""

    async def beat(self) -> None:
        """Say that this process lives, and look whether the others do."""

    async def changed(self, timeout_s: float) -> bool:
        """Return when others may have written something (True), or after `timeout_s` (False); for one caller at a time."""

    async def confirm(self, claim: Claim) -> None:
        """Return if this process is alive for all others, so that it may begin what cannot be taken back.

        Raises:
            JournalRefused: The claim is void; others have had reason to think that this process is dead.
        """

    # ---- documents
    async def keep_document(self, text: str) -> str:
        """Keep what runs follow, once, and return its hash (SHA-256, hexadecimal)."""

    async def document(self, hash_: str) -> str:
        """Return a document byte for byte.

        Raises:
            NotFound: There is none of this hash.
        """

    # ---- runs
    async def accept(self, run: RunRow, *records: Record) -> Claim:
        """Keep a new run with its first records, and claim it; it has the files of its origin, if it has one.

        A run with a gate is not accepted so, but by `submit`.

        Raises:
            JournalRefused: A run with this id is, or was, known (`known_run`).
            NotFound: Its document is not kept (`unknown_document`); it may have been purged since.
            ValueError: It has a gate.
        """

    async def submit(self, run: RunRow) -> None:
        """Keep a new run that is ready for any worker, or waits before its gate until others have ended.

        Raises what `accept` raises, and:
            JournalRefused: Its gate lets no more through (`at_the_limit`), or too many wait (`queue_full`). Nothing was kept.
        """

    async def claim(self, run_id: str, *, alone: bool = False) -> Claim:
        """Claim a run that is ready.

        Args:
            run_id: The run.
            alone: This process does nothing else; if it dies, the run is parked.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It is not ready (`not_ready`, `has_ended`): somebody else was faster.
        """

    async def release(self, run_id: str, *, ends: int) -> State:
        """Take a running run from an owner that is dead, and return its state then.

        It is `ready`, or `parked` when it was tried alone and the process died of it. Its crashes are counted anew when
        there is a record since its claim.

        Args:
            run_id: The run.
            ends: The epoch of the claim that is void from now on.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It is not running under this epoch (`another_owner`, `has_ended`).
        """

    async def write(
        self,
        claim: Claim,
        news: int,
        records: Sequence[Record] = (),
        then: Then = None,
        *,
        children: Sequence[RunRow] = (),
        settled: Sequence[Settled] = (),
    ) -> None:
        """Keep records, and let the run end or rest, all or nothing.

        With the end of a run that has a parent the waiting step gets its `signal`, in the same transaction, if the step
        still waits: `{"run": id, "state": state, "result": result}`. A gate lets the run through that has waited longest.
        A run that ends with open children cancels them.

        What is there already, with the same content, under the same claim, is accepted and kept once: such a write is never
        `JournalBehind`.

        Args:
            claim: The right to do so.
            news: How many records of others the writer has seen.
            records: In the order in which they happened.
            then: How the run ends, or why its owner lets go of it; None: it goes on.
            children: Runs to submit, each the answer to a `waits` record of this run. One that its gate skips is not kept:
                its step gets its `signal` at once, with the state `skipped`.
            settled: What attempts have used up whose outcomes are among the records.

        Raises:
            JournalBehind: There are more news; read them first. Nothing was written.
            JournalRefused: The claim is void (`another_owner`), the run has ended (`has_ended`), or other content stands
                under the same key (`other_content`). Nothing was written.
        """

    async def hold(self, claim: Claim, news: int, begun: Record, meters: Sequence[Meter]) -> Full | None:
        """Put on record that an attempt has begun, with what it may use up, or neither (rule A27).

        An attempt that was held under an older claim and was not settled counts in full, besides this one. Asked again
        under the same claim, it is granted as before, and what it holds already is not counted again.

        Returns:
            None when it is granted; the first meter that is full otherwise: nothing was written.

        Raises as `write` does.
        """

    async def used(self, keys: Sequence[str], *, since: float | None = None, reserved: bool = False) -> dict[str, int]:
        """Return what was used up by key: of all time, or since an instant; 0 for a key that is not known.

        With `reserved` only what attempts hold that are under way counts: no outcome yet, and a claim that is not void.
        """

    async def load(self, run_id: str) -> Kept:
        """Return a run with its records.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It is too large to be read (`run_too_large`).
        """

    async def status(self, run_id: str) -> Listed:
        """Return a run without its records; raises `NotFound`."""

    # ---- what others do to a run
    async def cancel(self, run_id: str) -> int:
        """Put on record that the run is to be cancelled, and return how often it has been; a third time does nothing.

        A run that waits or is parked becomes ready, so that somebody ends it. Its open children are cancelled with it.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It has ended.
        """

    async def signal(self, run_id: str, path: str, payload: str) -> None:
        """Answer a step that waits; a waiting run becomes ready. The same answer again is accepted.

        Raises:
            NotFound: There is no such run.
            JournalRefused: The step does not wait: it was not reached, it is answered, its time is up by the journal's
                own clock, or the run has ended (`not_waiting`).
        """

    async def resume(self, run_id: str) -> None:
        """Make a parked run ready again; its crashes are forgotten.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It is not parked (`not_parked`).
        """

    # ---- what is to be done
    async def ready(self, limit: int, *, for_s: float = 0.0) -> list[str]:
        """Return runs that have been ready for at least `for_s` seconds, those that have waited longest first."""

    async def wake(self, limit: int, *, only: str | None = None) -> list[str]:
        """Make waiting runs whose instant has come ready, and return them; of `only` this one, if it is named."""

    async def next_wake(self) -> float | None:
        """Return when the next waiting run goes on; None when no run waits for an instant."""

    async def abandoned(self) -> list[Listed]:
        """Return the running runs whose owner is dead."""

    async def attention(self) -> dict[str, int]:
        """Return the runs that this process has claimed and that have news, with the number of their news."""

    async def unfinished(self) -> list[Listed]:
        """Return the runs that have not ended, the oldest first."""

    # ---- schedules
    async def schedule(
        self, id_: str, think: Callable[[ScheduleView], ScheduleMove | None], keys: Sequence[str] = ()
    ) -> ScheduleMove | None:
        """Let a pure function decide about a schedule, and do what it says, in one transaction under the schedule's lock.

        Processes that decide about the same schedule do so one after another, each on what the one before has left.

        Args:
            id_: The schedule; it need not be there yet.
            think: Given where it stands by the journal's own clock; returns what is to be done, or None for nothing. It
                may be called more than once.
            keys: Occurrences of which `think` wants to know whether they have a row.

        Returns:
            What was done.

        Raises:
            JournalRefused: An occurrence has a row (`known_occurrence`), or a run is known (`known_run`) or kept out by
                its gate. Nothing was done.
        """

    async def schedules(self) -> list[Schedule]:
        """Return all schedules, by workflow and id."""

    async def due(self, limit: int) -> list[str]:
        """Return the schedules whose instant has come by the journal's own clock, the most overdue first."""

    async def next_due(self) -> float | None:
        """Return when the next schedule is due; None when none is."""

    async def occurrences(self, query: OccurrenceQuery) -> list[Occurrence]:
        """Return occurrences, the youngest first."""

    # ---- reading
    async def runs(self, query: RunQuery) -> list[Listed]:
        """Return a page of runs, the youngest first."""

    # ---- files
    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        """Keep a file of the run under the hash of its content and return its reference."""

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        """Return a file of the run.

        Raises:
            NotFound: The run has no such file.
        """

    async def purge(self, before: float, *, limit: int = 10_000) -> Purged:
        """Remove runs that ended before an instant, with what only they need.

        What guards against repetition stays: the ids of runs that a trigger started, and runs with an effect of which
        nobody knows whether it happened.

        Args:
            before: Seconds since 1970, UTC.
            limit: Runs to remove in one transaction; call again until nothing is removed.
        """
