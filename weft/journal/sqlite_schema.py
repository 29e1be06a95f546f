"""The tables of the journal in one SQLite file."""

from __future__ import annotations

from typing import Final

from weft.journal.sqlite_file import Migrations

MIGRATIONS: Final[Migrations] = (
    (
        # What a run was accepted with, which may be large, and what changes at every turn of it stand apart.
        """
        CREATE TABLE runs(
            run INTEGER PRIMARY KEY, document TEXT NOT NULL, inputs TEXT NOT NULL, trigger TEXT NOT NULL,
            scheduled_at REAL, origin TEXT
        ) STRICT
        """,
        "CREATE INDEX runs_document ON runs(document)",
        """
        CREATE TABLE statuses(
            run INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, started_at REAL NOT NULL,
            state TEXT NOT NULL, epoch INTEGER NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL,
            changed_at REAL NOT NULL, wake_at REAL, news INTEGER NOT NULL DEFAULT 0,
            crashes INTEGER NOT NULL DEFAULT 0, alone INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL,
            claimed_size INTEGER NOT NULL, doubt INTEGER NOT NULL DEFAULT 0, reason TEXT, result TEXT
        ) STRICT
        """,
        "CREATE INDEX statuses_by_state ON statuses(state, started_at, id)",
        "CREATE INDEX statuses_by_workflow ON statuses(workflow, state, started_at, id)",
        # What is to be done is found without looking at the runs that need nothing.
        "CREATE INDEX statuses_ready ON statuses(changed_at, id) WHERE state = 'ready'",
        "CREATE INDEX statuses_wake ON statuses(wake_at, id) WHERE state = 'waiting' AND wake_at IS NOT NULL",
        "CREATE INDEX statuses_running ON statuses(owner, state) WHERE state = 'running'",
        "CREATE INDEX statuses_news ON statuses(owner, id, news) WHERE state = 'running' AND news > 0",
        "CREATE INDEX statuses_ended ON statuses(doubt, changed_at) WHERE result IS NOT NULL",
        # `payload` is null where a blob holds it.
        """
        CREATE TABLE records(
            seq INTEGER PRIMARY KEY, run INTEGER NOT NULL, path TEXT NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL,
            payload TEXT, blob TEXT
        ) STRICT
        """,
        "CREATE UNIQUE INDEX records_key ON records(run, path, n, kind)",
        "CREATE INDEX records_blob ON records(blob) WHERE blob IS NOT NULL",
        "CREATE TABLE artifacts(run INTEGER NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (run, hash)) STRICT, WITHOUT ROWID",
        "CREATE INDEX artifacts_hash ON artifacts(hash)",
        "CREATE TABLE blobs(hash TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT",
        "CREATE TABLE documents(hash TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT",
        # Ids of removed runs that must not begin again.
        "CREATE TABLE spent(id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        # `commits` of this `lineage`; below 0 in a copy that was made as a backup.
        "CREATE TABLE file(lineage TEXT NOT NULL, commits INTEGER NOT NULL) STRICT",
        "INSERT INTO file VALUES (lower(hex(randomblob(16))), 0)",
    ),
    (
        # ---- runs that wait for each other: before a gate, or for the end of a child
        # All of it stands in `statuses`: processes of version 1 that live on the file name its columns when they write,
        # and not those of `runs`.
        *(
            f"ALTER TABLE statuses ADD COLUMN {name} TEXT"
            for name in ("schedule", "parent", "parent_path", "gate", "gate_policy")
        ),
        *(f"ALTER TABLE statuses ADD COLUMN {name} INTEGER" for name in ("parent_n", "gate_limit")),
        # Of a run that waits before its gate; has ever had children; has ever held what meters count.
        *(
            f"ALTER TABLE statuses ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
            for name in ("queued", "children", "held")
        ),
        "CREATE INDEX statuses_gate ON statuses(gate, queued) WHERE gate IS NOT NULL AND result IS NULL",
        "CREATE INDEX statuses_by_parent ON statuses(parent, state, started_at, id) WHERE parent IS NOT NULL",
        "CREATE INDEX statuses_by_schedule ON statuses(schedule, state, started_at, id) WHERE schedule IS NOT NULL",
        # ---- what attempts use up: the sum of all time, and each amount for as long as somebody may ask for it
        "CREATE TABLE meters(key TEXT PRIMARY KEY, total INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # `run` is null when the run has been removed; a live one is there while its attempt is under way.
        """
        CREATE TABLE holds(
            hold INTEGER PRIMARY KEY, run INTEGER, path TEXT NOT NULL, n INTEGER NOT NULL, epoch INTEGER NOT NULL,
            key TEXT NOT NULL, amount INTEGER NOT NULL, at REAL NOT NULL, window_s REAL, live INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE INDEX holds_of_attempt ON holds(run, path, n) WHERE run IS NOT NULL",
        "CREATE INDEX holds_live ON holds(key, amount) WHERE live = 1",
        "CREATE INDEX holds_by_time ON holds(key, at, amount) WHERE live = 0",
        "CREATE INDEX holds_left ON holds(at) WHERE run IS NULL",
        # ---- schedules
        """
        CREATE TABLE schedules(
            id TEXT PRIMARY KEY, workflow TEXT NOT NULL, source TEXT NOT NULL, spec TEXT NOT NULL, document TEXT NOT NULL,
            watermark REAL NOT NULL, next_at REAL, fire_at REAL, paused INTEGER NOT NULL, retired INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX schedules_by_workflow ON schedules(workflow, id)",
        "CREATE INDEX schedules_document ON schedules(document)",
        "CREATE INDEX schedules_due ON schedules(fire_at, id) WHERE fire_at IS NOT NULL AND paused = 0 AND retired = 0",
        """
        CREATE TABLE occurrences(
            schedule TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, fate TEXT NOT NULL, decided_at REAL NOT NULL,
            reason TEXT, run_id TEXT, count INTEGER NOT NULL, PRIMARY KEY (schedule, key)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX occurrences_by_time ON occurrences(at, schedule, key)",
        "CREATE INDEX occurrences_of_schedule ON occurrences(schedule, at, key)",
        "CREATE INDEX occurrences_decided ON occurrences(decided_at)",
    ),
)
