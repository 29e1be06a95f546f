"""What may stand after `|`, for single values; filters for lists are in `sequences`, for instants in `instants`."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

from weft.expressions import values
from weft.expressions.instants import date
from weft.expressions.limits import Account, Fault, LimitFault

Filter = Callable[..., Any]

_SLOW_TEXT = 100_000
"""Characters that a filter takes which walks over the text in Python."""

_WORD_BEGINNING = re.compile(r"([-\s({\[<]+)")
_UNSET: Final = object()


def _slow_text(account: Account, value: Any) -> str:
    text = values.text(account, value)
    if len(text) > _SLOW_TEXT:
        raise LimitFault("text", f"this filter takes a text of at most {_SLOW_TEXT:,} characters")
    account.charge(len(text) >> 6)
    return text


def _absolute(account: Account, value: Any) -> Any:
    return abs(values.number(account, value))


def _capitalize(account: Account, value: Any) -> str:
    return account.made_text(values.text(account, value).capitalize())


def _default(account: Account, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    if value is values.MISSING or (values.truth(boolean) and not values.truth(value)):
        return default_value
    return value


def _escape(account: Account, value: Any) -> str:
    return account.made_text(escaped(values.written(account, value)))


def escaped(text: str) -> str:
    """Return `text` for a place in HTML, in content or in a quoted attribute."""
    return html.escape(text, quote=True)


def _float(account: Account, value: Any, default: Any = _UNSET) -> Any:
    try:
        if type(value) is str:
            return values.finite(float(_numeral(account, value)))
        return values.finite(float(values.number(account, value, "text or a number")))
    except (Fault, ValueError) as error:
        return _fall_back(error, default, "a number")


def _int(account: Account, value: Any, default: Any = _UNSET, base: Any = 10) -> Any:
    if type(base) is not int or not (base == 0 or 2 <= base <= 36):
        raise Fault("the base of `int` is 0 or from 2 to 36")
    try:
        if type(value) is not str:
            return account.integer(math.trunc(values.finite(values.number(account, value, "text or a number"))))
        numeral = _numeral(account, value)
        try:
            return account.integer(int(numeral, base))
        except ValueError:
            if base != 10:
                raise
            return account.integer(math.trunc(values.finite(float(numeral))))
    except (Fault, ValueError) as error:
        return _fall_back(error, default, "a whole number")


def _numeral(account: Account, value: str) -> str:
    if len(values.text(account, value)) > 4_300:
        raise LimitFault("integer", "a numeral is longer than 4,300 characters")
    return value


def _fall_back(error: Exception, default: Any, wanted: str) -> Any:
    if isinstance(error, LimitFault):
        raise error
    if default is not _UNSET:
        return default
    if isinstance(error, Fault) and error.code == "expression_type":
        raise error
    raise Fault(f"the text is not {wanted}", "Give a value for that case with `default=`.")


def _length(account: Account, value: Any) -> int:
    if type(value) in (str, list, dict):
        return len(value)
    raise values.wrong_type("text, a list or an object", value)


def _lower(account: Account, value: Any) -> str:
    return account.made_text(values.text(account, value).lower())


def _replace(account: Account, value: Any, old: Any, new: Any, count: Any = None) -> str:
    text = values.text(account, values.written(account, value))
    old, new = values.text(account, old, "text to replace"), values.text(account, new, "text to put in its place")
    found = text.count(old)
    if count is not None:
        found = min(found, max(values.whole(account, count), 0))
    account.need_text(len(text) + found * (len(new) - len(old)))
    return account.made_text(text.replace(old, new, found))


def _round(account: Account, value: Any, precision: Any = 0, method: Any = "common") -> Any:
    if type(precision) is not int or not -20 <= precision <= 20:
        raise Fault("the precision of `round` is a whole number from -20 to 20")
    number = values.finite(values.number(account, value))
    if method == "common":
        return round(number, precision)
    if method == "ceil":
        return values.finite(math.ceil(values.finite(number * 10**precision)) / 10**precision)
    if method == "floor":
        return values.finite(math.floor(values.finite(number * 10**precision)) / 10**precision)
    raise Fault("the method of `round` is 'common', 'ceil' or 'floor'")


def _string(account: Account, value: Any) -> str:
    return values.written(account, value)


def _title(account: Account, value: Any) -> str:
    words = _WORD_BEGINNING.split(_slow_text(account, value))
    return account.made_text("".join(word[0].upper() + word[1:].lower() for word in words if word))


def _trim(account: Account, value: Any, chars: Any = None) -> str:
    if chars is not None and len(values.text(account, chars, "the characters to trim")) > 1_000:
        raise Fault("`trim` takes at most 1,000 characters")
    return account.made_text(values.text(account, value).strip(chars))


def _truncate(  # noqa: PLR0917 (Jinja's order)
    account: Account, value: Any, length: Any = 255, killwords: Any = False, end: Any = "...", leeway: Any = 5
) -> str:
    if type(value) is not str:
        raise values.wrong_type("text", value)
    end = values.text(account, end)
    if values.whole(account, length) < len(end) or values.whole(account, leeway) < 0:
        raise Fault("the length of `truncate` is at least that of its end, its leeway at least 0")
    if len(value) <= length + leeway:
        return value
    account.need_text(length)
    kept = value[: length - len(end)]
    if not values.truth(killwords):
        kept = kept.rsplit(" ", 1)[0]
    return account.made_text(kept + end)


def _upper(account: Account, value: Any) -> str:
    return account.made_text(values.text(account, value).upper())


def _urlencode(account: Account, value: Any) -> str:
    if type(value) is dict:
        pairs = [(_query_text(account, key), _query_text(account, item)) for key, item in value.items()]
        return account.made_text(urlencode(pairs, errors="surrogatepass"))
    return account.made_text(quote(_query_text(account, value), safe="/", errors="surrogatepass"))


def _query_text(account: Account, value: Any) -> str:
    return _slow_text(account, values.written(account, value))


def _wordcount(account: Account, value: Any) -> int:
    return sum(1 for _ in re.finditer(r"\w+", _slow_text(account, value)))


def _to_json(account: Account, value: Any, indent: Any = None) -> str:
    if indent is not None and (type(indent) is not int or not 0 <= indent <= 8):
        raise Fault("the indent of `tojson` is a whole number from 0 to 8")
    return values.json_text(account, value, indent)


def _from_json(account: Account, value: Any) -> Any:
    text = values.text(account, value, "JSON as text")
    account.charge(len(text) >> 5)
    account.keep(len(text))
    try:
        result = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise Fault(
            f"the text is not JSON: {error.msg.split(':')[0].lower()} at line {error.lineno}, column {error.colno}",
            "A model's answer may have words around its JSON: ask for JSON output, or cut them off.",
        ) from None
    except ValueError:
        raise LimitFault("integer", "a whole number in the JSON text has more than 4,300 digits") from None
    except RecursionError:
        raise LimitFault("depth", f"the JSON text is nested deeper than {account.limits.depth}") from None
    _judge(account, result)
    return result


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise Fault("an object in the JSON text has the same key twice")
    return result


def _judge(account: Account, value: Any, depth: int = 0) -> None:
    """Check and pay for a value that came from JSON text."""
    if type(value) is int:
        account.integer(value)
    elif type(value) is float:
        if not math.isfinite(value):
            raise Fault("the text is not JSON: it has a number that is not finite")
    elif type(value) in (list, dict):
        if depth >= account.limits.depth:
            raise LimitFault("depth", f"the JSON text is nested deeper than {account.limits.depth}")
        account.need_items(len(value))
        account.keep(56 + 64 * len(value))
        for item in value.values() if type(value) is dict else value:
            _judge(account, item, depth + 1)


VALUE_FILTERS: Final[dict[str, Filter]] = {
    "abs": _absolute,
    "capitalize": _capitalize,
    "count": _length,
    "d": _default,
    "date": date,
    "default": _default,
    "e": _escape,
    "escape": _escape,
    "float": _float,
    "fromjson": _from_json,
    "int": _int,
    "length": _length,
    "lower": _lower,
    "replace": _replace,
    "round": _round,
    "string": _string,
    "title": _title,
    "tojson": _to_json,
    "trim": _trim,
    "truncate": _truncate,
    "upper": _upper,
    "urlencode": _urlencode,
    "wordcount": _wordcount,
}
