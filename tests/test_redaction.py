"""Secrets that do not print, and the filter at every sink."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import re
import time
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from weft.redaction import MASK, PATTERNS, SHORTEST_SEARCHED, Pieces, Redactor, Secret, forms

CANARIES = [
    json.loads(line)["value"]
    for line in (Path(__file__).parent / "corpora/secrets/canaries.jsonl").read_text(encoding="utf-8").splitlines()
]
LONG = [value for value in CANARIES if len(value) >= SHORTEST_SEARCHED]


def test_a_secret_prints_as_a_mask():
    """No way of turning a secret into text gives its value."""
    secret = Secret("hunter2-hunter2")

    assert {str(secret), repr(secret), f"{secret}", f"{secret:>3}", str([secret])[1:-1], f"{secret!r}"} == {MASK}
    assert secret.reveal() == "hunter2-hunter2"
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_secret_is_neither_pickled_nor_copied():
    """A secret cannot leave by serialisation."""
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(Secret("hunter2-hunter2"))


def test_secrets_compare_by_value_and_only_with_secrets():
    """Equality is for finding the same secret, never for testing a text against it."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


ENCODINGS = {
    "raw": lambda value: value,
    "json": json.dumps,
    "json unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "url": lambda value: urllib.parse.quote(value, safe=""),
    "query": lambda value: urllib.parse.urlencode({"key": value}),
    "html": html.escape,
    "hex": lambda value: value.encode().hex(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 +1": lambda value: base64.b64encode(b"x" + value.encode()).decode(),
    "base64 +2": lambda value: base64.b64encode(b"xy" + value.encode() + b"zz").decode(),
    "base64 url": lambda value: base64.urlsafe_b64encode(b"user:" + value.encode()).decode(),
    "repr": repr,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", LONG, ids=lambda value: value[:10])
def test_every_form_of_a_secret_is_masked(value, encoding):
    """A secret is found in the spellings that logs, URLs, pages and headers give it."""
    text = f"before {ENCODINGS[encoding](value)} after"
    cleaned = Redactor([Secret(value)]).text(text)

    assert MASK in cleaned
    assert ENCODINGS[encoding](value) not in cleaned
    assert cleaned.startswith("before ")


@given(st.text(st.characters(codec="utf-8"), min_size=8, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_no_secret_stays_in_a_text(value, before, after):
    """Whatever stands around a secret, its value is gone afterwards."""
    assert value not in Redactor([Secret(value)]).text(before + value + after) or value in MASK * 9


NASTY = 'p@ss/w:rd&x y"q‹é=Zz12'
APOSTROPHE = 'it\'s<a>`b`=c&d~e/"f" g'


def _escapes(value, characters):
    """Return `value` in JSON with these characters as escapes: what Go, Rails, Jinja and .NET do."""
    text = json.dumps(value, ensure_ascii=False)[1:-1].replace('\\"', "\\u0022" if '"' in characters else '\\"')
    return "".join(f"\\u{ord(sign):04x}" if sign in characters.replace('"', "") else sign for sign in text)


def _double(value):
    return urllib.parse.quote(urllib.parse.quote(value, safe=""), safe="")


SPELLINGS = {
    "yarl query": lambda value: str(URL("https://h/").with_query({"k": value})).partition("k=")[2],
    "yarl query, added": lambda value: str(URL("https://h/?a=1").extend_query([("k", value)])).partition("k=")[2],
    "yarl path": lambda value: str(URL("https://h/") / value).partition("h/")[2],
    "yarl password": lambda value: str(URL("https://h/").with_user("u").with_password(value)).partition("u:")[2][:-3],
    "yarl whole": lambda value: str(URL("https://h/?k=" + value)).partition("k=")[2],
    "encodeURIComponent": lambda value: urllib.parse.quote(value, safe="!~*'()"),
    "encodeURI": lambda value: urllib.parse.quote(value, safe="!~*'();,/?:@&=+$#"),
    "URLSearchParams": lambda value: urllib.parse.quote_plus(value, safe="*").replace("~", "%7E"),
    "twice": _double,
    "twice in lower case": lambda value: re.sub(r"%25[0-9A-F]{2}", lambda found: found[0].lower(), _double(value)),
    "form in a query": lambda value: urllib.parse.quote(urllib.parse.urlencode({"": value})[1:], safe=""),
    "json of Go": lambda value: _escapes(value, "&<>"),
    "json of Go, of HTML": lambda value: _escapes(html.escape(value), "&<>"),
    "json of Go, in ASCII": lambda value: _escapes(value, "&<>‹é"),
    "json of Jinja": lambda value: _escapes(value, "&<>'"),
    "json of .NET": lambda value: re.sub(
        r"\\u[0-9a-f]{4}", lambda found: f"\\u{found[0][2:].upper()}", _escapes(value, "&<>'\"+`‹é")
    ),
    "json of Go in JSON": lambda value: json.dumps(_escapes(value, "&<>"))[1:-1],
    "html text": lambda value: html.escape(value, quote=False),
    "html, only double quotes": lambda value: html.escape(value, quote=False).replace('"', "&quot;"),
    "html of mustache": lambda value: (
        html.escape(value)
        .replace("&#x27;", "&#39;")
        .replace("/", "&#x2F;")
        .replace("=", "&#x3D;")
        .replace("`", "&#x60;")
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("value", [NASTY, APOSTROPHE], ids=["nasty", "apostrophe"])
def test_what_other_programs_make_of_a_secret_is_masked(value, spelling):
    """URLs as clients and browsers write them, JSON as servers write it, and HTML of templates hide no secret."""
    assert Redactor([Secret(value)]).text(f"<{SPELLINGS[spelling](value)}>") == f"<{MASK}>"


@pytest.mark.parametrize("value", [*LONG, NASTY, APOSTROPHE], ids=lambda value: value[:10])
def test_a_secret_has_a_bounded_number_of_forms(value):
    """Every text is searched for each of them."""
    assert len(forms(value)) <= 1_200


def test_none_of_many_secrets_hides_another():
    """All of them known, each spelling of each of them is masked, whatever stands beside it."""
    values = [*LONG, NASTY, APOSTROPHE]
    redactor = Redactor(map(Secret, values))

    for value in values:
        for form in forms(value):
            assert form not in redactor.text(f"<{form}>{form[:5]}{form}{form[5:]}"), form


def test_a_secret_that_a_mask_completes_is_masked():
    """What stands around a secret may be another one once that is masked."""
    redactor = Redactor([Secret("hunter2-hunter2"), Secret(f"a{MASK}b")])

    assert redactor.text("<ahunter2-hunter2b>") == f"<{MASK}>"


def test_a_long_text_costs_little():
    """What has no secret in it is not searched for each spelling of each one."""
    text = ("What is here? Nothing & a bit more." + "x" * 100) * 20_000
    redactor = Redactor([Secret(NASTY), Secret(APOSTROPHE)])
    started = time.process_time()
    assert not any(form in text for form in forms(NASTY) | forms(APOSTROPHE))
    simply = time.process_time() - started

    started = time.process_time()
    assert redactor.text(text) == text
    assert time.process_time() - started < simply / 3


def test_values_are_cleaned_in_depth():
    """Keys and items of nested values are masked, everything else is as before."""
    redactor = Redactor([Secret("hunter2-hunter2")])

    assert redactor.value({"a": ["x hunter2-hunter2", 1, None], "hunter2-hunter2": True}) == {
        "a": [f"x {MASK}", 1, None],
        MASK: True,
    }


def test_a_longer_secret_is_masked_before_a_shorter_one_inside_it():
    """No tail of a secret stays beside a mask."""
    redactor = Redactor([Secret("abcdef"), Secret("abcdefghijk")])

    assert redactor.text("see abcdefghijk") == f"see {MASK}"


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.text("abcd", max_size=8))
def test_a_secret_that_comes_in_pieces_is_masked_all_the_same(cuts, around):
    """However a text is cut, what is shown holds no secret, and nothing else is lost."""
    secret = "abcdabcd-abce"
    text = f"{around}{secret}{around}abcd{secret[:6]}"
    shown = []
    pieces = Pieces(Redactor([Secret(secret)]), shown.append)
    at = 0
    for cut in cuts:
        pieces.add(text[at : at + cut])
        at += cut
    pieces.add(text[at:])
    pieces.end()

    assert "".join(shown) == Redactor([Secret(secret)]).text(text)


def test_what_cannot_be_a_secret_is_shown_at_once():
    """Only an end that may begin a secret is held back."""
    shown = []
    pieces = Pieces(Redactor([Secret("abcdef-123")]), shown.append)
    for piece in ("hello ", "world a", "bx"):
        pieces.add(piece)

    assert shown == ["hello ", "world ", "abx"]


@pytest.mark.parametrize(
    "value", [v for v in CANARIES if v.startswith(("sk-", "AIza", "AKIA", "ghp_", "whsec_", "-----BEGIN"))]
)
def test_pasted_credentials_are_recognised(value):
    """The shapes of well-known credentials are known."""
    assert PATTERNS.search(f"key: {value}")
