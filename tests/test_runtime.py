"""Everything put together: inputs, runs side by side, artifacts, the end."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path

import pytest

from weft import packs
from weft.engine.events import AttemptStarted, Logged, StepEnded
from weft.errors import Diverged, InvalidInputs, JournalRefused, NotFound
from weft.registry import Registry
from weft.runtime import Runtime

LAB = Path(__file__).parent / "lab"


@pytest.fixture(scope="module")
def registry():
    return Registry([packs.read(LAB, "lab", packs.package_of(LAB))])


@pytest.fixture
async def runtime(registry, tmp_path):
    async with Runtime(tmp_path, registry, environ={}) as made:
        yield made


@pytest.fixture
def plan(runtime, tmp_path):
    def plan_(text):
        path = tmp_path / "lab.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return runtime.compile(path)

    return plan_


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# ---- inputs
INPUTS = """
    name: a
    inputs:
      text: {}
      number: {type: number}
      list: {type: array}
      flag: {type: boolean, default: true}
    steps: [{id: a, uses: echo}]
    """


def test_texts_are_read_by_the_declared_types(runtime, plan):
    """A text stays a text, whatever it looks like; every other type is read as JSON."""
    given = {"text": "12", "number": "1.5", "list": "[1]"}

    assert runtime.inputs(plan(INPUTS), given, text=True) == {"text": "12", "number": 1.5, "list": [1], "flag": True}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"number": "NaN"}, True),
        ({"number": "1e999"}, True),
        ({"number": "-Infinity"}, True),
        ({"list": "[1, NaN]"}, True),
        ({"list": "[" * 100_000}, True),
        ({"number": float("nan")}, False),
        ({"list": [float("inf")]}, False),
        ({"list": [b"x"]}, False),
        ({"number": "9" * 10_000}, True),
        ({"nix": "1"}, True),
        ({"flag": "yes"}, True),
    ],
)
def test_what_is_no_json_value_of_its_type_is_no_input(runtime, plan, given, text):
    """An input that no journal could keep is refused by name, before there is a run."""
    with pytest.raises(InvalidInputs) as caught:
        runtime.inputs(plan(INPUTS), given, text=text)

    assert next(iter(given)) in caught.value.problem.where.field


# ---- what cannot be run
async def test_a_missing_connection_is_told_before_the_first_step(runtime, plan):
    """A run does not begin that cannot end."""
    planned = plan("name: a\nsteps: [{id: a, uses: leak, connection: nowhere, with: {where: nowhere}}]")
    with pytest.raises(NotFound):
        await runtime.run(planned, {})


# ---- runs
async def test_two_runs_go_on_side_by_side_and_keep_apart(runtime, plan):
    """Each run hears of itself alone."""
    planned = plan(
        """
        name: a
        inputs: {word: {}}
        steps:
          - {id: a, uses: nap, with: {seconds: 0.05, name: "{{ inputs.word }}"}}
          - {id: b, uses: plain, with: {how: "{{ inputs.word }}"}}
        outputs: {word: "{{ steps.b.output.how }}"}
        """
    )
    heard = {"one": [], "two": []}
    reports = await asyncio.gather(
        *(runtime.run(planned, {"word": word}, heard[word].append, run_id=word) for word in heard)
    )

    assert [report.outputs for report in reports] == [{"word": "one"}, {"word": "two"}]
    for word, events in heard.items():
        assert [event.message for event in events if isinstance(event, Logged)] == [f"{word} begins"]
        assert sum(isinstance(event, StepEnded) for event in events) == 2


async def test_a_run_id_is_taken_once(runtime, plan):
    """The same id again is refused and disturbs nothing."""
    planned = plan("name: a\nsteps: [{id: a, uses: nap, with: {seconds: 0.05}}]")
    first = asyncio.create_task(runtime.run(planned, {}, run_id="r"))
    await asyncio.sleep(0.01)
    with pytest.raises(JournalRefused):
        await runtime.run(planned, {}, run_id="r")

    assert (await first).state == "succeeded"


async def test_every_step_of_a_report_has_its_action_and_title(runtime, plan):
    """Steps of groups, loops, `on_error` and `finally` are named in the report, whatever their ids."""
    planned = plan(
        """
        name: a
        steps:
          - {id: on_error, steps: [{id: finally, uses: echo}]}
          - id: each
            for_each: [1]
            steps: [{id: x, uses: rogue, with: {how: exit}, on_error: {steps: [{id: z, uses: echo}]}}]
        finally: [{id: tidy, uses: echo}]
        """
    )
    report = await runtime.run(planned, {})

    assert {step.path: step.uses for step in report.steps} == {
        "/on_error": "group",
        "/on_error/finally": "echo",
        "/each": "group",
        "/each[0]/x": "rogue",
        "/each[0]/x/@on_error/z": "echo",
        "/@finally/tidy": "echo",
    }


async def test_an_artifact_goes_from_step_to_step(runtime, plan):
    """What one step keeps another reads by its reference; another run cannot."""
    planned = plan(
        """
        name: a
        steps:
          - {id: a, uses: store, with: {text: "hello ✓"}}
          - {id: b, uses: store, with: {artifact: "{{ steps.a.output.artifact }}"}}
        outputs: {text: "{{ steps.b.output.text }}", artifact: "{{ steps.a.output.artifact }}"}
        """
    )
    report = await runtime.run(planned, {})
    assert report.outputs["text"] == "hello ✓"
    planned = plan(f"name: b\nsteps: [{{id: a, uses: store, with: {{artifact: '{report.outputs['artifact']}'}}}}]\n")

    assert (await runtime.run(planned, {})).problem.code == "unknown_artifact"


async def test_an_observer_that_raises_disturbs_neither_run_nor_report(runtime, plan, caplog):
    """Not even by what an action logs."""

    def observer(event):
        raise ValueError(event)

    planned = plan("name: a\nsteps: [{id: a, uses: plain, with: {how: logs}}]")
    report = await runtime.run(planned, {}, observer)

    assert (report.state, len(report.steps)) == ("succeeded", 1)
    assert "observer_failed" in caplog.text


# ---- the end
async def test_closing_lets_go_of_the_runs_that_go_on(registry, tmp_path):
    """`close` lets runs rest at once, ready for whoever goes on with them; none begins after it."""
    runtime = Runtime(tmp_path, registry, environ={})
    path = tmp_path / "lab.yaml"
    path.write_text("name: a\nsteps: [{id: a, uses: nap, with: {seconds: 30}}]\nfinally: [{id: b, uses: echo}]\n")
    planned = runtime.compile(path)
    events = []
    runs = [asyncio.create_task(runtime.run(planned, {}, events.append)) for _ in range(3)]
    await until(lambda: sum(isinstance(event, AttemptStarted) for event in events) == 3)
    await runtime.close()

    assert [run.done() and run.result().state for run in runs] == ["ready"] * 3
    with pytest.raises(RuntimeError, match="closed"):
        await runtime.run(planned, {})


async def test_a_connections_file_that_breaks_shows_no_secret(registry, tmp_path):
    """Faults of the file name line and field, never a value."""
    path = tmp_path / "connections.yaml"
    for text in ("a: {type: account, token: canary-value-1}\n", "a: {token: canary-value-1}\n", "a: [canary-value-1\n"):
        path.write_text(text)
        path.chmod(0o644)
        with pytest.raises(Exception, match=r"connections\.yaml") as caught:
            Runtime(tmp_path, registry, connections_file=path, environ={})

        error = caught.value
        while error is not None:
            assert "canary-value" not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__


async def test_a_document_that_was_removed_is_kept_again(registry, tmp_path):
    """A plan that ran long ago runs again, though what it follows was purged with its last run."""
    async with Runtime(tmp_path, registry, environ={}) as runtime:
        path = tmp_path / "lab.yaml"
        path.write_text("name: a\nsteps: [{id: a, uses: echo}]\n")
        planned = runtime.compile(path)
        await runtime.run(planned, {}, run_id="r1")
        assert (await runtime.journal.purge(runtime.journal.now() + 60)).documents == 1

        assert (await runtime.run(planned, {}, run_id="r2")).state == "succeeded"


async def test_what_a_run_follows_is_what_it_began_with(registry, tmp_path):
    """A3: a run goes on with the document and the manifests that were there when it was accepted."""
    path = tmp_path / "lab.yaml"
    path.write_text("name: a\nsteps: [{id: a, uses: echo, with: {value: old}}]\n")
    async with Runtime(tmp_path, registry, environ={}) as first:
        run_id = await first.submit(first.compile(path), {})
    path.write_text("name: a\nsteps: [{id: a, uses: echo, with: {value: new}}]\n")
    async with Runtime(tmp_path, registry, environ={}) as second:
        found = await second.follow(run_id)
        report = await second.report(run_id)

    assert found.status.state == "succeeded"
    assert report.steps[0].output == {"value": "old"}


async def test_a_run_of_another_revision_is_left_to_others(registry, tmp_path, monkeypatch):
    """A3: a process claims only what it implements; the run stays ready, and whoever asks for it is told why."""
    path = tmp_path / "lab.yaml"
    path.write_text("name: a\nsteps: [{id: a, uses: echo}]\n")
    async with Runtime(tmp_path, registry, environ={}) as runtime:
        run_id = await runtime.submit(runtime.compile(path), {})
    monkeypatch.setattr("weft.expressions.REVISION", 2)
    async with Runtime(tmp_path, registry, environ={}) as other:
        await other.opened()
        await other.driver.advance(run_id)
        assert (await other.journal.status(run_id)).status.state == "ready"
        with pytest.raises(Diverged, match="expressions 1"):
            await other.follow(run_id)
