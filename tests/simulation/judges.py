"""What must be so when a world has come to rest."""

from __future__ import annotations

import json
from typing import Any

from simulation.documents import Answers, Key, read
from simulation.world import Chaos, Order, World, compiler

from weft.engine.interpreter import Walk, key_of
from weft.engine.reactor import facts_of
from weft.engine.report import report_of
from weft.journal.base import ENDS, OUTCOMES, Kept, Record
from weft.outcome import Outcome


def judge(world: World) -> list[str]:
    """Return everything that is wrong, the first first."""
    wrong = list(world.wrong)
    for order in world.orders:
        run = world.store.runs.get(order.run_id)
        if run is None:
            continue
        kept = Kept(run.row, run.status, tuple(run.records.values()))
        wrong += [f"{order.run_id}: {each}" for each in _of_run(order, kept, run.doubt)]
    return wrong


def answers_of(kept: Kept) -> Answers:
    """Return what people said in time, as it is on record."""
    found: dict[str, Any] = {}
    asked = {record.path for record in kept.records if record.kind == "waits"}
    for record in kept.records:
        if record.path in asked and record.kind in ("signal", "rang"):
            found.setdefault(record.path, json.loads(record.payload) if record.kind == "signal" else None)
    return found


def cut_off(kept: Kept) -> frozenset[Key]:
    """Return the attempts that a crash left half done and that were not to be repeated."""
    failed = [record for record in kept.records if record.kind == "failed"]
    outcomes = {key_of(record): Outcome.from_text("failed", record.payload).failure for record in failed}
    return frozenset(at for at, failure in outcomes.items() if failure and failure.kind == "effect_unknown")


def _of_run(order: Order, kept: Kept, doubt: bool) -> list[str]:
    status = kept.status
    if status.state not in ENDS:
        return [f"is {status.state}: {status.reason}"]
    assert status.result is not None
    wrong: list[str] = []
    told = json.loads(status.result)
    cancelled = any(record.kind == "cancel" for record in kept.records)

    # from its records alone, a run comes to what is stored
    walk = Walk(compiler(order.text), facts_of(kept), kept.records)
    open_ = walk.advance()
    if walk.result is None or open_:
        wrong.append(f"its records do not lead to its end; open: {open_}")
    elif (walk.result.state, walk.result.outputs) != (status.state, told["outputs"]):
        wrong.append(f"its records lead to {walk.result}, stored is {status.state} {told}")
    if report_of(kept, compiler(order.text)).state != status.state:
        wrong.append("its report has another state")

    # a second reading of the document comes to the same, by the same paths
    reading = read(order.document, order.k, answers_of(kept), cut_off(kept))
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


def calm(order: Order, answers: Answers) -> World:
    """Return a world in which nothing goes wrong and the same answers are given."""
    alone = Order(order.run_id, order.document, order.k, answers=answers)
    return World.run("calm", [alone], Chaos(), processes=1)


def against_calm(world: World) -> list[str]:
    """Compare every run that was not cancelled with an undisturbed one."""
    wrong = []
    for order in world.orders:
        run = world.store.runs[order.run_id]
        if order.cancels or run.status.result is None:
            continue
        kept = Kept(run.row, run.status, tuple(run.records.values()))
        if cut_off(kept):
            continue
        quiet = calm(order, answers_of(kept))
        wrong += [f"undisturbed, {each}" for each in judge(quiet)]
        status = quiet.store.runs[order.run_id].status
        outputs = [json.loads(each.result or "{}").get("outputs") for each in (status, run.status)]
        if status.state != run.status.state or outputs[0] != outputs[1]:
            wrong.append(f"{order.run_id}: {run.status.state} {outputs[1]}, undisturbed {status.state} {outputs[0]}")
    return wrong
