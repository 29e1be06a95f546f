"""How a scalar of YAML is spelled: where in the document each character of its text stands.

Quotes, escapes, folded lines and indentation stand between the two; the rules are those of YAML 1.2.2, chapters 7 and 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BREAK = re.compile(r"\r\n|\r|\n")
BLOCK_HEADER = re.compile(r"[|>](?P<indicators>[-+0-9]*)[^\r\n]*(?:\r\n|\r|\n|\Z)")


def character_places(text: str, start: int, end: int, style: str, value: str) -> list[int] | None:
    """Return the index in `text` of each character of the scalar that stands at `start` to `end`, and of its end.

    Args:
        text: The whole document.
        start: Index of the scalar's first character: its quote, its `|`, or its text.
        end: Index after its last character.
        style: "", "'", '"', "|" or ">".
        value: What the scalar means; None is returned if the places found do not spell it.
    """
    if style in ("|", ">"):
        for indent in _possible_indents(text, start, end):
            places = list(_block_places(text, start, end, indent, folded=style == ">"))
            if "".join(character for character, _ in places) == value:
                return [*(index for _, index in places), end]
        return None
    inner = (start + 1, end - 1) if style else (start, end)
    places = _flow_places(text, *inner, style)
    if "".join(character for character, _ in places) != value:
        return None
    return [*(index for _, index in places), inner[1]]


_ESCAPES = dict(zip('0abt\tnvfre "/\\N_LP', '\0\a\b\t\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029', strict=True))
_ESCAPE_DIGITS = {"x": 2, "u": 4, "U": 8}


def _flow_places(text: str, start: int, end: int, style: str) -> list[tuple[str, int]]:
    """Return the characters of a plain or quoted scalar with their places; lines are folded (YAML 1.2.2, 6.5)."""
    places: list[tuple[str, int]] = []
    solid = 0  # how many of them a line break cannot trim: all up to the last one that is not bare white space
    index = start
    while index < end:
        character = text[index]
        if character in "\r\n":
            del places[solid:]
            index, breaks = _skip_breaks(text, index, end)
            places.extend([(" ", breaks[0])] if len(breaks) == 1 else [("\n", place) for place in breaks[1:]])
            solid = len(places)
        elif style == '"' and character == "\\":
            following = text[index + 1]
            if following in "\r\n":
                index, breaks = _skip_breaks(text, index + 1, end)
                places.extend(("\n", place) for place in breaks[1:])
            elif digits := _ESCAPE_DIGITS.get(following):
                places.append((chr(int(text[index + 2 : index + 2 + digits], 16)), index))
                index += 2 + digits
            else:
                places.append((_ESCAPES.get(following, following), index))
                index += 2
            solid = len(places)
        else:
            places.append((character, index))
            index += 2 if style == "'" and character == "'" else 1
            if character not in " \t":
                solid = len(places)
    return places


def _skip_breaks(text: str, index: int, end: int) -> tuple[int, list[int]]:
    """Skip line breaks and the white space around them; return where text goes on, and the place of each break."""
    breaks = []
    while index < end and (found := BREAK.match(text, index, end)):
        breaks.append(index)
        index = found.end()
        while index < end and text[index] in " \t":
            index += 1
    return index, breaks


def _block_lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each line of a block scalar, its header left out."""
    header = BREAK.search(text, start, end)
    index = header.end() if header else end
    while index < end:
        found = BREAK.search(text, index, end)
        yield index, found.start() if found else end
        index = found.end() if found else end


def _possible_indents(text: str, start: int, end: int) -> range:
    lines = [text[begin:stop] for begin, stop in _block_lines(text, start, end)]
    return range(max((len(line) - len(line.lstrip(" ")) for line in lines), default=0), -1, -1)


def _block_places(text: str, start: int, end: int, indent: int, *, folded: bool) -> Iterator[tuple[str, int]]:
    """Yield the characters of a block scalar with their places (YAML 1.2.2, 8.1)."""
    header = BLOCK_HEADER.match(text, start)
    chomping = header["indicators"] if header else ""
    lines: list[tuple[int, int]] = []  # begin of the content, place of the break
    for begin, stop in _block_lines(text, start, end):
        spaces = len(text[begin : begin + indent]) - len(text[begin : begin + indent].lstrip(" "))
        lines.append((min(begin + spaces, stop), stop))
    last = max((number for number, (begin, stop) in enumerate(lines) if begin < stop), default=-1)
    previous: str | None = None  # first character of the last line that has content, and where that line ends
    ended = 0
    blank: list[int] = []  # breaks of the blank lines since
    for begin, stop in lines[: last + 1]:
        if begin == stop:
            blank.append(stop)
            continue
        first = text[begin]
        if previous is None:
            yield from (("\n", place) for place in blank)
        else:
            folds = folded and previous not in " \t" and first not in " \t"
            breaks = [*blank] if folds else [ended, *blank]
            yield from (("\n", place) for place in breaks)
            if folds and not blank:
                yield " ", ended
        yield from ((text[index], index) for index in range(begin, stop))
        previous, ended, blank = first, stop, []
    if "-" in chomping:
        return
    if last >= 0 and lines[last][1] < len(text):
        yield "\n", lines[last][1]
    if "+" in chomping:
        yield from (("\n", stop) for _, stop in lines[last + 1 :] if stop < len(text))
