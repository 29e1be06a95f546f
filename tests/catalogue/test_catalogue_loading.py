"""The catalogue is read without LiteLLM, quickly, and everything in it can be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from weft.catalogue import CAPABILITIES, load
from weft.catalogue.credentials import COMMON, FIELDS
from weft.catalogue.fit import KINDS
from weft.errors import NotFound
from weft.manifest import ConnectionType, load_connection_type, value_schema
from weft.source import read
from weft.types import JsonObject

LATE = """
import json, sys, time
from weft.catalogue import load
from weft.catalogue.shipped import FILE
content = FILE.read_bytes()
def least(work):
    found = []
    for _ in range(7):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)
def everything():
    from weft.catalogue import shipped
    shipped._shipped.cache_clear()
    catalogue = load()
    catalogue.unfit("openai", "gpt-5", {"temperature": 0.2})
parse = least(lambda: json.loads(content))
print(json.dumps({
    "ratio": least(everything) / parse,
    "all": least(lambda: (everything(), load().models())) / parse,
    "late": sorted(name for name in ("litellm", "openai", "httpx", "aiohttp") if name in sys.modules),
}))
"""


def test_a_question_costs_little_more_than_parsing_and_imports_no_litellm() -> None:
    """The first answer costs less than twice the parsing of the file, all models less than eight times."""
    measured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    ran = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True, env=measured)
    told = json.loads(ran.stdout)
    assert told["late"] == []
    assert told["ratio"] < 2
    assert told["all"] < 8


def test_only_the_makers_import_litellm_and_nothing_imports_them() -> None:
    """What the catalogue is made with is no part of what reads it."""
    code = "import sys, weft.cli, weft.runtime, weft.catalogue; print([m for m in sys.modules if m in NAMES])"
    names = [f"weft.catalogue.{name}" for name in ("build", "probe", "rates", "credentials")]
    ran = subprocess.run([sys.executable, "-c", f"NAMES = {names}; {code}"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_providers_fields_are_fields_of_a_connection() -> None:
    """Each set of further fields makes a valid type of connection, and none repeats a common field."""
    for provider in load().providers():
        if not provider.credentials:
            continue
        fields = [field.model_dump(exclude_unset=True, mode="json") for field in provider.credentials]
        text = json.dumps({"id": "any", "title": "T", "purpose": "P.", "icon": "key", "fields": fields})
        declared = load_connection_type(read(text, provider.id))
        assert isinstance(declared, ConnectionType)
        assert not {field.name for field in provider.credentials} & set(COMMON)


def test_secrets_are_secret_and_everything_else_has_an_example() -> None:
    """Fields whose names say key, secret, token or credentials are never shown."""
    for provider in load().providers():
        for field in provider.credentials:
            hidden = field.name.endswith(("_key", "secret", "token", "credentials", "_key_id"))
            assert field.secret == hidden, field.name
            assert field.secret or value_schema(field)["examples"]


def test_every_field_that_is_described_is_used() -> None:
    """No words stand in the table of fields for a field that no provider has."""
    assert {field.name for provider in load().providers() for field in provider.credentials} == set(FIELDS)


def test_what_a_provider_cannot_do_without_is_said() -> None:
    """Azure needs an address, OpenAI a key, a server of one's own no key."""
    catalogue = load()
    assert catalogue.provider("openai").required == {"api_key"}
    assert catalogue.provider("azure").required == {"api_base"}
    assert catalogue.provider("hosted_vllm").required == {"api_base"}
    assert catalogue.provider("ollama").required == set()
    assert {field.name for field in catalogue.provider("oci").credentials if field.required} == {
        "oci_user",
        "oci_tenancy",
        "oci_compartment_id",
        "oci_fingerprint",
        "oci_region",
        "oci_key",
    }


def test_titles_and_families_are_ready_for_people() -> None:
    """Each provider has a title of its own, and its family is a provider."""
    providers = load().providers()
    assert len({provider.title for provider in providers}) == len(providers)
    assert all(load().has(provider.family) for provider in providers)
    assert load().provider("hosted_vllm").family == "vllm"


def test_models_hold_only_what_is_named() -> None:
    """Capabilities and parameters are those that the catalogue explains; limits are counts."""
    for model in load().models():
        assert model.supports <= CAPABILITIES.keys()
        assert model.parameters <= KINDS.keys()
        assert all(limit is None or limit > 0 for limit in (model.max_input_tokens, model.max_output_tokens))


def test_models_are_found_by_what_they_support() -> None:
    """`supports` narrows to models that have all of it."""
    found = load().models("openai", supports=["tools", "vision"])
    assert "gpt-4o" in {model.name for model in found}
    assert "gpt-3.5-turbo" not in {model.name for model in found}
    assert len(load().models()) > len(load().models(supports=["audio_input"])) > 20


def test_a_model_is_found_with_its_providers_name_before_it() -> None:
    """LiteLLM strips one such prefix; a name that nobody knows is None."""
    assert load().model("openai", "openai/gpt-4o") is load().model("openai", "gpt-4o")
    assert load().model("openai", "gpt-4o-of-ours") is None
    assert load().model("nobody", "gpt-4o") is None
    assert load().unfit("openai", "gpt-4o-of-ours", {"temperature": 3}) == ()


def test_an_unknown_provider_is_refused_with_the_nearest() -> None:
    """A misspelt provider is told with the one that was probably meant."""
    with pytest.raises(NotFound, match="Did you mean 'anthropic'"):
        load().provider("antropic")


def test_a_reasoner_takes_only_one_temperature() -> None:
    """The message names parameter, provider, model and value, and what to do."""
    (unfit,) = load().unfit("openai", "gpt-5", {"temperature": 0.2, "seed": 1, "top_p": None, "foreign": 1})
    assert (unfit.parameter, unfit.reason) == ("temperature", "value")
    assert unfit.message == "openai's 'gpt-5' takes 'temperature' only as 1, not 0.2."
    assert unfit.remedy == "Give 1, leave 'temperature' out, or choose another model."
    assert load().unfit("openai", "gpt-5", {"temperature": 1.0}) == ()


def test_what_goes_only_alone_is_told_with_the_other() -> None:
    """Groq's models without own schemas take a response format or tools."""
    given: JsonObject = {"tools": [{}], "response_format": {"type": "json_schema"}}
    (unfit,) = load().unfit("groq", "llama-guard-3-8b", given)
    assert unfit.message == "groq's 'llama-guard-3-8b' takes no 'response_format' together with 'tools'."
    assert load().unfit("groq", "llama-guard-3-8b", {"tools": [{}]}) == ()


def test_explain_says_what_becomes_of_all_parameters() -> None:
    """All 18 are told for a known model, for one of which nothing is known, and what that might be."""
    told = load().explain("openai", "gpt-5-mini")
    assert [taking.parameter for taking in told.parameters] == list(KINDS)
    verdicts = {taking.parameter: (taking.verdict, taking.message) for taking in told.parameters}
    assert verdicts["temperature"] == ("some", "taken only as 1.")
    assert verdicts["stop"] == ("refused", "not taken.")
    assert verdicts["seed"] == ("taken", "taken.")
    ignored = {t.parameter: t.verdict for t in load().explain("cohere_chat", "command-a-03-2025").parameters}
    assert ignored["tool_choice"] == "ignored"
    unknown = load().explain("openai", "gpt-5-mimi")
    assert (unknown.model, unknown.nearest) == (None, "gpt-5-mini")
    assert len(unknown.parameters) == len(KINDS)


def test_user_must_be_forced_where_litellm_does_not_list_it() -> None:
    """`forced` names what LiteLLM sends only when it is told to."""
    assert load().forced("hosted_vllm", "ours") == {"user"}
    assert load().forced("openai", "gpt-4o") == frozenset()
    assert load().forced("nobody", "x") == frozenset()
