"""What is known of providers and models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from weft.manifest import Parameter
from weft.types import Json


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount of money."""

    amount: float
    currency: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model's tokens cost, in `currency` for a million of them; None where no price is known."""

    currency: str
    input: float | None = None
    output: float | None = None

    def cost(self, usage: Mapping[str, Json]) -> Cost | None:
        """Return the cost of an answer with this `usage` (OpenAI's object), or None when it cannot be known."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Unfit:
    """A given parameter that a model does not take as it is given."""

    parameter: str
    reason: Literal["unsupported", "value", "ignored"]  #: not taken at all; not with this value; taken and then lost
    message: str  #: one sentence that names parameter, provider and model
    remedy: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model that chats."""

    provider: str
    name: str
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    supports: frozenset[str] = frozenset()  #: `tools`, `json_schema`, `vision`, `reasoning`, …
    parameters: frozenset[str] = frozenset()  #: those of the action that it takes
    prices: Prices | None = None
    deprecated_on: date | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """Who runs models."""

    id: str
    title: str
    credentials: tuple[Parameter, ...] = ()  #: fields of its connections, besides those that all have
    self_hosted: bool = False
    parameters: frozenset[str] = frozenset()  #: those that a model takes of which nothing else is known
    models: Mapping[str, Model] = field(default_factory=dict)


class Catalogue:
    """Providers and their models, by LiteLLM's names."""

    def providers(self) -> tuple[Provider, ...]:
        """Return all providers by id."""
        raise NotImplementedError

    def provider(self, id_: str) -> Provider:
        """Return a provider, or raise `NotFound` that names the nearest."""
        raise NotImplementedError

    def has(self, provider: str) -> bool:
        raise NotImplementedError

    def model(self, provider: str, name: str) -> Model | None:
        """Return a model, or None when nothing is known of it."""
        raise NotImplementedError

    def models(self, provider: str | None = None, *, supports: Collection[str] = ()) -> tuple[Model, ...]:
        """Return the models of a provider, or of all, that support all of `supports`."""
        raise NotImplementedError

    def unfit(self, provider: str, model: str, given: Mapping[str, Json]) -> tuple[Unfit, ...]:
        """Return what LiteLLM would refuse, or lose without a word, of the body's members `given` for a known model."""
        raise NotImplementedError
