"""Traces arrive at a receiver that is not ours: a span for each run, step and attempt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.export import SpanExportResult
from tapping import KEY, Tap, free_port, told, write

from weft.redaction import MASK
from weft.runtime import Runtime
from weft.telemetry.exporting import exporter_of
from weft.telemetry.identity import read_traceparent, span_id, trace_id
from weft.testing.model_server import ModelServer, Ok
from weft.testing.model_server import Status as Refused

ASK = """
steps:
  - id: ask
    uses: generate_chat_completion
    connection: openai
    with:
      provider: openai
      model: gpt-4o-mini
      temperature: 0.2
      max_tokens: 50
      num_retries: 2
      messages: [{role: user, content: "What is PROMPT-IN-QUESTION?"}]
"""
GREET = """
steps:
  - id: greet
    uses: set_values
    with: {values: {text: hello}}
"""


def ids(span: Span) -> tuple[int, int, int]:
    """Return the ids of a span's trace, of itself, and of the span around it."""
    return tuple(int.from_bytes(each) for each in (span.trace_id, span.span_id, span.parent_span_id))  # type: ignore[return-value]


async def test_a_run_its_step_and_its_attempt_are_spans_of_one_trace(
    tap: Tap, asking: ModelServer, runtime: Runtime, tmp_path: Path
) -> None:
    """The trace's id follows from the run's; the attempt has what the conventions for models ask for."""
    report = await runtime.run(runtime.compile(write(tmp_path, ASK)), {})
    assert report.state == "succeeded"
    spans = await tap.of(report.run_id, 3)

    run, step, attempt = spans["run flow"], spans["step ask"], spans["chat gpt-4o-mini"]
    trace = trace_id(report.run_id)
    assert ids(run) == (trace, span_id(report.run_id), 0)
    assert ids(step) == (trace, span_id(report.run_id, "/ask"), ids(run)[1])
    assert ids(attempt) == (trace, span_id(report.run_id, "/ask", 1), ids(step)[1])
    assert run.start_time_unix_nano <= step.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= step.end_time_unix_nano <= run.end_time_unix_nano + 2_000_000
    assert attempt.kind == Span.SPAN_KIND_CLIENT
    facts = told(attempt)
    assert {name: value for name, value in facts.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.id": facts["gen_ai.response.id"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 21,
        "gen_ai.usage.output_tokens": 12,
    }
    assert (facts["weft.workflow"], facts["weft.step.path"], facts["weft.attempt.number"]) == ("flow", "/ask", 1)
    assert facts["weft.attempt.repeated"] is False
    assert told(run)["weft.run.state"] == "succeeded"


async def test_questions_answers_and_secrets_are_in_no_span(
    tap: Tap, asking: ModelServer, runtime: Runtime, tmp_path: Path
) -> None:
    """Neither what a model is asked nor what it answers is told unasked, nor any secret, wherever it stands."""
    asking.script([Refused(400, json.dumps({"error": {"message": f"bad key {KEY}"}}))])
    leak = '  - {id: leak, uses: fail, with: {message: "the key is {{ inputs.key }}"}}\n'
    flow = "\ninputs: {key: {type: string}}" + ASK.replace("id: ask", "id: ask\n    on_error: continue") + leak
    report = await runtime.run(runtime.compile(write(tmp_path, flow)), {"key": KEY})
    spans = await tap.of(report.run_id, 5)
    everything = str(tap.spans)
    assert KEY not in everything
    assert "planted" not in everything
    assert "PROMPT-IN-QUESTION" not in everything
    assert spans["step leak"].status.code == Status.STATUS_CODE_ERROR


async def test_questions_and_answers_are_told_to_who_asks_for_them(
    tap: Tap, asking: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With OpenTelemetry's own variable for it, messages are told in the conventions' form; secrets still are not."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    asking.script([Ok(f"never say {KEY}")])
    async with Runtime.open(home=tmp_path / "home") as runtime:
        flow = "\ninputs: {more: {type: string}}" + ASK.replace(
            "PROMPT-IN-QUESTION?", "PROMPT-IN-QUESTION? {{ inputs.more }}"
        )
        report = await runtime.run(runtime.compile(write(tmp_path, flow)), {"more": KEY})
    facts = told((await tap.of(report.run_id, 3))["chat gpt-4o-mini"])
    [question] = json.loads(facts["gen_ai.input.messages"])
    assert question == {"role": "user", "parts": [{"type": "text", "content": f"What is PROMPT-IN-QUESTION? {MASK}"}]}
    [answer] = json.loads(facts["gen_ai.output.messages"])
    assert (answer["role"], answer["finish_reason"]) == ("assistant", "stop")
    assert answer["parts"][0]["content"].startswith("never say ")
    assert KEY not in str(tap.spans)


async def test_each_attempt_is_a_span_and_a_failed_one_says_why(
    tap: Tap, asking: ModelServer, runtime: Runtime, tmp_path: Path
) -> None:
    """A retry is a second attempt under the same step; the first has the kind of its failure and its status."""
    asking.script([Refused(503), Ok("at last")])
    report = await runtime.run(runtime.compile(write(tmp_path, ASK)), {})
    await tap.of(report.run_id, 4)
    first, second = sorted(
        (span for span in tap.spans if span.name.startswith("chat ")),
        key=lambda span: told(span)["weft.attempt.number"],
    )
    assert ids(first)[2] == ids(second)[2] == span_id(report.run_id, "/ask")
    assert (first.status.code, told(first)["weft.attempt.status"]) == (Status.STATUS_CODE_ERROR, 503)
    assert told(first)["error.type"] == report.steps[0].attempts[0].kind
    assert second.status.code == Status.STATUS_CODE_UNSET


async def test_a_run_that_goes_on_elsewhere_stays_one_trace(tap: Tap, tmp_path: Path) -> None:
    """Who goes on with a run that rested tells what is new alone, in the same trace, with the instants of the journal."""
    flow = GREET + "  - {id: nap, wait: {for: 3s}}\n  - {id: bye, uses: set_values, with: {values: {text: bye}}}\n"
    async with Runtime.open(home=tmp_path / "home", in_memory_s=0.1) as first:
        run_id = await first.submit(first.compile(write(tmp_path, flow)), {})
        await first.driver.advance(run_id)
        assert (await first.journal.status(run_id)).status.state == "waiting"
    async with Runtime.open(home=tmp_path / "home") as second:
        found = await second.follow(run_id)
    assert found.status.state == "succeeded"
    spans = await tap.of(run_id, 6)
    assert len(tap.spans) == len({span.span_id for span in tap.spans}) == 6, "no span is told twice"
    assert {ids(span)[0] for span in spans.values()} == {trace_id(run_id)}
    nap = spans["step nap"]
    assert (nap.end_time_unix_nano - nap.start_time_unix_nano) / 1e9 == pytest.approx(3, abs=0.9)


async def test_turns_of_a_loop_lie_in_the_loop(tap: Tap, runtime: Runtime, tmp_path: Path) -> None:
    """A step of a turn has the loop's span around it, a name without the turn's number, and the number as a fact."""
    flow = """
steps:
  - id: each
    for_each: [1, 2]
    steps:
      - {id: one, uses: set_values, with: {values: {text: "{{ item }}"}}}
"""
    report = await runtime.run(runtime.compile(write(tmp_path, flow)), {})
    await tap.of(report.run_id, 6)
    inner = [span for span in tap.spans if span.name == "step each/one"]
    assert [told(span)["weft.step.path"] for span in inner] == ["/each[0]/one", "/each[1]/one"]
    assert {ids(span)[2] for span in inner} == {span_id(report.run_id, "/each")}
    assert told(inner[0])["weft.step.uses"] == "set_values"


async def test_a_child_run_is_linked_to_the_step_that_started_it(tap: Tap, runtime: Runtime, tmp_path: Path) -> None:
    """It has a trace of its own."""
    write(tmp_path, GREET, "small")
    report = await runtime.run(runtime.compile(write(tmp_path, "steps: [{id: call, uses: workflow:small}]\n")), {})
    child = report.steps[0].child
    assert report.state == "succeeded"
    assert child is not None
    [link] = (await tap.of(child, 3))["run small"].links
    assert int.from_bytes(link.trace_id) == trace_id(report.run_id)
    assert int.from_bytes(link.span_id) == span_id(report.run_id, "/call")


async def test_a_request_that_names_its_trace_is_linked(tap: Tap, runtime: Runtime, tmp_path: Path) -> None:
    """What comes in as `traceparent` is a link of the run; what is none is left out."""
    planned = runtime.compile(write(tmp_path, GREET))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for given, count in ((parent, 1), (parent[:-1], 0)):
        run_id = await runtime.submit(planned, {}, trigger={"type": "webhook", "traceparent": given})
        await runtime.follow(run_id)
        links = (await tap.of(run_id, 3))["run flow"].links
        assert [link.trace_id.hex() for link in links] == ["0af7651916cd43dd8448eb211c80319c"] * count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    """As W3C Trace Context §3.2 says."""
    assert read_traceparent(text) is None
    assert read_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more") is not None


async def test_a_dead_receiver_costs_a_run_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Runs go on as without it; that it is dead is told once, and the end of the process waits for a bounded time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    runtime = Runtime.open(home=tmp_path / "home")
    planned = runtime.compile(write(tmp_path, GREET))
    await runtime.run(planned, {})
    began = time.monotonic()
    for _ in range(20):
        assert (await runtime.run(planned, {})).state == "succeeded"
    assert time.monotonic() - began < 5
    began = time.monotonic()
    await runtime.close()
    assert time.monotonic() - began < 4
    async with asyncio.timeout(20):
        while "spans_not_taken" not in caplog.text:  # the end did not wait for it
            await asyncio.sleep(0.05)
    told_ = [record.getMessage() for record in caplog.records if record.name.startswith(("weft.telemetry", "opentele"))]
    assert [text.rpartition(":")[0] for text in told_[:1]] == ["spans_not_taken http://127.0.0.1"]
    assert len(told_) == 1, told_


def test_an_answer_without_an_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a receiver answers the first bytes are read, and the rest is left to it."""
    sent = 0

    def answer(listening: socket.socket) -> None:
        nonlocal sent
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while sent < 200_000_000:
                sent += connection.send(b"x" * 100_000)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = threading.Thread(target=answer, args=(listening,), daemon=True)
        answering.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert exporter_of({}).export([]) is SpanExportResult.SUCCESS
        answering.join(20)
    assert 0 < sent < 50_000_000


async def test_a_missing_package_is_told_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Without the extra `otel`, runs go on, and what to install is said."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    for name in [
        name for name in sys.modules if name.startswith(("opentelemetry", "weft.telemetry.tr", "weft.telemetry.ex"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    async with Runtime.open(home=tmp_path / "home") as runtime:
        planned = runtime.compile(write(tmp_path, GREET))
        for _ in range(2):
            assert (await runtime.run(planned, {})).state == "succeeded"
        assert runtime.telemetry.problem is not None
        assert runtime.telemetry.problem.remedy == "Install it: pip install 'weft[otel]'"
    assert [record.getMessage().split()[0] for record in caplog.records if record.levelno >= logging.WARNING] == [
        "spans_not_possible"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_SAMPLER", "always_off")],
)
async def test_what_opentelemetry_switches_off_is_off(
    tap: Tap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    """Its variables mean here what they mean everywhere."""
    monkeypatch.setenv(name, value)
    async with Runtime.open(home=tmp_path / "home") as runtime:
        await runtime.run(runtime.compile(write(tmp_path, GREET)), {})
    assert tap.spans == []
