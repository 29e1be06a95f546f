"""Whatever an API document allows may be sent, and what comes back is what the document says: made by Schemathesis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from premises import Served
from schemathesis.checks import CHECKS, load_all_checks

from weft.access import SCOPES

load_all_checks()
WANTED = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]
EXAMPLES = 6
"""Of each operation; more find more, and take longer."""
STREAMS = {"/api/v1/events"}
"""Answers that do not end by themselves."""


@pytest.mark.timeout(180)
async def test_no_input_breaks_the_server(served: Served) -> None:
    """No request that the API's own document allows is answered with 5xx, or otherwise than the document says."""
    token = await served.token(*SCOPES)
    schema = schemathesis.openapi.from_dict(served.app.openapi())

    faults, asked, _ = await asyncio.to_thread(_fuzz, schema, served.url, token)

    assert not faults, "\n\n".join(faults)
    assert asked >= 30


def _fuzz(schema: Any, url: str, token: str) -> tuple[list[str], int, float]:
    faults, asked, began = [], 0, time.monotonic()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in STREAMS:
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            answer = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20)
            case.validate_response(answer, checks=WANTED)

        try:
            send()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  one after the other, so that all are told
            faults.append(f"{operation.label}: {error}")
        asked += 1
    return faults, asked, time.monotonic() - began
