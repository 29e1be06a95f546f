"""The lines of a text, and which of them a character stands in."""

from __future__ import annotations

from bisect import bisect_right

from weft.spelling import BREAK


class Lines:
    """Counts lines and columns from 1, as people do; LF, CR and CR LF end a line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(found.end() for found in BREAK.finditer(text))]

    def place(self, index: int) -> tuple[int, int]:
        """Return line and column of the character at `index`."""
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def start(self, number: int) -> int:
        """Return the index of the first character of a line."""
        return self._starts[number - 1]

    def line(self, number: int) -> str:
        """Return the text of a line without its end; an empty text when there is no such line."""
        if not 1 <= number <= len(self._starts):
            return ""
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end].rstrip("\r\n")
