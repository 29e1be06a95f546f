"""Everything Weft raises on purpose.

WeftError
├── InvalidDocument       a document breaks its rules; carries every problem found
│   ├── InvalidSource         it is not the YAML that Weft reads
│   ├── InvalidManifest       a manifest
│   ├── InvalidWorkflow       a workflow, by itself or against the registry
│   └── InvalidConnections    a connections file
├── InvalidInputs         the inputs given to a run
├── InvalidArguments      rendered arguments break the rules of the manifest
├── ExpressionError       an expression could not be evaluated
│   └── ExpressionLimit       it would do too much or grow too large
├── NotFound              a name that nothing answers to
├── PackError             a pack cannot be loaded, or its code and manifest disagree
├── ConnectionUnusable    a connection exists but cannot serve the step
├── ActionError           an action could not do its work; says if a retry may help
├── StepTimeout           a step used up its time
├── RunCancelled          somebody asked the run to stop
├── Diverged              a run cannot be followed as it was recorded
├── JournalRefused        a record was refused: another owner, or other content under the same key
│   └── JournalBehind         others wrote to the run; its owner must read that first
├── JournalUnavailable    the journal cannot be opened, or could not keep what it was given
├── StateUnavailable      the same of the tables beside the journal
├── EditRefused           an edit of a document cannot be made without harm to the rest of it
├── Conflict              a document was changed by somebody else since it was read; carries both sides
├── NotAuthenticated      nobody is known to ask
├── NotAllowed            who asks may not do this
├── ServerUnavailable     a server of Weft cannot be reached, or its answer was lost
├── TooLarge              what was sent is larger than what is taken
└── TooMany               asked too often; says when to ask again

Each carries problems, and a problem says what happened, where, and what to do about it.
Behaviour depends on classes, codes and fields, never on the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

Severity = Literal["error", "warning"]
Effect = Literal["none", "unknown", "happened"]


@dataclass(frozen=True, slots=True)
class Where:
    """The place that a problem speaks of; every part may be missing."""

    file: str | None = None
    line: int | None = None  #: from 1
    column: int | None = None  #: from 1, in characters
    step: str | None = None  #: id of the step, or its path inside groups: `each/mail`
    field: str | None = None  #: `with.messages[0].role`

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        names = [f"step {self.step!r}" if self.step else "", f"field {self.field!r}" if self.field else ""]
        return ", ".join(part for part in (place, *names) if part)

    def within(self, outer: Where) -> Where:
        """This place, its missing parts taken from `outer`; a line only when it is one of the same file."""
        same = self.file in (None, outer.file)
        return Where(
            self.file or outer.file,
            self.line or (outer.line if same else None),
            self.column if self.line or not same else outer.column,
            self.step or outer.step,
            self.field or outer.field,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault or warning, told for the person who has to mend it."""

    code: str  #: stable, for programs: `unknown_action`
    message: str  #: what is wrong, what was got, what is allowed; one or two sentences
    remedy: str | None = None  #: what to do
    where: Where = field(default_factory=Where)
    severity: Severity = "error"

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if str(self.where) else self.message
        return f"{text} {self.remedy}" if self.remedy else text

    def at(self, outer: Where) -> Problem:
        """The same problem, its place completed from `outer`."""
        return replace(self, where=self.where.within(outer))


def problem_from(data: Mapping[str, Any]) -> Problem:
    """Return a problem that was kept as JSON."""
    return Problem(**{**data, "where": Where(**data["where"])})


class WeftError(Exception):
    """Root of the tree; catching it catches all that Weft raises on purpose.

    Args:
        message: What happened, in words for the person who reads it.
        remedy: What that person can do.
        where: The place it speaks of.
        code: A stable name for programs; the class's own when left out.
        problems: All problems, when there may be several; `message` is then ignored.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str = "",
        *,
        remedy: str | None = None,
        where: Where | None = None,
        code: str | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems) or (
            Problem(code or self.code, message, remedy, where or Where()),
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def problem(self) -> Problem:
        """The first problem; most errors have just one."""
        return self.problems[0]

    def at(self, outer: Where) -> Self:
        """Complete the place of every problem from `outer`, in place, and return the error."""
        return self._with(problem.at(outer) for problem in self.problems)

    def placed(self, where: Where) -> Self:
        """Set the place of every problem to `where`, in place, and return the error."""
        return self._with(replace(problem, where=where) for problem in self.problems)

    def _with(self, problems: Iterable[Problem]) -> Self:
        self.problems = tuple(problems)
        self.args = ("\n".join(str(problem) for problem in self.problems),)
        return self


class InvalidDocument(WeftError):
    code = "invalid_document"


class InvalidSource(InvalidDocument):
    code = "invalid_source"


class InvalidManifest(InvalidDocument):
    code = "invalid_manifest"


class InvalidWorkflow(InvalidDocument):
    code = "invalid_workflow"


class InvalidConnections(InvalidDocument):
    code = "invalid_connections"


class InvalidInputs(WeftError):
    code = "invalid_inputs"


class InvalidArguments(WeftError):
    code = "invalid_arguments"


class ExpressionError(WeftError):
    code = "expression"
    offset: int | None = None  #: of the fault in the template's text, in characters


class ExpressionLimit(ExpressionError):
    code = "expression_limit"


class NotFound(WeftError):
    code = "not_found"


class PackError(WeftError):
    code = "pack"


class ConnectionUnusable(WeftError):
    code = "connection_unusable"


class StepTimeout(WeftError):
    code = "timeout"


class RunCancelled(WeftError):
    code = "cancelled"


class JournalRefused(WeftError):
    code = "journal_refused"


class JournalBehind(JournalRefused):
    """Others have written to the run; its owner must read that first."""

    code = "journal_behind"


class Diverged(WeftError):
    """A run cannot be followed as it was recorded: something that it stands on has changed."""

    code = "diverged"


class JournalUnavailable(WeftError):
    """The journal cannot be opened, or could not keep what it was given."""

    code = "journal_unavailable"


class StateUnavailable(WeftError):
    """The tables beside the journal cannot be opened, or could not keep what they were given."""

    code = "state_unavailable"


class EditRefused(WeftError):
    """An edit of a document cannot be made without harm to the rest of it; nothing was changed."""

    code = "edit_refused"


class Conflict(WeftError):
    """A document was changed by somebody else since it was read; nothing was changed now.

    Args:
        message: What happened.
        theirs: The text as it is now; None when it is gone.
        yours: The text that was to be kept, where there is one.
        base: The text that both were made from, where it is known.
        remedy: What the reader can do.
    """

    code = "conflict"

    def __init__(
        self,
        message: str,
        *,
        theirs: str | None,
        yours: str | None = None,
        base: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.theirs = theirs
        self.yours = yours
        self.base = base


class NotAuthenticated(WeftError):
    code = "not_authenticated"


class NotAllowed(WeftError):
    code = "not_allowed"


class ServerUnavailable(WeftError):
    """A server of Weft cannot be reached, or its answer was lost."""

    code = "server_unavailable"


class TooLarge(WeftError):
    code = "too_large"


class TooMany(WeftError):
    """Asked too often.

    Args:
        message: What happened.
        retry_after_s: In how many seconds the same may be asked again.
    """

    code = "too_many"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ActionError(WeftError):
    """An action could not do its work.

    Args:
        message: What happened; never a secret, a prompt or a vendor's raw text.
        kind: A stable name of the fault, which retries and `on_error` may depend on: `rate_limited`.
        remedy: What the reader can do.
        retryable: Whether the same call may succeed later.
        retry_after_s: How long the other side asked us to wait, in seconds.
        effect: `none` when it is proved that nothing happened, `unknown` otherwise.
        status: The protocol's status code, if there was one.
        details: Further facts for programs. `output` among them is what the step comes to when nothing more is tried:
            part of the work is done, and the rest was to be tried again.
    """

    code = "action"

    def __init__(
        self,
        message: str,
        *,
        kind: str = "failed",
        remedy: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        effect: Effect = "unknown",
        status: int | None = None,
        where: Where | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, where=where, code=kind)
        self.kind = kind
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.effect: Effect = effect
        self.status = status
        self.details = dict(details or {})
