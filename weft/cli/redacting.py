"""What is on record is kept as it was; secrets in it are masked where it is shown or leaves (rule B2)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from weft.engine.report import Shape
from weft.errors import WeftError
from weft.plan import Plan
from weft.redaction import MASK, PATTERNS, Redactor
from weft.runtime import Runtime

T = TypeVar("T", bound=Shape)
_LOG = logging.getLogger("weft.cli")

BUILT_IN = "built in"
"""The source of connections that have no secrets, and whose servers begin when they are opened."""


def redacted(shape: T, redactor: Redactor) -> T:
    """Return a report with every known secret masked, and whatever looks like a credential."""
    masked = _each_text(shape.model_dump(mode="json"), _masking(redactor))
    return type(shape).model_validate(masked)


def _masking(redactor: Redactor) -> Callable[[str], str]:
    """Return what masks a text; a report has most of its long ones several times."""

    @cache
    def masked(text: str) -> str:
        return PATTERNS.sub(MASK, redactor.text(text))

    return masked


def _each_text(value: Any, masked: Callable[[str], str]) -> Any:
    match value:
        case str():
            return masked(value)
        case dict():
            return {_each_text(key, masked): _each_text(item, masked) for key, item in value.items()}
        case list():
            return [_each_text(item, masked) for item in value]
        case _:
            return value


async def learn_secrets(runtime: Runtime, plan: Plan | None = None) -> None:
    """Make the secrets of all connections known to the redactor, as far as they can be read here.

    Args:
        runtime: Whose redactor learns them.
        plan: Names connections that only variables give; those are not known by themselves.
    """
    steps = () if plan is None else tuple(plan.every_step())
    asked = {
        (name, step.action.manifest.connection)
        for step in steps
        for name in (step.connection, *step.connections.values())
        if name is not None and step.action is not None and step.action.manifest.connection is not None
    }
    for each in runtime.connections.listed(asked):
        if each.facts.source != BUILT_IN:
            try:
                await runtime.connections.get(each.facts.name, each.facts.type)
            except (
                WeftError
            ) as error:  # one that lacks a field, or whose key is not here: it can leak nothing from here
                _LOG.debug("secrets_not_known %s %s", each.facts.name, error.problem.code)
