"""Makes the pages of this directory from the catalogue of models: a page for each family of providers, and their index.

    python docs/models/make_pages.py

What the pages say is what Weft checks by. A test compares them with what this makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from weft import packs
from weft.catalogue import Catalogue, Model, Provider, load
from weft.cli.model_view import SHOWN, price, tokens
from weft.cli.models import PARAMETERS
from weft.connections import fields_of
from weft.manifest import ConnectionType, Parameter
from weft.plan import variable
from weft.types import Json

HERE = Path(__file__).parent
MOST_MODELS = 24
"""Rows of a table of models; the command line has all."""

DATED: Final = re.compile(r"[-@](20\d\d-?[01]\d-?[0-3]\d|\d{4})(-v\d+:\d+)?$|@default$")
REGION: Final = re.compile(
    r"^((us|us-gov|eu|in|ca|sa|apac?|au|jp|global|global-standard)[./]|[a-z]{2}(-[a-z]+)+-\d/|(\*|invoke|converse)/)+"
)
ODD: Final = re.compile(r"^ft:|-commitment/")
"""Names of a model of one's own, or of one that is paid for by the month."""

REACHING: Final = ("api_key", "api_base", "api_version")
"""Fields of all model connections that say how to reach the provider; most others are about limits."""

ADDRESSES: Final = {
    "lm_studio": "http://127.0.0.1:1234/v1",
    "ollama_chat": "http://127.0.0.1:11434",
}
"""Where servers of one's own listen unless they are told otherwise, as far as the catalogue does not say it."""
USUAL_ADDRESS: Final = "http://127.0.0.1:8000/v1"


@dataclass(frozen=True)
class Family:
    """A page."""

    file: str
    title: str
    about: str
    providers: tuple[str, ...]


FAMILIES: Final = (
    Family(
        "openai",
        "OpenAI and Azure",
        "OpenAI's own service, and its models in Microsoft's cloud. On Azure, Model ID is the name of the deployment.",
        ("openai", "azure", "azure_ai", "github"),
    ),
    Family("anthropic", "Anthropic", "Claude, from its maker. The same models are with Google and AWS as well.", ("anthropic",)),
    Family("google", "Google", "Gemini by an API key, and Vertex AI by an account of Google's cloud.", ("gemini", "vertex_ai")),
    Family(
        "aws",
        "Amazon",
        "Models in Amazon's cloud, by an access key and a region.",
        ("bedrock", "bedrock_converse", "bedrock_mantle", "amazon_nova", "sagemaker", "sagemaker_chat"),
    ),
    Family("mistral", "Mistral", "Mistral's models, from its maker.", ("mistral", "codestral")),
    Family(
        "makers",
        "Other makers of models",
        "Services of those who make the models themselves.",
        (
            "ai21",
            "cohere_chat",
            "dashscope",
            "deepseek",
            "minimax",
            "moonshot",
            "perplexity",
            "watsonx",
            "xai",
            "zai",
        ),
    ),
    Family(
        "hosts",
        "Hosts of open models, and gateways",
        "Services that run models of many makers, or pass requests on to those who do.",
        (
            "cerebras",
            "cloudflare",
            "databricks",
            "deepinfra",
            "fireworks_ai",
            "groq",
            "huggingface",
            "nebius",
            "novita",
            "nvidia_nim",
            "openrouter",
            "replicate",
            "sambanova",
            "snowflake",
            "together_ai",
            "vercel_ai_gateway",
        ),
    ),
)  # fmt: skip
"""The pages whose providers are chosen; of the rest, servers of one's own have a page, and all others one table."""

DIALOGUE: Final = ("chatgpt", "github_copilot")
"""Who lets in by a dialogue in a browser; the action refuses them."""

OWN: Final = "self-hosted"
REST: Final = "others"


def main() -> None:
    """Write the pages beside this file."""
    for file, text in pages(load()).items():
        (HERE / file).write_text(text, encoding="utf-8")


def pages(catalogue: Catalogue) -> dict[str, str]:
    """Return the pages by name."""
    kind = next(kind for kind in packs.discover().connection_types() if kind.id == "model_provider")
    writer = Writer(catalogue, kind)
    made = {f"{family.file}.md": writer.family(family) for family in writer.families()}
    return {"index.md": writer.index(), **made, f"{REST}.md": writer.rest()}


class Writer:
    """Writes pages from a catalogue.

    Args:
        catalogue: What is known of providers and models.
        kind: The type of their connections.
    """

    def __init__(self, catalogue: Catalogue, kind: ConnectionType) -> None:
        self._catalogue = catalogue
        self._kind = kind

    def families(self) -> Iterator[Family]:
        """Yield the pages with a section for each provider: those chosen, and those that the catalogue puts to them."""
        shown: set[str] = set()
        for family in FAMILIES:
            kin = (each.id for each in self._catalogue.providers() if each.family in family.providers)
            names = (name for name in dict.fromkeys((*family.providers, *kin)) if name not in DIALOGUE)
            known = tuple(name for name in names if self._catalogue.has(name))
            shown.update(known)
            yield Family(family.file, family.title, family.about, known)
        own = tuple(each.id for each in self._catalogue.providers() if each.self_hosted and each.id not in shown)
        about = "Servers on machines of your own. They want no key unless you gave them one, and cost nothing here."
        yield Family(OWN, "Servers of your own", about, own)

    def index(self) -> str:
        """Return the page that leads to the others."""
        lines = [
            "# Providers and models",
            "",
            "What each provider takes, from the catalogue that comes with Weft: the same that `weft validate` and the form",
            "check by. The pages are made by `docs/models/make_pages.py`. They leave out models whose end is known, dated",
            "copies, and the same model in other regions; the command line has them all.",
            "",
            *_table(("page", "providers"), self._contents()),
            "",
            *USE,
            "",
            *TERMINAL,
        ]
        return "\n".join(lines) + "\n"

    def _contents(self) -> Iterator[tuple[str, str]]:
        for family in self.families():
            yield f"[{family.title}]({family.file}.md)", ", ".join(f"`{name}`" for name in family.providers)
        yield f"[All others]({REST}.md)", f"{len(self._others())} more, most of which speak OpenAI's protocol"

    def family(self, family: Family) -> str:
        """Return a page with a section for each provider."""
        lines = [f"# {family.title}", "", family.about, ""]
        for name in family.providers:
            lines += self._section(self._catalogue.provider(name))
        return "\n".join(lines)

    def rest(self) -> str:
        """Return the page of those that need no section: a key is all, and one table tells the rest."""
        example = self._others()[0]
        lines = [
            "# All other providers",
            "",
            "Each of them is used like the first one here: by a connection that is made of its key.",
            "",
            *self._connection(example),
            "",
            *_step(example),
            "",
            "`weft models PROVIDER` lists the models of one, `weft models explain PROVIDER MODEL` tells what becomes of",
            "each parameter.",
            "",
        ]
        rows = (
            (f"`{each.id}`", each.title, ", ".join(f"`{name}`" for name in self._variables(each)), _count(each), _names(self._never(each)))
            for each in self._others()
        )  # fmt: skip
        lines += _table(("provider", "name", "variables", "models", "not taken"), rows)
        refused = " and ".join(f"`{name}`" for name in DIALOGUE)
        lines += ["", f"{refused} let in by a dialogue in the browser, which a step cannot hold; they are refused."]
        return "\n".join(lines) + "\n"

    def _others(self) -> list[Provider]:
        shown = {name for family in self.families() for name in family.providers}.union(DIALOGUE)
        return [each for each in self._catalogue.providers() if each.id not in shown]

    def _section(self, provider: Provider) -> list[str]:
        lines = [f"## {provider.title}", ""]
        if provider.documentation:
            lines += [f"See {provider.documentation} for what is not told here.", ""]
        lines += [*self._connection(provider), ""]
        fields = [
            (f"`{field.name}`", self._about(field), f"`{name}`" if name else "")
            for field, name in self._fields(provider)
        ]
        lines += [*_table(("field", "what", "from the environment"), fields), "", *_step(provider), ""]
        lines += [*_table(("parameters", ""), self._parameters(provider)), ""]
        if found := current(provider.models.values()):
            lines += [*_models(found), ""]
            if more := len(provider.models) - len(found):
                lines += [f"And {more} more, older, dated or of single regions: `weft models {provider.id}`.", ""]
        return lines

    def _about(self, field: Parameter) -> str:
        text = " ".join(field.description.split())
        return text.replace("|", "\\|")

    def _fields(self, provider: Provider) -> Iterator[tuple[Parameter, str]]:
        """Yield how to reach a provider: each field, and the variable that it may come from."""
        own = {field.name for field in self._kind.fields}
        for field in fields_of(self._kind, {"provider": provider.id}, self._catalogue):
            if field.name in own and not _reaching(field, provider.id):
                continue
            yield field, self._variable(provider, field)

    def _variable(self, provider: Provider, field: Parameter) -> str:
        own = {each.name for each in self._kind.fields}
        usual = [] if field.name in own else [f"{{NAME}}_{field.name.upper()}"]
        names = self._kind.environment.get(field.name, usual)
        return names[0].replace("{NAME}", variable(provider.id)) if names else ""

    def _variables(self, provider: Provider) -> list[str]:
        """Return the variables that a connection needs."""
        needed = [name for field, name in self._fields(provider) if name and field.name in _basics(provider)]
        return needed or [f"{variable(provider.id)}_API_KEY"]

    def _connection(self, provider: Provider) -> list[str]:
        lines = ["```yaml", f"{_name(provider)}:", f"  type: {self._kind.id}", f"  provider: {provider.id}"]
        for field, name in self._fields(provider):
            if field.name in _basics(provider):
                value: Json = {"env": name} if field.secret and name else _example(field, provider)
                lines.append(f"  {field.name}: {_flow(value)}")
        return [*lines, "```"]

    def _parameters(self, provider: Provider) -> Iterator[tuple[str, str]]:
        models = [each.parameters for each in current(provider.models.values())] or [provider.parameters]
        every, some = frozenset.intersection(*models), frozenset.union(*models)
        yield "taken", _names(every)
        if some - every:
            yield "by some models", _names(some - every)
        if never := self._never(provider):
            yield "not taken", _names(never)

    def _never(self, provider: Provider) -> frozenset[str]:
        models = [each.parameters for each in current(provider.models.values())] or [provider.parameters]
        return frozenset(PARAMETERS) - frozenset.union(*models)


USE: Final = """\
## How to use a page

A connection named like its provider needs no file: it is made of the variables in the column *from the environment*,
which are asked first. What the pages show besides is for a connections file; it has a name of its own, so that
variables do not stand before it. [Connections](../connections.md) tells where the file is, and what else may stand in it.

*Taken* are parameters that every model on the page takes, with some values at least. What becomes of one with a certain
model tells `weft models explain PROVIDER MODEL`.
""".splitlines()

TERMINAL: Final = """\
## On the terminal

```sh
weft models                            # all providers
weft models openai                     # the models of one, with limits, prices and what they can do
weft models openai --find mini         # those with these letters in their names
weft models --find sonnet              # the same with all providers
weft models --supports tools,vision    # who has models that can do both
weft models openai --takes seed        # those that take a parameter
weft models explain openai gpt-5-mini  # what becomes of each parameter, and why
weft models explain openai gpt-5-mini temperature
```

`explain` tells the rules that `weft validate` and a run check by. A parameter is *taken*, taken *in part* (some values
are not), *refused*, or *ignored*: accepted by the libraries between here and the provider, and then lost. Weft refuses
that as well. A connection with `unsupported_parameters: drop` leaves such parameters out instead, and the output lists
them. Of a model that the catalogue does not have, `explain` tells what the provider's models usually take, and the
names that are near.

On a terminal, capabilities are words, or letters where it is narrow. Through a pipe, `weft models` writes a line for
each provider (id, name, number of models) and `weft models PROVIDER` one for each model (provider, model, tokens read,
tokens written, price of a million read, of a million written, capabilities, end), with tabs between.

## The shapes of `--json`

Fields may be added; those here keep their names and meaning. What is not known is null, never zero.

| command | value |
|---|---|
| `weft models --json` | a list of providers |
| `weft models PROVIDER --json` | a list of models |
| `weft models explain PROVIDER MODEL --json` | `{provider, model, near, parameters}`; `model` is null when it is not known, and `near` then has names like it |

A provider:

| field | meaning |
|---|---|
| `id`, `title` | the name in workflows, the name for people |
| `self_hosted` | whether it is a server of one's own |
| `models` | how many models are known by name, of those asked for |
| `parameters` | what a model takes of which nothing else is known |
| `credentials` | the further fields of its connections |
| `documentation` | the address of a page about it |

A model:

| field | meaning |
|---|---|
| `provider`, `name` | whose it is, its name there |
| `max_input_tokens`, `max_output_tokens` | its limits |
| `prices` | `{currency, input, output, cached_input, tiers}` for a million tokens; each of `tiers` is `{above, input, output}`, for requests with more tokens than `above` |
| `supports` | what it can do |
| `parameters` | the parameters that it takes, with some value at least |
| `deprecated_on` | the day on which it ends, or ended |
| `own` | whether it is of your own file of models |

A parameter of `explain`:

| field | meaning |
|---|---|
| `name` | the parameter |
| `state` | `taken`, `some` (some values, or not beside others), `ignored` or `refused` |
| `values` | what it takes, in words, when the state is `some` |
| `message` | why, in a sentence |

With a name that is no provider, capability or parameter the exit code is 4, and the message has the nearest one.
""".splitlines()


def current(models: Iterable[Model]) -> list[Model]:
    """Return the models that a page shows: those without an end, once each, the most capable first."""
    shortest: dict[str, Model] = {}
    for each in sorted(models, key=lambda each: (len(each.name), each.name)):
        if each.deprecated_on is None and not ODD.search(each.name):
            shortest.setdefault(DATED.sub("", REGION.sub("", each.name)), each)
    return sorted(shortest.values(), key=_rank)[:MOST_MODELS]


def _rank(model: Model) -> tuple[bool, int, str]:
    return model.prices is None, -len(model.supports.intersection(SHOWN)), model.name


def _models(found: Sequence[Model]) -> Iterator[str]:
    currencies = {each.prices.currency for each in found if each.prices}
    money = currencies.pop() if len(currencies) == 1 else ""
    rows = (
        (
            f"`{each.name}`",
            tokens(each.max_input_tokens),
            tokens(each.max_output_tokens),
            price(each.prices.input) if each.prices else "",
            price(each.prices.output) if each.prices else "",
            ", ".join(name for name in SHOWN if name in each.supports),
        )
        for each in found
    )
    unit = f", {money} for 1M" if money else ""
    return _table(("model", "context", "output", f"read{unit}", f"written{unit}", "can do"), rows)


def _step(provider: Provider) -> list[str]:
    shown = current(provider.models.values())
    model = min(shown, key=_expense) if shown else None
    taken = model.parameters if model else provider.parameters
    limit = next((name for name in ("max_tokens", "max_completion_tokens") if name in taken), None)
    return [
        "```yaml",
        "id: answer",
        "uses: generate_chat_completion",
        f"connection: {_name(provider)}",
        "with:",
        f"  provider: {provider.id}",
        f"  model: {_flow(model.name if model else 'my-model')}",
        *([f"  {limit}: 400"] if limit else []),
        "  messages:",
        "    - {role: user, content: Explain in two sentences why regular backups are important.}",
        "```",
    ]


def _expense(model: Model) -> tuple[bool, bool, float, str]:
    """The order of models for an example: those with tools first, those that answer without thinking, the cheap ones."""
    amount = model.prices.input if model.prices else None
    return "tools" not in model.supports, "reasoning" in model.supports, amount or float("inf"), model.name


def _reaching(field: Parameter, provider: str) -> bool:
    """Whether a field that all connections have says how to reach this provider."""
    if field.name == "organization":
        return provider == "openai"
    when = field.visible_when
    return field.name in REACHING and (when is None or provider in (when.values or ()))


def _name(provider: Provider) -> str:
    """Return the name of the example's connection; one named like the provider would be made of variables alone."""
    return f"my-{provider.id.replace('_', '-')}"


def _basics(provider: Provider) -> frozenset[str]:
    """Return the fields that the example of a connection has: what is required, and the usual way to show who one is."""
    fields = {field.name: field for field in provider.credentials}
    required = provider.required | {field.name for field in provider.credentials if field.required}
    if provider.self_hosted:
        return required | {"api_base"}
    if "api_key" in required or any(fields[name].secret for name in required & fields.keys()):
        return required
    for usual in (("aws_access_key_id", "aws_secret_access_key", "aws_region_name"), ("vertex_credentials",)):
        if fields.keys() >= set(usual):
            return required.union(usual)
    return required | {"api_key"}


def _example(field: Parameter, provider: Provider) -> Json:
    if field.name == "api_base" and provider.self_hosted:
        return provider.api_base or ADDRESSES.get(provider.id, USUAL_ADDRESS)
    return field.example if field.example is not None else field.placeholder or "..."


def _count(provider: Provider) -> str:
    return str(len(provider.models)) if provider.models else "any"


def _names(parameters: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in PARAMETERS if name in set(parameters))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _flow(value: Json) -> str:
    """Return a value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    main()
