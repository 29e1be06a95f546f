"""What can be chosen from: providers, their models, what a model takes and costs, and the values of a form's field."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from weft import wording
from weft.catalogue import CAPABILITIES, Catalogue, Explanation, Model, Prices, Provider
from weft.catalogue.fit import KINDS
from weft.errors import NotFound
from weft.manifest import Options, Parameter
from weft.server.deps import LONGEST_CURSOR, HouseDep, Page, api, cursor, needs, read_cursor
from weft.server.routes.shapes import Asked, Object, Shape
from weft.types import Json

router = api("options")


class Wanted(Asked):
    """Which models are asked for."""

    find: str = Field(default="", max_length=200)
    """Words of which each stands in the name."""
    supports: list[str] = Field(default_factory=list, max_length=20)
    """Only models that can do all of this: tools, json_schema, vision, reasoning, …"""
    takes: list[str] = Field(default_factory=list, max_length=20)
    """Only models that take all of these parameters."""


class WantedModels(Wanted):
    """Which page of which models is asked for."""

    provider: str | None = Field(default=None, max_length=100)
    """Only those of this one."""
    cursor: str | None = Field(default=None, max_length=LONGEST_CURSOR)
    """What `next` of the page before said."""
    limit: int = Field(default=100, ge=1, le=500)
    """How many items at most."""


class WantedOptions(Asked):
    """Which page of which values is asked for."""

    by: str | None = Field(default=None, max_length=300)
    """The value of the parameter that narrows the list."""
    find: str = Field(default="", max_length=200)
    """Words of which each stands in the label."""
    cursor: str | None = Field(default=None, max_length=LONGEST_CURSOR)
    """What `next` of the page before said."""
    limit: int = Field(default=100, ge=1, le=500)
    """How many items at most."""


class ProviderSummary(Shape):
    """Who runs models."""

    id: str
    title: str
    self_hosted: bool
    """A server of one's own: it wants no key."""
    models: int
    """How many of its models are known by name, of those that were asked for."""
    parameters: list[str]
    """Those that a model of it takes of which nothing else is known."""
    credentials: list[str]
    """Fields of its connections, besides those that all have."""
    documentation: str | None


class ProviderDetail(ProviderSummary):
    """A provider with what its connections need."""

    required: list[str]
    """Which of api_key, api_base, api_version and organization it cannot do without."""
    api_base: str | None
    """Its usual address."""
    fields: list[Parameter]
    """The fields of its connections, besides those that all have."""
    connections: list[str]
    """The connections there are of it."""


class TierObject(Shape):
    """Prices that replace others when the input is longer."""

    above: int
    """Tokens read."""
    input: float | None
    output: float | None


class PricesObject(Shape):
    """What a million tokens cost; null where no price is known."""

    currency: str
    input: float | None
    output: float | None
    cached_input: float | None
    tiers: list[TierObject]


class ModelObject(Shape):
    """A model that chats."""

    provider: str
    name: str
    max_input_tokens: int | None
    max_output_tokens: int | None
    prices: PricesObject | None
    supports: list[str]
    """What it can do: tools, json_schema, vision, …"""
    parameters: list[str]
    """Those of which it takes at least some values."""
    deprecated_on: date | None
    """The day from which it is deprecated or gone."""
    own: bool
    """Declared by the operator."""


class TakingObject(Shape):
    """What a model makes of one parameter."""

    name: str
    state: Literal["taken", "some", "refused", "ignored"]
    """some: only some of its values, or not beside others; ignored: lost without a word."""
    values: list[str]
    """Which values are taken, in words, where not all are."""
    message: str
    then: Literal["sent", "error", "dropped"]
    """What becomes of it with the settings of the connection, where it is not taken."""


class ExplanationObject(Shape):
    """All that is known of what a model takes."""

    provider: ProviderSummary
    model: ModelObject | None
    """Null: nothing is known of it, and `parameters` say what its provider usually takes."""
    near: list[str]
    """Known models whose names come near to an unknown one."""
    parameters: list[TakingObject]
    unfit: list[UnfitObject]
    """Which of the given values it would refuse, or lose without a word."""


class UnfitObject(Shape):
    """A given value that a model does not take."""

    parameter: str
    reason: Literal["unsupported", "value", "ignored"]
    message: str
    remedy: str


class ExplainAsked(Asked):
    """Which model is asked about, with what."""

    provider: str = Field(max_length=100)
    model: str = Field(max_length=300)
    connection: str | None = Field(default=None, max_length=64)
    """Whose settings count: whether what is not taken is an error or is left out."""
    given: Object = Field(default_factory=dict)
    """Values of parameters, to be told which of them do not fit."""


class EstimateAsked(Asked):
    """An answer of which the price is asked."""

    provider: str = Field(max_length=100)
    model: str = Field(max_length=300)
    prompt_tokens: int = Field(ge=0, le=100_000_000)
    completion_tokens: int = Field(ge=0, le=100_000_000)


class EstimateObject(Shape):
    """The most that an answer can cost."""

    cost: float | None
    """Null: nobody knows."""
    currency: str | None
    why: str = ""
    """Why no cost is known."""


class OptionObject(Shape):
    """A value that a field may be given."""

    value: Json
    label: str
    description: str = ""


class OptionsPage(Page[OptionObject]):
    """Values for a field."""

    closed: bool = Field(description="Whether only these are allowed.")


@router.get("/providers", dependencies=[needs("view")])
async def list_providers(house: HouseDep, wanted: Annotated[Wanted, Query()]) -> list[ProviderSummary]:
    """List all providers of models, or those that have models of a kind."""
    catalogue = house.runtime.catalogue
    _check(wanted)
    found = []
    for provider in catalogue.providers():
        models = _among(catalogue, provider.id, wanted, is_named=False)
        if (models or not (wanted.supports or wanted.takes)) and _has_words(
            f"{provider.id} {provider.title}", wanted.find
        ):
            found.append(_provider(provider, len(models)))
    return found


@router.get("/providers/{provider}", dependencies=[needs("view")])
async def show_provider(house: HouseDep, provider: str) -> ProviderDetail:
    """Show a provider and what its connections need."""
    found = house.runtime.catalogue.provider(provider)
    summary = _provider(found, len(found.models))
    listed = await asyncio.to_thread(house.runtime.connections.listed)
    connections = [each.facts.name for each in listed if each.shadowed_by is None and each.facts.provider == found.id]
    return ProviderDetail(
        **dict(summary),
        required=sorted(found.required),
        api_base=found.api_base,
        fields=list(found.credentials),
        connections=connections,
    )


@router.get("/models", dependencies=[needs("view")])
async def list_models(house: HouseDep, wanted: Annotated[WantedModels, Query()]) -> Page[ModelObject]:
    """List models by provider and name."""
    _check(wanted)
    found = _among(house.runtime.catalogue, wanted.provider, wanted)
    if wanted.cursor is not None:
        after = tuple(read_cursor(wanted.cursor, str, str))
        found = [each for each in found if (each.provider, each.name) > after]
    page = found[: wanted.limit]
    more = cursor(page[-1].provider, page[-1].name) if len(found) > wanted.limit else None
    return Page(items=[_model(each) for each in page], next=more)


@router.post("/models/explain", dependencies=[needs("view")])
async def explain_model(house: HouseDep, asked: ExplainAsked) -> ExplanationObject:
    """Tell which parameters a model takes, why it does not take the others, and which given values do not fit."""
    catalogue = house.runtime.catalogue
    found = catalogue.explain(asked.provider, asked.model)
    drops = await asyncio.to_thread(_setting, house, asked.connection) == "drop"
    unfit = catalogue.unfit(asked.provider, asked.model, asked.given)
    near = [] if found.model else difflib.get_close_matches(found.name, found.provider.models, 3, 0.6)
    return ExplanationObject(
        provider=_provider(found.provider, len(found.provider.models)),
        model=None if found.model is None else _model(found.model),
        near=list(near),
        parameters=_takings(found, drops=drops),
        unfit=[
            UnfitObject(parameter=each.parameter, reason=each.reason, message=each.message, remedy=each.remedy)
            for each in unfit
        ],
    )


@router.post("/models/estimate", dependencies=[needs("view")])
async def estimate_model(house: HouseDep, asked: EstimateAsked) -> EstimateObject:
    """Tell the most that an answer with so many tokens can cost."""
    house.runtime.catalogue.provider(asked.provider)
    model = house.runtime.catalogue.model(asked.provider, asked.model)
    if model is None or model.prices is None:
        return EstimateObject(cost=None, currency=None, why="No price of this model is known.")
    most = model.prices.most(asked.prompt_tokens, asked.completion_tokens)
    if most is None:
        return EstimateObject(cost=None, currency=None, why="Some of its tokens have no known price.")
    return EstimateObject(cost=most.amount, currency=most.currency)


@router.get("/actions/{action}/options/{parameter}", dependencies=[needs("view")])
async def list_options(
    house: HouseDep, action: str, parameter: str, wanted: Annotated[WantedOptions, Query()]
) -> OptionsPage:
    """List the values that a field of an action's form suggests."""
    manifest = house.runtime.registry.action(action).manifest
    known = {each.name: each for each in manifest.all_parameters}
    if parameter not in known:
        remedy = wording.meant(parameter, known) or f"There are: {', '.join(known)}."
        raise NotFound(f"{action!r} has no parameter {parameter!r}.", code="unknown_parameter", remedy=remedy)
    declared = known[parameter]
    found = [
        each for each in _options(house.runtime.catalogue, declared, wanted.by) if _has_words(each.label, wanted.find)
    ]
    begin = 0 if wanted.cursor is None else read_cursor(wanted.cursor, int)[0]
    page = found[begin : begin + wanted.limit]
    more = cursor(begin + wanted.limit) if len(found) > begin + wanted.limit else None
    closed = declared.enum is not None or (declared.options is not None and declared.options.closed)
    return OptionsPage(items=page, next=more, closed=closed)


def _options(catalogue: Catalogue, declared: Parameter, by: str | None) -> list[OptionObject]:
    options = declared.options or Options()
    if options.source == "providers":
        return [
            OptionObject(value=each.id, label=f"{each.id} {each.title}", description=each.title)
            for each in catalogue.providers()
        ]
    if options.source == "models":
        provider = by if by is None or catalogue.has(by) else None
        if by is not None and provider is None:
            return []  # of an unknown provider nothing is known; every name is tried
        return [
            OptionObject(value=each.name, label=each.name, description=_said(each))
            for each in catalogue.models(provider)
        ]
    values: Iterable[Json] = declared.enum or options.values or ()
    return [OptionObject(value=each, label=each if isinstance(each, str) else wording.shown(each)) for each in values]


def _said(model: Model) -> str:
    parts = []
    if model.max_input_tokens:
        parts.append(f"{model.max_input_tokens:,} tokens")
    if model.prices and model.prices.input is not None and model.prices.output is not None:
        parts.append(f"{model.prices.input:g} / {model.prices.output:g} {model.prices.currency} for a million")
    if model.deprecated_on:
        parts.append(f"until {model.deprecated_on}")
    return ", ".join(parts)


def _has_words(text: str, find: str) -> bool:
    return all(word in text.casefold() for word in find.casefold().split())


def _check(wanted: Wanted) -> None:
    for given, known, what in (
        (wanted.supports, CAPABILITIES, "capability"),
        (wanted.takes, KINDS, "parameter"),
    ):
        for name in given:
            if name not in known:
                remedy = wording.meant(name, known) or f"There are: {', '.join(known)}."
                raise NotFound(f"There is no {what} {wording.shown(name)}.", code=f"unknown_{what}", remedy=remedy)


def _among(catalogue: Catalogue, provider: str | None, wanted: Wanted, *, is_named: bool = True) -> list[Model]:
    of = None if provider is None else catalogue.provider(provider).id
    return [
        each
        for each in catalogue.models(of, supports=wanted.supports)
        if each.parameters.issuperset(wanted.takes) and (not is_named or _has_words(each.name, wanted.find))
    ]


def _setting(house: HouseDep, connection: str | None) -> Json:
    """Return what a connection's calls do with a parameter that is not taken."""
    if connection is None:
        return None
    facts = house.runtime.connections.facts(connection, "model_provider")
    return None if facts is None else facts.settings.get("unsupported_parameters")


# ---- as `weft models --json` tells them
def _provider(provider: Provider, models: int) -> ProviderSummary:
    return ProviderSummary(
        id=provider.id,
        title=provider.title,
        self_hosted=provider.self_hosted,
        models=models,
        parameters=[name for name in KINDS if name in provider.parameters],
        credentials=[field.name for field in provider.credentials],
        documentation=provider.documentation,
    )


def _model(model: Model) -> ModelObject:
    return ModelObject(
        provider=model.provider,
        name=model.name,
        max_input_tokens=model.max_input_tokens,
        max_output_tokens=model.max_output_tokens,
        prices=None if model.prices is None else _prices(model.prices),
        supports=[name for name in CAPABILITIES if name in model.supports],
        parameters=[name for name in KINDS if name in model.parameters],
        deprecated_on=model.deprecated_on,
        own=model.own,
    )


def _prices(prices: Prices) -> PricesObject:
    tiers = [TierObject(above=each.above, input=each.input, output=each.output) for each in prices.tiers]
    return PricesObject(
        currency=prices.currency,
        input=prices.input,
        output=prices.output,
        cached_input=prices.cached_input,
        tiers=tiers,
    )


def _takings(found: Explanation, *, drops: bool) -> list[TakingObject]:
    return [
        TakingObject(
            name=each.parameter,
            state=each.verdict,
            values=list(each.taken),
            message=each.message,
            then="sent" if each.verdict == "taken" else "dropped" if drops else "error",
        )
        for each in found.parameters
    ]


ExplanationObject.model_rebuild()
