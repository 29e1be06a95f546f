"""Runs that repeat others: as a whole, or from a step on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from weft.engine.events import Observer
from weft.engine.gates import gate_of
from weft.engine.reactor import facts_of
from weft.engine.replaying import Repeat, inherit
from weft.errors import JournalRefused
from weft.journal.base import ENDS, OUTCOMES, Claim, Kept, Listed, Record, Rest, RunRow, Status
from weft.outcome import encode
from weft.plan import Plan
from weft.runtime import Runtime, new_run_id
from weft.types import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Repetition:
    """A run that is ready to be accepted."""

    row: RunRow
    plan: Plan
    records: tuple[Record, ...] = ()  #: what it inherits
    sends: tuple[Repeat, ...] = ()  #: what it sends, or may send, of what it does not inherit

    @property
    def sends_again(self) -> bool:
        """Whether it repeats something that was sent, or may have been."""
        return any(each.again for each in self.sends)


async def rerun(runtime: Runtime, run_id: str, edits: Mapping[str, Json], latest: Plan | None = None) -> Repetition:
    """Prepare a run that does everything anew.

    Args:
        runtime: Where it will run.
        run_id: The run to repeat, in whatever state it is.
        edits: Inputs that it is given instead, as texts from a command line.
        latest: What it follows; left out, the document that the old run was accepted with.

    Raises:
        NotFound: There is no such run.
        InvalidInputs: The inputs do not fit.
        WeftError: What it follows cannot be run here.
    """
    old = await (await runtime.opened()).status(run_id)
    if latest is None:
        planned = runtime.pinned_plan(await runtime.journal.document(old.row.document))
        runtime.refuse_unfit(planned)
        row = replace(old.row, id=new_run_id(), started_at=runtime.journal.now(), parent=None, schedule=None, gate=None)
    else:
        planned = latest
        row = await runtime.new_row(planned, {})
        row = replace(row, trigger=old.row.trigger, scheduled_at=old.row.scheduled_at)
    row = replace(row, inputs=_inputs(runtime, planned, old, edits), origin=old.row.id)
    facts = facts_of(Listed(row, old.status))
    return Repetition(replace(row, gate=gate_of(planned, facts)), planned)


async def replay(runtime: Runtime, run_id: str, steps: Sequence[str], edits: Mapping[str, Json]) -> Repetition:
    """Prepare a run that inherits what another one did before some steps, and does the rest anew (rule A22).

    Args:
        runtime: Where it will run.
        run_id: The run to repeat; it has ended, or is parked.
        steps: From where on everything is performed anew.
        edits: Inputs that it is given instead, as texts from a command line; steps that see them are performed anew.

    Raises:
        NotFound: There is no such run, or no such step.
        InvalidInputs: The inputs do not fit, or the new run would not come to a step.
        JournalRefused: The run goes on (`not_ended`).
        WeftError: What it follows cannot be run here.
    """
    old = await (await runtime.opened()).load(run_id)
    if old.status.state not in (*ENDS, "parked"):
        raise JournalRefused(
            f"Run {run_id!r} is {old.status.state}; only a run that has ended, or is parked, can be replayed.",
            code="not_ended",
            remedy=f"Wait for its end, or cancel it: weft runs cancel {run_id}",
        )
    prepared = await rerun(runtime, run_id, edits)
    # What it inherits began before it, what it does itself begins later: so one is told from the other.
    # What it inherits is accepted with it, which no gate can wait for: a person has asked for it.
    row = replace(
        prepared.row, gate=None, started_at=max(prepared.row.started_at, math.nextafter(_latest(old), math.inf))
    )
    facts = facts_of(Listed(row, Status("running", 1, runtime.journal.name, row.started_at)))
    found = inherit(prepared.plan, facts, old, steps)
    return Repetition(row, prepared.plan, found.records, found.sends)


async def start(
    runtime: Runtime, prepared: Repetition, observer: Observer | None = None, *, watched: bool = False
) -> Listed:
    """Accept a prepared run, drive it, and return how it stands when it has ended or is parked."""
    if prepared.row.gate is not None:
        await runtime.journal.submit(prepared.row)
        return await runtime.follow(prepared.row.id, observer, watched=watched)
    kept, claim = await _accept(runtime, prepared)
    return await runtime.go_on(claim, kept, prepared.plan, observer, watched=watched)


async def submit(runtime: Runtime, prepared: Repetition) -> None:
    """Accept a prepared run, and leave it to the workers."""
    if prepared.records:
        _, claim = await _accept(runtime, prepared)
        await runtime.journal.write(claim, 0, (), Rest("ready"))
    else:
        await runtime.journal.submit(prepared.row)
    await runtime.announce(prepared.row.id)


async def _accept(runtime: Runtime, prepared: Repetition) -> tuple[Kept, Claim]:
    row, journal = prepared.row, runtime.journal
    claim = await journal.accept(row, *prepared.records)
    size = sum(len(record.payload) for record in prepared.records)
    status = Status("running", claim.epoch, journal.name, row.started_at, size=size)
    return Kept(row, status, prepared.records), claim


def _latest(source: Kept) -> float:
    """Return the last instant at which something that could be inherited began."""
    began = (json.loads(record.payload)["started_at"] for record in source.records if record.kind in OUTCOMES)
    return max(source.status.changed_at, *map(float, began), 0.0)


def _inputs(runtime: Runtime, planned: Plan, old: Listed, edits: Mapping[str, Json]) -> str:
    """Return the inputs of a run, some of them edited, checked by what the document declares."""
    known: JsonObject = json.loads(old.row.inputs)
    declared = planned.workflow.inputs
    written = {
        name: value
        if not isinstance(value, str) or (name in declared and declared[name].type == "string")
        else json.dumps(value)
        for name, value in known.items()
    }
    return encode(runtime.inputs(planned, {**written, **edits}, text=True))
