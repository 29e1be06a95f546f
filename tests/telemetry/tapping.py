"""What has arrived at a receiver of OpenTelemetry's protocol that is not ours."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

KEY = "sk-planted-secret-0123456789"


@dataclass
class Tap:
    """What has arrived at the receiver."""

    url: str
    spans: list[Span] = field(default_factory=list)

    async def of(self, run_id: str, count: int = 1) -> dict[str, Span]:
        """Return the spans of a run by name, as soon as its own is among so many."""
        async with asyncio.timeout(10):
            while True:
                found = [span for span in self.spans if told(span).get("weft.run.id") == run_id]
                if len(found) >= count and any(span.name.startswith("run ") for span in found):
                    return {span.name: span for span in found}
                await asyncio.sleep(0.02)


def told(span: Span) -> dict[str, Any]:
    """Return the attributes of a span as Python's values."""
    return {each.key: _value(each.value) for each in span.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def write(place: Path, text: str, name: str = "flow") -> Path:
    """Write a workflow and return its file."""
    file = place / f"{name}.yaml"
    file.write_text(f"name: {name}\n{text}", encoding="utf-8")
    return file
