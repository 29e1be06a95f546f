"""Whether the models of a chain are known and take what they are given, as far as that is known before a run."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from weft.sdk import Json, JsonObject, Known, Problem, Where

from ._chat_chain import attempts, matches
from ._chat_request import body
from ._chat_route import DIALOGUES, address, allowed, no_dialogue, usual_base

_MOST_STOPS: Final = 4
"""By the API references of OpenAI and Azure OpenAI."""


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
    yield from _check_place(arguments, known)
    yield from _check_stops(arguments, given, known)
    yield from _check_patterns(arguments)
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


def _check_place(arguments: Mapping[str, Json], known: Known) -> Iterator[Problem]:
    """Yield what is wrong with the step's own address, where the connection is known, and with its version."""
    provider, base = arguments.get("provider"), arguments.get("api_base")
    if not isinstance(provider, str):
        return
    settings = known.settings(provider)
    is_address = isinstance(base, str) and address(base) is not None  # else told by another rule
    if settings and is_address and not _allows(settings, provider, str(base)):
        yield Problem(
            "host_not_allowed",
            f"API Base {base!r} is not a host that the connection of provider {provider!r} may be used for.",
            "Add the host to the connection's allowed_hosts if its key may go there.",
            Where(field="api_base"),
        )
    if arguments.get("api_version") is not None and not provider.startswith("azure"):
        message = f"API Version does nothing with provider {provider!r}: only Azure's addresses have one."
        yield Problem("useless_api_version", message, "Remove it.", Where(field="api_version"), "warning")


def _allows(settings: Mapping[str, Json], provider: str, base: str) -> bool:
    hosts = settings.get("allowed_hosts")
    names = [str(host) for host in hosts] if isinstance(hosts, list) else []
    return allowed(base, usual_base(provider, settings.get), names)


def _check_stops(arguments: Mapping[str, Json], given: JsonObject, known: Known) -> Iterator[Problem]:
    """Yield a warning of more stop tokens than OpenAI takes; what another server takes under its protocol is open."""
    provider, stops = arguments.get("provider"), given.get("stop")
    if not isinstance(provider, str) or provider not in {"openai", "azure"} or not isinstance(stops, list):
        return
    elsewhere = provider == "openai" and (arguments.get("api_base") or known.settings(provider).get("api_base"))
    if len(stops) > _MOST_STOPS and not elsewhere:
        message = f"Provider {provider!r} takes up to {_MOST_STOPS} stop tokens, not {len(stops)}."
        yield Problem("too_many_stops", message, "Leave some out.", Where(field="stop"), "warning")


def _check_patterns(arguments: Mapping[str, Json]) -> Iterator[Problem]:
    """Yield a warning of each pattern in Fallbacks that is for another model than the step's."""
    provider, model, fallbacks = (arguments.get(name) for name in ("provider", "model", "fallbacks"))
    if not isinstance(provider, str) or not isinstance(model, str) or not isinstance(fallbacks, list):
        return
    for index, item in enumerate(fallbacks):
        for pattern in item if isinstance(item, dict) else ():
            if not matches(pattern, provider, model):
                message = f"The pattern {pattern!r} does nothing here: the model is {f'{provider}/{model}'!r}."
                remedy = "Correct it, or remove it."
                yield Problem("useless_pattern", message, remedy, Where(field=f"fallbacks[{index}]"), "warning")
