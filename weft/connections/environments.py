"""Where the same workflows run with other accounts and values: `prod`, `test`; chosen with `--env NAME`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field

from weft import source, validation, wording
from weft.connections.fields import is_credential
from weft.errors import InvalidConnections, NotFound, Problem, Where
from weft.source import Source
from weft.types import DocumentPath, Json, JsonObject, Name
from weft.workflow import ErrorSteps, OnFailure, Step, Triggers, Webhook, Workflow

FILE = "environments.yaml"

_NAME = re.compile(get_args(Name)[1].pattern)
_REFERENCE = re.compile(r"""\bvariables\s*(?:\.\s*(\w+)|\[\s*["']([^"']+)["'])""")


class NamedEnvironment(BaseModel):
    """What differs where workflows run: values of variables, and the connections that stand for others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    variables: JsonObject = Field(default_factory=dict)
    """Values in the place of those that the workflow gives; no secrets, they are shown."""
    connections: dict[Name, Name] = Field(default_factory=dict)
    """Name in workflows → name of the connection that stands for it."""

    def applied(self, workflow: Workflow) -> Workflow:
        """Return the workflow as it is in this environment."""
        failure = workflow.on_failure
        return workflow.model_copy(
            update={
                "variables": {**workflow.variables, **self.variables},
                "on": self._triggers(workflow.on),
                "steps": self._steps(workflow.steps),
                "final": self._steps(workflow.final),
                "on_failure": failure and self._failure(failure),
            }
        )

    def connection(self, name: str) -> str:
        """Return the name of the connection that stands for `name` here."""
        return self.connections.get(name, name)

    def _triggers(self, on: Triggers) -> Triggers:
        return on.model_copy(update={"webhook": [self._webhook(each) for each in on.webhook]})

    def _webhook(self, webhook: Webhook) -> Webhook:
        """Return the webhook with its connection here; its name, and so its address, stays the document's."""
        here = self.connection(webhook.connection)
        if here == webhook.connection:
            return webhook
        return webhook.model_copy(update={"id": webhook.name, "connection": here})

    def _failure(self, failure: OnFailure) -> OnFailure:
        return failure.model_copy(update={"steps": failure.steps and self._steps(failure.steps)})

    def _steps(self, steps: Sequence[Step]) -> list[Step]:
        return [self._step(step) for step in steps]

    def _step(self, step: Step) -> Step:
        told = step.on_error
        if isinstance(told, ErrorSteps):
            told = told.model_copy(update={"steps": self._steps(told.steps)})
        return step.model_copy(
            update={
                "connection": step.connection and self.connection(step.connection),
                "connections": {key: self.connection(name) for key, name in step.connections.items()},
                "steps": step.steps and self._steps(step.steps),
                "on_error": told,
            }
        )


def environment_named(name: str, files: Sequence[Path]) -> NamedEnvironment:
    """Return an environment from the first of `files` that is there.

    Raises:
        NotFound: There is no file, or no environment of this name; the nearest is told.
        InvalidConnections: The file has faults; all of them are told.
    """
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise NotFound(
            f"There is no environment {wording.shown(name)}: no {files[0]} was found.",
            code="unknown_environment",
            remedy=f"Write {FILE} in the directory that holds workflows/.",
        )
    found = read_environments(source.read_file(file))
    if name not in found:
        raise NotFound(
            f"There is no environment {wording.shown(name)} in {file}.",
            code="unknown_environment",
            remedy=wording.meant(name, found) or (f"There are: {', '.join(found)}." if found else "It is empty."),
        )
    return found[name]


def read_environments(document: Source) -> dict[str, NamedEnvironment]:
    """Return the environments that a document holds, by name.

    Raises:
        InvalidConnections: It has faults; carries all of them with their places.
    """
    value = document.value
    problems = list(validation.credentials(document))
    if not isinstance(value, dict | None):
        message = f"{FILE} maps names to environments."
        raise InvalidConnections(problems=[Problem("not_a_mapping", message, None, document.where(()))])
    found: dict[str, NamedEnvironment] = {}
    for name, entry in (value or {}).items():
        if not _NAME.fullmatch(name):
            text = f"{wording.shown(name)} is no name: lower case letters, digits, _ and single -."
            problems.append(Problem("name", text, "Rename it.", document.where((name,), key=True)))
        try:
            found[name] = validation.build(
                NamedEnvironment, document, InvalidConnections, {} if entry is None else entry, (name,)
            )
        except InvalidConnections as invalid:
            problems += invalid.problems
    problems += _secrets(document, found)
    if problems:
        raise InvalidConnections(problems=validation.in_order(problems))
    return found


def _secrets(document: Source, found: Mapping[str, NamedEnvironment]) -> Iterator[Problem]:
    """Yield a problem for each variable that is named like a credential and has a text for a value."""
    for name, environment in found.items():
        for path, key in _texts(environment.variables, (name, "variables")):
            if is_credential(key):
                yield Problem(
                    "secret_variable",
                    f"{key!r} looks like a secret. Variables are no place for one: runs and pages show them.",
                    "Put it into a connection, and name that here under `connections`.",
                    document.where(path, key=True),
                )


def _texts(value: Json, path: DocumentPath) -> Iterable[tuple[DocumentPath, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and item:
                yield (*path, key), key
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def unfitting(document: Source, name: str, workflows: Sequence[Source]) -> list[Problem]:
    """Return a warning for each entry of an environment that no workflow uses, or that is of another type there.

    Args:
        document: The environments.
        name: Which of them; it is there and without faults.
        workflows: The documents that may use it, as they are written: one with faults counts too.
    """
    here = read_environments(document)[name]
    connections = {used for each in workflows for used in _connections(each.value)}
    declared = [(each, _mapping(each.value, "variables")) for each in workflows]
    variables = {key for each, given in declared for key in (*given, *_referred(each.text))}
    problems = [
        _unused("connection", key, connections, document.where((name, "connections", key), key=True))
        for key in here.connections
        if key not in connections
    ]
    for key, value in here.variables.items():
        place = (name, "variables", key)
        if key not in variables:
            problems.append(_unused("variable", key, variables, document.where(place, key=True)))
        for workflow, given in declared:
            usual = given.get(key)
            if value is not None and usual is not None and _kind(value) != _kind(usual):
                problems.append(
                    Problem(
                        "variable_type",
                        f"{key!r} is {_kind(value)} here, but {_kind(usual)} in {workflow.file}.",
                        "Give it a value of the same type.",
                        document.where(place),
                        "warning",
                    )
                )
    return validation.in_order(problems)


def _unused(noun: str, name: str, used: Collection[str], where: Where) -> Problem:
    remedy = wording.meant(name, used) or (f"Used are: {wording.choice(sorted(used))}." if used else "Delete it.")
    return Problem(f"unused_{noun}", f"No workflow here uses a {noun} {wording.shown(name)}.", remedy, where, "warning")


def _connections(value: Json) -> Iterator[str]:
    """Yield the names of connections that a document says anywhere."""
    if isinstance(value, dict):
        for name in (value.get("connection"), *_mapping(value, "connections").values()):
            if isinstance(name, str):
                yield name
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _connections(item)


def _mapping(value: Json, key: str) -> JsonObject:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _referred(text: str) -> Iterator[str]:
    """Yield the variables that a document's expressions name, or seem to: an environment may be the first to give one."""
    return (found[1] or found[2] for found in _REFERENCE.finditer(text))


def _kind(value: Json) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"
