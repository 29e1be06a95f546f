"""From the step's arguments to what LiteLLM is asked to send."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from weft.sdk import Connection, Json, JsonObject

from . import _litellm
from ._chat_errors import Call, Kind

BODY: Final = (
    "n",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "parallel_tool_calls",
    "presence_penalty",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
)
"""The parameters that are members of the request's body under the same name, besides model and messages."""

RESERVED: Final = re.compile(
    r"model|messages|stream|stream_options|functions?|function_call|extra_(body|headers|query)|(default_)?headers"
    r"|api_.*|base_url|organization|timeout|.*_?retries|fallbacks|mock_.*|custom_llm_provider|provider|metadata|client"
    r"|model_list|shared_session|http_client|ssl_.*|aws_.*|vertex_.*|azure_.*|drop_params|.*_(drop|openai)_params|deployment_id"
)
"""What Additional Parameters may not hold: it would change where the request goes, with which key, or that it goes."""

_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "s": " ", ",": ",", "\\": "\\"}

_TAKE_USER: Final = frozenset(
    "azure custom_openai docker_model_runner groq hosted_vllm litellm_proxy llamafile lm_studio openai openrouter vllm".split()  # noqa: SIM905
)
"""Providers that take `user` though LiteLLM does not list it, and then drops it and says nothing."""

_LIES: Final = {
    "cohere_chat": {"tool_choice"},
    "ollama": {"tool_choice"},
    "ollama_chat": {"tool_choice"},
    "replicate": {"tool_choice", "tools"},
}
"""Parameters that LiteLLM lists for a provider and then ignores."""

_PUBLIC: Final = {
    "openai": ("api.openai.com",),
    "anthropic": ("api.anthropic.com",),
    "azure": (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
}
"""Hosts, or their ends, whose prices are the public ones and which always want a key."""

_DEFAULT_BASES: Final = {"openai": "https://api.openai.com/v1"}
"""Said although LiteLLM knows it, because a variable of the environment may tell LiteLLM another."""

_SELF_HOSTED: Final = frozenset(
    "docker_model_runner hosted_vllm llamafile lm_studio ollama ollama_chat oobabooga vllm".split()  # noqa: SIM905
)
"""Providers that are servers of one's own: they want no key, and nobody else's prices are theirs."""

NO_KEY: Final = "no-key"
"""Sent to servers that want none, because without a key LiteLLM takes one from the environment."""


def stops(text: str) -> list[str]:
    r"""Return the texts of a comma separated list; `\,` `\n` `\t` `\r` `\s` and `\\` stand for one character each.

    Spaces around a text are not part of it, unless written as `\s`.

    Raises:
        ValueError: A text is empty, or there is an escape of another kind; the message says which.
    """
    parts = [""]
    for piece in re.findall(r"\\.?|[^\\,]+|,", text, re.DOTALL):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return [_stop(part.strip(" ")) for part in parts]


def _stop(text: str) -> str:
    if not text:
        raise ValueError("there is nothing between two commas, or before the first or after the last")

    def decode(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise ValueError(f"{match[0]!r} is no escape")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.?)", decode, text, flags=re.DOTALL)


def body(arguments: Mapping[str, Json]) -> tuple[JsonObject, JsonObject]:
    """Return the members of the body that LiteLLM maps for the provider, and those that it passes on as they are.

    What Additional Parameters says of a member of the first kind replaces the step's own; null removes it.
    """
    given: JsonObject = {name: arguments[name] for name in BODY if arguments.get(name) is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = list(stops(str(given["stop"])))
    additional = arguments.get("additional_parameters")
    extra = copy.deepcopy(additional) if isinstance(additional, dict) else {}
    for name in BODY:
        if name in extra and (value := extra.pop(name)) is None:
            given.pop(name, None)
        elif isinstance(additional, dict) and name in additional:
            given[name] = [value] if name == "stop" and isinstance(value, str) else value
    return given, extra


def address(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port of an http(s) address that carries no name, password or fragment; else None."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.fragment:
        return None
    if re.search(r"[\s\x00-\x20\x7f]", url):
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


class Route:
    """Where a request goes and with which key, once it is settled that it may."""

    def __init__(self, provider: str, step_base: str | None, connection: Connection, call: Call) -> None:
        self.provider = provider
        own = connection.get("provider")
        if own != provider:
            raise call.unsent(
                Kind.WRONG_PROVIDER,
                f"Connection {connection.name!r} belongs to {own!r}, but the request is for {provider!r}.",
                "Use a connection of that provider: a key is never sent to another one.",
            )
        base = connection.get("api_base") or _DEFAULT_BASES.get(provider)
        if step_base and not _allowed(step_base, base, connection.get("allowed_hosts", [])):
            raise call.unsent(
                Kind.HOST_NOT_ALLOWED,
                f"API Base {step_base!r} is not a host that connection {connection.name!r} may be used for.",
                "Add the host to the connection's allowed_hosts if its key may go there.",
            )
        self.base: str | None = step_base or base
        place = address(self.base) if self.base else None
        if self.base and place is None:
            raise call.unsent(
                Kind.INVALID_REQUEST,
                f"The API Base of connection {connection.name!r} is not an http(s) address.",
                "Write it like https://models.example.com/v1, without name and password.",
            )
        self.host = place[1] if place else None
        self.public = provider not in _SELF_HOSTED and (
            self.host is None or self.host.endswith(_PUBLIC.get(provider, ("\0",)))
        )
        self.key = self._key(connection, call)

    def _key(self, connection: Connection, call: Call) -> str:
        secret = connection.secret("api_key")
        key = secret.reveal().strip() if secret else ""
        if not key and self.public:
            raise call.unsent(
                Kind.MISSING_KEY,
                f"Connection {connection.name!r} has no API key.",
                f"Give it one; from the environment: {connection.name.upper().replace('-', '_')}_API_KEY.",
            )
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise call.unsent(
                Kind.BAD_KEY,
                f"The API key of connection {connection.name!r} has characters that no key has.",
                "Copy it again: line breaks, spaces and letters outside ASCII cannot be sent.",
            )
        return key or NO_KEY


def _allowed(step_base: str, own: str | None, hosts: list[str]) -> bool:
    place = address(step_base)
    if place is None:
        return False
    _, host, port = place
    names = {host, f"{host}:{port}", f"[{host}]:{port}"}
    return (own is not None and address(own) == place) or any(name.lower() in names for name in hosts)


@lru_cache(maxsize=1024)
def supported(provider: str, model: str) -> frozenset[str] | None:
    """Return the parameters that LiteLLM lists for a model; None when it knows nothing of it."""
    litellm = _litellm.load()
    try:
        found = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider)
    except Exception:  # noqa: BLE001  some providers raise on models they do not know; then nothing is known
        return None
    return None if found is None else frozenset(found)


def unsupported(provider: str, model: str, given: Mapping[str, Json]) -> Iterator[str]:
    """Yield the names of given parameters that would be refused, or lost without a word."""
    listed = supported(provider, model)
    for name, value in given.items():
        if name == "user":
            known = listed is None or name in listed or provider in _TAKE_USER
        elif name == "response_format" and provider == "anthropic":
            known = not (isinstance(value, dict) and value.get("type") == "json_object")  # taken, and lost
        else:
            known = listed is None or name in listed
        if not known or name in _LIES.get(provider, ()):
            yield name


def refused(provider: str, model: str, given: Mapping[str, Json]) -> Iterator[str]:
    """Yield the names of given parameters whose value LiteLLM's own mapping refuses, such as a reasoner's temperature."""
    litellm = _litellm.load()
    for name, value in given.items():
        try:
            litellm.get_optional_params(model=model, custom_llm_provider=provider, **{name: copy.deepcopy(value)})
        except litellm.UnsupportedParamsError:
            yield name


def keywords(given: Mapping[str, Json], extra: JsonObject, provider: str, model: str) -> dict[str, Any]:
    """Return the keywords that make LiteLLM send these members of the body."""
    made: dict[str, Any] = copy.deepcopy(dict(given))
    if "user" in made and "user" not in (supported(provider, model) or ()):
        made["allowed_openai_params"] = ["user"]
    if extra:
        made |= extra if _anthropic(provider, model) else {"extra_body": extra}
    return made


def controls(extra: JsonObject) -> list[str]:
    """Return the names in `extra` that LiteLLM would take for orders to itself."""
    types = _litellm.load().types.utils
    return sorted(set(extra) & set(types.all_litellm_params))


def _anthropic(provider: str, model: str) -> bool:
    """Whether the body is Anthropic's, for which LiteLLM takes foreign members from its keywords."""
    return provider == "anthropic" or (provider in {"azure_ai", "bedrock", "vertex_ai"} and "claude" in model)
