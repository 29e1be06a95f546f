"""Where other programs post what starts runs, and the addresses of these places for those who set them up."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from weft.server.deps import HouseDep, Who, api, needs
from weft.server.house import House
from weft.server.problems import plain, request_id
from weft.webhooks import requests
from weft.webhooks.hooks import Hooks
from weft.webhooks.limits import Gatekeeper, Limits
from weft.webhooks.receiving import receive
from weft.webhooks.reporting import WebhookReport, reports, rotate
from weft.webhooks.requests import Headers, Refused
from weft.workflow import Duration

router = api("webhooks")
hooks = api("webhooks", prefix="")

Named = Annotated[str, Path(max_length=200)]


class Accepted(BaseModel):
    """The run that a message has started, now or when it came first."""

    run_id: str | None = Field(description="None: the workflow's limit leaves one more run out.")


@contextlib.asynccontextmanager
async def around(app: FastAPI, house: House) -> AsyncIterator[None]:
    """Count who posts how often, and know what was posted to, for as long as the server runs."""
    app.state.gatekeeper, app.state.hooks = Gatekeeper(Limits.of(os.environ)), Hooks(house.runtime)
    yield


@hooks.post(
    "/hooks/{path}",
    status_code=202,
    response_model=Accepted,
    responses={
        200: {"description": "The message came before; or, where the webhook is synchronous, the outputs of its run."},
        202: {"description": "The run is durable."},
    },
)
async def receive_webhook(path: Annotated[str, Path(max_length=200)], request: Request) -> Response:
    """Take a message: signed as the webhook's style says, and one run however often it comes."""
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    headers = Headers.of_bytes(request.headers.raw)
    try:
        gatekeeper.admit(path, request.client.host if request.client else "", headers, time.monotonic())
        body = await gatekeeper.whole(request.stream())
        taken = requests.Request(headers, tuple(request.query_params.multi_items()), body, time.time())
        answer = await receive(request.app.state.hooks, path, taken)
    except ClientDisconnect:  # half a message: nothing was started, and nobody is there to be told
        return Response(status_code=400)
    except Refused as refused:
        return _told(request, refused)
    return Response(answer.content, answer.status, answer.headers, media_type=answer.content_type)


def _told(request: Request, refused: Refused) -> Response:
    response = plain(refused.status, refused.problem.code, refused.problem.message, instance=request_id(request))
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = 'Signature realm="weft"'
    if refused.status == 413:
        response.headers["Connection"] = "close"  # what else comes of the body is not read
    if refused.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(refused.retry_after_s))
    if refused.run_id is not None:
        response.headers["Weft-Run"] = refused.run_id
    return response


class Rotation(BaseModel):
    """How a webhook is to get another address."""

    model_config = ConfigDict(extra="forbid")

    overlap: Duration | None = Field(default=None, description="For how long the old address is reached, too: `24h`.")


@router.get("/webhooks", dependencies=[needs("view")])
async def list_webhooks(
    house: HouseDep, who: Who, workflow: Annotated[str | None, Query(max_length=200)] = None
) -> list[WebhookReport]:
    """List the webhooks of all workflows, or of one; their addresses are for those who may edit."""
    found = await reports(house.runtime, house.settings.address, only=workflow)
    return found if who.may("edit") else [each.model_copy(update={"url": None}) for each in found]


@router.post("/webhooks/{workflow}/{name}/rotate", dependencies=[needs("edit")])
async def rotate_webhook(workflow: Named, name: Named, rotation: Rotation, house: HouseDep, who: Who) -> WebhookReport:
    """Give a webhook another address; the old one ends, at once unless it is said otherwise."""
    found = await rotate(house.runtime, house.settings.address, workflow, name, overlap=rotation.overlap)
    await house.audit.record(who, "webhook.rotated", f"{workflow}/{found.name}", {"overlap": rotation.overlap})
    return found


router.routes.extend(hooks.routes)
