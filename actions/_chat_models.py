"""Whether the models of a chain are known and take what they are given, as far as that is known before a run."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from weft.sdk import Json, JsonObject, Known, Problem, Where

from ._chat_chain import attempts
from ._chat_request import body
from ._chat_route import DIALOGUES, no_dialogue


def check_models(arguments: Mapping[str, Json], known: Known) -> Iterator[Problem]:
    """Yield what the catalogue says against the step's provider and model, and against those of its fallbacks."""
    provider = arguments.get("provider")
    if isinstance(provider, str) and not known.catalogue.has(provider):
        yield _unknown_provider(provider, known)
        return
    if isinstance(provider, str) and provider in DIALOGUES:
        yield Problem("no_dialogue", *no_dialogue(provider), Where(field="provider"))
    try:
        given, _ = body(arguments)
    except ValueError:
        return  # told by another rule
    for place, variant in enumerate(attempts(arguments, known)):
        target = _Target(str(variant.provider), variant.name.partition("/")[2], place > 0)
        yield from _unfit(target, given, arguments.get("additional_parameters"), known)
        if (warning := _unknown_model(target, {**arguments, **variant.arguments}, known)) is not None:
            yield warning


@dataclass(frozen=True, slots=True)
class _Target:
    provider: str
    model: str
    fallback: bool

    @property
    def field(self) -> str:
        return "fallbacks" if self.fallback else "model"


def _unknown_provider(provider: str, known: Known) -> Problem:
    close = difflib.get_close_matches(provider, known.catalogue.names(), 1)
    remedy = f"Did you mean {close[0]!r}?" if close else "A server that speaks OpenAI's protocol is `openai`."
    message = f"No provider {provider!r} is known whose models chat."
    return Problem("unknown_provider", message, remedy, Where(field="provider"))


def _unfit(target: _Target, given: JsonObject, additional: Json, known: Known) -> Iterator[Problem]:
    drops = known.settings(target.provider).get("unsupported_parameters") == "drop"
    severity: Literal["error", "warning"] = "warning" if drops or target.fallback else "error"
    for unfit in known.catalogue.unfit(target.provider, target.model, given):
        remedy = unfit.remedy
        if target.fallback:
            remedy = "It is left out when the fallback is called, and listed in the output."
        elif drops:
            remedy = "It is left out, as the connection says, and listed in the output."
        name = unfit.parameter
        inside = isinstance(additional, dict) and name in additional
        field = "fallbacks" if target.fallback else f"additional_parameters.{name}" if inside else name
        yield Problem("unsupported_parameter", unfit.message, remedy, Where(field=field), severity)


def _unknown_model(target: _Target, given: Mapping[str, Json], known: Known) -> Problem | None:
    """Return a warning of a model that the catalogue lacks, where the provider's own server is meant."""
    provider = known.catalogue.provider(target.provider)
    settings = known.settings(target.provider)
    own_server = provider.self_hosted or given.get("api_base") or settings.get("api_base") or not settings
    if own_server or not provider.models or known.catalogue.model(target.provider, target.model) is not None:
        return None
    close = difflib.get_close_matches(target.model, provider.models, 1)
    return Problem(
        "unknown_model",
        f"Nothing is known of model {target.model!r} of provider {target.provider!r}; "
        "whether it takes the parameters is checked just before the request.",
        f"Did you mean {close[0]!r}?" if close else f"`weft models {target.provider}` lists those that are known.",
        Where(field=target.field),
        "warning",
    )
