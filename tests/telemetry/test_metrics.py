"""What is counted of runs, and that the page names every metric."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tapping import KEY, free_port, write
from test_log_lines import rows_of

from weft.errors import InvalidInputs
from weft.journal.memory import MemoryJournal
from weft.runtime import Runtime
from weft.telemetry.metrics import Metrics
from weft.testing.model_server import ModelServer, Ok, Status

ASK = """
steps:
  - id: ask
    uses: generate_chat_completion
    connection: openai
    with: {provider: openai, model: gpt-4o-mini, num_retries: 1, messages: [{role: user, content: "hello"}]}
"""


async def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the values by name and labels' values."""
    content, _ = await metrics.answer()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


async def test_attempts_tokens_and_runs_are_counted(asking: ModelServer, runtime: Runtime, tmp_path: Path) -> None:
    """A failed attempt counts under its kind; tokens count under provider, model and type; no secret is a label."""
    metrics = runtime.telemetry.metrics
    asking.script([Status(503), Ok("hello")])
    report = await runtime.run(runtime.compile(write(tmp_path, ASK)), {})
    kind = report.steps[0].attempts[0].kind or ""
    found = await samples(metrics)
    action = "generate_chat_completion"
    assert found["weft_attempts_total", (action, kind, "failed")] == 1
    assert found["weft_attempts_total", (action, "", "succeeded")] == 1
    assert found["weft_model_tokens_total", ("gpt-4o-mini", "openai", "input")] == 21
    assert found["weft_model_tokens_total", ("gpt-4o-mini", "openai", "output")] == 12
    assert found["weft_runs_ended_total", ("succeeded", "flow")] == 1
    assert found["weft_step_duration_seconds_count", ("succeeded", action)] == 1
    assert not any(KEY in "".join(labels) for _, labels in found)


async def test_what_others_did_is_not_counted_again(tmp_path: Path) -> None:
    """A run that rested and goes on elsewhere is counted there for what is new alone."""
    flow = """
steps:
  - {id: one, uses: set_values, with: {values: {a: 1}}}
  - {id: nap, wait: {for: 3s}}
  - {id: two, uses: set_values, with: {values: {a: 2}}}
"""
    async with Runtime.open(home=tmp_path / "home", in_memory_s=0.1) as first:
        before = first.telemetry.metrics
        run_id = await first.submit(first.compile(write(tmp_path, flow)), {})
        await first.driver.advance(run_id)
        assert (await samples(before))["weft_attempts_total", ("set_values", "", "succeeded")] == 1
        assert (await samples(before))["weft_runs", ("waiting",)] == 1
    async with Runtime.open(home=tmp_path / "home") as second:
        after = second.telemetry.metrics
        await second.follow(run_id)
        found = await samples(after)
    assert found["weft_attempts_total", ("set_values", "", "succeeded")] == 1
    assert 2.5 < found["weft_step_duration_seconds_sum", ("succeeded", "wait")] < 5


async def test_a_journal_that_is_away_is_a_metric() -> None:
    """The rest is told all the same."""
    journal = MemoryJournal()
    await journal.open()
    metrics = Metrics(journal)
    assert (await samples(metrics))["weft_journal_up", ()] == 1
    await journal.close()
    found = await samples(metrics)
    assert found["weft_journal_up", ()] == 0
    assert ("weft_runs", ("ready",)) not in found
    assert ("weft_build_info", ("0.1.0",)) in found


async def test_the_page_names_every_metric() -> None:
    """And none that there is not."""
    journal = MemoryJournal()
    await journal.open()
    content, _ = await Metrics(journal).answer()
    families = text_string_to_metric_families(content.decode())
    named = {
        each.name + ("_total" if each.type == "counter" else "") for each in families if each.name.startswith("weft_")
    }
    assert set(rows_of("Metrics")) == named
    await journal.close()


async def test_a_process_without_a_server_answers_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's counters can be asked for, too; an address that is none is refused with its remedy."""
    monkeypatch.setenv("WEFT_METRICS", f"127.0.0.1:{free_port()}")
    async with Runtime.open(home=tmp_path / "home") as runtime:
        runtime.telemetry.expose()
        url = f"http://{os.environ['WEFT_METRICS']}/metrics"
        answer = await asyncio.to_thread(lambda: httpx.get(url, trust_env=False))
        assert "weft_build_info" in answer.text
    monkeypatch.setenv("WEFT_METRICS", "nowhere")
    async with Runtime.open(home=tmp_path / "home") as runtime:
        with pytest.raises(InvalidInputs, match="WEFT_METRICS"):
            runtime.telemetry.expose()
