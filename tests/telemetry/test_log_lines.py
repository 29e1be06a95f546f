"""With WEFT_LOG=json the log is lines of JSON with names that stay; the page, the table and the code agree on them."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from weft.cli.worker import TEXTS
from weft.redaction import Redactor, Secret
from weft.telemetry.events import EVENTS
from weft.telemetry.identity import trace_name
from weft.telemetry.lines import JsonLines

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
SAID = {"action_log", "log"} | {name for name, event in EVENTS.items() if "workflow" in event.facts} | {"fault"}
"""Names that come from elsewhere than a call of a logger with a text that begins with them."""
AS_VALUES = {"action_crashed", "connection_failed"}


def line(
    msg: str, *args: object, name: str = "weft.engine", level: int = logging.WARNING, **extra: object
) -> dict[str, object]:
    """Return what a record becomes."""
    redactor = Redactor()
    redactor.add(Secret("hush-hush-hush"))
    record = logging.LogRecord(name, level, __file__, 1, msg, args, None)
    for key, value in extra.items():
        setattr(record, key, value)
    text = JsonLines(lambda: redactor).format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_record_becomes_facts_by_name() -> None:
    """The run's id gives the trace's."""
    told = line("run_lost %s %s", "r1", "another_owner")
    assert (told["event"], told["run_id"], told["code"], told["level"]) == (
        "run_lost",
        "r1",
        "another_owner",
        "warning",
    )
    assert told["trace_id"] == trace_name("r1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(told["at"]))


def test_what_has_no_name_is_told_as_text() -> None:
    """Libraries do not know our names, even where their text begins with one."""
    assert line("run_lost by %s", "me", name="somelib")["event"] == "log"
    assert line("plain words %s", 1, name="somelib")["message"] == "plain words 1"
    assert line("it is done", name="weft.action", run_id="r1", path="/a")["event"] == "action_log"
    told = line("%s\n%s", "action_crashed fail", "Traceback\n  x", name="weft.executor", run_id="r1")
    assert (told["event"], told["run_id"], told["message"]) == ("action_crashed", "r1", "fail\nTraceback\n  x")


def test_whatever_is_told_the_line_is_json() -> None:
    """No number that JSON has no word for, no half of a character; a text that does not fit its values is told as it is."""
    told = line("run_ended", facts={"ms": float("nan"), "message": "half \ud800 of one\u2028\x00"})
    assert (told["ms"], told["message"]) == ("nan", "half ? of one\u2028\x00")
    assert line("run_lost %s %s", "one", float("inf"))["code"] == "inf"
    assert line("%d bottles", "many", name="library")["message"] == "%d bottles ('many',)"


def test_secrets_are_masked_in_every_field() -> None:
    """In values, in messages and in tracebacks; nor does a line break out of its line."""
    told = json.dumps(line("run_lost %s %s", "hush-hush-hush", "x\ny"))
    assert "hush" not in told
    try:
        int("hush-hush-hush")
    except ValueError:
        record = logging.LogRecord("weft.x", logging.ERROR, __file__, 1, "fault", (), sys.exc_info())
    redactor = Redactor()
    redactor.add(Secret("hush-hush-hush"))
    text = JsonLines(lambda: redactor).format(record)
    assert "hush" not in text
    assert json.loads(text)["exception"] == "ValueError"


def calls() -> Iterator[tuple[str, str, int]]:
    """Yield place, text and number of values of each call of a logger in the code."""
    for file in sorted((ROOT / "weft").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=target, attr=level), args=[ast.Constant(value=str(text)), *values]
                ):
                    is_logger = ast.unparse(target) == "_LOG" or "getLogger" in ast.unparse(target)
                    if is_logger and level in LEVELS:
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", text, len(values)


@pytest.mark.parametrize(("place", "text", "count"), list(calls()), ids=lambda value: str(value)[:60])
def test_each_name_in_the_code_is_in_the_table(place: str, text: str, count: int) -> None:
    """A call of a logger begins with a name that the table knows, and has as many values as it names facts."""
    if text.startswith("%s"):
        assert place.startswith("weft/executor.py:"), "its name comes as a value, which only the executor's may"
        return
    name = text.split(maxsplit=1)[0].rstrip(":")
    assert name in EVENTS, f"{place}: {name} is not in weft/telemetry/events.py"
    assert count <= len(EVENTS[name].facts), f"{place}: {name} has {count} values"


def test_each_name_in_the_table_is_in_the_code() -> None:
    """The table promises nothing that is never said."""
    names = {text.split()[0].rstrip(":") for _, text, _ in calls()}
    assert set(EVENTS) - names - SAID - AS_VALUES == set()
    executor = (ROOT / "weft" / "executor.py").read_text(encoding="utf-8")
    assert all(f'"{name} ' in executor for name in AS_VALUES)


def rows_of(title: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading of the page, by their first cell."""
    tokens = MarkdownIt().enable("table").parse((ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8"))
    start = next(i for i, token in enumerate(tokens) if token.type == "heading_open" and tokens[i + 1].content == title)
    found: dict[str, list[str]] = {}
    row: list[str] = []
    for token in tokens[start + 2 :]:
        if token.type == "heading_open":
            break
        if token.type == "tr_open":
            row = []
        elif token.type == "inline" and token.level > 3:
            row.append(token.content)
        elif token.type == "tr_close" and row:
            found[row[0].strip("`")] = row[1:]
    return {name: cells for name, cells in found.items() if name not in {"event", "metric"}}


def test_the_page_shows_the_table() -> None:
    """Every name, with its facts and what it means."""
    expected = {name: [event.meaning, ", ".join(f"`{fact}`" for fact in event.facts)] for name, event in EVENTS.items()}
    assert rows_of("Events of the log") == expected


def test_the_page_shows_what_a_worker_says() -> None:
    """What `weft worker --json` writes on its standard output has names as well."""
    assert set(rows_of("Events of a worker")) == set(TEXTS)


def test_a_run_writes_lines_on_standard_error(tmp_path: Path) -> None:
    """Each of them is an object, and together they tell the run from its start to its end."""
    (tmp_path / "flow.yaml").write_text(
        "name: flow\nsteps:\n  - {id: say, uses: log, with: {message: hello}}\n  - {id: no, uses: fail, with: {message: no}}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "weft", "run", "flow.yaml", "--json"],
        cwd=tmp_path,
        env={**os.environ, "WEFT_LOG": "json", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    run_id = json.loads(done.stdout)["run_id"]
    lines = [json.loads(text) for text in done.stderr.splitlines() if text.startswith("{")]
    assert [each["event"] for each in lines if each.get("run_id") == run_id] == [
        "run_started",
        "action_log",
        "attempt_ended",
        "step_ended",
        "attempt_ended",
        "step_ended",
        "run_ended",
    ]
    assert {each["trace_id"] for each in lines if each.get("run_id") == run_id} == {trace_name(run_id)}
    assert lines[-1]["state"] == "failed"
    assert not (tmp_path / "weft-home" / "logs").exists()
