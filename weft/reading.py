"""Reads runs from the journal as they may be shown: told even where what they follow is gone, secrets masked.

What is on record is kept as it was; secrets in it are masked where it is shown or leaves (rule B2).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from weft.engine.bare import bare_report_of, bare_report_without_records
from weft.engine.report import RunReport, RunSummary, report_of, summary_of
from weft.errors import JournalRefused, WeftError
from weft.journal.base import Listed
from weft.plan import Plan
from weft.redaction import MASK, PATTERNS, Redactor
from weft.runtime import Runtime

T = TypeVar("T", bound=BaseModel)

PLANS_KNOWN: Final = 100
"""That a reader keeps."""

_LOG = logging.getLogger("weft.reading")

BUILT_IN: Final = "built in"
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


class Reading:
    """Reports of runs; what several of them follow is compiled once.

    Args:
        runtime: Open; its redactor learns the secrets of all connections that can be read here.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._plans: dict[str, Plan | WeftError] = {}

    async def plan(self, found: Listed) -> Plan | WeftError:
        """Return what a run follows, or why that cannot be read here."""
        hash_ = found.row.document
        if hash_ not in self._plans:
            if len(self._plans) >= PLANS_KNOWN:
                self._plans.clear()
            text = await self._runtime.journal.document(hash_)
            try:
                planned = self._runtime.pinned_plan(text)
            except WeftError as error:
                self._plans[hash_] = error
                await learn_secrets(self._runtime)
            else:
                self._plans[hash_] = planned
                await learn_secrets(self._runtime, planned)
        return self._plans[hash_]

    async def report(self, found: Listed) -> tuple[RunReport, str]:
        """Return the report of a run, and why it is not complete; nothing when it is.

        Raises:
            NotFound: The run was removed meanwhile.
        """
        plan = await self.plan(found)
        try:
            kept = await self._runtime.journal.load(found.row.id)
        except JournalRefused as refused:
            return self._masked(bare_report_without_records(found)), refused.problem.message
        if isinstance(plan, WeftError):
            return self._masked(bare_report_of(kept)), plan.problem.message
        try:
            return self._masked(report_of(kept, plan)), ""
        except WeftError as error:
            return self._masked(bare_report_of(kept)), error.problem.message

    def _masked(self, report: RunReport) -> RunReport:
        return redacted(report, self._runtime.redactor)


async def summaries(runtime: Runtime, found: Sequence[Listed]) -> list[RunSummary]:
    """Return runs as lists tell them, secrets masked."""
    await learn_secrets(runtime)
    return [redacted(summary_of(each), runtime.redactor) for each in found]
