"""Whether this process lives, whether it can do its work, and its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import FastAPI, Header, Request, Response
from pydantic import BaseModel, Field

from weft import __version__
from weft.access import Identity
from weft.server.deps import HouseDep, MaybeWho, api, needs
from weft.server.house import House
from weft.telemetry.requests import Counted
from weft.types import JsonObject
from weft.upkeep.readiness import Part, Probe

router = api("health", prefix="")


class HealthReport(BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"
    version: str | None = Field(default=None, description="Of Weft; told to whoever may view.")


class PartReport(BaseModel):
    """One thing that the server stands on."""

    name: Literal["journal", "state", "workers", "queue", "schedules", "disk"]
    status: Literal["ok", "degraded", "down"]
    message: str
    facts: JsonObject


class ReadyReport(BaseModel):
    """Whether the server can do its work."""

    status: Literal["ok", "degraded", "down"] = Field(
        description="down: it cannot accept runs. degraded: it can, and somebody should look."
    )
    parts: list[PartReport] | None = Field(default=None, description="Told to whoever may view.")


@contextlib.asynccontextmanager
async def around(app: FastAPI, house: House) -> AsyncIterator[None]:
    """Count from the first request on, and have something that asks what the server stands on."""
    metrics = house.runtime.telemetry.metrics
    app.state.probe = Probe(house.runtime)
    metrics.listening(lambda: getattr(house.hub, "listeners", 0))
    if app.middleware_stack is not None:
        app.middleware_stack = Counted(app.middleware_stack, metrics)
    yield


@router.get("/health", response_model_exclude_none=True)
async def show_health(who: MaybeWho) -> HealthReport:
    """Tell that the process lives; it looks at nothing else, so that nobody restarts it for what a restart cannot mend."""
    return HealthReport(version=__version__ if _may_view(who) else None)


@router.get("/ready", response_model_exclude_none=True, responses={503: {"model": ReadyReport}})
async def show_readiness(request: Request, response: Response, who: MaybeWho) -> ReadyReport:
    """Tell whether runs can be accepted; status 503 when they cannot. The parts are told to whoever may view."""
    probe: Probe = request.app.state.probe
    found = await probe.readiness()
    if found.grade == "down":
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    parts = [_shown(part) for part in found.parts] if _may_view(who) else None
    return ReadyReport(status=found.grade, parts=parts)


@router.get("/metrics", dependencies=[needs("view")], response_class=Response)
async def show_metrics(house: HouseDep, accept: Annotated[str, Header(max_length=1_000)] = "") -> Response:
    """Return the metrics of this process, and what the journal knows of all of them, for Prometheus."""
    content, form = await house.runtime.telemetry.metrics.answer(accept)
    return Response(content, media_type=None, headers={"Content-Type": form})


def _may_view(who: Identity | None) -> bool:
    return who is not None and who.may("view")


def _shown(part: Part) -> PartReport:
    return PartReport.model_validate(
        {"name": part.name, "status": part.grade, "message": part.message, "facts": part.facts}
    )
