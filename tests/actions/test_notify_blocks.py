"""Markdown as messengers' own shapes: it looks as written, keeps their limits, and calls nobody."""

from __future__ import annotations

import importlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.sdk import ActionError

markdown = importlib.import_module("weft_core.actions._markdown_blocks")
slack = importlib.import_module("weft_core.actions._slack_blocks")
teams = importlib.import_module("weft_core.actions._teams_card")
discord = importlib.import_module("weft_core.actions._discord_text")

REPORT = """# Weekly *report*

Hello **bold _both_** ~~gone~~ `code` [site](https://example.com/a)
next line

- one
- two

  more of two
  1. first
  2. second

7. seven

> quoted
>
> twice

```python
print(1)
```

| week | orders |
|------|-------:|
| 47   | **112** |

---
"""
HOSTILE = "<!channel> <!everyone> <!here|x> @everyone @here @channel <@U0123456789> <@&1> <#C1> <at>All</at> <t:1:R>"


def read(text: str, form: str = "markdown") -> Any:
    return markdown.blocks(text, form, "message")


def kinds(text: str) -> list[str]:
    return [block.kind for block in read(text)]


def test_markdown_becomes_blocks() -> None:
    """Each kind of block is told from the others, with levels, numbers and styles."""
    found = read(REPORT)

    assert [block.kind for block in found] == [
        *("heading", "paragraph", "item", "item", "item", "item", "item", "item"),
        *("quote", "quote", "code", "table", "rule"),
    ]
    assert [(block.mark, block.level) for block in found if block.kind == "item"] == [
        *(("•", 0), ("•", 0), (None, 0), ("1.", 1), ("2.", 1), ("7.", 0))
    ]
    paragraph = found[1].runs
    assert [run.text for run in paragraph if run.bold] == ["bold ", "both"]
    assert [run.text for run in paragraph if run.bold and run.italic] == ["both"]
    assert [run.text for run in paragraph if run.strike] == ["gone"]
    assert [run.text for run in paragraph if run.code] == ["code"]
    assert [(run.text, run.link) for run in paragraph if run.link] == [("site", "https://example.com/a")]
    assert markdown.table_text(found[11]) == "week  orders\n----  ------\n47    112"


def test_text_is_taken_as_it_is() -> None:
    """As text, marks mean nothing, and lines and paragraphs stay."""
    found = read("# no *heading*\n- no item\n\n1. second", "text")

    assert [(block.kind, block.text) for block in found] == [
        ("paragraph", "# no *heading*\n- no item"),
        ("paragraph", "1. second"),
    ]
    assert not any(run.bold or run.italic for block in found for run in block.runs)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[x](https://example.com)", [("x", "https://example.com")]),
        ("[mail](mailto:ada@example.com)", [("mail", "mailto:ada@example.com")]),
        ("see https://example.com/a_b.", [("https://example.com/a_b", "https://example.com/a_b")]),
        ("<https://example.com>", [("https://example.com", "https://example.com")]),
        ("[x](javascript:alert(1))", []),
        ("[x](slack://channel?id=1)", []),
        ("[x](file:///etc/passwd)", []),
        ("[x](/relative)", []),
        ("[https://bank.com](https://evil.com)", [("https://evil.com", "https://evil.com")]),
        ("[bank.com](https://bank.com.evil.com)", [("https://bank.com.evil.com", "https://bank.com.evil.com")]),
        ("[www.bank.com/x](https://evil.com)", [("https://evil.com", "https://evil.com")]),
        ("[ada@bank.com](mailto:eve@evil.com)", [("mailto:eve@evil.com", "mailto:eve@evil.com")]),
        ("[банк.рф](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[bank．com](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[bank。com](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[bank․com](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[bank・com](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[paypal\u200b.com](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[paypal.\u2060com](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[paypal.\u034fcom](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[bank.c\ufe0fom](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[भारत.भारत](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[192.168.1.1](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[bank.com⁄login](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        ("[see bank.com, please](https://evil.example)", [("https://evil.example", "https://evil.example")]),
        (
            "[version 2.5 of it, e.g. now](https://example.com)",
            [("version 2.5 of it, e.g. now", "https://example.com")],
        ),
        ("[example．com](https://example.com/)", [("example．com", "https://example.com/")]),
        ("[example.com](https://example.com/)", [("example.com", "https://example.com/")]),
        ("![plan](https://img.example/p.png)", [("plan", "https://img.example/p.png")]),
        ("[](https://example.com)", [("https://example.com", "https://example.com")]),
    ],
)
def test_a_link_says_where_it_goes(text: str, links: list[tuple[str, str]]) -> None:
    """Links go to the web or to a mailbox, and words that look like another address show the true one behind them."""
    assert [(run.text, run.link) for block in read(text) for run in block.runs if run.link] == links


@pytest.mark.parametrize("text", ["", "  \n", "a\x00b", "a\x1bb", "\ud800", "> ", "[](x)"])
def test_what_nobody_can_read_is_refused(text: str) -> None:
    """Blank texts, control characters and half characters are refused before anything is sent."""
    with pytest.raises(ActionError) as caught:
        read(text)

    assert (caught.value.kind, caught.value.effect) == ("invalid_message", "none")
    assert caught.value.problem.where.field == "message"


# -- Slack

TEXT = {"type": "object", "properties": {"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}}}
STYLE = {
    "type": "object",
    "additionalProperties": {"const": True},
    "propertyNames": {"enum": ["bold", "italic", "strike", "code"]},
}
ELEMENT = {
    "oneOf": [
        {"required": ["type", "text"], "properties": {"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}, "style": STYLE}, "additionalProperties": False},
        {"required": ["type", "url"], "properties": {"type": {"const": "link"}, "url": {"type": "string", "pattern": "^(https?|mailto):"}, "text": {"type": "string"}, "style": STYLE}, "additionalProperties": False},
        {"required": ["type", "user_id"], "properties": {"type": {"const": "user"}, "user_id": {"type": "string"}}, "additionalProperties": False},
    ]
}  # fmt: skip
SECTION = {"required": ["type", "elements"], "properties": {"type": {"enum": ["rich_text_section", "rich_text_quote", "rich_text_preformatted"]}, "elements": {"type": "array", "minItems": 1, "items": ELEMENT}}, "additionalProperties": False}  # fmt: skip
LIST = {
    "required": ["type", "style", "elements"],
    "properties": {
        "type": {"const": "rich_text_list"},
        "style": {"enum": ["bullet", "ordered"]},
        "indent": {"type": "integer", "minimum": 0, "maximum": 8},
        "offset": {"type": "integer", "minimum": 1},
        "elements": {"type": "array", "minItems": 1, "items": SECTION},
    },
    "additionalProperties": False,
}
BLOCK_KIT = {
    "type": "array",
    "maxItems": 50,
    "items": {
        "oneOf": [
            {"required": ["type"], "properties": {"type": {"const": "divider"}}, "additionalProperties": False},
            {"required": ["type", "text"], "properties": {"type": {"const": "header"}, "text": {"type": "object", "required": ["type", "text"], "properties": {"type": {"const": "plain_text"}, "text": {"type": "string", "minLength": 1, "maxLength": 150}, "emoji": {"type": "boolean"}}, "additionalProperties": False}}, "additionalProperties": False},
            {"required": ["type", "elements"], "properties": {"type": {"const": "rich_text"}, "elements": {"type": "array", "minItems": 1, "items": {"oneOf": [SECTION, LIST]}}}, "additionalProperties": False},
        ]
    },
}  # fmt: skip
"""The part of Block Kit that is used, written down from Slack's reference."""


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def test_slack_gets_blocks() -> None:
    """Headings, lists inside lists, quotations, code and tables become blocks that Slack knows."""
    made = slack.slack_blocks(read(REPORT), "message")

    jsonschema.validate(made, BLOCK_KIT)
    assert [block["type"] for block in made] == [
        *("header", "rich_text", "rich_text", "rich_text", "rich_text", "rich_text", "divider")
    ]
    assert made[0]["text"] == {"type": "plain_text", "text": "Weekly report", "emoji": False}
    lists = made[2]["elements"]
    assert [(item["style"], item["indent"], item.get("offset"), len(item["elements"])) for item in lists] == [
        ("bullet", 0, None, 2),
        ("ordered", 1, None, 2),
        ("ordered", 0, 6, 1),
    ]
    assert lists[0]["elements"][1]["elements"][-1] == {"type": "text", "text": "more of two"}
    assert made[4]["elements"][0] == {
        "type": "rich_text_preformatted",
        "elements": [{"type": "text", "text": "print(1)"}],
    }


def test_slack_reads_no_mark_in_words() -> None:
    """Marks that call people stand in literal elements alone, and escaped in the words for notifications."""
    for form in ("markdown", "text"):
        found = read(HOSTILE, form)
        made = slack.slack_blocks(found, "message")

        jsonschema.validate(made, BLOCK_KIT)
        assert {element["type"] for element in made[0]["elements"][0]["elements"]} <= {"text", "link"}
        assert not re.search("[<>]", slack.fallback(found))


def test_long_parts_are_cut_at_blanks_for_slack() -> None:
    """A paragraph of more than 3,000 characters becomes several blocks, and no word of it is lost or cut through."""
    words = " ".join(f"word{number}" for number in range(900))
    made = slack.slack_blocks(read(words), "message")

    jsonschema.validate(made, BLOCK_KIT)
    texts = [block["elements"][0]["elements"][0]["text"] for block in made]
    assert len(texts) == 3
    assert all(len(text) <= 3000 for text in texts)
    assert all(text.endswith(" ") for text in texts[:-1])
    assert "".join(texts) == words


@pytest.mark.parametrize("text", ["---\n\n" * 51 + "x", "x" * 14_000, "**a** b " * 500])
def test_too_much_for_slack_is_refused(text: str) -> None:
    """What Slack would answer with an error is told before."""
    with pytest.raises(ActionError) as caught:
        slack.slack_blocks(read(text), "message")

    assert (caught.value.kind, caught.value.effect) == ("too_long", "none")


# -- Teams


def test_teams_gets_a_card() -> None:
    """The card has the elements that Teams shows, and every word in a run that is shown as it is."""
    made = teams.card(read(REPORT + HOSTILE), "Title")

    assert made["body"][0]["inlines"] == [
        {"type": "TextRun", "text": "Title", "size": "ExtraLarge", "weight": "Bolder"},
    ]
    types = {element["type"] for element in made["body"]}
    assert types == {"RichTextBlock", "Container", "Table"}
    assert '"TextBlock"' not in json.dumps(made)
    assert "entities" not in json.dumps(made)
    [table] = [element for element in made["body"] if element["type"] == "Table"]
    assert len(table["columns"]) == 2
    assert [len(row["cells"]) for row in table["rows"]] == [2, 2]
    text = "".join(strings(made))
    assert "<at>All</at>" in text


def test_too_much_for_teams_is_refused() -> None:
    """A card of more than 28 KB is told before it is sent."""
    with pytest.raises(ActionError) as caught:
        teams.check_size(teams.card(read("x" * 28_000), None), "message")

    assert caught.value.kind == "too_long"


# -- Discord


def test_discord_gets_its_own_markdown() -> None:
    """What Discord shows of Markdown stays, and what it does not, tables and deep headings, becomes code and bold."""
    text = discord.discord_text(read(REPORT + "\n#### small\n"))

    assert text == (
        "# Weekly *report*\n\n"
        "Hello **bold** ***both*** ~~gone~~ `code` [site](<https://example.com/a>)\nnext line\n\n"
        "- one\n- two\n  more of two\n  1. first\n  2. second\n7. seven\n\n"
        "> quoted\n> twice\n\n"
        "```\nprint(1)\n```\n\n"
        "```\nweek  orders\n----  ------\n47    112\n```\n\n"
        "───\n\n"
        "**small**"
    )


def test_discord_reads_no_mark_in_words() -> None:
    """Marks in words are escaped, and the two words that call everybody have an invisible space inside."""
    text = discord.discord_text(read(HOSTILE, "text"))

    assert not re.search(r"(?<!\\)<[@#t]", text)
    assert "@everyone" not in text
    assert "@here" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1. no item", r"1\. no item"),
        ("# no heading", r"\# no heading"),
        ("a*b_c~d|e`f", r"a\*b\_c\~d\|e\`f"),
        ("[x](https://evil.com)", r"\[x\](<https://evil.com>)"),
        ("> no quote", r"\> no quote"),
    ],
)
def test_text_stays_text_in_discord(text: str, shown: str) -> None:
    """A text that is no Markdown is shown with all its signs."""
    assert discord.discord_text(read(text, "text")) == shown


def test_code_cannot_end_its_block_in_discord() -> None:
    """Back quotes inside a block of code do not end it."""
    text = discord.discord_text(read("````\n```\n@everyone\n````"))

    assert text.count("```") == 2


def test_long_text_becomes_embeds() -> None:
    """A text is cut between lines into two embeds, and code on both sides of the cut stays code."""
    lines = "\n".join(f"line {number}" for number in range(500))
    first, second = discord.embeds(f"```\n{lines}\n```", "Title", 0x2DA44E, "message")

    assert first["title"] == "Title"
    assert "title" not in second
    assert (first["color"], second["color"]) == (0x2DA44E, 0x2DA44E)
    for part in (first, second):
        assert part["description"].count("```") == 2
        assert re.fullmatch(r"```\n(line \d+\n)+```", part["description"])


@pytest.mark.parametrize("length", [4096, 4097, 5000, 5992, 6000])
@pytest.mark.parametrize("sample", ["x", "word ", "```\nab\n```\n", "\\<", "`" * 3 + "\n" + "y" * 7000])
def test_embeds_keep_their_lengths(length: int, sample: str) -> None:
    """No embed is longer than Discord takes, nor all of them together, and no escaped sign loses its escape."""
    text = (sample * 6000)[:length]
    try:
        parts = [embed["description"] for embed in discord.embeds(text, None, None, "message")]
    except ActionError:
        assert length + 8 > 6000
        assert "```" in sample  # ended and begun again at the cut, it is too long
        return

    assert all(len(part) <= 4096 for part in parts)
    assert sum(map(len, parts)) <= 6000
    assert not any(part.startswith("<") for part in parts)


def test_too_much_for_discord_is_refused() -> None:
    """What is longer than a message may be, with its title, is told before it is sent."""
    for text, title in (("x" * 6001, None), ("x" * 5990, "t" * 20)):
        with pytest.raises(ActionError) as caught:
            discord.embeds(text, title, None, "message")
        assert (caught.value.kind, caught.value.effect) == ("too_long", "none")


# -- anything


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from("ab1 \n*_`~<>[]()!#|-@&.:/\\\u00e9"), min_size=1, max_size=120),
    st.sampled_from(["markdown", "text"]),
)
def test_whatever_is_written_keeps_the_rules(text: str, form: str) -> None:
    """Any short text becomes blocks that Slack takes, a card that is JSON, and words that call nobody."""
    found = read("a " + text, form)
    made = slack.slack_blocks(found, "message")

    jsonschema.validate(made, BLOCK_KIT)
    json.dumps(teams.card(found, None))
    assert not re.search(r"(?<!\\)<[@#!]", re.sub(r"`[^`]*`", "", discord.discord_text(found)))


@pytest.mark.parametrize("part", ["[", "*a ", "> ", "- ", "`", "![[", "<", "*a_", "https://", "|", "&lt;"])
def test_hostile_lengths_take_no_time(part: str) -> None:
    """No text of the greatest length that is accepted takes more than a moment."""
    text = "x " + part * (20_000 // len(part))
    begun = time.process_time()
    found = read(text)
    discord.discord_text(found)
    teams.card(found, None)
    slack.fallback(found)

    assert time.process_time() - begun < 2
