"""Canaries in a connection, an action that lets them out every way it can, and every sink searched."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from weft.engine.events import Emitted
from weft.redaction import SHORTEST_SEARCHED, Redactor, forms

CANARIES = [
    json.loads(line)["value"]
    for line in (Path(__file__).parent.parent / "corpora/secrets/canaries.jsonl").read_text("utf-8").splitlines()
]
WAYS_OUT = ["output", "key", "error", "crash", "log", "emit", "base64", "details", "pieces", "nowhere"]
SEARCHED = [value for value in CANARIES if len(value) >= SHORTEST_SEARCHED]


async def sinks(lab, way, canary):
    """Everything that a run leaves behind or shows, as one text."""
    lab.environ["LABX_TOKEN"] = canary
    report = await lab.run(
        f"""
        name: leaky
        steps:
          - {{id: a, uses: leak, connection: labx, with: {{where: {way}}}, on_error: continue}}
          - {{id: b, uses: echo, with: {{value: "{{{{ steps.a }}}}"}}}}
        """
    )
    assert report.state == "succeeded", report.problem
    records = await lab.records("run-1")
    events = [repr(event) for event in lab.events]
    events.append("".join(event.text for event in lab.events if isinstance(event, Emitted)))
    return "\n".join([report.model_dump_json(), repr(report), *(record.payload for record in records), *events])


def found(text, canary):
    return sorted(form for form in forms(canary) if form in text)


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("canary", SEARCHED, ids=lambda value: value[:8])
async def test_no_canary_reaches_a_sink(lab, way, canary):
    """Reports, records, events and later steps hold no form of a connection's secret."""
    assert found(await sinks(lab, way, canary), canary) == []


@pytest.mark.parametrize("way", ["output", "error", "emit", "pieces", "base64"])
async def test_the_search_sees_a_planted_leak(lab, way, monkeypatch):
    """Without the redactor the same search finds the canary: the test above can fail."""
    monkeypatch.setattr(Redactor, "text", lambda self, text: text)

    assert found(await sinks(lab, way, SEARCHED[0]), SEARCHED[0])


async def test_a_short_secret_is_never_handed_out_as_text(lab):
    """Too short to be searched for, it is still a mask wherever the connection itself is printed."""
    text = await sinks(lab, "nowhere", "k7")

    assert "'token': ••••••" in text
    assert '"k7"' not in text


async def test_a_connection_is_no_name_in_a_scope(lab):
    """No expression can reach a connection."""
    with pytest.raises(Exception, match="connections"):
        lab.plan("name: x\nsteps: [{id: a, uses: echo, with: {value: '{{ connections.labx.token }}'}}]")


@pytest.mark.parametrize("way", ["crash", "log"])
async def test_the_log_holds_no_canary(lab, caplog, way):
    """What is logged is clean before any handler sees it, tracebacks and facts included."""
    caplog.set_level(logging.DEBUG)
    await sinks(lab, way, SEARCHED[0])

    written = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "KeyError" in written or "asked with" in written
    assert found(written, SEARCHED[0]) == []
