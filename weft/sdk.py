"""What the author of an action imports; nothing else of Weft is his business.

An action is a module `actions/<id>.py` beside a manifest `manifests/<id>.yaml`. The module exports

- the callable, named like the module: `async def send_email(arguments: Arguments, context: ActionContext)`,
  where `Arguments` is a frozen pydantic model, or plain keyword parameters after the context:
  `async def shout(context: ActionContext, text: str, times: int = 1)`. A plain `def` runs in a thread.
  It returns the output, a JSON value, and fails by raising `ActionError`;
- optionally `check(arguments)` or `check(arguments, known)`, a pure function from arguments to problems, for rules
  that the manifest cannot state. `weft validate` calls it with the arguments that are known before a run, the
  executor with all of them;
- optionally `attempts(arguments)` or `attempts(arguments, known)`, a pure function from arguments to the chain of
  variants to try; `weft validate` calls it with the arguments that are known before a run, and it returns none when
  they are too few to say;
- optionally `warm()`, called in a thread ahead of the first step to import what is slow;
- optionally, for an action that costs money or tokens, `estimate(arguments)` or `estimate(arguments, known)`, a pure
  function from the arguments of one attempt to the most that it may use up: an `Estimate`. It is reserved before the
  attempt, where a budget or a limit counts it;
- optionally `usage(told, kind)`, a pure function that says what an attempt has really used up, a `Usage`: `told` is its
  output and `kind` is None, or `told` are the details of its error and `kind` is the error's. What it does not know, or
  an attempt that nobody heard of again, counts as it was reserved.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from weft.catalogue import Catalogue, Model, Provider, load
from weft.catalogue.prices import Cost
from weft.errors import ActionError, Problem, Where
from weft.redaction import Secret
from weft.types import Json, JsonObject

__all__ = [
    "ActionContext",
    "ActionError",
    "Attempt",
    "Catalogue",
    "Connection",
    "Cost",
    "Estimate",
    "Json",
    "JsonObject",
    "Known",
    "Model",
    "Problem",
    "Provider",
    "Secret",
    "Usage",
    "Variant",
    "Where",
]


@dataclass(frozen=True, slots=True)
class Connection:
    """A named account on another system, as the step's action sees it."""

    name: str
    type: str
    values: Mapping[str, Json | Secret]  #: by field name; secret fields hold `Secret`

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field that is not secret, or `default`."""
        value = self.values.get(name, default)
        if isinstance(value, Secret):
            raise TypeError(f"{name!r} is secret: use secret({name!r})")
        return default if value is None else value

    def secret(self, name: str) -> Secret | None:
        """Return a secret field, or None when the connection has none."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, Secret):
            raise TypeError(f"{name!r} is not secret: use get({name!r})")
        return value


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make the call: the first is what the author asked for, the others are fallbacks."""

    name: str  #: shown in records: `openai/gpt-4o-mini`
    tries: int = 1
    arguments: Mapping[str, Json] = field(default_factory=dict)  #: replace the step's own
    provider: str | None = None  #: whose connection the call needs; None: the step's own connection
    waits_s: tuple[
        float, ...
    ] = ()  #: before its second try, its third …, the last one repeats; none: the usual back-off


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier attempt of the same step, from its record."""

    variant: str
    number: int  #: within the variant, from 1
    kind: str  #: the kind of its error
    status: int | None
    ms: int
    waited_s: float  #: between its end and the next attempt's begin
    details: Mapping[str, Json] = field(default_factory=dict)  #: of its error


def _no_settings(provider: str) -> Mapping[str, Json]:
    return {}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before a run besides the arguments."""

    catalogue: Catalogue = field(default_factory=load)
    settings: Callable[[str], Mapping[str, Json]] = _no_settings
    """From a provider to the fields, none of them secret, of the connection that a call to it would use; empty when
    that is not known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that one attempt may use up; None: nobody knows."""

    cost: Cost | None = None
    tokens: int | None = None
    why: str = ""  #: in a sentence, why no cost is known


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt has used up; None: nobody knows."""

    cost: Cost | None = None
    tokens: int | None = None


class Artifacts(Protocol):
    """Files that belong to a run, kept beside its records under the hash of their content."""

    async def save(self, content: bytes, *, name: str, content_type: str) -> JsonObject:
        """Keep `content` and return its reference: `{artifact, name, content_type, size}`."""

    async def read(self, artifact: str) -> bytes:
        """Return the content under `artifact`; raise `NotFound` when this run has none such."""


async def _no_barrier() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """What one attempt knows of its run.

    `deadline` is an instant of `time.monotonic()`; when it has passed the attempt is cancelled.
    `repeated` says that an earlier attempt may have had its effect; the idempotency key is then the same as before. After
    an attempt that is proved to have had none it is another one.
    """

    run_id: str
    path: str  #: of the step in the document: `/answer`, `/each[3]/mail`
    attempt: int  #: from 1, over the whole chain
    started_at: datetime  #: of the run, the only "now" that replays alike
    idempotency_key: str
    deadline: float
    step_key: str = ""  #: the same for every attempt of the step in this run: what a message is known by
    repeated: bool = False
    connection: Connection | None = None
    variant: Variant = field(default_factory=lambda: Variant("default"))
    previous: tuple[Attempt, ...] = ()
    watched: bool = False  #: whether somebody looks at what is emitted
    emit: Callable[[str], None] = lambda token: None  #: show a piece of output while it is being made
    artifacts: Artifacts | None = None
    catalogue: Catalogue = field(default_factory=load)
    write: Callable[[str, Mapping[str, Json]], None] = lambda message, facts: None
    barrier: Callable[[], Awaitable[None]] = _no_barrier
    protect: Callable[[Secret], None] = lambda secret: None
    """Tell of a secret that came up during the call, such as a token: it is masked from then on, wherever it turns up."""
    mask: Callable[[str], str] = lambda text: text
    """Mask the secrets in a text that is about to be cut; all that leaves an action whole is masked anyway."""

    def __post_init__(self) -> None:
        if not self.step_key:
            object.__setattr__(self, "step_key", self.idempotency_key)

    def remaining_s(self) -> float:
        """Return the seconds left before the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def log(self, message: str, **facts: Json) -> None:
        """Write a line to the run's log; secrets in it are masked."""
        self.write(message, facts)

    async def point_of_no_return(self) -> None:
        """Await this just before an effect that cannot be taken back.

        It returns when it is on record that the effect may have happened; a cancel before it stops the attempt,
        a cancel after it lets the attempt end.
        """
        await self.barrier()
