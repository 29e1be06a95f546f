from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from premises import Served


async def test_providers(served: Served) -> None:
    """Providers are told as the command line tells them, and each with what its connections need."""
    client = await served.client("view")

    listed = (await client.get("/api/v1/providers")).raise_for_status().json()
    azure = (await client.get("/api/v1/providers/azure")).raise_for_status().json()
    capable = (await client.get("/api/v1/providers", params={"supports": ["audio_output"]})).json()

    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "weft", "models", "--json"], capture_output=True, check=True
    )
    assert listed == json.loads(told.stdout)
    assert azure["required"] == ["api_base", "api_key"] or "api_base" in azure["required"]
    assert "tenant_id" in {field["name"] for field in azure["fields"]}
    assert 0 < len(capable) < len(listed)


async def test_models(served: Served) -> None:
    """Models are searched and paged, each once, in order."""
    client = await served.client("view")
    wanted = {"provider": "openai", "find": "mini", "supports": "tools", "limit": "5"}
    names, cursor = [], None
    while True:
        page = await client.get("/api/v1/models", params=wanted | ({"cursor": cursor} if cursor else {}))
        body = page.raise_for_status().json()
        names += [each["name"] for each in body["items"]]
        assert all("tools" in each["supports"] for each in body["items"])
        cursor = body["next"]
        if cursor is None:
            break

    assert len(names) > 5
    assert names == sorted(set(names))
    unknown = await client.get("/api/v1/models", params={"supports": "flying"})
    other = await client.get("/api/v1/models", params={"cursor": "abc"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_capability")
    assert (other.status_code, other.json()["code"]) == (422, "bad_cursor")


async def test_explain(served: Served) -> None:
    """Why a model does not take a parameter is told, what a connection does about it, and which value does not fit."""
    served.house.runtime.store.write(
        "lax", "model_provider", {"provider": "openai", "unsupported_parameters": "drop"}, {}
    )
    client = await served.client("view")
    asked = {"provider": "openai", "model": "o3-mini", "given": {"temperature": 0.2, "seed": 3}}

    strict = (await client.post("/api/v1/models/explain", json=asked)).raise_for_status().json()
    lax = (await client.post("/api/v1/models/explain", json={**asked, "connection": "lax"})).json()
    near = (await client.post("/api/v1/models/explain", json={"provider": "openai", "model": "gpt-4o-mni"})).json()

    told = {each["name"]: each for each in strict["parameters"]}
    assert len(told) == 18
    assert (told["temperature"]["state"], told["temperature"]["then"]) != ("taken", "sent")
    assert [each["parameter"] for each in strict["unfit"]] == ["temperature"]
    assert {each["name"]: each["then"] for each in lax["parameters"]}["temperature"] == "dropped"
    assert (near["model"], near["near"][0]) == (None, "gpt-4o-mini")


async def test_estimate(served: Served) -> None:
    """What an answer costs at most is told, or why nobody knows."""
    client = await served.client("view")
    tokens = {"prompt_tokens": 1_000_000, "completion_tokens": 0}

    known = await client.post("/api/v1/models/estimate", json={"provider": "openai", "model": "gpt-4o-mini", **tokens})
    unknown = await client.post("/api/v1/models/estimate", json={"provider": "openai", "model": "x", **tokens})

    prices = served.house.runtime.catalogue.model("openai", "gpt-4o-mini").prices  # type: ignore[union-attr]
    assert known.raise_for_status().json() == {"cost": prices.input, "currency": "USD", "why": ""}  # type: ignore[union-attr]
    assert (unknown.json()["cost"], bool(unknown.json()["why"])) == (None, True)


async def test_options(served: Served) -> None:
    """A field of a form gets its values from the source that its manifest names, narrowed by another field."""
    client = await served.client("view")
    path = "/api/v1/actions/generate_chat_completion/options"

    providers = (await client.get(f"{path}/provider", params={"find": "anthropic"})).raise_for_status().json()
    models = (await client.get(f"{path}/model", params={"by": "anthropic", "find": "sonnet", "limit": 1})).json()
    more = (await client.get(f"{path}/model", params={"by": "anthropic", "limit": 1, "cursor": models["next"]})).json()
    fixed = (await client.get("/api/v1/actions/send_email/options/format")).raise_for_status().json()
    unknown = await client.get(f"{path}/modle")

    assert providers["items"][0]["value"] == "anthropic"
    assert "sonnet" in models["items"][0]["value"]
    assert len(more["items"]) == 1
    assert fixed["closed"] is True
    assert len(fixed["items"]) > 1
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_parameter")
