"""What must be so when a world has come to rest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from simulation.documents import Answers, Facts, Key, read
from simulation.world import Chaos, Order, World, compiler, document_of

from weft.engine.interpreter import Walk, key_of
from weft.engine.reactor import facts_of
from weft.engine.replaying import without_turns
from weft.engine.report import report_of
from weft.journal.base import ENDS, OUTCOMES, Kept, Record
from weft.outcome import Outcome


def judge(world: World) -> list[str]:
    """Return everything that is wrong, the first first."""
    wrong = list(world.wrong)
    for run_id, run in world.store.runs.items():
        kept = Kept(run.row, run.status, tuple(run.records.values()))
        wrong += [f"{run_id}: {each}" for each in _of_run(world, kept, run.doubt)]
    return wrong


def answers_of(kept: Kept) -> Answers:
    """Return what people said in time, and what child runs came to, as it is on record."""
    found: dict[Key, Any] = {}
    asked = {key_of(record) for record in kept.records if record.kind == "waits"}
    for record in kept.records:
        if key_of(record) in asked and record.kind in ("signal", "rang"):
            found.setdefault(key_of(record), json.loads(record.payload) if record.kind == "signal" else None)
    return found


def rang(kept: Kept) -> frozenset[str]:
    """Return the steps whose time was up, or ended with what is around them."""
    found = (record.path for record in kept.records if (record.n, record.kind) == (0, "rang"))
    return frozenset(path for path in found if not re.search(r"/@\d+$", path))


def cut_off(kept: Kept) -> frozenset[Key]:
    """Return the attempts that a crash left half done and that were not to be repeated."""
    failed = [record for record in kept.records if record.kind == "failed"]
    outcomes = {key_of(record): Outcome.from_text("failed", record.payload).failure for record in failed}
    return frozenset(at for at, failure in outcomes.items() if failure and failure.kind == "effect_unknown")


def facts(kept: Kept, text: str) -> Facts:
    """Return what the records of a run say of what its document leaves open."""
    once = {step.path for step in compiler(text).every_step() if step.once}
    doubts, done = set(), set()
    for record in kept.records:
        told = json.loads(record.payload) if record.kind == "signal" else {}
        result = told.get("result") or {}
        if result.get("doubt") or (result.get("sent_once") and told["state"] != "succeeded"):
            doubts.add(record.path)
        elif record.kind in OUTCOMES and without_turns(record.path) in once:
            failure = Outcome.from_text(record.kind, record.payload).failure  # type: ignore[arg-type]  # one of them
            if failure is not None and failure.effect == "unknown":
                doubts.add(record.path)
            elif record.kind == "succeeded":
                done.add(record.path)
                doubts.discard(record.path)  # somebody has let it be sent again
    return Facts(cut_off(kept), rang(kept), frozenset(doubts), frozenset(done))


def _of_run(world: World, kept: Kept, doubt: bool) -> list[str]:
    status, text = kept.status, world.store.documents[kept.row.document]
    if status.state not in ENDS:
        return [f"is {status.state}: {status.reason}"]
    assert status.result is not None
    wrong: list[str] = []
    told = json.loads(status.result)
    cancelled = any(record.kind == "cancel" for record in kept.records)

    # from its records alone, a run comes to what is stored
    walk = Walk(compiler(text), facts_of(kept), kept.records)
    open_ = walk.advance()
    if walk.result is None or open_:
        wrong.append(f"its records do not lead to its end; open: {open_}")
    elif (walk.result.state, walk.result.outputs) != (status.state, told["outputs"]):
        wrong.append(f"its records lead to {walk.result}, stored is {status.state} {told}")
    if report_of(kept, compiler(text)).state != status.state:
        wrong.append("its report has another state")

    # a second reading of the document comes to the same, by the same paths
    k = json.loads(kept.row.inputs)["k"]
    reading = read(document_of(text), k, answers_of(kept), facts(kept, text))
    found = {key_of(record) for record in kept.records if record.kind in (*OUTCOMES, "rang", "signal")}
    if cancelled:
        if status.state != "cancelled":
            wrong.append(f"was cancelled and is {status.state}")
        wrong += _astray(found, set(), reading.cancelled.may)
    else:
        if (status.state, told["outputs"]) != (reading.state, reading.outputs):
            wrong.append(f"came to {status.state} {told}, undisturbed: {reading.state} {reading.outputs}")
        wrong += _astray(found, reading.reached.must, reading.reached.may)
    if doubt != in_doubt(kept.records):
        wrong.append(f"doubt is {doubt}")
    return [*wrong, *_of_family(world, kept)]


def _of_family(world: World, kept: Kept) -> list[str]:
    """Compare what a run was told of its children with what they came to, each on record once."""
    wrong = []
    told = {key_of(record): json.loads(record.payload) for record in kept.records if record.kind == "signal"}
    for record in kept.records:
        facts = json.loads(record.payload) if record.kind == "waits" else {}
        end = told.get(key_of(record))
        if "child" not in facts or end is None or end["state"] == "skipped":
            continue
        child = world.store.runs[facts["child"]]
        if (end["run"], end["state"], end["result"]) != (
            child.row.id,
            child.status.state,
            json.loads(child.status.result or "null"),
        ):
            wrong.append(f"was told {end} of {child.row.id}, which is {child.status}")
    waits = [json.loads(record.payload) for record in kept.records if record.kind == "waits"]
    known = {facts["child"] for facts in waits if "child" in facts}
    runs = world.store.runs.values()
    started = {run.row.id for run in runs if run.row.parent and run.row.parent.run_id == kept.row.id}
    if started - known:
        wrong.append(f"has started {started - known}, which is not on record")
    return wrong


def _astray(found: set[Key], must: set[Key], may: set[Key]) -> list[str]:
    wrong = []
    if found - may:
        wrong.append(f"astray, the document does not lead to {sorted(found - may)}")
    if must - found:
        wrong.append(f"astray, not on record is {sorted(must - found)}")
    return wrong


def in_doubt(records: tuple[Record, ...]) -> bool:
    """Tell whether a step has sent something, perhaps, and never learned of it."""
    doubts: set[str] = set()
    for record in records:
        if record.kind == "succeeded":
            doubts.discard(record.path)
        elif record.kind in OUTCOMES:
            failure = Outcome.from_text(record.kind, record.payload).failure  # type: ignore[arg-type]  # one of them
            if failure is not None and failure.effect == "unknown":
                doubts.add(record.path)
    return bool(doubts)


def calm(order: Order, answers: Mapping[str, Answers]) -> World:
    """Return a world in which nothing goes wrong and the same answers are given."""
    alone = Order(order.run_id, order.document, order.k, answers=answers, children=order.children)
    return World.run("calm", [alone], Chaos(), processes=1)


def against_calm(world: World) -> list[str]:
    """Compare every run that was not cancelled with an undisturbed one, with its children."""
    wrong = []
    for order in world.orders:
        run = world.store.runs[order.run_id]
        family = _family(world, order.run_id)
        cancelled = any(record.kind == "cancel" for kept in family for record in kept.records)
        if cancelled or run.status.result is None or any(cut_off(kept) for kept in family):
            continue
        quiet = calm(order, {kept.row.id: answers_of(kept) for kept in family})
        wrong += [f"undisturbed, {each}" for each in judge(quiet)]
        others = _family(quiet, order.run_id)
        if [_by_the_clock(kept) for kept in family] != [_by_the_clock(kept) for kept in others]:
            continue  # it took longer here than there
        status = quiet.store.runs[order.run_id].status
        outputs = [json.loads(each.result or "{}").get("outputs") for each in (status, run.status)]
        if status.state != run.status.state or outputs[0] != outputs[1]:
            wrong.append(f"{order.run_id}: {run.status.state} {outputs[1]}, undisturbed {status.state} {outputs[0]}")
    return wrong


def _family(world: World, run_id: str) -> list[Kept]:
    """Return a run and all that it has started, by id."""
    found, todo = [], [run_id]
    while todo:
        run = world.store.runs[todo.pop()]
        found.append(Kept(run.row, run.status, tuple(run.records.values())))
        todo += [
            each.row.id
            for each in world.store.runs.values()
            if each.row.parent and each.row.parent.run_id == run.row.id
        ]
    return sorted(found, key=lambda kept: kept.row.id)


def _by_the_clock(kept: Kept) -> tuple[Any, ...]:
    """Return what a run has left to time: what was up when, and which children a gate left out."""
    skipped = {at for at, end in answers_of(kept).items() if end is not None and end.get("state") == "skipped"}
    return kept.row.id, rang(kept), skipped
