"""Commands on a server instead of on what this machine keeps: the same words, shown by the same code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click
from pydantic import BaseModel

from weft.cli import closing
from weft.cli.exits import ExitCode
from weft.cli.following import DONE, code_of, events_between, problem_of_report, settle
from weft.cli.interrupts import Interrupts
from weft.cli.lines import PlainLines, Silence
from weft.cli.live import LiveDisplay
from weft.cli.problems import tell
from weft.cli.run_ids import SHORTEST
from weft.cli.state import State
from weft.cli.terminal import clean_line, is_live, to_json
from weft.cli.view import RunView
from weft.engine.report import RunReport, RunSummary
from weft.errors import JournalRefused, NotFound, Problem, WeftError, Where
from weft.journal.base import ENDS
from weft.types import Json, JsonObject

if TYPE_CHECKING:
    from weft.client import AsyncClient, models

T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)

Kind = Literal["workflow", "manifest", "connection-type"]

LOOK_S: Final = (0.1, 1.0)
"""How soon and how seldom it is looked how far a run is."""


def with_client(state: State, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Return what `work` makes of a client of the server that is meant."""
    from weft.client import AsyncClient, asking  # noqa: PLC0415  only commands on a server need it

    secret = asking.token(None)
    if secret is not None:
        state.redactor.add(secret)
        url = asking.address(state.server)
        if url.startswith("http:") and not asking.is_loopback(url):
            click.echo(f"weft: the token goes to {url} without encryption", err=True)

    async def whole() -> T:
        async with AsyncClient(state.server) as client:
            return await work(client)

    return asyncio.run(whole())


def as_shape(kind: type[S], found: BaseModel) -> S:
    """Return what a server has told as the shape that is shown here."""
    return kind.model_validate_json(found.model_dump_json(by_alias=True))


def as_shapes(kind: type[S], found: list[Any]) -> list[S]:
    return [as_shape(kind, each) for each in found]


def told(found: BaseModel) -> Json:
    """Return what a server has told as JSON."""
    value: Json = found.model_dump(mode="json", by_alias=True)
    return value


def refuse_with_server(state: State, options: Mapping[str, object]) -> None:
    """Refuse options that are only for what this machine keeps."""
    given = [name for name, value in options.items() if value]
    if state.server and given:
        raise click.UsageError(f"{given[0]} does not go with --server.")


# ---- runs
async def find(client: AsyncClient, given: str | None) -> RunSummary:
    """Return the run with this id, or the only one whose id begins so; the youngest when none is named.

    Raises:
        NotFound: There is none (`unknown_run`), or several begin so (`ambiguous_run`).
    """
    if given is None:
        youngest = (await client.list_runs(limit=1)).items
        if not youngest:
            raise NotFound("There are no runs yet.", code="unknown_run", remedy="Start one: weft run email-results")
        return as_shape(RunSummary, youngest[0])
    try:
        return as_shape(RunSummary, await client.summarise_run(given))
    except NotFound:
        if len(given) < SHORTEST:
            raise
    found = [each async for each in _beginning(client, given)]
    if not found:
        raise NotFound(
            f"There is no run {given!r}, and none whose id begins so.",
            code="unknown_run",
            remedy="`weft runs list` shows all.",
        )
    if len(found) > 1:
        named = ", ".join(each.run_id for each in found[:4])
        raise NotFound(
            f"Several runs begin with {given!r}: {named}.", code="ambiguous_run", remedy="Give more of the id."
        )
    return as_shape(RunSummary, found[0])


async def _beginning(client: AsyncClient, given: str) -> Any:
    count = 0
    async for each in client.each_of_runs(text=given, limit=100):
        if each.run_id.startswith(given):
            yield each
            count += 1
        if count > 4:
            return


async def report_of(client: AsyncClient, run_id: str) -> RunReport:
    return as_shape(RunReport, await client.show_run(run_id))


def tell_done(found: models.RunSummary, sentence: str, *, as_json: bool) -> ExitCode:
    """Say in one sentence what was done, or with --json how the run stands."""
    click.echo(to_json(told(found)) if as_json else clean_line(sentence))
    return ExitCode.OK


async def typed(client: AsyncClient, workflow: str, given: Mapping[str, Json]) -> JsonObject:
    """Return inputs of a command line by the types that the workflow declares; the server checks them."""
    from weft import source  # noqa: PLC0415
    from weft.survey import survey  # noqa: PLC0415

    declared = {}
    try:
        document = await client.show_workflow(workflow)
        found = survey(source.read(document.text, document.file)).workflow
        declared = {} if found is None else found.inputs
    except WeftError:
        pass  # an example of a pack, or one with faults, of which the start tells
    return {name: _read(value, declared[name].type if name in declared else "string") for name, value in given.items()}


def _read(value: Json, kind: str) -> Json:
    if kind == "string" or not isinstance(value, str):
        return value
    try:
        read: Json = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return read


class Follower:
    """Shows a run that a server makes, until it has ended or is parked.

    Args:
        client: Of the server.
        as_json: Standard output is for the report.
        quiet: Nothing is shown but what went wrong.
        stops: Whether Ctrl-C stops the run; otherwise it leaves it alone.
    """

    def __init__(self, state: State, client: AsyncClient, *, as_json: bool, quiet: bool = False, stops: bool) -> None:
        self._state, self._client = state, client
        self._as_json, self._quiet, self._stops = as_json, quiet, stops
        self._asked = 0
        self._cancelling: set[asyncio.Task[None]] = set()

    async def follow(self, run_id: str) -> ExitCode:
        """Return the exit code of the run."""
        if not self._stops:
            report = await self._shown(run_id)
            self._end(report)
            return code_of(report.state)
        with Interrupts(lambda: self._stop(run_id)) as interrupts:
            report = await self._shown(run_id)
        self._end(report)
        return interrupts.code if report.state == "cancelled" else code_of(report.state)

    async def _shown(self, run_id: str) -> RunReport:
        stream = sys.stderr if self._as_json else sys.stdout
        report = await report_of(self._client, run_id)
        view = RunView({step.path.strip("/"): (step.uses, step.title) for step in report.steps})
        kind = Silence if self._quiet else LiveDisplay if is_live(stream) else PlainLines
        last: RunReport | None = None
        wait_s, longest_s = LOOK_S
        with kind(stream, report.workflow, view) as display:
            self._display = display
            while True:
                for event in events_between(last, report):
                    display(event)
                if report.state in (*ENDS, "parked"):
                    display.settle(lambda view, report=report: settle(view, report))  # type: ignore[misc]
                    display.finish([closing.summary(display.view), *closing.outputs(display.view)])
                    return report
                wait_s = LOOK_S[0] if last is not None and _moved(last, report) else min(wait_s * 1.5, longest_s)
                last = report
                await asyncio.sleep(wait_s)
                report = await report_of(self._client, run_id)

    def _stop(self, run_id: str) -> None:
        self._asked += 1
        again = "cancelling: press Ctrl-C again to stop at once"
        self._display.remark(again if self._asked == 1 else "stopping at once")
        task = asyncio.create_task(self._cancel(run_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, run_id: str) -> None:
        from weft.client import models  # noqa: PLC0415

        try:
            await self._client.cancel_run(run_id, models.Cancel(now=self._asked > 1))
        except JournalRefused:  # it has ended by itself
            return

    def _end(self, report: RunReport) -> None:
        if report.state in ("failed", "parked"):
            found = [report.problem, *(step.problem for step in report.steps if step.state == "failed")]
            problems = [problem for each in found if (problem := problem_of_report(each)) is not None]
            tell(list(dict.fromkeys(problems)), self._state)
        if self._as_json:
            click.echo(to_json(report.model_dump(mode="json")))


def _moved(before: RunReport, after: RunReport) -> bool:
    return sum(step.state in DONE for step in before.steps) != sum(step.state in DONE for step in after.steps)


# ---- documents
async def checked(client: AsyncClient, files: Sequence[tuple[Path, str]]) -> list[tuple[str, Kind, list[Problem]]]:
    """Have documents checked by a server; without any, those of its workspace."""
    from weft.client import models  # noqa: PLC0415

    documents = [
        models.DocumentAsked(file=str(file), kind=kind, text=file.read_text(encoding="utf-8"))  # type: ignore[arg-type]
        for file, kind in files
    ]
    found = await client.validate_documents(
        models.ValidationAsked(documents=documents) if documents else models.ValidationAsked()
    )
    return [(each.file, each.kind, [_problem(one) for one in each.problems]) for each in found.documents]


def _problem(found: Any) -> Problem:
    return Problem(found.code, found.message, found.remedy, Where(**found.where.model_dump()), found.severity)
