"""The journal that forgets: for `weft run` of one process and for tests."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from weft.errors import JournalRefused, NotFound
from weft.journal.base import (
    Claim,
    Ended,
    OpenRun,
    Record,
    RunRow,
    another_owner,
    has_ended,
    other_content,
    reference,
    refuse_large_artifact,
    unknown_artifact,
)
from weft.types import JsonObject


@dataclass(slots=True)
class _Kept:
    row: RunRow
    claim: Claim
    records: dict[tuple[str, int, str], Record] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    ended: Ended | None = None


class MemoryJournal:
    """Keeps runs for as long as the process lives."""

    def __init__(self) -> None:
        self._runs: dict[str, _Kept] = {}

    async def accept(self, run: RunRow) -> Claim:
        if run.id in self._runs:
            raise JournalRefused(f"Run {run.id!r} is known already.", remedy="Give the new run an id of its own.")
        claim = Claim(run.id, 1, secrets.token_hex(16))
        self._runs[run.id] = _Kept(run, claim)
        return claim

    async def unfinished(self) -> list[OpenRun]:
        return [
            OpenRun(kept.row.id, kept.row.workflow, kept.row.started_at, kept.claim.epoch, "")
            for kept in self._runs.values()
            if kept.ended is None
        ]

    async def claim(self, run_id: str, *, ends: int) -> Claim:
        kept = self._kept(run_id)
        if kept.ended is not None:
            raise has_ended(run_id, kept.ended.state)
        if kept.claim.epoch != ends:
            raise another_owner(run_id)
        kept.claim = Claim(run_id, kept.claim.epoch + 1, secrets.token_hex(16))
        return kept.claim

    async def load(self, run_id: str) -> tuple[RunRow, list[Record], Ended | None]:
        kept = self._kept(run_id)
        return kept.row, list(kept.records.values()), kept.ended

    async def record(self, claim: Claim, *records: Record) -> None:
        kept = self._owned(claim)
        new: dict[tuple[str, int, str], Record] = {}
        for record in records:
            key = record.path, record.n, record.kind
            if kept.records.get(key, new.setdefault(key, record)) != record:
                raise other_content(claim.run_id, record)
        kept.records.update(new)

    async def finish(self, claim: Claim, ended: Ended) -> None:
        self._owned(claim).ended = ended

    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        refuse_large_artifact(content, name)
        artifact = hashlib.sha256(content).hexdigest()
        self._kept(run_id).artifacts[artifact] = content
        return reference(artifact, content, name=name, content_type=content_type)

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        content = self._kept(run_id).artifacts.get(artifact.removeprefix("sha256:"))
        if content is None:
            raise unknown_artifact(artifact)
        return content

    def _kept(self, run_id: str) -> _Kept:
        kept = self._runs.get(run_id)
        if kept is None:
            raise NotFound(f"There is no run {run_id!r}.", code="unknown_run")
        return kept

    def _owned(self, claim: Claim) -> _Kept:
        kept = self._kept(claim.run_id)
        if kept.claim != claim:
            raise another_owner(claim.run_id)
        if kept.ended is not None:
            raise has_ended(claim.run_id, kept.ended.state)
        return kept
