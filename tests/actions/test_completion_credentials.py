"""What lets a completion in: the connection's own credentials, of its provider alone, and nothing of this machine."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from weft.catalogue import load
from weft.errors import ActionError
from weft.sdk import ActionContext, Connection, Known, Secret
from weft.testing.model_server import ModelServer, Status

chat = importlib.import_module("weft_core.actions.generate_chat_completion")
boundary = importlib.import_module("weft_core.actions._litellm")
DECOY = "DECOY-of-the-environment"
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
CONVERSED = Status(
    200,
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
        "metrics": {"latencyMs": 1},
    },
)
KEYS = {"aws_access_key_id": Secret("AKIAOFCONNECTION"), "aws_secret_access_key": Secret("aws-secret")}


@pytest.fixture(scope="module", autouse=True)
def signing() -> None:
    """Start the pool in which LiteLLM signs for AWS; its thread lives as long as the process."""
    boundary.load()
    importlib.import_module("litellm.llms.bedrock.base_aws_llm").AWS_SIGNING_EXECUTOR.submit(int).result()


@pytest.fixture(autouse=True)
def decoys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of this machine, where the makers' own libraries look for them."""
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {DECOY}\naws_secret_access_key = {DECOY}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.setenv(name, DECOY)
    for name in ("AWS_PROFILE_NAME", "AWS_ROLE_NAME", "AZURE_AD_TOKEN", "AZURE_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, DECOY)
    for name in ("AZURE_USERNAME", "AZURE_PASSWORD", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, DECOY)


def connection(provider: str, **values: Any) -> Connection:
    return Connection(provider, "model_provider", {"provider": provider, **values})


async def complete(account: Connection, *, seconds: float = 30, **given: Any) -> Any:
    given = {"provider": account.get("provider"), "messages": [{"role": "user", "content": "Hello"}], **given}
    context = ActionContext(
        run_id="run",
        path="/answer",
        attempt=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        idempotency_key="key",
        deadline=time.monotonic() + seconds,
        connection=account,
    )
    return await chat.generate_chat_completion(chat.Arguments(**given), context)


async def failure(account: Connection, **given: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await complete(account, **given)
    assert DECOY not in str(caught.value)
    return caught.value


def sent(server: ModelServer) -> str:
    """Everything that the server was told."""
    return json.dumps([[r.path, r.query, r.headers, r.body.decode()] for r in server.requests])


async def test_bedrock_is_signed_with_the_connections_keys(model_server: ModelServer) -> None:
    """The signature (AWS SigV4) names the connection's key and region, and no token of the environment goes along."""
    model_server.script(CONVERSED)
    account = connection("bedrock", aws_bedrock_runtime_endpoint=model_server.root, aws_region_name="eu-west-1", **KEYS)
    output = await complete(account, model=CLAUDE, max_tokens=5)

    assert output["choices"][0]["message"]["content"] == "Hello."
    [request] = model_server.requests
    assert "Credential=AKIAOFCONNECTION/" in request.headers["authorization"]
    assert "/eu-west-1/bedrock/aws4_request" in request.headers["authorization"]
    assert "x-amz-security-token" not in request.headers
    assert DECOY not in sent(model_server)
    assert "aws-secret" not in sent(model_server)


async def test_bedrock_takes_an_api_base(model_server: ModelServer) -> None:
    """The address of a gateway before Bedrock is given like any other."""
    model_server.script(CONVERSED)
    account = connection("bedrock", api_base=model_server.root, aws_region_name="eu-west-1", **KEYS)
    await complete(account, model=CLAUDE, max_tokens=5)
    assert len(model_server.requests) == 1


async def test_bedrock_takes_a_session_token_or_a_key(model_server: ModelServer) -> None:
    """A session token goes along with the keys; a key of Bedrock's own makes them needless."""
    model_server.script(CONVERSED)
    place = {"aws_bedrock_runtime_endpoint": model_server.root, "aws_region_name": "eu-west-1"}
    await complete(connection("bedrock", **place, **KEYS, aws_session_token=Secret("own-token")), model=CLAUDE)
    await complete(connection("bedrock", **place, api_key=Secret("own-key")), model=CLAUDE)

    first, second = model_server.requests
    assert first.headers["x-amz-security-token"] == "own-token"
    assert second.headers["authorization"] == "Bearer own-key"
    assert DECOY not in sent(model_server)


@pytest.mark.parametrize(
    ("provider", "values", "lacking"),
    [
        ("bedrock", {}, "api_key"),
        ("bedrock", {"aws_access_key_id": Secret("AKIA")}, "aws_secret_access_key"),
        ("bedrock", {"aws_region_name": None, **KEYS}, "aws_region_name"),
        ("bedrock", {"aws_role_name": "arn:aws:iam::1:role/r"}, "api_key"),
        ("sagemaker_chat", {}, "api_key"),
        ("vertex_ai", {"vertex_project": "p", "vertex_location": "europe-west1"}, "vertex_credentials"),
    ],
)
async def test_what_is_missing_is_not_looked_for(
    model_server: ModelServer, provider: str, values: dict[str, Any], lacking: str
) -> None:
    """Where a maker's library would look into the environment and the home directory, the connection is refused."""
    account = connection(provider, **{"api_base": model_server.root, "aws_region_name": "eu-west-1", **values})
    error = await failure(account, model=CLAUDE)
    assert (error.kind, error.effect, error.details["fallback"]) == ("missing_key", "none", False)
    assert lacking in str(error)
    assert model_server.requests == []


@pytest.mark.parametrize(
    ("values", "header"),
    [
        ({"api_key": Secret("own-key")}, ("api-key", "own-key")),
        ({"azure_ad_token": Secret("own-token")}, ("authorization", "Bearer own-token")),
    ],
)
async def test_azure(model_server: ModelServer, values: dict[str, Any], header: tuple[str, str]) -> None:
    """Azure takes a key or a token, and its version in the address."""
    account = connection("azure", api_base=model_server.root, api_version="2024-10-21", **values)
    await complete(account, model="gpt-4o")
    [request] = model_server.requests
    assert request.headers[header[0]] == header[1]
    assert request.query == {"api-version": "2024-10-21"}
    assert DECOY not in sent(model_server)


async def test_a_service_account_of_google(model_server: ModelServer) -> None:
    """Vertex AI is asked with the token that the connection's service account gets, and with no key."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    async with ModelServer() as tokens:
        tokens.script(Status(200, {"access_token": "token-of-google", "expires_in": 3600, "token_type": "Bearer"}))
        facts = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": key.decode()}
        facts |= {"client_email": "weft@p.iam.gserviceaccount.com", "token_uri": f"{tokens.root}/token"}
        account = connection(
            "vertex_ai",
            api_base=model_server.root,
            vertex_project="p",
            vertex_location="europe-west1",
            vertex_credentials=Secret(json.dumps(facts)),
        )
        await complete(account, model="gemini-2.0-flash")
        assert len(tokens.requests) == 1
    [request] = model_server.requests
    assert request.headers["authorization"] == "Bearer token-of-google"
    assert "/projects/p/locations/europe-west1/" in request.path
    assert "PRIVATE KEY" not in sent(model_server)


async def test_a_library_that_is_not_installed() -> None:
    """A provider that needs more than LiteLLM brings along says what to install."""
    error = await failure(connection("vllm", api_base="http://127.0.0.1:1"), model="m")
    assert (error.kind, error.effect) == ("missing_package", "none")
    assert "pip install vllm" in str(error)


@pytest.mark.parametrize("provider", ["chatgpt", "github_copilot"])
async def test_a_dialogue_is_not_begun(provider: str) -> None:
    """Where LiteLLM would print a code and wait for somebody to type it in a browser, the step is refused."""
    error = await failure(connection(provider), model="m")
    assert (error.kind, error.effect) == ("invalid_request", "none")
    [problem] = chat.check({"provider": provider}, Known())
    assert (problem.severity, problem.where.field) == ("error", "provider")


async def test_an_address_that_is_missing() -> None:
    """A provider without a usual address needs one."""
    error = await failure(connection("azure", api_key=Secret("own-key")), model="m")
    assert (error.kind, error.effect) == ("invalid_request", "none")
    assert "api_base" in str(error)


async def test_fields_of_another_provider_are_not_sent(model_server: ModelServer) -> None:
    """A field that belongs to another provider does not become a member of the body or a header."""
    account = connection("openai", api_base=model_server.base_url, api_key=Secret("own-key"), **KEYS)
    await complete(account, model="m")
    assert "AKIAOFCONNECTION" not in sent(model_server)
    assert set(model_server.requests[0].json) == {"model", "messages"}


async def test_each_of_a_chain_has_its_own_credentials() -> None:
    """A fallback to another provider gets neither key nor address of the one before."""
    given = {
        "provider": "openai",
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 5,
        "fallbacks": [{"openai/*": ["anthropic/claude-sonnet-4-5", f"bedrock/{CLAUDE}", "azure/deployed"]}],
    }
    async with ModelServer() as openai, ModelServer() as anthropic, ModelServer() as bedrock, ModelServer() as azure:
        servers = {"openai": openai, "anthropic": anthropic, "bedrock": bedrock, "azure": azure}
        accounts = {
            "openai": connection("openai", api_base=openai.base_url, api_key=Secret("canary-openai")),
            "anthropic": connection("anthropic", api_base=anthropic.root, api_key=Secret("canary-anthropic")),
            "bedrock": connection("bedrock", api_base=bedrock.root, aws_region_name="eu-west-1", **KEYS),
            "azure": connection("azure", api_base=azure.root, api_key=Secret("canary-azure")),
        }
        marks = {"openai": "canary-openai", "anthropic": "canary-anthropic", "azure": "canary-azure"}
        marks["bedrock"] = "AKIAOFCONNECTION"
        for server in servers.values():
            server.script(Status(503))
        given["api_base"] = openai.base_url
        for variant in chat.attempts(given, Known()):
            arguments = {**given, **variant.arguments}
            await failure(
                accounts[str(variant.provider)],
                **{name: value for name, value in arguments.items() if value is not None},
            )
        for provider, server in servers.items():
            assert len(server.requests) == 1
            seen = {owner for owner, mark in marks.items() if mark in sent(server)}
            assert seen == {provider}


def variables() -> Iterator[str]:
    """Names of variables that the source of LiteLLM and of OpenAI's SDK reads, or writes down as the name of a secret."""
    asked = re.compile(
        r"""(?:environ(?:\.get)?[\[(]|getenv\(|get_secret(?:_str|_bool)?\()\s*["']([A-Z][A-Z0-9_]+)["']"""
        r"""|["']([A-Z][A-Z0-9_]*_(?:KEY|TOKEN|SECRET|PASSWORD|KEY_ID|CREDENTIALS|USERNAME))["']"""
    )
    telling = re.compile("KEY|TOKEN|SECRET|PASSW|CRED|USERNAME|TENANT|CLIENT|PROFILE_NAME|ROLE|ORG|PROJECT|ACCOUNT")
    source = Path(boundary.load().__file__).parent
    openai = Path(str(importlib.import_module("openai").__file__)).parent
    folders = [*(source / name for name in ("llms", "litellm_core_utils", "secret_managers")), openai / "lib"]
    for folder in folders:
        for file in (*folder.rglob("*.py"), openai / "_client.py"):
            for match in asked.finditer(file.read_text()):
                name = match[1] or match[2]
                if telling.search(name) and not re.search("TIKTOKEN|LITELLM|USER_AGENT", name):
                    yield name


async def test_no_provider_is_lent_a_credential(monkeypatch: pytest.MonkeyPatch, model_server: ModelServer) -> None:
    """Whatever the environment holds, no provider's request carries any of it, nor goes anywhere else for it."""
    names = set(variables())
    assert len(names) > 150
    for name in names:
        monkeypatch.setenv(name, f"CANARY-{name}")
    litellm = boundary.load()
    monkeypatch.setattr(litellm, "num_retries", 0)
    reached = set()
    for provider in load().names():
        model_server.requests.clear()
        account = connection(provider, api_base=model_server.base_url, api_key=Secret("own-key"))
        with contextlib.suppress(ActionError):
            await complete(account, seconds=5, model="a/b/c" if provider == "clarifai" else "m")
        seen = sorted(set(re.findall(r"CANARY-\w+", sent(model_server))))
        assert seen == [], f"{provider} is sent {seen}"
        if model_server.requests:
            reached.add(provider)
    assert len(reached) > 90
