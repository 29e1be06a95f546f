"""A stream of events in OpenAI's shape, added up to the completion that would have come without streaming.

LiteLLM's own sum keeps the first choice alone and loses log probabilities and foreign members, so this one is made of
the events as they came over the wire. `Chunks` keeps small what LiteLLM sums up in other shapes.
"""

from __future__ import annotations

import json
from typing import Any

from weft.sdk import JsonObject

_WHOLE = {"id", "index", "name", "role", "type"}
"""Texts that an event repeats or replaces, where other texts are continued."""


class Events:
    """Takes the bytes of a stream of events, in pieces of any size."""

    def __init__(self) -> None:
        self.error: JsonObject | None = None  #: what the provider said instead of going on
        self._line = bytearray()
        self._answer: JsonObject = {}
        self._choices: dict[int, Any] = {}
        self._texts: dict[int, list[str]] = {}  #: of each choice
        self._tokens: list[str] = []
        self.seen = False  #: at least one event, of whichever shape
        self._begun = False
        self._done = False

    @property
    def openai(self) -> bool:
        """Whether the events are of OpenAI's shape."""
        return bool(self._choices)

    @property
    def broken(self) -> bool:
        """Whether the stream ended before its regular end, as far as its shape is known."""
        if self.error is not None or not self.openai:
            return self.error is not None or (self._begun and not self._done)
        return not (self._done or all(choice["finish_reason"] for choice in self._choices.values()))

    def feed(self, part: bytes) -> None:
        """Take the next bytes."""
        self._line += part
        if b"\n" not in part:
            return
        *lines, self._line = self._line.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._data(line[5:].strip())

    def _data(self, data: bytes | bytearray) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return  # LiteLLM, which reads the same bytes, is the one to complain
        if not isinstance(event, dict):
            return
        self.seen = True
        if event.get("error"):
            self.error = event
        self._begun = self._begun or event.get("type") == "message_start"  # Anthropic's
        self._done = self._done or event.get("type") == "message_delta"  # with the reason to stop
        choices = event.pop("choices", None)
        if isinstance(choices, list):
            self._answer |= {name: value for name, value in event.items() if value is not None}
            for choice in choices:
                self._choice(choice)

    def _choice(self, event: dict[str, Any]) -> None:
        index = event.get("index", 0)
        empty: dict[str, Any] = {"index": index, "message": {"content": None}, "logprobs": None, "finish_reason": None}
        choice = self._choices.setdefault(index, empty)
        delta = event.pop("delta", None) or {}
        if isinstance(token := delta.get("content"), str) and token:
            if index == 0:
                self._tokens.append(token)
            self._texts.setdefault(index, []).append(delta.pop("content"))  # joined at the end: adding up is slow
        _merge(choice["message"], delta)
        _merge(choice, event)

    def tokens(self) -> list[str]:
        """Return the pieces of the first choice's text that came since the last call."""
        new, self._tokens = self._tokens, []
        return new

    def answer(self) -> JsonObject | None:
        """Return the completion, or None when the events were not of OpenAI's shape."""
        if not self.openai:
            return None
        for index, texts in self._texts.items():
            self._choices[index]["message"]["content"] = "".join(texts)
        choices = [_finished(self._choices[index]) for index in sorted(self._choices)]
        return {**self._answer, "object": "chat.completion", "choices": choices}


def _finished(choice: Any) -> Any:
    message = choice["message"]
    for call in message.get("tool_calls") or []:
        call.pop("index", None)
    message["content"] = message["content"] or (None if message.get("tool_calls") else message["content"])
    return choice


def _merge(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Add an event's members to what came before: texts and lists grow, objects merge, the rest is replaced."""
    for name, new in part.items():
        old = whole.get(name)
        if new is None:
            whole.setdefault(name, None)
        elif isinstance(old, str) and isinstance(new, str) and name not in _WHOLE and name != "finish_reason":
            whole[name] = old + new
        elif isinstance(old, dict) and isinstance(new, dict):
            _merge(old, new)
        elif isinstance(new, list) and all(isinstance(item, dict) and "index" in item for item in new) and new:
            whole[name] = _merged(old if isinstance(old, list) else [], new)
        elif isinstance(old, list) and isinstance(new, list):
            old += new
        else:
            whole[name] = new


def _merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge lists whose items say their place, as tool calls do."""
    places = {item["index"]: item for item in old}
    for item in new:
        if item["index"] in places:
            _merge(places[item["index"]], item)
        else:
            places[item["index"]] = item
    return [places[index] for index in sorted(places)]


class Chunks(list[Any]):
    """LiteLLM's chunks of a stream, of which those that only go on with a text are kept as that text.

    A chunk takes twenty times the memory of the event that it came from, and a long answer has a hundred thousand.
    """

    def __init__(self) -> None:
        super().__init__()
        self._field = ""  #: that the last chunk's text belongs to; empty when it is more than a text
        self._texts: list[str] = []  #: of the last chunk

    def append(self, chunk: Any) -> None:
        field, text = _only_text(chunk)
        if field and field == self._field:
            self._texts.append(text)
            return
        self.whole()
        super().append(chunk)
        self._field, self._texts = field, [text]

    def whole(self) -> list[Any]:
        """Return the chunks, each with its whole text."""
        if self._field:
            setattr(self[-1].choices[0].delta, self._field, "".join(self._texts))
            self._texts = ["".join(self._texts)]
        return self


def _only_text(chunk: Any) -> tuple[str, str]:
    """Return name and text of the one member that a chunk brings, or empty texts when it brings something else."""
    if len(chunk.choices) != 1 or getattr(chunk, "usage", None) is not None:
        return "", ""
    choice = chunk.choices[0]
    if choice.index != 0 or choice.finish_reason or getattr(choice, "logprobs", None) is not None:
        return "", ""
    brought = {name: value for name, value in choice.delta.model_dump().items() if value and name != "role"}
    field, text = next(iter(brought.items()), ("", ""))
    is_text = len(brought) == 1 and field in ("content", "reasoning_content") and isinstance(text, str)
    return (field, text) if is_text else ("", "")
