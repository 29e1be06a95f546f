"""The command line: its displays, its problems, its manners."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from weft import errors
from weft.cli import closing, logs, problems
from weft.cli.exits import ExitCode, exit_code
from weft.cli.lines import PlainLines
from weft.cli.live import Frame
from weft.cli.state import State
from weft.cli.terminal import ASCII, UNICODE, clean, duration, share_of
from weft.cli.view import RunView, completion_facts
from weft.engine.events import (
    Asked,
    AttemptEnded,
    AttemptStarted,
    Emitted,
    Event,
    Logged,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
)
from weft.errors import Problem, Where
from weft.redaction import MASK, Redactor, Secret
from weft.types import Json

STEPS = (("/answer", "generate_chat_completion", "Generate Chat Completion"), ("/mail", "send_email", "Send Email"))
STARTED = RunStarted("0199-ab", "email-results", datetime(2026, 11, 23, tzinfo=UTC), STEPS)
COMPLETION = {
    "usage": {"prompt_tokens": 48, "completion_tokens": 54},
    "weft": {"cost": {"amount": 0.0021, "currency": "USD"}},
}
MAIL = {"message_id": "<a@b>", "accepted": ["me@example.com"], "refused": [], "server_reply": "250 OK kept as key-7"}
STORY: Sequence[Event] = (
    STARTED,
    StepStarted("/answer"),
    AttemptStarted("/answer", 1, "openai/smollm2"),
    AttemptStarted("/answer", 1, "openai/smollm2", "starting local-model"),
    AttemptEnded("/answer", 1, "openai/smollm2", 800, Problem("rate_limited", "Too many requests."), 12.0),
    AttemptStarted("/answer", 2, "openai/smollm2"),
    Emitted("/answer", 2, "Backups keep "),
    Emitted("/answer", 2, "your data."),
    AttemptEnded("/answer", 2, "openai/smollm2", 4200, None),
    StepEnded("/answer", "succeeded", 5000, COMPLETION, None),
    StepStarted("/mail"),
    AttemptStarted("/mail", 1, "default", "starting outbox"),
    StepEnded("/mail", "succeeded", 60, MAIL, None),
    RunEnded("0199-ab", "succeeded", 6100, {}, None),
)


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(clock: Clock) -> RunView:
    return RunView(clock=clock)


def told(view: RunView, events: Sequence[Event]) -> RunView:
    for event in events:
        view.apply(event)
    return view


def picture(
    view: RunView, width: int = 60, height: int | None = None, note: str = "", end: Sequence[str] = ()
) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    frame = Frame(view, "Ask and mail", UNICODE, console, width)
    return [line.plain.rstrip() for line in frame.lines(height, note=note, closing=end)]


# ---- the live display
def test_a_finished_run_shows_what_each_step_took_used_and_said(view: RunView) -> None:
    """The last picture has every step, its failed attempts, tokens, cost, text, and where the mail is."""
    told(view, STORY)

    assert picture(view, end=["2 steps succeeded in 6.1 s", "Mail kept in the outbox: weft outbox show 1"]) == [
        "Ask and mail                                     run 0199-ab",
        "",
        " ✓ Generate Chat Completion               succeeded    5.0 s",
        "   ✗ attempt 1 · openai/smollm2 · rate_limited · 0.8 s",
        "   openai/smollm2 · 48 + 54 tokens · 0.0021 USD",
        "   │ Backups keep your data.",
        " ✓ Send Email                             succeeded    0.1 s",
        "   to me@example.com",
        "",
        "2 steps succeeded in 6.1 s",
        "Mail kept in the outbox: weft outbox show 1",
    ]


def test_before_the_action_begins_the_step_says_what_it_waits_for(view: RunView, clock: Clock) -> None:
    """A step whose connection is being started says so."""
    told(view, STORY[:4])
    clock.now += 1.2

    lines = picture(view)

    assert lines[2].endswith("running    1.2 s")
    assert lines[3] == "   openai/smollm2 · starting local-model"
    assert lines[4].endswith("pending")


def test_a_download_shows_a_bar_with_megabytes_and_the_time_left(view: RunView, clock: Clock) -> None:
    """Weights being fetched are a bar under the step that waits for them; when they are there it is gone."""
    told(view, STORY[:4])
    view.progress("model weights", 0, 92_900_000)
    clock.now += 2
    view.progress("model weights", 42_100_000, 92_900_000)

    bar = picture(view, width=80)[3]
    assert bar.startswith("   fetching model weights ━━")
    assert bar.endswith(" 42.1/92.9 MB · 3 s left")
    assert all(len(line) <= 60 for line in picture(view, width=60))

    view.progress("model weights", 92_900_000, 92_900_000)
    assert "fetching" not in "".join(picture(view))


def test_a_wait_before_a_retry_is_counted_down(view: RunView, clock: Clock) -> None:
    """Between two attempts the step says how long it still waits."""
    told(view, STORY[:5])
    clock.now += 3

    lines = picture(view)
    assert " ◷ Generate Chat Completion" in lines[2]
    assert lines[4] == "   waiting 9 s for a retry"


def test_only_the_last_lines_of_a_growing_text_are_shown(view: RunView) -> None:
    """While text streams in, its end is shown; when the step has succeeded, its beginning."""
    told(view, [*STORY[:3], Emitted("/answer", 1, "\n".join(f"line {n}" for n in range(20)))])
    assert picture(view)[4:10] == [f"   │ line {n}" for n in range(14, 20)]

    view.apply(StepEnded("/answer", "succeeded", 1, None, None))
    assert picture(view)[4:10] == [*(f"   │ line {n}" for n in range(5)), "   │ … 15 more lines"]


def test_a_new_attempt_begins_its_text_from_nothing(view: RunView) -> None:
    """What a failed attempt had written is gone, and its late pieces are dropped."""
    told(view, [*STORY[:3], Emitted("/answer", 1, "wrong"), *STORY[4:7], Emitted("/answer", 1, "late")])

    assert view.step("/answer").tail == "Backups keep "


def test_text_that_comes_in_cannot_steer_the_terminal(view: RunView) -> None:
    """Escape sequences in streamed text, titles, notes and variants are made visible."""
    evil = "\x1b[2J\x1b]0;title\x07\u202e\x9b31m"
    view.apply(RunStarted("1", "w", STARTED.at, (("/a", "x", f"Title{evil}"),)))
    told(view, [StepStarted("/a"), AttemptStarted("/a", 1, f"v{evil}", f"n{evil}"), Logged("/a", evil)])
    before = picture(view, 100)
    view.apply(Emitted("/a", 1, f"text{evil}"))

    shown = "\n".join([*before, *picture(view, 100)])
    assert "␛[2J" in shown
    assert not set(shown) & set("\x1b\x07\u202e\x9b")


@given(
    st.integers(24, 120),
    st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=4),
    st.text(max_size=400),
    st.floats(0, 1e6),
)
def test_no_line_is_wider_than_the_terminal(width: int, titles: list[str], text: str, late: float) -> None:
    """Whatever titles and texts say, every line fits: wide characters, long words, no spaces."""
    clock = Clock()
    view = RunView(clock=clock)
    view.apply(RunStarted("r" * 30, "w", STARTED.at, tuple((f"/s{n}", "x", each) for n, each in enumerate(titles))))
    told(view, [StepStarted("/s0"), AttemptStarted("/s0", 1, "m" * 70), Emitted("/s0", 1, text)])
    view.progress("weights", 1, 3)
    clock.now += late
    console = Console(file=io.StringIO(), width=width)

    for line in Frame(view, titles[0], UNICODE, console, width).lines(None, note="", closing=()):
        assert line.cell_len <= width


def test_a_run_with_many_steps_shows_those_at_work(view: RunView) -> None:
    """What does not fit the height is counted above and below; the last picture has everything."""
    steps = tuple((f"/s{n}", "x", f"Step {n}") for n in range(50))
    view.apply(RunStarted("1", "w", STARTED.at, steps))
    for n in range(30):
        told(view, [StepStarted(f"/s{n}"), StepEnded(f"/s{n}", "succeeded", 10, None, None)])
    view.apply(StepStarted("/s30"))

    lines = picture(view, height=12)
    assert len(lines) <= 12
    assert any("Step 30" in line and "running" in line for line in lines)
    assert lines[2] == " … 30 more above"
    assert lines[-2].startswith(" … ")
    assert lines[-2].endswith(" more below")
    assert len(picture(view)) == 52


def test_turns_of_a_loop_and_members_of_a_group_stand_under_their_step(clock: Clock) -> None:
    """Rows that the start of the run did not announce are placed and named by the plan."""
    view = RunView({"each/mail": ("send_email", "Send Email")}, clock)
    view.apply(RunStarted("1", "w", STARTED.at, (("/each", "group", "Each"), ("/last", "x", "Last"))))
    for path in ("/each", "/each[0]", "/each[0]/mail", "/each[1]", "/each[1]/mail", "/@finally/tidy"):
        view.apply(StepStarted(path))

    assert [(step.path, step.title, step.depth) for step in view.steps] == [
        ("/each", "Each", 0),
        ("/each[0]", "each [0]", 0),
        ("/each[0]/mail", "Send Email", 1),
        ("/each[1]", "each [1]", 0),
        ("/each[1]/mail", "Send Email", 1),
        ("/last", "Last", 0),
        ("/@finally/tidy", "tidy", 1),
    ]


def test_ten_thousand_items_are_placed_in_a_time_that_grows_with_their_number() -> None:
    """A row is placed, and leaves are counted, without a look at all the others."""

    def cpu_s(count: int) -> float:
        view = RunView()
        view.apply(RunStarted("1", "w", STARTED.at, (("/each", "group", "Each"), ("/last", "x", "Last"))))
        began = time.process_time()
        for n in range(count):
            view.apply(StepStarted(f"/each[{n}]/mail"))
        assert closing.summary(view).startswith(f"{count} steps running, 1 not started")
        assert [step.path for step in view.steps[-2:]] == [f"/each[{count - 1}]/mail", "/last"]
        return time.process_time() - began

    few, many = min(cpu_s(2_000) for _ in range(3)), min(cpu_s(10_000) for _ in range(2))
    assert many < 2
    assert many / few < 8


def test_a_window_of_many_rows_draws_few(clock: Clock) -> None:
    """What does not fit the terminal is counted, not drawn."""
    view = RunView({}, clock)
    view.apply(RunStarted("1", "w", STARTED.at, (("/each", "group", "Each"),)))
    for n in range(1_000):
        view.apply(StepEnded(f"/each[{n}]", "succeeded", 1, None, None))
    view.apply(StepStarted("/each[1000]"))
    drawn: list[str] = []
    frame = Frame(view, "t", UNICODE, Console(file=io.StringIO(), width=60), 60)
    block = frame._block
    frame._block = lambda step: drawn.append(step.path) or block(step)  # type: ignore[method-assign, func-returns-value]

    lines = [line.plain for line in frame.lines(24, note="", closing=[])]
    assert any("each [1000]" in line for line in lines)
    assert len(lines) <= 24
    assert len(drawn) < 60


def test_rows_of_one_title_are_told_apart(clock: Clock) -> None:
    """Where there is room, equal titles have their ids beside them, and rows of a loop their turn."""
    view = RunView({"each/mail": ("send_email", "Send Email")}, clock)
    view.apply(
        RunStarted(
            "1",
            "w",
            STARTED.at,
            (("/a", "x", "Fetch"), ("/b", "x", "Fetch"), ("/c", "x", "Other"), ("/each", "group", "Each")),
        )
    )
    for n in range(2):
        view.apply(StepStarted(f"/each[{n}]/mail"))

    rows = [re.sub("  +", "|", line.strip()) for line in picture(view)[2:]]
    assert [row.split("|")[:2] for row in rows[:3]] == [["○ Fetch", "a"], ["○ Fetch", "b"], ["○ Other", "pending"]]
    assert [row.split("|")[1] for row in rows[4:6]] == ["[0] mail", "[1] mail"]
    assert not any("[0]" in line for line in picture(view, 30))


ASKED = Asked("/ok", "Send\x1b it?", ("ada", "bob"), STARTED.at, None)


@pytest.mark.parametrize("width", [30, 60, 120])
def test_a_question_is_shown_with_the_command_that_answers_it(clock: Clock, width: int) -> None:
    """The step waits, what it asks stands below it, and no part of the command is cut; answered, both are gone."""
    view = RunView({}, clock)
    view.apply(RunStarted("0199-ab", "w", STARTED.at, (("/ok", "approval", "Ok"),)))
    told(view, [StepStarted("/ok"), ASKED])

    lines = picture(view, width, 24)
    shown = " ".join(" ".join(lines).split())
    assert "waiting" in lines[2]
    assert "Send␛ it?" in shown
    assert "Answer as ada or bob: weft runs answer 0199-ab ok approve --by NAME (or reject)" in shown
    assert all(cell_len(line) <= width for line in lines)
    assert closing.summary(view).startswith("1 step waiting")

    view.apply(StepEnded("/ok", "succeeded", 1, None, None))
    assert "weft runs answer" not in " ".join(picture(view, width))


def test_plain_lines_tell_a_question_and_how_to_answer_it() -> None:
    """Without a terminal it is one line."""
    stream = io.StringIO()
    display = PlainLines(stream, "t")
    display(STARTED)
    display(ASKED)
    display(Asked("/each[0]", "Well?", (), STARTED.at, None))

    assert stream.getvalue().splitlines()[1:] == [
        "step /ok waits for an answer: Send␛ it? Answer as ada or bob: weft runs answer 0199-ab ok approve --by NAME (or reject)",
        "step /each[0] waits for an answer: Well? Answer: weft runs answer 0199-ab 'each[0]' approve (or reject)",
    ]


def test_a_terminal_without_unicode_gets_marks_of_ascii(view: RunView) -> None:
    """Marks, bars and dots are ASCII where the encoding has nothing else."""
    told(view, STORY)
    frame = Frame(view, "Ask", ASCII, Console(file=io.StringIO(), width=60), 60)

    assert all(line.plain.isascii() for line in frame.lines(None, note="", closing=["a", "b"]))


# ---- plain lines
def test_plain_lines_tell_each_event_of_interest_once() -> None:
    """Without a terminal, a run is lines that can be searched."""
    stream = io.StringIO()
    display = PlainLines(stream, "Ask and mail")
    for event in STORY:
        display(event)
    display.finish(["2 steps succeeded in 6.1 s", "Mail kept in the outbox: weft outbox show 1"])

    assert stream.getvalue().splitlines() == [
        "run 0199-ab started: Ask and mail",
        "step /answer started: generate_chat_completion",
        "step /answer attempt 1 of openai/smollm2 started",
        "step /answer attempt 1 of openai/smollm2: starting local-model",
        "step /answer attempt 1 of openai/smollm2 failed: rate_limited: Too many requests.; again in 12.0 s",
        "step /answer attempt 2 of openai/smollm2 started",
        "step /answer succeeded in 5.0 s: 48 + 54 tokens, 0.0021 USD",
        "step /mail started: send_email",
        "step /mail attempt 1: starting outbox",
        "step /mail succeeded in 0.1 s: to me@example.com",
        "run 0199-ab succeeded in 6.1 s",
        "2 steps succeeded in 6.1 s",
        "Mail kept in the outbox: weft outbox show 1",
    ]


def test_plain_lines_hold_no_control_characters() -> None:
    """One event is one line, whatever it says."""
    stream = io.StringIO()
    display = PlainLines(stream, "T\n\x1b[31mitle")
    display(STARTED)
    display(Logged("/answer", "one\ntwo\x1b[0m\r\x00"))

    assert stream.getvalue() == "run 0199-ab started: T ␛[31mitle\nstep /answer says: one two␛[0m␍␀\n"


def test_plain_lines_tell_a_download_twice() -> None:
    """A download is told when it begins and when all is there, not for each piece."""
    stream = io.StringIO()
    display = PlainLines(stream, "t")
    for done in (0, 10, 50_000_000, 92_900_000):
        display.progress("model weights", done, 92_900_000)

    assert stream.getvalue().splitlines() == ["fetching model weights: 92.9 MB", "fetched model weights in 0.0 s"]


# ---- the end
@pytest.mark.parametrize(
    ("states", "state", "said"),
    [
        (["succeeded", "succeeded"], "succeeded", "2 steps succeeded in 1.5 s"),
        (["succeeded"], "succeeded", "1 step succeeded in 1.5 s"),
        (["succeeded", "skipped"], "succeeded", "1 step succeeded, 1 skipped in 1.5 s"),
        (["failed", "pending"], "failed", "1 step failed, 1 not started in 1.5 s"),
        (["succeeded", "cancelled"], "cancelled", "Cancelled after 1.5 s: 1 step succeeded, 1 cancelled"),
        (["pending"], "failed", "Failed after 1.5 s: 1 step not started"),
    ],
)
def test_the_last_line_counts_steps(view: RunView, states: list[str], state: str, said: str) -> None:
    """How many steps ended how, and how long it all took."""
    view.apply(RunStarted("1", "w", STARTED.at, tuple((f"/s{n}", "x", "t") for n in range(len(states)))))
    for n, each in enumerate(states):
        if each != "pending":
            view.apply(StepEnded(f"/s{n}", each, 10, None, None))  # type: ignore[arg-type]
    view.apply(RunEnded("1", state, 1500, None, None))  # type: ignore[arg-type]

    assert closing.summary(view) == said


def test_the_last_line_counts_turns_and_who_was_told_of_a_question(view: RunView) -> None:
    """A turn has ended with its last attempt, or with its step at the latest; a question counts beside those told of it."""
    view.apply(RunStarted("1", "w", STARTED.at, tuple((f"/{name}", "x", name) for name in ("ok", "all", "rest"))))
    told(view, [StepStarted("/ok"), Asked("/ok", "Really?", ("ann", "bo"), STARTED.at, None)])
    told(
        view,
        [StepStarted("/ok/@notify/tell"), *(AttemptStarted(f"/ok/@notify/tell[{n}]", 1, "default") for n in (0, 1))],
    )
    told(view, [AttemptEnded(f"/ok/@notify/tell[{n}]", 1, "default", 10, None) for n in (0, 1)])
    told(view, [StepEnded("/ok/@notify/tell", "succeeded", 10, None, None), StepStarted("/all")])
    assert closing.summary(view).startswith("2 steps succeeded, 1 waiting, 1 running, 1 not started")

    fault = Problem("failed", "no")
    told(view, [AttemptStarted(f"/all[{n}]", 1, "default") for n in range(4)])
    told(
        view, [AttemptEnded("/all[0]", 1, "default", 10, fault), AttemptEnded("/all[1]", 1, "default", 10, fault, 5.0)]
    )
    told(view, [AttemptEnded("/all[2]", 1, "default", 10, fault), AttemptStarted("/all[2]", 2, "other")])
    assert [step.state for step in view.steps if step.path.startswith("/all[")] == [
        "failed",
        "waiting",
        "running",
        "running",
    ]
    told(view, [AttemptEnded("/all[3]", 1, "default", 10, fault, cancelled=True)])
    told(view, [StepEnded("/all", "cancelled", 10, None, None), StepEnded("/ok", "cancelled", 10, None, None)])
    view.apply(RunEnded("1", "cancelled", 1500, None, None))

    assert closing.summary(view) == "Cancelled after 1.5 s: 2 steps succeeded, 1 failed, 4 cancelled, 1 not started"


@pytest.mark.parametrize(
    ("connections", "output", "said"),
    [
        ({"mail": "outbox"}, MAIL, "Mail kept in the outbox: weft outbox show 7"),
        ({"mail": "outbox"}, {**MAIL, "server_reply": "250"}, "Mail kept in the outbox: weft outbox show"),
        ({"mail": "team"}, MAIL, "Mail sent to me@example.com through team"),
        (
            {"mail": "team"},
            {**MAIL, "accepted": list("abcd"), "refused": [{"address": "e", "code": 550, "message": "no"}]},
            "Mail sent to a, b, c and 1 more, refused e through team",
        ),
    ],
)
def test_the_last_line_says_where_the_mail_is(
    view: RunView, connections: dict[str, str | None], output: Json, said: str
) -> None:
    """In the outbox under its number, or with the people that a connection of the user's brought it to."""
    told(view, [STARTED, StepEnded("/mail", "succeeded", 10, output, None)])

    def number_of(reply: str) -> int | None:
        return 7 if "key-7" in reply else None

    assert list(closing.mails(view, connections, number_of, "weft outbox")) == [said]


def test_the_last_lines_say_what_the_run_returned(view: RunView) -> None:
    """Outputs are told in one line each, but for what the steps show already."""
    completion = {"choices": [{"message": {"content": "An answer."}}]}
    told(view, [STARTED, StepEnded("/answer", "succeeded", 1, completion, None)])
    told(view, [StepEnded("/mail", "succeeded", 1, MAIL, None)])
    outputs: Json = {"answer": "An answer.", "id": "<a@b>", "count": 3, "list": ["ü\x1b", None], "long": "x" * 300}
    view.apply(RunEnded("1", "succeeded", 2, outputs, None))

    lines = list(closing.outputs(view))
    assert lines[:2] == ["output count: 3", 'output list: ["ü\\u001b", null]']
    assert lines[2] == "output long: " + "x" * 199 + "…"
    assert len(lines) == 3


def test_mail_of_the_run_before_is_not_counted(view: RunView) -> None:
    """What a replay inherits was sent by the run that it repeats."""
    told(view, [STARTED, StepEnded("/mail", "succeeded", 10, MAIL, None)])
    view.step("/mail").inherited = True

    assert list(closing.mails(view, {"mail": "outbox"}, lambda reply: 7, "weft outbox")) == []


def test_several_kept_mails_are_counted(view: RunView) -> None:
    """With more than one mail in the outbox, the list is named."""
    told(view, [STARTED, *(StepEnded(f"/mail[{n}]", "succeeded", 10, MAIL, None) for n in range(3))])

    said = closing.mails(view, {"mail": "outbox"}, lambda reply: 7, "weft outbox --home h")
    assert list(said) == ["3 mails kept in the outbox: weft outbox --home h list"]


@pytest.mark.parametrize(
    ("output", "facts"),
    [
        (COMPLETION, ["48 + 54 tokens", "0.0021 USD"]),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 2}, "weft": {"cost": "unknown"}}, ["1 + 2 tokens"]),
        ({"weft": {"cost": {"amount": 0, "currency": "USD"}}}, ["no cost"]),
        ({"weft": {"cost": {"amount": 1.5, "currency": "EUR"}}}, ["1.50 EUR"]),
        ({"usage": None, "weft": [1]}, []),
        ("text", []),
        (None, []),
    ],
)
def test_what_a_completion_used_is_told_when_it_is_known(output: object, facts: list[str]) -> None:
    """Tokens and cost are read from any output without trusting its shape."""
    assert list(completion_facts(output)) == facts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (65, "1 min 05 s"), (7800, "2 h 10 min")],
)
def test_lengths_of_time_are_told_to_people(seconds: float, said: str) -> None:
    """Tenths below a minute, then minutes and seconds, then hours and minutes."""
    assert duration(seconds) == said


def test_a_share_names_the_unit_once() -> None:
    """Both numbers are told in full when their units differ."""
    assert share_of(42_100_000, 92_900_000) == "42.1/92.9 MB"
    assert share_of(900_000, 92_900_000) == "900 kB/92.9 MB"


# ---- problems
def rendered(problem: Problem, redactor: Redactor | None = None, width: int = 80) -> list[str]:
    text = problems.render(problem, redactor or Redactor(), width, {"connections.yaml"})
    return text.plain.split("\n")


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = Path("flow.yaml")
    file.write_text("name: x\nsteps:\n  - with:\n\t\ttemprature: 0.2\n  - 日本: 'a b', c\n", encoding="utf-8")
    return file


def test_a_problem_is_told_as_a_compiler_does(document: Path) -> None:
    """What, where, the line itself with the word underlined, the step and field, and what to do."""
    where = Where(str(document), 4, 3, "answer", "with.temprature")

    assert rendered(
        Problem("unknown_parameter", "There is no 'temprature'.", "Did you mean 'temperature'?", where)
    ) == [
        "error[unknown_parameter]: There is no 'temprature'.",
        " --> flow.yaml:4:3",
        "  |",
        "4 |   temprature: 0.2",
        "  |   ^^^^^^^^^^",
        "  = step answer, with.temprature",
        "  = help: Did you mean 'temperature'?",
    ]


def test_carets_stand_under_wide_characters(document: Path) -> None:
    """A column counts characters, a caret stands below cells."""
    lines = rendered(Problem("x", "m", where=Where(str(document), 5, 9), severity="warning"))

    assert lines[0] == "warning[x]: m"
    assert lines[3:] == ["5 |   - 日本: 'a b', c", "  |           ^^^^^"]


def test_a_long_line_is_cut_around_the_place(document: Path) -> None:
    """The underlined word stays visible however long the line is."""
    document.write_text("x" * 500 + " needle " + "y" * 500, encoding="utf-8")

    lines = rendered(Problem("x", "m", where=Where(str(document), 1, 502)), width=60)
    assert all(len(line) <= 60 for line in lines[3:])
    at = lines[4].index("^")
    assert lines[3][at : at + lines[4].count("^")] == "needle"


@pytest.mark.parametrize("where", [Where(), Where("gone.yaml", 3, 1), Where("flow.yaml", 99, 1), Where("flow.yaml")])
def test_a_place_that_cannot_be_quoted_is_just_named(document: Path, where: Where) -> None:
    """A file that is gone, a line beyond its end or no line at all: the place alone is told."""
    lines = rendered(Problem("x", "m", where=where))

    assert not any("|" in line for line in lines)
    assert (f" --> {where}" in [line.replace("  -->", " -->") for line in lines]) == bool(where.file)


def test_problems_show_no_secret_and_no_escape(document: Path) -> None:
    """Known secrets and what looks like a credential are masked, in the quoted line too."""
    secret, credential = "correct horse battery", "sk-" + "a1" * 20
    document.write_text(f"key: {credential}\nother: {secret}\n", encoding="utf-8")
    redactor = Redactor([Secret(secret)])

    for line in (1, 2):
        where = Where(str(document), line, 6)
        shown = "\n".join(rendered(Problem("x", f"got {secret}\x1b[0m", credential, where), redactor))
        assert secret not in shown
        assert credential not in shown
        assert "\x1b" not in shown
        assert shown.count(MASK) == 3


def test_a_line_of_a_connections_file_is_never_quoted(document: Path) -> None:
    """Secrets may stand in it, and those of a broken file are not known yet."""
    file = document.rename("connections.yaml")

    assert not any("|" in line for line in rendered(Problem("x", "m", where=Where(str(file), 1, 1))))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInputs, 2),
        (errors.InvalidSource, 3),
        (errors.InvalidWorkflow, 3),
        (errors.InvalidConnections, 3),
        (errors.PackError, 3),
        (errors.NotFound, 4),
        (errors.ConnectionUnusable, 4),
        (errors.RunCancelled, 130),
        (errors.StepTimeout, 1),
        (errors.JournalRefused, 1),
    ],
)
def test_each_error_has_its_exit_code(error: type[errors.WeftError], code: int) -> None:
    """The exit code follows from the class of the error."""
    assert exit_code(error("m")) == code


def test_the_log_holds_tracebacks_without_secrets(tmp_path: Path) -> None:
    """A fault's traceback is in a file that only the user reads, with secrets masked."""
    state = State(redactor=Redactor([Secret("correct horse")]), home=tmp_path / "home")
    logs.keep(ValueError("correct horse"), state)
    file = logs.keep(ValueError("sk-" + "b2" * 20), state)

    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("ValueError")] == [f"ValueError: {MASK}"] * 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_log_that_cannot_be_written_is_done_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it lands on the terminal instead."""
    (tmp_path / "home").write_text("")
    logs.keep(ValueError("x"), State(home=tmp_path / "home"))

    assert capsys.readouterr() == ("", "")


def test_control_characters_become_visible() -> None:
    """Everything that steers a terminal or turns the writing direction is replaced, ordinary text is not."""
    assert clean("a\x1b[1m\x7f\x00\r\nb\tü日🙂") == "a␛[1m␡␀\nb\tü日🙂"
    assert set(clean("".join(map(chr, range(0x80, 0xA0))) + "\u202e\u2066\u2028\ud800")) == {"\ufffd"}


def test_the_picture_in_the_documentation_is_of_a_run_and_names_no_machine() -> None:
    """It shows the main job, and holds no path of the machine on which it was made, nor loads anything."""
    svg = (Path(__file__).parent.parent / "docs" / "images" / "run.svg").read_text(encoding="utf-8")

    shown = svg.replace("&#160;", " ")
    assert "weft run email-results" in shown
    assert "Mail kept in the outbox" in shown
    assert not re.search(r"/(home|root|tmp|Users|work)\b|@import|url\(['\"]?http|href", shown)


# ---- start and manners
def weft(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weft", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


HEAVY = ("litellm", "jsonschema", "rich", "aiohttp", "pydantic", "yaml", "asyncio", "jinja2")


def test_help_imports_nothing_heavy() -> None:
    """`weft --help` loads neither a command nor what commands need."""
    probe = (
        "import sys\nfrom weft.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in sys.argv[1:]], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe, *HEAVY], capture_output=True, text=True, check=True)

    assert "weft run email-results" in done.stdout
    assert done.stderr.strip() == "[]"


def cpu(*arguments: str) -> float:
    """CPU seconds of the cheapest of several processes."""

    def once() -> float:
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    return min(once() for _ in range(5))


def test_help_costs_little_more_than_its_parser() -> None:
    """`weft --help` costs at most twice what importing its command line parser costs."""
    assert cpu("-m", "weft", "--help") < 2 * cpu("-c", "import click")


def test_every_command_has_a_help_of_its_own() -> None:
    """The table of commands and the modules agree."""
    from weft.cli.app import COMMANDS
    from weft.cli.app import weft as group

    for name in COMMANDS:
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name
        assert command.help


def test_an_unknown_command_is_a_usage_error() -> None:
    """It exits 2 and says what to do on standard error."""
    done = weft("rnu")

    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert "There is no command 'rnu'. Did you mean 'run'?" in done.stderr
