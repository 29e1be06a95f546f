"""Attempts that are answered in the place of the executor: by what was given, what was recorded, or a stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from weft.engine.steps import without_tries
from weft.errors import Problem
from weft.executor import Call, Performer, Watch
from weft.manifest import Output
from weft.outcome import Failure, Outcome
from weft.plan import Plan, PlannedStep
from weft.rehearsal.resting import resting_on
from weft.rehearsal.wanted import Wanted
from weft.types import Json

How: TypeAlias = Literal["called", "stand_in", "given", "recorded"]


@dataclass(frozen=True, slots=True)
class Made:
    """One attempt of a rehearsal."""

    call: Call
    outcome: Outcome
    how: How
    doubt: Problem | None = None  #: why what the action said of stand-ins was not taken


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt comes to without being made."""

    output: Json = None
    failure: Failure | None = None
    how: How = "given"


Answers: TypeAlias = Callable[[str, Call], Answer | None]
"""Returns the answer to a call at a path through all runs; None: there is none, and it is made, or has a stand-in."""

Scenes: TypeAlias = Callable[[str], tuple[Plan, str]]
"""Returns what a run follows, and the path of the step that has started it."""


class Rehearsed:
    """Calls only actions without effects outside; all other attempts have an answer or a stand-in.

    Args:
        executor: Calls actions.
        scenes: Tells of a run by its id.
        answers: Asked before anything else.
        clock: The time of the run.
        lenient: An action that fails on stand-ins has one itself, so that what follows can be seen; the ids of steps that
            have stand-ins besides those that go outside. None: its failure counts.
    """

    def __init__(
        self,
        executor: Performer,
        scenes: Scenes,
        answers: Answers,
        clock: Callable[[], float],
        *,
        lenient: Collection[str] | None = None,
    ) -> None:
        self.made: list[Made] = []
        self._executor = executor
        self._scenes = scenes
        self._answers = answers
        self._clock = clock
        self._lenient = lenient
        self._wanted: dict[int, Wanted] = {}
        self._resting: dict[int, frozenset[str]] = {}

    async def perform(self, call: Call, watch: Watch) -> Outcome:
        """Return how the attempt ended, and note how that came about."""
        made = await self._made(call, watch)
        self.made.append(made)
        return made.outcome

    async def _made(self, call: Call, watch: Watch) -> Made:
        _, at = self._scenes(call.run_id)
        answer = self._answers(at + call.path, call)
        if answer is not None:
            return Made(call, outcome_of(call, answer, self._clock()), answer.how)
        if effects_of(call) != "none":
            return Made(call, self._made_up(call), "stand_in")
        outcome = await self._executor.perform(call, watch)
        if outcome.failure is not None and self._rests_on_stand_ins(call):
            return Made(call, self._made_up(call), "stand_in", outcome.failure.problem)
        return Made(call, outcome, "called")

    def stand_in(self, step: PlannedStep, plan: Plan) -> Json:
        """Return an output that a step's action might have, with what the plan's expressions ask of it."""
        if id(plan) not in self._wanted:
            self._wanted[id(plan)] = Wanted(plan)
        declared = output_of(step)
        return self._wanted[id(plan)].fitted(step, declared.example, declared.json_schema)

    def _made_up(self, call: Call) -> Outcome:
        plan, _ = self._scenes(call.run_id)
        return outcome_of(call, Answer(self.stand_in(call.step, plan)), self._clock())

    def _rests_on_stand_ins(self, call: Call) -> bool:
        plan, at = self._scenes(call.run_id)
        if self._lenient is None:
            return False
        if id(plan) not in self._resting:
            self._resting[id(plan)] = resting_on(plan, self._lenient, inputs=at != "")
        return call.step.id in self._resting[id(plan)]


def outcome_of(call: Call, answer: Answer, now: float) -> Outcome:
    """Return an answer as the outcome of a call that took no time."""
    state: Literal["succeeded", "failed"] = "succeeded" if answer.failure is None else "failed"
    failure = answer.failure
    if failure is not None and not failure.problem.where.file:
        failure = replace(failure, problem=failure.problem.at(call.step.where()))
    return Outcome(state, call.variant.name, now, now, output=answer.output, failure=failure, request=call.request)


def effects_of(call: Call) -> str:
    return "none" if call.step.action is None else call.step.action.manifest.effects


def output_of(step: PlannedStep) -> Output:
    """Return what the manifest says of the output of a step's action."""
    if step.action is None:
        raise RuntimeError(f"step {step.name!r} has no action")
    return step.action.manifest.output


_TURN = re.compile(r"\[(\d+)\]")


def turns_of(path: str) -> tuple[int, ...]:
    """Return the indexes of the turns that a path leads through, the outermost first."""
    return tuple(int(found) for found in _TURN.findall(path))


def name_of(path: str) -> str:
    """Return a step's path as documents name it, without the turns of loops and the tries of groups: `each/mail`."""
    return without_tries(_TURN.sub("", path)).strip("/")
