"""What a dry run and a replay show: each step with what it is given, and where what it returns comes from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from weft import source
from weft.cli.exits import ExitCode
from weft.cli.problems import tell
from weft.cli.state import State
from weft.cli.terminal import Screen, clean, clean_line, symbols, to_json
from weft.errors import InvalidInputs, Problem, Where
from weft.plan import Plan, Selection
from weft.plan.selection import select
from weft.reading import redacted
from weft.redaction import Redactor
from weft.rehearsal.dry_run import DryRun, RehearsedCall, RehearsedStep
from weft.rehearsal.recording import to_yaml
from weft.types import Json, JsonObject

CALLS_SHOWN = 3
"""Of a step in a loop; `--json` has all."""

LINES_SHOWN = 12
"""Of the arguments of a call, and of an output."""

HOW = {"called": "returned", "stand_in": "stand-in", "given": "given", "recorded": "recorded"}


def pins(file: Path | None) -> dict[str, Json]:
    """Return the outputs of a file, by step.

    Raises:
        InvalidSource: The file cannot be read.
        InvalidInputs: It holds no mapping.
    """
    if file is None:
        return {}
    read = source.read_file(file)
    if not isinstance(read.value, dict):
        raise InvalidInputs(
            "A file of pins is a mapping of steps to outputs.",
            remedy="Write one line for each step: answer: {text: …}",
            where=read.where(()),
        )
    return {
        name.rsplit("/", 1)[-1]: value for name, value in read.value.items()
    }  # `each/mail` is `mail` to expressions


def part_of(plan: Plan, until: str | None, only: str | None, file: Path | None) -> Plan:
    """Return the part of a plan that the options ask for; raises what `select` and `pins` raise."""
    if until is None and only is None and file is None:
        return plan
    return select(plan, Selection(until, only, pins(file)))


def left_out(plan: Plan, whole: Plan) -> str | None:
    """Say what of a workflow does not run, when a part of it was asked for."""
    if plan.selection is None:
        return None
    kept = {step.path for step in plan.every_step()}
    missing = (step for step in whole.every_step() if step.path not in kept and step.kind != "group")
    named = [step.name for step in missing if "/@" not in step.path]
    if plan.selection.until or plan.selection.only:
        parts = {"finally": whole.final, "on_failure": whole.on_failure, "outputs": whole.outputs}
        named += [name for name, there in parts.items() if there]
    return f"Left out: {', '.join(named)}." if named else None


def show(
    told: DryRun, plan: Plan, whole: Plan, state: State, redactor: Redactor, *, as_json: bool, quiet: bool
) -> ExitCode:
    """Print what a rehearsal has shown, and return the exit code."""
    told = redacted(told, redactor)
    if as_json:
        click.echo(to_json(told.model_dump(mode="json")))
    elif not quiet:
        _print(told, plan, whole)
    problems = [_problem(each, "error") for each in (told.problem, *told.unfit) if each is not None]
    warnings = [] if as_json else [_problem(each, "warning") for each in told.warnings]
    tell(dict.fromkeys([*warnings, *problems]), state)
    return ExitCode.OK if told.state == "succeeded" and not told.unfit else ExitCode.RUN_FAILED


def _print(told: DryRun, plan: Plan, whole: Plan) -> None:
    screen, marks = Screen(sys.stdout), symbols(sys.stdout)
    given = {step.path: set(step.arguments) for step in plan.every_step()}
    for step in filter(_is_shown, told.steps):
        mark = {"succeeded": marks.succeeded, "failed": marks.failed, "skipped": marks.skipped}.get(
            step.state, marks.pending
        )
        facts = [clean_line(step.uses), step.effect or "", clean_line(step.connection or "")]
        line = f" {marks.dot} ".join(fact for fact in facts if fact)
        screen.print(
            Text.assemble(f"{mark} ", (step.path.strip("/"), "bold"), f"  {line}", _state(step)), soft_wrap=True
        )
        for detail in _details(step, given.get(step.path)):
            screen.print(Text(f"    {detail}"), soft_wrap=True)
    for name, value in told.outputs.items() if isinstance(told.outputs, dict) else ():
        screen.print(Text(f"output {clean_line(name)}: {clean_line(_one_line(value))}"), soft_wrap=True)
    if missing := left_out(plan, whole):
        screen.print(Text(missing), soft_wrap=True)
    screen.print(Text(_summary(told)), soft_wrap=True)


def _is_shown(step: RehearsedStep) -> bool:
    """Tell whether a step is of interest: what only a failure would bring about is, when it was reached."""
    return bool(step.calls) or step.state != "pending" or "/@on_" not in step.path


def _state(step: RehearsedStep) -> str:
    return "" if step.state == "succeeded" else f"  {'not reached' if step.state == 'pending' else step.state}"


def _details(step: RehearsedStep, given: set[str] | None) -> Iterator[str]:
    if step.passed:
        yield clean_line(step.passed)
    for call in step.calls[:CALLS_SHOWN]:
        yield from _call(call, given)
    if len(step.calls) > CALLS_SHOWN:
        yield f"… and {len(step.calls) - CALLS_SHOWN} more calls"
    if step.doubt is not None:
        yield clean_line(f"not rendered over stand-ins: {step.doubt.message}")
        yield "Give real outputs of the steps before it in a file: --pin FILE"


def _call(call: RehearsedCall, given: set[str] | None) -> Iterator[str]:
    at = "".join(f"[{turn}]" for turn in call.turns) + (f" attempt {call.attempt}" if call.attempt > 1 else "")
    if at:
        yield f"{at.strip()}:"
    shown = {name: value for name, value in call.arguments.items() if given is None or name in given}
    yield from _lines(shown)
    if call.problem is not None and call.how != "stand_in":
        yield clean_line(f"→ {HOW[call.how]} error {call.problem.code}: {call.problem.message}")
        return
    if call.problem is not None:
        yield clean_line(f"→ of stand-ins it says: {call.problem.code}: {call.problem.message}")
    yield f"→ {HOW[call.how]}: {clean_line(_one_line(call.output))}"


def _lines(arguments: JsonObject) -> Iterator[str]:
    if not arguments:
        return
    lines = clean(to_yaml(arguments)).rstrip("\n").split("\n")
    yield from lines[:LINES_SHOWN]
    if len(lines) > LINES_SHOWN:
        yield f"… {len(lines) - LINES_SHOWN} more lines"


def _one_line(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"


def _summary(told: DryRun) -> str:
    calls = [(step.effect, call) for step in told.steps for call in step.calls]
    made_up = sum(call.how == "stand_in" for _, call in calls)
    recorded = sum(call.how == "recorded" for _, call in calls)
    called = sum(call.how == "called" for _, call in calls)
    parts = [f"{made_up} with a stand-in"] if made_up else []
    parts += [f"{recorded} recorded"] if recorded else []
    parts += [f"{called} made (no effect outside)"] if called else []
    how = f": {', '.join(parts)}" if parts else ""
    return f"Nothing was sent or opened. {len(calls)} call{'' if len(calls) == 1 else 's'}{how}. The run {_verb(told.state)}."


def _verb(state: str) -> str:
    return {"succeeded": "would succeed", "failed": "would fail", "parked": "would be parked"}.get(
        state, f"would be {state}"
    )


def _problem(told: Any, severity: Any) -> Problem:
    where = told.where
    return Problem(
        told.code,
        told.message,
        told.remedy,
        Where(where.file, where.line, where.column, where.step, where.field),
        severity,
    )
