"""What is known of providers and models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from weft import wording
from weft.catalogue import fit as fits
from weft.catalogue.fit import Fit, Taking, Unfit
from weft.catalogue.prices import Prices
from weft.errors import NotFound
from weft.manifest import Parameter
from weft.types import Json

CAPABILITIES: Mapping[str, str] = {
    "tools": "calls functions",
    "parallel_tools": "calls several functions at once",
    "tool_choice": "can be told which function to call",
    "json_schema": "answers by a JSON Schema",
    "vision": "sees images",
    "pdf": "reads PDF documents",
    "audio_input": "hears",
    "audio_output": "speaks",
    "video": "sees videos",
    "reasoning": "thinks before it answers",
    "system_messages": "takes messages of the role system",
    "prompt_caching": "keeps the beginning of a prompt",
    "prefill": "continues an answer that was begun",
    "web_search": "searches the web",
    "computer_use": "uses a computer",
}
"""What `Model.supports` may hold, and what it means: all that LiteLLM's table says of capabilities and we can name."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that chats."""

    provider: str
    name: str  #: as a step writes it beside the provider
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    supports: frozenset[str] = frozenset()  #: of `CAPABILITIES`; what is missing is not known to be supported
    parameters: frozenset[str] = frozenset()  #: those of the action of which it takes at least some values
    prices: Prices | None = None
    deprecated_on: date | None = None  #: the day from which it is deprecated or gone
    fit: Fit = field(default_factory=Fit)  #: what becomes of each parameter's values
    own: bool = False  #: declared by the operator; its prices hold for any server


@dataclass(frozen=True, slots=True)
class Provider:
    """Who runs models."""

    id: str
    title: str
    credentials: tuple[Parameter, ...] = ()  #: fields of its connections, besides those that all have
    self_hosted: bool = False  #: a server of one's own: it wants no key, and nobody else's prices are its
    parameters: frozenset[str] = frozenset()  #: those that a model takes of which nothing else is known
    models: Mapping[str, Model] = field(default_factory=dict)  #: by name
    required: frozenset[str] = (
        frozenset()
    )  #: of api_key, api_base, api_version, organization: what it cannot do without
    api_base: str | None = None  #: its usual address, where LiteLLM's tables say it
    hosts: tuple[str, ...] = ()  #: names of its public servers, or their ends when they begin with a dot
    documentation: str | None = None  #: a page about it
    family: str = ""  #: the id of the provider under which documentation speaks of it; its own if it stands alone
    fit: Fit = field(default_factory=Fit)  #: for a model of which nothing else is known


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of what a model takes."""

    provider: Provider
    name: str
    model: Model | None  #: None: nothing is known of it; `parameters` then says what its provider usually takes
    parameters: tuple[Taking, ...]  #: all 18 in the order of the action
    nearest: str | None = None  #: the known model whose name comes nearest to an unknown one


class Catalogue:
    """Providers and their models, by LiteLLM's names.

    Args:
        read: Returns a function for each provider that makes it; called once, at the first question.
    """

    def __init__(self, read: Callable[[], Mapping[str, Callable[[], Provider]]] = dict) -> None:
        self._read = read
        self._made: dict[str, Provider] = {}

    @cached_property
    def _shelves(self) -> Mapping[str, Callable[[], Provider]]:
        return self._read()

    def providers(self) -> tuple[Provider, ...]:
        """Return all providers by id."""
        return tuple(self.provider(id_) for id_ in sorted(self._shelves))

    def names(self) -> tuple[str, ...]:
        """Return the ids of all providers, sorted; much cheaper than `providers`."""
        return tuple(sorted(self._shelves))

    def provider(self, id_: str) -> Provider:
        """Return a provider, or raise `NotFound` that names the nearest."""
        if id_ not in self._made:
            if id_ not in self._shelves:
                close = wording.meant(id_, self._shelves)
                raise NotFound(
                    f"No provider {id_!r} is known.",
                    remedy=close or "A server that speaks OpenAI's protocol is 'openai', with its address as API Base.",
                    code="unknown_provider",
                )
            self._made[id_] = self._shelves[id_]()
        return self._made[id_]

    def has(self, provider: str) -> bool:
        """Return whether a provider is known."""
        return provider in self._shelves

    def model(self, provider: str, name: str) -> Model | None:
        """Return a model, or None when nothing is known of it; `openai/gpt-4o` of `openai` is `gpt-4o`."""
        if not self.has(provider):
            return None
        models = self.provider(provider).models
        return models.get(name) or models.get(name.removeprefix(f"{provider}/"))

    def models(self, provider: str | None = None, *, supports: Collection[str] = ()) -> tuple[Model, ...]:
        """Return the models of a provider, or of all, that support all of `supports`, by provider and name."""
        providers = self.providers() if provider is None else (self.provider(provider),)
        return tuple(
            model
            for each in providers
            for _, model in sorted(each.models.items())
            if model.supports.issuperset(supports)
        )

    def unfit(self, provider: str, model: str, given: Mapping[str, Json]) -> tuple[Unfit, ...]:
        """Return what LiteLLM would refuse, or lose without a word, of the body's members `given` for a known model.

        Nothing is returned for a model that is not known; its caller says so. Members that are no parameters of the
        action, and values that are None, are passed over.
        """
        known = self.model(provider, model)
        return fits.unfit(known.fit, provider, known.name, given) if known else ()

    def forced(self, provider: str, model: str) -> frozenset[str]:
        """Return the parameters that the provider takes, but LiteLLM sends only if `allowed_openai_params` names them."""
        known = self.model(provider, model)
        if known is None and not self.has(provider):
            return frozenset()
        return (known or self.provider(provider)).fit.forced

    def explain(self, provider: str, model: str) -> Explanation:
        """Return why each of the 18 parameters is taken or not, with all else that is known of a model.

        Raises:
            NotFound: There is no such provider.
        """
        owner, known = self.provider(provider), self.model(provider, model)
        near = None if known else wording.nearest(model, owner.models)
        fit = known.fit if known else owner.fit
        return Explanation(owner, known.name if known else model, known, fits.takings(fit), near)
