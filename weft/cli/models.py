"""`weft models`: providers, their models, and what a model makes of each parameter."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem

from weft.catalogue import CAPABILITIES, Catalogue, Explanation, Model, Prices, Provider, Taking, catalogue_of
from weft.catalogue.fit import KINDS
from weft.cli.model_view import ordered, page, plain, show_models, show_providers
from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.errors import NotFound, WeftError
from weft.types import JsonObject
from weft.wording import choice, meant

PARAMETERS = tuple(KINDS)
"""Those of a completion that stand in the request besides model and messages."""


class _Models(click.Group):
    """A word that is no command is a provider: `weft models openai` is `weft models list openai`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or list_

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["list", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if options or not (args or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return list_.shell_complete(click.Context(list_, ctx), incomplete)
        return [*super().shell_complete(ctx, incomplete), *_providers_like(ctx, incomplete)]


def provider_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the id of a provider."""
    return _providers_like(context, incomplete)


def model_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a model of the provider that the command line names."""
    catalogue, provider = _catalogue(context), str(context.params.get("provider"))
    found = catalogue.provider(provider).models if catalogue.has(provider) else ()
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]


def parameter_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a parameter."""
    return [CompletionItem(name) for name in PARAMETERS if name.startswith(incomplete)]


def _completing(names: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return what completes the last of several names with commas between them."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(before + comma + name) for name in names if name.startswith(last)]

    return complete


def _providers_like(context: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _catalogue(context).names() if name.startswith(incomplete)]


def _catalogue(context: click.Context) -> Catalogue:
    """Return the catalogue for completing a word; nothing is told there."""
    try:
        return catalogue_of((context.find_object(State) or State()).find_home())
    except WeftError:
        return Catalogue()


@click.group("models", cls=_Models)
def command() -> None:
    """See providers and models, and why a parameter is refused.

    \b
    weft models                            all providers
    weft models openai                     the models of one
    weft models openai --find mini         those with these letters in their names
    weft models --find sonnet              the same with all providers
    weft models --supports tools,vision    who has models that can do both
    weft models openai --takes seed        those that take a parameter
    weft models explain openai gpt-5-mini  what becomes of each parameter

    What is told is what Weft checks by: it stands in the catalogue that comes with Weft, nobody is asked. Models and
    prices of your own stand in models.yaml in Weft's home; its format: weft schema models.
    """


@command.command("list", short_help="List providers, or the models of one.")
@click.argument("provider", required=False, shell_complete=provider_ids)
@click.option(
    "--supports",
    metavar="NAME,...",
    multiple=True,
    shell_complete=_completing(CAPABILITIES),
    help="Only models that can do all of this: tools, json_schema, vision, reasoning, ...",
)
@click.option(
    "--takes",
    metavar="NAME,...",
    multiple=True,
    shell_complete=_completing(PARAMETERS),
    help="Only models that take all of these parameters.",
)
@click.option("--find", metavar="TEXT", multiple=True, help="Only models with this in their names.")
@json_option
@home_option
@pass_state
def list_(
    state: State,
    *,
    provider: str | None,
    supports: tuple[str, ...],
    takes: tuple[str, ...],
    find: tuple[str, ...],
    as_json: bool,
) -> None:
    """List all providers, or the models of PROVIDER.

    Prices are in US dollars, or the currency that is named, for a million tokens.
    """
    catalogue = catalogue_of(state.find_home())
    wanted = Wanted.of(supports, takes, find)
    if provider is None and not find:
        _list_providers(catalogue, wanted, as_json=as_json)
        return
    of = None if provider is None else catalogue.provider(provider).id
    found = wanted.among(catalogue, of)
    if as_json:
        click.echo(to_json([model_entry(each) for each in found]))
    elif not is_live(sys.stdout):
        for each in found:
            click.echo("\t".join(plain(each)))
    else:
        show_models(found, of=of)


@command.command("explain", short_help="Tell what a model makes of each parameter.")
@click.argument("provider", shell_complete=provider_ids)
@click.argument("model", shell_complete=model_names)
@click.argument("parameters", metavar="[PARAMETER]...", nargs=-1, shell_complete=parameter_names)
@json_option
@home_option
@pass_state
def explain(state: State, *, provider: str, model: str, parameters: tuple[str, ...], as_json: bool) -> None:
    """Tell what is known of MODEL, which parameters it takes, and why it does not take the others.

    With names of parameters, tell no more than these.
    """
    _check(parameters, PARAMETERS, "A request has no parameter", "unknown_parameter")
    found = catalogue_of(state.find_home()).explain(provider, model)
    takings = [each for each in found.parameters if each.parameter in (parameters or PARAMETERS)]
    if as_json:
        click.echo(to_json(_entry(found, takings)))
        return
    screen = Screen(sys.stdout)
    for line in page(found, takings, screen):
        screen.print(line, soft_wrap=True)


def _check(given: Iterable[str], known: Collection[str], complaint: str, code: str) -> None:
    for name in given:
        if name not in known:
            remedy = meant(name, known) or f"There are: {choice(known)}."
            raise NotFound(f"{complaint} {name!r}.", code=code, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which models were asked for."""

    supports: tuple[str, ...]
    takes: tuple[str, ...]
    parts: tuple[str, ...]  #: of their names

    @classmethod
    def of(cls, supports: Iterable[str], takes: Iterable[str], find: Iterable[str]) -> Wanted:
        """Read the options.

        Raises:
            NotFound: There is no such capability or parameter.
        """
        made = cls(_names(supports), _names(takes), tuple(part.casefold() for part in find))
        _check(made.supports, CAPABILITIES, "There is no capability", "unknown_capability")
        _check(made.takes, PARAMETERS, "A request has no parameter", "unknown_parameter")
        return made

    def among(self, catalogue: Catalogue, provider: str | None) -> list[Model]:
        """Return the models of a provider, or of all, that are meant."""
        return [
            each
            for each in catalogue.models(provider, supports=self.supports)
            if each.parameters.issuperset(self.takes) and all(part in each.name.casefold() for part in self.parts)
        ]

    def told(self) -> str:
        """Return the condition on capabilities and parameters, to be put after a noun; empty when there is none."""
        parts = (("support", self.supports), ("take", self.takes))
        told = " and ".join(f"{verb} {' and '.join(names)}" for verb, names in parts if names)
        return f" that {told}" if told else ""


def _names(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for part in given for name in part.replace(" ", "").split(",") if name)


# ---- providers


def _list_providers(catalogue: Catalogue, wanted: Wanted, *, as_json: bool) -> None:
    rows = [(each, wanted.among(catalogue, each.id)) for each in catalogue.providers()]
    if told := wanted.told():
        rows = [row for row in rows if row[1]]
    if as_json:
        click.echo(to_json([provider_entry(provider, models) for provider, models in rows]))
    elif not is_live(sys.stdout):
        for provider, models in rows:
            click.echo(f"{provider.id}\t{clean_line(provider.title)}\t{len(models)}")
    else:
        show_providers(rows, told)


# ---- for programs; the shapes are documented in docs/models/index.md


def provider_entry(provider: Provider, models: Sequence[Model]) -> JsonObject:
    """Return a provider as `--json` shows it, with the number of these models."""
    return {
        "id": provider.id,
        "title": provider.title,
        "self_hosted": provider.self_hosted,
        "models": len(models),
        "parameters": [name for name in PARAMETERS if name in provider.parameters],
        "credentials": [field.name for field in provider.credentials],
        "documentation": provider.documentation,
    }


def model_entry(model: Model) -> JsonObject:
    """Return a model as `--json` shows it."""
    return {
        "provider": model.provider,
        "name": model.name,
        "max_input_tokens": model.max_input_tokens,
        "max_output_tokens": model.max_output_tokens,
        "prices": _price_entry(model.prices) if model.prices else None,
        "supports": list(ordered(model.supports)),
        "parameters": [name for name in PARAMETERS if name in model.parameters],
        "deprecated_on": model.deprecated_on.isoformat() if model.deprecated_on else None,
        "own": model.own,
    }


def _price_entry(prices: Prices) -> JsonObject:
    return {
        "currency": prices.currency,
        "input": prices.input,
        "output": prices.output,
        "cached_input": prices.cached_input,
        "tiers": [{"above": each.above, "input": each.input, "output": each.output} for each in prices.tiers],
    }


def _entry(found: Explanation, takings: Sequence[Taking]) -> JsonObject:
    provider = found.provider
    near = [] if found.model else difflib.get_close_matches(found.name, provider.models, 3, 0.6)
    return {
        "provider": provider_entry(provider, tuple(provider.models.values())),
        "model": model_entry(found.model) if found.model else None,
        "near": list(near),
        "parameters": [
            {"name": each.parameter, "state": each.verdict, "values": list(each.taken), "message": each.message}
            for each in takings
        ],
    }
