"""What filters, tests and methods do, in a few words, for whoever writes an expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FILTERS: Final[Mapping[str, str]] = {
    "abs": "The number without its sign.",
    "capitalize": "The first character in upper case, the rest in lower.",
    "count": "How many characters, items or keys there are.",
    "d": "A value for what is missing; with true also for null, false, 0 and empty.",
    "date": "An instant, written in a format and a zone.",
    "default": "A value for what is missing; with true also for null, false, 0 and empty.",
    "dictsort": "Pairs of an object, sorted by key or by value.",
    "e": "The text, escaped for HTML.",
    "escape": "The text, escaped for HTML.",
    "first": "The first item.",
    "float": "The number that a text says.",
    "fromjson": "The value that a JSON text says.",
    "groupby": "Pairs of a key and the items that have it.",
    "int": "The whole number that a text says; a number without its fraction.",
    "items": "Pairs of key and value.",
    "join": "The items as one text, with another between them.",
    "last": "The last item.",
    "length": "How many characters, items or keys there are.",
    "list": "The keys of an object, or the characters of a text.",
    "lower": "The text in lower case.",
    "map": "One attribute of each item, or each item through a filter.",
    "max": "The greatest item.",
    "min": "The least item.",
    "reject": "The items that do not pass a test.",
    "rejectattr": "The items of which an attribute does not pass a test.",
    "replace": "The text with one part exchanged for another.",
    "reverse": "The list or text from its end to its begin.",
    "round": "The number, rounded.",
    "select": "The items that pass a test.",
    "selectattr": "The items of which an attribute passes a test.",
    "sort": "The items in order.",
    "string": "The text that the value prints as.",
    "sum": "All numbers added up.",
    "title": "The text with each word capitalised.",
    "tojson": "The value as JSON text.",
    "trim": "The text without white space at its ends.",
    "truncate": "The text cut to a length, at the end of a word.",
    "unique": "The items, each once.",
    "upper": "The text in upper case.",
    "urlencode": "The text as a part of an address, or an object as its query.",
    "wordcount": "How many words there are.",
}

TESTS: Final[Mapping[str, str]] = {
    "boolean": "True or false.",
    "defined": "It is there.",
    "divisibleby": "Divisible by a whole number.",
    "eq": "Equal to a value.",
    "equalto": "Equal to a value.",
    "even": "An even whole number.",
    "false": "False itself.",
    "float": "A number with a fraction.",
    "ge": "At least a value.",
    "greaterthan": "Greater than a value.",
    "gt": "Greater than a value.",
    "in": "In a list, a text or an object's keys.",
    "integer": "A whole number.",
    "iterable": "A list, an object or a text.",
    "le": "At most a value.",
    "lessthan": "Less than a value.",
    "lower": "Text in lower case.",
    "lt": "Less than a value.",
    "mapping": "An object.",
    "ne": "Different from a value.",
    "none": "Null.",
    "number": "A number.",
    "odd": "An odd whole number.",
    "sequence": "A list, an object or a text.",
    "string": "Text.",
    "true": "True itself.",
    "undefined": "It is not there.",
    "upper": "Text in upper case.",
}

METHODS: Final[Mapping[str, str]] = {
    "capitalize": "The first character in upper case, the rest in lower.",
    "count": "How often something is in it.",
    "endswith": "Whether it ends so.",
    "find": "Where a part begins, -1 when it is not there.",
    "get": "The value of a key, or another one when it is not there.",
    "index": "The position of an item.",
    "items": "Pairs of key and value.",
    "keys": "The keys.",
    "lower": "The text in lower case.",
    "lstrip": "The text without white space at its begin.",
    "removeprefix": "The text without this begin.",
    "removesuffix": "The text without this end.",
    "rstrip": "The text without white space at its end.",
    "split": "The parts between separators.",
    "splitlines": "The lines.",
    "startswith": "Whether it begins so.",
    "strip": "The text without white space at its ends.",
    "title": "The text with each word capitalised.",
    "upper": "The text in upper case.",
    "values": "The values.",
}

KEYWORDS: Final[Mapping[str, str]] = {
    "and": "Both.",
    "else": "What a choice is otherwise.",
    "if": "A choice: a if test else b.",
    "in": "Text in text, item in list, key in object.",
    "is": "Asks with a test.",
    "not": "The contrary.",
    "or": "One of them.",
}

STATEMENTS: Final[Mapping[str, str]] = {
    "elif": "Another case.",
    "else": "Otherwise.",
    "endfor": "Ends a loop.",
    "endif": "Ends a choice.",
    "for": "Repeats its text for each item.",
    "if": "Shows one of several texts.",
    "set": "Names a value.",
}

CONSTANTS: Final[Mapping[str, str]] = {"true": "True.", "false": "False.", "none": "Null."}

OF_TEXT: Final = frozenset(
    {
        *("capitalize", "count", "e", "escape", "float", "fromjson", "int", "length", "lower", "replace", "reverse"),
        *("title", "trim", "truncate", "upper", "urlencode", "wordcount", "date"),
    }
)
OF_NUMBERS: Final = frozenset({"abs", "float", "int", "round", "date", "string"})
OF_LISTS: Final = frozenset(
    {
        *(
            "count",
            "first",
            "groupby",
            "join",
            "last",
            "length",
            "map",
            "max",
            "min",
            "reject",
            "rejectattr",
            "reverse",
        ),
        *("select", "selectattr", "sort", "sum", "tojson", "unique"),
    }
)
OF_OBJECTS: Final = frozenset({"count", "dictsort", "items", "length", "list", "tojson", "urlencode"})
FITTING: Final[Mapping[str, frozenset[str]]] = {
    "string": OF_TEXT,
    "integer": OF_NUMBERS,
    "number": OF_NUMBERS,
    "array": OF_LISTS,
    "object": OF_OBJECTS,
}
"""Type of a value → the filters that are for such values; all others work too, or say why not."""
