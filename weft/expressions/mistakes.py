"""What is wrong in a template that cannot be read, and what to write instead.

A parser knows only where it stopped. The rules here look at the tokens and characters around that place for what
authors bring from other languages (`&&`, `? :`, `===`), for what was not closed, and at last for what is missing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weft.expressions.limits import Fault
from weft.expressions.values import nearest

RawToken = tuple[int, str, str]
"""The character at which it starts, its kind, and its text."""

Mistake = tuple[int, str, str | None]
"""The character at fault, what is wrong, and the remedy."""

TAGS: Final = "Available are `{{ … }}`, `if`, `for`, `set name = …`, `raw` and comments."

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_ENDS: Final = {"variable_begin": "}}", "block_begin": "%}"}
_PARTS_OF_TAGS: Final = {"endif": "if", "elif": "if", "else": "if", "endfor": "for", "endraw": "raw"}
_OTHER_TAGS: Final = {
    "assign": "set",
    "comment": "{# … #}",
    "each": "for",
    "else_if": "elif",
    "elseif": "elif",
    "elsif": "elif",
    "endforeach": "endfor",
    "fi": "endif",
    "foreach": "for",
    "let": "set",
    "unless": "if not",
    "var": "set",
}
_NO_VALUES: Final = frozenset({"and", "or", "not", "in", "is", "if", "else"})
_MARK: Final = re.compile(r"(\{[{%])|[%}]\}")
_QUOTES: Final = dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛´", "'")  # noqa: RUF001 (those meant)

_SYMBOLS: Final = {
    "===": "Write `==`.",
    "!==": "Write `!=`.",
    "<>": "Write `!=`.",
    "=>": "Write `>=`.",
    "=<": "Write `<=`.",
    "&&": "Write `and`.",
    "||": "Write `or`; a single `|` is followed by the name of a filter.",
    "??": "Write `a | default(b)`.",
    "?.": "Write `.`, and after the last name `| default(…)`.",
    "->": "Write `.`.",
    "{#": "Comments stand outside of expressions.",
    "&": "Write `and`.",
    "?": "Write a choice as `a if test else b`.",
    "!": "Write `not x`, or `!=` for different.",
    "^": "Write `**` for a power.",
    "`": "Write `'` or `\"` around a text.",
    "$": "Write names without `$`.",
    ";": "Leave it out.",
    "\\": "Write it only inside quotes; quotes around a text stand without it.",
}
"""What other languages write, longest first, and what is written here."""

_WORDS: Final = {
    "AND": "Write `and`.",
    "OR": "Write `or`.",
    "NOT": "Write `not`.",
    "IN": "Write `in`.",
    "IS": "Write `is`.",
    "contains": "Write `part in whole`.",
    "eq": "Write `==`.",
    "equals": "Write `==`.",
    "ge": "Write `>=`.",
    "gt": "Write `>`.",
    "is": "Write `a is x and a is y`; one test cannot follow another.",
    "le": "Write `<=`.",
    "lt": "Write `<`.",
    "ne": "Write `!=`.",
    "then": "Leave it out.",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where reading stopped, and what surrounds it."""

    text: str
    at: int
    before: list[RawToken]  #: of the same `{{ … }}` or `{% … %}`, whose opening comes first
    found: RawToken | None  #: None at the end, or when no token begins here

    @property
    def last(self) -> RawToken:
        """The token before the place."""
        return self.before[-1] if self.before else (0, "", "")

    @property
    def opening(self) -> str:
        """`{{` or `{%`; empty in a condition without braces."""
        return self.before[0][2][:2] if self.before and self.before[0][1] in _ENDS else ""

    @property
    def end(self) -> str:
        """What closes the opening."""
        return _ENDS[self.before[0][1]] if self.opening else ""

    @property
    def tag(self) -> str:
        """The name of the statement, `if`; empty in a `{{ … }}`."""
        return self.before[1][2] if self.opening == "{%" and len(self.before) > 1 else ""

    @property
    def shown(self) -> str:
        """What stands at the place."""
        if self.found:
            return f"`{self.found[2][:40]}`"
        return f"`{self.text[self.at]}`" if self.at < len(self.text) else "the end"

    @property
    def after_value(self) -> bool:
        """Whether what stands before is a value, so that an operator could follow."""
        return _ends_value(self.before)

    def open_brackets(self) -> list[RawToken]:
        """Return the brackets before the place that are not closed there."""
        brackets: list[RawToken] = []
        for token in self.before:
            if token[1] == "operator" and token[2] in _CLOSING:
                brackets.append(token)
            elif token[1] == "operator" and token[2] in _CLOSING.values() and brackets:
                brackets.pop()
        return brackets


def explain(text: str, tokens: Sequence[RawToken], at: int) -> tuple[Fault, int]:
    """Return what is wrong where reading stopped, and the character at fault.

    Args:
        text: The template.
        tokens: All tokens that it can be split into, white space left out.
        at: The character at which reading stopped.
    """
    index = bisect_left(tokens, at, key=lambda token: token[0])
    found = tokens[index] if index < len(tokens) and tokens[index][0] == at else None
    begin = next((i for i in range(index - 1, -1, -1) if tokens[i][1] in _ENDS), 0)
    spot = Spot(text, at, list(tokens[begin:index]), found)
    offset, message, remedy = next(mistake for rule in _RULES if (mistake := rule(spot)) is not None)
    return Fault(message, remedy, code="expression_syntax"), offset


def unclosed(tag: str) -> Fault:
    """Return the fault of a statement whose end is missing."""
    message = f"`{{% {tag} … %}}` is not closed: `{{% end{tag} %}}` is missing"
    return Fault(message, f"Write `{{% end{tag} %}}` where it ends.", code="expression_syntax")


def unknown_tag(name: str, inner: str | None) -> Fault:
    """Return the fault of a tag that does not exist, or not here.

    Args:
        name: The tag.
        inner: The innermost statement that is not closed yet.
    """
    if name not in _PARTS_OF_TAGS:
        other = f"end{inner}" if name == "end" and inner else _OTHER_TAGS.get(name)
        other = other or nearest(name, ["if", "for", "set", "raw", *_PARTS_OF_TAGS])
        shown = other if other is None or other.startswith("{") else f"{{% {other} %}}"
        remedy = TAGS if shown is None else f"Did you mean `{shown}`?"
        return Fault(f"there is no tag {name!r}", remedy, code="expression_syntax")
    if inner is None:
        message = f"`{{% {name} %}}` belongs to no `{{% {_PARTS_OF_TAGS[name]} … %}}` before it"
        return Fault(message, "Delete it, or write what it belongs to.", code="expression_syntax")
    if name.startswith("end"):
        message = f"`{{% {name} %}}` stands inside a `{{% {inner} … %}}` that is not closed"
        return Fault(message, f"Write `{{% end{inner} %}}` before it.", code="expression_syntax")
    message = f"`{{% {name} %}}` does not fit here, inside `{{% {inner} … %}}`"
    remedy = "One `else` comes last; further tests of an `if` go into `{% elif … %}` before it."
    return Fault(message, remedy, code="expression_syntax")


def _ends_value(tokens: Sequence[RawToken]) -> bool:
    if not tokens or (len(tokens) == 2 and tokens[0][1] == "block_begin"):
        return False
    _, kind, text = tokens[-1]
    if kind == "name":
        return text not in _NO_VALUES
    return kind in ("string", "integer", "float") or (kind == "operator" and text in _CLOSING.values())


# What is not closed


def _comment_or_raw(spot: Spot) -> Mistake | None:
    offset, kind, _ = spot.last
    if kind == "comment_begin":
        return offset, "the comment is not closed", "Close it with `#}`."
    if kind == "raw_begin":
        return offset, "`{% raw %}` is not closed", "Write `{% endraw %}` where it ends."
    return None


def _quote(spot: Spot) -> Mistake | None:
    character = spot.text[spot.at : spot.at + 1]
    if spot.found or character not in ("'", '"'):
        return None
    remedy = f"Close it with `{character}`; inside a text that quote is written `\\{character}`."
    return spot.at, f"the text that begins with `{character}` here is not closed", remedy


def _bracket(spot: Spot) -> Mistake | None:
    """Find an opening bracket without its closing one."""
    brackets = spot.open_brackets()
    if not brackets:
        return None
    offset, _, bracket = brackets[-1]
    closing = _CLOSING[bracket]
    if spot.found and spot.found[2] == closing:
        return None
    ends = re.compile(r"[-+]?[%}]\}").match(spot.text, spot.at) or spot.text[spot.at - 1 : spot.at + 1] == "%}"
    if ends or (spot.at >= len(spot.text) and not spot.opening):
        before = f", before `{spot.end}`" if spot.opening else ""
        return offset, f"`{bracket}` is not closed", f"Write `{closing}` where it ends{before}."
    if spot.found is None and spot.text[spot.at : spot.at + 1] in _CLOSING.values():
        message = f"{spot.shown} stands where `{closing}` is expected"
        return spot.at, message, f"Close `{bracket}` with `{closing}` first."
    return None


def _closing_bracket(spot: Spot) -> Mistake | None:
    """Find a closing bracket without its opening one."""
    at, text = spot.at, spot.text
    if spot.found and spot.found[1] == "variable_end" and not spot.opening:
        return at, "`}}` closes nothing", "Write `{{ … }}` around the whole expression, or no braces at all."
    if spot.found or text[at : at + 1] not in (")", "]", "}"):
        return None
    if text[at] != "}" or not spot.opening:
        return at, f"{spot.shown} closes nothing", "Delete it, or write the bracket that it closes."
    remedy = f"Write `{spot.end}`."
    if spot.last[2] == "%" and spot.opening == "{{" and spot.last[0] == at - 1:
        return at - 1, "`{{` is closed with `%}`", remedy
    if spot.opening == "{%" and text.startswith("}}", at):
        return at, "`{%` is closed with `}}`", remedy
    if spot.last[2] == "}" and spot.last[0] == at - 1:
        return at - 1, "the first `}` closes the object, and one is missing for the expression", "Write `} }}`."
    return at, f"a single `}}` does not close `{spot.opening}`", remedy


def _braces(spot: Spot) -> Mistake | None:
    """Find an expression within an expression, or one without its end."""
    if not spot.opening:
        return None
    for i in range(1, len(spot.before)):
        offset, _, text = spot.before[i]
        if text == "{" and spot.text[offset + 1 : offset + 2] in ("{", "%"):
            return _nested(spot, offset, spot.before[:i])
    mark = _MARK.search(spot.text, spot.at)
    if mark is not None and mark.start() == spot.at and mark[1]:
        return _nested(spot, spot.at, spot.before)
    return _not_closed(spot) if mark is None or mark[1] else None


def _nested(spot: Spot, offset: int, before: Sequence[RawToken]) -> Mistake:
    if _ends_value(before):
        return _not_closed(spot)
    example = "{{ a + b }}" if spot.opening == "{{" else "{% if a %}"
    message = f"`{spot.text[offset : offset + 2]}` stands inside `{spot.opening}`"
    return offset, message, f"Write names without further braces there: `{example}`."


def _not_closed(spot: Spot) -> Mistake:
    remedy = f"Close it with `{spot.end}`; to write `{spot.opening}` as text, put it between `{{% raw %}}` and `{{% endraw %}}`."
    return spot.before[0][0], f"`{spot.opening}` is not closed: `{spot.end}` is missing", remedy


# What other languages write


def _statement(spot: Spot) -> Mistake | None:
    written = [text for _, _, text in spot.before[1:]]
    if spot.opening == "{{" and written[:1] in (["if"], ["for"], ["set"], ["elif"]):
        return spot.before[1][0], f"`{written[0]}` is a statement", f"Write `{{% {written[0]} … %}}`."
    if spot.opening == "{%" and not written:
        return spot.at, f"a tag begins with its name, not with {spot.shown}", TAGS
    if spot.tag == "else" and spot.found and spot.found[2] == "if":
        return spot.at, "`else if` is one word", "Write `{% elif … %}`."
    if spot.tag in ("else", "endif", "endfor"):
        return spot.at, f"nothing follows after `{spot.tag}`", f"Write `{{% {spot.tag} %}}`."
    if spot.tag == "for" and "in" not in written:
        message = f"after `for` come a name and `in`, not {spot.shown}"
        return spot.at, message, "Write `{% for item in list %}` or `{% for key, value in object | items %}`."
    if spot.tag == "set" and "=" not in written:
        return spot.at, f"after `set` come a name and `=`, not {spot.shown}", "Write `{% set name = … %}`."
    return None


def _symbol(spot: Spot) -> Mistake | None:
    for symbol, remedy in _SYMBOLS.items():
        for begin in range(max(spot.at - len(symbol) + 1, 0), spot.at + 1):
            if spot.text.startswith(symbol, begin) and all(
                offset < begin or text in symbol for offset, _, text in spot.before
            ):
                return begin, f"{'a backtick' if symbol == '`' else f'`{symbol}`'} has no meaning here", remedy
    if spot.found is None or spot.found[2] != "=":
        return None
    if (brackets := spot.open_brackets()) and brackets[-1][2] == "{":
        return spot.at, "`=` has no meaning in an object", "Write `{'key': value}`."
    return spot.at, "`=` does not compare", "Write `==`."


def _character(spot: Spot) -> Mistake | None:
    if spot.found or spot.at >= len(spot.text):
        return None
    character = spot.text[spot.at]
    if character in _QUOTES:
        message = f"`{character}` is not a quote of expressions"
        return spot.at, message, f"Write a straight `{_QUOTES[character]}` at both ends of the text."
    if not character.isprintable():
        return spot.at, f"there is an invisible character, U+{ord(character):04X}", "Delete it."
    return spot.at, f"`{character}` has no meaning here", "Write text in quotes: `'…'`."


def _word(spot: Spot) -> Mistake | None:
    tokens = [spot.last, *([spot.found] if spot.found else [])]
    for offset, kind, text in tokens if spot.last[2] == "NOT" else tokens[1:]:
        if kind == "name" and text in _WORDS:
            return offset, f"`{text}` has no meaning here", _WORDS[text]
    return None


# What is missing


def _name(spot: Spot) -> Mistake | None:
    if spot.found and spot.found[1] == "name" and not spot.found[2].isidentifier():
        return spot.at, f"{spot.shown} is not a name", "Write such a key in brackets: `['…']`."
    before = [text for _, _, text in spot.before[-2:]]
    if before[-1:] == ["|"]:
        return spot.at, f"a filter's name is missing before {spot.shown}", "Write one, `| upper`, or leave the `|` out."
    if before[-1:] == ["is"] or before == ["is", "not"]:
        return spot.at, f"a test's name is missing before {spot.shown}", "Write one: `is defined`, `is none`."
    if before[-1:] == ["."]:
        return (
            spot.at,
            f"a key is missing between `.` and {spot.shown}",
            "Write a name, or in brackets any key: `['…']`.",
        )
    return None


def _neighbours(spot: Spot) -> Mistake | None:
    """Find what follows a text or number without a space."""
    offset, kind, text = spot.last
    if spot.found is None or offset + len(text) != spot.at:
        return None
    if kind == "string":
        if any(end in text for end in _ENDS.values()):
            return offset, f"the text that begins with `{text[0]}` here is not closed", f"Close it with `{text[0]}`."
        remedy = f"A `{text[0]}` inside a text is written `\\{text[0]}`."
        return spot.at, f"the text ends before {spot.shown}", remedy
    if kind == "integer" and spot.found[1] == "name":
        message = f"`{text}{spot.found[2]}` begins with a digit and is not a name"
        return offset, message, f"Write such a key in brackets: `['{text}{spot.found[2]}']`."
    return None


def _operator(spot: Spot) -> Mistake | None:
    if not spot.after_value:
        return None
    kind, text = spot.found[1:] if spot.found else ("", "")
    if text == "(":
        return spot.at, "arguments without a name come before those with one", "Write `name(1, option=2)`."
    if kind in ("name", "string", "integer", "float") or text in _CLOSING:
        remedy = "Texts are joined with `~`; words that are no names stand in quotes: `'two words'`."
        return spot.at, f"an operator is missing before {spot.shown}", remedy
    return spot.at, f"{spot.shown} does not belong here", "Leave it out, or put text in quotes."


def _value(spot: Spot) -> Mistake:
    if spot.opening == "{{" and len(spot.before) == 1 and spot.found and spot.found[1] == "variable_end":
        remedy = "Write a name or value in it; braces as text stand between `{% raw %}` and `{% endraw %}`."
        return spot.before[0][0], "the expression is empty", remedy
    if not spot.text.strip():
        return 0, "it is empty", "Write what is to hold: `inputs.count > 2`."
    after = f" after `{spot.last[2]}`" if spot.before and spot.last[1] not in _ENDS else ""
    message = f"a value is missing{after}; {spot.shown} is none"
    return spot.at, message, "Write a name, a number, or a text in quotes."


_RULES: Final = (
    _comment_or_raw,
    _quote,
    _bracket,
    _closing_bracket,
    _braces,
    _statement,
    _symbol,
    _character,
    _word,
    _name,
    _neighbours,
    _operator,
    _value,
)
"""In their order; the last always applies."""
