"""A receiver of OpenTelemetry's protocol that is not ours, and a home whose runs are traced to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings
from tapping import KEY, Tap, free_port

from weft.runtime import Runtime
from weft.testing.model_server import ModelServer


@pytest.fixture
async def tap(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tap]:
    """The receiver; OpenTelemetry's variables name it."""
    port = free_port()
    settings = OtelTapHttpProtobufReceiverSettings(
        http_port=port,
        listen_on_all_interfaces=False,
        print_traces_as_ndjson=False,
        print_logs_as_ndjson=False,
        print_metrics_as_ndjson=False,
    )
    tapped = Tap(f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", tapped.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")

    async def gather(receiver: OtelTapHttpProtobufReceiver) -> None:
        async for span in receiver.stream_traces():
            tapped.spans.append(span)

    async with OtelTapHttpProtobufReceiver(settings) as receiver:
        gathering = asyncio.create_task(gather(receiver))
        yield tapped
        gathering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gathering


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch, model_server: ModelServer) -> ModelServer:
    """A provider that answers, known to Weft as `openai`."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.base_url)
    return model_server


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with Runtime.open(home=tmp_path / "home") as runtime:
        yield runtime
