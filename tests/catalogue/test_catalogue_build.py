"""What is shipped is what the LiteLLM that is installed gives, and all of it that can be called."""

from __future__ import annotations

import importlib.metadata
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from weft.catalogue import build, load, probe
from weft.catalogue.fit import KINDS
from weft.catalogue.shipped import FILE

CHAT_MODELS = 3014
TWICE = 25
"""Models that stand under two keys of LiteLLM's table: `deepseek-chat` and `deepseek/deepseek-chat`."""


def chat() -> dict[str, dict[str, Any]]:
    return {key: entry for key, entry in probe.litellm().model_cost.items() if entry.get("mode") == "chat"}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """What this LiteLLM gives: about a minute of CPU, so it is made once."""
    return build.catalogue()


@pytest.mark.timeout(900)
def test_the_shipped_file_is_what_this_litellm_gives(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` passes; so every kind of value of every parameter is taken or refused as LiteLLM does."""
    monkeypatch.setattr(build, "catalogue", lambda: made)  # the command itself would make it a second time
    code = build.main(["--check"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.timeout(900)
def test_check_says_what_differs(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that is not what LiteLLM gives is told by its line, with exit code 1, and is not changed."""
    monkeypatch.setattr(build, "catalogue", lambda: made)
    other = tmp_path / "models.json"
    other.write_text(FILE.read_text("utf-8").replace('"gpt-4o":{"in":128000', '"gpt-4o":{"in":1', 1), "utf-8")
    before = other.read_bytes()
    assert build.main(["--check", "--file", str(other)]) == 1
    told = capsys.readouterr().out
    assert '-"gpt-4o":{"in":1,' in told
    assert '+"gpt-4o":{"in":128000,' in told
    assert len(told.splitlines()) < 12
    assert other.read_bytes() == before
    assert build.main(["--file", str(other)]) == 0
    assert other.read_bytes() == FILE.read_bytes()


def test_the_file_is_small_and_says_where_it_comes_from() -> None:
    """It has a line for each model, and the version of LiteLLM that it was made with."""
    text = FILE.read_text("utf-8")
    assert len(text) < 1_500_000
    assert json.loads(text)["litellm"] == importlib.metadata.version("litellm")
    assert len(text.splitlines()) > len(load().models())


def test_every_chat_model_that_litellm_can_call_is_there() -> None:
    """3,014 entries chat: 25 stand twice, 6 are classes of sizes, 51 belong to whom LiteLLM cannot call."""
    entries = chat()
    assert len(entries) == CHAT_MODELS
    sizes = [key for key in entries if build.SIZES.fullmatch(key)]
    strangers = [key for key, entry in entries.items() if entry["litellm_provider"] in build.NO_PROVIDER]
    assert (len(sizes), len(strangers)) == (6, 51)
    known = {(model.provider, model.name) for model in load().models()}
    assert len(known) == CHAT_MODELS - TWICE - len(sizes) - len(strangers)
    for key in entries.keys() - set(sizes) - set(strangers):
        owner = build.owner(entries[key])
        assert owner is not None
        assert (owner, build.name(owner, key)) in known


def test_a_name_is_what_litellm_calls_the_model_beside_its_provider() -> None:
    """LiteLLM leaves names as they are; where it resolves one further, what it arrives at takes the same parameters."""
    further = []
    for model in load().models():
        if model.provider in build.LOGS_IN:
            continue
        called, provider, *_ = probe.litellm().get_llm_provider(model.name, custom_llm_provider=model.provider)
        if (called, provider) != (model.name, model.provider):
            further.append(model.provider)
            found = probe.fit(provider, called)
            for parameter, kinds in KINDS.items():
                for each in kinds:
                    assert found.verdict(parameter, each) == model.fit.verdict(parameter, each), model.name
    assert Counter(further) == {"ai21": 9, "anyscale": 12, "bedrock_mantle": 13}  # a chat, a prefix, a region


def test_all_providers_whose_models_chat_are_there() -> None:
    """There are 139; those that LiteLLM lists and then cannot call are not among them."""
    ids = load().names()
    assert len(ids) == 139
    assert not set(ids) & (build.NOT_CHAT | build.NO_PROVIDER)
    assert {"openai", "anthropic", "azure", "gemini", "bedrock", "ollama", "hosted_vllm", "openrouter"} <= set(ids)


@pytest.mark.parametrize("provider", sorted(build.NOT_CHAT | build.NO_PROVIDER))
def test_who_is_left_out_cannot_be_called(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM says itself that it does not know these providers when it is asked to chat with them."""

    def closed(*_: object, **__: object) -> Any:
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", closed)
    litellm = probe.litellm()
    with pytest.raises(litellm.BadRequestError) as caught:
        litellm.completion(
            model="unknown",
            custom_llm_provider=provider,
            messages=[{"role": "user", "content": "Hello."}],
            api_key="none",
            api_base="http://127.0.0.1:9",
            max_retries=0,
        )
    assert type(caught.value).__name__ == "LiteLLMUnknownProvider"
