"""A message as Discord's Markdown (discord.com/developers/docs/reference#message-formatting).

Every sign that Discord reads is escaped in words, so that no mention, time stamp or mark comes from them; the request
says besides that nobody is to be pinged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from weft.sdk import JsonObject

from ._markdown_blocks import Block, Run, refused, table_text

LONGEST_CONTENT = 2000
LONGEST_DESCRIPTION = 4096
LONGEST_EMBEDS = 6000  #: characters of all embeds of a message together
LONGEST_TITLE = 256
_MARKS = re.compile(r"([\\`*_~|<\[\]])|^(\s*)([#>-])|^(\s*\d+)(\.)", re.MULTILINE)
_CODE_ENDS = "\n```"
_EVERYBODY = re.compile(r"@(?=everyone|here)")


def discord_text(found: Sequence[Block]) -> str:
    """Return the message in Discord's Markdown."""
    lines = [_block(block) for block in found]
    joints = [
        "\n" if before.kind == after.kind and before.kind in ("item", "quote") else "\n\n"
        for before, after in pairwise(found)
    ]
    return "".join(line + joint for line, joint in zip(lines, [*joints, ""], strict=True))


def embeds(text: str, title: str | None, color: int | None, field: str) -> list[JsonObject]:
    """Return embeds that hold the text, more than one where it is long.

    Raises:
        ActionError: It is longer than Discord takes in one message.
    """
    parts = _parts(text) if len(text) <= LONGEST_EMBEDS else [text]
    size = len(title or "") + sum(map(len, parts))
    if size > LONGEST_EMBEDS:
        raise refused(
            f"A message in Discord has at most {LONGEST_EMBEDS:,} characters with its marks; this one has {size:,}.",
            kind="too_long",
            field=field,
            remedy="Send less, for example a summary with a link to the whole.",
        )
    colored: JsonObject = {} if color is None else {"color": color}
    made: list[JsonObject] = [{"description": part, **colored} for part in parts]
    return [{**({"title": title} if title else {}), **made[0]}, *made[1:]]


def _parts(text: str) -> list[str]:
    """The text in at most two parts, cut at the end of a line or a word where one is in reach."""
    if len(text) <= LONGEST_DESCRIPTION:
        return [text]
    most = LONGEST_DESCRIPTION - len(_CODE_ENDS)
    least = max(len(text) - most, 1)
    cut = max(text.rfind("\n", least, most), 0) or max(text.rfind(" ", least, most), 0) or most
    cut -= text[cut - 1] == "\\"  # what it escapes stays with it
    head, rest = text[:cut], text[cut:].lstrip("\n")
    if head.count("```") % 2:  # the cut goes through a block of code, which ends here and begins again
        head, rest = head + _CODE_ENDS, f"```\n{rest}"
    return [head, rest]


def escaped(text: str) -> str:
    """Return `text` so that Discord shows it as it is."""
    quiet = _EVERYBODY.sub("@\u200b", text)
    return _MARKS.sub(lambda m: f"{m[2] or m[4] or ''}\\{m[1] or m[3] or m[5]}", quiet)


def _block(block: Block) -> str:
    words = "".join(map(_run, block.runs))
    match block.kind:
        case "heading" if block.level <= 3:
            return f"{'#' * block.level} {words}".replace("\n", " ")
        case "heading":
            return "**" + "".join(_run(replace(run, bold=False)) for run in block.runs) + "**"
        case "rule":
            return "───"
        case "code":
            return _fenced(block.text)
        case "table":
            return _fenced(table_text(block))
        case "quote":
            return "\n".join(f"> {line}" for line in words.split("\n"))
        case "item":
            space = "  " * block.level
            return f"{space}{'-' if block.mark == '•' else block.mark or ' '} " + words.replace("\n", f"\n{space}  ")
        case _:
            return words


def _fenced(text: str) -> str:
    """The text in a code block; a zero-width space keeps its own back quotes from ending it."""
    return "```\n" + text.replace("```", "`\u200b``") + "\n```"


def _run(run: Run) -> str:
    if run.code:
        words = "``" + run.text.replace("`", "`\u200b") + "``" if "`" in run.text else f"`{run.text}`"
    else:
        words = escaped(run.text)
    for wanted, mark in ((run.strike, "~~"), (run.italic, "*"), (run.bold, "**")):
        words = _wrapped(words, mark) if wanted else words
    if run.link is None:
        return words
    if run.link == run.text:
        return f"<{run.link}>"
    if run.link.lower().startswith("mailto:"):
        return f"{words} ({escaped(run.link[7:])})" if run.text != run.link[7:] else words
    return f"[{words}](<{run.link}>)"


def _wrapped(words: str, mark: str) -> str:
    """The words between marks, with the blanks around them outside, where Discord wants them."""
    core = words.strip()
    before, _, after = words.partition(core) if core else (words, "", "")
    return f"{before}{mark}{core}{mark}{after}" if core else words
