"""For the tests of those who write packs: check a whole pack, run one of its actions."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from weft import arguments, packs, plan, source
from weft.connections.fields import checked
from weft.errors import InvalidArguments, PackError, Problem, WeftError
from weft.registry import Action, Pack, Registry
from weft.sdk import ActionContext, Known
from weft.survey import survey
from weft.types import Json
from weft.values import ValueCheck

__all__ = ["check_pack", "run_action", "run_connection_test"]


def check_pack(path: Path) -> list[Problem]:
    """Return everything that is wrong with the pack in directory `path`; an empty list when all is well.

    It reads every document with its examples and defaults, imports every action and compares it with its manifest,
    and compiles each workflow.
    """
    try:
        registry, pack = _with_pack(path)
    except WeftError as error:
        return list(error.problems)
    problems: list[Problem] = []
    for action in pack.actions:
        try:
            action.load()
        except WeftError as error:
            problems += error.problems
        problems += _without_example(action)
    for kind in pack.connection_types:
        try:
            registry.connection_test(kind.id)
        except WeftError as error:
            problems += error.problems
    for name, file in pack.workflows.items():
        problems += _workflow_problems(name, file, registry)
    return problems


async def run_action(
    pack: Path, action: str, given: Mapping[str, Json], /, *, deadline_s: float = 30.0, **context: Any
) -> Json:
    """Run `action` of the pack in directory `pack` once, checked before and after as in a step.

    Args:
        given: The arguments; defaults are added.
        deadline_s: When the call is stopped.
        context: Fields of `ActionContext` that the test cares about: `connection=...`.

    Raises:
        InvalidArguments: The arguments break a rule of the manifest or of the action's `check`.
        ActionError: What the action raised.
        WeftError: The output breaks its schema.
    """
    found = _with_pack(pack)[0].action(action)
    callables = found.load()
    parameters = found.manifest.all_parameters
    problems = arguments.check(parameters, given)
    complete = arguments.with_defaults(parameters, given)
    if callables.check is not None and not problems:
        problems = list(callables.check(complete, Known()))
    if problems:
        raise InvalidArguments(problems=problems)
    call = callables.bind(complete, _context(deadline_s, context))
    async with asyncio.timeout(deadline_s):
        asynchronous = inspect.iscoroutinefunction(callables.function)
        output: Json = await call() if asynchronous else await asyncio.to_thread(call)
    if problems := ValueCheck(found.manifest.output.json_schema).problems(output):
        raise WeftError(problems=problems)
    return output


async def run_connection_test(pack: Path, type_: str, given: Mapping[str, Json], /, *, deadline_s: float = 30.0) -> str:
    """Test a connection of a type of the pack in directory `pack`, as `weft connections test` does.

    Args:
        given: The connection's fields, secret ones as plain texts.
        deadline_s: When the test is stopped.

    Raises:
        ConnectionUnusable: The fields break a rule of the type.
        ActionError: What the test raised.
        PackError: The pack brings no such test.
    """
    registry = _with_pack(pack)[0]
    test = registry.connection_test(type_)
    if test is None:
        raise PackError(f"The pack brings no test of connections of type {type_!r}.", code="no_test")
    connection = checked("test", registry.connection_type(type_), given, "the test")
    async with asyncio.timeout(deadline_s):
        return await test(connection, _context(deadline_s, {}))


def _with_pack(path: Path) -> tuple[Registry, Pack]:
    root = path.resolve()
    registry = packs.discover([root])
    return registry, next(pack for pack in registry.packs if pack.root == root)


def _context(deadline_s: float, given: Mapping[str, Any]) -> ActionContext:
    fields = {
        "run_id": "test",
        "path": "/test",
        "attempt": 1,
        "started_at": datetime.now(UTC),
        "idempotency_key": "test",
        "deadline": time.monotonic() + deadline_s,
    }
    return ActionContext(**{**fields, **given})


def _without_example(action: Action) -> Iterator[Problem]:
    for group, parameters in action.manifest.parameters:
        for position, parameter in enumerate(parameters):
            if parameter.example is None and not parameter.secret:
                yield Problem(
                    "no_example",
                    f"Parameter {parameter.name!r} has no example.",
                    "Give one that people can copy.",
                    action.source.where(("parameters", group, position)),
                )


def _workflow_problems(name: str, file: Path, registry: Registry) -> Iterator[Problem]:
    try:
        found = survey(source.read_file(file))
    except WeftError as error:
        yield from error.problems
        return
    problems: tuple[Problem, ...] = ()
    if found.workflow is not None:
        try:
            plan.compile(found.workflow, found.source, registry)
        except WeftError as error:
            problems = error.problems
    yield from found.with_consequences(problems)
    if found.workflow is not None and found.workflow.name != name:
        yield Problem(
            "name",
            f"The workflow is named {found.workflow.name!r}, its file {file.name!r}.",
            "Give the two one name.",
            found.source.where(("name",)),
        )
