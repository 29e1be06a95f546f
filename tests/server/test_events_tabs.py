"""Eight tabs of a real browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chromium import chromium
from premises import Served
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weft.server.routes.event_streams import PER_SESSION

TABS = 8
SCRIPT = """
const state = {mode: "stream", heard: [], last: null, ready: false};
window.state = state;
const take = (event, data) => { if (event === "run" && data.state === "succeeded") state.heard.push(data.run_id); };
const source = new EventSource("/api/v1/events?topics=runs");
const poll = async () => {
  const asked = new URLSearchParams({topics: "runs", ...(state.last && {after: state.last})});
  const told = await (await fetch("/api/v1/events/poll?" + asked)).json();
  for (const each of told.events) take(each.event, each.data);
  state.last = told.next;
  setTimeout(poll, told.again_in_s * 500);
};
source.addEventListener("ready", (event) => { state.ready = true; state.last = event.lastEventId; });
source.addEventListener("run", (event) => { state.last = event.lastEventId; take("run", JSON.parse(event.data)); });
source.addEventListener("superseded", (event) => {
  state.last = event.lastEventId; state.mode = "poll"; source.close(); poll();
});
"""


async def page(request: Request) -> Response:
    return Response('<!doctype html><title>tab</title><script src="/tab.js"></script>', media_type="text/html")


async def script(request: Request) -> Response:
    return Response(SCRIPT, media_type="text/javascript")


async def test_eight_tabs_starve_nobody(served: Served, tmp_path: Path) -> None:
    """With eight tabs open every one loads, hears of a run, and still gets answers to its requests at once.

    A browser has six connections to one host over HTTP/1.1. Streams that took all of them would let the seventh tab wait
    for ever, and every request of the others.
    """
    served.app.router.routes[:0] = [Route("/tab", page), Route("/tab.js", script)]
    session = await served.house.access.begin_session("somebody", "session", ["view"])
    cookie = {"name": served.house.settings.cookie, "value": session, "url": served.url}
    client = await served.client("view", "run")
    async with chromium(tmp_path / "profile") as browser:
        tabs = []
        for number in range(TABS):
            tab = await browser.tab()
            if not number:
                await tab.do("Network.setCookie", **cookie)
            await tab.do("Page.navigate", url=f"{served.url}/tab")
            tabs.append(tab)
            async with asyncio.timeout(15):
                while not await tab.ask("Boolean(window.state && window.state.ready)"):
                    await asyncio.sleep(0.05)
        modes = [await tab.ask("window.state.mode") for tab in tabs]
        assert modes == ["poll"] * (TABS - PER_SESSION) + ["stream"] * PER_SESSION
        run = (await client.post("/api/v1/runs", json={"workflow": "hello"})).raise_for_status().json()["run_id"]
        async with asyncio.timeout(15):
            for tab in tabs:
                while run not in await tab.ask("window.state.heard"):
                    await asyncio.sleep(0.1)
        for tab in tabs:
            took = await tab.ask(
                "(async () => { const at = performance.now(); const got = await fetch('/api/v1/session');"
                " await got.json(); return performance.now() - at; })()"
            )
            assert took < 3_000
        assert [(await tab.ask("window.state.heard")).count(run) for tab in tabs] == [1] * TABS
