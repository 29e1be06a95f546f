"""Canaries in a connection, an action that lets them out in every form and at every end, and every sink searched.

The same search with one filter taken away finds them: what says that there is nothing would say that there is
something.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import sys
from pathlib import Path

import pytest

from weft import packs
from weft.cli import app, logs
from weft.cli.lines import PlainLines
from weft.cli.live import LiveDisplay
from weft.cli.problems import tell
from weft.cli.state import State
from weft.cli.terminal import to_json
from weft.errors import WeftError
from weft.redaction import SHORTEST_SEARCHED, Redactor, Secret
from weft.runtime import Runtime

SPILL = Path(__file__).parent / "spill"
CANARIES = [
    json.loads(line)["value"]
    for line in (Path(__file__).parent / "corpora/secrets/canaries.jsonl").read_text("utf-8").splitlines()
]
LONG = [value for value in CANARIES if len(value) >= SHORTEST_SEARCHED]
WAYS = [
    "output",
    "key",
    "bad output",
    "error",
    "details",
    "crash",
    "cause",
    "group",
    "refused",
    "log",
    "library",
    "emit",
    "pieces",
    "slow",
    "exit",
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def registry():
    return packs.discover([SPILL])


@pytest.fixture(scope="module")
def forms(registry):
    """The action's own spellings: name → function."""
    return sys.modules[registry.action("spill").load().function.__module__].FORMS


ENVIRON = {"WEFT_KEY": base64.b64encode(bytes(range(32))).decode()}


def workflow(ways, forms):
    """A step for each way and form, then a mail and outputs that hold all that is known of them."""
    steps = [(f"s{number}", way, form) for number, (way, form) in enumerate((w, f) for w in ways for f in forms)]
    lines = [
        f"  - {{id: {id_}, uses: spill, connection: door, needs: [], on_error: continue, "
        f"with: {{way: {way}, form: {form}}}{', timeout: 50ms' if way == 'slow' else ''}}}"
        for id_, way, form in steps
    ]
    known = "\n".join(f"      {{{{ steps.{id_} }}}}" for id_, _, _ in steps)
    return (
        "name: spilt\nsteps:\n" + "\n".join(lines) + f"\n  - id: mail\n    uses: send_email\n    connection: outbox\n"
        f"    needs: [{', '.join(id_ for id_, _, _ in steps)}]\n"
        f"    with:\n      to: [a@example.com]\n      subject: 's {{{{ steps.s0.state }}}}'\n      body: |\n        Hello\n"
        + known.replace("      ", "        ")
        + "\noutputs:\n"
        + "\n".join(f"  {id_}: '{{{{ steps.{id_} }}}}'" for id_, _, _ in steps)
    )


async def sinks(registry, home, canary, ways, forms):
    """Run the workflow and return everything that it leaves behind or shows, by the name of the sink."""
    state = State(home=home)
    log = logs.start(state)
    streams = {"terminal": Terminal(), "lines": io.StringIO(), "errors": io.StringIO()}
    events = []
    path = home.parent / "spilt.yaml"
    path.write_text(workflow(ways, forms), encoding="utf-8")
    try:
        async with Runtime(home, registry, environ=ENVIRON) as runtime:
            state.redactor = runtime.redactor
            runtime.store.write("door", "spilt", {}, {"token": Secret(canary)})
            live, plain = LiveDisplay(streams["terminal"], "t"), PlainLines(streams["lines"], "t")

            def observe(event):
                events.append(event)
                live(event)
                plain(event)

            with live, plain:
                report = await runtime.run(runtime.compile(path), {}, observe, run_id="r1", watched=True)
            records = (await runtime.journal.load("r1")).records
        problems = [step.problem for step in live.view.steps if step.problem is not None]
        tell(problems, state, streams["errors"])
    finally:
        logging.getLogger().removeHandler(log)
        logging.captureWarnings(False)
        log.close()
    assert report.state == "succeeded", report.problem
    mails = [file.read_text("utf-8", "replace") for file in (home / "outbox").rglob("*") if file.is_file()]
    return {
        **{name: stream.getvalue() for name, stream in streams.items()},
        "report": to_json(report.model_dump(mode="json")) + repr(report),
        "outputs": json.dumps(report.outputs, ensure_ascii=False),
        "journal": "\n".join(f"{record!r}\n{record.payload}" for record in records),
        "events": "\n".join(map(repr, events)) + "".join(getattr(event, "text", "") for event in events),
        "log": log.file.read_text("utf-8") if log.file.exists() else "",
        "mail": "\n".join(mails).replace("=\n", ""),
        "files": "\n".join(
            f.read_bytes().decode("latin-1") for f in home.rglob("*") if f.is_file() and f.suffix.startswith(".db")
        ),
    }


def leaks(found, canary, forms):
    """Return the sinks that hold the canary in some spelling, which may have been put into JSON or a `repr` since."""
    spelled = {form(canary) for form in forms.values()}
    spelled = {text[2:-4] if text[-1:] == "=" else text for text in spelled}  # ends of base64 hold what stands around
    for _ in range(2):
        quoted = (json.dumps, lambda text: json.dumps(text, ensure_ascii=False), repr)
        spelled |= {quote(text)[1:-1] for text in spelled for quote in quoted}
    return {
        name
        for name, content in found.items()
        if any(text in content or text.replace("\n", " ") in content for text in spelled if len(text) > 5)
    }


@pytest.mark.parametrize("canary", LONG, ids=lambda value: value[:8])
async def test_no_canary_is_in_any_sink(registry, forms, tmp_path, canary):
    """Each form on each way out, success and every kind of end: nothing shows a canary, and every sink has content."""
    found = await sinks(registry, tmp_path / "home", canary, WAYS, forms)

    assert leaks(found, canary, forms) == set()
    assert [name for name, content in found.items() if not content] == []


async def test_a_planted_leak_is_found_in_every_sink(registry, forms, tmp_path, monkeypatch):
    """Without masking the same search finds the canary wherever it can come to."""
    monkeypatch.setattr(Redactor, "text", lambda self, text: text)
    monkeypatch.setattr("weft.cli.logs.PATTERNS", type("Nothing", (), {"sub": lambda self, mask, text: text})())
    monkeypatch.setattr("weft.cli.problems.PATTERNS", type("Nothing", (), {"sub": lambda self, mask, text: text})())
    found = await sinks(registry, tmp_path / "home", LONG[4], WAYS, ["raw"])

    assert leaks(found, LONG[4], forms) == found.keys()


@pytest.mark.parametrize("form", ["raw", "json", "url", "markup", "hex", "base64-1", "base64-url-2", "repr-bytes"])
async def test_a_form_that_is_not_searched_for_is_found(registry, forms, tmp_path, monkeypatch, form):
    """A hole in the list of forms is one that the test sees."""
    canary = next(value for value in LONG if value.startswith("p@ss"))
    spelled = forms[form](canary)
    text = Redactor.text
    monkeypatch.setattr(Redactor, "text", lambda self, given: given if spelled[4:-6] in given else text(self, given))
    found = await sinks(registry, tmp_path / "home", canary, ["output"], [form])

    assert {"report", "journal", "outputs"} <= leaks(found, canary, forms)


async def test_a_run_that_is_stopped_shows_no_canary(registry, tmp_path):
    """A cancel while a secret is half told, and an error that ends the command, hold none."""
    canary = LONG[4]
    async with Runtime(tmp_path / "home", registry, environ=ENVIRON) as runtime:
        runtime.store.write("door", "spilt", {}, {"token": Secret(canary)})
        path = tmp_path / "spilt.yaml"
        path.write_text("name: s\nsteps: [{id: a, uses: spill, connection: door, with: {way: slow, form: raw}}]")
        events = []

        def observe(event):
            events.append(event)
            if getattr(event, "text", "") and not cancels:
                cancels.append(asyncio.ensure_future(twice()))

        async def twice():
            await runtime.cancel("r1")
            await runtime.cancel("r1")

        cancels = []
        report = await asyncio.wait_for(runtime.run(runtime.compile(path), {}, observe, run_id="r1", watched=True), 10)
        records = (await runtime.journal.load("r1")).records

    assert report.state == "cancelled"
    assert any(getattr(event, "text", "") for event in events)
    assert canary not in report.model_dump_json() + repr(events) + repr(records)


async def test_short_secrets_are_masked_where_the_connection_is_shown(registry, tmp_path):
    """Too short to be searched for, one is hidden by its field; that it is so short is warned of when it is given."""
    async with Runtime(tmp_path / "home", registry, environ=ENVIRON) as runtime:
        runtime.store.write("door", "spilt", {}, {"token": Secret("k7")})
        opened = await runtime.connections.get("door", "spilt")

    assert "k7" not in repr(opened) + f"{opened.values}"
    assert runtime.redactor.text("a k7 b") == "a k7 b"


def test_an_error_at_the_border_of_the_command_line_is_masked(tmp_path):
    """What ends a command is told and logged without what the redactor knows."""
    canary, state = LONG[4], State(home=tmp_path)
    state.redactor.add(Secret(canary))
    stream = io.StringIO()
    tell(WeftError(f"said {canary}", remedy=canary).problems, state, stream)
    app._fault(KeyError(canary), state)

    written = stream.getvalue() + (tmp_path / "logs" / "weft.log").read_text()
    assert "KeyError" in written
    assert canary not in written
