"""Runs: to start, to look at, to stop, to repeat, to remove."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final, get_args
from urllib.parse import quote

from fastapi import Header, Query, Request, Response
from fastapi import Path as InPath

from weft import repeating, retention
from weft.access import Identity
from weft.engine.replaying import without_turns
from weft.engine.report import RunReport, RunSummary, StepReport, summary_of
from weft.errors import InvalidInputs, JournalRefused, NotFound, StepTimeout, WeftError
from weft.journal.base import ENDS, Listed, RunQuery, State
from weft.plan import Plan, Selection
from weft.plan.selection import select
from weft.reading import Reading, learn_secrets, redacted, summaries
from weft.rehearsal import dry_run as dry_runs
from weft.rehearsal.dry_run import DryRun
from weft.repeating import Repetition
from weft.server.deps import Cursor, HouseDep, Limit, Page, Who, api, needs
from weft.server.house import House
from weft.server.routes import run_views
from weft.server.routes.run_pages import place_behind, runs_behind
from weft.server.routes.run_shapes import (
    Cancel,
    Purge,
    Purged,
    Replay,
    ReplayPlan,
    Rerun,
    RunComparison,
    RunId,
    Sends,
    Start,
    Timeline,
)
from weft.starting import digest_of, start_once, started_before
from weft.triggers import trigger_run_id
from weft.types import Json, JsonObject
from weft.wording import choice, meant

router = api("runs")

REHEARSAL_S: Final = 60.0
"""How long a dry run may take that is asked for over the API."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Of this start: sent again with the same body it answers with the same run, and starts none.",
    ),
]
Instant = Annotated[datetime | None, Query(description="With an offset; without one, UTC.")]


# ---- to start
@router.post(
    "/runs",
    status_code=201,
    responses={200: {"model": RunSummary, "description": "The same request has started it before."}},
    dependencies=[needs("run")],
)
async def start_run(
    *, asked: Start, who: Who, house: HouseDep, request: Request, response: Response, key: IdempotencyKey = None
) -> RunSummary:
    """Start a run, or a part of one: accepted and durable when this answers. A worker goes on with it."""
    runtime, trigger = house.runtime, _trigger(who, request, key)
    if key is None:
        plan, inputs = await _prepared(house, asked)
        run_id = await runtime.submit(plan, inputs, trigger=trigger)
        await house.audit.record(who, "run.started", run_id, {"workflow": plan.workflow.name})
        return await _accepted(house, response, run_id)
    run_id = trigger_run_id("request", asked.workflow, f"{who.kind}:{who.name}", key)
    digest = digest_of(asked.model_dump(mode="json"))
    try:
        plan, inputs = await _prepared(house, asked)
    except WeftError:  # the workflow may have changed since: a repeat is answered as the first request was
        if await started_before(runtime, run_id, asked.workflow, digest) is None:
            raise
        is_new = False
    else:
        started = await start_once(runtime, plan, inputs, run_id=run_id, trigger=trigger or {}, digest=digest)
        is_new = started.is_new
    if is_new:
        await house.audit.record(who, "run.started", run_id, {"workflow": asked.workflow})
    return await _accepted(house, response, run_id, is_new=is_new)


@router.post("/runs/dry-run", dependencies=[needs("run")])
async def dry_run(asked: Start, house: HouseDep) -> DryRun:
    """Rehearse a run: what each step would be given; nothing is sent, no connection is opened, nothing is kept."""
    plan, inputs = await _prepared(house, asked, rehearses=True)
    await learn_secrets(house.runtime, plan)
    try:
        async with asyncio.timeout(REHEARSAL_S):
            told = await dry_runs.dry_run(house.runtime, plan, inputs)
    except TimeoutError:
        raise StepTimeout(
            f"The dry run took longer than {REHEARSAL_S:.0f} s.", remedy="Try a part of it: say `until` or `only`."
        ) from None
    return redacted(told, house.runtime.redactor)


async def _prepared(house: House, asked: Start, *, rehearses: bool = False) -> tuple[Plan, JsonObject]:
    plan = await house.runtime.plan_of(asked.workflow)
    return await _part(house, plan, asked, rehearses=rehearses), house.runtime.inputs(plan, asked.inputs)


async def _part(house: House, plan: Plan, asked: Start, *, rehearses: bool) -> Plan:
    """Return the part of a plan that is asked for, with the pins that are given or kept for it."""
    if asked.until is not None and asked.only is not None:
        raise InvalidInputs("`until` and `only` exclude each other.", code="exclude_each_other")
    is_part = asked.until is not None or asked.only is not None
    if asked.pins is not None and not (is_part or rehearses):
        raise InvalidInputs(
            "Pins go with `only`, `until` or a dry run: a whole run has real outputs.", code="pins_of_whole"
        )
    pins = asked.pins
    if pins is None and (is_part or rehearses):
        known = {step.id for step in plan.every_step()} - {(asked.only or asked.until or "").rsplit("/", 1)[-1]}
        pins = {name: value for name, value in (await _kept_pins(house, asked.workflow)).items() if name in known}
    if not is_part and not pins:
        return plan
    named: dict[str, Json] = {name.rsplit("/", 1)[-1]: value for name, value in (pins or {}).items()}
    return select(plan, Selection(asked.until, asked.only, named))


async def _kept_pins(house: House, workflow: str) -> dict[str, Json]:
    try:
        return await house.runtime.documents.pins(workflow)
    except NotFound:  # an example of a pack
        return {}


def _trigger(who: Identity, request: Request, key: str | None) -> JsonObject | None:
    """Return what started a run: a person in a browser is told as one on the command line is."""
    if key is None and who.kind != "token":
        return None
    trigger: JsonObject = {"type": "request", "by": who.name}
    if key is not None:
        trigger["key"] = key
    parent = request.headers.get("traceparent", "")
    if re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", parent):  # W3C Trace Context
        trigger["traceparent"] = parent
    return trigger


async def _accepted(house: House, response: Response, run_id: str, *, is_new: bool = True) -> RunSummary:
    """Return a run that was accepted, just now or before."""
    response.headers["Location"] = f"/api/v1/runs/{quote(run_id)}"
    response.status_code = 201 if is_new else 200
    try:
        found = await house.runtime.journal.status(run_id)
    except NotFound:
        raise JournalRefused(
            "The run that this key has started was removed since.",
            code="run_removed",
            remedy="Take another key to start a new one.",
        ) from None
    return redacted(summary_of(found), house.runtime.redactor)


# ---- to look at
@router.get("/runs", dependencies=[needs("view")])
async def list_runs(
    *,
    house: HouseDep,
    workflow: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[list[State] | None, Query(max_length=len(get_args(State)))] = None,
    since: Instant = None,
    until: Instant = None,
    text: Annotated[str | None, Query(max_length=200, description="In id, workflow, inputs, outputs or error.")] = None,
    schedule: Annotated[str | None, Query(max_length=200)] = None,
    parent: Annotated[
        str | None, Query(max_length=100, description="Only runs that a step of this run waits for.")
    ] = None,
    before: Annotated[
        str | None, Query(max_length=100, description="Only runs older than this one; with a cursor it does not count.")
    ] = None,
    cursor_: Annotated[Cursor, Query(alias="cursor")] = None,
    limit: Annotated[Limit, Query()] = 50,
) -> Page[RunSummary]:
    """List runs, the youngest first."""
    query = RunQuery(
        workflow=workflow,
        states=tuple(state or ()),
        since=_seconds(since),
        until=_seconds(until),
        text=_storable(text),
        limit=limit + 1,
        before=None if before is None else _known(before),
        schedule=schedule,
        parent=parent,
    )
    found = await runs_behind(await house.runtime.opened(), query, cursor_)
    items = await summaries(house.runtime, found[:limit])
    return Page(items=items, next=place_behind(found[limit - 1]) if len(found) > limit else None)


@router.get("/runs/{run_id}", dependencies=[needs("view")])
async def show_run(run_id: RunId, house: HouseDep) -> RunReport:
    """Show a run: its steps, when each was at work, and what each attempt was given, gave, took and cost."""
    return (await _read(house, run_id))[1]


@router.get("/runs/{run_id}/summary", dependencies=[needs("view")])
async def summarise_run(run_id: RunId, house: HouseDep) -> RunSummary:
    """Show a run as lists do, without its steps."""
    return await _summary(house, run_id)


@router.get("/runs/{run_id}/steps", dependencies=[needs("view")])
async def show_steps(
    run_id: RunId,
    house: HouseDep,
    path: Annotated[
        str, Query(min_length=1, max_length=500, description="`mail`, `each/mail`, or one turn: `each[3]/mail`.")
    ],
) -> list[StepReport]:
    """Show one step whole, or all turns of it."""
    _, report, _ = await _read(house, run_id)
    name = _plain(path)
    found = [step for step in report.steps if _plain(step.path) == name]
    found = found or [step for step in report.steps if _plain(without_turns(step.path)) == name]
    if not found:
        known = sorted({_plain(without_turns(step.path)) for step in report.steps})
        remedy = meant(name, known) or (f"There are: {choice(known)}." if known else None)
        raise NotFound(f"The run has no step {path!r}.", code="unknown_step", remedy=remedy)
    return found


def _plain(path: str) -> str:
    return path.strip("/").replace("@", "")


@router.get("/runs/{run_id}/timeline", dependencies=[needs("view")])
async def show_timeline(run_id: RunId, house: HouseDep) -> Timeline:
    """Show when each step and each attempt of a run was at work, and what it used."""
    found, report, _ = await _read(house, run_id)
    return run_views.timeline(redacted(summary_of(found), house.runtime.redactor), report)


@router.get("/runs/{run_id}/comparison", dependencies=[needs("view")])
async def compare_runs(
    run_id: RunId, house: HouseDep, other: Annotated[str, Query(max_length=100, description="The id of the other run.")]
) -> RunComparison:
    """Show two runs side by side: what they were given, what each step took and whether it gave the same."""
    reading = Reading(house.runtime)
    sides = [await _read(house, each, reading) for each in (run_id, other)]
    a, b = (redacted(summary_of(found), house.runtime.redactor) for found, _, _ in sides)
    same = sides[0][0].row.document == sides[1][0].row.document
    return run_views.comparison((a, b), (sides[0][1], sides[1][1]), same_document=same)


async def _read(house: House, run_id: str, reading: Reading | None = None) -> tuple[Listed, RunReport, str]:
    found = await (await house.runtime.opened()).status(_known(run_id))
    report, why = await (reading or Reading(house.runtime)).report(found)
    return found, report, why


async def _summary(house: House, run_id: str) -> RunSummary:
    found = await (await house.runtime.opened()).status(_known(run_id))
    (summary,) = await summaries(house.runtime, [found])
    return summary


def _known(run_id: str) -> str:
    """Refuse an id that no journal could look for."""
    if "\0" in run_id or not _encodes(run_id):
        raise NotFound("There is no such run.", code="unknown_run")
    return run_id


def _storable(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "") if _encodes(text) else ""


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


# ---- files
@router.get(
    "/runs/{run_id}/artifacts/{artifact}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
    dependencies=[needs("view")],
)
async def download_artifact(
    run_id: RunId, artifact: Annotated[str, InPath(pattern=r"^(sha256:)?[0-9a-f]{64}$")], house: HouseDep
) -> Response:
    """Download a file that a step has kept. It is never shown in place: it is foreign content."""
    reference = artifact if artifact.startswith("sha256:") else f"sha256:{artifact}"
    found = await (await house.runtime.opened()).status(_known(run_id))
    content = await house.runtime.journal.read_artifact(found.row.id, reference)
    _, report, _ = await _read(house, run_id)
    known = _reference_in(report.model_dump(mode="json"), reference) or {}
    return download(content, str(known.get("name") or artifact[-64:-48]), str(known.get("content_type") or ""))


def download(content: bytes, name: str, content_type: str) -> Response:
    """Return foreign bytes so that no browser does anything with them but keep them."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:100] or "file"
    named = quote(name.encode("utf-8", "replace").decode()[:200], safe="")
    is_type = re.fullmatch(r"[A-Za-z0-9.+-]{1,60}/[A-Za-z0-9.+-]{1,90}", content_type)
    return Response(
        content,
        media_type=content_type if is_type else "application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{named}",  # RFC 6266, RFC 8187
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )


def _reference_in(value: Any, artifact: str) -> JsonObject | None:
    """Return what a report says of a file: its name and its kind."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if each.get("artifact") == artifact:
                return each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return None


# ---- to stop and to go on
@router.post("/runs/{run_id}/cancel", dependencies=[needs("run")])
async def cancel_run(run_id: RunId, who: Who, house: HouseDep, asked: Cancel | None = None) -> RunSummary:
    """Ask a run to stop: no step is begun any more, what cannot be taken back is waited for, `finally` runs."""
    now = asked is not None and asked.now
    await house.runtime.opened()
    times = 0
    while times < (2 if now else 1):
        times = await house.runtime.journal.cancel(_known(run_id))
    house.runtime.driver.notice(run_id)
    house.runtime.dispatcher.look()
    await house.audit.record(who, "run.cancelled", run_id, {"now": now})
    return await _told(house, run_id)


@router.post("/runs/{run_id}/resume", dependencies=[needs("run")])
async def resume_run(run_id: RunId, who: Who, house: HouseDep) -> RunSummary:
    """Make a run ready for a worker that is parked, or whose process is gone; one that waits goes on by itself."""
    journal = await house.runtime.opened()
    found = await journal.status(_known(run_id))
    state = found.status.state
    if state in ENDS:
        raise JournalRefused(
            f"Run {run_id!r} has ended: {state}.", code="has_ended", remedy="Repeat it: rerun or replay."
        )
    if state == "parked":
        await journal.resume(run_id)
    elif state == "running":
        if not any(each.row.id == run_id for each in await journal.abandoned()):
            raise JournalRefused(f"Run {run_id!r} is in the hands of a process that lives.", code="another_owner")
        await journal.release(run_id, ends=found.status.epoch)
    house.runtime.dispatcher.look()
    await house.audit.record(who, "run.resumed", run_id, {"was": state})
    return await _told(house, run_id)


async def _told(house: House, run_id: str) -> RunSummary:
    await house.runtime.announce(run_id)
    return await _summary(house, run_id)


# ---- to repeat
@router.post("/runs/{run_id}/rerun", status_code=201, dependencies=[needs("run")])
async def rerun_run(run_id: RunId, asked: Rerun, who: Who, house: HouseDep, response: Response) -> RunSummary:
    """Do all of a run once more, as a new run: the same document, the same inputs unless they are edited."""
    journal = await house.runtime.opened()
    old = await journal.status(_known(run_id))
    latest = await house.runtime.plan_of(old.row.workflow) if asked.latest else None
    plan = latest or house.runtime.pinned_plan(await journal.document(old.row.document))
    prepared = await repeating.rerun(house.runtime, run_id, _edits(plan, asked.inputs), latest)
    return await _repeated(house, who, response, prepared, "run.rerun")


@router.post("/runs/{run_id}/replay/plan", dependencies=[needs("run")])
async def plan_replay(run_id: RunId, asked: Replay, house: HouseDep) -> ReplayPlan:
    """Say what a replay would send, and what of that was sent before; nothing is started."""
    prepared = await _replayed(house, run_id, asked)
    return ReplayPlan(
        origin=run_id,
        sends=[Sends(step=each.step.name, title=each.step.title, again=[*each.again]) for each in prepared.sends],
        sends_again=prepared.sends_again,
        inherited=len(prepared.records),
    )


@router.post("/runs/{run_id}/replay", status_code=201, dependencies=[needs("run")])
async def replay_run(run_id: RunId, asked: Replay, who: Who, house: HouseDep, response: Response) -> RunSummary:
    """Repeat a run from a step on, as a new run that inherits what was done before it.

    What was sent before is sent again only where `send_again` says so; `replay/plan` lists it (rule A22).
    """
    prepared = await _replayed(house, run_id, asked)
    if prepared.sends_again and not asked.send_again:
        steps = ", ".join(each.step.name for each in prepared.sends if each.again)
        raise JournalRefused(
            f"This would send again what run {run_id!r} has sent, or may have sent: {steps}.",
            code="would_send_again",
            remedy="Say `send_again: true` if it may.",
        )
    return await _repeated(house, who, response, prepared, "run.replayed")


async def _replayed(house: House, run_id: str, asked: Replay) -> Repetition:
    journal = await house.runtime.opened()
    old = await journal.status(_known(run_id))
    plan = house.runtime.pinned_plan(await journal.document(old.row.document))
    return await repeating.replay(house.runtime, run_id, asked.steps, _edits(plan, asked.inputs))


def _edits(plan: Plan, inputs: JsonObject) -> JsonObject:
    """Return inputs as `repeating` takes them: texts as on a command line, where an input is not a text."""
    declared = plan.workflow.inputs
    return {
        name: json.dumps(value)
        if isinstance(value, str) and name in declared and declared[name].type != "string"
        else value
        for name, value in inputs.items()
    }


async def _repeated(house: House, who: Identity, response: Response, prepared: Repetition, action: str) -> RunSummary:
    await repeating.submit(house.runtime, prepared)
    house.runtime.dispatcher.look()
    run_id = prepared.row.id
    await house.audit.record(who, action, run_id, {"origin": prepared.row.origin, "workflow": prepared.row.workflow})
    return await _accepted(house, response, run_id)


# ---- to remove
@router.post("/runs/purge", dependencies=[needs("admin")])
async def purge_runs(asked: Purge, who: Who, house: HouseDep) -> Purged:
    """Remove runs that ended long ago, with their records and files. What guards against repetition stays."""
    keep_s = retention.length(asked.older_than, "older_than")
    purged = await retention.apply(await house.runtime.opened(), keep_s)
    await house.audit.record(who, "runs.purged", asked.older_than, {"runs": purged.runs})
    return Purged.model_validate(asdict(purged))
