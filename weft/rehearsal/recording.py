"""Files of real answers: one entry for each attempt of a run that went outside, to be read by people and given again.

    weft run W --record FILE      real answers go to the file
    weft run W --replay FILE      they come from the file, and nothing is opened

An entry holds what was asked beside its hash: the hash decides whether a later call is the same, the text shows what
differs. Secrets are masked before anything is written, and in what is compared with it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field

from weft import validation
from weft.engine.interpreter import Tried, Walk
from weft.engine.reactor import facts_of
from weft.errors import InvalidDocument, InvalidInputs, Problem, Where
from weft.executor import Call
from weft.journal.base import Journal, Kept, RunQuery
from weft.outcome import Failure, Outcome, decode, request_hash
from weft.plan import Plan
from weft.redaction import MASK, PATTERNS, Redactor
from weft.rehearsal.matching import differences, sides
from weft.rehearsal.performing import Answer, effects_of
from weft.runtime import Runtime
from weft.source import MAX_BYTES, read_file
from weft.types import Json, JsonObject
from weft.validation import Findings
from weft.workflow import Instant, Model

HEAD: Final = "# Real answers of a run, for `weft run --replay` and for tests. Secrets are masked.\n"

MOST_SHOWN: Final = 5
"""Of the places at which a request differs that are shown."""


class RecordedError(Model):
    """Why an attempt failed."""

    kind: str
    """The kind of the error."""
    message: str = ""
    """What happened, for people."""
    remedy: str | None = None
    """What can be done."""
    retryable: bool = False
    """Whether the action said that another try may help."""
    retry_after_s: float | None = None
    """How long the other side asked to wait, in seconds."""
    effect: Literal["none", "unknown", "happened"] = "none"
    """Whether the effect has happened all the same."""
    status: int | None = None
    """The protocol's status of the failure."""
    details: JsonObject = Field(default_factory=dict)
    """Further facts."""

    def failure(self) -> Failure:
        """Return the failure as an attempt has it."""
        problem = Problem(self.kind, self.message or f"A failure of kind {self.kind}.", self.remedy)
        return Failure(problem, self.retryable, self.retry_after_s, self.effect, self.status, self.details)


class RecordedAttempt(Model):
    """One attempt and what it came to."""

    path: str
    """The step's path in the run, with the turns of loops: `/each[0]/mail`."""
    attempt: int = Field(ge=1)
    """From 1, over the whole chain of retries and fallbacks."""
    uses: str
    """The action's id."""
    variant: str = "default"
    """What was called."""
    request: str
    """A hash of action, arguments and variant, secrets masked."""
    arguments: JsonObject
    """What the action was given, secrets masked."""
    output: Json | None = None
    """What it returned."""
    error: RecordedError | None = None
    """Why it failed."""

    def answer(self) -> Answer:
        failure = None if self.error is None else self.error.failure()
        return Answer(None if failure else self.output, failure, "recorded")


class RecordedQuestion(Model):
    """An approval and its answer."""

    path: str
    """The step's path in the run."""
    answer: Literal["approve", "reject"]
    """What was answered."""
    by: str | None = None
    """Who answered."""
    comment: str | None = None
    """What they said."""


class Recording(Model):
    """The real answers of one run."""

    workflow: str
    """The workflow's name."""
    run: str
    """The run's id."""
    started_at: Instant
    """When the run started; a replay starts at the same instant."""
    inputs: JsonObject = Field(default_factory=dict)
    """What the run was given."""
    trigger: Json | None = None
    """What started it."""
    attempts: list[RecordedAttempt]
    """The attempts of actions that read or send, in their order."""
    questions: list[RecordedQuestion] = Field(default_factory=list)
    """The approvals that somebody answered."""


def load(path: Path) -> Recording:
    """Read a recording.

    Raises:
        InvalidDocument: The file cannot be read, or is none; carries every problem with its place.
    """
    return validation.document(Recording, read_file(path), InvalidDocument, _check)


def require_of(recording: Recording, file: Path, workflow: str) -> None:
    """Refuse the answers of another workflow.

    Raises:
        InvalidInputs: They are.
    """
    if recording.workflow != workflow:
        raise InvalidInputs(
            f"{file} holds answers of the workflow {recording.workflow!r}, not of {workflow!r}.",
            code="other_workflow",
            remedy="Record answers of this one: weft run … --record FILE",
        )


def _check(recording: Recording, findings: Findings) -> None:
    seen: set[tuple[str, int]] = set()
    for i, entry in enumerate(recording.attempts):
        if (entry.path, entry.attempt) in seen:
            message = f"Attempt {entry.attempt} of {entry.path!r} stands here twice."
            findings.add(("attempts", i, "path"), "duplicate", message, "Delete one of them.")
        seen.add((entry.path, entry.attempt))
        if entry.output is not None and entry.error is not None:
            message = "An attempt has 'output' or 'error', not both."
            findings.add(("attempts", i, "error"), "excludes", message, "Delete one of them.", key=True)


def require_writable(file: Path) -> None:
    """Refuse a file that could not be written, before a run whose answers it is to hold.

    Raises:
        InvalidInputs: It cannot be.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise InvalidInputs(
            f"No file can be written in {file.parent}: {error.strerror or error}.",
            code="unwritable_file",
            remedy="Name a file elsewhere; nothing was run.",
        ) from error


async def save(file: Path, runtime: Runtime, run_id: str) -> int:
    """Write the answers that a run and its children have had, and return how many there are.

    Raises:
        InvalidDocument: There is more than a file can hold.
    """
    journal, redactor = runtime.journal, runtime.redactor
    run = await journal.load(run_id)
    runs = [(run, ""), *[(await journal.load(child), at) async for child, at in _children(journal, run_id, "")]]
    tried: list[tuple[str, Tried]] = []
    for each, at in runs:
        plan = runtime.pinned_plan(await journal.document(each.row.document))
        tried += [(at, mark) for mark in _attempts(each, plan)]
    recording: dict[str, Any] = {
        "workflow": run.row.workflow,
        "run": run_id,
        "started_at": datetime.fromtimestamp(run.row.started_at, UTC).isoformat(),
        "inputs": decode(run.row.inputs),
        "trigger": json.loads(run.row.trigger),
        "attempts": [
            _entry(at + mark.call.path, mark.call, mark.outcome, redactor)
            for at, mark in sorted(tried, key=lambda each: each[1].outcome.started_at)
        ],
        "questions": [entry for each, at in runs for entry in _answered(each, at)],
    }
    text = HEAD + to_yaml(masked({key: value for key, value in recording.items() if value is not None}, redactor))
    if len(text.encode()) > MAX_BYTES:
        raise InvalidDocument(
            f"The answers of the run take more than {MAX_BYTES:,} bytes; they were not written.",
            code="too_large",
            remedy="Record a run of fewer items, or have the actions keep large values as artifacts.",
            where=Where(str(file)),
        )
    _write(file, text)
    return len(recording["attempts"])


def _attempts(run: Kept, plan: Plan) -> Iterator[Tried]:
    """Yield the attempts of a run that went outside and ended by themselves."""
    walk = Walk(plan, facts_of(run), run.records)
    walk.advance()
    for mark in walk.marks:
        if isinstance(mark, Tried) and effects_of(mark.call) != "none" and mark.outcome.state != "cancelled":
            yield mark


async def _children(journal: Journal, run_id: str, at: str) -> AsyncIterator[tuple[str, str]]:
    """Yield the ids of the runs that a run has started, with the paths of their steps; those of theirs too."""
    for child in await journal.runs(RunQuery(parent=run_id, limit=10_000)):
        if child.row.parent is not None:
            path = at + child.row.parent.path
            yield child.row.id, path
            async for inner in _children(journal, child.row.id, path):
                yield inner


def _answered(run: Kept, at: str) -> Iterator[JsonObject]:
    asked = {record.path for record in run.records if record.kind == "waits" and "message" in decode(record.payload)}
    for record in run.records:
        if record.kind == "signal" and record.path in asked:
            said = decode(record.payload)
            yield {
                "path": at + record.path,
                **{key: said.get(key) for key in ("answer", "by", "comment") if said.get(key)},
            }


def _entry(path: str, call: Call, outcome: Outcome, redactor: Redactor) -> JsonObject:
    arguments = asked_for(call, redactor)
    entry: JsonObject = {
        "path": path,
        "attempt": call.number,
        "uses": call.step.uses,
        "variant": call.variant.name,
        "request": request_hash(call.step.uses, arguments, call.variant.name),
        "arguments": arguments,
    }
    if outcome.failure is None:
        return {**entry, "output": outcome.output}
    failure = outcome.failure
    error: dict[str, Any] = {
        "kind": failure.kind,
        "message": failure.problem.message,
        "remedy": failure.problem.remedy,
        "retryable": failure.retryable,
        "retry_after_s": failure.retry_after_s,
        "effect": failure.effect,
        "status": failure.status,
        "details": dict(failure.details) or None,
    }
    return {**entry, "error": {key: value for key, value in error.items() if value is not None}}


def asked_for(call: Call, redactor: Redactor) -> JsonObject:
    """Return what an attempt asks for, masked: its arguments, over them those of its variant."""
    found: JsonObject = masked({**call.arguments, **call.variant.arguments}, redactor)
    return found


def masked(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value with every known secret masked, and whatever looks like a credential."""
    return _without_patterns(redactor.value(value))


def _without_patterns(value: Any) -> Any:
    match value:
        case str():
            return PATTERNS.sub(MASK, value)
        case dict():
            return {_without_patterns(key): _without_patterns(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_patterns(item) for item in value]
        case _:
            return value


class Replay:
    """Answers attempts and questions from a recording, and knows what did not fit."""

    def __init__(self, recording: Recording, file: Path, redactor: Redactor) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._redactor = redactor
        self._attempts = {(entry.path, entry.attempt): entry for entry in recording.attempts}
        self._questions = {entry.path: entry for entry in recording.questions}
        self._used: set[tuple[str, int]] = set()

    def answer(self, path: str, call: Call) -> Answer | None:
        """Return what was recorded for an attempt; a failure where nothing was, or for something else."""
        if effects_of(call) == "none":
            return None
        entry = self._attempts.get((path, call.number))
        if entry is None:
            return self._unfit(
                call, "no_recorded_answer", f"{self._file} has no answer for attempt {call.number} of {path}."
            )
        self._used.add((path, call.number))
        arguments = asked_for(call, self._redactor)
        if entry.request == request_hash(call.step.uses, arguments, call.variant.name):
            return entry.answer()
        return self._unfit(call, "other_request", _told(path, call, entry, arguments))

    def approve(self, path: str) -> JsonObject | None:
        """Return what was answered to a question."""
        entry = self._questions.get(path)
        return None if entry is None else {"answer": entry.answer, "by": entry.by, "comment": entry.comment}

    def unused(self) -> list[str]:
        """Return the recorded attempts that nothing asked for: `attempt 2 of /mail`."""
        return [f"attempt {at[1]} of {at[0]}" for at in self._attempts if at not in self._used]

    def _unfit(self, call: Call, code: str, message: str) -> Answer:
        remedy = "Record the answers again: weft run … --record FILE"
        problem = Problem(code, message, remedy, call.step.where())
        self.problems.append(problem)
        return Answer(
            failure=Failure(problem, effect="none", details={"fallback": False, "max_tries": 1}), how="recorded"
        )


def _told(path: str, call: Call, entry: RecordedAttempt, arguments: JsonObject) -> str:
    """Say field by field what a request has that was not recorded."""
    recorded: JsonObject = {"uses": entry.uses, "variant": entry.variant, "with": entry.arguments}
    asked: JsonObject = {"uses": call.step.uses, "variant": call.variant.name, "with": arguments}
    found = list(differences(recorded, asked))
    told = [
        f"{each.field}: recorded {one}, asked {other}" for each in found[:MOST_SHOWN] for one, other in [sides(each)]
    ]
    told += [f"and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
    if not told:
        request = request_hash(call.step.uses, arguments, call.variant.name)
        return (
            f"The recorded arguments of attempt {call.number} of {path} are those that it asks with, but 'request' "
            f'beside them is the hash of others; that of these is "{request}".'
        )
    return f"Attempt {call.number} of {path} asks for something else than was recorded: {'; '.join(told)}."


# ---- the text of a file
class _Dumper(yaml.SafeDumper):
    """Writes YAML that the core schema of YAML 1.2 reads back as the same values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None if _is_plain(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_plain(text: str) -> bool:
    """Tell whether no reader takes a text for anything but text, without quotes."""
    word = text.replace("_", "").replace("-", "").replace("/", "").replace(" ", "")
    named = text.lower() in {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
    return word.isascii() and word.isalnum() and text[0].isalpha() and text[-1] != " " and not named


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> str:
    """Return a JSON value as YAML for people: block style, texts of several lines as they are."""
    found: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1)
    return found


def _write(file: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:  # noqa: PTH123 - a handle, not a path
            stream.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink()
        raise
