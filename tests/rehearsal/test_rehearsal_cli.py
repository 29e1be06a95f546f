"""The command line of rehearsals: `weft test`, and `weft run` with the options for trying a workflow."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree as ET

import click
import pytest

from weft.cli import rehearsing
from weft.cli import test as tests_of_workflows
from weft.cli.exits import ExitCode, exit_code
from weft.cli.problems import tell
from weft.cli.run import command as run_command
from weft.cli.state import State
from weft.errors import WeftError
from weft.rehearsal import junit
from weft.rehearsal.dry_run import DryRun

Weft: TypeAlias = Callable[..., tuple[int, str, str]]

WORKFLOW = """
    name: greet
    inputs: {who: {type: string, default: ada}}
    steps:
      - {id: text, uses: set_values, with: {values: {greeting: "Hello {{ inputs.who }}"}}}
      - {id: mail, uses: send_email, connection: outbox, with: {to: a@example.com, subject: "{{ steps.text.output.greeting }}", body: x}}
    finally:
      - {id: done, uses: log, with: {message: done}}
    outputs: {id: "{{ steps.mail.output.message_id }}"}
    """
CASES = """
    cases:
      - name: Ada is greeted
        expect: {steps: {mail: {arguments: {subject: Hello ada}, calls: 1}}}
      - name: Eve is greeted & told <so>
        inputs: {who: eve}
        expect: {steps: {mail: {arguments: {subject: Hello eva}}}}
    """


@pytest.fixture
def weft(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Call a command in a directory with a workflow and its tests; returns exit code, output and what was said beside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("workflows").mkdir()
    Path("workflows/greet.yaml").write_text(textwrap.dedent(WORKFLOW))
    Path("workflows/greet.test.yaml").write_text(textwrap.dedent(CASES))
    commands = {"run": run_command, "test": tests_of_workflows.command}

    def weft(name: str, *arguments: str) -> tuple[int, str, str]:
        state = State()
        try:
            code = commands[name].main(list(arguments), prog_name=f"weft {name}", standalone_mode=False, obj=state)
        except WeftError as error:
            tell(error.problems, state)
            code = exit_code(error)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        told = capsys.readouterr()
        return int(code or 0), told.out, told.err

    return weft


# -- weft test


def test_failing_cases_are_shown_with_what_differs(weft: Weft) -> None:
    """Each case has a line; one that fails has its place, what was expected over what was got, and a mark."""
    code, out, _ = weft("test")

    assert code == ExitCode.RUN_FAILED
    assert "✓ Ada is greeted" in out
    assert "✗ Eve is greeted & told <so>" in out
    assert "expect.steps.mail.arguments.subject  (workflows/greet.test.yaml:7:50)" in out
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if "expected │" in line)
    assert [line.split("│")[1].strip() for line in lines[at : at + 3]] == ['"Hello eva"', '"Hello eve"', "^"]
    assert lines[at + 2].index("^") == lines[at].index("a", lines[at].index("ev"))
    assert re.search(r"1 passed, 1 failed in \d+\.\d s", out)


def test_only_wanted_cases_run(weft: Weft) -> None:
    """`--filter` takes a part of a name in any case; one that fits no case is an error, not a success."""
    code, out, _ = weft("test", "--filter", "ADA*gre")
    none, _, err = weft("test", "-k", "joe")

    assert (code, "Eve" in out) == (ExitCode.OK, False)
    assert (none, "No case has a name with 'joe'." in err) == (ExitCode.NOT_FOUND, True)


@pytest.mark.parametrize("path", ["workflows", "workflows/greet.yaml", "workflows/greet.test.yaml", "."])
def test_tests_are_found_by_directory_workflow_or_file(weft: Weft, path: str) -> None:
    """A path may be a document of tests, the workflow beside it, or a directory above both."""
    _, out, _ = weft("test", path)

    assert out.count("greet.test.yaml\n") == 1
    assert "1 passed, 1 failed" in out


def test_what_has_no_tests_is_told(weft: Weft) -> None:
    """A workflow without tests, and an empty directory, are no success."""
    Path("workflows/greet.test.yaml").unlink()
    without, _, err = weft("test", "workflows/greet.yaml")
    empty, _, _ = weft("test")

    assert (without, empty) == (ExitCode.NOT_FOUND, ExitCode.NOT_FOUND)
    assert "workflows/greet.test.yaml" in err


def test_a_workflow_may_be_named_as_a_run_names_it(weft: Weft) -> None:
    """The name of a workflow in workflows/ leads to its tests; what is not there at all is told as such."""
    _, out, _ = weft("test", "greet")
    code, _, err = weft("test", "gret")

    assert "1 passed, 1 failed" in out
    assert (code, "There is no file or directory gret." in err) == (ExitCode.NOT_FOUND, True)


def test_secrets_of_connections_are_masked_wherever_results_go(weft: Weft, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection's secret that stands in a case is masked for people, in JSON and in JUnit's XML, even where values are cut."""
    secret = "p@ss/Oejj8x+&=1O9585é\"'"
    for name, value in {"HOST": "mail.example", "USERNAME": "u", "PASSWORD": secret, "FROM": "a@example.com"}.items():
        monkeypatch.setenv(f"WORK_{name}", value)
    workflow = Path("workflows/greet.yaml")
    workflow.write_text(workflow.read_text().replace("connection: outbox", "connection: work"))
    who = "x" * 140 + secret + "y" * 200
    case = {
        "name": f"greets {secret}",
        "inputs": {"who": who},
        "expect": {"steps": {"mail": {"arguments": {"subject": "Hello"}}}},
    }
    Path("workflows/greet.test.yaml").write_text(json.dumps({"cases": [case]}, ensure_ascii=False))

    _, out, err = weft("test", "--junit", "junit.xml")
    _, as_json, _ = weft("test", "--json")
    xml = "".join(ET.parse("junit.xml").getroot().itertext()) + Path("junit.xml").read_text()

    for told in (out + err, as_json, xml):
        assert "Oejj8x" not in told
        assert "p@ss" not in told
        assert "••••••" in told


def test_junit_and_json_say_what_a_run_failed_for(weft: Weft) -> None:
    """Why a run failed is told beside the miss, as it is on a terminal."""
    case = {"name": "fails", "answers": {"mail": {"error": {"kind": "refused", "message": "No such mailbox."}}}}
    Path("workflows/greet.test.yaml").write_text(json.dumps({"cases": [case]}))

    _, out, _ = weft("test", "--junit", "junit.xml")
    _, as_json, _ = weft("test", "--json")

    assert "The run failed: refused: No such mailbox." in out
    assert "The run failed: refused: No such mailbox." in Path("junit.xml").read_text()
    assert json.loads(as_json)["files"][0]["cases"][0]["problem"] == {"code": "refused", "message": "No such mailbox."}


def test_what_differs_cannot_steer_the_terminal(weft: Weft) -> None:
    """Control characters in values of several lines are shown, not sent."""
    case = {
        "name": "lines",
        "inputs": {"who": "a\n\x1b[2Jb"},
        "expect": {"state": "failed", "steps": {"text": {"output": {"greeting": "Hello a\nb"}}}},
    }
    Path("workflows/greet.test.yaml").write_text(json.dumps({"cases": [case]}))
    _, out, _ = weft("test")

    assert "\x1b" not in out
    assert "[2Jb" in out


def test_an_answer_file_of_another_workflow_is_told_before_its_inputs_are_looked_at(weft: Weft) -> None:
    """The message is of the file, not of an input that the other workflow has."""
    recording = {
        "workflow": "other",
        "run": "r",
        "started_at": "2026-01-01T00:00:00Z",
        "inputs": {"nope": 1},
        "attempts": [],
    }
    Path("answers.yaml").write_text(json.dumps(recording))
    code, _, err = weft("run", "greet", "--replay", "answers.yaml")

    assert (code, "holds answers of the workflow 'other'" in err) == (ExitCode.USAGE, True)


def test_a_recording_of_another_workflow_is_shown_where_the_case_names_it(weft: Weft) -> None:
    """The place is that of the name of the file, not of an input."""
    recording = {"workflow": "other", "run": "r", "started_at": "2026-01-01T00:00:00Z", "attempts": []}
    Path("workflows/other.answers.yaml").write_text(json.dumps(recording))
    Path("workflows/greet.test.yaml").write_text("cases:\n  - name: a\n    recorded: other.answers.yaml\n")
    _, as_json, _ = weft("test", "--json")
    (miss,) = json.loads(as_json)["files"][0]["cases"][0]["misses"]

    assert miss["where"]["line"] == 3
    assert miss["message"].startswith("workflows/other.answers.yaml holds answers of the workflow 'other'")


def test_whoever_edits_recorded_arguments_is_told_their_hash(weft: Weft) -> None:
    """Arguments changed by hand fit after all once `request` is what the message says."""
    assert weft("run", "greet", "--record", "answers.yaml")[0] == ExitCode.OK
    file = Path("answers.yaml")
    file.write_text(re.sub(r"\bada\b", "eve", file.read_text()))
    code, _, err = weft("run", "greet", "--replay", "answers.yaml")
    (told,) = re.findall(r'that of these is "(\w+)"', err)
    file.write_text(re.sub(r'request: "?\w+"?', f'request: "{told}"', file.read_text()))

    assert (code, weft("run", "greet", "--replay", "answers.yaml")[0]) == (ExitCode.RUN_FAILED, ExitCode.OK)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_run_masks_secrets_of_connections_that_it_did_not_open(
    weft: Weft, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """Outputs are masked before they are cut to fit a line: what a skipped step would use, and what looks like a credential."""
    secret, pasted = "p@ss/Oejj8x+&=1O9585", "sk-" + "proj-kgPoYqnCDoYzBKbftfOoXTZhQ8stzhe6SVI34Zwh"
    for name, value in {"HOST": "mail.example", "USERNAME": "u", "PASSWORD": secret, "FROM": "a@example.com"}.items():
        monkeypatch.setenv(f"WORK_{name}", value)
    Path("workflows/said.yaml").write_text(
        """
name: said
inputs: {text: {type: string}}
steps:
  - {id: note, uses: log, with: {message: "{{ inputs.text }}"}}
  - {id: mail, if: "false", uses: send_email, connection: work, with: {to: a@example.com, subject: x, body: x}}
outputs: {said: "{{ inputs.text }}"}
"""
    )
    code, out, err = weft("run", "said", *options, "-i", f"text={secret} {'x' * 115} {pasted} {pasted}")

    assert (code, "••••••" in out) == (ExitCode.OK, True)
    assert "Oejj8x" not in out + err
    assert "kgPoYqn" not in out + err


def test_a_recording_that_cannot_be_written_keeps_the_run_from_beginning(weft: Weft) -> None:
    """Nothing is sent for answers that could not be kept."""
    Path("taken").write_text("a file")
    code, out, err = weft("run", "greet", "--record", "taken/answers.yaml")

    assert (code, "started" in out, "nothing was run" in err) == (ExitCode.USAGE, False, True)


def test_an_unknown_step_is_shown_where_it_stands(weft: Weft) -> None:
    """A document that speaks of a step that is not there is invalid, whatever its cases would come to."""
    file = Path("workflows/greet.test.yaml")
    file.write_text(
        file.read_text().replace("mail: {arguments: {subject: Hello ada}", "mial: {arguments: {subject: Hello ada}")
    )
    code, out, _ = weft("test")

    assert code == ExitCode.INVALID_DOCUMENT
    assert "The workflow has no step 'mial'." in out
    assert "^^^^" in out
    assert "Did you mean 'mail'?" in out


def test_results_are_told_as_json(weft: Weft) -> None:
    """Programs get the counts and, for each miss, its place, field and both values."""
    code, out, _ = weft("test", "--json")
    told = json.loads(out)

    assert (code, told["passed"], told["failed"], told["error"]) == (1, 1, 1, 0)
    (file,) = told["files"]
    assert (file["file"], file["workflow"], file["problems"]) == ("workflows/greet.test.yaml", "greet", [])
    assert [(case["name"], case["state"], case["line"]) for case in file["cases"]] == [
        ("Ada is greeted", "passed", 3),
        ("Eve is greeted & told <so>", "failed", 5),
    ]
    (miss,) = file["cases"][1]["misses"]
    assert (miss["field"], miss["expected"], miss["got"], miss["where"]["line"]) == (
        "expect.steps.mail.arguments.subject",
        "Hello eva",
        "Hello eve",
        7,
    )


SUITES = {"name", "tests", "failures", "errors", "skipped", "time"}
CASE = {"classname", "name", "time", "file", "line"}


def checked(root: ET.Element) -> None:
    """Refuse what the schema of JUnit's XML, as of Jenkins' and GitLab's readers, does not have."""
    assert root.tag == "testsuites"
    for suite in root:
        assert (suite.tag, set(suite.keys())) == ("testsuite", SUITES)
        cases = list(suite)
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)
        assert int(suite.attrib["errors"]) == sum(case.find("error") is not None for case in cases)
        for case in cases:
            assert (case.tag, set(case.keys()) - CASE) == ("testcase", set())
            assert case.attrib["classname"]
            assert case.attrib["name"]
            assert float(case.attrib["time"]) >= 0
            for told in case:
                assert told.tag in ("failure", "error")
                assert set(told.keys()) == {"message", "type"}
                assert told.text
    assert {name: int(root.attrib[name]) for name in ("tests", "failures", "errors")} == {
        name: sum(int(suite.attrib[name]) for suite in root) for name in ("tests", "failures", "errors")
    }


def test_results_are_written_as_junits_xml(weft: Weft) -> None:
    """CI services read suites, cases, failures and errors; names with characters of XML are escaped."""
    Path("workflows/other.test.yaml").write_text("cases: [{name: a}]")
    Path("workflows/other.yaml").write_text("name: other\nsteps: [{id: x, uses: nothing_like_it}]")
    code, _, _ = weft("test", "--junit", "reports/junit.xml")
    root = ET.fromstring(Path("reports/junit.xml").read_bytes())

    assert code == ExitCode.INVALID_DOCUMENT
    checked(root)
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("3", "1", "1")
    failure = root.find(".//failure")
    assert failure is not None
    assert '"Hello eva"' in str(failure.text)
    assert [case.attrib["name"] for case in root.iter("testcase")][1] == "Eve is greeted & told <so>"


def test_xml_holds_no_character_that_it_may_not(weft: Weft) -> None:
    """A control character in a value is replaced; the file can be read."""
    file = Path("workflows/greet.test.yaml")
    file.write_text('cases: [{name: "a\\u0001b", expect: {outputs: {id: "\\u0002"}}}]')
    weft("test", "--junit", "junit.xml")

    checked(ET.fromstring(Path("junit.xml").read_bytes()))
    assert junit.document([]).startswith(b"<?xml")


# -- weft run


def test_a_dry_run_shows_arguments_and_stand_ins_and_keeps_nothing(weft: Weft, tmp_path: Path) -> None:
    """Each step is shown with its action, effect, connection and arguments; nothing is in the journal or the outbox."""
    code, out, err = weft("run", "greet", "--dry-run")

    assert (code, err) == (ExitCode.OK, "")
    assert "✓ mail  send_email · send · outbox" in out
    assert "    subject: Hello ada\n" in out
    assert "    → stand-in: " in out
    assert (
        "Nothing was sent or opened. 3 calls: 1 with a stand-in, 2 made (no effect outside). The run would succeed."
        in out
    )
    assert not list((tmp_path / "weft-home").glob("journal*"))
    assert not (tmp_path / "weft-home" / "outbox").exists()


def test_the_shape_of_a_dry_run_is_stable(weft: Weft) -> None:
    """`--json` has the members that docs/testing.md names."""
    code, out, _ = weft("run", "greet", "--dry-run", "--json", "-i", "who=eve")
    told = json.loads(out)

    assert code == ExitCode.OK
    assert DryRun.model_validate(told).workflow == "greet"
    assert set(told) == {"workflow", "state", "inputs", "steps", "outputs", "warnings", "problem", "unfit"}
    step = told["steps"][1]
    assert set(step) == {
        "path",
        "uses",
        "title",
        "effect",
        "connection",
        "state",
        "passed",
        "calls",
        "output",
        "problem",
        "doubt",
    }
    assert set(step["calls"][0]) == {"turns", "attempt", "variant", "how", "arguments", "output", "problem"}
    assert (step["path"], step["calls"][0]["arguments"]["subject"]) == ("/mail", "Hello eve")


def test_until_and_only_say_what_they_leave_out(weft: Weft, tmp_path: Path) -> None:
    """A part of a workflow runs for real, and what does not run is named."""
    code, out, _ = weft("run", "greet", "--until", "text")
    Path("pins.json").write_text('{"text": {"greeting": "Good bye"}}')
    only, told, _ = weft("run", "greet", "--only", "mail", "--pin", "pins.json", "--dry-run")

    assert (code, only) == (ExitCode.OK, ExitCode.OK)
    assert "Left out: mail, finally, outputs." in out
    assert "Left out: text, finally, outputs." in told
    assert "    subject: Good bye\n" in told
    assert not (tmp_path / "weft-home" / "outbox").exists()


def test_a_missing_pin_is_told_with_the_line_that_needs_it(weft: Weft) -> None:
    """A step alone needs the outputs that it speaks of."""
    code, _, err = weft("run", "greet", "--only", "mail")

    assert code == ExitCode.USAGE
    assert "Step 'mail' uses the output of 'text', which does not run." in err
    assert "--> workflows/greet.yaml:" in err


def test_answers_are_recorded_and_replayed(weft: Weft, tmp_path: Path) -> None:
    """What the outbox answered goes to a file; a replay gives the same outputs, and no second mail."""
    code, out, _ = weft("run", "greet", "--record", "answers.yaml", "-i", "who=eve")
    first = re.search(r"output id: (\S+)|(<\S+@\S+>)", out)
    sent = len(list((tmp_path / "weft-home" / "outbox").iterdir()))
    again, told, _ = weft("run", "greet", "--replay", "answers.yaml", "--json")
    other, _, err = weft("run", "greet", "--replay", "answers.yaml", "-i", "who=joe")

    assert (code, again, other) == (ExitCode.OK, ExitCode.OK, ExitCode.RUN_FAILED)
    assert "1 answer kept in answers.yaml" in out
    assert first is None or (first[1] or first[2]) in told
    assert json.loads(told)["steps"][1]["calls"][0]["how"] == "recorded"
    assert len(list((tmp_path / "weft-home" / "outbox").iterdir())) == sent
    assert '"Hello eve"' in err
    assert '"Hello joe"' in err


@pytest.mark.parametrize(
    "options",
    [
        ("--dry-run", "--detach"),
        ("--dry-run", "--record", "x.yaml"),
        ("--until", "text", "--only", "mail"),
        ("--pin", "workflows/greet.yaml"),
    ],
)
def test_options_that_exclude_each_other_are_refused(weft: Weft, options: tuple[str, ...]) -> None:
    """What cannot be meant together is a mistake in the command."""
    code, _, err = weft("run", "greet", *options)

    assert code == ExitCode.USAGE
    assert options[0] in err


def test_the_help_shows_the_options_for_trying_apart(weft: Weft, capsys: pytest.CaptureFixture[str]) -> None:
    """The options of a run come first, those for trying it stand under a head of their own."""
    weft("run", "--help")
    context = click.Context(run_command, info_name="run")
    told = run_command.get_help(context)

    options, trying = told.split("Try it out:")
    for name in ("--dry-run", "--until", "--only", "--pin", "--record", "--replay"):
        assert name in trying
        assert name not in options
    assert "--detach" in options


def test_pins_are_a_mapping(tmp_path: Path) -> None:
    """A file of pins that is a list is told as such."""
    file = tmp_path / "pins.yaml"
    file.write_text("- a")
    with pytest.raises(WeftError, match="mapping of steps to outputs"):
        rehearsing.pins(file)
