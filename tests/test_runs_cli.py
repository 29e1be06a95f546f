"""`weft runs`: what ran is told whole and safely, and can be cancelled, resumed, repeated, exported and removed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from weft import packs, repeating, retention
from weft.cli import app, closing, instants, keys, run_view, runs, runs_table
from weft.cli.exits import ExitCode, exit_code
from weft.cli.following import events_between, settle, watch
from weft.cli.run_ids import find
from weft.cli.state import State
from weft.cli.terminal import Screen
from weft.cli.view import RunView
from weft.engine.events import Asked, RunEnded, RunStarted, StepEnded, StepStarted
from weft.engine.report import RunReport, RunSummary
from weft.errors import NotFound, WeftError
from weft.journal.base import Ended, Listed, Purged, Rest, RunQuery, RunRow
from weft.journal.memory import MemoryJournal
from weft.journal.sqlite import SqliteJournal
from weft.outcome import encode
from weft.reading import Reading
from weft.registry import Registry
from weft.runtime import JOURNAL, Runtime, new_run_id

LAB = Path(__file__).parent / "lab"
ROOT = Path(__file__).parent.parent
CANARY = "canary-Zq7sX0421-long"

GREET = """
    name: greet
    inputs: {who: {default: ada}, key: {default: k}, failures: {type: integer, default: 0}}
    steps:
      - {id: look, uses: flaky, with: {key: "{{ inputs.key }}", failures: "{{ inputs.failures }}", num_retries: 1}}
      - {id: send, uses: deliver, with: {to: "{{ inputs.who }}"}}
    outputs: {sent: "{{ steps.send.output.delivered }}"}
    """
REST = """
    name: rest
    steps:
      - {id: rest, wait: {for: 2h}}
      - {id: send, uses: deliver, with: {to: late}}
    """
NAP = """
    name: nap
    steps:
      - {id: a, uses: nap, with: {seconds: 0.1}}
      - {id: rest, wait: {for: 150ms}}
      - {id: each, for_each: [1, 2], steps: [{id: in, uses: echo}]}
    """
FILES = """
    name: files
    steps:
      - {id: keep, uses: store, with: {text: hello}}
      - {id: read, uses: store, with: {artifact: "{{ steps.keep.output.artifact }}"}}
    """


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry([packs.read(LAB, "lab", packs.package_of(LAB))])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Iterator[None]:
    """A directory to stand in, with workflows, and packs that were read once."""
    monkeypatch.setattr("weft.runtime.discover", lambda extra: registry)
    monkeypatch.chdir(tmp_path)
    Path("workflows").mkdir()
    for name, text in {"greet": GREET, "rest": REST, "nap": NAP, "files": FILES}.items():
        Path("workflows", f"{name}.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    for action in registry.actions():  # their modules outlive a test
        for name, value in vars(action.import_module()).items():
            if name.isupper() and isinstance(value, list | dict | set):
                value.clear()
    before = list(logging.getLogger().handlers)
    yield
    for handler in set(logging.getLogger().handlers) - set(before):  # a command keeps its log until the process ends
        logging.getLogger().removeHandler(handler)
        handler.close()


class Told:
    """What a command printed, and how it ended."""

    def __init__(self, result: Any) -> None:
        self.error = result.exception if isinstance(result.exception, WeftError) else None
        wrong = result.exception if isinstance(result.exception, click.ClickException) else None
        if result.exception and not self.error and not wrong:
            raise result.exception
        self.code = exit_code(self.error) if self.error else wrong.exit_code if wrong else result.return_value or 0
        self.out: str = result.stdout
        self.all: str = result.output + str(self.error or "") + (wrong.message if wrong else "")

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def weft(*arguments: str) -> Told:
    return Told(CliRunner().invoke(runs.command, list(arguments), standalone_mode=False, obj=State()))


def home(tmp_path: Path) -> Path:
    return tmp_path / "weft-home"


def ran(tmp_path: Path, registry: Registry, workflow: str = "greet", **inputs: Any) -> str:
    """Run a workflow as `weft run` does, and return the run's id."""

    async def whole() -> str:
        async with Runtime(home(tmp_path), registry, environ={}) as runtime:
            planned = runtime.compile(runtime.find_workflow(workflow))
            return (await runtime.run(planned, runtime.inputs(planned, inputs))).run_id

    return asyncio.run(whole())


def left(tmp_path: Path, registry: Registry, text: str, rest: Rest | None = None, run_id: str = "") -> str:
    """Leave a run as if the process that had it had let go of it so; return its id."""

    file = Path("left.yaml")
    file.write_text(textwrap.dedent(text), encoding="utf-8")

    async def whole() -> str:
        async with Runtime(home(tmp_path), registry, environ={}) as runtime:
            planned = runtime.compile(file)
            await runtime.opened()
            found = await runtime.journal.keep_document(_pinned(runtime, planned))
            inputs = encode(runtime.inputs(planned, {}))
            row = RunRow(run_id or new_run_id(), planned.workflow.name, found, inputs, "null", time.time())
            claim = await runtime.journal.accept(row)
            await runtime.journal.write(claim, 0, (), rest or Rest("ready"))
            return row.id

    return asyncio.run(whole())


def _pinned(runtime: Runtime, planned: Any) -> str:
    from weft.pinned import pin

    return pin(planned, runtime.environment)


def in_journal(tmp_path: Path, work: Callable[[SqliteJournal], Any]) -> Any:
    """Do something with the journal, as another process would."""

    async def whole() -> Any:
        home(tmp_path).mkdir(exist_ok=True)
        journal = SqliteJournal(home(tmp_path) / JOURNAL)
        await journal.open()
        try:
            return await work(journal)
        finally:
            await journal.close()

    return asyncio.run(whole())


def delivered(registry: Registry) -> list[tuple[str, str, bool]]:
    module = sys.modules[registry.action("deliver").load().function.__module__]
    found: list[tuple[str, str, bool]] = module.DELIVERED
    return found


# ---- list
def test_runs_are_listed_the_youngest_first_with_what_they_failed_for(tmp_path: Path, registry: Registry) -> None:
    """Each run is a line: id, workflow, state, start, length, what started it, and what there is to say."""
    first = ran(tmp_path, registry)
    second = ran(tmp_path, registry, key="b", failures=9)

    lines = [line.split("\t") for line in weft("list").out.splitlines()]
    assert [line[:3] for line in lines] == [[second, "greet", "failed"], [first, "greet", "succeeded"]]
    assert lines[0][5:] == ["hand", "look: busy: Call 2 failed."]
    assert weft().out == weft("list").out
    assert [RunSummary.model_validate(each).run_id for each in weft("--json").json] == [second, first]


def test_runs_are_chosen_by_state_workflow_time_and_text(tmp_path: Path, registry: Registry) -> None:
    """Every filter of the list works alone and with others."""
    done, failed = ran(tmp_path, registry, who="grace"), ran(tmp_path, registry, key="c", failures=9)
    waits = left(tmp_path, registry, REST, Rest("waiting", time.time() + 7200))

    def listed(*arguments: str) -> list[str]:
        return [line.split("\t")[0] for line in weft("list", *arguments).out.splitlines()]

    assert listed("--state", "failed") == [failed]
    assert listed("--state", "failed", "--state", "waiting") == [waits, failed]
    assert listed("--workflow", "greet") == [failed, done]
    assert listed("--text", "GRACE") == [done]
    assert listed("--since", "1h", "--until", "0s") == [waits, failed, done]
    assert listed("--since", "2999-01-01") == []
    assert listed("--limit", "1") == [waits]
    assert listed("--limit", "1", "--before", waits) == [failed]
    assert weft("list", "--since", "whenever").code == ExitCode.USAGE


WIDTHS = (36, 48, 60, 80, 120)
NOW = datetime.now(UTC)


def summary(run_id: str, state: str, ago_s: float = 5.0, **facts: Any) -> RunSummary:
    at = NOW - timedelta(seconds=ago_s)
    return RunSummary(run_id=run_id, workflow="email-results", state=state, started_at=at, ms=61_000, **facts)  # type: ignore[arg-type]


class Terminal(io.StringIO):
    """Takes text as a terminal of some width."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], list[str]]:
    """What something prints on a terminal of some width."""

    def printed(width: int, work: Callable[[], None]) -> list[str]:
        stream = Terminal()
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", stream)
        work()
        monkeypatch.undo()
        return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in stream.getvalue().splitlines()]

    return printed


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_fits_the_terminal(terminal: Any, width: int) -> None:
    """From 36 to 120 columns each run is one line that fits, with mark, state, id and as much more as there is room for."""
    problem = {"code": "rate_limited", "message": "Too many requests. " * 9, "where": {"step": "answer"}}
    found = [
        summary("01a208d66b3b-df3cd6a1da", "waiting", wake_at=NOW + timedelta(hours=2)),
        summary("01a208d661a6-f1327bffc6", "failed", 4000, problem=problem),
        summary("01a208d65d0b-2ad898f559", "succeeded", 90_000, trigger="schedule"),
        summary("01a208d65d0a-2ad898f559", "ready", 90_000_000, origin="x"),
    ]
    lines = terminal(width, lambda: runs_table.show(runs_table.Page(found, more=True)))

    table = lines[:5]
    assert max(map(len, table)) <= width
    assert [line[:12].split() for line in table[1:]] == [
        ["◷", "waiting"],
        ["✗", "failed"],
        ["✓", "succeeded"],
        ["○", "ready"],
    ]
    assert all(each.run_id[:12] in line for each, line in zip(found, table[1:], strict=True))
    assert ("answer: rate" in lines[2]) == (width >= runs_table.MIDDLE)
    assert ("schedule" in lines[3]) == (width >= runs_table.WIDE)
    assert "1 run waits for a worker: weft worker" in lines
    assert "Older ones: weft runs list --before 01a208d65d0a-2ad898f559" in lines


def test_an_empty_list_says_what_to_do(terminal: Any) -> None:
    """Without runs it is told how to start one; when none fits, how to see all."""
    empty = terminal(80, lambda: runs_table.show(runs_table.Page([], more=False)))
    filtered = terminal(80, lambda: runs_table.show(runs_table.Page([], more=False, asked=True)))

    assert empty == ["There are no runs yet. Start one: weft run email-results"]
    assert filtered == ["No run is like that. All runs: weft runs list"]


def test_two_runs_of_one_millisecond_are_shown_with_their_whole_ids() -> None:
    """The part of an id that is shown is enough to name the run."""
    found = [summary(f"01a208d66b3b-{n:010x}", "succeeded") for n in range(2)]

    assert runs_table.short_ids(found) == {run.run_id: run.run_id for run in found}


@pytest.mark.parametrize(
    ("ago", "told"),
    [(0, "just now"), (5, "5 s ago"), (61, "1 min ago"), (3599, "59 min ago"), (86_400 * 400, r"\d+ \w{3} \d{4}")],
)
def test_when_a_run_started_is_told_as_people_do(ago: float, told: str) -> None:
    """Recent starts are told by how long ago they were, older ones by the calendar."""
    assert re.fullmatch(told, instants.started(NOW - timedelta(seconds=ago), NOW))


# ---- ids
async def journal_with(*ids: str) -> MemoryJournal:
    journal = MemoryJournal()
    await journal.open()
    document = await journal.keep_document("{}")
    for id_ in ids:
        stamp = int(id_[:12], 16) / 1000 if re.match("[0-9a-f]{12}-", id_) else time.time()
        await journal.submit(RunRow(id_, "w", document, "{}", "null", stamp))
    return journal


async def test_the_beginning_of_an_id_is_enough() -> None:
    """A unique beginning names a run, also of one whose id is not of ours; others are refused with what there is."""
    journal = await journal_with("01a208d66b3b-df3cd6a1da", "01a208d66b3c-0000000000", "nightly-2026", "01a2")

    async def found(given: str) -> str:
        return (await find(journal, given)).row.id

    assert await found("01a208d66b3b") == "01a208d66b3b-df3cd6a1da"
    assert await found("01a208d66b3b-d") == "01a208d66b3b-df3cd6a1da"
    assert await found("night") == "nightly-2026"
    assert await found("01a2") == "01a2"
    with pytest.raises(NotFound, match=r"Several runs begin with '01a208'.*01a208d66b3c") as several:
        await found("01a208")
    assert several.value.problem.code == "ambiguous_run"
    for nothing in ("ffff", "ni", "other"):
        with pytest.raises(NotFound) as unknown:
            await found(nothing)
        assert unknown.value.problem.code == "unknown_run"


# ---- show
def test_a_run_is_shown_with_its_attempts_arguments_and_outputs(tmp_path: Path, registry: Registry) -> None:
    """The picture has each step with its bar, each attempt with its time and fault, what it was given and gave."""
    run = ran(tmp_path, registry, key="d", failures=1)

    shown = weft("show", run[:12]).out
    assert f"run {run}" in shown.splitlines()[0]
    for told in (
        r"✓ Flaky +look +[─━]+ +succeeded +\d+ ms",
        r"✗ attempt 1 · first · \d+ ms · 503 busy",
        r"✓ attempt 2 · first · \d+ ms",
        r"with  key +d",
        r'gave  \{"model": "first", "calls": 2',
        r"outputs  sent  true",
    ):
        assert re.search(told, shown), told
    assert weft("show").out == weft("show", run).out
    report = RunReport.model_validate(weft("show", run, "--json").json)
    assert [attempt.state for attempt in report.steps[0].attempts] == ["failed", "succeeded"]


def test_one_step_is_shown_whole(tmp_path: Path, registry: Registry) -> None:
    """A long value is cut on the page, with its length; `--step` has all of it."""
    run = ran(tmp_path, registry, who="x" * 3000)

    page = weft("show", run).out
    assert re.search(r"to +x+… 3,000 characters", page)
    assert "add --step STEP" in page
    assert f'"to": "{"x" * 3000}"' in weft("show", run, "--step", "send").out
    assert weft("show", run, "--step", "send", "--json").json[0]["path"] == "/send"
    refused = weft("show", run, "--step", "sent")
    assert (refused.code, "Did you mean 'send'?" in refused.all) == (ExitCode.NOT_FOUND, True)


def report(steps: list[dict[str, Any]], **facts: Any) -> RunReport:
    shape = {"run_id": "01a208d66b3b-df3cd6a1da", "workflow": "w", "state": "failed", "started_at": NOW, "ms": 1000}
    return RunReport.model_validate({**shape, "inputs": {}, "steps": steps, **facts})


def step_(path: str, state: str = "succeeded", **facts: Any) -> dict[str, Any]:
    return {"path": path, "uses": "x", "title": f"Step {path}", "state": state, "started_at": NOW, "ms": 400, **facts}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_picture_fits_the_terminal(terminal: Any, width: int) -> None:
    """Titles, values, problems and depth are cut or wrapped; only the command at the end may be longer."""
    attempt = {
        "number": 1,
        "variant": "v" * 50,
        "state": "failed",
        "started_at": NOW,
        "ms": 3,
        "arguments": {"a": "y" * 400},
    }
    fault = {"code": "c", "message": "m " * 300, "remedy": "r " * 90, "where": {"file": "f" * 30, "line": 3}}
    steps = [step_("/each", output=["x" * 500]), step_("/last", "failed", attempts=[{**attempt, "problem": fault}])]
    steps += [step_(f"/each[{n}]/inner", attempts=[attempt]) for n in range(3)]
    whole = report(steps, inputs={"n" * 60: "v" * 500}, outputs={"o": "p" * 500}, problem=fault)

    def show() -> None:
        screen = Screen(sys.stdout)
        for line in run_view.page(whole, summary("1", "failed"), screen):
            screen.print(line, soft_wrap=True)

    assert max(map(len, terminal(width, show))) <= width


def test_steps_stand_within_what_they_are_part_of(terminal: Any) -> None:
    """Turns of a loop stand under it in their order, however they were recorded."""
    steps = [step_("/each"), step_("/last"), step_("/each[10]/b"), step_("/each[2]/b"), step_("/each[2]/a")]

    def show() -> None:
        screen = Screen(sys.stdout)
        for line in run_view.page(report(steps), summary("1", "failed"), screen):
            screen.print(line, soft_wrap=True)

    rows = [line for line in terminal(60, show) if "Step" in line]
    assert [re.search(r"Step (\S+)", row)[1] for row in rows] == [  # type: ignore[index]
        "/each",
        "/each[2]/b",
        "/each[2]/a",
        "/each[10]/b",
        "/last",
    ]


def test_secrets_are_masked_where_they_are_shown_and_not_where_they_are_kept(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B2: records keep what a replay needs byte for byte; list, show, watch and export mask it."""
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    kind = next(each.id for each in registry.connection_types() if any(field.name == "token" for field in each.fields))
    Path("connections.yaml").write_text(f"vault: {{type: {kind}, token: {{env: VAULT_TOKEN}}}}\n", encoding="utf-8")
    Path("connections.yaml").chmod(0o600)
    monkeypatch.setenv("WEFT_CONNECTIONS", "connections.yaml")
    run = ran(tmp_path, registry, who=f"say {CANARY} to them")

    kept = in_journal(tmp_path, lambda journal: journal.load(run))
    assert CANARY in kept.row.inputs
    for told in (
        weft("show", run),
        weft("show", run, "--json"),
        weft("show", run, "--step", "send"),
        weft("watch", run),
        weft("export", run),
        weft("export", "--all"),
        weft("rerun", run, "--json"),
    ):
        assert CANARY not in told.all
        assert told.code == ExitCode.OK
    assert [to for to, _, _ in delivered(registry)] == [f"say {CANARY} to them"] * 2


def test_a_run_whose_pack_is_gone_is_still_told(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what it follows a run is told from its records: states, times, outputs and faults."""
    run = ran(tmp_path, registry, key="e", failures=1)
    monkeypatch.setattr("weft.runtime.discover", lambda extra: Registry([]))

    shown = weft("show", run).out
    assert "cannot be read here" in shown
    assert "There is no action 'deliver'" in shown or "There is no action 'flaky'" in shown
    assert re.search(r"✗ attempt 1 · first · \d+ ms · 503 busy", shown)
    found = RunReport.model_validate(weft("show", run, "--json").json)
    assert (found.complete, [step.state for step in found.steps]) == (False, ["succeeded", "succeeded"])
    assert weft("watch", run).code == ExitCode.OK


def test_a_run_that_no_longer_fits_its_plan_is_still_told(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that answer something else than the plan asks for are told as they are."""
    run = ran(tmp_path, registry)
    monkeypatch.setattr("weft.executor.Call.request", property(lambda call: "another"))

    shown = weft("show", run).out
    assert "recorded with others for its arguments" in " ".join(shown.split())
    assert re.search(r"✓ send +[─━]+ +succeeded", shown)


def test_a_run_that_is_too_large_to_be_read_is_still_told(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run whose records are over the limit, what its row says is shown and exported, with the reason."""
    run = ran(tmp_path, registry)
    monkeypatch.setattr("weft.journal.sqlite_reads.LARGEST_RUN", 10)

    assert re.search(r"holds [\d,]+ bytes, at most", " ".join(weft("show", run).out.split()))
    told = weft("export", "--all")
    assert RunReport.model_validate_json(told.out).complete is False
    assert "1 run; 1 of them without titles and arguments" in told.all


# ---- watch
async def test_watching_tells_each_thing_once(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that others drive is told as it goes on, and ends the watch with its end."""
    journal = MemoryJournal()
    async with Runtime(tmp_path, registry, environ={}, journal=journal) as runtime:
        planned = runtime.compile(runtime.find_workflow("nap"))
        running = asyncio.create_task(runtime.run(planned, {}, run_id="r"))
        await asyncio.sleep(0.05)
        found = await asyncio.wait_for(watch(journal, await journal.status("r"), Reading(runtime), as_json=False), 10)
        await running

    lines = [re.sub(r" in [\d.]+ s.*", "", line) for line in capsys.readouterr().out.splitlines()]
    assert found.state == "succeeded"
    assert len(lines) == len(set(lines))
    assert lines[0] == "run r started: nap"
    told = [line for line in lines if line.startswith("step")]
    assert sorted(told) == sorted(
        f"step {path} {what}"
        for path in ("/a", "/rest", "/each", "/each[0]/in", "/each[1]/in")
        for what in (
            "started" + {"/a": ": nap", "/rest": ": wait", "/each": ": group"}.get(path, ": echo"),
            "succeeded",
        )
    )
    assert told.index("step /each succeeded") > told.index("step /each[1]/in succeeded")


@pytest.mark.parametrize(
    ("state", "code"), [("succeeded", ExitCode.OK), ("failed", ExitCode.RUN_FAILED), ("cancelled", ExitCode.CANCELLED)]
)
def test_a_watch_ends_with_the_runs_exit_code(tmp_path: Path, registry: Registry, state: str, code: ExitCode) -> None:
    """A run that has ended already is told at once, and gives the code that `weft run` gave."""
    if state == "cancelled":
        run = left(tmp_path, registry, REST)
        in_journal(tmp_path, lambda journal: _end(journal, run))
    else:
        run = ran(tmp_path, registry, key=state, failures=9 if state == "failed" else 0)

    told = weft("watch", run)
    assert told.code == code
    assert f"run {run} {state} in" in told.out


async def _end(journal: SqliteJournal, run: str) -> None:
    claim = await journal.claim(run)
    await journal.write(claim, 0, (), Ended("cancelled", encode({"outputs": None, "problem": None})))


def test_what_is_new_between_two_reports_is_an_event() -> None:
    """Two reports that are equal tell nothing; a step's end is told when it is there."""
    before, after = report([step_("/a", "running")], state="running"), report([step_("/a")], state="running")

    assert list(events_between(before, before)) == []
    (end,) = events_between(before, after)
    assert isinstance(end, StepEnded)


# ---- cancel, resume, answer
def test_a_waiting_run_that_nobody_drives_is_cancelled_here(tmp_path: Path, registry: Registry) -> None:
    """A cancel needs no worker: a run without a process ends in the command, and nothing of it is sent."""
    run = left(tmp_path, registry, REST, Rest("waiting", time.time() + 7200))

    assert weft("cancel", run).code == ExitCode.OK
    assert weft("show", run, "--json").json["state"] == "cancelled"
    assert delivered(registry) == []
    again = weft("cancel", run)
    assert (again.code, again.error.problem.code) == (ExitCode.RUN_FAILED, "has_ended")  # type: ignore[union-attr]


def test_a_run_of_another_process_is_asked_to_stop(tmp_path: Path, registry: Registry) -> None:
    """A run in other hands is told of the cancel, once or with --now twice, and its process does the rest."""
    run = left(tmp_path, registry, REST)

    async def hold(journal: SqliteJournal) -> list[str]:
        await journal.claim(run)
        first = await asyncio.to_thread(weft, "cancel", run)
        second = await asyncio.to_thread(weft, "cancel", run, "--now", "--json")
        records = (await journal.load(run)).records
        return [first.out, second.json["state"], *(f"{each.kind} {each.n}" for each in records)]

    told = in_journal(tmp_path, hold)
    assert told[0] == f"Run {run} was asked to stop. At once: weft runs cancel {run} --now\n"
    assert told[1:] == ["running", "cancel 1", "cancel 2"]


def test_a_parked_run_is_resumed_here_or_left_to_a_worker(tmp_path: Path, registry: Registry) -> None:
    """Resume goes on with a run in the foreground; with --detach it is only made ready."""
    reason = encode({"code": "stuck", "message": "m", "remedy": None, "where": {}, "severity": "error"})
    runs_ = [left(tmp_path, registry, GREET, Rest("parked", reason=reason)) for _ in range(2)]

    assert "stuck: m" in weft("list").out
    assert "is ready; a worker goes on" in weft("resume", runs_[0], "--detach").out
    assert weft("show", runs_[0], "--json").json["state"] == "ready"
    told = weft("resume", runs_[1])
    assert (told.code, "2 steps succeeded" in told.out) == (ExitCode.OK, True)
    assert len(delivered(registry)) == 1


def test_only_what_nobody_drives_can_be_resumed(tmp_path: Path, registry: Registry) -> None:
    """A run that has ended, or that a living process has, is refused with what can be done instead."""
    done, held = ran(tmp_path, registry), left(tmp_path, registry, REST)

    async def hold(journal: SqliteJournal) -> Told:
        await journal.claim(held)
        return await asyncio.to_thread(weft, "resume", held)

    assert f"weft runs rerun {done}" in weft("resume", done).all
    refused = in_journal(tmp_path, hold)
    assert (refused.code, f"weft runs watch {held}" in refused.all) == (ExitCode.RUN_FAILED, True)


def test_a_run_of_a_dead_process_is_resumed(tmp_path: Path, registry: Registry) -> None:
    """A run whose process is gone is marked in the list, and resume takes it over."""
    run = left(tmp_path, registry, GREET)
    script = (
        "import asyncio, os, sys, pathlib\nfrom weft.journal.sqlite import SqliteJournal\n"
        "async def main():\n    journal = SqliteJournal(pathlib.Path(sys.argv[1]))\n    await journal.open()\n"
        "    await journal.claim(sys.argv[2])\n    os._exit(0)\nasyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", script, home(tmp_path) / JOURNAL, run], check=True, env=environment, timeout=60
    )

    assert weft("list").out.endswith("its process is gone\n")
    assert "2 steps succeeded" in weft("resume", run).out


ASK = """
    name: ask
    steps:
      - {id: ok, approval: {message: "Send it?"}}
      - {id: send, uses: deliver, with: {to: "{{ steps.ok.output.by }}"}}
    """


@pytest.mark.parametrize(("answer", "code"), [("approve", ExitCode.OK), ("reject", ExitCode.RUN_FAILED)])
def test_an_approval_is_answered(tmp_path: Path, registry: Registry, answer: str, code: ExitCode) -> None:
    """An answer is put on record with its name and comment, and the run goes on with it."""
    run = left(tmp_path, registry, ASK)
    in_journal(tmp_path, lambda journal: _ask(journal, run))

    assert "waits for an answer" in weft("list").out
    shown = weft("show", run).out
    assert "asks  Send it?" in shown
    assert f"weft runs answer {run} ok approve" in " ".join(shown.split())
    assert "These wait: ok." in weft("answer", run, "send", answer).all
    told = weft("answer", run, "ok", answer, "--by", "ada", "--comment", "fine")
    assert (told.code, run in told.out) == (ExitCode.OK, True)
    signal = in_journal(tmp_path, lambda journal: journal.load(run)).records[-1]
    told_of = json.loads(signal.payload)
    assert abs(told_of.pop("at") - time.time()) < 60
    assert (signal.kind, told_of) == ("signal", {"answer": answer, "by": "ada", "how": "cli", "comment": "fine"})
    assert weft("resume", run).code == code
    assert [to for to, _, _ in delivered(registry)] == (["ada"] if answer == "approve" else [])


async def _ask(journal: SqliteJournal, run: str, rest: Rest | None = None) -> None:
    from weft.journal.base import Record

    claim = await journal.claim(run)
    facts = encode({"at": time.time(), "deadline": None, "message": "Send it?"})
    await journal.write(claim, 0, [Record("/ok", 1, "waits", facts)], rest or Rest("waiting"))


GUARDED = ASK.replace('"Send it?"', '"Send it?", who: [ada, bob], deadline: 2h')


def _asking(tmp_path: Path, registry: Registry, text: str = GUARDED) -> str:
    """Leave a run that has asked, as a worker does that then goes."""
    run = left(tmp_path, registry, text)

    async def whole() -> None:
        async with Runtime(home(tmp_path), registry, environ={}) as runtime:
            await runtime.opened()
            await runtime.driver.advance(run)

    asyncio.run(whole())
    return run


def test_only_those_who_are_named_may_answer(tmp_path: Path, registry: Registry) -> None:
    """`who` is kept: another name, and none at all, are refused, and nothing is put on record."""
    run = _asking(tmp_path, registry)
    shown = " ".join(weft("show", run).out.split())
    assert f"Answer as ada or bob: weft runs answer {run} ok approve --by NAME (or reject)" in shown
    (step, _) = weft("show", run, "--json").json["steps"]
    assert (step["asks"][0]["path"], step["asks"][0]["who"]) == ("/ok", ["ada", "bob"])

    carol, nobody = weft("answer", run, "ok", "approve", "--by", "carol"), weft("answer", run, "ok", "approve")
    assert (carol.code, nobody.code) == (ExitCode.USAGE, ExitCode.USAGE)
    assert "Only ada or bob may answer step 'ok'" in carol.all
    assert "Step 'ok' says who may answer it: ada or bob" in nobody.all
    assert "--by NAME" in str(nobody.error and nobody.error.problem.remedy)
    assert weft("answer", run, "ok", "approve", "--by", "bob").code == ExitCode.OK
    assert weft("resume", run, "--quiet").out == ""
    assert [to for to, _, _ in delivered(registry)] == ["bob"]


def _written(name: str, text: str) -> Path:
    file = Path(name)
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


async def test_a_run_and_a_watch_show_what_is_asked(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both tell the question, who may answer and how, once; the answer ends the wait."""
    journal, events = MemoryJournal(), list[Any]()
    file = _written("guarded.yaml", GUARDED)
    async with Runtime(tmp_path, registry, environ={}, journal=journal) as runtime:
        running = asyncio.create_task(runtime.run(runtime.compile(file), {}, events.append, run_id="r"))
        while not any(isinstance(event, Asked) for event in events):
            await asyncio.sleep(0.01)
        watching = asyncio.create_task(watch(journal, await journal.status("r"), Reading(runtime), as_json=False))
        await asyncio.sleep(0.1)
        await journal.signal("r", "/ok", encode({"answer": "approve", "by": "ada", "comment": None}))
        await asyncio.wait_for(asyncio.gather(running, watching), 10)

    (question,) = [event for event in events if isinstance(event, Asked)]
    assert (question.path, question.message, question.who) == ("/ok", "Send it?", ("ada", "bob"))
    assert question.deadline is not None
    assert question.deadline - question.at == timedelta(hours=2)
    assert [line for line in capsys.readouterr().out.splitlines() if "answer" in line] == [
        "step /ok waits for an answer: Send it? Answer as ada or bob: weft runs answer r ok approve --by NAME (or reject)"
    ]


def test_what_was_asked_of_a_parked_run_is_gone_on_with_by_hand(tmp_path: Path, registry: Registry) -> None:
    """No worker takes a parked run, so that none is named."""
    run = left(tmp_path, registry, ASK)
    in_journal(tmp_path, lambda journal: _ask(journal, run, Rest("parked", reason=encode(STUCK))))

    told = weft("answer", run, "ok", "approve").out
    assert f"weft runs resume {run}" in told
    assert "weft worker" not in told


STUCK: dict[str, Any] = {"code": "stuck", "message": "m", "remedy": None, "where": {}, "severity": "error"}


def test_a_run_that_nobody_has_has_begun_nothing() -> None:
    """What comes next in a run that is ready is told to have begun when it has."""
    steps = [step_("/a"), {**step_("/b", "running"), "started_at": None}]
    ready, running = report(steps, state="ready"), report([steps[0], step_("/b", "running")], state="running")

    assert StepStarted("/b") not in list(events_between(None, ready))
    assert list(events_between(ready, running)) == [StepStarted("/b")]


def test_a_view_is_brought_to_what_is_on_record() -> None:
    """What others did with a run while it was shown is counted as it is in the journal."""
    view = RunView()
    view.apply(RunStarted("r", "w", datetime.now(UTC), (("/a", "x", "A"), ("/b", "x", "B"))))
    view.apply(StepStarted("/a"))
    view.apply(RunEnded("r", "succeeded", 1000, None, None))
    assert closing.summary(view) == "1 step running, 1 not started in 1.0 s"

    settle(view, report([step_("/a"), step_("/b")]))
    assert closing.summary(view) == "2 steps succeeded in 1.0 s"


# ---- rerun, replay
def test_a_rerun_follows_the_document_as_it_was(tmp_path: Path, registry: Registry) -> None:
    """A rerun has the old document and inputs, edited where asked; with --latest the file as it is now. B10: new keys."""
    run = ran(tmp_path, registry, who="grace")
    file = Path("workflows/greet.yaml")
    file.write_text(file.read_text().replace('"{{ inputs.who }}"', '"new {{ inputs.who }}"'))

    again = weft("rerun", run, "--json").json
    edited = weft("rerun", run, "-i", "who=eve", "--json").json
    latest = weft("rerun", run, "--latest", "--json").json

    assert [to for to, _, _ in delivered(registry)] == ["grace", "grace", "eve", "new grace"]
    assert len({key for _, key, _ in delivered(registry)}) == 4
    assert {each["origin"] for each in (again, edited, latest)} == {run}
    assert weft("rerun", run, "-i", "whom=eve").code == ExitCode.USAGE


def test_a_rerun_may_be_left_to_a_worker(tmp_path: Path, registry: Registry) -> None:
    """With --detach nothing happens here: the new run is ready."""
    run = ran(tmp_path, registry)

    told = weft("rerun", run, "--detach", "--json").json
    assert (told["state"], told["origin"]) == ("ready", run)
    assert len(delivered(registry)) == 1


def test_a_replay_that_would_send_again_needs_a_yes(tmp_path: Path, registry: Registry) -> None:
    """A22: sends that would be repeated are listed first; without a terminal only --yes lets them happen."""
    run = ran(tmp_path, registry)

    refused = weft("replay", run, "--from", "send")
    assert refused.code == ExitCode.USAGE
    assert f"what run {run} has sent or may have sent:\n  Deliver: send\n" in refused.all
    assert len(delivered(registry)) == 1

    done = weft("replay", run, "--from", "send", "--yes", "--json").json
    assert (done["state"], done["origin"]) == ("succeeded", run)
    assert [[attempt["inherited"] for attempt in step["attempts"]] for step in done["steps"]] == [[True], [False]]
    assert len({key for _, key, _ in delivered(registry)}) == 2


def test_a_replay_that_is_declined_says_so(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who says no is told that nothing was repeated."""
    run = ran(tmp_path, registry)
    monkeypatch.setattr("weft.cli.asking.possible", lambda: True)

    told = Told(
        CliRunner().invoke(
            runs.command, ["replay", run, "--from", "send"], input="n\n", standalone_mode=False, obj=State()
        )
    )
    assert (told.code, "Nothing was repeated." in told.all) == (ExitCode.RUN_FAILED, True)
    assert len(delivered(registry)) == 1


def test_a_replay_of_what_was_never_sent_needs_no_yes(tmp_path: Path, registry: Registry) -> None:
    """A run that failed before it sent anything goes on from there, with an input edited."""
    run = ran(tmp_path, registry, key="f", failures=3)

    done = weft("replay", run, "--from", "look", "--with", "failures=0", "--json").json
    assert done["state"] == "succeeded"
    assert [to for to, _, _ in delivered(registry)] == ["ada"]


def test_a_replay_may_be_left_to_a_worker(tmp_path: Path, registry: Registry) -> None:
    """With --detach the new run is ready, with what it inherits."""
    run = ran(tmp_path, registry)

    told = weft("replay", run, "--from", "send", "--yes", "--detach", "--json").json
    assert told["state"] == "ready"
    states = [step["state"] for step in weft("show", told["run_id"], "--json").json["steps"]]
    assert states == ["succeeded", "running"]


def test_a_run_that_goes_on_is_not_replayed(tmp_path: Path, registry: Registry) -> None:
    """A22: only a run that has ended, or is parked, may be repeated from a step on."""
    run = left(tmp_path, registry, REST, Rest("waiting", time.time() + 7200))

    refused = weft("replay", run, "--from", "rest")
    assert (refused.code, refused.error.problem.code) == (ExitCode.RUN_FAILED, "not_ended")  # type: ignore[union-attr]


async def test_files_that_were_kept_go_with_what_is_inherited(registry: Registry, tmp_path: Path) -> None:
    """A step of a replay reads a file that the old run has kept, also when the old run is gone."""
    clock = [time.time()]
    async with Runtime(tmp_path, registry, environ={}, journal=MemoryJournal(clock=lambda: clock[0])) as runtime:
        first = await runtime.run(runtime.compile(runtime.find_workflow("files")), {})
        clock[0] += 10
        prepared = await repeating.replay(runtime, first.run_id, ["read"], {})
        await repeating.submit(runtime, prepared)
        assert (await runtime.journal.purge(clock[0])).runs == 1
        await runtime.follow(prepared.row.id)
        again = await runtime.report(prepared.row.id)

    assert [attempt.inherited for step in again.steps for attempt in step.attempts] == [True, False]
    assert again.steps[1].output == {"text": "hello"}


# ---- export, purge, retention
def test_runs_are_exported_a_line_each(tmp_path: Path, registry: Registry) -> None:
    """Each line is a report, of one run or of all that the filters leave; a file is written when one is named."""
    first, second = ran(tmp_path, registry), ran(tmp_path, registry, key="g", failures=9)

    def exported(text: str) -> list[str]:
        return [RunReport.model_validate_json(line).run_id for line in text.splitlines()]

    assert exported(weft("export", first).out) == [first]
    assert exported(weft("export", "--all").out) == [second, first]
    assert exported(weft("export", "--all", "--state", "failed").out) == [second]
    told = weft("export", "--all", "-o", "all.jsonl")
    assert told.all == "2 runs written to all.jsonl\n"
    assert exported(Path("all.jsonl").read_text()) == [second, first]
    for wrong in ([], [first, "--all"], [first, "--state", "failed"]):
        assert weft("export", *wrong).code == ExitCode.USAGE


async def test_an_export_reads_a_page_at_a_time(registry: Registry, tmp_path: Path) -> None:
    """B11: no read takes more than a page of rows or one run's records, and between two of them others may write."""

    pages: list[int] = []

    class Counted(MemoryJournal):
        async def runs(self, query: RunQuery) -> list[Listed]:
            found = await super().runs(query)
            pages.append(len(found))
            return found

    journal = Counted()
    async with Runtime(tmp_path, registry, environ={}, journal=journal) as runtime:
        planned = runtime.compile(runtime.find_workflow("greet"))
        inputs = runtime.inputs(planned, {})
        ids = [await runtime.submit(planned, inputs) for _ in range(runs.PAGE * 2 + 5)]
        lines = runs.exported(runtime, runs.Filter(None, (), None, None, None), None)
        first, _ = await anext(lines)
        assert pages == [runs.PAGE]
        for id_ in ids[: runs.PAGE]:  # the oldest are removed while the export goes on
            await journal.cancel(id_)
            await runtime.follow(id_)
        await journal.purge(journal.now() + 1)
        rest = [each.run_id async for each, _ in lines]

    assert [first.run_id, *rest] == ids[: runs.PAGE - 1 : -1]
    assert max(pages) <= runs.PAGE


def test_a_purge_says_what_it_removed_and_what_stays(tmp_path: Path, registry: Registry) -> None:
    """Runs that ended long enough ago go, those in doubt stay and are counted; a dry run only counts."""
    ran(tmp_path, registry)
    doubt = left(tmp_path, registry, GREET)
    in_journal(tmp_path, lambda journal: _doubt(journal, doubt))
    waits = left(tmp_path, registry, REST, Rest("waiting", time.time() + 7200))

    assert "Nothing to remove" in weft("purge", "--older-than", "30d").out
    assert weft("purge", "--older-than", "1ms", "--dry-run").out.startswith("2 runs ended more than 1ms ago;")
    told = weft("purge", "--older-than", "1ms").out.splitlines()
    assert told[0].startswith("Removed 1 run with ")
    assert told[1:] == ["Kept 1 with an effect of which nobody knows whether it happened."]
    assert [each["run_id"] for each in weft("list", "--json").json] == [waits, doubt]
    assert weft("purge", "--older-than", "1ms", "--json").json["kept"] == {"doubt": 1}
    assert weft("purge", "--older-than", "soon").error is not None


async def _doubt(journal: SqliteJournal, run: str) -> None:
    claim = await journal.claim(run)
    problem = {"code": "c", "message": "m", "remedy": None, "where": {}, "severity": "error"}
    await journal.write(claim, 0, (), Ended("failed", encode({"outputs": None, "problem": problem}), doubt=True))


@pytest.mark.parametrize(("text", "kept_s"), [("30d", 30 * 86400.0), (" 90m ", 5400.0), ("", None), (None, None)])
def test_how_long_runs_are_kept_is_a_setting(text: str | None, kept_s: float | None) -> None:
    """WEFT_KEEP_RUNS is a duration; without it runs are kept for ever."""
    assert retention.retention({} if text is None else {"WEFT_KEEP_RUNS": text}) == kept_s


@pytest.mark.parametrize("text", ["0s", "month", "-3d", "30"])
def test_a_setting_that_is_no_duration_is_refused(text: str) -> None:
    """A mistyped retention removes nothing: it is told."""
    with pytest.raises(WeftError, match="WEFT_KEEP_RUNS must be a duration such as 30d"):
        retention.retention({"WEFT_KEEP_RUNS": text})


async def test_retention_goes_on_until_nothing_is_left_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    """Old runs go in short transactions, however many they are; the log has the counts."""
    limits: list[int] = []

    class Slow(MemoryJournal):
        async def purge(self, before: float, *, limit: int = 10_000) -> Purged:
            limits.append(limit)
            return await super().purge(before, limit=2)

    journal = Slow()
    await journal.open()
    document = await journal.keep_document("{}")
    for n in range(5):
        claim = await journal.accept(RunRow(f"r{n}", "w", document, "{}", "null", journal.now()))
        await journal.write(claim, 0, (), Ended("failed", "{}", doubt=n == 0))
    await asyncio.sleep(0.01)

    with caplog.at_level(logging.INFO, "weft.retention"):
        purged = await retention.apply(journal, 0.001)

    assert (purged.runs, purged.kept) == (4, {"doubt": 1})
    assert set(limits) == {retention.AT_ONCE}
    assert caplog.messages == ["runs_purged 4 runs, 0 records, 0 documents, 0 artifacts; kept though old: 1 for doubt"]


def test_a_length_of_time_without_a_unit_is_a_mistake_in_the_command() -> None:
    """Its exit code is that of a wrong command line."""
    assert weft("purge", "--older-than", "5").code == ExitCode.USAGE


@pytest.mark.parametrize("words", [["show", "\udcff"], ["list", "--text", "\udcff"], ["cancel", "abc\udcff"]])
def test_what_is_no_text_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8 are a mistake in the command, not a fault of Weft."""
    with pytest.raises(SystemExit) as ended:
        app.main(["runs", *words])
    assert ended.value.code == ExitCode.USAGE
    assert "no text in UTF-8" in capsys.readouterr().err


# ---- documents
def test_the_page_describes_the_shapes_as_they_are() -> None:
    """docs/runs.md ends with the tables of the models that `--json` prints."""
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    summary_ = keys.markdown(RunSummary.model_json_schema()).partition("\n## ProblemReport")[0].rstrip()

    assert page.endswith(f"\n\n{summary_}\n\n{keys.markdown(RunReport.model_json_schema())}\n")
