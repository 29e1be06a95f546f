"""What Weft relies on in LiteLLM, so that a new version of it cannot change it unnoticed."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weft.testing.model_server import ModelServer

boundary = importlib.import_module("weft_core.actions._litellm")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_import_is_quiet_and_local(tmp_path: Path) -> None:
    """Warming prints nothing, asks no other host, reads no `.env`, freezes what it made; importing the action does not."""
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    done = run(
        """
import gc, os, socket, sys, threading
from weft_core.actions import generate_chat_completion as chat
assert "litellm" not in sys.modules
def refuse(*args, **kwargs): raise AssertionError(f"network: {args}")
socket.getaddrinfo = socket.socket.connect = refuse
threads = [threading.Thread(target=chat.warm) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert "litellm" in sys.modules and "FROM_DOTENV" not in os.environ
assert gc.get_freeze_count() > 100_000
before = gc.get_freeze_count()
chat.warm()
assert gc.get_freeze_count() == before
import logging
logging.basicConfig(level=logging.DEBUG)
import litellm
litellm.verbose_logger.error("a prompt")
""",
        PWD=str(tmp_path),
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_process_ends_quietly() -> None:
    """Connections close together with the event loop: nothing complains at the end."""
    done = run(
        """
import asyncio, sys
sys.path.insert(0, "tests")
from datetime import datetime, UTC
import time
from weft.testing.model_server import ModelServer
from weft.sdk import ActionContext, Connection
from weft_core.actions import generate_chat_completion as chat
async def main():
    async with ModelServer() as server:
        account = Connection("c", "model_provider", {"provider": "openai", "api_base": server.base_url})
        for watched in (False, True):
            context = ActionContext(run_id="r", path="/a", attempt=1, started_at=datetime.now(UTC), idempotency_key="k",
                                    deadline=time.monotonic() + 50, connection=account, watched=watched)
            arguments = chat.Arguments(provider="openai", model="m", messages=[{"role": "user", "content": "hi"}])
            print((await chat.generate_chat_completion(arguments, context))["weft"]["outcome"])
asyncio.run(main())
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("complete\ncomplete\n", "", 0)


def test_loggers_are_tamed() -> None:
    """LiteLLM's loggers, which carry prompts, reach no handler."""
    boundary.load()
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logger = logging.getLogger(name)
        assert logger.disabled
        assert not logger.propagate
        assert logging.StreamHandler not in map(type, logger.handlers)
    assert not logging.getLogger("openai").isEnabledFor(logging.DEBUG)


@pytest.mark.parametrize("model", ["llama-3.3-70b-versatile", "meta-llama/llama-2-7b", "command-r"])
def test_no_tokenizer_is_fetched(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting tokens asks no other host, which would keep the whole loop waiting, whatever the model is called."""
    litellm = boundary.load()
    fetched: list[str] = []
    monkeypatch.setattr(litellm.utils, "_return_huggingface_tokenizer", fetched.append)
    assert litellm.token_counter(model=model, text="two words") > 0
    assert fetched == []


@pytest.mark.parametrize(
    "provider",
    [
        "anthropic",
        "azure",
        "cohere_chat",
        "databricks",
        "deepseek",
        "fireworks_ai",
        "gemini",
        "groq",
        "hosted_vllm",
        "huggingface",
        "lm_studio",
        "mistral",
        "ollama",
        "openai",
        "openrouter",
        "perplexity",
        "together_ai",
        "xai",
    ],
)
async def test_requests_pass_our_transport(model_server: ModelServer, provider: str) -> None:
    """Each request of these providers is seen, counted and kept to its host."""
    litellm = boundary.load()
    base = model_server.root if provider in {"anthropic", "azure", "gemini", "ollama"} else model_server.base_url
    exchange = boundary.Exchange(max_bytes=1_000_000, host="127.0.0.1")
    token = boundary.exchange.set(exchange)
    try:
        await litellm.acompletion(
            model="m",
            custom_llm_provider=provider,
            messages=[{"role": "user", "content": "hi"}],
            api_key="k",
            api_base=base,
            timeout=5,
            num_retries=0,
            max_retries=0,
        )
    except litellm.APIConnectionError:
        assert provider in {"cohere_chat", "ollama"}  # the answer is not of their shape
    finally:
        boundary.exchange.reset(token)
    assert (exchange.requests, exchange.status, len(model_server.requests)) == (1, 200, 1)
    assert not {"http-referer", "x-title"} & model_server.requests[0].headers.keys()  # LiteLLM's own, for OpenRouter


async def test_a_second_request_is_stopped(model_server: ModelServer) -> None:
    """One exchange is one request, whoever wants another."""
    litellm = boundary.load()
    exchange = boundary.Exchange(max_bytes=1_000_000, host="127.0.0.1")
    token = boundary.exchange.set(exchange)
    request = {"model": "openai/m", "messages": [{"role": "user", "content": "hi"}], "api_key": "k"}
    request |= {"api_base": model_server.base_url, "num_retries": 0, "max_retries": 0}
    try:
        await litellm.acompletion(**request)
        with pytest.raises(litellm.InternalServerError):
            await litellm.acompletion(**request)
    finally:
        boundary.exchange.reset(token)
    assert exchange.fault == "second_request"
    assert len(model_server.requests) == 1


async def test_a_body_is_sent_as_it_is(model_server: ModelServer) -> None:
    """No type of a chat's body has another name or a format of its own, so OpenAI's library has nothing to do to it."""
    litellm = boundary.load()
    types = Path(str(importlib.import_module("openai").__file__)).parent / "types"
    files = [*(types / "chat").glob("*param*.py"), *(types / "shared_params").glob("*.py")]
    assert len(files) > 20
    assert not [file.name for file in files if "PropertyInfo(" in file.read_text()]
    exchange = boundary.Exchange(max_bytes=1_000_000, host="127.0.0.1")
    token = boundary.exchange.set(exchange)
    content = [{"type": "text", "text": "hi"}]
    try:
        answer = await litellm.acompletion(
            model="openai/gpt-4o-mini",
            messages=[{"role": "user", "content": content}],
            api_key="k",
            api_base=model_server.base_url,
            num_retries=0,
            max_retries=0,
        )
    finally:
        boundary.exchange.reset(token)
    assert model_server.requests[0].json == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": content}],
    }
    assert answer._hidden_params["response_cost"] is None  # by LiteLLM: the catalogue says what an answer costs
