"""What a terminal shows of providers and models: tables, and a page about one model."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from typing import TypeVar

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from weft.catalogue import CAPABILITIES, Explanation, Model, Prices, Provider, Taking
from weft.cli.terminal import Screen, clean_line, symbols

SHOWN = ("tools", "json_schema", "vision", "reasoning")
"""The capabilities that the table of models shows; `explain` and `--json` tell all."""
LETTERS = dict(zip(SHOWN, "TJVR", strict=True))
T = TypeVar("T")
WIDE = 100
"""Cells from which on capabilities are words."""
NARROW = 56
"""Cells below which a model's name and context are all that fits."""
WIDTH = 100
"""Cells of a line of `explain`; longer ones are hard to read."""


def show_providers(rows: Sequence[tuple[Provider, Sequence[Model]]], told: str) -> None:
    """Print a table of providers, each with those of its models that were asked for.

    Args:
        rows: Providers and models.
        told: What was asked for, to be put after a noun.
    """
    screen = Screen(sys.stdout)
    table = _table("provider", "", "models", "context", "from")
    for provider, models in rows:
        current = [each for each in models if not retired(each)]
        largest = max((each.max_input_tokens or 0 for each in current), default=0)
        count = Text(str(len(models))) if models else Text("any", "dim")
        lowest = Text("own", "dim") if provider.self_hosted else Text(_cheapest(current))
        cells = (Text(clean_line(provider.title)), count, Text(tokens(largest or None)), lowest)
        table.add_row(Text(provider.id, "bold"), *cells)
    _print(screen, table, giving_way=1)
    _foot(
        screen,
        f"{_count(len(rows), 'provider')}, {_count(sum(len(models) for _, models in rows), 'model')}{told}.",
        "context: tokens at most. from: the lowest price of a million tokens read, in USD where nothing else is said.",
        "any: no model is known by name, every name is tried." if not all(models for _, models in rows) else "",
        "own: a server of your own." if any(provider.self_hosted for provider, _ in rows) else "",
    )
    screen.print(Text.assemble(("The models of one: ", "dim"), "weft models PROVIDER"))


def _cheapest(models: Iterable[Model]) -> str:
    found = [(each.prices.input, each.prices.currency) for each in models if each.prices and each.prices.input]
    if not found:
        return ""
    amount, currency = min(found)
    return price(amount) + ("" if currency == "USD" else f" {currency}")


# ---- models


def show_models(found: Sequence[Model], *, of: str | None) -> None:
    """Print a table of models of the provider `of`, or of several; those that are gone come last."""
    screen = Screen(sys.stdout)
    if not found:
        screen.print("No model of that kind is in the catalogue.")
        return
    wide = screen.width >= WIDE
    narrow = screen.width < NARROW
    table = _table(
        *(["provider"] if of is None else []), "model", *_fitting(["context", "output", "in", "out", ""], narrow)
    )
    for each in sorted(found, key=retired):
        style = "dim" if retired(each) else ""
        cells = [tokens(each.max_input_tokens), tokens(each.max_output_tokens), *_prices(each.prices)]
        first = [Text(each.provider, style)] if of is None else []
        name = Text(each.name, style or "bold")
        rest = [*(Text(cell, style) for cell in cells), _abilities(each, wide=wide)]
        table.add_row(*first, name, *_fitting(rest, narrow))
    if not narrow:
        table.columns[-1].justify = "left"
    _print(screen, table, giving_way=1 if of is None else 0)
    currencies = sorted({each.prices.currency for each in found if each.prices})
    _foot(
        screen,
        f"{_count(len(found), 'model')}."
        + (f" in, out: {' or '.join(currencies)} for a million tokens." if currencies and not narrow else ""),
        "" if wide or narrow else ", ".join(f"{letter} {name}" for name, letter in LETTERS.items()) + ".",
    )
    screen.print(Text.assemble(("All about one: ", "dim"), f"weft models explain {of or 'PROVIDER'} MODEL"))


def _fitting(cells: list[T], narrow: bool) -> list[T]:
    """Return the cells beside a model's name for which there is room: at least its context."""
    return cells[:1] if narrow else cells


def _abilities(model: Model, *, wide: bool) -> Text:
    if retired(model):
        return Text(f"retired {model.deprecated_on}" if wide else "retired", "dim")
    names = [name for name in SHOWN if name in model.supports]
    told = " ".join(names) if wide else "".join(LETTERS[name] if name in names else " " for name in SHOWN)
    if model.deprecated_on is None:
        return Text(told)
    until = f"until {model.deprecated_on}" if wide else f"{model.deprecated_on:%Y-%m}"
    return Text.assemble(told, " ", (until, "yellow"))


def plain(model: Model) -> list[str]:
    """The cells of a line for programs: provider, name, tokens in and out, prices in and out, capabilities, end."""
    prices = model.prices or Prices("")
    numbers = (model.max_input_tokens, model.max_output_tokens, prices.input, prices.output)
    ends = model.deprecated_on.isoformat() if model.deprecated_on else ""
    cells = ["" if number is None else f"{number:.10g}" for number in numbers]
    return [model.provider, clean_line(model.name), *cells, ",".join(sorted(model.supports)), ends]


# ---- one model


SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Not taken": ("refused", "ignored"),
    "Taken in part": ("some",),
    "Taken": ("taken",),
}


def page(found: Explanation, takings: Sequence[Taking], screen: Screen) -> list[Text]:
    """Return all that is known of a model, and what becomes of these parameters, as lines."""
    rows = _Rows(screen, min(screen.width, WIDTH))
    rows.add(Text(clean_line(found.name), "bold"), Text(f"  {clean_line(found.provider.title)}", "dim"))
    if found.model is None:
        rows.add(Text(), Text("Nothing is known of this model. It may be there all the same.", "yellow"))
    rows.gap()
    for name, value in _facts(found):
        rows.add(Text(f"{name:<9}", "dim"), value)
    for title, verdicts in SECTIONS.items():
        if chosen := [each for each in takings if each.verdict in verdicts]:
            rows.heading(title if found.model else f"{title}, usually")
            _add_takings(rows, chosen)
    if any(each.verdict != "taken" for each in takings):
        rows.gap()
        for remedy in _remedies(found, takings):
            rows.add(Text("help: ", "bold"), remedy)
    return rows.lines


class _Rows:
    """Lines of at most `width` cells."""

    def __init__(self, screen: Screen, width: int) -> None:
        self.lines: list[Text] = []
        self._screen, self._width = screen, width
        self._rule = "-" if screen.options.ascii_only else "─"

    def gap(self) -> None:
        self.lines.append(Text())

    def heading(self, title: str) -> None:
        rule = self._rule * max(0, self._width - cell_len(title) - 1)
        self.lines += [Text(), Text.assemble((title, "bold"), " ", (rule, "dim")), Text()]

    def add(self, head: Text, body: Text | str) -> None:
        """Add a text beside what it is about; its further lines stand below its first."""
        text = Text(body) if isinstance(body, str) else body
        indent = head.cell_len if head.cell_len < self._width // 2 else 4
        first = Text.assemble(head, text)
        if first.cell_len <= self._width:
            self.lines.append(first)
            return
        parts = text.wrap(self._screen, max(10, self._width - indent))
        if indent == head.cell_len:
            self.lines.append(Text.assemble(head, parts.pop(0)))
        else:
            self.lines += head.wrap(self._screen, self._width)
        self.lines += [Text.assemble(" " * indent, part) for part in parts]


def _facts(found: Explanation) -> Iterable[tuple[str, Text | str]]:
    model, provider = found.model, found.provider
    if model is None:
        if near := difflib.get_close_matches(found.name, provider.models, 3, 0.6):
            yield "near", ", ".join(near)
    else:
        read, written = tokens(model.max_input_tokens), tokens(model.max_output_tokens)
        yield "context", f"{read or 'unknown'} tokens read, {written or 'unknown'} written at most"
        yield from (("prices" if number == 0 else "", line) for number, line in enumerate(_price_lines(model.prices)))
        yield "can do", ", ".join(ordered(model.supports)) or "unknown"
        if model.deprecated_on:
            yield "end", Text(f"{'was' if retired(model) else 'is'} on {model.deprecated_on}", "yellow")
    if provider.documentation:
        yield "see", provider.documentation


def _price_lines(prices: Prices | None) -> Iterable[str]:
    if prices is None or (prices.input is None and prices.output is None):
        yield "unknown"
        return
    parts = [f"{price(prices.input) or 'unknown'} read", f"{price(prices.output) or 'unknown'} written"]
    if prices.cached_input is not None:
        parts.append(f"{price(prices.cached_input)} read again")
    yield f"{', '.join(parts)} ({prices.currency} for 1M tokens)"
    for tier in prices.tiers:
        yield f"above {tokens(tier.above)} read: {price(tier.input) or '-'} read, {price(tier.output) or '-'} written"


def _add_takings(rows: _Rows, chosen: Sequence[Taking]) -> None:
    """Add those that are simply taken or not as a list, the others each with what is taken of them."""
    marks = symbols(sys.stdout)
    known = {"taken": (marks.succeeded, "green"), "some": (marks.cancelled, "yellow")}
    for verdict, group in groupby(
        sorted(chosen, key=lambda each: each.verdict, reverse=True), lambda each: each.verdict
    ):
        mark, colour = known.get(verdict, (marks.failed, "red"))
        takings = list(group)
        if verdict in {"taken", "refused"}:
            names = Text(", ").join(Text(each.parameter, "bold") for each in takings)
            rows.add(Text(f"{mark} ", colour), names)
            continue
        width = max(len(each.parameter) for each in takings) + 2
        for each in takings:
            name = Text.assemble((f"{mark} ", colour), (each.parameter.ljust(width), "bold"))
            rows.add(name, clean_line(each.message))


def _remedies(found: Explanation, takings: Sequence[Taking]) -> Iterator[str]:
    provider = found.provider
    lost = [each.parameter for each in takings if each.verdict in {"refused", "ignored"}]
    better = next((name for name in lost if any(name in each.parameters for each in provider.models.values())), None)
    if better:
        yield f"Leave it out, or choose one of: weft models {provider.id} --takes {better}"
    elif lost:
        yield f"Leave it out, or choose one of: weft models --takes {lost[0]}"
    yield "With `unsupported_parameters: drop` in the connection it is left out for you and listed in the output."
    if found.model is None:
        yield "Of an unknown model `weft validate` only warns."


def ordered(supports: Iterable[str]) -> list[str]:
    """Return capabilities in the order of the catalogue."""
    return [name for name in CAPABILITIES if name in set(supports)]


# ---- numbers


def tokens(count: int | None) -> str:
    """Tell a number of tokens to a person: `8k`, `200k`, `1.05M`; nothing when it is not known."""
    if count is None:
        return ""
    if count >= 999_500:
        return f"{count / 1_000_000:.3g}M"
    return f"{count / 1000:.0f}k" if count >= 1000 else str(count)


def price(amount: float | None) -> str:
    """Tell a price: `15.00`, `0.15`, `0.0375`; nothing when it is not known."""
    if amount is None:
        return ""
    whole, _, parts = f"{Decimal(f'{amount:.4g}'):f}".partition(".")
    return f"{whole}.{parts.ljust(2, '0')}"


def _prices(prices: Prices | None) -> tuple[str, str]:
    return (price(prices.input), price(prices.output)) if prices else ("", "")


def retired(model: Model) -> bool:
    return model.deprecated_on is not None and model.deprecated_on <= _today()


def _today() -> date:
    return datetime.now(UTC).date()


# ---- tables


def _table(*headers: str) -> Table:
    """Return a table whose names stand left and whose numbers stand right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        table.add_column(header, justify="left" if header in {"provider", "model", ""} else "right", no_wrap=True)
    return table


def _print(screen: Screen, table: Table, *, giving_way: int) -> None:
    """Print a table of which one column takes several lines where the screen is too narrow, and no other is cut."""
    for column in table.columns:
        column.min_width = max(cell.cell_len for cell in [Text(str(column.header)), *column.cells])  # type: ignore[union-attr]
    way = table.columns[giving_way]
    way.min_width, way.overflow, way.no_wrap = 10, "fold", False
    screen.print(table)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _foot(screen: Screen, *sentences: str) -> None:
    screen.print()
    for sentence in filter(None, sentences):
        screen.print(Text(sentence, "dim"))
