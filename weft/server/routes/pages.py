"""What a browser sees: the reference of the API, until there is a canvas, and what its pages are dressed in."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from weft.errors import NotFound
from weft.server.deps import api, needs
from weft.server.pages import asset, page
from weft.server.reference import render

router = api("pages", prefix="")

ASSETS: Final = {"weft.css": "text/css; charset=utf-8", "weft.svg": "image/svg+xml"}

Sought = Annotated[str, Query(max_length=200)]


@router.get("/", include_in_schema=False, dependencies=[needs(None)])
async def show_home(request: Request, q: Sought = "") -> HTMLResponse:
    """Show the reference of the API."""
    return page("API", render(request.app.openapi(), q), wide=True)


@router.get("/api/docs", include_in_schema=False, dependencies=[needs(None)])
async def show_docs(request: Request, q: Sought = "") -> HTMLResponse:
    """Show the reference of the API."""
    return page("API", render(request.app.openapi(), q), wide=True)


@router.get("/api/openapi.json", include_in_schema=False, dependencies=[needs(None)])
async def show_openapi(request: Request) -> JSONResponse:
    """Return the API as OpenAPI 3.1."""
    document: dict[str, Any] = request.app.openapi()
    return JSONResponse(document)


@router.get("/assets/{name}", include_in_schema=False)
async def show_asset(name: Annotated[str, Path(max_length=100)]) -> Response:
    """Return a file that pages are dressed in."""
    if name not in ASSETS:
        raise NotFound("There is no such file.", code="unknown_path")
    return Response(asset(name), media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=3600"})
