"""Dry runs: everything is rendered and checked, nothing is sent, opened or kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from weft.rehearsal.dry_run import DryRun, dry_run
from weft.runtime import Runtime
from weft.workflow import BESIDE

ROOT = Path(__file__).parents[2]
THIRD_PARTY = ROOT / "tests" / "packaging" / "third_party"
WORKFLOWS = sorted(
    path
    for folder in (ROOT / "workflows", THIRD_PARTY / "workflows")
    for path in folder.glob("*.yaml")
    if not path.name.endswith(BESIDE)
)


def banned(*commands: Sequence[str], **environ: str) -> dict[str, Any]:
    """Run commands in a process that may open no socket, and return what it told."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("socket_ban.py"), json.dumps(commands)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def dry(workflow: Path, home: Path) -> list[str]:
    return ["run", str(workflow), "--dry-run", "--json", "--home", str(home), "--pack", str(THIRD_PARTY)]


async def rehearsed(tmp_path: Path, text: str, **inputs: Any) -> DryRun:
    """Rehearse a document."""
    file = tmp_path / "tried.yaml"
    file.write_text(text, encoding="utf-8")
    async with Runtime.open(home=tmp_path / "home") as runtime:
        plan = runtime.compile(file)
        return await dry_run(runtime, plan, runtime.inputs(plan, inputs))


def test_a_dry_run_of_every_shipped_workflow_opens_no_socket(tmp_path: Path) -> None:
    """Every workflow that is shipped is rehearsed to its end without a socket, a lookup or a process, and keeps nothing."""
    home = tmp_path / "home"
    found = banned(*(dry(workflow, home) for workflow in WORKFLOWS))

    assert found["events"] == []
    assert len(found["told"]) == len(WORKFLOWS) > 9
    for workflow, told in zip(WORKFLOWS, found["told"], strict=True):
        run = told["output"]
        assert (told["code"], run["state"]) == (0, "succeeded"), (workflow, run["problem"])
        calls = [call for step in run["steps"] if step["effect"] in ("read", "send") for call in step["calls"]]
        assert {call["how"] for call in calls} <= {"stand_in"}, workflow
        assert calls or workflow.is_relative_to(THIRD_PARTY), workflow
        assert not [each for each in run["warnings"] if each["code"] == "untold_member"], workflow
    assert not list(home.glob("journal*"))


def test_the_ban_notices_one_mail_that_is_let_through(tmp_path: Path) -> None:
    """When one action that sends is called all the same, the test above would fail."""
    found = banned(dry(ROOT / "workflows" / "email-results.yaml", tmp_path), LET_THROUGH="send_email")

    assert any(event.startswith(("socket.__new__", "socket.bind", "socket.connect")) for event in found["events"])


def test_replays_and_tests_open_no_socket_either(tmp_path: Path) -> None:
    """Recorded answers, and the answers of tests, are given without a socket, whatever the workflow would open."""
    (tmp_path / "tried.yaml").write_text(
        "name: tried\nsteps: [{id: page, uses: http_request, connection: web, with: {url: 'https://example.com/'}}]"
    )
    arguments = {"method": "GET", "url": "https://example.com/"}
    (tmp_path / "answers.yaml").write_text(
        "workflow: tried\nrun: some-run\nstarted_at: 2026-03-01T08:00:00+01:00\nattempts:\n"
        f"  - {{path: /page, attempt: 1, uses: http_request, request: x, arguments: {json.dumps(arguments)}, output: {{}}}}"
    )
    (tmp_path / "tried.test.yaml").write_text("cases: [{name: one, answers: {page: {stand_in: {status: 201}}}}]")
    file, home = str(tmp_path / "tried.yaml"), str(tmp_path / "home")
    replay = ["run", file, "--replay", str(tmp_path / "answers.yaml"), "--json", "--home", home]
    found = banned(replay, ["test", file, "--json", "--home", home])

    assert found["events"] == []
    assert [each["code"] for each in found["told"]] == [1, 0]
    assert found["told"][0]["output"]["unfit"][0]["code"] == "other_request"
    assert found["told"][1]["output"]["passed"] == 1


async def test_what_would_be_sent_is_shown_with_stand_ins(tmp_path: Path) -> None:
    """A step that sends shows its rendered arguments and has the manifest's example for its output."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
inputs: {who: {type: string, default: ada@example.com}}
steps:
  - id: mail
    uses: send_email
    connection: outbox
    with: {to: "{{ inputs.who }}", subject: Hello, body: "It is {{ run.started_at | date('%Y', 'UTC') }}."}
outputs: {id: "{{ steps.mail.output.message_id }}"}
""",
    )

    (step,) = told.steps
    (call,) = step.calls
    assert (step.path, step.uses, step.effect, step.connection, step.state) == (
        "/mail",
        "send_email",
        "send",
        "outbox",
        "succeeded",
    )
    assert (call.how, call.arguments["to"], call.arguments["subject"]) == ("stand_in", "ada@example.com", "Hello")
    assert told.outputs == {"id": call.output["message_id"]}  # type: ignore[index,call-overload]


async def test_actions_without_effects_are_really_called(tmp_path: Path) -> None:
    """An action that does nothing outside returns what it would return."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: list, uses: set_values, with: {values: {names: [a, b]}}}
  - {id: each, for_each: "{{ steps.list.output.names }}", uses: set_values, with: {values: {name: "{{ item }}!"}}}
outputs: {names: "{{ steps.each.output | map(attribute='name') | list }}"}
""",
    )

    assert [call.how for step in told.steps for call in step.calls] == ["called"] * 3
    assert [call.turns for call in told.steps[1].calls] == [[0], [1]]
    assert told.outputs == {"names": ["a!", "b!"]}


async def test_waits_and_questions_pass_at_once_and_say_so(tmp_path: Path) -> None:
    """A wait of a month and an approval take no time, and the dry run tells that they were passed."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: pause, wait: {for: 30d}}
  - {id: ok, approval: {message: Shall we?, who: [ann], deadline: 2d}}
  - {id: said, uses: set_values, with: {values: {by: "{{ steps.ok.output.by }}"}}}
""",
    )

    assert told.state == "succeeded"
    assert [step.passed for step in told.steps] == ["The wait passed at once.", "Approved at once: Shall we?", None]
    assert told.steps[2].output == {"by": "ann"}


async def test_the_database_of_the_journal_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where runs are kept in a database, a dry run goes without it."""
    monkeypatch.setenv("WEFT_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    told = await rehearsed(tmp_path, "name: tried\nsteps: [{id: pause, wait: {for: 1h}}]")

    assert told.state == "succeeded"


async def test_a_missing_connection_is_a_warning(tmp_path: Path) -> None:
    """What would keep a run from beginning does not keep a dry run from it, and is told."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: tell, uses: send_slack_message, connection: nowhere, with: {message: Hello}}
""",
    )

    assert told.state == "succeeded"
    assert [problem.code for problem in told.warnings] == ["unknown_connection"]


async def test_a_stand_in_has_what_expressions_ask_of_it(tmp_path: Path) -> None:
    """Items of a loop have the members that the loop uses, and a text stands where a text is needed."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: orders, uses: http_request, connection: web, with: {url: "https://example.com/orders"}}
  - id: each
    for_each: "{{ steps.orders.output.body }}"
    uses: set_values
    with: {values: {number: "{{ item.number }}", lines: "{{ item.lines }}"}}
  - {id: page, uses: http_request, connection: web, with: {url: "https://example.com/"}}
  - {id: short, uses: set_values, with: {values: {text: "{{ steps.page.output.body | truncate(10) }}"}}}
""",
    )

    assert told.state == "succeeded"
    assert [step.doubt for step in told.steps] == [None] * 4
    assert told.steps[1].calls[0].arguments["values"] == {"number": "number", "lines": "lines"}


async def test_what_cannot_be_said_of_stand_ins_is_doubtful_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A step that fails on stand-ins is told as not rehearsed, has a stand-in itself, and what follows is rendered."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: page, uses: http_request, connection: web, with: {url: "https://example.com/"}}
  - {id: sum, uses: set_values, with: {values: {total: "{{ steps.page.output.body | sum(attribute='amount') }}"}}}
  - {id: mail, uses: send_email, connection: outbox, with: {to: a@example.com, subject: "{{ steps.sum.output.total }}", body: x}}
""",
    )

    assert told.state == "succeeded"
    assert told.steps[1].doubt is not None
    assert told.steps[1].calls == []
    assert told.steps[2].calls[0].arguments["subject"] == "Your weekly report"  # the example of the parameter


async def test_a_fault_that_no_stand_in_has_brought_about_fails_the_dry_run(tmp_path: Path) -> None:
    """What is wrong whatever the answers are is a failure, not a doubt."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: stop, uses: fail, with: {message: Not today., kind: closed}}
  - {id: mail, uses: send_email, connection: outbox, with: {to: a@example.com, subject: x, body: x}}
""",
    )

    assert (told.state, told.problem.code if told.problem else None) == ("failed", "closed")
    assert told.steps[1].state == "pending"


async def test_a_fault_beside_stand_ins_is_no_doubt(tmp_path: Path) -> None:
    """A step that speaks of nothing that was made up fails, though another one before it had a stand-in."""
    mail = "{id: mail, uses: send_email, connection: outbox, with: {to: a@example.com, subject: x, body: x}}"
    stopped = await rehearsed(
        tmp_path, f"name: tried\nsteps: [{mail}, {{id: stop, uses: fail, with: {{message: Not today., kind: closed}}}}]"
    )
    wrong = await rehearsed(
        tmp_path,
        "name: tried\ninputs: {n: {type: array, default: [1]}}\n"
        f'steps: [{mail}, {{id: sum, uses: set_values, with: {{values: {{v: "{{{{ inputs.n[5] }}}}"}}}}}}]',
    )

    assert [(told.state, told.steps[1].doubt) for told in (stopped, wrong)] == [("failed", None)] * 2


async def test_a_member_that_only_an_expression_tells_of_is_a_warning(tmp_path: Path) -> None:
    """A slip in the name of a member does not pass as a success just because its stand-in was given that member."""
    chat = (
        "{id: answer, uses: generate_chat_completion, connection: local-model, "
        "with: {provider: openai, model: smollm2, messages: [{role: user, content: x}]}}"
    )
    told = await rehearsed(
        tmp_path,
        f"""
name: tried
steps:
  - {chat}
  - {{id: told, uses: log, with: {{message: "{{{{ steps.answer.output.text }}}}"}}}}
  - {{id: sure, uses: log, with: {{message: "{{{{ steps.answer.output.citations | default('none') }}}}"}}}}
  - {{id: right, uses: log, with: {{message: "{{{{ steps.answer.output.choices[0].message.content }}}}"}}}}
""",
    )

    (warning,) = [each for each in told.warnings if each.code == "untold_member"]
    assert "'text'" in warning.message
    assert (warning.where.line, warning.where.step) == (5, "told")


async def test_finally_is_rehearsed_too(tmp_path: Path) -> None:
    """`finally` is rehearsed too, whether the run would fail or not."""
    told = await rehearsed(
        tmp_path,
        """
name: tried
steps:
  - {id: stop, uses: fail, with: {message: Not today., kind: closed}}
finally:
  - {id: tell, uses: send_email, connection: outbox, with: {to: a@example.com, subject: It failed, body: x}}
""",
    )

    assert [(step.path, step.state) for step in told.steps] == [("/stop", "failed"), ("/@finally/tell", "succeeded")]


def test_secrets_are_masked_in_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection's secret that an author has put into an argument is masked, though the connection is not opened."""
    monkeypatch.setenv("SMTP_HOST", "smtp.example.com")
    file = tmp_path / "tried.yaml"
    file.write_text(
        """
name: tried
inputs: {word: {type: string, required: true}}
steps:
  - {id: mail, uses: send_email, connection: office, with: {to: a@example.com, subject: "{{ inputs.word }}", body: x}}
"""
    )
    connections = tmp_path / "connections.yaml"
    connections.write_text("office: {type: smtp, host: smtp.example.com, username: me, password: {env: OFFICE_WORD}}")
    monkeypatch.setenv("OFFICE_WORD", "correct-horse-battery")
    command = [
        sys.executable, "-m", "weft", "run", str(file), "--dry-run", "--json", "--connections", str(connections),
        "-i", "word=correct-horse-battery",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "correct-horse" not in done.stdout + done.stderr
    assert json.loads(done.stdout)["steps"][0]["calls"][0]["arguments"]["subject"] == "••••••"
