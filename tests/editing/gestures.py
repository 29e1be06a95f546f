"""Random gestures: operations as a person at the canvas or a program would send them, on any document."""

from __future__ import annotations

import copy
import random
from typing import Any

from editing.witness import Path, Witness

Operation = dict[str, Any]

WORDS = ["alpha", "beta", "gamma", "delta", "report", "mail", "fetch", "Zürich", "naïve", "日本", "🙂", "x-y", "v1.2"]
TEXTS = [
    "", " ", "yes", "no", "on", "null", "~", "true", "010", "1e3", "12:30", "2026-03-01", "0x1F", "-", "- a", "a: b", "a:b",
    "# no comment", "a # b", "a#b", "it's", 'say "hi"', "back\\slash", "{{ steps.a.output }}", "Dear {{ inputs.name }},",
    "[a", "{a", "a, b", "@at", "`tick`", "%d", "!tag", "&a", "*a", "|", ">", "? q", "key:", "=", "<<", "C:\\temp", "tab\there",
    " lead", "trail ", "a\u2028b", "a\u0085b", "a\u00a0b", "\ufeff", "a\rb", "http://example.com/a?b=c#d", "'", '"', "''",
    "line one\nline two\n", "line one\nline two", "one\n\n  two\n\nthree\n", "  lead\nthen\n", "\nfirst blank\n", "ends twice\n\n",
    "\n", "\n\n", "a\n\n\n", "a\tb\n\tc\n", "# looks like a comment\nnot one\n", "- looks like\n- a list\n", "a: 1\nb: 2\n",
    "long " * 40, "wide\n" + "word " * 50 + "\nend\n", "trailing space \nhere\n", "{% if a %}\nx\n{% endif %}\n", "crlf\r\nhere\r\n",
    "---\nx\n", "...\n", "emoji 🙂\nand 日本\n", "quote 'a' \"b\"\nc\n",
]  # fmt: skip
KEYS = [
    "added",
    "timeout",
    "with",
    "note",
    "x-y",
    "a b",
    "yes",
    "12",
    "über",
    "a.b",
    "true",
    "on",
    "k: v",
    "#k",
    "",
    "日本",
]


class Gestures:
    """A source of gestures."""

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)

    def one(self, witness: Witness) -> Operation:
        """Return one gesture that fits a document."""
        kinds = {
            self._tweak: 30,
            self._set: 12,
            self._add: 14,
            self._insert: 14,
            self._remove: 12,
            self._move: 14,
            self._reshape: 4,
        }
        while True:
            (kind,) = self.random.choices(list(kinds), list(kinds.values()))
            found = kind(witness)
            if found is not None:
                return found

    # -- gestures

    def _tweak(self, witness: Witness) -> Operation | None:
        """Change a scalar a little."""
        path = self._path(witness, lambda p: witness.places[p].scalar)
        if path is None:
            return None
        return {"op": "set", "path": list(path), "value": self._near(_at(witness.value, path))}

    def _set(self, witness: Witness) -> Operation | None:
        path = self._path(witness, lambda p: self._is_small(witness, p))
        return None if path is None else {"op": "set", "path": list(path), "value": self.value()}

    def _add(self, witness: Witness) -> Operation | None:
        path = self._path(
            witness, lambda p: isinstance(_at(witness.value, p), dict) or _at(witness.value, p) is None, root=True
        )
        if path is None:
            return None
        key = self.random.choice([k for k in KEYS if k not in (_at(witness.value, path) or {})] or [None])
        if key is None:
            return None
        deeper = [self.random.choice(["inner", 0])] if self.random.random() < 0.15 else []
        return {"op": "set", "path": [*path, key, *deeper], "value": self.value()}

    def _insert(self, witness: Witness) -> Operation | None:
        path = self._path(witness, lambda p: isinstance(_at(witness.value, p), list | None.__class__), root=True)
        if path is None:
            return None
        items = _at(witness.value, path) or []
        index = self.random.choice([None, 0, self.random.randint(0, len(items))])
        operation = {"op": "insert", "path": list(path)} | ({} if index is None else {"index": index})
        if self.random.random() < 0.3:
            text, meant = self.random.choice(PASTES)
            return {**operation, "text": text, "_items": copy.deepcopy(meant)}
        return {
            **operation,
            "item": copy.deepcopy(self.random.choice(items)) if items and self.random.random() < 0.4 else self.value(),
        }

    def _remove(self, witness: Witness) -> Operation | None:
        path = self._path(witness, lambda p: self._is_small(witness, p))
        return None if path is None else {"op": "remove", "path": list(path)}

    def _move(self, witness: Witness) -> Operation | None:
        path = self._path(witness, lambda p: isinstance(p[-1], int))
        if path is None:
            return None
        to = path[:-1]
        if self.random.random() < 0.3:
            other = self._path(
                witness, lambda p: isinstance(_at(witness.value, p), list) and p[: len(path)] != path, root=True
            )
            to = other or to
        length = len(_at(witness.value, to)) - (1 if to == path[:-1] else 0)
        return {"op": "move", "path": list(path), "to": list(to), "index": self.random.randint(0, length)}

    def _reshape(self, witness: Witness) -> Operation | None:
        """Send a whole collection again, with a few things in it changed, as a form does."""
        path = self._path(witness, lambda p: not witness.places[p].scalar and not witness.places[p].empty, root=True)
        if path is None:
            return None
        value = copy.deepcopy(_at(witness.value, path))
        for _ in range(self.random.randint(1, 3)):
            if isinstance(value, dict):
                key = self.random.choice([*value, "fresh"])
                if self.random.random() < 0.4 and len(value) > 1:
                    value.pop(key, None)
                else:
                    value[key] = self.value()
            elif self.random.random() < 0.4 and len(value) > 1:
                value.pop(self.random.randrange(len(value)))
            else:
                value.insert(self.random.randint(0, len(value)), self.value())
        return {"op": "set", "path": list(path), "value": value}

    # -- where

    def _path(self, witness: Witness, fits: Any, *, root: bool = False) -> Path | None:
        found = [p for p in witness.places if (p or root) and fits(p)]
        return self.random.choice(found) if found else None

    def _is_small(self, witness: Witness, path: Path) -> bool:
        place = witness.places[path]
        return place.last - place.first < max(4, len(witness.lines) // 6) and len(path) > 0

    # -- what

    def value(self, depth: int = 0) -> Any:
        kind = self.random.random()
        if kind < 0.5 or depth > 2:
            return self.random.choice([*TEXTS, *WORDS, " ".join(self.random.choices(WORDS, k=4))])
        if kind < 0.7:
            return self.random.choice([0, 1, -7, 3.5, 0.1, 1e-7, 1e300, 2**62, True, False, None])
        if kind < 0.85:
            return {self.random.choice(KEYS): self.value(depth + 1) for _ in range(self.random.randint(0, 3))}
        return [self.value(depth + 1) for _ in range(self.random.randint(0, 3))]

    def _near(self, old: Any) -> Any:
        if isinstance(old, bool):
            return not old
        if isinstance(old, int) and abs(old) < 2**60:
            return old + self.random.choice([1, -1, 10])
        if isinstance(old, float):
            return round(old + 0.25, 3)
        if not isinstance(old, str) or not old:
            return self.value()
        pieces = old.split(" ")
        at = self.random.randrange(len(pieces))
        match self.random.randrange(6):
            case 0:
                pieces[at] = self.random.choice(WORDS)
            case 1:
                pieces.insert(at, self.random.choice(WORDS))
            case 2 if len(pieces) > 1:
                del pieces[at]
            case 3:
                return old + self.random.choice(["!", "\n", " more", "\nmore\n", ": x", " # y"])
            case 4:
                lines = old.split("\n")
                lines.insert(self.random.randint(0, len(lines)), " ".join(self.random.choices(WORDS, k=3)))
                return "\n".join(lines)
            case _:
                pieces[at] = pieces[at] + self.random.choice("sx")
        return " ".join(pieces)


PASTES: list[tuple[str, list[Any]]] = [
    ("id: pasted\nuses: log\n", [{"id": "pasted", "uses": "log"}]),
    ("- id: one\n  # inside\n  uses: log\n- id: two # beside\n", [{"id": "one", "uses": "log"}, {"id": "two"}]),
    (
        "# above what is pasted\n- id: three\n  with:\n    text: |\n      a\n\n      b\n",
        [{"id": "three", "with": {"text": "a\n\nb\n"}}],
    ),
    ("    - id: deep\n      list:\n      - a\n      - b\n", [{"id": "deep", "list": ["a", "b"]}]),
    ("plain text", ["plain text"]),
    ("{a: 1, b: [x, y]}", [{"a": 1, "b": ["x", "y"]}]),
    ("- |+\n  kept\n\n", ["kept\n\n"]),
    ("text: |+\n  kept\n\n", [{"text": "kept\n\n"}]),
    ("- 'quoted\n  twice'\n", ["quoted twice"]),
    ("- - nested\n  - list\n", [["nested", "list"]]),
    ("id: crlf\r\nuses: log\r\n", [{"id": "crlf", "uses": "log"}]),
    ("-\n  id: below\n", [{"id": "below"}]),
    ("\n\n# header\n\nid: far\n", [{"id": "far"}]),
]


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value
