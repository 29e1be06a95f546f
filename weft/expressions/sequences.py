"""Filters that work on lists: each walks its own way, pays for every item and gives a list of JSON values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from weft.expressions import values
from weft.expressions.filters import VALUE_FILTERS
from weft.expressions.limits import Account, Fault
from weft.expressions.methods import pairs
from weft.expressions.predicates import PREDICATES
from weft.expressions.values import MISSING, NUMBERS, kind

Filter = Callable[..., Any]
Judge = Callable[[Any], bool]


def _walk(account: Account, value: Any) -> list[Any]:
    """Return the items that a filter is about to work on, one by one."""
    items = values.items(account, value)
    account.charge(len(items))
    return items


_REFUSE: Final = object()


def _getter(account: Account, attribute: Any, default: Any = _REFUSE) -> Callable[[Any], Any]:
    """Return what reads `a.b.0` from an item; without an attribute it is the item itself."""
    if attribute is None:
        return lambda item: item
    path: list[str | int] = [attribute]
    if type(attribute) is str:
        path = [int(part) if part.isascii() and part.isdigit() else part for part in attribute.split(".", 20)]
    elif type(attribute) is not int:
        raise values.wrong_type("the name of an attribute", attribute)

    def read(item: Any) -> Any:
        for key in path:
            item = item.get(key, MISSING) if type(item) is dict and type(key) is str else values.lookup(item, key)
            if item is MISSING:
                if default is not _REFUSE:
                    return default
                raise Fault("an item of the list lacks the attribute", "Give a `default=`.", code="expression_missing")
        return item

    return read


def _key(account: Account, attribute: Any, case_sensitive: Any) -> Callable[[Any], Any]:
    read, as_is = _getter(account, attribute), values.truth(case_sensitive)

    def key(item: Any) -> Any:
        found = read(item)
        return found if as_is or type(found) is not str else account.made_text(found.lower())

    return key


def _check_order(account: Account, keys: list[Any]) -> None:
    """Refuse keys that have no common order, and pay for comparing them."""
    if not keys:
        return
    rounds = len(keys).bit_length()
    account.charge(len(keys) * rounds >> 4)
    if all(type(key) is str for key in keys):
        account.charge(sum(map(len, keys)) * rounds >> 12)
    elif not all(type(key) in NUMBERS for key in keys):
        kinds = sorted({kind(key) for key in keys})
        raise Fault(
            f"it cannot order {' and '.join(kinds)}",
            "Only numbers, or only text, can be ordered; for objects name an attribute.",
            code="expression_type",
        )


def _sort(
    account: Account, value: Any, reverse: Any = False, case_sensitive: Any = False, attribute: Any = None
) -> list[Any]:
    names = attribute.split(",", 8) if type(attribute) is str else [attribute]
    result = list(_walk(account, value))
    for name in reversed(names):  # sorting is stable, so the first attribute decides last
        keys = [_key(account, name, case_sensitive)(item) for item in result]
        _check_order(account, keys)
        account.keep(8 * len(keys))
        order = sorted(range(len(keys)), key=keys.__getitem__, reverse=values.truth(reverse))
        result = [result[position] for position in order]
    return account.made_items(result)


def _group_by(
    account: Account, value: Any, attribute: Any, default: Any = _REFUSE, case_sensitive: Any = False
) -> list[Any]:
    read, as_is = _getter(account, attribute, default), values.truth(case_sensitive)
    found = [(read(item), item) for item in _walk(account, value)]
    keys = [key if as_is or type(key) is not str else account.made_text(key.lower()) for key, _ in found]
    _check_order(account, keys)
    groups: list[Any] = []
    previous: Any = MISSING
    for position in sorted(range(len(keys)), key=keys.__getitem__):
        if not groups or keys[position] != previous:
            previous = keys[position]
            account.keep(150)
            groups.append([found[position][0], []])
        groups[-1][1].append(found[position][1])
    account.keep(8 * len(keys))
    return account.made_items(groups)


def _dict_sort(
    account: Account, value: Any, case_sensitive: Any = False, by: Any = "key", reverse: Any = False
) -> list[Any]:
    if type(value) is not dict:
        raise values.wrong_type("an object", value)
    if by not in ("key", "value"):
        raise Fault("`dictsort` goes by 'key' or by 'value'")
    return _sort(account, pairs(account, value), reverse, case_sensitive, ("key", "value").index(by))


def _items(account: Account, value: Any) -> list[Any]:
    if type(value) is not dict:
        raise values.wrong_type("an object", value)
    return pairs(account, value)


def _ends(position: int) -> Filter:
    def pick(account: Account, value: Any) -> Any:
        if type(value) is dict:
            value = values.items(account, value)
        if type(value) is not list and type(value) is not str:
            raise values.wrong_type("a list", value)
        return values.lookup(value, position)

    return pick


def _extreme(sign: int) -> Filter:
    def pick(account: Account, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Any:
        key = _key(account, attribute, case_sensitive)
        found = list(_walk(account, value))
        keys = [key(item) for item in found]
        _check_order(account, keys)
        if not keys:
            return MISSING
        choose = min if sign < 0 else max
        return found[choose(range(len(keys)), key=keys.__getitem__)]

    return pick


def _join(account: Account, value: Any, d: Any = "", attribute: Any = None) -> str:
    separator, read = values.text(account, d, "text between the items"), _getter(account, attribute)
    pieces, size = [], 0
    for item in _walk(account, value):
        pieces.append(values.written(account, read(item)))
        size += len(pieces[-1]) + len(separator)
        if size > account.limits.text + len(separator):
            account.need_text(size)
    account.need_text(max(size - len(separator), 0))
    return account.made_text(separator.join(pieces))


def _list(account: Account, value: Any) -> list[Any]:
    return account.made_items(list(values.items(account, value)))


def _reverse(account: Account, value: Any) -> Any:
    if type(value) is str:
        return account.made_text(values.text(account, value)[::-1])
    return account.made_items(values.items(account, value)[::-1])


def _sum(account: Account, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    read, total = _getter(account, attribute), values.number(account, start)
    for item in _walk(account, value):
        total += values.number(account, read(item), "numbers to add")
    return values.number(account, values.finite(total) if type(total) is float else total)


def _unique(account: Account, value: Any, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:
    key, seen, result = _key(account, attribute, case_sensitive), set(), []
    for item in _walk(account, value):
        mark = key(item)
        if type(mark) is not str and type(mark) not in NUMBERS and mark is not None:
            raise Fault(
                f"it cannot compare {kind(mark)} with others",
                "Name an attribute that is text or a number: `| unique(attribute='id')`.",
                code="expression_type",
            )
        if mark not in seen:
            account.keep(64)
            seen.add(mark)
            result.append(item)
    return account.made_items(result)


def _map(account: Account, value: Any, *arguments: Any, **options: Any) -> list[Any]:
    if "attribute" in options:
        if arguments or options.keys() - {"attribute", "default"}:
            raise Fault("`map` takes a filter, or `attribute` and `default`")
        apply = _getter(account, options["attribute"], options.get("default", _REFUSE))
        return account.made_items([apply(item) for item in _walk(account, value)])
    if not arguments:
        raise Fault("`map` needs the name of a filter or `attribute=`")
    function = named("filter", arguments[0])
    results = []
    for item in _walk(account, value):
        result = function(account, item, *arguments[1:], **options)
        if result is MISSING:
            raise Fault(f"`{arguments[0]}` of an empty list has no value", code="expression_missing")
        results.append(result)
    return account.made_items(results)


def _choose(keep: bool, by_attribute: bool) -> Filter:
    def choose(account: Account, value: Any, *arguments: Any, **options: Any) -> list[Any]:
        read = _getter(account, None)
        if by_attribute:
            if not arguments:
                raise Fault("it needs the name of an attribute")
            read, arguments = _getter(account, arguments[0], MISSING), arguments[1:]
        judge = _judge(account, arguments, options)
        return account.made_items([item for item in _walk(account, value) if judge(read(item)) is keep])

    return choose


def _judge(account: Account, arguments: tuple[Any, ...], options: dict[str, Any]) -> Judge:
    if not arguments:
        return lambda item: item is not MISSING and values.truth(item)
    predicate = named("test", arguments[0])

    def judge(item: Any) -> bool:
        if item is MISSING and arguments[0] not in ("defined", "undefined"):
            raise Fault(
                "an item of the list lacks the attribute",
                "Choose those that have it first, with `selectattr('…', 'defined')`.",
                code="expression_missing",
            )
        return bool(predicate(account, item, *arguments[1:], **options))

    return judge


def named(what: Literal["filter", "test"], name: Any, *, written: bool = False) -> Filter:
    """Return the filter or test called `name`, from the lists of those that exist.

    Args:
        what: Which list.
        name: Its name there.
        written: Whether the name stands in the template itself, so that an error may show it.
    """
    table: dict[str, Filter] = FILTERS if what == "filter" else PREDICATES
    function = table.get(name) if type(name) is str else None
    if function is None:
        near = values.SPELLINGS.get(name) if what == "test" and type(name) is str else None
        near = near or values.nearest(name, table)
        raise Fault(
            f"no {what} is called {name!r}" if written else f"there is no such {what}",
            f"Did you mean {near!r}?" if near else f"There are {', '.join(sorted(table))}.",
            code="expression_name",
        )
    return function


FILTERS: Final[dict[str, Filter]] = {
    **VALUE_FILTERS,
    "dictsort": _dict_sort,
    "first": _ends(0),
    "groupby": _group_by,
    "items": _items,
    "join": _join,
    "last": _ends(-1),
    "list": _list,
    "map": _map,
    "max": _extreme(1),
    "min": _extreme(-1),
    "reject": _choose(keep=False, by_attribute=False),
    "rejectattr": _choose(keep=False, by_attribute=True),
    "reverse": _reverse,
    "select": _choose(keep=True, by_attribute=False),
    "selectattr": _choose(keep=True, by_attribute=True),
    "sort": _sort,
    "sum": _sum,
    "unique": _unique,
}
"""All that there are: Jinja's names, and `date` and `fromjson` of our own."""
