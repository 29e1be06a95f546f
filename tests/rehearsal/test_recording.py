"""Recordings: real answers kept as fixtures without secrets, and given again without a socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft import source
from weft.errors import InvalidDocument, InvalidInputs
from weft.outcome import request_hash
from weft.redaction import Secret
from weft.rehearsal import recording
from weft.rehearsal.dry_run import DryRun, replay
from weft.rehearsal.recording import to_yaml
from weft.runtime import Runtime
from weft.testing.mail_server import MailServer

SECRET = "correct-horse-battery"
WORKFLOW = """
name: tried
inputs: {subject: {type: string, default: Hello}}
steps:
  - id: each
    for_each: [ada@example.com, eve@example.com]
    uses: send_email
    connection: office
    with: {to: "{{ item }}", subject: "{{ inputs.subject }}", body: "At {{ run.started_at }} in {{ run.id }}"}
  - {id: last, uses: set_values, with: {values: {id: "{{ steps.each.output[1].message_id }}"}}}
outputs: {id: "{{ steps.last.output.id }}"}
"""


async def recorded(tmp_path: Path, server: MailServer, **inputs: Any) -> tuple[Path, Any]:
    """Run the workflow for real, and return the file of its answers and its outputs."""
    (tmp_path / "tried.yaml").write_text(WORKFLOW)
    connections = tmp_path / "connections.yaml"
    connections.write_text(
        f"office: {{type: smtp, host: 127.0.0.1, port: {server.port}, tls: none, from: me@example.com}}"
    )
    file = tmp_path / "answers.yaml"
    async with Runtime.open(home=tmp_path / "home", connections=connections) as runtime:
        runtime.redactor.add(Secret(SECRET))
        plan = runtime.compile(tmp_path / "tried.yaml")
        report = await runtime.run(plan, runtime.inputs(plan, inputs))
        assert report.state == "succeeded", report.problem
        assert await recording.save(file, runtime, report.run_id) == 2
    return file, report.outputs


async def replayed(tmp_path: Path, file: Path, text: str = WORKFLOW, **inputs: Any) -> DryRun:
    """Run the workflow over the answers of a file, in a home without connections."""
    (tmp_path / "tried.yaml").write_text(text)
    async with Runtime.open(home=tmp_path / "elsewhere") as runtime:
        plan = runtime.compile(tmp_path / "tried.yaml")
        kept = recording.load(file)
        return await replay(runtime, plan, kept, file, runtime.inputs(plan, {**kept.inputs, **inputs}))


async def test_a_replay_gives_the_recorded_answers_and_opens_nothing(
    tmp_path: Path, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same outputs come from the file, though no connection is known and no socket can be made."""
    file, outputs = await recorded(tmp_path, mail_server)
    sent = len(mail_server.messages)
    monkeypatch.setattr(socket.socket, "connect", None)
    told = await replayed(tmp_path, file)

    assert (told.state, told.outputs, told.unfit) == ("succeeded", outputs, [])
    assert [call.how for call in told.steps[0].calls] == ["recorded", "recorded"]
    assert told.steps[1].calls[0].how == "called"
    assert len(mail_server.messages) == sent == 2


async def test_a_recording_is_readable_and_holds_no_secret(tmp_path: Path, mail_server: MailServer) -> None:
    """What was asked and answered stands in the file, and a secret that a run was given does not."""
    file, _ = await recorded(tmp_path, mail_server, subject=f"Word {SECRET}")
    text = file.read_text()

    assert SECRET not in text
    assert 'subject: "Word ••••••"' in text
    assert text.count("uses: send_email") == 2
    assert recording.load(file).attempts[1].path == "/each[1]"


async def test_another_request_is_an_error_that_shows_what_differs(tmp_path: Path, mail_server: MailServer) -> None:
    """Each field that is asked for otherwise than it was recorded is shown, with both values."""
    file, _ = await recorded(tmp_path, mail_server)
    told = await replayed(tmp_path, file, WORKFLOW.replace("body: ", "priority: high, body: "), subject="Good bye")

    assert told.state == "failed"
    assert told.problem is not None
    assert told.problem.code == "other_request"
    for shown in ("with.subject", "with.priority", '"Hello"', '"Good bye"', '"normal"', '"high"'):
        assert shown in told.problem.message
    assert "with.body" not in told.problem.message


async def test_a_missing_answer_and_an_unused_one_are_told(tmp_path: Path, mail_server: MailServer) -> None:
    """What is asked and not recorded fails; what is recorded and not asked is told as well."""
    file, _ = await recorded(tmp_path, mail_server)
    more = await replayed(tmp_path, file, WORKFLOW.replace("eve@example.com]", "eve@example.com, joe@example.com]"))
    fewer = await replayed(tmp_path, file, WORKFLOW.replace(", eve@example.com]", "]").replace("[1]", "[0]"))

    assert (more.state, [each.code for each in more.unfit]) == ("failed", ["no_recorded_answer"])
    assert "/each[2]" in more.unfit[0].message
    assert (fewer.state, [each.code for each in fewer.unfit]) == ("succeeded", ["unused_answer"])
    assert "/each[1]" in fewer.unfit[0].message


async def test_recorded_failures_and_answers_to_questions_are_given_again(tmp_path: Path) -> None:
    """An attempt that failed fails in the same way, and a question has the answer that somebody gave."""
    file = tmp_path / "answers.yaml"
    file.write_text(
        """
workflow: tried
run: some-run
started_at: 2026-03-01T08:00:00+01:00
attempts:
  - path: /mail
    attempt: 1
    uses: send_email
    request: unknown
    arguments: {}
    error: {kind: recipient_refused, message: No such user., status: 550}
questions:
  - {path: /ok, answer: approve, by: ann}
"""
    )
    text = """
name: tried
steps:
  - {id: ok, approval: {message: Shall we?}}
  - {id: mail, uses: send_email, connection: office, on_error: continue, with: {to: a@example.com, subject: x, body: x}}
outputs: {by: "{{ steps.ok.output.by }}", error: "{{ steps.mail.error.kind }}"}
"""
    other = await replayed(tmp_path, file, text)
    (call,) = other.steps[1].calls
    assert [each.code for each in other.unfit] == ["other_request"]

    arguments = dict(call.arguments)
    right = file.read_text().replace("arguments: {}", f"arguments: {json.dumps(arguments)}")
    file.write_text(right.replace("unknown", request_hash("send_email", arguments, "default")))
    told = await replayed(tmp_path, file, text)

    assert (told.state, told.unfit) == ("succeeded", [])
    assert told.outputs == {"by": "ann", "error": "recipient_refused"}


async def test_answers_of_another_workflow_are_refused(tmp_path: Path) -> None:
    """A recording is of one workflow, and is given to no other."""
    file = tmp_path / "answers.yaml"
    file.write_text("workflow: other\nrun: x\nstarted_at: 2026-03-01T08:00:00+01:00\nattempts: []\n")
    with pytest.raises(InvalidInputs, match="of the workflow 'other'"):
        await replayed(tmp_path, file)


def test_a_file_that_is_no_recording_is_told_with_its_places(tmp_path: Path) -> None:
    """Faults of a recording have file, line and column."""
    file = tmp_path / "answers.yaml"
    file.write_text("workflow: x\nrun: y\nstarted_at: 2026-03-01\nattempts: []\nquestion: []\n")
    with pytest.raises(InvalidDocument) as caught:
        recording.load(file)

    assert [(each.code, each.where.line) for each in caught.value.problems] == [
        ("invalid_value", 3),
        ("unknown_key", 5),
    ]


TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=20
) | st.sampled_from(
    [
        "no",
        "1e3",
        "0o17",
        "0x1F",
        ".5",
        "-",
        "~",
        "null",
        "12:30",
        "2026-01-01",
        "a: b",
        "# x",
        " x",
        "x ",
        "\n",
        "x\n\n",
        "{{ a }}",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=VALUES)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    """Every JSON value survives the file: words, numbers in quotes and texts of several lines too."""
    assert source.read(to_yaml({"value": value}), "file").value == {"value": value}
