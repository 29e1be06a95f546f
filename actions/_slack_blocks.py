"""A message as Slack's blocks (docs.slack.dev/reference/block-kit/blocks).

Words go into `rich_text` elements and `plain_text` objects, which Slack shows as they are: no `<!channel>`, `<@U123>`
or `*mark*` in them is read. So whatever a model wrote, it can call nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from weft.sdk import JsonObject

from ._markdown_blocks import Block, Run, Runs, outline, pieces, refused, table_text

MOST_BLOCKS = 50
LONGEST_HEADER = 150
LONGEST_BLOCK = 3000
LARGEST_BLOCKS = 13_000  #: characters of JSON; from about 13,200 on Slack answers `msg_blocks_too_long`
LONGEST_TEXT = 4000  #: of the words that notifications show; Slack advises this, and cuts at 40,000


def slack_blocks(found: Sequence[Block], field: str, *, mention: Sequence[str] = ()) -> list[JsonObject]:
    """Return the message's blocks, those who are to be told first.

    Raises:
        ActionError: They are more, or larger, than Slack takes.
    """
    called: list[JsonObject] = [{"type": "user", "user_id": user} for user in dict.fromkeys(mention)]
    made: list[JsonObject] = []
    if called:
        made.append({"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [*called]}]})
    made += [block for group in _groups(found) for block in _made(group)]
    size = len(json.dumps(made, ensure_ascii=False, separators=(",", ":")))
    for what, got, most in (("blocks", len(made), MOST_BLOCKS), ("characters with their marks", size, LARGEST_BLOCKS)):
        if got > most:
            raise refused(
                f"A message in Slack has at most {most:,} {what}; this one has {got:,}.",
                kind="too_long",
                field=field,
                remedy="Send less, for example a summary with a link to the whole.",
            )
    return made


def fallback(found: Sequence[Block]) -> str:
    """Return the words for notifications, with the three signs escaped that Slack reads in them."""
    text = outline(found)[:LONGEST_TEXT]
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _groups(found: Sequence[Block]) -> list[list[Block]]:
    """What stands in one block of Slack's: the items of a list, the paragraphs of a quotation."""
    groups: list[list[Block]] = []
    for block in found:
        if groups and block.kind in ("item", "quote") and groups[-1][0].kind == block.kind:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _made(group: list[Block]) -> Iterator[JsonObject]:
    block = group[0]
    match block.kind:
        case "heading" if len(block.text) <= LONGEST_HEADER:
            yield {"type": "header", "text": {"type": "plain_text", "text": block.text, "emoji": False}}
        case "heading":
            yield from _rich("rich_text_section", tuple(replace(run, bold=True) for run in block.runs))
        case "rule":
            yield {"type": "divider"}
        case "code":
            yield from _rich("rich_text_preformatted", block.runs)
        case "table":
            yield from _rich("rich_text_preformatted", (Run(table_text(block)),))
        case "quote":
            yield from _rich("rich_text_quote", _lines(group))
        case "item":
            yield from _lists(group)
        case _:
            yield from _rich("rich_text_section", block.runs)


def _lines(group: list[Block]) -> Runs:
    return tuple(run for at, block in enumerate(group) for run in ((Run("\n"),) if at else ()) + block.runs)


def _rich(kind: str, runs: Runs) -> Iterator[JsonObject]:
    for part in pieces(runs, LONGEST_BLOCK):
        yield {"type": "rich_text", "elements": [{"type": kind, "elements": [_element(run) for run in part]}]}


@dataclass(frozen=True, slots=True)
class _List:
    """Items of one level and one kind that stand together."""

    ordered: bool
    level: int
    start: int
    items: list[Runs]

    def takes(self, item: Block) -> bool:
        return (self.ordered, self.level) == (_number(item) is not None, item.level)

    def json(self) -> JsonObject:
        offset: JsonObject = {"offset": self.start - 1} if self.start > 1 else {}
        sections: list[JsonObject] = [
            {"type": "rich_text_section", "elements": [_element(run) for run in item]} for item in self.items
        ]
        style = "ordered" if self.ordered else "bullet"
        return {"type": "rich_text_list", "style": style, "indent": self.level, **offset, "elements": [*sections]}


def _lists(items: list[Block]) -> Iterator[JsonObject]:
    lists: list[_List] = []
    room = LONGEST_BLOCK
    for item in items:
        for at, part in enumerate(pieces(item.runs, LONGEST_BLOCK)):
            length = sum(len(run.text) for run in part)
            if length > room:
                yield {"type": "rich_text", "elements": [found.json() for found in lists]}
                lists, room = [], LONGEST_BLOCK
            room -= length
            if lists and (at or item.mark is None):  # it continues the item before it
                lists[-1].items[-1] += (Run("\n"), *part)
            elif lists and lists[-1].takes(item):
                lists[-1].items.append(part)
            else:
                number = _number(item)
                lists.append(_List(number is not None, item.level, number or 1, [part]))
    if lists:
        yield {"type": "rich_text", "elements": [found.json() for found in lists]}


def _number(item: Block) -> int | None:
    """The number of an item that has one."""
    return None if item.mark in (None, "•") else int(item.mark.rstrip("."))


def _element(run: Run) -> JsonObject:
    style: JsonObject = {name: True for name in ("bold", "italic", "strike", "code") if getattr(run, name)}
    kind: JsonObject = {"type": "link", "url": run.link} if run.link else {"type": "text"}
    return {**kind, "text": run.text, **({"style": style} if style else {})}
