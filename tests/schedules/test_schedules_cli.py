"""`weft schedules`: what it prints for people and for programs, and that the preview is what comes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from weft.cli import schedules, schedules_view
from weft.cli.exits import exit_code
from weft.cli.state import State
from weft.cli.terminal import Screen
from weft.errors import WeftError
from weft.journal.base import Occurrence, OccurrenceQuery, ScheduleMove, ScheduleView
from weft.registry import Registry
from weft.runtime import Runtime
from weft.schedules import report
from weft.schedules.asking import would_come
from weft.schedules.firing import Firing
from weft.schedules.report import OccurrenceReport, ScheduleHistory, ScheduleReport, occurrence_report
from weft.workflow import Schedule as Says

DAILY = """
    name: daily
    enabled: true
    on:
      schedule:
        - {cron: "30 2 * * *", timezone: Europe/Berlin, jitter: 5m}
        - {every: 6h, timezone: Europe/Berlin, start: 2026-01-01T00:00:00Z, overlap: queue}
    steps: [{id: a, wait: {for: 1s}}]
    """


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core_registry: Registry) -> None:
    monkeypatch.setattr("weft.runtime.discover", lambda extra: core_registry)
    monkeypatch.chdir(tmp_path)
    write(DAILY)


def write(text: str, name: str = "daily") -> None:
    Path("workflows").mkdir(exist_ok=True)
    Path("workflows", f"{name}.yaml").write_text(text.replace("\n    ", "\n"), encoding="utf-8")


def weft(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(schedules.command, list(words), standalone_mode=False, obj=State())
    if result.exception is not None and not isinstance(result.exception, WeftError):
        raise result.exception
    found = exit_code(result.exception) if isinstance(result.exception, WeftError) else result.return_value or 0
    assert found == code, result.output + str(result.exception)
    return result.stdout if code == 0 else result.stdout + str(result.exception)


def told(*words: str) -> Any:
    return json.loads(weft(*words, "--json"))


# ---- what programs read
def test_sync_arms_and_list_tells() -> None:
    """What is armed is listed in a documented shape; again, nothing changes."""
    assert [each["change"] for each in told("sync")["schedules"]] == ["new", "new"]
    assert [each["change"] for each in told("sync")["schedules"]] == ["unchanged", "unchanged"]

    first, second = told("list")

    assert report.ScheduleReport.model_validate(first).model_dump(mode="json") == first
    assert (first["id"], first["state"], first["cron"], first["jitter"]) == ("daily/1", "armed", "30 2 * * *", "5m")
    assert (second["id"], second["every"], second["overlap"]) == ("daily/2", "6h", "queue")
    assert first["last"] is None
    assert weft("list").splitlines()[0].split("\t")[:4] == ["daily/1", "armed", "30 2 * * *", "Europe/Berlin"]


def test_a_fault_is_told_by_sync() -> None:
    """The exit code is that of an invalid document, and what was armed goes on."""
    weft("sync")
    write(DAILY.replace("30 2 *", "30 25 *"))

    assert "goes on as it was armed last" in weft("sync", code=3)
    assert [each["state"] for each in told("list")] == ["armed", "armed"]


def test_next_of_a_file_needs_nothing_armed() -> None:
    """The starts that a workflow would have, from an instant on, in UTC and in its zone, daylight saving included."""
    found = told("next", "daily", "--from", "2026-03-28T20:30:00+01:00", "--count", "3")

    assert [(each["utc"], each["local"]) for each in found] == [
        ("2026-03-29T00:00:00Z", "2026-03-29T01:00:00+01:00"),
        ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00"),
        ("2026-03-29T06:00:00Z", "2026-03-29T08:00:00+02:00"),
    ]
    assert report.InstantReport.model_validate(found[0]).model_dump(mode="json") == found[0]
    assert found[0]["schedule"] is None
    assert found[1]["due"] > found[1]["utc"]
    assert weft("next", "workflows/daily.yaml", "--from", "2026-03-28", "--count", "1").startswith(
        "2026-03-28T00:00:00"
    )


def test_next_of_an_armed_schedule_is_what_is_kept() -> None:
    """From now on and from any later instant the same starts are told, for the workflow and for one of its schedules."""
    weft("sync")
    whole = told("next", "daily", "--count", "12")
    one = told("next", "daily/2", "--count", "3")

    assert [each for each in whole if each["schedule"] == "daily/2"][:3] == one
    assert told("next", "daily", "--from", whole[3]["utc"], "--count", "8") == whole[4:]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("next", "dayly"), 4, "daily"),
        (("show", "dayly"), 4, "daily"),
        (("next", "daily", "--from", "soon"), 2, "2026-11-23T08:00+01:00"),
        (("backfill", "daily", "--from", "2026-02-01", "--to", "2026-01-01"), 2, "after"),
        (("backfill", "daily/2", "--from", "2026-01-01", "--to", "2027-01-01"), 2, "500"),
    ],
)
def test_refusals_say_what_to_do(words: tuple[str, ...], code: int, part: str) -> None:
    """A name that is not there, an instant that is none, a span that is too long: each with a remedy."""
    weft("sync")

    assert part in weft(*words, code=code)


def test_a_workflow_without_schedule_is_told() -> None:
    """`next` of a workflow that only people start says so."""
    write("name: plain\nsteps: [{id: a, wait: {for: 1s}}]\n", "plain")

    assert "has no schedule" in weft("next", "plain", code=2)


def test_pause_and_resume() -> None:
    """All schedules of a workflow, or one of them; the row says since when."""
    weft("sync")

    assert [each["state"] for each in told("pause", "daily/1")] == ["paused"]
    assert [each["state"] for each in told("list")] == ["paused", "armed"]
    assert told("list")[0]["paused_at"] is not None
    assert "is paused" in weft("pause", "daily")
    assert [each["state"] for each in told("resume", "daily")] == ["armed", "armed"]
    assert "starts next" in weft("resume", "daily")


def test_backfill_starts_what_is_past_once() -> None:
    """The days from and to belong to it, in the schedule's zone; what has been started is left alone."""
    weft("sync")
    span = ("backfill", "daily/1", "--from", "2026-03-28", "--to", "2026-03-30")

    planned = told(*span, "--dry-run")
    started = told(*span)

    assert [(each["local"], each["outcome"]) for each in started] == [
        ("2026-03-28T02:30:00+01:00", "started"),
        ("2026-03-29T03:00:00+02:00", "started"),
        ("2026-03-30T02:30:00+02:00", "started"),
    ]
    assert [each["run_id"] for each in planned] == [each["run_id"] for each in started]
    assert {each["outcome"] for each in planned} == {"planned"}
    assert {each["outcome"] for each in told(*span)} == {"known"}
    longer = told(*span[:-1], "2026-03-31", "--dry-run")
    assert [each["outcome"] for each in longer] == ["known", "known", "known", "planned"]
    assert weft(*span, "--dry-run").count("planned") == 0
    (history,) = told("show", "daily/1")
    assert [(each["fate"], each["code"]) for each in history["occurrences"]] == [("fired", "backfill")] * 3
    assert report.ScheduleHistory.model_validate(history).model_dump(mode="json") == history


def test_a_backfilled_miss_keeps_its_row_and_names_its_run(tmp_path: Path) -> None:
    """The clock has missed it, and that stays on record; beside it stands the run that was started by hand."""
    weft("sync")
    missed = Occurrence("daily/1", "2026-03-28T02:30:00+01:00", 1774661400.0, "missed", 1774670000.0, None)

    async def keep() -> None:
        async with Runtime.open() as runtime:
            await runtime.opened()

            def think(view: ScheduleView) -> ScheduleMove:
                assert view.schedule is not None
                return ScheduleMove(view.schedule, [missed])

            await runtime.journal.schedule("daily/1", think)

    asyncio.run(keep())
    (started,) = told("backfill", "daily/1", "--from", "2026-03-28", "--to", "2026-03-28")

    (history,) = told("show", "daily/1")

    (row,) = history["occurrences"]
    assert (row["fate"], row["run_id"], row["backfilled"]) == ("missed", None, started["run_id"])


# ---- the preview is what comes
def test_next_is_what_starts() -> None:
    """What `next` prints beforehand is what has fired afterwards, instant for instant."""
    begin = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    write(
        f"""
    name: tick
    enabled: true
    on: {{schedule: [{{every: 500ms, timezone: Asia/Kolkata, overlap: allow, start: "{begin.isoformat()}"}}]}}
    steps: [{{id: a, wait: {{for: 1s}}}}]
    """.replace("every: 500ms", "every: 1s"),
        "tick",
    )
    weft("sync")
    preview = [each["local"] for each in told("next", "tick", "--count", "4")]

    async def live() -> list[str]:
        async with Runtime.open() as runtime:
            await runtime.opened()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout((begin - datetime.now(UTC)).total_seconds() + 4):
                    await Firing(runtime, lambda event, **facts: None).run()
            rows = await runtime.journal.occurrences(OccurrenceQuery(workflow="tick"))
            assert {row.fate for row in rows} == {"fired"}
            return [row.key for row in rows[::-1]]

    fired = asyncio.run(live())

    assert len(fired) >= 4
    assert fired[:4] == preview


def test_a_worker_starts_what_is_due(tmp_path: Path) -> None:
    """`weft worker` says what it has armed and when that starts, starts it, and goes on with the run."""
    write(
        """
    name: tick
    enabled: true
    on: {schedule: [{every: 1s, timezone: UTC}]}
    steps: [{id: a, wait: {for: 10ms}}]
    """,
        "tick",
    )
    words = [sys.executable, "-m", "weft", "worker", "--json"]
    environ = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environ) as worker:
        assert worker.stdout is not None
        events: list[dict[str, Any]] = []
        for line in worker.stdout:
            if line.strip():
                events.append(json.loads(line))
            if sum(each["event"] == "run" for each in events) == 2 and worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                break
        worker.communicate(timeout=60)

    armed = {each["schedule"]: each["next"] for each in events if each["event"] == "schedule"}
    assert set(armed) == {"daily/1", "daily/2", "tick/1"}
    runs = [each for each in events if each["event"] == "run"]
    assert {(run["workflow"], run["state"], run["trigger"]) for run in runs} == {("tick", "succeeded", "schedule")}
    assert worker.returncode == 0


# ---- what people see
def page(width: int, rows: list[Occurrence]) -> list[str]:
    """Return the lines of `weft schedules show` on a terminal of a width."""
    (armed, _) = told("list")
    reports = [report.occurrence_report(row) for row in rows]
    history = ScheduleHistory(schedule=report.ScheduleReport.model_validate(armed | {"skips": 4}), occurrences=reports)
    history.schedule.__dict__["last"] = reports[0]
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        screen = Screen(nowhere)
        screen.size = Console(width=width, height=40).size
        return [line.plain for line in schedules_view.page(history, rows, screen, 7, is_whole=True)]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_picture_fits(width: int) -> None:
    """A line for each day that has starts, the worst of each half hour visible; nothing is wider than the terminal."""
    weft("sync")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp() - 86_400
    overlap = json.dumps({"code": "overlap", "blockers": ["f" * 40], "count": 1})
    rows = [
        Occurrence("daily/1", "2026-03-30T12:30:00+02:00", midnight + 43_200, "skipped", midnight, overlap),
        Occurrence("daily/1", "2026-03-30T02:30:00+02:00", midnight + 7_200, "fired", midnight, None, "a" * 40),
        Occurrence(
            "daily/1", "2026-03-29T22:30:00+02:00", midnight - 14_400, "missed", midnight, '{"code": "retired"}'
        ),
    ]

    lines = page(width, rows)

    assert max(map(len, lines)) <= width
    assert any("4 starts in a row" in line for line in lines)
    text = "\n".join(lines)
    assert ("f" * 12) in text
    assert ("f" * 13) not in text
    if width > 60:
        assert "1 fired, 1 skipped" in text
        assert "1 missed" in text


def seen(width: int, show: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that a terminal of some width shows."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(schedules_view, "Screen", lambda stream: Console(file=stream, width=width, height=40))
    show()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80])
def test_the_next_instants_fit(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with seconds and an offset nothing is cut off."""
    says = Says(every="7s", timezone="Australia/Lord_Howe", start="2026-11-23T00:00:01Z", jitter="5s")
    reports = list(islice(would_come("w", [says], 1_795_000_000.0), 3))

    lines = seen(width, lambda: schedules_view.show_next(reports, ""), monkeypatch)

    assert not any("…" in line for line in lines)
    assert sum("+1100" in line for line in lines) == 3


def test_what_is_overdue_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that nobody has started for minutes says so, and what to do; one that is put off by jitter is not late."""
    weft("sync")
    report = ScheduleReport.model_validate_json(json.dumps(told("list")[0]))
    assert report.next is not None
    for late, jitter, is_told in ((7_200, 0, True), (30, 0, False), (7_200, 7_300, False)):
        utc = datetime.now(UTC) - timedelta(seconds=late)
        due = report.next.model_copy(update={"utc": utc, "due": utc + timedelta(seconds=jitter)})
        each = report.model_copy(update={"next": due})

        text = "\n".join(seen(80, partial(schedules_view.show_list, [each]), monkeypatch))

        assert ("weft worker" in text) == is_told
        assert ("2.0 h overdue" in text) == is_told
        assert ("overdue" in schedules_view.sentence(each)) == is_told


def test_an_alarm_names_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the list, too, it is clear of which schedule starts are skipped."""
    weft("sync")
    report = ScheduleReport.model_validate_json(json.dumps(told("list")[0]))
    last = occurrence_report(Occurrence("daily/1", "2026-03-30T12:30:00+02:00", 0.0, "skipped", 0.0, '{"code": "x"}'))
    each = report.model_copy(update={"skips": 4, "last": last})

    lines = seen(80, lambda: schedules_view.show_list([each]), monkeypatch)

    assert any(line.startswith("! daily/1 skipped 4 starts in a row") for line in lines)


def test_the_next_starts_of_an_unknown_number_are_refused() -> None:
    """An id that an armed workflow does not have is no name of a workflow."""
    weft("sync")

    assert 'no schedule "daily/9"' in weft("next", "daily/9", code=4)


def test_a_clock_that_was_set_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that was decided far into the future, by a wrong clock, says until when it starts nothing."""
    weft("sync")
    report = ScheduleReport.model_validate_json(json.dumps(told("list")[0]))
    each = report.model_copy(update={"watermark": datetime.now(UTC) + timedelta(days=400)})

    text = " ".join(" ".join(seen(80, lambda: schedules_view.show_list([each]), monkeypatch)).split())

    assert f"starts nothing before {each.watermark:%Y-%m-%d %H:%M} UTC" in text
    assert "another name" in text


def test_an_unknown_key_is_shown_as_it_is() -> None:
    """A row that stands for no instant of its own, as after a restore, has no clock to tell."""
    assert schedules_view.clock("restored 2026") == "restored 2026"
    assert schedules_view.clock("2026-03-30T02:30:00+02:00").startswith("Mon 30 Mar")
    assert Text(schedules_view.clock("2024-03-30T02:30:10+02:00")).plain == "Sat 30 Mar 2024 02:30:10"
    assert OccurrenceReport.model_fields["count"].default == 1
