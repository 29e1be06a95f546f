"""The names in the log, which stay the same from release to release, and the facts that each has.

A program that reads the log goes by these; docs/telemetry.md shows them, and a test compares both with the code.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class LogEvent(NamedTuple):
    """One name in the log."""

    meaning: str
    facts: tuple[str, ...] = ()  #: names of what the line has besides, in the order of the code


EVENTS: Final[dict[str, LogEvent]] = {
    # ---- runs, with WEFT_LOG=json
    "run_started": LogEvent("A run begins in this process.", ("run_id", "workflow")),
    "run_goes_on": LogEvent("A run that others had, or that rested, goes on in this process.", ("run_id", "workflow")),
    "run_rests": LogEvent(
        "A run was let go of before its end; the state says how.", ("run_id", "workflow", "state", "ms")
    ),
    "run_ended": LogEvent("A run has ended.", ("run_id", "workflow", "state", "ms", "code", "message")),
    "run_remark": LogEvent("The engine says something about a run.", ("run_id", "workflow", "path", "message")),
    "attempt_ended": LogEvent(
        "An attempt has ended.",
        ("run_id", "workflow", "path", "attempt", "variant", "state", "ms", "repeated", "code", "message"),
    ),
    "step_ended": LogEvent("A step has ended.", ("run_id", "workflow", "path", "state", "ms", "code", "message")),
    "step_asks": LogEvent("A step waits for somebody's answer.", ("run_id", "workflow", "path", "message")),
    "action_log": LogEvent("An action says something.", ("run_id", "path", "message")),
    "log": LogEvent("Anything else, such as what a library says.", ("message",)),
    # ---- what happens to runs
    "cannot_be_told": LogEvent("What a run rests on cannot be read for those who watch it.", ("run_id", "reason")),
    "child_left": LogEvent("A child run cannot be followed here.", ("run_id", "reason")),
    "child_parked": LogEvent("A child run cannot go on by itself.", ("run_id",)),
    "run_lost": LogEvent("Another process has taken over a run that was in hand here.", ("run_id", "code")),
    "run_parked": LogEvent("A run cannot go on; the traceback says why.", ("run_id",)),
    "run_taken_over": LogEvent("A run was taken from a dead process.", ("run_id", "owner", "state")),
    "run_unreadable": LogEvent("A run cannot be read here.", ("run_id",)),
    "runs_purged": LogEvent("Old runs were removed.", ("counts", "kept")),
    "outcome_refused": LogEvent("The outcome of an attempt could not be kept.", ("run_id",)),
    "not_for_this_worker": LogEvent("This process lacks what a run follows.", ("run_id", "reason")),
    "document_unreadable": LogEvent("What a run follows cannot be read."),
    "advance_failed": LogEvent("A fault while a run was gone on with.", ("run_id",)),
    "advance_waits": LogEvent("The journal is awaited before a run goes on.", ("run_id",)),
    "delivery_dropped": LogEvent("Others were faster to claim a run.", ("run_id", "code")),
    "release_refused": LogEvent("A run was released by others already.", ("run_id", "code")),
    "call_off_refused": LogEvent("A child run could not be called off; it has ended.", ("run_id", "code")),
    "left_undelivered": LogEvent("Runs were left to the sweep of other workers.", ("code",)),
    "alone_lost": LogEvent("A run that was to be tried alone is not there any more.", ("run_id", "code")),
    "alone_where": LogEvent("It cannot be told where a run was that a process died of.", ("run_id",)),
    "isolation_failed": LogEvent("A fault while a run was tried in a process of its own.", ("run_id",)),
    "observer_failed": LogEvent("A fault of something that watches runs.", ("told",)),
    "warming_failed": LogEvent("An action could not be made ready beforehand.", ("action", "code")),
    # ---- actions
    "action_crashed": LogEvent("A fault of an action; the line has its traceback.", ("message",)),
    "connection_failed": LogEvent("A fault while a connection was made; the line has its traceback.", ("message",)),
    "connection_test_crashed": LogEvent("A fault of a connection's test.", ("connection", "traceback")),
    "hook_failed": LogEvent("A fault of an action's own rules.", ("action", "hook")),
    "secrets_not_known": LogEvent("A connection's secrets could not be read to be masked.", ("connection", "code")),
    # ---- the journal
    "journal_away": LogEvent("The journal cannot be reached.", ("message",)),
    "journal_back": LogEvent("The journal can be reached again."),
    "journal_waits": LogEvent("A write to the journal is tried again.", ("code",)),
    "journal_held": LogEvent("Another program holds the journal's file.", ("place",)),
    "journal_failed": LogEvent("A fault of the journal's file.", ("place", "fault")),
    "journal_failing": LogEvent("The database does not take what is written.", ("fault",)),
    "journal_delayed": LogEvent("A write to the database is tried again.", ("run_id", "fault")),
    "journal_refused": LogEvent("The database has refused a write.", ("run_id", "fault")),
    "journal_deaf": LogEvent("The database cannot call when something is new; it is asked instead.", ("fault",)),
    "journal_other_timeline": LogEvent(
        "Another server, or another past of it, answers: claims are void.", ("before", "now", "dropped")
    ),
    "journal_restored": LogEvent("The journal's file was put back to an older state.", ("place",)),
    "journal_unmarked": LogEvent("The mark beside the journal's file cannot be written.", ("place", "fault")),
    "journal_moved": LogEvent("The journal's file was moved away while it was in use.", ("place",)),
    "journal_move_failed": LogEvent("A move to a database was cut off.", ("place", "fault")),
    "journal_answers_unheard": LogEvent("Those who waited for writes are gone.", ("count",)),
    # ---- the process
    "dispatch_away": LogEvent("The queue of jobs cannot be reached.", ("fault",)),
    "dispatch_back": LogEvent("The queue of jobs can be reached again."),
    "dispatch_failed": LogEvent("A fault of the queue of jobs."),
    "jobs_stay": LogEvent(
        "Jobs could not be marked as done; they are dropped when they are delivered again.", ("jobs", "fault")
    ),
    "keeper_failed": LogEvent("A fault of what looks after runs; it goes on.", ("part",)),
    "look_failed": LogEvent("A fault while looking for runs that are ready; it goes on."),
    "schedules_wait": LogEvent("The journal is awaited before schedules go on.", ("code",)),
    "schedules_failed": LogEvent("A fault of what starts runs by the clock; it goes on."),
    "schedule_failed": LogEvent("A fault of one schedule.", ("schedule",)),
    "secrets_wait": LogEvent("The database that holds the connections is awaited.", ("code",)),
    "tidying_waits": LogEvent("The journal is awaited before old runs are removed.", ("code",)),
    "tidying_failed": LogEvent("A fault while old runs were removed."),
    "state_failed": LogEvent("A fault of the tables beside the journal.", ("place", "fault")),
    "state_deaf": LogEvent("Those tables cannot call when something is new; they are asked instead.", ("fault",)),
    "fault": LogEvent("A fault of Weft itself; the traceback says where."),
    "watcher_failed": LogEvent("A fault of something that is asked about each run.", ("run_id",)),
    # ---- the server
    "request_failed": LogEvent("A request was answered with 5xx.", ("code", "request_id")),
    "stream_failed": LogEvent("A fault of a stream of live events."),
    "stream_ended": LogEvent("A stream of live events ended early; the browser comes back.", ("code",)),
    "documents_away": LogEvent("Workflows cannot be watched for edits; it is tried again.", ("code",)),
    "documents_unseen": LogEvent("A fault while workflows were watched for edits; it goes on."),
    "documents_unwatched": LogEvent("A fault while edits were told to those who listen; it goes on."),
    "live_away": LogEvent("Live events cannot be written; they are left out.", ("reason",)),
    "live_deaf": LogEvent("Live events cannot be read; it is tried again.", ("reason",)),
    "history_unreadable": LogEvent("What a run has done cannot be read for those who listen.", ("run_id", "code")),
    "run_not_followed": LogEvent("A run that an agent has started cannot be followed here.", ("run_id", "reason")),
    "workflow_not_offered": LogEvent("A workflow with faults is not offered to agents.", ("workflow", "reason")),
    "webhook_accepted": LogEvent("A webhook has started a run, or was known already.", ("webhook", "run_id", "which")),
    "webhook_greeted": LogEvent("A sender's test of the address was answered.", ("webhook",)),
    "webhook_refused": LogEvent("A webhook was refused: its signature, time or size.", ("webhook", "code")),
    "webhook_unfit": LogEvent("A webhook does not fit what its workflow takes.", ("webhook", "reason")),
    "webhook_skipped": LogEvent("A webhook has started nothing: its workflow's limit was reached.", ("webhook",)),
    "webhook_failed": LogEvent("A webhook could not be taken; the sender is to come again.", ("webhook", "reason")),
    # ---- telemetry
    "spans_not_possible": LogEvent("Traces are wanted, but a package for them is missing.", ("package",)),
    "spans_not_taken": LogEvent("The receiver of traces does not take them; told once.", ("place", "fault")),
    "spans_taken_again": LogEvent("The receiver of traces takes them again.", ("place",)),
}
