"""What a run looks like so far, folded from its events; every display draws from this."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.cli.terminal import clean, clean_line
from weft.engine.events import (
    Asked,
    AttemptEnded,
    AttemptStarted,
    Emitted,
    Event,
    Logged,
    RunEnded,
    RunStarted,
    RunState,
    StepEnded,
    StepStarted,
    StepState,
)
from weft.errors import Problem
from weft.types import Json

KEPT = 8_000
"""Characters of streamed text that are kept at each end; a terminal shows far fewer."""

_TURN = re.compile(r"\[\d+\]$")


@dataclass
class AttemptView:
    number: int
    variant: str
    note: str = ""
    problem: Problem | None = None
    ms: int | None = None
    wait_s: float = 0.0


@dataclass
class StepView:
    """One row: a step, or one item of a step that is repeated."""

    path: str
    uses: str
    title: str
    state: StepState = "pending"
    began: float | None = None  #: on the view's clock
    ms: int | None = None
    attempts: list[AttemptView] = field(default_factory=list)
    wait_until: float | None = None  #: on the view's clock
    head: str = ""  #: the beginning of what was streamed by this attempt
    tail: str = ""  #: its end
    pieces: int = 0
    first_piece: float | None = None
    last_piece: float | None = None
    log: str = ""
    output: Json = None
    problem: Problem | None = None
    question: Asked | None = None  #: that waits for an answer
    inherited: bool = False  #: done by the run that this one repeats

    @property
    def depth(self) -> int:
        return len(name_of(self.path).split("/")) - 1

    @property
    def attempt(self) -> AttemptView | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def failed_attempts(self) -> list[AttemptView]:
        """The attempts worth telling: one that was cancelled with its step is not."""
        return [each for each in self.attempts if each.problem is not None and each.problem.code != self.state]

    def elapsed(self, now: float) -> float | None:
        """Return the seconds that the step took, or has taken so far; None before it begins."""
        if self.ms is not None:
            return self.ms / 1000
        return None if self.began is None else now - self.began

    def text(self) -> str:
        """Return the end of the text being written, or the beginning of the one that was."""
        if self.state != "succeeded":
            return self.tail if self.state in ("running", "waiting") else ""
        return self.head or answer(self.output)

    def pace(self) -> float | None:
        """Return the tokens that a completion wrote in a second, when it was watched long enough to tell."""
        tokens = object_at(self.output, "usage").get("completion_tokens")
        if self.first_piece is None or self.last_piece is None or self.pieces < 5 or not isinstance(tokens, int):
            return None
        span = self.last_piece - self.first_piece
        return tokens / span if span > 0.2 else None


@dataclass
class Fetch:
    """Something large that is being fetched before a step can begin."""

    what: str
    done: int
    total: int
    began: float


class RunView:
    """The state of a run, as its events told it.

    Args:
        steps: Names of all steps of the plan → action or kind, title; a run tells only of the outermost at its start.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(
        self, steps: Mapping[str, tuple[str, str]] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._planned = steps or {}
        self.run_id = ""
        self.workflow = ""
        self.state: RunState = "running"
        self.ms: int | None = None
        self.outputs: Json = None
        self.problem: Problem | None = None
        self.fetch: Fetch | None = None
        self._steps: dict[str, StepView] = {}
        self._next: dict[str, str | None] = {}  #: path of a row → that of the row below; "" → the first
        self._turns: dict[str, list[StepView]] = {}  #: path of a step → the rows of its turns
        self._last: dict[str, str] = {}  #: part of the tree → path of the last row in it
        self._rows: list[StepView] | None = []  #: all in their order; None: to be gathered again

    @property
    def steps(self) -> list[StepView]:
        """Every row in the order of the document; items of a repeated step stand under it."""
        if self._rows is None:
            self._rows = list(self._in_order())
        return list(self._rows)

    def step(self, path: str) -> StepView:
        """Return the row at `path`; one that the plan did not announce is placed under its nearest ancestor."""
        if path not in self._steps:
            self._insert(path)
        return self._steps[path]

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self.run_id, self.workflow = event.run_id, event.workflow
                for path, uses, title in event.steps:
                    self._place(StepView(path, uses, clean_line(title)))
            case RunEnded():
                self.state, self.ms = event.state, event.ms
                self.outputs, self.problem = event.outputs, event.problem
            case _:
                self._apply_to_step(self.step(event.path), event)

    def progress(self, what: str, done: int, total: int) -> None:
        """Take in how far something is fetched; when all is there it is forgotten."""
        if self.fetch is None or self.fetch.what != what:
            self.fetch = Fetch(what, done, total, self.clock())
        self.fetch.done, self.fetch.total = done, total
        if total and done >= total:
            self.fetch = None

    def _apply_to_step(
        self, step: StepView, event: StepStarted | AttemptStarted | Emitted | AttemptEnded | Asked | StepEnded | Logged
    ) -> None:
        match event:
            case StepStarted():
                step.state, step.began = "running", self.clock()
            case AttemptStarted():
                step.state, step.wait_until, step.log, step.ms = "running", None, "", None
                step.began = self.clock() if step.began is None else step.began
                step.head = step.tail = ""
                step.pieces, step.first_piece = 0, None
                if step.attempt and step.attempt.number == event.attempt:  # told again with another note
                    step.attempt.note, step.attempt.variant = event.note, event.variant
                else:
                    step.attempts.append(AttemptView(event.attempt, event.variant, event.note))
            case Emitted():
                self._emitted(step, event)
            case AttemptEnded():
                self._attempt_ended(step, event)
            case Asked():
                step.state, step.question = "waiting", event
            case StepEnded():
                step.question = None
                step.state, step.ms = event.state, event.ms
                step.output, step.problem, step.wait_until = event.output, event.problem, None
                self._end_turns(event)
            case Logged():
                step.log = clean_line(event.message)

    def _emitted(self, step: StepView, event: Emitted) -> None:
        if step.attempt and event.attempt < step.attempt.number:
            return  # a late piece of an attempt that was given up
        text = clean(event.text)
        step.head += text[: max(0, KEPT - len(step.head))]
        step.tail += text
        if len(step.tail) > 2 * KEPT:
            step.tail = step.tail[-KEPT:]
        step.pieces += 1
        step.last_piece = self.clock()
        step.first_piece = step.last_piece if step.first_piece is None else step.first_piece

    def _attempt_ended(self, step: StepView, event: AttemptEnded) -> None:
        if step.attempt is None or step.attempt.number != event.attempt:
            step.attempts.append(AttemptView(event.attempt, event.variant))
        attempt = step.attempts[-1]
        attempt.ms, attempt.problem, attempt.wait_s = event.ms, event.problem, event.wait_s
        if event.problem is not None and event.wait_s > 0:
            step.state, step.wait_until = "waiting", self.clock() + event.wait_s
        elif _TURN.search(step.path):  # nothing else tells of its end
            step.state = "succeeded" if event.problem is None else "cancelled" if event.cancelled else "failed"
            step.ms = event.ms if step.began is None else round((self.clock() - step.began) * 1000)

    def _end_turns(self, event: StepEnded) -> None:
        """No turn goes on when its step has ended: one that was asked about, or cut off, is told no end of its own."""
        for turn in self._turns.get(event.path, ()):
            if turn.state in ("running", "waiting"):
                turn.state, turn.question, turn.wait_until = event.state, None, None
                turn.ms = event.ms if turn.began is None else round((self.clock() - turn.began) * 1000)

    def _insert(self, path: str) -> None:
        name = name_of(path)
        uses, title = self._planned.get(name, ("", name.rpartition("/")[2]))
        turn = _TURN.search(path)
        row = StepView(path, uses, clean_line(title) + (f" {turn[0]}" if turn else ""))
        self._place(row)
        if turn:
            self._turns.setdefault(path[: turn.start()], []).append(row)

    def _place(self, row: StepView) -> None:
        """Put a row below the last one that is nearest to it, or at the end.

        For each part of the tree the last row within it is known, so that this takes as long as the row is deep.
        """
        if row.path in self._steps:
            self._steps[row.path], self._rows = row, None
            return
        around = list(_around(row.path))
        above = next((self._last[part] for part in around if part in self._last), "")
        self._steps[row.path], self._rows = row, None
        self._next[row.path] = self._next.get(above)
        self._next[above] = row.path
        for part in around:
            if self._last.get(part, above) == above:
                self._last[part] = row.path

    def _in_order(self) -> Iterator[StepView]:
        at = self._next.get("")
        while at is not None:
            yield self._steps[at]
            at = self._next.get(at)


def name_of(path: str) -> str:
    """Return the name of the step at a path of a run, as the plan has it: `/each[3]/mail` → `each/mail`."""
    return "/".join(_parts(path))


def _parts(path: str) -> list[str]:
    return [part.split("[")[0].removeprefix("@") for part in path.strip("/").split("/")]


def _around(path: str) -> Iterator[str]:
    """Yield the parts of the tree that a row is in, the nearest first: `/each[3]/in`, `/each[3]`, all turns of `/each`, all."""
    parts = path.strip("/").split("/")
    for depth in range(len(parts), 0, -1):
        part = "/".join(parts[:depth])
        yield part
        yield f"{'/'.join([*parts[: depth - 1], parts[depth - 1].split('[')[0]])}[]"
    yield ""


def own_name(path: str) -> str:
    """Return what of a path tells a row from those around it: `[3] mail` in a loop, else the step's id."""
    parts = path.strip("/").split("/")
    turn = _TURN.search(parts[-2]) if len(parts) > 1 else None
    own = parts[-1] if not turn else f"{turn[0]} {parts[-1]}"
    return f"{parts[0].removeprefix('@')}/{own}" if parts[0].startswith("@") else own


def how_to_answer(run_id: str, path: str, who: Sequence[str]) -> str:
    """Return the command that answers a question, and who may."""
    name = clean_line(who[0]) if len(who) == 1 else "NAME"
    by = f" --by {shlex.quote(name)}" if who else ""
    may = f" as {' or '.join(map(clean_line, who))}" if who else ""
    return f"Answer{may}: weft runs answer {run_id} {shlex.quote(path.strip('/'))} approve{by} (or reject)"


def object_at(value: Json, *keys: str) -> dict[str, Any]:
    """Return the object under `keys`, or an empty one when it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def completion_facts(output: Json) -> Iterator[str]:
    """Say what a completion used: tokens, cost, what was dropped; nothing for other outputs."""
    usage, ours = object_at(output, "usage"), object_at(output, "weft")
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        yield f"{prompt} + {completion} tokens"
    if cost := cost_text(ours.get("cost")):
        yield cost


def cost_text(cost: Json) -> str:
    """Say a cost in its currency; nothing when it is not known."""
    if not isinstance(cost, dict):
        return ""
    amount, currency = cost.get("amount"), cost.get("currency", "USD")
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return ""
    if amount == 0:
        return "no cost"
    return f"{amount:.4f} {currency}" if amount < 0.1 else f"{amount:.2f} {currency}"


def answer(output: Json) -> str:
    """Return the text that a completion answered, or nothing when the output is none."""
    choices = object_at(output).get("choices")
    if not isinstance(choices, list) or not choices:
        return ""
    content = object_at(choices[0], "message").get("content")
    return clean(content[:KEPT]) if isinstance(content, str) else ""


def mail_facts(output: Json) -> Iterator[str]:
    """Say who got a mail and who was refused; nothing for other outputs."""
    if not is_mail(output):
        return
    accepted, refused = object_at(output)["accepted"], object_at(output).get("refused")
    yield "to " + _people([str(address) for address in accepted])
    if isinstance(refused, list) and refused:
        yield "refused " + _people([str(object_at(each).get("address")) for each in refused])


def _people(addresses: list[str]) -> str:
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return clean_line(", ".join(addresses[:3])) + more


def is_mail(output: Json) -> bool:
    """Tell whether an output says that a mail was accepted."""
    return isinstance(output, dict) and "message_id" in output and isinstance(output.get("accepted"), list)
