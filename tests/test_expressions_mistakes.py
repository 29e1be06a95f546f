"""Templates that cannot be read, or that hold what other languages write: each is told where and what to write."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from weft import expressions
from weft.errors import ExpressionError

UNREADABLE = [  # the template, where its fault lies (the first place of that text), a phrase of the message or remedy
    # of other languages
    ("{{ a === b }}", "===", "Write `==`."),
    ("{{ a !== b }}", "!==", "Write `!=`."),
    ("{{ a <> b }}", "<>", "Write `!=`."),
    ("{{ a => b }}", "=>", "Write `>=`."),
    ("{{ a =< b }}", "=<", "Write `<=`."),
    ("{{ a = 1 }}", "=", "Write `==`."),
    ("{% if a = 1 %}x{% endif %}", "=", "Write `==`."),
    ("{{ {a = 1} }}", "=", "`{'key': value}`"),
    ("{{ a && b }}", "&&", "`&&` has no meaning here. Write `and`."),
    ("{{ 'x&&y' && b }}", "&& b", "Write `and`."),
    ("{{ a || b }}", "||", "Write `or`;"),
    ("{{ !a }}", "!", "Write `not x`"),
    ("{{ a AND b }}", "AND", "Write `and`."),
    ("{{ NOT a }}", "NOT", "Write `not`."),
    ("{{ a contains b }}", "contains", "`part in whole`"),
    ("{{ a is b is c }}", "is c", "a is x and a is y"),
    ("{{ a ? b : c }}", "?", "`a if test else b`"),
    ("{{ a ?? b }}", "??", "default"),
    ("{{ a?.b }}", "?.", "default"),
    ("{{ a->b }}", "->", "Write `.`."),
    ("{{ a; }}", ";", "Leave it out."),
    ("{{ a^2 }}", "^", "`**`"),
    ("{{ `a` }}", "`", "a backtick"),
    ("{{ “a” }}", "“", 'straight `"`'),
    ("{{ ‘a’ }}", "‘", "straight `'`"),
    ('{{ \\"a\\" }}', "\\", "only inside quotes"),
    ("{{ ${a} }}", "$", "without `$`"),
    ("{{ a @ b }}", "@", "in quotes"),
    ("{{ a\u200b }}", "\u200b", "U+200B"),
    ("{{ a {# why #} }}", "{#", "outside of expressions"),
    ("{{ if a }}x", "if", "`{% if … %}`"),
    ("{{ hello world }}", "world", "in quotes"),
    ("{{ 2fa }}", "2fa", "['2fa']"),
    ("{{ inputs.2fa }}", "2fa", "['2fa']"),
    ("{{ a² }}", "a²", "not a name"),
    # what is missing
    ("{{ a | }}", "}}", "a filter's name is missing"),
    ("{{ a | | b }}", "| b", "a filter's name is missing"),
    ("{{ a is }}", "}}", "a test's name is missing"),
    ("{{ a is not }}", "}}", "a test's name is missing"),
    ("{{ a. }}", "}}", "a key is missing"),
    ("{{ a..b }}", ".b", "a key is missing"),
    ("{{ a + }}", "}}", "missing after `+`"),
    ("{{ (a + ) }}", ") }}", "missing after `+`"),
    ("{{ {'a': } }}", "} }}", "missing after `:`"),
    ("{{ }}", "{{", "is empty"),
    ("{{ a : b }}", ":", "does not belong here"),
    ("{{ range(x=1, 2) }}", "(", "arguments without a name come before"),
    # braces and brackets
    ("x {{ a", "{{", "`}}` is missing"),
    ("{{ a and more", "{{", "`}}` is missing"),
    ("{{ a\nText {{ b }}", "{{", "`}}` is missing"),
    ("{{ a {% if b %}", "{{", "`}}` is missing"),
    ("{{ a }", "}", "a single `}`"),
    ("{{ a %}", "%}", "Write `}}`."),
    ("{% if a }}x{% endif %}", "}}", "Write `%}`."),
    ("{{ {{ a }} }}", "{{ a", "without further braces"),
    ("{{ a + {{ b }} }}", "{{ b", "without further braces"),
    ("{% if {{ a }} %}x{% endif %}", "{{ a", "`{% if a %}`"),
    ("{{ (a }}", "(", "Write `)`"),
    ("{{ (a + }}", "(", "Write `)`"),
    ("{% if (a %}x", "(", "Write `)`"),
    ("{{ [1, 2 }}", "[", "Write `]`"),
    ("{{ a) }}", ")", "closes nothing"),
    ("{{ f(a] }}", "]", "stands where `)`"),
    ("{{ {'a': 1 }}", "}}", "Write `} }}`."),
    ("{{ 'abc }}", "'", "is not closed"),
    ("{{ 'abc }} and {{ 'x' }}", "'abc", "is not closed"),
    ("{{ 'it's' }}", "s' }}", "written `\\'`"),
    ("x {# abc", "{#", "`#}`"),
    ("x {% raw %} abc", "{%", "`{% endraw %}`"),
    # statements
    ("{% if a %}x", "if", "`{% endif %}` is missing"),
    ("{% for a in b %}x", "for", "`{% endfor %}` is missing"),
    ("{% if a %}{% for b in c %}x{% endfor %}", "if", "`{% endif %}` is missing"),
    ("{% if a %}{% for a in b %}x{% endif %}", "endif", "Write `{% endfor %}` before it."),
    ("{% endfor %}", "endfor", "belongs to no `{% for … %}`"),
    ("{% else %}", "else", "belongs to no `{% if … %}`"),
    ("{% if a %}{% else %}x{% else %}{% endif %}", "else %}{% endif", "comes last"),
    ("{% if a %}{% else if b %}{% endif %}", "if b", "`{% elif … %}`"),
    ("{% if a %}{% elseif b %}{% endif %}", "elseif", "`{% elif %}`"),
    ("{% if a %}{% end %}", "end", "`{% endif %}`"),
    ("{% foreach a in b %}", "foreach", "`{% for %}`"),
    ("{% iff a %}", "iff", "`{% if %}`"),
    ("{% whatever %}", "whatever", "Available are"),
    ("{% %}", "%} ", "begins with its name"),
    ("{% for a of b %}", "of", "`{% for item in list %}`"),
    ("{% for k v in b %}", "v", "`{% for item in list %}`"),
    ("{% for 1 in b %}", "1", "`{% for item in list %}`"),
    ("{% set x == 1 %}", "==", "`{% set name = … %}`"),
    ("{% if a %}x{% endif b %}", "b %}", "nothing follows after `endif`"),
]


@pytest.mark.parametrize("before", ["", "Dear all,\n  ünï {{ inputs.name }} "])
@pytest.mark.parametrize(("text", "at", "said"), UNREADABLE)
def test_what_cannot_be_read_is_explained(text: str, at: str, said: str, before: str) -> None:
    """The error names the character at fault, shows the expression, and says what to write instead."""
    with pytest.raises(ExpressionError) as caught:
        expressions.compile(before + text + " ")

    problem = caught.value.problem
    assert problem.code == "expression_syntax"
    assert caught.value.offset == len(before) + (text + " ").index(at), str(caught.value)
    assert problem.where.line == before.count("\n") + 1
    assert said in f"{problem.message} {problem.remedy}"
    assert problem.remedy


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("a }}", 2, "no braces at all"),
        ("a } b", 2, "closes nothing"),
        ("a and", 5, "missing after `and`"),
        ("(a", 0, "Write `)` where it ends."),
        ("a b", 2, "an operator is missing"),
        ("inputs.name = 'a'", 12, "Write `==`."),
        ("'a", 0, "is not closed"),
        (" ", 0, "It is empty"),
        ("$a", 0, "without `$`"),
        ("  ${{ a }}", 2, "without `$`"),
    ],
)
def test_conditions_that_cannot_be_read_are_explained(text: str, offset: int, said: str) -> None:
    """A condition without braces is explained like an expression, with no word of braces that it does not have."""
    with pytest.raises(ExpressionError) as caught:
        expressions.compile_condition(text)

    assert caught.value.offset == offset
    assert said in f"{caught.value.problem.message} {caught.value.problem.remedy}"


@pytest.mark.parametrize(
    ("name", "constant"),
    [("null", "none"), ("NULL", "none"), ("nil", "none"), ("undefined", "none"), ("TRUE", "true"), ("FALSE", "false")],
)
def test_other_spellings_of_constants(name: str, constant: str) -> None:
    """A constant spelled as elsewhere is a name that does not exist; the remedy spells it, before a run and in it."""
    template = expressions.compile(f"{{{{ 1 == {name} }}}}")

    assert [found.hint for found in template.references] == [f"Write `{constant}`."]
    with pytest.raises(ExpressionError, match=f"Write `{constant}`"):
        template.render({"nulls": 1})
    assert expressions.compile("{{ [None, True, False] }}").render({}) == [None, True, False]


def test_a_test_for_null_is_called_none() -> None:
    """`is null` is answered with `none`."""
    with pytest.raises(ExpressionError, match="Did you mean 'none'"):
        expressions.compile("{{ a is null }}")


PARSER_WORDS = re.compile(
    r"expected token|unexpected|[Ee]ncountered|end of (template|print)|[Jj]inja|chain multiple|subscript|can't assign"
)
PIECES = [
    *("{{ ", " }}", "{% ", " %}", "{#", "#}", "if ", "for ", "in ", "endif", "endfor", "else", "set ", "raw", "endraw"),
    *(
        "a",
        ".b",
        "1",
        "'t'",
        '"',
        "'",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        "=",
        "==",
        "+",
        ",",
        ":",
        "is ",
        "not ",
        "\r\n",
    ),
]


def spoiled() -> Iterator[str]:
    """Yield readable templates with one piece put in, or one piece taken out, everywhere, or cut off."""
    for text in (
        "x {{ a.b | default('t', [1, {'k': a}]) }} y",
        "{% for k, v in a | items if v %}{{ k }}\r\n{% else %}-{% endfor %}",
        "{% if not a is defined %}{% set b = 1 %}{# c #}{% elif a[1:2] %}{% raw %}{{{% endraw %}{% endif %}",
    ):
        for i in range(len(text)):
            yield text[:i]
            yield text[:i] + text[i + 1 :]
            yield from (text[:i] + piece + text[i:] for piece in PIECES)


def failures(text: str) -> Iterator[ExpressionError]:
    for read in (expressions.compile, expressions.compile_condition):
        try:
            read(text)
        except ExpressionError as error:
            yield error


def test_every_text_is_explained_in_our_words() -> None:
    """Whatever is wrong with a template, the error has a place in it, a remedy, and no words of the parser."""
    refused = [(text, error) for text in spoiled() for error in failures(text)]

    assert len(refused) > 5_000
    for text, error in refused:
        problem = error.problem
        said = problem.message.partition("`: ")[2] or problem.message
        assert error.offset is not None, text
        assert 0 <= error.offset <= len(text), text
        assert problem.remedy or problem.code != "expression_syntax", text
        assert not PARSER_WORDS.search(f"{said} {problem.remedy}"), (text, str(error))


# Dollar signs


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("${{ inputs.name }}", [0]),
        ("a ${{ x }} b ${{- y }}", [2, 13]),
        ("ü\r\n${{ x }}", [3]),
        ("{% if a %}${{ x }}{% endif %}", [10]),
        ("{{ a }} ${inputs.name}", [8]),
        ("{{ a }}, {{ b }}", []),
        ("$ {{ x }}", []),
        ("{{ '$' }}{{ x }}", []),
        ("{{ '${{ x }}' }}", []),
        ("{% raw %}${{ x }} ${inputs.name}{% endraw %}", []),
        ("Total: US${{ x }}", []),
        ("Total: ${{ inputs.amount | round(2) }}", []),
        ("Total: ${{ inputs.cents / 100 }}", []),
        ("{{ a }} ${HOME} ${name.first}", []),
    ],
)
def test_a_dollar_before_an_expression_is_a_warning(text: str, offsets: list[int]) -> None:
    """`${{ x }}` warns that the `$` stays, unless it stands before an amount; `raw` and `'$'` mean it."""
    warnings = expressions.compile(text).warnings

    assert [found.offset for found in warnings] == offsets
    assert all(text[found.offset] == "$" for found in warnings)
    assert {(found.problem.code, found.problem.severity) for found in warnings} <= {("expression_dollar", "warning")}


def test_warnings_have_line_and_column() -> None:
    """A warning's place is relative to the text, and its remedy is the expression to write."""
    (found,) = expressions.compile("a\nb ${{ inputs.name }}").warnings

    assert (found.problem.where.line, found.problem.where.column) == (2, 3)
    assert "Write `{{ inputs.name }}`" in (found.problem.remedy or "")


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("Dear ${inputs.name}", 5, "Write `{{ inputs.name }}`."),
        ("${ steps['my-step'].output }", 0, "Write `{{ steps['my-step'].output }}`."),
        ("${item.id}", 0, "Write `{{ item.id }}`."),
        ("${env.HOME}", 0, "declare an input"),
        ("${secrets.TOKEN}", 0, "belong to a connection"),
        ("${HOME} ${name}", None, ""),
        ("${item}", None, ""),
        ("${inputsx.name} $inputs.name {inputs.name}", None, ""),
        ("$(inputs.name) ${inputs.name", None, ""),
        ("", None, ""),
    ],
)
def test_suspicious_texts(text: str, offset: int | None, said: str) -> None:
    """`${inputs.name}` in a text without expressions is suspicious; variables of a shell are not."""
    found = expressions.suspicious(text)

    assert (found and found.offset) == offset
    if found is not None:
        assert said in (found.problem.remedy or "")
        assert (found.problem.code, found.problem.severity) == ("expression_dollar", "warning")
        assert found.problem.where.column == found.offset + 1
