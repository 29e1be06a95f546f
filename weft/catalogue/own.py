"""Models and prices of one's own: a YAML file whose statements stand above those of the shipped catalogue.

    models:
      hosted_vllm:
        our-qwen:
          like: deepinfra/Qwen/Qwen3-235B-A22B-Instruct-2507
          max_input_tokens: 32000
          prices: {currency: EUR, input: 0.2, output: 0.2}

A provider is code in LiteLLM, so a file cannot bring one; its models it can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from weft import publishing, source, validation, wording
from weft.catalogue.fit import KINDS, Fit, Verdict
from weft.catalogue.model import CAPABILITIES, Catalogue, Model, Provider
from weft.catalogue.prices import Prices, Tier
from weft.errors import InvalidDocument
from weft.types import DocumentPath, JsonObject
from weft.validation import Findings

Price = Annotated[float, Field(ge=0)]


class InvalidCatalogue(InvalidDocument):
    code = "invalid_catalogue"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class OwnTier(_Part):
    """Prices for longer inputs."""

    above: int = Field(ge=1)
    """The tokens of input above which these prices hold, for all tokens of the request."""
    input: Price | None = None
    """A million tokens of input."""
    output: Price | None = None
    """A million tokens of output."""
    cached_input: Price | None = None
    """A million tokens that are read from a cache."""
    cache_write: Price | None = None
    """A million tokens that are written to a cache."""


class OwnPrices(_Part):
    """What a model's tokens cost."""

    currency: str = Field(pattern="^[A-Z]{3}$")
    """Its code of three letters: USD, EUR."""
    input: Price
    """A million tokens of input."""
    output: Price
    """A million tokens of output."""
    cached_input: Price | None = None
    """A million tokens that are read from a cache; left out: as other input."""
    cache_write: Price | None = None
    """A million tokens that are written to a cache; left out: as other input."""
    reasoning: Price | None = None
    """A million tokens of thoughts; left out: as other output."""
    audio_input: Price | None = None
    """A million tokens of sound that is heard."""
    audio_output: Price | None = None
    """A million tokens of sound that is spoken."""
    request: Price = 0.0
    """Each request, besides its tokens."""
    tiers: list[OwnTier] = Field(default_factory=list)
    """Other prices for longer inputs."""


class OwnModel(_Part):
    """What is known of one model; what is left out is taken from `like`, or from the shipped catalogue."""

    like: str | None = None
    """A known model that this one is, as a name of the same provider or as provider/name; never for its prices."""
    prices: OwnPrices | None = None
    """What its tokens cost; they hold for any server."""
    max_input_tokens: int | None = Field(default=None, ge=1)
    """The longest input."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """The longest answer."""
    parameters: list[str] | None = None
    """The parameters that it takes; others are then refused."""
    supports: list[str] | None = None
    """What it can: tools, json_schema, vision."""
    deprecated_on: str | None = Field(default=None, pattern=r"^\d{4}-\d\d-\d\d$")
    """The day from which it is deprecated or gone."""


class OwnCatalogue(_Part):
    """Models and prices of one's own."""

    models: dict[str, dict[str, OwnModel]]
    """Provider, then model by the name that a step gives."""


def json_schema() -> JsonObject:
    """Return the JSON Schema of files with models of one's own, for completion in editors."""
    return publishing.json_schema(OwnCatalogue, "Weft models")


def above(shipped: Catalogue, file: Path) -> Mapping[str, Callable[[], Provider]]:
    """Return a function for each provider that makes it with the models of a file.

    Raises:
        InvalidSource: The file cannot be read, or is not the YAML that Weft reads.
        InvalidCatalogue: It breaks rules; carries every problem with its place.
    """
    document = source.read_file(file)
    own = validation.document(
        OwnCatalogue, document, InvalidCatalogue, lambda found, findings: _check(found, shipped, findings)
    )
    made = {id_: partial(shipped.provider, id_) for id_ in shipped.names()}
    return {**made, **{id_: partial(_provider, shipped, id_, models) for id_, models in own.models.items()}}


def _check(own: OwnCatalogue, shipped: Catalogue, findings: Findings) -> None:
    for id_, models in own.models.items():
        if not shipped.has(id_):
            remedy = wording.meant(id_, shipped.names()) or "A server that speaks OpenAI's protocol is 'openai'."
            findings.add(("models", id_), "unknown_provider", f"No provider {id_!r} is known.", remedy, key=True)
            continue
        for name, model in models.items():
            _check_model(("models", id_, name), shipped.provider(id_), model, shipped, findings)


def _check_model(
    path: DocumentPath, provider: Provider, model: OwnModel, shipped: Catalogue, findings: Findings
) -> None:
    if model.like is not None and _like(shipped, provider.id, model.like) is None:
        named, _, rest = model.like.partition("/")
        owner, name = (shipped.provider(named), rest) if rest and shipped.has(named) else (provider, model.like)
        remedy = wording.meant(name, owner.models) or f"weft models {owner.id} lists those that are known."
        findings.add((*path, "like"), "unknown_model", f"No model {model.like!r} is known.", remedy)
    for index, name in enumerate(model.parameters or ()):
        place: DocumentPath = (*path, "parameters", index)
        if name not in KINDS:
            findings.add(place, "unknown_parameter", f"There is no parameter {name!r}.", wording.meant(name, KINDS))
        elif not provider.fit.takes(name):
            message = f"{provider.id!r} does not take {name!r}, whatever its model."
            findings.add(place, "unsupported_parameter", message, "Delete it.")
    for index, name in enumerate(model.supports or ()):
        if name not in CAPABILITIES:
            remedy = wording.meant(name, CAPABILITIES) or f"There are: {', '.join(CAPABILITIES)}."
            findings.add((*path, "supports", index), "unknown_capability", f"Nothing is called {name!r}.", remedy)
    if model.deprecated_on is not None and _day(model.deprecated_on) is None:
        findings.add((*path, "deprecated_on"), "date", f"{model.deprecated_on} is no day.", "Write YYYY-MM-DD.")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _like(shipped: Catalogue, provider: str, name: str) -> Model | None:
    other, _, rest = name.partition("/")
    return shipped.model(provider, name) or shipped.model(other, rest)


def _provider(shipped: Catalogue, id_: str, models: Mapping[str, OwnModel]) -> Provider:
    provider = shipped.provider(id_)
    made = {name: _model(shipped, provider, name, model) for name, model in models.items()}
    return replace(provider, models={**provider.models, **made})


def _model(shipped: Catalogue, provider: Provider, name: str, told: OwnModel) -> Model:
    known = shipped.model(provider.id, name)
    like = _like(shipped, provider.id, told.like) if told.like else None
    base = like or known or Model(provider.id, name, fit=provider.fit)
    fit = known.fit if known else provider.fit
    if like and like.provider == provider.id:
        fit = _joined(fit, like.fit)
    if told.parameters is not None:
        refused: Mapping[str, Mapping[str, Verdict]] = {
            each: dict.fromkeys(kinds, "refused") for each, kinds in KINDS.items() if each not in told.parameters
        }
        fit = _joined(fit, Fit(refused))
    return Model(
        provider.id,
        name,
        told.max_input_tokens or base.max_input_tokens,
        told.max_output_tokens or base.max_output_tokens,
        frozenset(told.supports) if told.supports is not None else base.supports,
        fit.taken(),
        _prices(told.prices) if told.prices else known.prices if known else None,
        date.fromisoformat(told.deprecated_on) if told.deprecated_on else base.deprecated_on,
        fit,
        own=told.prices is not None,
    )


def _joined(one: Fit, two: Fit) -> Fit:
    """Return what passes both: LiteLLM judges by the name that it is given, the server by the model behind it."""
    verdicts: dict[str, Mapping[str, Verdict]] = {}
    for name, kinds in KINDS.items():
        found: dict[str, Verdict] = {
            each: one.verdict(name, each) if one.verdict(name, each) != "taken" else two.verdict(name, each)
            for each in kinds
        }
        if set(found.values()) != {"taken"}:
            verdicts[name] = found
    together = [rule for rule in (*one.together, *two.together) if rule.verdict != "taken"]
    return Fit(verdicts, tuple(dict.fromkeys(together)), one.forced)


def _prices(told: OwnPrices) -> Prices:
    tiers = tuple(Tier(**tier.model_dump()) for tier in sorted(told.tiers, key=lambda tier: tier.above))
    write = told.input if told.cache_write is None else told.cache_write
    return Prices(
        told.currency,
        told.input,
        told.output,
        told.input if told.cached_input is None else told.cached_input,
        write,
        write,
        told.reasoning,
        told.audio_input,
        told.audio_output,
        told.request,
        tiers,
    )
