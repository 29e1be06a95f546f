"""Lists of runs, the youngest first, each page by an index."""

from __future__ import annotations

from typing import Any, Final

from weft.journal.base import Gate, Listed, Parent, RunQuery, RunRow, Status
from weft.journal.decisions import needles
from weft.journal.postgres_link import Statement

ROW: Final = "r.id, r.workflow, r.document, r.inputs, r.trigger, r.started_at, r.scheduled_at, r.origin"
TIES: Final = "s.schedule, s.parent, s.parent_path, s.parent_n, s.gate, s.gate_limit, s.gate_policy"
STATUS: Final = "s.state, s.epoch, s.owner, s.changed_at, s.wake_at, s.news, s.crashes, s.alone, s.size, s.reason, s.result, s.queued"

LISTED: Final = f"SELECT {ROW}, {TIES}, {STATUS} FROM weft.runs AS r JOIN weft.states AS s ON s.id = r.id"  # noqa: S608  constants
ONE: Final = f"{LISTED} WHERE r.id = %s"
OPEN: Final = f"{LISTED} WHERE s.state IN ('ready', 'running', 'waiting', 'parked') ORDER BY s.started_at, s.id"
READY: Final = """
SELECT id FROM weft.states WHERE state = 'ready' AND (%s = 0 OR since <= extract(epoch FROM now())::float8 - %s)
ORDER BY since, id LIMIT %s
"""
"""Without a time to wait for, clocks do not matter: one that was set back would hide what is ready."""
RECORDS: Final = """
SELECT r.path, r.n, r.kind, coalesce(r.payload, l.payload)
FROM weft.records AS r LEFT JOIN weft.payloads AS l ON l.run_id = r.run_id AND l.hash = r.hash
WHERE r.run_id = %s AND (SELECT size FROM weft.states WHERE id = %s) <= %s ORDER BY r.seq
"""
"""Nothing at all of a run that is too large."""

ABANDONED: Final = f"""
{LISTED} JOIN unnest(%s::text[], %s::bigint[]) AS x(name, beat) ON x.name = s.owner
LEFT JOIN weft.processes AS p ON p.name = x.name
WHERE s.state = 'running' AND p.beat IS NOT DISTINCT FROM x.beat ORDER BY s.started_at, s.id
"""
"""The runs of owners who are dead, and whose beats are still the same."""


def listed(row: tuple[Any, ...]) -> Listed:
    """Return a run from a row of `LISTED`."""
    schedule, parent, path, n, gate, limit, policy = row[8:15]
    ties: tuple[Any, ...] = (
        schedule,
        None if parent is None else Parent(parent, path, n),
        None if gate is None else Gate(gate, limit, policy),
    )
    return Listed(RunRow(*row[:8], *ties), Status(*row[15:]))


def listing(query: RunQuery) -> Statement:
    """Return the statement that lists what a query asks for."""
    order = "r"
    clauses: list[str] = []
    values: list[Any] = []
    if query.states:
        order = "s"  # `states` has an index by state and age, `runs` one by age
        clauses.append("s.state = ANY(%s)")
        values.append(list(query.states))
    if query.workflow is not None:
        order = "r"
        clauses.append("r.workflow = %s")
        values.append(query.workflow)
    if query.schedule is not None:
        order = "s"
        clauses.append("s.schedule = %s")
        values.append(query.schedule)
    if query.parent is not None:
        order = "s"
        clauses.append("s.parent = %s")
        values.append(query.parent)
    if query.since is not None:
        clauses.append(f"{order}.started_at >= %s")
        values.append(query.since)
    if query.until is not None:
        clauses.append(f"{order}.started_at < %s")
        values.append(query.until)
    if query.before is not None:
        clauses.append(
            f"({order}.started_at, {order}.id) < (SELECT started_at, id FROM weft.runs WHERE id = %s)"  # noqa: S608
        )
        values.append(query.before)
    if query.text is not None:
        clauses.append(
            "EXISTS (SELECT FROM unnest(ARRAY[r.id, r.workflow, r.inputs, s.result, s.reason]) AS t(text),"
            " unnest(%s::text[]) AS w(needle) WHERE strpos(lower(t.text), w.needle) > 0)"
        )
        values.append(list(needles(query.text)))
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    last = f"ORDER BY {order}.started_at DESC, {order}.id DESC LIMIT %s"
    return f"{LISTED} {where} {last}", [*values, query.limit]
