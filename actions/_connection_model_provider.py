"""Whether a connection of type `model_provider` works: its server is asked which models it has; no model is called.

The list is asked for twice where there is a key: with it, and without. Only when the second is refused has the key
been looked at, since some providers show their list to everybody.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import Any, Final

from weft.sdk import ActionContext, ActionError, Catalogue, Connection

from ._http import Request, Response, Rules, address, exchange, host_of

UNTESTABLE: Final = "untestable"
LARGEST_LIST: Final = 20_000_000  #: bytes; the list of a provider that resells others has thousands of models
ANTHROPIC_VERSION: Final = "2023-06-01"
AZURE_VERSION: Final = "2024-10-21"

_ANY_NETWORK: Final = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"))
"""Servers of models may stand anywhere, also on this machine: the connection names them, never a step."""

_BASES: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "cohere": "https://api.cohere.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://localhost:11434",
    "ollama_chat": "http://localhost:11434",
}
"""Where the catalogue does not say it."""

_LIKE_OPENAI: Final = frozenset({"openai", "custom_openai", "litellm_proxy", "aiohttp_openai", "openai_like"})
"""Providers that are any server with OpenAI's interface; those of a known address, and one's own, are too."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """How a provider is asked for its models."""

    url: str
    header: str = "Authorization"  #: that carries the key
    prefix: str = "Bearer "
    others: tuple[tuple[str, str], ...] = ()
    member: str | None = "data"  #: of the answer, that holds the models; None: it lists none


async def test(connection: Connection, context: ActionContext) -> str:
    """Ask for the list of models.

    Raises:
        ActionError: The server cannot be reached or refuses the key; `untestable` when its answer proves neither.
    """
    listing = _listing(connection, context.catalogue)
    secret = connection.secret("api_key")
    host = host_of(address(listing.url))
    answer = await _ask(listing, secret.reveal() if secret else None, context)
    if answer.status in (401, 403):
        what = "refuses the key" if secret else "wants a key, and the connection has none"
        raise _failed(f"{host} {what} ({answer.status}).", "authentication", "Check the key where it was issued.")
    if answer.status == 404:
        message = f"{host} answers, but has no list of models there: neither key nor address are proved."
        raise _untestable(message, "Check API Base; servers like OpenAI's usually want it to end in /v1.")
    if answer.status == 429:
        raise _untestable(f"{host} is too busy to say: too many requests, or no credit left (429).")
    if answer.status != 200:
        raise _failed(f"{host} answered with status {answer.status}.", "refused", "Check API Base.")
    told = _what_is_listed(answer, listing, host)
    if secret is None:
        return f"{told}, and wants no key."
    open_to_all = (await _ask(listing, None, context)).status == 200
    if open_to_all:
        raise _untestable(f"{told}, but shows them without a key too: the address is right, the key was not looked at.")
    return f"{told} and takes the key. No model was called."


async def _ask(listing: _Listing, key: str | None, context: ActionContext) -> Response:
    headers = dict(listing.others)
    if key is not None:
        headers[listing.header] = listing.prefix + key
    rules = Rules(private_networks=_ANY_NETWORK, timeout_s=context.remaining_s(), max_bytes=LARGEST_LIST)
    return await exchange(Request("GET", listing.url, headers, confidential=key is not None), rules, context)


def _what_is_listed(answer: Response, listing: _Listing, host: str) -> str:
    try:
        models: Any = json.loads(answer.body)
        if listing.member is None:
            return f"{host} answers"
        count = len(models if isinstance(models, list) else models[listing.member])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"What {host} answers is no list of models."
        remedy = "Check API Base; servers like OpenAI's usually want it to end in /v1."
        raise _failed(message, "not_a_list", remedy) from None
    return f"{host} lists {count} model{'' if count == 1 else 's'}"


def _listing(connection: Connection, catalogue: Catalogue) -> _Listing:
    provider = str(connection.get("provider"))
    known = catalogue.provider(provider) if catalogue.has(provider) else None
    base = str(connection.get("api_base") or _BASES.get(provider) or (known and known.api_base) or "").rstrip("/")
    match provider:
        case "anthropic":
            root = base.removesuffix("/messages").removesuffix("/v1")
            return _Listing(f"{root}/v1/models", "x-api-key", "", (("anthropic-version", ANTHROPIC_VERSION),))
        case "gemini":
            return _Listing(f"{base}/models", "x-goog-api-key", "", member="models")
        case "azure" if base:
            version = connection.get("api_version", AZURE_VERSION)
            return _Listing(f"{base}/openai/models?api-version={version}", "api-key", "")
        case "ollama" | "ollama_chat":
            return _Listing(f"{base}/api/tags", member="models")
        case "openrouter":  # its list is open to everybody, what belongs to the key is not
            return _Listing(f"{base}/key", member=None)
        case "cohere":
            return _Listing(f"{base}/models", member="models")
    if base and (provider in _LIKE_OPENAI or (known and (known.api_base or known.self_hosted))):
        own = connection.get("organization")
        return _Listing(f"{base}/models", others=(("openai-organization", own),) if own else ())
    raise _untestable(
        f"Provider {provider!r} has no list of models that would prove the credentials; nothing was sent.",
        "A step with a short question and a small Max Tokens finds out.",
    )


def _failed(message: str, kind: str, remedy: str) -> ActionError:
    return ActionError(message, kind=kind, effect="none", remedy=remedy)


def _untestable(message: str, remedy: str | None = None) -> ActionError:
    return ActionError(message, kind=UNTESTABLE, effect="none", remedy=remedy)
