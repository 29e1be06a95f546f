"""Make `models.json` of what LiteLLM knows: `python -m weft.catalogue.build`, without network.

With `--check` nothing is written; the exit code is 1, with the first differences, when the file is not what the
LiteLLM that is installed gives.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from weft.catalogue import credentials, probe
from weft.catalogue.fit import Fit, Together
from weft.catalogue.rates import prices
from weft.catalogue.shipped import FILE

NOT_CHAT: Final = frozenset({"infinity", "openai_like", "voyage"})
"""Providers for which LiteLLM lists parameters of a chat, and which it then calls unmapped when asked to chat."""

NO_PROVIDER: Final = frozenset(
    {"coralbricks", "inferenceapis", "microsoft_365_copilot", "openinfer", "scaledown"},
)
"""Who has chat models in LiteLLM's table of prices, but cannot be called by it."""

ALSO: Final = frozenset({"anyscale", "lemonade"})
"""Providers that LiteLLM calls, though it lists no parameters for them."""

SIZES: Final = re.compile(r"together-ai-[\d.]+b?(-[\d.]+b|-to.*)?|together-ai-up-to-.*")
"""Entries of the table that are classes of sizes, not models."""

SELF_HOSTED: Final = frozenset(
    "a2a docker_model_runner hosted_vllm langflow langgraph lemonade llamafile lm_studio ollama ollama_chat oobabooga ragflow triton vllm".split()  # noqa: SIM905
)
"""Servers of one's own."""

KEYLESS: Final = frozenset({"chatgpt", "custom", "custom_openai", "aiohttp_openai", "github_copilot", "petals", "sap"})
"""Other providers that can do without a key in our sense: they log in otherwise, or are whatever stands there."""

LOGS_IN: Final = frozenset({"chatgpt", "github_copilot"})
"""Providers that LiteLLM cannot be asked about without starting a login."""

HOSTS: Final[Mapping[str, Sequence[str]]] = {
    "anthropic": ["api.anthropic.com"],
    "anthropic_text": ["api.anthropic.com"],
    **dict.fromkeys(
        ("azure", "azure_ai", "azure_text"),
        (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
    ),
    **dict.fromkeys(("bedrock", "sagemaker", "sagemaker_chat", "sagemaker_nova"), (".amazonaws.com",)),
    "bedrock_mantle": [".amazonaws.com", ".api.aws"],
    "cohere": ["api.cohere.ai", "api.cohere.com"],
    "cohere_chat": ["api.cohere.ai", "api.cohere.com"],
    "databricks": [".databricks.com", ".azuredatabricks.net"],
    "gemini": ["generativelanguage.googleapis.com"],
    "openai": ["api.openai.com"],
    "text-completion-openai": ["api.openai.com"],
    "replicate": ["api.replicate.com"],
    "snowflake": [".snowflakecomputing.com"],
    "vertex_ai": [".googleapis.com"],
    "vertex_ai_beta": [".googleapis.com"],
    "watsonx": [".cloud.ibm.com"],
    "watsonx_text": [".cloud.ibm.com"],
}
"""Public servers that LiteLLM's tables do not tell, or their ends."""

FAMILIES: Final = {
    "ai21_chat": "ai21",
    "aiohttp_openai": "openai",
    "anthropic_text": "anthropic",
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_mantle": "bedrock",
    "chatgpt": "openai",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "custom_openai": "openai",
    "github_copilot": "github",
    "hosted_vllm": "vllm",
    "meta_llama": "meta",
    "ollama_chat": "ollama",
    "qwen_ai_platform": "dashscope",
    "qwencloud": "dashscope",
    "sagemaker_chat": "sagemaker",
    "sagemaker_nova": "sagemaker",
    "text-completion-codestral": "mistral",
    "text-completion-inception": "inception",
    "text-completion-openai": "openai",
    "vertex_ai_beta": "vertex_ai",
    "watsonx_text": "watsonx",
}
"""Provider → the one with which documentation treats it."""

TITLES: Final = {
    "ai21": "AI21",
    "aihubmix": "AIHubMix",
    "aiohttp_openai": "OpenAI-compatible server (aiohttp)",
    "anyscale": "Anyscale",
    "azure_ai": "Azure AI Foundry",
    "bedrock": "Amazon Bedrock",
    "bedrock_mantle": "Amazon Bedrock Mantle",
    "charity_engine": "Charity Engine",
    "cloudflare": "Cloudflare Workers AI",
    "crusoe": "Crusoe Cloud",
    "custom_openai": "OpenAI-compatible server",
    "dashscope": "DashScope",
    "deepseek": "DeepSeek",
    "empiriolabs": "EmpirioLabs",
    "gdc": "Google Distributed Cloud",
    "gemini": "Google AI Studio (Gemini)",
    "groq": "Groq",
    "hosted_vllm": "vLLM server",
    "huggingface": "Hugging Face",
    "inception": "Inception",
    "langflow": "Langflow",
    "llamafile": "llamafile",
    "meta": "Meta",
    "meta_llama": "Meta Llama API",
    "minimax": "MiniMax",
    "mistral": "Mistral AI",
    "modelscope": "ModelScope",
    "nadir": "Nadir",
    "nano-gpt": "NanoGPT",
    "nvidia_nim": "NVIDIA NIM",
    "oci": "Oracle Cloud Infrastructure",
    "oobabooga": "Oobabooga",
    "parasail": "Parasail",
    "perplexity": "Perplexity",
    "pinstripes": "Pinstripes",
    "sagemaker": "Amazon SageMaker",
    "sagemaker_chat": "Amazon SageMaker Chat",
    "sagemaker_nova": "Amazon SageMaker Nova",
    "sail": "Sail",
    "sambanova": "SambaNova",
    "tencent": "Tencent",
    "tensormesh": "Tensormesh",
    "text-completion-codestral": "Codestral (text completion)",
    "text-completion-inception": "Inception (text completion)",
    "text-completion-openai": "OpenAI (text completion)",
    "v0": "v0",
    "veniceai": "Venice AI",
    "vertex_ai": "Google Vertex AI",
    "vertex_ai_beta": "Google Vertex AI (beta)",
    "vllm": "vLLM",
    "wandb": "Weights & Biases",
    "watsonx": "IBM watsonx.ai",
    "watsonx_text": "IBM watsonx.ai (text)",
    "xiaomi_mimo": "Xiaomi MiMo",
    "zai": "Z.AI",
}
"""Names that LiteLLM's tables do not have, or not as people know them."""

CAPABILITIES: Final = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_tool_choice": "tool_choice",
    "supports_response_schema": "json_schema",
    "supports_vision": "vision",
    "supports_image_input": "vision",
    "supports_pdf_input": "pdf",
    "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output",
    "supports_video_input": "video",
    "supports_reasoning": "reasoning",
    "supports_system_messages": "system_messages",
    "supports_prompt_caching": "prompt_caching",
    "supports_assistant_prefill": "prefill",
    "supports_web_search": "web_search",
    "supports_computer_use": "computer_use",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the catalogue, or compare it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m weft.catalogue.build", description="Make the catalogue of models.")
    parser.add_argument("--check", action="store_true", help="only say whether the shipped file is up to date")
    parser.add_argument("--file", type=Path, default=FILE, help="the file to write or compare")
    options = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.endswith(("_API_BASE", "_BASE_URL", "_API_KEY", "_ENDPOINT"))]:
        del os.environ[name]  # LiteLLM would take addresses from them
    made = text(catalogue())
    if not options.check:
        options.file.write_text(made, encoding="utf-8")
        sys.stdout.write(f"{options.file}: {len(made) // 1000} kB\n")
        return 0
    shipped = options.file.read_text(encoding="utf-8")
    if shipped == made:
        return 0
    lines = difflib.unified_diff(shipped.splitlines(), made.splitlines(), "shipped", "LiteLLM", n=0, lineterm="")
    sys.stdout.write("\n".join(line[:200] for _, line in zip(range(20), lines, strict=False)) + "\n")
    sys.stdout.write("The catalogue is not what this LiteLLM gives: run python -m weft.catalogue.build\n")
    return 1


def catalogue() -> dict[str, Any]:
    """Return the content of the file."""
    litellm = probe.litellm()
    forms = _forms(litellm)
    fits, sets = _Once(), _Once()
    entries = models(litellm.model_cost)
    return {
        "litellm": importlib.metadata.version("litellm"),
        "fields": dict(credentials.FIELDS),
        "providers": {id_: _provider(id_, litellm, forms, fits) for id_ in sorted(providers(litellm))},
        "models": {
            id_: {name: _model(id_, name, entry, fits, sets) for name, entry in sorted(found.items())}
            for id_, found in sorted(entries.items())
        },
        "capabilities": sets.items,
        "fits": fits.items,
    }


def text(content: Mapping[str, Any]) -> str:
    """Return the content as JSON with a line for each model, provider and set."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def block(value: Any, depth: int) -> str:
        if depth == 0 or not isinstance(value, dict | list):
            return compact(value)
        pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        lines = [(f"{compact(key)}:" if key is not None else "") + block(item, depth - 1) for key, item in pairs]
        return ("{\n%s\n}" if isinstance(value, dict) else "[\n%s\n]") % ",\n".join(lines)

    depths = {"models": 2, "litellm": 0}
    parts = ",\n".join(f"{compact(key)}:{block(value, depths.get(key, 1))}" for key, value in content.items())
    return f"{{\n{parts}\n}}\n"


class _Once:
    """Values in the order in which they first came, each once."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        key = json.dumps(value)
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(value)
        return self._places[key]


def providers(litellm: Any) -> set[str]:
    """Return the providers whose models chat: LiteLLM lists parameters for them, or declares them in its JSON table."""
    declared = {each.value for each in litellm.LlmProviders} | set(_declared())
    return {id_ for id_ in declared - LOGS_IN if _lists(litellm, id_)} | set(_declared()) | ALSO | LOGS_IN - NOT_CHAT


def _lists(litellm: Any, provider: str) -> bool:
    if provider in NOT_CHAT:
        return False
    try:
        return litellm.get_supported_openai_params("m", provider) is not None
    except Exception:  # noqa: BLE001  a provider that raises on a model that it does not know lists nothing
        return False


def _declared() -> Mapping[str, Any]:
    file = Path(probe.litellm().__file__).parent / "llms/openai_like/providers.json"
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def _forms(litellm: Any) -> dict[str, list[Mapping[str, Any]]]:
    """Return provider → the fields of its form; where there are several forms for one, the first."""
    file = Path(litellm.__file__).parent / "proxy/public_endpoints/provider_create_fields.json"
    forms: dict[str, list[Mapping[str, Any]]] = {}
    for form in json.loads(file.read_bytes()):
        forms.setdefault(form["litellm_provider"], form["credential_fields"])
    return forms


def _provider(id_: str, litellm: Any, forms: Mapping[str, Any], fits: _Once) -> dict[str, Any]:
    base = _base(id_, litellm)
    listed = _pages(litellm).get(id_, {})
    page = listed.get("url", "").partition("?")[0]
    title = TITLES.get(id_) or re.sub(r" \(`.*", "", listed.get("display_name", "")) or id_.replace("_", " ").title()
    told = {
        "title": title,
        "family": FAMILIES.get(id_),
        "self_hosted": id_ in SELF_HOSTED,
        "api_base": base,
        "hosts": [] if id_ in SELF_HOSTED else list(HOSTS.get(id_, [urlsplit(base).hostname] if base else [])),
        "documentation": page,
        "required": credentials.required(id_, forms, base, keyless=id_ in SELF_HOSTED | KEYLESS),
        "fields": credentials.further(id_, forms),
    }
    return {key: value for key, value in told.items() if value} | {"fit": fits.place(_fit(probe.fit(id_, "unknown")))}


def _pages(litellm: Any) -> dict[str, Any]:
    file = Path(litellm.__file__).parent / "provider_endpoints_support_backup.json"
    found: dict[str, Any] = json.loads(file.read_bytes())["providers"]
    return found


def _base(provider: str, litellm: Any) -> str | None:
    """Return the address that LiteLLM takes for a provider when nobody gives one."""
    if provider in LOGS_IN:
        return None
    try:
        found = litellm.get_llm_provider("unknown", custom_llm_provider=provider)[3]
    except litellm.BadRequestError:
        return None
    return found if isinstance(found, str) and urlsplit(found).hostname else None


def models(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return provider → name → entry of LiteLLM's table, for all chat models that LiteLLM can call.

    A name is what stands beside its provider in a step. Where two entries have the same, the one that LiteLLM itself
    looks up first is taken: that with the provider before its name.
    """
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for key in sorted(table, key=lambda key: owner(table[key]) is not None and key.startswith(f"{owner(table[key])}/")):
        provider = owner(table[key])
        if provider is not None and not SIZES.fullmatch(key):
            found.setdefault(provider, {})[name(provider, key)] = table[key]
    return found


def owner(entry: Mapping[str, Any]) -> str | None:
    """Return the provider of a chat model by LiteLLM's name for calls; None for all else."""
    provider = str(entry.get("litellm_provider", ""))
    if entry.get("mode") != "chat" or provider in NO_PROVIDER:
        return None
    if provider.startswith("vertex_ai-"):  # vertex_ai-mistral_models
        return "vertex_ai"
    return "bedrock" if provider == "bedrock_converse" else provider


def name(provider: str, key: str) -> str:
    """Return how a step calls a model: the table's key without the provider before it."""
    for prefix in (f"{provider}/", f"{provider.replace('_', '-')}/"):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return key


def _model(provider: str, called: str, entry: Mapping[str, Any], fits: _Once, sets: _Once) -> dict[str, Any]:
    can = {word for key, word in CAPABILITIES.items() if entry.get(key) is True}
    until = str(entry.get("deprecation_date", ""))
    told = {
        "in": _count(entry.get("max_input_tokens")),
        "out": _count(entry.get("max_output_tokens")),
        "can": sets.place(" ".join(sorted(can))),
        "fit": fits.place(_fit(probe.fit(provider, called))),
        "usd": None if provider in SELF_HOSTED else prices(f"{provider}/{called}", entry),
        "until": until if re.fullmatch(r"\d{4}-\d\d-\d\d", until) else None,
    }
    return {key: value for key, value in told.items() if value is not None}


def _count(told: Any) -> int | None:
    return int(told) if isinstance(told, int | float) and told > 0 else None


def _fit(fit: Fit) -> dict[str, Any]:
    verdicts = {name: _by_verdict(found) for name, found in fit.verdicts.items()}
    told = {"verdicts": verdicts, "together": list(_together(fit.together)), "forced": sorted(fit.forced)}
    return {key: value for key, value in told.items() if value}


def _by_verdict(found: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        verdict: kinds
        for verdict in ("refused", "ignored")
        if (kinds := [each for each, its in found.items() if its == verdict])
    }


def _together(rules: Iterable[Together]) -> Iterable[list[Any]]:
    """Yield rules as lists, those that differ only in the other's kinds as one."""
    merged: dict[tuple[str, tuple[str, ...], str, str], set[str]] = {}
    for rule in rules:
        key = (rule.parameter, tuple(sorted(rule.kinds)), rule.other, rule.verdict)
        merged.setdefault(key, set()).update(rule.other_kinds)
    for (parameter, kinds, other, verdict), other_kinds in sorted(merged.items()):
        yield [parameter, list(kinds), other, sorted(other_kinds), verdict]


if __name__ == "__main__":
    sys.exit(main())
