"""`--env NAME`: the same workflow with other variables and other connections, and what is wrong with the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from weft import packs, source, structure
from weft.cli.exits import exit_code
from weft.cli.run import command as run
from weft.cli.state import State
from weft.cli.validate import command as validate
from weft.connections import NamedEnvironment, environment_named, read_environments
from weft.errors import InvalidConnections, NotFound
from weft.runtime import Runtime

LAB = Path(__file__).parent / "lab"

WORKFLOW = """
name: told
variables: {who: nobody, count: 1}
steps:
  - {id: a, uses: leak, connection: door, with: {where: nowhere}}
  - {id: b, uses: echo, with: {value: "{{ variables.who }} {{ variables.count }}"}}
outputs: {said: "{{ steps.b.output.value }}", by: "{{ steps.a.output.connection }}"}
"""

ENVIRONMENTS = """
prod:
  variables: {who: everybody}
  connections: {door: front-door}
test: {}
empty:
"""


@pytest.fixture(scope="module")
def registry():
    return packs.discover([LAB])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, registry):
    """A directory with a workflow, its environments and two connections; packs were read once."""
    monkeypatch.setattr("weft.runtime.discover", lambda extra: registry)
    monkeypatch.chdir(tmp_path)
    Path("workflows").mkdir()
    Path("workflows/told.yaml").write_text(WORKFLOW)
    Path("environments.yaml").write_text(ENVIRONMENTS)
    monkeypatch.setenv("DOOR_TOKEN", "token-of-door")
    monkeypatch.setenv("FRONT_DOOR_TOKEN", "token-of-front-door")


def weft(command, *words):
    return CliRunner().invoke(command, list(words), obj=State(packs=(LAB,)), standalone_mode=False)


def outputs(*words):
    result = weft(run, "told", "--json", *words)
    assert result.exception is None, result.exception
    return json.loads(result.stdout)["outputs"]


def test_variables_and_connections_are_those_of_the_environment(monkeypatch):
    """The workflow's own variables are defaults; a name of a connection stands for another; WEFT_ENV chooses too."""
    here, prod = outputs(), outputs("--env", "prod")
    monkeypatch.setenv("WEFT_ENV", "prod")

    assert here["said"] == "nobody 1"
    assert "name='door'" in here["by"]
    assert prod["said"] == "everybody 1"
    assert "name='front-door'" in prod["by"]
    assert outputs() == prod
    assert outputs("--env", "test") == here == outputs("--env", "empty")


def test_a_variable_may_be_the_environments_alone():
    """A workflow that gives no default needs an environment, and validation says so."""
    Path("workflows/told.yaml").write_text(WORKFLOW.replace("who: nobody, ", ""))

    assert weft(validate, "told").return_value == 3
    assert weft(validate, "told", "--env", "prod").return_value == 0


def test_validation_looks_at_the_connections_of_the_environment():
    """What stands for a connection must be there."""
    Path("environments.yaml").write_text("prod: {connections: {door: back-door}}")
    told = weft(validate, "--env", "prod")

    assert "There is no connection 'back-door' here." in told.stdout
    assert "back-door" not in weft(validate).stdout


def test_entries_that_no_workflow_uses_are_told():
    """Misspelt names are told with the nearest, and values of another type; names in expressions alone are uses."""
    Path("workflows/told.yaml").write_text(WORKFLOW.replace("who: nobody, ", ""))
    Path("environments.yaml").write_text(
        "prod:\n"
        "  connections:\n    dor: front-door\n    door: front-door\n"
        "  variables:\n    who: everybody\n    cuont: 2\n    count: many\n"
    )
    result = weft(validate, "told", "--env", "prod", "--json")
    told = json.loads(result.stdout)["documents"][-1]
    found = [(each["code"], each["where"]["line"]) for each in told["problems"]]

    assert (result.return_value, told["kind"], told["valid"]) == (0, "environments", True)
    assert found == [("unused_connection", 3), ("unused_variable", 7), ("variable_type", 8)]
    assert "'door'" in told["problems"][0]["remedy"]
    assert "'count'" in told["problems"][1]["remedy"]
    assert "is a text here, but a number in workflows/told.yaml" in told["problems"][2]["message"]


def test_every_step_of_a_workflow_is_in_the_environment():
    """Groups, error steps, `finally`, `on_failure`, chains of providers and webhooks."""
    text = """
        name: x
        on: {webhook: [{connection: a}]}
        steps:
          - id: g
            steps: [{id: i, uses: leak, connection: a, with: {where: nowhere}}]
            on_error: {steps: [{id: e, uses: leak, connection: a, with: {where: nowhere}}]}
          - {id: c, uses: leak, connections: {p: a, q: other}, with: {where: nowhere}}
        finally: [{id: f, uses: leak, connection: a, with: {where: nowhere}}]
        on_failure: {steps: [{id: o, uses: leak, connection: a, with: {where: nowhere}}]}
    """
    workflow = structure.load(source.read(text, "x.yaml"))
    applied = NamedEnvironment(connections={"a": "b"}).applied(workflow)
    dumped = applied.model_dump_json(by_alias=True)

    assert dumped.count('"connection":"b"') == 5
    assert '"connections":{"p":"b","q":"other"}' in dumped
    assert '"connection":"a"' not in dumped
    assert NamedEnvironment().applied(workflow) == workflow


@pytest.mark.parametrize("command", [run, validate])
def test_an_environment_that_is_not_there_names_the_nearest(command, monkeypatch):
    """By option and by variable; of validation it is no fault of a document."""
    for choose in (lambda: weft(command, "told", "--env", "prd"), lambda: weft(command, "told")):
        error = choose().exception
        assert isinstance(error, NotFound)
        assert error.problem.code == "unknown_environment"
        assert "'prod'" in error.problem.remedy
        monkeypatch.setenv("WEFT_ENV", "prd")


def test_without_a_file_it_is_said_where_one_is_looked_for(tmp_path, monkeypatch):
    """Here, then in the home; WEFT_ENVIRONMENTS names another."""
    Path("environments.yaml").rename("elsewhere.yaml")
    assert weft(run, "told", "--env", "prod").exception.problem.code == "unknown_environment"

    monkeypatch.setenv("WEFT_ENVIRONMENTS", "elsewhere.yaml")
    assert outputs("--env", "prod")["said"] == "everybody 1"
    monkeypatch.delenv("WEFT_ENVIRONMENTS")
    home = tmp_path / "weft-home"
    home.mkdir(exist_ok=True)
    Path("elsewhere.yaml").rename(home / "environments.yaml")
    assert outputs("--env", "prod")["said"] == "everybody 1"


@pytest.mark.parametrize(
    ("text", "code", "field", "line"),
    [
        ("- a\n", "not_a_mapping", None, 1),
        ("prod:\n  varables: {a: 1}\n", "unknown_key", "prod.varables", 2),
        ("prod:\n  connections: {a: 7}\n", "wrong_type", "prod.connections.a", 2),
        ("prod:\n  connections: {a: Big Mail}\n", None, "prod.connections.a", 2),
        ("prod: 7\n", "wrong_type", "prod", 1),
        ("Prod Env: {}\n", "name", None, 1),
        ("prod:\n  variables:\n    smtp_password: hunter2\n", "secret_variable", None, 3),
        ("prod:\n  variables:\n    deep: [{api-key: hunter2}]\n", "secret_variable", None, 3),
        ("prod:\n  variables:\n    x: sk-proj-abcdefghijklmnopqrstuvwx\n", "credential", None, 3),
    ],
)
def test_faults_of_the_file_have_places(text, code, field, line):
    """Each is told with line and column, and no secret is repeated."""
    with pytest.raises(InvalidConnections) as caught:
        read_environments(source.read(text, "environments.yaml"))

    (problem,) = caught.value.problems
    assert problem.where.line == line
    assert code in (None, problem.code)
    assert field in (None, problem.where.field)
    assert "hunter2" not in str(problem)
    assert "abcdefghijkl" not in str(problem)


def test_all_faults_are_told_at_once():
    """Those of one environment do not hide those of another."""
    text = "a: {x: 1}\nb: {variables: {token: t}}\nC: {connections: {a: 1}}\n"
    with pytest.raises(InvalidConnections) as caught:
        read_environments(source.read(text, "environments.yaml"))

    assert [problem.where.line for problem in caught.value.problems] == [1, 2, 3, 3]
    assert weft_faults(text) == 3


def weft_faults(text):
    Path("environments.yaml").write_text(text)
    return exit_code(weft(validate, "--env", "b").exception)


@pytest.mark.parametrize("name", ["max_tokens", "token_limit", "keyboard", "secretary", "password_policy_url"])
def test_names_that_only_sound_like_secrets_are_taken(name):
    """Whole words at the end of a name count."""
    assert read_environments(source.read(f"a: {{variables: {{{name}: x}}}}", "e.yaml"))["a"].variables == {name: "x"}


def test_names_are_completed(monkeypatch):
    """`--env` completes the environments that there are."""
    monkeypatch.setenv("_WEFT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "weft --env pr")
    monkeypatch.setenv("COMP_CWORD", "2")
    result = CliRunner().invoke(run, [], obj=State(packs=(LAB,)), prog_name="weft", complete_var="_WEFT_COMPLETE")

    assert result.stdout.split() == ["plain,prod"]


def test_a_runtime_is_opened_in_an_environment(tmp_path):
    """Other faces than the command line say it when they open it."""
    runtime = Runtime.open(home=tmp_path, packs=[LAB], environment="prod")

    assert runtime.environment.variables == {"who": "everybody"}
    assert runtime.compile(Path("workflows/told.yaml")).workflow.variables == {"who": "everybody", "count": 1}
    with pytest.raises(NotFound):
        environment_named("prod", [tmp_path / "nowhere.yaml"])
