"""Webhooks on a server of the tests, and who posts to them."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
from premises import Served

from weft.journal.base import RunQuery
from weft.outcome import decode
from weft.redaction import Secret
from weft.webhooks.reporting import report_of
from weft.webhooks.styles import Style, sign

SECRETS = {
    "standard": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "github": "a-secret-of-github",
    "slack": "8f742231b10e8888abcd99yyyzzz85a5",
    "stripe": "whsec_of_stripe_1234567890",
}
WORKFLOW = """
name: {name}
enabled: true
inputs:
  n: {{type: integer, default: 0}}
on:
  webhook:
    - connection: {name}
      style: {style}
      {more}
      inputs: {{n: "{{{{ trigger.body.n | default(0) }}}}"}}
steps: [{steps}]
outputs: {{seen: "{{{{ trigger }}}}", doubled: "{{{{ inputs.n * 2 }}}}"}}
"""
STEP = "{id: a, uses: set_values, with: {values: {n: 1}}}"


class Hook:
    """A webhook of a workflow of its own, and who posts to it."""

    def __init__(self, served: Served, client: httpx.AsyncClient, name: str, style: Style, path: str) -> None:
        self.served, self.client, self.name, self.style, self.path = served, client, name, style, path
        self.secret = Secret(SECRETS[style])

    def headers(self, body: bytes, id_: str = "m1", *, at: float | None = None) -> dict[str, str]:
        signed = sign(self.style, self.secret, body, id_=id_, at=time.time() if at is None else at)
        return {"content-type": "application/json", **signed}

    async def post(self, body: Any, id_: str = "m1", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(self.path, content=content, headers={**self.headers(content, id_), **headers})

    async def runs(self) -> list[str]:
        listed = await (await self.served.house.runtime.opened()).runs(RunQuery(workflow=self.name, limit=500))
        return [each.row.id for each in listed]

    async def trigger(self, run_id: str) -> dict[str, Any]:
        return decode((await self.served.house.runtime.journal.status(run_id)).row.trigger)


async def hook(served: Served, style: Style = "standard", *, more: str = "", steps: str = STEP) -> Hook:
    served.write(style, WORKFLOW.format(name=style, style=style, more=more, steps=steps))
    report = await report_of(served.house.runtime, served.url, style)
    assert report.state == "ready"
    assert report.url is not None
    return Hook(served, await served.client(), style, style, report.url)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]
