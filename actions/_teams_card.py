"""A message as an Adaptive Card for Teams (adaptivecards.io, version 1.5).

Words go into `TextRun`s, which Teams shows as they are; a `TextBlock` would read Markdown in them. Somebody is mentioned
only by an entity that a card names, and these cards name none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from weft.sdk import JsonObject

from ._markdown_blocks import Block, Run, Runs, refused

LARGEST_MESSAGE = 28_000  #: bytes; Teams takes 28 KB
MOST_COLUMNS = 20
SIZES = {1: "ExtraLarge", 2: "Large", 3: "Medium"}


def card(found: Sequence[Block], title: str | None) -> JsonObject:
    """Return the card that says this."""
    heading = [Block("heading", (Run(title),), level=1)] if title else []
    body = [element for block in (*heading, *found) for element in _elements(block)]
    return {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "body": [*body],
        "msteams": {"width": "Full"},
    }


def check_size(message: JsonObject, field: str) -> None:
    """Refuse a message that Teams would refuse.

    Raises:
        ActionError: It is too large.
    """
    size = len(json.dumps(message).encode())
    if size > LARGEST_MESSAGE:
        raise refused(
            f"A message in Teams has at most {LARGEST_MESSAGE:,} bytes as a card; this one has {size:,}.",
            kind="too_long",
            field=field,
            remedy="Send less, for example a summary with a link to the whole.",
        )


def _elements(block: Block) -> Iterator[JsonObject]:
    match block.kind:
        case "heading":
            big: JsonObject = {"size": SIZES.get(block.level, "Default"), "weight": "Bolder"}
            yield _text(block.runs, spacing="Medium", style=big)
        case "rule":
            yield {"type": "Container", "items": [], "separator": True, "spacing": "Medium"}
        case "code":
            yield {
                "type": "Container",
                "style": "emphasis",
                "items": [_text(block.runs, style={"fontType": "Monospace"})],
            }
        case "quote":
            yield {"type": "Container", "style": "emphasis", "items": [_text(block.runs)]}
        case "table":
            yield from _table(block)
        case "item":
            space = "\u2003" * block.level
            mark = f"{space}{block.mark}\u00a0" if block.mark else f"{space}\u2003"
            yield _text((Run(mark), *block.runs), spacing="Small")
        case _:
            yield _text(block.runs)


def _text(runs: Runs, *, spacing: str = "Default", style: JsonObject | None = None) -> JsonObject:
    return {"type": "RichTextBlock", "spacing": spacing, "inlines": [_run(run, style or {}) for run in runs]}


def _run(run: Run, style: JsonObject) -> JsonObject:
    made: JsonObject = {"type": "TextRun", "text": run.text, **style}
    if run.bold:
        made["weight"] = "Bolder"
    if run.italic:
        made["italic"] = True
    if run.strike:
        made["strikethrough"] = True
    if run.code:
        made["fontType"] = "Monospace"
    if run.link:
        made["selectAction"] = {"type": "Action.OpenUrl", "url": run.link}
    return made


def _table(block: Block) -> Iterator[JsonObject]:
    rows: list[JsonObject] = [
        {
            "type": "TableRow",
            "cells": [{"type": "TableCell", "items": [_text(cell)] if cell else []} for cell in row[:MOST_COLUMNS]],
        }
        for row in block.rows
    ]
    columns: list[JsonObject] = [{"width": 1} for _ in block.rows[0][:MOST_COLUMNS]]
    yield {"type": "Table", "firstRowAsHeaders": True, "columns": [*columns], "rows": [*rows]}
