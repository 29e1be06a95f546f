"""The methods that may be called on text, lists and objects, by exact type; no other can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from weft.expressions import values
from weft.expressions.limits import Account, Fault


def _changing(change: Callable[[str], str]) -> Callable[[Account, str], str]:
    def apply(account: Account, value: str) -> str:
        return account.made_text(change(value))

    return apply


def _stripping(strip: Callable[[str, str | None], str]) -> Callable[..., str]:
    def apply(account: Account, value: str, chars: Any = None) -> str:
        return account.made_text(strip(value, None if chars is None else _short(account, chars)))

    return apply


def _short(account: Account, value: Any) -> str:
    """Return a text that a search repeats over: short, so that the search stays linear."""
    if len(values.text(account, value)) > 1_000:
        raise Fault("the text to look for is longer than 1,000 characters")
    return str(value)


def _starts_with(account: Account, value: str, prefix: Any) -> bool:
    return value.startswith(values.text(account, prefix))


def _ends_with(account: Account, value: str, suffix: Any) -> bool:
    return value.endswith(values.text(account, suffix))


def _without_prefix(account: Account, value: str, prefix: Any) -> str:
    return account.made_text(value.removeprefix(values.text(account, prefix)))


def _without_suffix(account: Account, value: str, suffix: Any) -> str:
    return account.made_text(value.removesuffix(values.text(account, suffix)))


def _find(account: Account, value: str, part: Any) -> int:
    return value.find(_short(account, part))


def _count_text(account: Account, value: str, part: Any) -> int:
    return value.count(_short(account, part))


def _split(account: Account, value: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    separator = None if sep is None else _short(account, sep)
    if separator == "":
        raise Fault("the separator is empty", "`| list` gives the single characters.")
    most = values.whole(account, maxsplit)
    bound = account.limits.items
    return _parts(account, value.split(separator, most if 0 <= most < bound else bound))


def _split_lines(account: Account, value: str, keepends: Any = False) -> list[str]:
    return _parts(account, value.splitlines(keepends=values.truth(keepends)))


def _parts(account: Account, parts: list[str]) -> list[str]:
    account.made_items(parts)
    account.need_items(len(parts))
    account.keep(sum(map(len, parts)) + 50 * len(parts))
    return parts


def _get(account: Account, value: dict[str, Any], key: Any, default: Any = None) -> Any:
    found = values.lookup(value, values.text(account, key, "text as key"))
    return default if found is values.MISSING else found


def _keys(account: Account, value: dict[str, Any]) -> list[Any]:
    return values.items(account, value)


def _values(account: Account, value: dict[str, Any]) -> list[Any]:
    account.need_items(len(value))
    return account.made_items(list(value.values()))


def pairs(account: Account, value: dict[str, Any]) -> list[list[Any]]:
    """Return `[key, value]` for each key of an object."""
    account.need_items(len(value))
    account.keep(80 * len(value))
    return account.made_items([[key, item] for key, item in value.items()])


def _index(account: Account, value: list[Any], item: Any) -> int:
    for position, other in enumerate(value):
        account.charge()
        if values.equal(account, item, other):
            return position
    raise Fault("the list has no such item", "Ask with `in` first.")


def _count_items(account: Account, value: list[Any], item: Any) -> int:
    found = 0
    for other in value:
        account.charge()
        found += values.equal(account, item, other)
    return found


METHODS: Final[dict[type, dict[str, Callable[..., Any]]]] = {
    str: {
        "capitalize": _changing(str.capitalize),
        "count": _count_text,
        "endswith": _ends_with,
        "find": _find,
        "lower": _changing(str.lower),
        "lstrip": _stripping(str.lstrip),
        "removeprefix": _without_prefix,
        "removesuffix": _without_suffix,
        "rstrip": _stripping(str.rstrip),
        "split": _split,
        "splitlines": _split_lines,
        "startswith": _starts_with,
        "strip": _stripping(str.strip),
        "title": _changing(str.title),
        "upper": _changing(str.upper),
    },
    dict: {"get": _get, "items": pairs, "keys": _keys, "values": _values},
    list: {"count": _count_items, "index": _index},
}

CANDIDATES: Final[dict[str, list[Callable[..., Any]]]] = {}
"""By name, the methods of every type, for checking the number of arguments before a run."""
for _table in METHODS.values():
    for _name, _method in _table.items():
        CANDIDATES.setdefault(_name, []).append(_method)


def call(account: Account, value: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """Call the method `name` of `value`, if its exact type has it on the list.

    Raises:
        Fault: It has none, or the method refuses its arguments.
    """
    if type(value) not in values.NAMES_OF_TYPES:
        raise values.foreign(value)
    method = METHODS.get(type(value), {}).get(name)
    if method is None:
        raise Fault(
            f"{values.kind(value)} has no method {name!r}",
            other_way(name, METHODS.get(type(value), {})),
            code="expression_type",
        )
    if type(value) is str:
        account.need_text(len(value))
    account.charge()
    return method(account, value, *arguments, **keywords)


def other_way(name: str, known: Iterable[str] = ()) -> str:
    """Return what to do instead of calling a method that is not on the list."""
    if name in {"replace", "join", "truncate"}:
        return f"There is a filter: `| {name}(…)`."
    known = list(known) or sorted(CANDIDATES)
    near = values.nearest(name, known)
    return f"Did you mean {near!r}?" if near else f"There are {', '.join(known)}."
