"""The rows of runs in PostgreSQL: how they are made, locked, read and written, many at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, Final, NamedTuple

from weft.journal.base import LARGEST_INLINE, Gate, Parent, Record, RecordKind, RunRow, State, Status
from weft.journal.postgres_link import Statement

DOCUMENTS: Final = "SELECT hash FROM weft.documents WHERE hash = ANY(%s) ORDER BY hash FOR KEY SHARE"

_ACCEPT: Final = """
WITH kept AS (
    INSERT INTO weft.runs (id, workflow, document, inputs, trigger, started_at, scheduled_at, origin)
    SELECT x.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[],
        %s::text[]) AS x(id, workflow, document, inputs, trigger, started_at, scheduled_at, origin)
    WHERE EXISTS (SELECT FROM weft.documents AS d WHERE d.hash = x.document)
        AND NOT EXISTS (SELECT FROM weft.spent AS s WHERE s.id = x.id)
    ON CONFLICT (id) DO NOTHING RETURNING id, started_at, origin
), files AS (
    INSERT INTO weft.artifacts (run_id, hash)
    SELECT kept.id, a.hash FROM kept JOIN weft.artifacts AS a ON a.run_id = kept.origin
), clock AS (SELECT extract(epoch FROM clock_timestamp())::float8 AS now)
INSERT INTO weft.states (id, started_at, born, token, epoch, state, owner, since, changed_at{into})
SELECT kept.id, kept.started_at, x.token, x.token, x.epoch, x.state, x.owner, clock.now, clock.now{values}
FROM kept JOIN unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[]{types})
    AS x(id, token, epoch, state, owner{columns})
    ON x.id = kept.id, clock
RETURNING id
"""
_TIES: Final = ("schedule", "parent", "parent_path", "parent_n", "gate", "gate_limit", "gate_policy")
_TYPES: Final = ("text", "text", "text", "integer", "text", "integer", "text")
_FREE: Final = _ACCEPT.format(into="", columns="", values="", types="")
_TIED: Final = _ACCEPT.format(
    into="".join(f", {name}" for name in (*_TIES, "gate_at")),
    columns="".join(f", {name}" for name in _TIES),
    values="".join(f", x.{name}" for name in _TIES) + ", CASE WHEN x.gate IS NOT NULL THEN clock.now END",
    types="".join(f", %s::{type_}[]" for type_ in _TYPES),
)

INHERIT: Final = """
WITH kept AS (
    SELECT a.run_id, f.hash FROM weft.artifacts AS a JOIN weft.files AS f ON f.hash = a.hash
    WHERE a.run_id = ANY(%s) FOR KEY SHARE OF f
)
INSERT INTO weft.artifacts (run_id, hash)
SELECT r.id, kept.hash FROM weft.runs AS r JOIN kept ON kept.run_id = r.origin WHERE r.id = ANY(%s)
ON CONFLICT DO NOTHING
"""

_COLUMNS: Final = """
    id, state, epoch, owner, changed_at, wake_at, news, crashes, alone, size, reason, result,
    token, born, since, claimed_size, records, doubt,
    CASE WHEN queued OR children OR parent IS NOT NULL OR gate IS NOT NULL THEN
        json_build_array(queued, children, parent, parent_path, parent_n, gate, gate_limit, gate_policy)::text END
"""
"""What ties a run to others is one column, since most have none, and each column costs."""

LOCK: Final = f"SELECT {_COLUMNS} FROM weft.states WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"  # noqa: S608  constants

LOCK_WITH_QUEUES: Final = f"""
SELECT {_COLUMNS} FROM weft.states WHERE id = ANY(%s::text[] || ARRAY(
    SELECT s.id FROM unnest(%s::text[]) AS g(key), LATERAL (
        SELECT id FROM weft.states WHERE gate = g.key AND queued AND state = 'waiting' ORDER BY gate_at, id LIMIT %s
    ) AS s
)) ORDER BY id FOR NO KEY UPDATE
"""  # noqa: S608  constants
"""The first ones that wait before gates are locked, too: whoever ends lets them through."""

KNOWN: Final = """
SELECT r.run_id, r.path, r.n, r.kind, coalesce(r.payload, l.payload)
FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[])) AS x(run_id, path, n, kind)
JOIN weft.records AS r ON r.run_id = x.run_id AND r.path = x.path AND r.n = coalesce(x.n, r.n)
    AND r.kind = coalesce(x.kind, r.kind)
LEFT JOIN weft.payloads AS l ON l.run_id = r.run_id AND l.hash = r.hash
"""

FAMILY: Final = """
WITH RECURSIVE family AS (
    SELECT id, parent FROM weft.states
    WHERE parent = ANY(%s) AND state IN ('ready', 'running', 'waiting', 'parked')
    UNION
    SELECT s.id, s.parent FROM family AS f JOIN weft.states AS s ON s.parent = f.id
    WHERE s.state IN ('ready', 'running', 'waiting', 'parked')
)
SELECT id, parent FROM family ORDER BY id
"""
"""The open descendants of runs, each under its parent."""

_RECORD: Final = """
INSERT INTO weft.records (run_id, path, n, kind, seq, payload, hash)
SELECT * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[], %s::integer[], %s::text[], %s::text[])
"""

_LARGE: Final = "INSERT INTO weft.payloads (run_id, hash, payload) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"

_CHANGE: Final = """
UPDATE weft.states AS s SET state = x.state, epoch = x.epoch, owner = x.owner, changed_at = x.changed_at,
    wake_at = x.wake_at, news = x.news, crashes = x.crashes, alone = x.alone, size = x.size, reason = x.reason,
    result = x.result, token = x.token, since = x.since, claimed_size = x.claimed_size, records = x.records,
    doubt = x.doubt{changes}
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::float8[], %s::float8[], %s::integer[], %s::integer[],
    %s::boolean[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::bigint[], %s::integer[],
    %s::boolean[]{types}) AS x(id, state, epoch, owner, changed_at, wake_at, news, crashes, alone, size, reason, result,
    token, since, claimed_size, records, doubt{columns})
WHERE s.id = x.id
"""
_CHANGE_FREE: Final = _CHANGE.format(changes="", types="", columns="")
_CHANGE_TIED: Final = _CHANGE.format(
    changes=", queued = x.queued, children = x.children",
    types=", %s::boolean[], %s::boolean[]",
    columns=", queued, children",
)

_REMOVE: Final = (
    "DELETE FROM weft.artifacts WHERE run_id = ANY(%s)",
    "DELETE FROM weft.states WHERE id = ANY(%s)",
    "DELETE FROM weft.runs WHERE id = ANY(%s)",
)


class Wanted(NamedTuple):
    """Which records of a run a decision needs; None stands for all numbers or kinds."""

    path: str
    n: int | None
    kind: RecordKind | None


class New(NamedTuple):
    """A run that is to be accepted."""

    row: RunRow
    token: str
    epoch: int = 0
    state: State = "ready"
    owner: str = ""


@dataclass(slots=True)
class Row:
    """Where a run stands, under its lock."""

    id: str
    state: State
    epoch: int
    owner: str
    changed_at: float
    wake_at: float | None
    news: int
    crashes: int
    alone: bool
    size: int
    reason: str | None
    result: str | None
    token: str
    born: str  #: the token of its acceptance, by which that is known again
    since: float
    claimed_size: int
    records: int
    doubt: bool
    ties: InitVar[str | None] = None
    queued: bool = False  #: waits before its gate
    children: bool = False  #: it has, or had, runs that its steps wait for
    parent: Parent | None = None
    gate: Gate | None = None

    def __post_init__(self, ties: str | None) -> None:
        if ties is not None:
            self.queued, self.children, *others = json.loads(ties)
            parent, gate = others[:3], others[3:]
            self.parent = None if parent[0] is None else Parent(*parent)
            self.gate = None if gate[0] is None else Gate(*gate)

    @property
    def is_tied(self) -> bool:
        return self.queued or self.children or self.parent is not None or self.gate is not None

    @property
    def status(self) -> Status:
        return Status(
            self.state,
            self.epoch,
            self.owner,
            self.changed_at,
            self.wake_at,
            self.news,
            self.crashes,
            self.alone,
            self.size,
            self.reason,
            self.result,
            self.queued,
        )


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return the values of each column."""
    return [list(column) for column in zip(*rows, strict=True)]


def accepting(new: Sequence[New]) -> Statement:
    """Return the statement that makes the rows of runs which are not known yet."""
    rows = [each.row for each in new]
    runs = columns(
        [
            (row.id, row.workflow, row.document, row.inputs, row.trigger, row.started_at, row.scheduled_at, row.origin)
            for row in rows
        ]
    )
    states = columns([(each.row.id, each.token, each.epoch, each.state, each.owner) for each in new])
    if not any(row.schedule or row.parent or row.gate for row in rows):
        return _FREE, runs + states
    return _TIED, runs + states + columns([_ties(row) for row in rows])


def _ties(row: RunRow) -> tuple[Any, ...]:
    parent = (row.parent.run_id, row.parent.path, row.parent.n) if row.parent else (None, None, None)
    gate = (row.gate.key, row.gate.limit, row.gate.policy) if row.gate else (None, None, None)
    return row.schedule, *parent, *gate


def removing(run_ids: Sequence[str]) -> list[Statement]:
    """Return the statements that take back runs which this very transaction has accepted."""
    return [(text, (list(run_ids),)) for text in _REMOVE]


def writing(records: Iterable[tuple[str, int, Record]], changed: Sequence[Row]) -> list[Statement]:
    """Return the statements that keep new records, with their runs and places, and write rows back."""
    statements: list[Statement] = []
    plain: list[tuple[Any, ...]] = []
    for run_id, seq, each in records:
        hash_ = _hash(each.payload)
        plain.append((run_id, each.path, each.n, each.kind, seq, None if hash_ else each.payload, hash_))
        if hash_:
            statements.append((_LARGE, (run_id, hash_, each.payload)))
    if plain:
        statements.append((_RECORD, columns(plain)))
    if any(row.is_tied for row in changed):
        values = [(*_values(row), row.queued, row.children) for row in changed]
        statements.append((_CHANGE_TIED, columns(values)))
    elif changed:
        statements.append((_CHANGE_FREE, columns([_values(row) for row in changed])))
    return statements


def _hash(payload: str) -> str | None:
    """Return the hash under which a large payload is kept; None when it stands in the record."""
    return hashlib.sha256(payload.encode()).hexdigest() if len(payload) > LARGEST_INLINE else None


def _values(row: Row) -> tuple[Any, ...]:
    return (
        row.id,
        row.state,
        row.epoch,
        row.owner,
        row.changed_at,
        row.wake_at,
        row.news,
        row.crashes,
        row.alone,
        row.size,
        row.reason,
        row.result,
        row.token,
        row.since,
        row.claimed_size,
        row.records,
        row.doubt,
    )
