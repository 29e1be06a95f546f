"""Where a request goes and with which credentials, once it is settled that it may."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from weft.sdk import ActionError, Catalogue, Connection, Provider, Secret

from ._chat_errors import Call, Kind

NO_KEY: Final = "no-key"
"""Sent to servers that want none, because without a key LiteLLM takes one from elsewhere."""

_DEFAULT_BASES: Final = {"openai": "https://api.openai.com/v1"}
"""Said although LiteLLM knows it, because a variable of the environment may tell its SDK another."""

_BASES: Final = ("api_base", "aws_bedrock_runtime_endpoint")
"""Fields that hold a server's address."""

_AWS: Final = (
    ("aws_region_name", "aws_access_key_id", "aws_secret_access_key"),
    ("aws_region_name", "api_key"),
    ("aws_region_name", "aws_profile_name"),
    ("aws_region_name", "aws_web_identity_token", "aws_role_name", "aws_session_name"),
)
_AZURE: Final = (("api_key",), ("azure_ad_token",), ("tenant_id", "client_id", "client_secret"))
_IBM: Final = (("api_key",), ("token",), ("zen_api_key",))
_VERTEX: Final = (("vertex_project", "vertex_location", "vertex_credentials"),)

_NEEDS: Final = {
    "azure": _AZURE,
    "azure_text": _AZURE,
    "bedrock": _AWS,
    "bedrock_mantle": _AWS,
    "gigachat": (("api_key",), ("gigachat_access_token",)),
    "sagemaker": _AWS,
    "sagemaker_chat": _AWS,
    "sagemaker_nova": _AWS,
    "vertex_ai": _VERTEX,
    "vertex_ai_beta": _VERTEX,
    "watsonx": _IBM,
    "watsonx_text": _IBM,
}
"""The fields that together let a connection in, each line one way to do so; without them the makers' own libraries
would look for credentials on this machine."""

_SIGNED: Final = frozenset(provider for provider, ways in _NEEDS.items() if ways in (_AWS, _VERTEX))
"""Providers that take more than a key, also where their server is somebody's own."""

DIALOGUES: Final = frozenset({"chatgpt", "github_copilot"})
"""Providers that LiteLLM lets in by a dialogue in the browser, and whose tokens it keeps in files of its own."""


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


def no_dialogue(provider: str) -> tuple[str, str]:
    """Return what is wrong with a provider of `DIALOGUES`, and what to do."""
    return (
        f"Provider {provider!r} lets in by a dialogue in the browser, which a step cannot hold.",
        "Use a provider that gives keys, such as `openai` or `github`.",
    )


class Route:
    """Where a request goes and with which credentials."""

    def __init__(
        self, provider: str, step_base: str | None, connection: Connection, catalogue: Catalogue, call: Call
    ) -> None:
        self._provider = provider
        self._connection = connection
        self._call = call
        own = connection.get("provider")
        if own != provider:
            raise call.unsent(
                Kind.WRONG_PROVIDER,
                f"Connection {connection.name!r} belongs to {own!r}, but the request is for {provider!r}.",
                "Use a connection of that provider: a key is never sent to another one.",
            )
        if provider in DIALOGUES:
            raise call.unsent(Kind.INVALID_REQUEST, *no_dialogue(provider))
        known = catalogue.provider(provider) if catalogue.has(provider) else None
        self.base: str | None = self._base(step_base)
        if known and "api_base" in known.required and self.base is None:
            raise call.unsent(
                Kind.INVALID_REQUEST,
                f"Connection {connection.name!r} has no api_base, and provider {provider!r} has no usual address.",
                "Give it the address of your server or of your account.",
            )
        place = address(self.base) if self.base else None
        self.host = place[1] if place else None
        self.public = is_public(known, self.host)
        fields = known.credentials if known else ()
        self.credentials = {field.name: text for field in fields if (text := self._value(field.name)) is not None}
        key = self._value("api_key")
        needed = [field.name for field in fields if field.required]
        if known is None or "api_key" in known.required or not needed:
            needed.append("api_key")
        self._refuse_incomplete(tuple(needed), key)
        if key or not self.credentials:
            self.credentials["api_key"] = key or NO_KEY

    def _base(self, step_base: str | None) -> str | None:
        own = usual_base(self._provider, self._value)
        if step_base and not allowed(step_base, own, self._connection.get("allowed_hosts", [])):
            raise self._call.unsent(
                Kind.HOST_NOT_ALLOWED,
                f"API Base {step_base!r} is not a host that connection {self._connection.name!r} may be used for.",
                "Add the host to the connection's allowed_hosts if its key may go there.",
            )
        base = step_base or own
        if base and address(base) is None:
            raise self._call.unsent(
                Kind.INVALID_REQUEST,
                f"The API Base of connection {self._connection.name!r} is not an http(s) address.",
                "Write it like https://models.example.com/v1, without name and password.",
            )
        return base

    def _value(self, name: str) -> Any:
        """Return a field's value, None when it is empty; here secrets are revealed."""
        value = self._connection.values.get(name)
        if not isinstance(value, Secret):
            return value.strip() or None if isinstance(value, str) else value
        text = value.reveal().strip()
        whole_file = text.startswith(("{", "-----BEGIN"))
        if not whole_file and not re.fullmatch(r"[\x21-\x7e]*", text):
            title = "API key" if name == "api_key" else name
            raise self._call.unsent(
                Kind.BAD_KEY,
                f"The {title} of connection {self._connection.name!r} has characters that no key has.",
                "Copy it again: line breaks, spaces and letters outside ASCII cannot be sent.",
            )
        return text or None

    def _refuse_incomplete(self, needed: tuple[str, ...], key: str | None) -> None:
        """Refuse a connection that lacks what its provider needs, before a library looks for it on this machine."""
        ways = _NEEDS.get(self._provider, (needed,))
        given = {**self.credentials, "api_key": key}
        if not self.public and self._provider not in _SIGNED and needed == ("api_key",):
            return
        if not any(all(given.get(name) for name in way) for way in ways):
            raise self._missing(ways, given)

    def _missing(self, ways: tuple[tuple[str, ...], ...], given: dict[str, Any]) -> ActionError:
        name = self._connection.name
        if ways == (("api_key",),):
            variable = f"{name.upper().replace('-', '_')}_API_KEY"
            return self._call.unsent(
                Kind.MISSING_KEY,
                f"Connection {name!r} has no API key.",
                f"Give it one; from the environment: {variable}.",
            )
        way = min(ways, key=lambda way: sum(not given.get(field) for field in way))
        lacking = ", ".join(field for field in way if not given.get(field))
        others = "; or ".join(", ".join(way) for way in ways)
        return self._call.unsent(
            Kind.MISSING_KEY,
            f"Connection {name!r} lacks {lacking}, and nothing is taken from this machine instead.",
            f"Provider {self._provider!r} needs {others}.",
        )


def is_public(provider: Provider | None, host: str | None) -> bool:
    """Whether a host is one of a provider's own servers; None is its usual address."""
    if provider is not None and provider.self_hosted:
        return False
    names = provider.hosts if provider else ()
    return host is None or any(host.endswith(name) if name.startswith(".") else host == name for name in names)


def usual_base(provider: str, value: Callable[[str], Any]) -> str | None:
    """Return where requests go when the step does not say, by the values of a connection's fields."""
    return next((base for name in _BASES if (base := value(name))), None) or _DEFAULT_BASES.get(provider)


def allowed(step_base: str, own: str | None, hosts: list[str]) -> bool:
    """Whether a key may go to a step's address: the usual one's server, or a host that the connection names."""
    place = address(step_base)
    if place is None:
        return False
    _, host, port = place
    names = {host, f"{host}:{port}", f"[{host}]:{port}"}
    return (own is not None and address(own) == place) or any(name.lower() in names for name in hosts)
