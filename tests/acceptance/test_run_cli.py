"""The real command line in processes and terminals of its own."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import jsonschema
import platformdirs
import pytest

from weft.embedded import weights
from weft.embedded.outbox import Outbox
from weft.engine.report import RunReport

ROOT = Path(__file__).parent.parent.parent
ANSWER = "Backups keep your data safe when a disk fails."
ACTION = """
import asyncio
import time
from weft.sdk import ActionContext, ActionError, Json, Variant

def attempts(arguments):
    return [Variant("acme/small", 2)]

async def say(context: ActionContext, text: str, delay: float = 0.0, failures: int = 0, stubborn: bool = False) -> Json:
    if len(context.previous) < failures:
        raise ActionError("Too busy.", kind="rate_limited", retryable=True, retry_after_s=0.1, effect="none", remedy="Wait.")
    for word in text.split(" "):
        context.emit(word + " ")
        if stubborn:
            time.sleep(60)
        await asyncio.sleep(delay)
    return {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 9, "completion_tokens": 8}}
"""
MANIFEST = """
id: say
title: Say Something
purpose: Says a text, word by word.
category: Tests
icon: chat
version: 1
effects: none
retry: safe
parameters:
  basic:
    - {name: text, title: Text, description: What is said., type: string, required: true, widget: multiline, example: Hello}
    - {name: delay, title: Delay, description: Seconds., type: number, default: 0.0, widget: number, example: 0.1}
    - {name: failures, title: Failures, description: How many., type: integer, default: 0, widget: number, example: 1}
    - {name: stubborn, title: Stubborn, description: Goes on., type: boolean, default: false, widget: switch, example: true}
output: {schema: {type: object}, example: {}}
"""
WORKFLOW = """
name: say-and-mail
title: Say something and mail it
inputs:
  text: {type: string, default: ANSWER}
  delay: {type: number, default: 0.0}
  failures: {type: integer, default: 0}
  stubborn: {type: boolean, default: false}
steps:
  - id: answer
    uses: say
    with:
      text: "{{ inputs.text }}"
      delay: "{{ inputs.delay }}"
      failures: "{{ inputs.failures }}"
      stubborn: "{{ inputs.stubborn }}"
  - id: mail
    uses: send_email
    connection: outbox
    with:
      to: me@example.com
      subject: What was said
      body: "{{ steps.answer.output.choices[0].message.content }}"
outputs:
  answer: "{{ steps.answer.output.choices[0].message.content }}"
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a pack of one action and a workflow that uses it."""
    files = {
        "pack/actions/__init__.py": "",
        "pack/actions/say.py": ACTION,
        "pack/manifests/say.yaml": MANIFEST,
        "workflows/say-and-mail.yaml": WORKFLOW.replace("ANSWER", ANSWER),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("TERM", "xterm-256color")
    return tmp_path


def weft(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weft", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        input=given,
    )


def run(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return weft("run", "say-and-mail", "--pack", "pack", *arguments, given=given)


def with_inputs(**inputs: object) -> list[str]:
    return [part for name, value in inputs.items() for part in ("--input", f"{name}={json.dumps(value)}")]


SLOW = with_inputs(delay=0.2, text="word " * 60)


class Terminal:
    """A pseudo-terminal in which one command runs, in a session of its own."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "weft", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(os.environ),  # without what libraries put behind Python's back: readline sets COLUMNS
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here; Ctrl-C is a signal only so
        )
        os.close(theirs)
        self.written = ""

    def read_until(self, text: str, seconds: float = 60) -> None:
        """Wait until `text` has been written since the start."""
        end = time.monotonic() + seconds
        while text not in self.written and self._read(end):
            pass
        assert text in self.written

    def send(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self, seconds: float = 60) -> int:
        """Read to the end and return the exit code."""
        end = time.monotonic() + seconds
        while self._read(end):
            pass
        os.close(self._ours)
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            self.process.kill()
            raise TimeoutError(f"nothing more came after {self.written[-500:]!r}")
        try:
            piece = os.read(self._ours, 65_536)
        except OSError:  # how Linux says that the last writer has gone
            return False
        self.written += piece.decode()
        return bool(piece)

    def close(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def nothing_is_left(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


Open: TypeAlias = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Opens terminals, and closes them after the test."""
    opened: list[Terminal] = []

    def open_(*arguments: str, columns: int = 80) -> Terminal:
        opened.append(Terminal(*arguments, columns=columns))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    """The script that makes the picture for the documentation; it knows what a terminal shows in the end."""
    spec = importlib.util.spec_from_file_location("make_run_picture", ROOT / "docs" / "images" / "make_run_picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shown(picture: ModuleType) -> Callable[[Terminal], list[str]]:
    return lambda terminal: [line.plain.rstrip() for line in picture.screen(terminal.written)]


# ---- the main job
@pytest.fixture
async def local_weights(workspace: Path) -> None:
    """Weights of the local model, fetched once per machine, lie in the test's home."""
    cache = Path(os.environ.get("WEFT_TEST_MODELS") or platformdirs.user_cache_path("weft-tests"))
    models = Path(os.environ["WEFT_HOME"]) / "models"
    models.mkdir(parents=True)
    models.joinpath(weights.SMOLLM2.file_name).symlink_to(await weights.ensure(cache))


def test_the_main_job_ends_with_a_mail_that_the_local_model_wrote(local_weights: None) -> None:
    """With nothing but this machine, the example workflow asks a model and its answer is in the outbox."""
    done = weft("run", "email-results", "--json", "--input", "question=Name three colours.")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, RunReport.model_json_schema(mode="serialization"))
    answer = report["steps"][0]["output"]
    assert answer["usage"]["completion_tokens"] > 3
    mail = json.loads(weft("outbox", "show", "--json").stdout)
    assert mail["text"].strip() == answer["choices"][0]["message"]["content"].strip()
    assert re.search(r"^step /answer succeeded in .*: \d+ \+ \d+ tokens", done.stderr, re.MULTILINE)
    assert done.stderr.endswith("Mail kept in the outbox: weft outbox show 1\n")


def test_ctrl_c_stops_the_local_model_in_the_middle_of_its_answer(local_weights: None, terminal: Open) -> None:
    """While the model writes, Ctrl-C ends the run; no process of it is left."""
    screen = terminal("run", "email-results", "--input", "question=Tell a very long story.")
    screen.read_until("~")  # as in `~12 tokens`; which numbers are drawn depends on the machine
    screen.send("\x03")

    assert screen.end() == 130
    assert "Cancelled after" in screen.written
    assert "Traceback" not in screen.written
    assert screen.nothing_is_left()


# ---- runs without a terminal
def test_a_run_in_a_pipe_is_plain_lines(workspace: Path) -> None:
    """Each event is a line; the last says where the mail is, and there it is."""
    done = run(*with_inputs(failures=1))

    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"run \S+", "run ID", re.sub(r"\d+\.\d s", "N s", line)) for line in done.stdout.splitlines()]
    assert lines == [
        "run ID started: Say something and mail it",
        "step /answer started: say",
        "step /answer attempt 1 of acme/small started",
        "step /answer attempt 1 of acme/small failed: rate_limited: Too busy.; again in N s",
        "step /answer attempt 2 of acme/small started",
        "step /answer succeeded in N s: 9 + 8 tokens",
        "step /mail started: send_email",
        *(line for line in lines if line.startswith(("step /mail attempt", "step /mail says"))),
        "step /mail succeeded in N s: to me@example.com",
        "run ID succeeded in N s",
        "2 steps succeeded in N s",
        "Mail kept in the outbox: weft outbox show 1",
    ]
    assert done.stderr == ""
    shown = weft("outbox", "show", "1")
    assert shown.returncode == 0
    assert shown.stdout.rstrip().endswith(ANSWER)
    assert "Subject: What was said" in shown.stdout


def test_json_is_the_report_and_nothing_else(workspace: Path) -> None:
    """Standard output is one object of the published shape; the display goes to standard error."""
    done = run("--json", *with_inputs(failures=1))

    assert done.returncode == 0
    report = json.loads(done.stdout)
    jsonschema.validate(report, RunReport.model_json_schema(mode="serialization"))
    assert report["state"] == "succeeded"
    assert [step["path"] for step in report["steps"]] == ["/answer", "/mail"]
    attempts = report["steps"][0]["attempts"]
    assert [(each["variant"], each["state"], each["kind"]) for each in attempts] == [
        ("acme/small", "failed", "rate_limited"),
        ("acme/small", "succeeded", None),
    ]
    assert report["outputs"] == {"answer": ANSWER}
    assert "2 steps succeeded" in done.stderr


def test_the_documented_fields_are_the_report(workspace: Path) -> None:
    """docs/cli.md names every field of the report, of its steps and of their attempts."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    schema = RunReport.model_json_schema(mode="serialization")
    shapes = [schema, *(schema["$defs"][name] for name in ("StepReport", "AttemptReport", "ProblemReport", "Place"))]

    assert [name for shape in shapes for name in shape["properties"] if not re.search(rf"\b{name}\b", text)] == []


def test_quiet_says_nothing(workspace: Path) -> None:
    """With --quiet a good run is silent, and with --json too there is only the report."""
    done = run("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    done = run("--quiet", "--json")
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert done.stderr == ""


def test_inputs_come_from_a_file_or_standard_input_and_single_ones_win(workspace: Path) -> None:
    """--inputs reads a JSON object, --input overrides it."""
    done = run("--json", "-q", "--inputs", "-", "--input", "text=from the line", given='{"text": "a", "failures": 1}')

    inputs = json.loads(done.stdout)["inputs"]
    assert inputs == {"text": "from the line", "delay": 0.0, "failures": 1, "stubborn": False}


def test_a_failed_run_tells_the_problem_and_exits_1(workspace: Path) -> None:
    """The problem is told on standard error with its place and remedy; the report has it too."""
    done = run("--json", *with_inputs(failures=9))

    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["state"] == "failed"
    assert report["problem"]["code"] == "rate_limited"
    assert [step["state"] for step in report["steps"]] == ["failed", "pending"]
    assert "error[rate_limited]: " in done.stderr
    assert "workflows/say-and-mail.yaml:" in done.stderr
    assert "= step answer" in done.stderr
    assert "= help: Wait." in done.stderr
    assert weft("outbox").stdout == "The outbox is empty.\n"


def test_an_action_that_crashes_shows_no_traceback(workspace: Path) -> None:
    """The traceback of an action's own fault is in the log, which the last line names."""
    Path("pack/actions/say.py").write_text(ACTION.replace("for word in", "text.nothing\n    for word in"))
    done = run()

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    log = Path(os.environ["WEFT_HOME"]) / "logs" / "weft.log"
    assert done.stderr.endswith(f"The log has more: {log}\n")
    assert "AttributeError" in log.read_text()


# ---- exit codes before a run
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["run", "say-and-mail", "--input", "delay=soon"], 2, "delay"),
        (["run", "say-and-mail", "--input", "txt=a"], 2, "text"),
        (["run", "say-and-mail", "--input", "text"], 2, "NAME=VALUE"),
        (["run", "say-and-mail", "--inputs", "list.json"], 2, "object"),
        (["run", "say-and-mail", "--inputs", "broken.json"], 2, "JSON"),
        (["run", "say-and-mail", "--inputs", "binary.json"], 2, "UTF-8"),
        (["run"], 2, "'WORKFLOW'. There are: "),
        (["run", "broken"], 3, "sey"),
        (["run", "say-and-mial"], 4, "say-and-mail"),
        (["run", "gone.yaml"], 4, "gone.yaml"),
        (["run", "unconnected"], 4, "nowhere"),
        (["actions", "show", "sy"], 4, "say"),
        (["actions", "show", "say", "txet"], 4, "Did you mean 'text'?"),
        (["outbox", "show", "9"], 4, "9"),
    ],
)
def test_what_is_wrong_before_a_run_has_its_exit_code(
    workspace: Path, arguments: list[str], code: int, told: str
) -> None:
    """Usage, documents and names: each kind of error exits by its own code, with nothing on standard output."""
    Path("workflows/broken.yaml").write_text("name: broken\nsteps:\n  - {id: a, uses: sey}\n")
    flow = Path("workflows/say-and-mail.yaml").read_text()
    Path("workflows/unconnected.yaml").write_text(
        flow.replace("say-and-mail", "unconnected").replace("connection: outbox", "connection: nowhere")
    )
    Path("list.json").write_text("[1]")
    Path("broken.json").write_text("{")
    Path("binary.json").write_bytes(b"\xff\x00\xfe")

    done = weft(*arguments, *(["--pack", "pack"] if arguments[0] != "outbox" else []))

    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fault_of_weft_is_one_line_and_exit_code_70(workspace: Path) -> None:
    """An exception that nobody expected is one line; its traceback is in a file in the home."""
    probe = "import weft.cli.app as app, sys\napp.COMMANDS['boom'] = 'x'\nsys.modules['weft.cli.boom'] = object()\napp.main(['boom'])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)

    assert done.returncode == 70
    assert done.stderr.count("\n") == 1
    log = Path(os.environ["WEFT_HOME"]) / "logs" / "weft.log"
    assert str(log) in done.stderr
    assert "AttributeError" in log.read_text()


def test_a_home_that_cannot_be_used_is_one_line(workspace: Path) -> None:
    """A file where a directory should be is told by its name, without a traceback; what needs no home works on."""
    Path("home").write_text("")
    done = weft("run", "say-and-mail", "--pack", "pack", "--home", "home/below")

    assert done.returncode == 74
    assert done.stderr.startswith("weft: home/below: Not a directory (")
    assert "--home DIR" in done.stderr
    assert done.stderr.count("\n") == 1
    assert weft("actions", "list", "--home", "home/below").returncode == 0


# ---- signals
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["interrupt", "terminate"]
)
def test_a_signal_cancels_the_run(workspace: Path, number: signal.Signals, code: int) -> None:
    """The step at work is stopped, the next is not begun, nothing is left running; the report is still told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "weft", "run", "say-and-mail", "--pack", "pack", "--json", *SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "attempt 1 of acme/small started" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert process.returncode == code
    assert "cancelling: press Ctrl-C again to stop at once" in err
    assert "Cancelled after" in err
    assert "Traceback" not in err
    report = json.loads(out)
    assert report["state"] == "cancelled"
    assert [step["state"] for step in report["steps"]] == ["cancelled", "pending"]
    assert weft("outbox").stdout == "The outbox is empty.\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_ctrl_c_on_a_terminal_cancels_and_leaves_it_tidy(
    workspace: Path, terminal: Open, shown: Callable[[Terminal], list[str]]
) -> None:
    """The last picture says what was cancelled, and the cursor is visible again."""
    screen = terminal("run", "say-and-mail", "--pack", "pack", *SLOW)
    screen.read_until("word word")
    screen.send("\x03")

    assert screen.end() == 130
    lines = shown(screen)
    assert any(line.startswith(" ⊘ Say Something") and " cancelled " in line for line in lines)
    assert lines[-1].startswith("Cancelled after ")
    assert screen.written.rfind("\x1b[?25h") > screen.written.rfind("\x1b[?25l")
    assert "Traceback" not in screen.written
    assert screen.nothing_is_left()


def test_a_third_ctrl_c_ends_an_action_that_does_not_listen(workspace: Path, terminal: Open) -> None:
    """Whatever an action does, the person at the keyboard has the last word."""
    screen = terminal("run", "say-and-mail", "--pack", "pack", *SLOW, *with_inputs(stubborn=True))
    screen.read_until("word")
    began = time.monotonic()
    for _ in range(3):
        time.sleep(0.2)  # signals that come at once are one signal
        screen.send("\x03")

    assert screen.end() == 130
    assert time.monotonic() - began < 4
    assert "Traceback" not in screen.written
    assert screen.nothing_is_left()


# ---- terminals
@pytest.mark.parametrize("columns", [60, 80, 140])
def test_the_last_picture_fits_the_terminal(
    workspace: Path, terminal: Open, shown: Callable[[Terminal], list[str]], columns: int
) -> None:
    """At every width the run stands there complete, and no line is too long."""
    screen = terminal("run", "say-and-mail", "--pack", "pack", *with_inputs(failures=1, delay=0.02), columns=columns)

    assert screen.end() == 0
    lines = shown(screen)
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("Say something and mail it")
    assert " ✓ Say Something" in lines[2]
    assert lines[3].startswith("   ✗ attempt 1 · acme/small · rate_limited · ")
    assert lines[4].startswith("   acme/small · 9 + 8 tokens")
    assert lines[5] == "   │ Backups keep your data safe when a disk fails."
    assert " ✓ Send Email" in lines[6]
    assert "Mail kept in the outbox: weft outbox show 1" in lines[-1]
    assert screen.nothing_is_left()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


def test_no_color_takes_the_colours_away(workspace: Path, terminal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the display stays, without colours."""
    plain = ("run", "say-and-mail", "--pack", "pack")
    coloured = terminal(*plain)
    assert coloured.end() == 0
    assert COLOUR.search(coloured.written)

    monkeypatch.setenv("NO_COLOR", "1")
    screen = terminal(*plain)
    assert screen.end() == 0
    assert "✓" in screen.written
    assert not COLOUR.search(screen.written)


def test_a_dumb_terminal_gets_plain_lines(workspace: Path, terminal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb means no escape sequence at all."""
    monkeypatch.setenv("TERM", "dumb")
    screen = terminal("run", "say-and-mail", "--pack", "pack")

    assert screen.end() == 0
    assert "step /answer succeeded" in screen.written
    assert "\x1b" not in screen.written


@pytest.mark.parametrize(
    ("command", "code"),
    [("run say-and-mail --pack pack", 0), ("actions show send_email", 141), ("outbox", 141), ("validate --json", 141)],
)
def test_a_reader_that_goes_away_is_no_error(workspace: Path, command: str, code: int) -> None:
    """Nothing is complained about when nobody reads; a run goes on to its end."""
    ours, theirs = os.pipe()
    argv = [sys.executable, "-m", "weft", *command.split()]
    process = subprocess.Popen(argv, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    os.close(ours)
    _, err = process.communicate(timeout=60)

    assert err == ""
    assert process.returncode == code
    if command.startswith("run"):
        assert weft("outbox").stdout.startswith("1\t")


# ---- validate
def test_validate_tells_every_problem_of_every_document(workspace: Path) -> None:
    """All problems at once, each with its line; the summary counts them; the exit code is 3."""
    broken = WORKFLOW.replace("say-and-mail", "broken").replace("uses: say", "uses: sey").replace("to: me", "two: me")
    Path("workflows/broken.yaml").write_text(broken)
    done = weft("validate", "--pack", "pack")

    assert done.returncode == 3
    assert done.stdout.count("error[") >= 3
    assert re.search(r"--> workflows/broken\.yaml:\d+:\d+\n", done.stdout)
    assert re.search(r"\d+ \|     uses: sey\n +\| +\^\^\^\n", done.stdout)
    assert re.search(r"\n\d errors in 2 documents\.\n$", done.stdout)

    report = json.loads(weft("validate", "--pack", "pack", "--json").stdout)
    assert [(each["file"], each["valid"]) for each in report["documents"]] == [
        ("workflows/broken.yaml", False),
        ("workflows/say-and-mail.yaml", True),
    ]
    assert {"code", "severity", "message", "remedy", "where"} == set(report["documents"][0]["problems"][0])


def test_validate_knows_manifests(workspace: Path) -> None:
    """A manifest is checked as one, by its place or by its looks."""
    good = weft("validate", "--json", "pack/manifests/say.yaml", str(ROOT / "manifests" / "connections" / "smtp.yaml"))
    assert good.returncode == 0, good.stdout
    assert [each["kind"] for each in json.loads(good.stdout)["documents"]] == ["manifest", "connection-type"]

    Path("loose.yaml").write_text(MANIFEST.replace("widget: switch", "widget: swich"))
    bad = weft("validate", "loose.yaml")
    assert bad.returncode == 3
    assert "swich" in bad.stdout
    assert "loose.yaml:" in bad.stdout


def test_validate_takes_directories_and_goes_on_after_a_name_that_is_none(workspace: Path) -> None:
    """Each document of a pack is checked; a name that nothing answers to is told beside them, by its exit code too."""
    pack = weft("validate", "--json", "--pack", "pack", "pack")
    kinds = [each["kind"] for each in json.loads(pack.stdout)["documents"]]
    assert pack.returncode == 0
    assert kinds == ["manifest"] * len(kinds)

    done = weft("validate", "gone", "pack/manifests/say.yaml", "lost.yaml")
    assert done.returncode == 4
    assert "'gone'" in done.stdout
    assert "lost.yaml" in done.stdout
    assert "in 3 documents" in done.stdout


def test_newcomers_are_told_of_the_pack_that_they_stand_in(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--pack .` its actions are unknown and its manifests not compared with code: both remedies say so."""
    monkeypatch.chdir("pack")
    workflows = Path("workflows")
    workflows.mkdir(exist_ok=True)
    (workflows / "own.yaml").write_text("name: own\nsteps: [{id: a, uses: say, with: {text: a}}]\n")

    done = weft("validate", ".")
    assert done.returncode == 3
    assert "loaded with --pack ." in done.stdout
    assert "warning[not_compared]" in done.stdout
    assert weft("validate", ".", "--pack", ".").stdout.endswith("nothing is wrong.\n")


def test_validate_without_documents_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory without workflows there is nothing to check, which is an error."""
    monkeypatch.chdir(tmp_path)
    done = weft("validate")

    assert done.returncode == 4
    assert "workflows/" in done.stderr


# ---- actions, outbox, completion
def test_the_example_of_an_action_is_a_step_that_validates(workspace: Path) -> None:
    """What `weft actions show` offers to paste is accepted by `weft validate`."""
    for action in json.loads(weft("actions", "list", "--json").stdout):
        page = weft("actions", "show", action["id"], "--markdown").stdout
        example = page.rpartition("```yaml\n")[2].removesuffix("```\n")
        Path("workflows/pasted.yaml").write_text(
            "name: pasted\nsteps:\n" + re.sub("^", "  ", example, flags=re.MULTILINE)
        )

        report = json.loads(weft("validate", "--json", "workflows/pasted.yaml").stdout)
        problems = report["documents"][0]["problems"]
        assert [each for each in problems if each["code"] != "unknown_connection"] == []


def test_the_reference_has_every_parameter(workspace: Path) -> None:
    """Text, Markdown and JSON name every parameter of the manifest, and no line of the text is too wide."""
    document = json.loads(weft("actions", "show", "say", "--pack", "pack", "--json").stdout)
    names = [each["name"] for each in document["parameters"]["basic"]]
    text = weft("actions", "show", "say", "--pack", "pack").stdout

    assert names == ["text", "delay", "failures", "stubborn"]
    assert [name for name in names if not re.search(rf"^{name}  ", text, re.MULTILINE)] == []
    assert max(map(len, text.splitlines())) <= 80


def test_single_parameters_can_be_looked_up(workspace: Path) -> None:
    """After the action, names of parameters print just these."""
    text = weft("actions", "show", "say", "delay", "--pack", "pack").stdout

    assert text.startswith("delay  ")
    assert "stubborn" not in text


def test_a_list_of_actions_in_a_pipe_is_a_line_for_each(workspace: Path) -> None:
    """Id and purpose, with a tab between."""
    lines = weft("actions", "list", "--pack", "pack").stdout.splitlines()

    core = {path.stem for path in (ROOT / "manifests").glob("*.yaml")}
    assert [line.split("\t")[0] for line in lines] == sorted({*core, "say"})
    assert "say\tSays a text, word by word." in "\n".join(lines)


def test_an_encoding_without_our_signs_gets_plain_ones(workspace: Path) -> None:
    """Where only ASCII can be written, arrows and dots are ASCII, and nothing stops the command."""
    text = "name: own\nsteps:\n  - {id: a, uses: say, needs: [b]}\n  - {id: b, uses: say}\n  - {id: ü, uses: say}\n"
    Path("own.yaml").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "weft", "validate", "own.yaml", "--pack", "pack"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)

    assert done.returncode == 3
    assert b"a -> b -> a" in done.stdout
    assert done.stdout.isascii()
    assert done.stderr == b""


HOSTILE = (
    b"From: \x1b[31mred@example.com\r\nSubject: =?utf-8?q?=1B]0;owned=07?=\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"\x1b[2Jgone \xc2\x9b31m \xe2\x80\xae backwards\r\n"
)


@pytest.fixture
def hostile_mail(workspace: Path) -> None:
    outbox = Outbox(Path(os.environ["WEFT_HOME"]) / "outbox")
    asyncio.run(outbox.keep("a@example.com", ["b@example.com"], HOSTILE))


STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize(
    "arguments", [(), ("list",), ("list", "--json"), ("show",), ("show", "1", "--json"), ("show", "1", "--raw")]
)
def test_a_hostile_mail_cannot_steer_the_terminal(
    workspace: Path, terminal: Open, hostile_mail: None, picture: ModuleType, arguments: Sequence[str]
) -> None:
    """However a mail is shown on a terminal, its escape sequences are made visible."""
    screen = terminal("outbox", *arguments, columns=200)

    assert screen.end() == 0
    ours_removed = re.sub(r"\x1b\[[\d;]*m", "", screen.written.replace("\r\n", "\n"))
    assert not STEERING.search(ours_removed)
    assert "\x1b[2J" not in screen.written


def test_another_home_has_another_outbox(workspace: Path, hostile_mail: None) -> None:
    """`--home` holds wherever it stands on the line."""
    assert weft("outbox").stdout != "The outbox is empty.\n"
    for arguments in (
        ["outbox", "--home", "other"],
        ["outbox", "--home", "other", "list"],
        ["outbox", "list", "--home", "other"],
    ):
        assert weft(*arguments).stdout == "The outbox is empty.\n"


def test_raw_through_a_pipe_is_the_mail_itself(workspace: Path, hostile_mail: None) -> None:
    """A mail that goes to a file is not changed."""
    done = subprocess.run(
        [sys.executable, "-m", "weft", "outbox", "show", "--raw"], capture_output=True, check=True, timeout=60
    )

    assert done.stdout.endswith(HOSTILE.replace(b"\r\n", b"\n").partition(b"\n")[2])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["weft", "va"], {"validate"}),
        (["weft", "run", "say"], {"say-and-mail"}),
        (["weft", "actions", "show", "send_e"], {"send_email"}),
        (["weft", "schema", "w"], {"workflow"}),
    ],
)
def test_a_shell_can_complete(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: set[str]
) -> None:
    """Commands, workflows, actions and kinds of documents are offered."""
    monkeypatch.setenv("_WEFT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))

    assert {line.partition(",")[2] for line in weft().stdout.splitlines()} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_us_back(workspace: Path, shell: str) -> None:
    """Each shell's script sets the variable that we answer to."""
    assert f"_WEFT_COMPLETE={shell}_complete" in weft("completion", shell).stdout
