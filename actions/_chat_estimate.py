"""The most that a completion may use up, and what it has used up: for budgets and limits."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from weft.sdk import Catalogue, Cost, Estimate, Json, JsonObject, Known, Model, Usage

from ._chat_record import MAY_HAVE_RUN, UNKNOWN
from ._chat_request import body
from ._chat_route import address, is_public, usual_base

FRAME: Final = 500
"""Tokens that a model's template may put around a conversation, such as a system prompt of its own."""

TOOL_FRAME: Final = 1_000
"""Further tokens with which a model is told that it may call functions, or answer in a format. Anthropic names up to
530 (docs.anthropic.com, Tool use, pricing)."""

MESSAGE_FRAME: Final = 16
"""Tokens that may mark where a message begins and ends; OpenAI's templates have 4, those of open models up to 10."""

_TEXTS: Final = {"text", "refusal"}
"""Types of a message's parts whose tokens come from their bytes; of a picture nobody can tell them so."""

_WRITTEN: Final = {
    "annotations",
    "cache_control",
    "content",
    "function_call",
    "name",
    "prefix",
    "provider_specific_fields",
    "reasoning",
    "reasoning_content",
    "refusal",
    "role",
    "thinking_blocks",
    "tool_call_id",
    "tool_calls",
}
"""Members of a message that are read as text. Others may be pictures, such as Ollama's `images`."""

_PRICED_OTHERWISE: Final = {"inference_geo", "prediction", "service_tier", "speed"}
"""Members of the body that change what tokens cost, in a way that the catalogue does not know."""

_BRINGS_MORE: Final = {"best_of", "mcp_servers", "plugins", "search_parameters", "web_search_options"}
"""Members of the body that bring about further charges and further tokens: what a search finds is read as well."""


def estimate(arguments: Mapping[str, Json], known: Known) -> Estimate:
    """Return the most that one attempt with these arguments may cost, and how many tokens it may take.

    A tokenizer makes at most one token of each byte (byte-level BPE, and SentencePiece with bytes to fall back on), so
    the bytes of all that is sent bound the prompt, with what a template puts around it; where some tokenizers write a
    sign in several others first (NFKC), the bytes of those. A picture or a document is not bounded by its bytes: then
    the longest input that the model takes is reserved. The answer is bounded by Max Tokens, where the model takes it, or
    by the model's own longest answer, times `n`.
    """
    provider, name = arguments.get("provider"), arguments.get("model")
    if not isinstance(provider, str) or not isinstance(name, str):
        return Estimate(why="Provider and model are not known.")
    try:
        given, extra = body(arguments)
    except ValueError:
        return Estimate(why="The request cannot be made.")
    messages = arguments.get("messages")
    messages = messages if isinstance(messages, list) else []
    read = [messages, *(given.get(each) for each in ("tools", "response_format", "tool_choice")), extra]
    text = json.dumps(read, ensure_ascii=False, separators=(",", ":"))
    of_prompt = _prompt(text, messages, given, known.catalogue.model(provider, name))
    of_answer = _answer(given, provider, name, known.catalogue)
    if of_prompt is None or of_answer is None:
        what = "a part of the messages is no text" if of_prompt is None else "Max Tokens is not given"
        return Estimate(why=f"{what[0].upper()}{what[1:]}, and nothing is known of the limits of {provider}/{name}.")
    tokens = of_prompt + of_answer
    if more := sorted(_BRINGS_MORE & extra.keys()) + (["tools"] if _runs_elsewhere(given) else []):
        return Estimate(why=f"What {more[0]!r} takes and costs is not in the catalogue.")
    if otherwise := sorted(_PRICED_OTHERWISE & extra.keys()):
        return Estimate(tokens=tokens, why=f"What {otherwise[0]!r} costs is not in the catalogue.")
    cost, why = _cost(arguments, text, known, (of_prompt, of_answer))
    return Estimate(cost, tokens, why)


def usage(told: Mapping[str, Json], kind: str | None) -> Usage:
    """Return what one attempt has used up, by its output or by the details of its failure."""
    if kind is None:
        weft = told.get("weft")
        attempts = weft.get("attempts") if isinstance(weft, dict) else None
        this = attempts[-1] if isinstance(attempts, list) and attempts else None
        return Usage(_money(this.get("cost")), _counted(this.get("tokens"))) if isinstance(this, dict) else Usage()
    if told.get("cost") is None:  # the executor tells of it: either it may have run, or it had not begun
        return Usage() if kind in MAY_HAVE_RUN else Usage(Cost(0.0, "USD"), 0)
    cost, tokens = _money(told["cost"]), _counted(told.get("usage"))
    return Usage(cost, 0 if tokens is None and cost is not None and not cost.amount else tokens)


def _prompt(text: str, messages: Sequence[Json], given: JsonObject, model: Model | None) -> int | None:
    """Return the most tokens that the prompt may have; `text` is all of it."""
    written = text if text.isascii() else max(text, unicodedata.normalize("NFKC", text), key=_size)
    most = _size(written) + FRAME + MESSAGE_FRAME * len(messages)
    if given.keys() & {"tools", "response_format"}:
        most += TOOL_FRAME
    if all(map(_is_text, messages)):
        return most
    return None if model is None or model.max_input_tokens is None else max(most, model.max_input_tokens)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _is_text(message: Json) -> bool:
    if not isinstance(message, dict) or any(message[name] is not None for name in message.keys() - _WRITTEN):
        return False
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return all(isinstance(part, dict) and part.get("type") in _TEXTS for part in parts)


def _answer(given: JsonObject, provider: str, name: str, catalogue: Catalogue) -> int | None:
    """Return the most tokens that the answer may have, all choices together."""
    model = catalogue.model(provider, name)
    fit = model.fit if model else catalogue.provider(provider).fit if catalogue.has(provider) else None
    limits = [
        limit
        for key in ("max_completion_tokens", "max_tokens")
        if isinstance(limit := given.get(key), int) and (fit is None or fit.verdict(key, "any") == "taken")
    ]
    most = max(limits) if limits else model.max_output_tokens if model else None
    choices = given.get("n")
    return None if most is None else most * (choices if isinstance(choices, int) else 1)


def _runs_elsewhere(given: JsonObject) -> bool:
    """Whether a tool is one that the provider runs, and charges for, such as a search."""
    tools = given.get("tools")
    return isinstance(tools, list) and any(not isinstance(t, dict) or t.get("type") != "function" for t in tools)


def _cost(arguments: Mapping[str, Json], text: str, known: Known, tokens: tuple[int, int]) -> tuple[Cost | None, str]:
    """Return the most that so many tokens cost by the catalogue's prices, or why that is not known."""
    provider, name = str(arguments["provider"]), str(arguments["model"])
    model = known.catalogue.model(provider, name)
    own_server = not _goes_public(arguments, provider, known)
    if model is None or model.prices is None or (own_server and not model.own):
        where = " on a server of your own" if own_server else ""
        return None, f"{provider}/{name}{where} has no price in the catalogue."
    audio = '"input_audio"' in text or '"modalities"' in text
    cost = model.prices.most(*tokens, kept='"cache_control"' in text, audio=audio)
    return cost, "" if cost else f"{provider}/{name} has no price for sound."


def _goes_public(arguments: Mapping[str, Json], provider: str, known: Known) -> bool:
    """Whether the request goes to the provider's own servers, whose prices the catalogue has."""
    base = arguments.get("api_base") or usual_base(provider, known.settings(provider).get)
    place = address(base) if isinstance(base, str) else None
    owner = known.catalogue.provider(provider) if known.catalogue.has(provider) else None
    return is_public(owner, place[1] if place else None)


def _money(told: Json) -> Cost | None:
    if told == UNKNOWN or not isinstance(told, dict):
        return None
    amount, currency = told.get("amount"), told.get("currency")
    return Cost(float(amount), currency) if isinstance(amount, int | float) and isinstance(currency, str) else None


def _counted(told: Json) -> int | None:
    """Return how many tokens were counted; some count thoughts beside the answer, and only in the total."""
    if not isinstance(told, dict):
        return None
    counts: Sequence[Json] = [told.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    whole = [count for count in counts if isinstance(count, int)]
    return max(whole[0] + whole[1], whole[2]) if len(whole) == len(counts) else None
