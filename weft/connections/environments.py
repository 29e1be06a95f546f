"""Where the same workflows run with other accounts and values: `prod`, `test`; chosen with `--env NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field

from weft import source, validation, wording
from weft.errors import InvalidConnections, NotFound, Problem
from weft.source import Source
from weft.types import DocumentPath, Json, JsonObject, Name
from weft.workflow import ErrorSteps, OnFailure, Step, Triggers, Workflow

FILE = "environments.yaml"

_NAME = re.compile(get_args(Name)[1].pattern)
_CREDENTIAL = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|api_?key|private_?key|(?:access|auth|bearer)_?token|token)$"
)
"""Names of values that are credentials; `max_tokens` and `token_limit` are none."""


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
        return on.model_copy(
            update={
                "webhook": [
                    each.model_copy(update={"connection": self.connection(each.connection)}) for each in on.webhook
                ]
            }
        )

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
            if _CREDENTIAL.search(key.casefold().replace("-", "_")):
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
