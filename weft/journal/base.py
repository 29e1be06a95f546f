"""What every journal promises.

A run is a row; each thing that happened in it is a record under its path in the document and a number. Payloads are
JSON text, kept byte for byte. A write counts only under the claim that the writer holds: whoever claims a run raises
its epoch, and an older owner is refused from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from weft.errors import JournalRefused, NotFound
from weft.types import JsonObject

RecordKind = Literal["begun", "succeeded", "failed", "cancelled", "timer", "rang", "cancel"]
OUTCOMES: tuple[RecordKind, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened: `begun` before an effect, an outcome after it, a timer set, a timer rung."""

    path: str  #: of the step: `/answer`, `/each[3]/mail`; empty for the run itself
    n: int  #: the attempt, from 1
    kind: RecordKind
    payload: str  #: JSON text


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it was accepted."""

    id: str
    workflow: str
    inputs: str  #: JSON text
    trigger: str  #: JSON text
    started_at: float  #: seconds since 1970, UTC
    scheduled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to a run; the next claim of the same run ends it."""

    run_id: str
    epoch: int
    token: str


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended, and who had it last."""

    run_id: str
    workflow: str
    started_at: float
    epoch: int
    owner: str  #: name of the process


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    state: str
    result: str  #: JSON text


LARGEST_ARTIFACT = 50_000_000  #: bytes


def refuse_large_artifact(content: bytes, name: str) -> None:
    if len(content) > LARGEST_ARTIFACT:
        raise JournalRefused(
            f"{name!r} has {len(content):,} bytes, at most {LARGEST_ARTIFACT:,} can be kept with a run."
        )


def reference(artifact: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
    """Return how a step's output speaks of an artifact with this SHA-256."""
    return {"artifact": f"sha256:{artifact}", "name": name, "content_type": content_type, "size": len(content)}


def another_owner(run_id: str) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} has another owner since.")


def has_ended(run_id: str, state: str) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} has ended: {state}.")


def other_content(run_id: str, record: Record) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} holds another record for {record.path!r} {record.n}.")


def unknown_artifact(artifact: str) -> NotFound:
    return NotFound(
        f"This run has no artifact {artifact!r}.",
        remedy="Use the `artifact` of an earlier step's output.",
        code="unknown_artifact",
    )


class Journal(Protocol):
    """Remembers runs."""

    async def accept(self, run: RunRow) -> Claim:
        """Keep a new run and claim it.

        Raises:
            JournalRefused: A run with this id is known already.
        """

    async def unfinished(self) -> list[OpenRun]:
        """Return the runs that have not ended, the oldest first."""

    async def claim(self, run_id: str, *, ends: int) -> Claim:
        """Take over a run from an owner that is known to be dead, or is this process; its claim is void from then on.

        Args:
            run_id: The run.
            ends: The epoch of the claim that this one ends: a run that somebody else took over meanwhile stays his.

        Raises:
            NotFound: There is no such run.
            JournalRefused: The run has ended, or has another owner since.
        """

    async def load(self, run_id: str) -> tuple[RunRow, list[Record], Ended | None]:
        """Return a run, its records in the order in which they were accepted, and its end if it has one."""

    async def record(self, claim: Claim, *records: Record) -> None:
        """Keep records, all or none; the same record twice is kept once.

        Raises:
            JournalRefused: The claim is void, the run has ended, or other content stands under the same key.
        """

    async def finish(self, claim: Claim, ended: Ended) -> None:
        """Close the run; nothing can be recorded after it."""

    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        """Keep a file of the run under the hash of its content and return its reference."""

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        """Return a file of the run.

        Raises:
            NotFound: The run has no such file.
        """
