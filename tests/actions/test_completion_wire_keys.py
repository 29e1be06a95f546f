"""Keys, addresses and accounts on the wire: each provider's server sees its own connection's, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from servers.steps import Steps, plain_environment

from weft.engine.report import StepReport
from weft.registry import Registry
from weft.testing.model_server import Answer, Echo, ModelServer, Request, Status

PROVIDERS = (
    "openai",
    "anthropic",
    "gemini",
    "azure",
    "hosted_vllm",
    "groq",
    "mistral",
    "openrouter",
    "deepseek",
    "xai",
    "together_ai",
    "fireworks_ai",
    "ollama_chat",
)
TESTS = Path(__file__).parent.parent
FOREIGN = "ENVCANARY"  #: begins whatever the environment holds

VARIABLES = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "AZURE_AD_TOKEN",
    "AZURE_API_KEY",
    "AZURE_API_VERSION",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_OPENAI_API_KEY",
    "AZURE_TENANT_ID",
    "AZURE_USERNAME",
    "AZURE_PASSWORD",
    "COHERE_API_KEY",
    "CO_API_KEY",
    "CUSTOM_API_KEY",
    "DEEPSEEK_API_KEY",
    "FIREWORKSAI_API_KEY",
    "FIREWORKS_AI_API_KEY",
    "FIREWORKS_AI_TOKEN",
    "FIREWORKS_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "HOSTED_VLLM_API_KEY",
    "LITELLM_API_KEY",
    "LITELLM_PROXY_API_KEY",
    "MISTRAL_API_KEY",
    "MISTRAL_AZURE_API_KEY",
    "OLLAMA_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_API_KEY",
    "OPENAI_API_VERSION",
    "OPENAI_LIKE_API_KEY",
    "OPENAI_ORGANIZATION",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENROUTER_API_KEY",
    "OR_API_KEY",
    "OR_APP_NAME",
    "OR_SITE_URL",
    "TOGETHERAI_API_KEY",
    "TOGETHER_AI_API_KEY",
    "TOGETHER_AI_TOKEN",
    "TOGETHER_API_KEY",
    "VLLM_API_KEY",
    "XAI_API_KEY",
]
ADDRESSES = [
    "ANTHROPIC_API_BASE",
    "ANTHROPIC_BASE_URL",
    "AZURE_API_BASE",
    "AZURE_OPENAI_ENDPOINT",
    "DEEPSEEK_API_BASE",
    "FIREWORKS_API_BASE",
    "FIREWORKS_AI_API_BASE",
    "GEMINI_API_BASE",
    "GROQ_API_BASE",
    "HOSTED_VLLM_API_BASE",
    "LITELLM_PROXY_API_BASE",
    "MISTRAL_API_BASE",
    "MISTRAL_BASE_URL",
    "OLLAMA_API_BASE",
    "OLLAMA_HOST",
    "OPENAI_API_BASE",
    "OPENAI_BASE_URL",
    "OPENAI_LIKE_API_BASE",
    "OPENROUTER_API_BASE",
    "OR_API_BASE",
    "TOGETHER_AI_API_BASE",
    "XAI_API_BASE",
]


def environment(trap: ModelServer) -> dict[str, str]:
    """Variables with which LiteLLM and the makers' libraries would find keys and addresses of their own."""
    keys = {name: f"{FOREIGN}-{name.lower()}" for name in VARIABLES}
    return {**keys, **dict.fromkeys(ADDRESSES, trap.base_url)}


class World:
    """A server for each provider and one that nobody may ask."""

    def __init__(self, servers: Mapping[str, ModelServer], trap: ModelServer) -> None:
        self.servers = servers
        self.trap = trap

    def key(self, provider: str) -> str:
        return f"sk-{provider.replace('_', '-')}-CANARY-0123456789"

    @property
    def connections(self) -> dict[str, dict[str, Any]]:
        made = {
            f"my-{name.replace('_', '-')}": server.connection(name, self.key(name))
            for name, server in self.servers.items()
        }
        made["my-openai"]["organization"] = "org-openai-CANARY"
        made["my-azure"]["api_version"] = "2024-02-15-CANARY"
        return made

    @property
    def names(self) -> dict[str, str]:
        return {provider: f"my-{provider.replace('_', '-')}" for provider in self.servers}

    def script(self, answer: Answer) -> None:
        for server in self.servers.values():
            server.script(answer)

    def foreign(self, provider: str) -> set[str]:
        """What the server of a provider must not see."""
        others = set(self.servers) - {provider}
        found = {self.key(other) for other in others} | {f":{self.servers[other].port}" for other in others}
        found |= {f"my-{other}" for other in others} | {FOREIGN, f":{self.trap.port}"}
        found |= {"org-openai-CANARY"} if provider != "openai" else set()
        return found | ({"2024-02-15-CANARY", "api-version"} if provider != "azure" else set())

    def check(self, asked: Mapping[str, int]) -> None:
        """Look at every request that was made, as it stood on the wire."""
        assert {name: len(server.requests) for name, server in self.servers.items()} == dict(asked)
        assert self.trap.requests == []
        for provider, server in self.servers.items():
            for request in server.requests:
                text = wire(request)
                assert self.key(provider) in text
                assert sorted(each for each in self.foreign(provider) if each in text) == []
                if provider == "openai":
                    assert request.headers["openai-organization"] == "org-openai-CANARY"
                if provider == "azure":
                    assert request.query["api-version"] == "2024-02-15-CANARY"


def wire(request: Request) -> str:
    return json.dumps([request.method, request.path, request.query, request.headers, request.body.decode()])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        servers = {provider: await stack.enter_async_context(ModelServer()) for provider in PROVIDERS}
        yield World(servers, await stack.enter_async_context(ModelServer()))


def step(order: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of a step that asks these providers in turn."""
    first, *rest = order
    return {"provider": first, "model": "m", "fallbacks": [{"*": [f"{provider}/m" for provider in rest]}]}


async def test_no_key_of_one_provider_reaches_another(
    core_registry: Registry, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is first in the chain: each server sees its own key, address, organization and version alone."""
    for name, value in environment(world.trap).items():
        monkeypatch.setenv(name, value)
    world.script(Status(503))
    async with Steps(tmp_path, core_registry, world.connections) as steps:
        for turn in range(len(PROVIDERS)):
            order = PROVIDERS[turn:] + PROVIDERS[:turn]
            report = await steps.run(step(order), connections=world.names, watched=bool(turn % 2))
            assert [attempt.kind for attempt in report.attempts] == ["overloaded"] * len(PROVIDERS)
            assert [attempt.variant for attempt in report.attempts] == [f"{provider}/m" for provider in order]
            assert "CANARY" not in report.model_dump_json()

    world.check(dict.fromkeys(PROVIDERS, len(PROVIDERS)))


CHILD = """
import asyncio, json, sys
from pathlib import Path
from servers.steps import Steps
from weft import packs

async def main(directory, connections, names, given):
    async with Steps(directory, packs.discover(), connections) as steps:
        report = await steps.run(given, connections=names)
        print(json.dumps([attempt.kind for attempt in report.attempts]))

directory, *rest = json.load(sys.stdin)
asyncio.run(main(Path(directory), *rest))
"""


async def test_an_environment_that_was_there_first(world: World, tmp_path: Path) -> None:
    """Variables that are set before LiteLLM is imported make no difference either."""
    world.script(Status(503))
    path = os.pathsep.join([str(TESTS), *sys.path])
    environ = {**plain_environment(), **environment(world.trap), "PYTHONPATH": path}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, env=environ, cwd=tmp_path, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    told = [str(tmp_path), world.connections, world.names, step(PROVIDERS)]
    out, err = await child.communicate(json.dumps(told).encode())

    assert child.returncode == 0, err.decode()[-2000:]
    assert json.loads(out) == ["overloaded"] * len(PROVIDERS)
    assert FOREIGN not in (out + err).decode()
    world.check(dict.fromkeys(PROVIDERS, 1))


async def test_an_address_of_the_step_is_not_inherited(
    core_registry: Registry, world: World, model_server: ModelServer, tmp_path: Path
) -> None:
    """API Base and API Version are the first model's and those of its own provider's fallbacks."""
    world.script(Status(503))
    model_server.script(Status(503))
    connections = world.connections
    connections["my-azure"]["allowed_hosts"] = [f"127.0.0.1:{model_server.port}"]
    given = {
        "provider": "azure",
        "model": "m",
        "api_base": model_server.root,
        "api_version": "2099-12-31-STEP",
        "fallbacks": ["other", "openai/m", "anthropic/m", "hosted_vllm/m"],
    }
    async with Steps(tmp_path, core_registry, connections) as steps:
        report = await steps.run(given, connections=world.names)

    assert len(report.attempts) == 5
    assert [request.model for request in model_server.requests] == ["m", "other"]
    for request in model_server.requests:
        assert request.query["api-version"] == "2099-12-31-STEP"
        assert world.key("azure") in wire(request)
    for provider in ("openai", "anthropic", "hosted_vllm"):
        [request] = world.servers[provider].requests
        assert "2099-12-31-STEP" not in wire(request)
        assert f":{model_server.port}" not in wire(request)
        assert world.key("azure") not in wire(request)
    assert world.servers["azure"].requests == []


async def test_a_fallback_to_azure_has_the_version_of_its_own_connection(
    core_registry: Registry, world: World, tmp_path: Path
) -> None:
    """What the first provider's connection says of organization and version is not Azure's, and the other way round."""
    world.script(Status(503))
    async with Steps(tmp_path, core_registry, world.connections) as steps:
        for order in (("openai", "azure"), ("azure", "openai")):
            await steps.run(step(order), connections=world.names)

    world.check({provider: 2 if provider in {"openai", "azure"} else 0 for provider in PROVIDERS})


async def test_a_key_that_a_server_sends_back_is_told_to_nobody(
    core_registry: Registry, world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither errors nor answers nor output that is shown hold a key, in whatever place a server repeats it."""
    hostile = {"error": {"message": "bad {authorization}", "type": "{authorization}", "code": "{authorization}"}}
    reports: list[StepReport] = []
    async with Steps(tmp_path, core_registry, world.connections) as steps:
        for answer in (
            Status(400, hostile),
            Status(401, hostile, {"retry-after": "0"}),
            Status(500, "{authorization}"),
            Status(200, "{authorization}"),
            Status(200, {"error": "{authorization}", "choices": [{"finish_reason": "{authorization}"}]}),
            Echo(),
        ):
            world.script(answer)
            reports += [
                await steps.run(step((provider,)), connections=world.names, watched=watched)
                for provider in PROVIDERS
                for watched in (False, True)
            ]

    told = "".join(each.model_dump_json() for each in reports) + "".join(capfd.readouterr())
    assert [world.key(provider) for provider in PROVIDERS if world.key(provider) in told] == []
    assert all(len(server.requests) == 12 for server in world.servers.values())


async def test_a_provider_without_a_connection_is_not_asked(
    core_registry: Registry, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fallback whose provider has a key in the environment alone is a fault of the document, told before a run."""
    from weft.errors import WeftError

    for name, value in environment(world.trap).items():
        monkeypatch.setenv(name, value)
    only = {"my-openai": world.connections["my-openai"]}
    async with Steps(tmp_path, core_registry, only) as steps:
        with pytest.raises(WeftError) as caught:
            await steps.run(step(("openai", "anthropic")), "my-openai")

    assert "anthropic" in str(caught.value)
    assert world.trap.requests == []
    assert all(server.requests == [] for server in world.servers.values())
