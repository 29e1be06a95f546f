"""Events as they come over the wire (text/event-stream of the WHATWG HTML standard, section 9.2)."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from weft.errors import ServerUnavailable

LARGEST_FRAME: Final = 4_000_000
"""Characters."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Something that has happened."""

    event: str  #: what it is
    data: Any  #: JSON; of a server's events always a mapping
    id: str | None = None  #: from which a later listener goes on


class Frames:
    """Makes frames of the pieces of a response, as they come."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry_s: float | None = None  #: how long the server wants to be left alone after a break
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now.

        Raises:
            ServerUnavailable: One is too large, or holds no JSON.
        """
        self._rest += self._decoder.decode(piece)
        if len(self._rest) > LARGEST_FRAME:
            raise ServerUnavailable("The server has sent an event that is too large.", code="bad_answer")
        lines = self._rest.replace("\r\n", "\n").split("\n") if not self._rest.endswith("\r") else None
        if lines is None:  # the other half of a line's end may follow
            return
        self._rest = lines.pop()
        for line in lines:
            if frame := self._take(line):
                yield frame

    def _take(self, line: str) -> Frame | None:
        if not line:
            return self._whole()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_s = int(value) / 1000
        return None

    def _whole(self) -> Frame | None:
        event, data = self._event or "message", "\n".join(self._data)
        self._event, self._data = "", []
        if not data:
            return None
        try:
            return Frame(event, json.loads(data), self.last_id)
        except ValueError:
            raise ServerUnavailable("The server has sent an event that is no JSON.", code="bad_answer") from None
