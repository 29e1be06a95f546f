"""Reads runs from the journal as they may be shown: secrets masked, and told even where what they follow is gone."""

from __future__ import annotations

from weft.cli.redacting import learn_secrets, redacted
from weft.engine.bare import bare_report_of, bare_report_without_records
from weft.engine.report import RunReport, RunSummary, report_of, summary_of
from weft.errors import JournalRefused, WeftError
from weft.journal.base import Listed
from weft.plan import Plan
from weft.runtime import Runtime


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


async def summaries(runtime: Runtime, found: list[Listed]) -> list[RunSummary]:
    """Return runs as lists tell them, secrets masked."""
    await learn_secrets(runtime)
    return [redacted(summary_of(each), runtime.redactor) for each in found]
