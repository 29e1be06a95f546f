"""Whether an edit did what it should and nothing else; it asks the witness, never the code that made the edit."""

from __future__ import annotations

import copy
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from editing.witness import Path, Witness

Operation = dict[str, Any]


def faults(before: Witness, operation: Operation, after: Witness, *, items: list[Any] | None = None) -> list[str]:
    """Return what is wrong with an edit.

    Args:
        before: The document before it.
        operation: What was to be done, as a client sends it.
        after: The document after it.
        items: What a pasted text means.
    """
    found = _form(before, after)
    expected = applied(operation, before.value, items)
    if not same(after.value, expected):
        found.append("the meaning is not what the operation says")
        return found
    judges = {"set": _set, "insert": _insert, "remove": _remove, "move": _move}
    if operation["op"] in judges:
        found += judges[operation["op"]](before, operation, after)
    return found


# -- meaning


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def applied(operation: Operation, value: Any, items: list[Any] | None = None) -> Any:
    """Do an operation to a value; written apart from the code under test, on a deep copy."""
    box = {"root": copy.deepcopy(value)}
    path = ["root", *operation["path"]]
    if operation["op"] == "set":
        _put(box, path, copy.deepcopy(operation["value"]))
    elif operation["op"] == "insert":
        _list(box, path)[_slice(operation.get("index"), _list(box, path))] = items or [copy.deepcopy(operation["item"])]
    elif operation["op"] == "remove":
        del _at(box, path[:-1])[path[-1]]
    elif operation["op"] == "move":
        target = _list(box, ["root", *operation["to"]])
        item = _at(box, path[:-1]).pop(path[-1])
        target.insert(operation["index"], item)
    elif operation["op"] == "rename_step":
        return value
    return box["root"]


def _slice(index: int | None, items: list[Any]) -> slice:
    at = len(items) if index is None else index
    return slice(at, at)


def _at(value: Any, path: list[Any]) -> Any:
    for part in path:
        value = value[part]
    return value


def _list(box: Any, path: list[Any]) -> Any:
    try:
        found = _at(box, path)
    except (KeyError, IndexError, TypeError):
        found = None
    if found is None:
        _put(box, path, [])
    return _at(box, path)


def _put(holder: Any, path: list[Any], value: Any) -> None:
    for part, following in pairwise(path):
        empty: Any = {} if isinstance(following, str) else []
        if isinstance(holder, list) and part == len(holder):
            holder.append(empty)
        elif (isinstance(holder, dict) and holder.get(part) is None) or (
            isinstance(holder, list) and holder[part] is None
        ):
            holder[part] = empty
        holder = holder[part]
    if isinstance(holder, list) and path[-1] == len(holder):
        holder.append(value)
    else:
        holder[path[-1]] = value


# -- the form of the whole text


def _form(before: Witness, after: Witness) -> list[str]:
    found = []
    if before.text.startswith("\ufeff") != after.text.startswith("\ufeff"):
        found.append("the byte order mark was not kept")
    if before.text.endswith(("\n", "\r")) != after.text.endswith(("\n", "\r")):
        found.append("the end of the last line was not kept")
    if "\n" in before.text or "\r" in before.text:
        kinds = [{bool(b) for b in ("\r\n" in t, "\n" in t.replace("\r\n", ""))} for t in (before.text, after.text)]
        crlf, bare = "\r\n" in before.text, "\n" in before.text.replace("\r\n", "")
        if crlf and not bare and "\n" in after.text.replace("\r\n", ""):
            found.append(f"a line ends otherwise than the others {kinds}")
        if bare and not crlf and "\r" in after.text:
            found.append("a line ends otherwise than the others")
    if len(_trailing(after)) > len(_trailing(before)):
        found.append(f"white space at the end of a line was written: {_trailing(after)!r}")
    return found


def _trailing(witness: Witness) -> list[str]:
    """Return the lines with white space at their end, but for those of texts, in which it may mean something."""
    texts = {
        line
        for place in witness.places.values()
        if place.scalar and place.last > place.value_first
        for line in range(place.value_first, place.last + 1)
    }
    return [line for number, line in enumerate(witness.lines) if line != line.rstrip() and number not in texts]


# -- which lines may change


def _only_between(before: Witness, first: int, last: int, after: Witness) -> list[str]:
    """Find fault with lines that changed outside of lines `first` to `last`."""
    head, tail = before.lines[:first], before.lines[last + 1 :]
    if after.lines[: len(head)] != head:
        number = next(i for i, line in enumerate(head) if i >= len(after.lines) or after.lines[i] != line)
        return [f"line {number + 1} above the edit changed"]
    if (tail and after.lines[-len(tail) :] != tail) or len(after.lines) < len(head) + len(tail):
        return ["a line below the edit changed"]
    return []


def _ends(one: list[str], other: list[str]) -> tuple[int, int]:
    limit, prefix, suffix = min(len(one), len(other)), 0, 0
    while prefix < limit and one[prefix] == other[prefix]:
        prefix += 1
    while suffix < limit - prefix and one[-1 - suffix] == other[-1 - suffix]:
        suffix += 1
    return prefix, suffix


def _only_added(before: Witness, after: Witness) -> list[str]:
    """Find fault with lines that went away or changed: one piece may have been put in."""
    prefix, suffix = _ends(before.lines, after.lines)
    return [] if prefix + suffix >= len(before.lines) else ["lines changed where some should only be added"]


def _lost(before: Witness, after: Witness) -> Counter[str]:
    return Counter(c.text for c in before.comments) - Counter(c.text for c in after.comments)


def _kept(before: Witness, after: Witness, first: int = 1, last: int = 0) -> list[str]:
    """Find fault with comments that were lost, but for those of lines `first` to `last`, or that were made up."""
    may = Counter(c.text for c in before.comments if first <= c.line <= last)
    found = [f"a comment was lost: {text!r}" for text in _lost(before, after) - may]
    return found + [f"a comment was made up: {text!r}" for text in _lost(after, before)]


def _region(witness: Witness, path: Path) -> tuple[int, int]:
    """Return the lines of an entry: from its key or dash to its last comment."""
    place = witness.places[path]
    return place.first, max([place.last, *witness.below(path)]) if path else len(witness.lines) - 1


def _set(before: Witness, operation: Operation, after: Witness) -> list[str]:
    path = tuple(operation["path"])
    if same(before.value, after.value):
        return [] if before.text == after.text else ["nothing was to change, but bytes did"]
    if path not in before.places:
        return _added(before, path, after)
    place = before.places[path]
    value = operation["value"]
    if place.scalar and not (isinstance(value, dict | list) and value):
        first, last = place.value_first, place.last
        found = _kept(before, after)
        if place.style == "|" and isinstance(value, str):
            found += _only_changed_lines(before, path, after)
        elif place.last > place.value_first and _is_one_word(_at(before.value, list(path)), value):
            changed = sum(a != b for a, b in zip(before.lines, after.lines, strict=False))
            if changed > 1 or len(before.lines) != len(after.lines):
                found.append("one word changed, but more than its line")
    else:
        first, last = _region(before, path)
        found = _kept(before, after, place.first + 1 if path else 0, last)
        first = first if path else 0
        trailing = [c for c in before.comments if c.line == place.first]
        shared = place.compact or (not place.flow and place.value_first == place.first)  # the first key's line, too
        found = [fault for fault in found if not (shared and any(repr(c.text) in fault for c in trailing))]
    return found + _only_between(before, first, last, after)


def _is_one_word(old: Any, new: Any) -> bool:
    """Return whether two texts differ in one word, which stays one."""
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    before, after = re.split(r"(\s+)", old), re.split(r"(\s+)", new)
    if len(before) != len(after) or not all(before) or not all(after):
        return False
    return sum(a != b for a, b in zip(before, after, strict=True)) == 1


def _only_changed_lines(before: Witness, path: Path, after: Witness) -> list[str]:
    """Find fault with a block text of which more lines changed than those of the text that did."""
    if path not in after.places or after.places[path].style != "|":
        return []
    old, new = before.lines, after.lines
    texts = [str(_at(w.value, list(path))).split("\n") for w in (before, after)]
    prefix, suffix = _ends(*texts)
    changed = len(texts[0]) - prefix - suffix
    a, b = _ends(old, new)
    header = 1 if old[before.places[path].value_first] != new[after.places[path].value_first] else 0
    if not header and len(old) - a - b > max(changed, 0) + 1:
        return ["more lines of the text changed than of what it says"]
    return []


def _added(before: Witness, path: Path, after: Witness) -> list[str]:
    """Judge a key or item that was not there."""
    holder = path
    while holder not in before.places:
        holder = holder[:-1]
    return _kept(before, after) + _into(before, holder, after)


def _into(before: Witness, holder: Path, after: Witness) -> list[str]:
    place = before.places[holder]
    if place.flow or place.scalar or place.in_flow:
        outer = holder
        while before.places[outer].in_flow:
            outer = outer[:-1]
        return _only_between(before, *_region(before, outer), after)
    return _only_added(before, after)


def _insert(before: Witness, operation: Operation, after: Witness) -> list[str]:
    path = tuple(operation["path"])
    pasted = _lost(after, before) if "text" in operation else Counter()
    found = [fault for fault in _kept(before, after) if not any(repr(text) in fault for text in pasted)]
    if path not in before.places:
        return found + _into(before, _nearest(before, path), after)
    if "|+" in operation.get("text", ""):
        return found  # blank lines below have to go: they would become part of the text
    if operation.get("index") == 0 and before.places.get((*path, 0)) and before.places[*path, 0].compact:
        return found
    return found + _into(before, path, after)


def _nearest(witness: Witness, path: Path) -> Path:
    while path not in witness.places:
        path = path[:-1]
    return path


def _remove(before: Witness, operation: Operation, after: Witness) -> list[str]:
    path = tuple(operation["path"])
    place = before.places[path]
    holder = path[:-1]
    owned = [*before.above(path), place.first, place.last, *before.below(path)]
    found = _kept(before, after, min(owned), max(owned))
    if place.in_flow:
        return found + _into(before, holder, after)
    found += _stale(before, path, after)
    siblings = [p for p in before.places if p[:-1] == holder and len(p) == len(path)]
    if len(siblings) == 1:
        outer = before.places[holder]
        return found + (_only_between(before, outer.first, max(owned), after) if holder else [])
    if place.compact:
        following = before.places[siblings[1]]
        return found + _only_between(before, place.first, following.first, after)
    prefix, suffix = _ends(before.lines, after.lines)
    if prefix + suffix < len(after.lines):
        found.append("lines changed where some should only go away")
    gone = Counter(before.lines) - Counter(after.lines)
    may = Counter(before.lines[line] for line in range(min(owned), max(owned) + 1))
    if wrong := [line for line in gone - may if line.strip()]:
        found.append(f"a foreign line went away: {wrong[0]!r}")
    return found


def _stale(before: Witness, path: Path, after: Witness) -> list[str]:
    """Find fault with comments that speak of what is gone: those inside of the entry, and directly above it."""
    place = before.places[path]
    above = [line for line in before.above(path) if _indent(before.lines[line]) <= place.column]
    lines = {*above, *range(place.first + 1, place.last + 1)}
    if path == (0,) or (len(path) == 1 and next(iter(p for p in before.places if p)) == path):
        lines -= set(before.above(path))  # the header of the file
    ours = Counter(c.text for c in before.comments if c.line in lines)
    others = Counter(c.text for c in before.comments if c.line not in lines)
    left = Counter(c.text for c in after.comments)
    return [f"a comment of what is gone was left: {text!r}" for text in ours if left[text] > others[text]]


def _move(before: Witness, operation: Operation, after: Witness) -> list[str]:
    path, to = tuple(operation["path"]), tuple(operation["to"])
    if before.places[path].in_flow or (to in before.places and (before.places[to].flow or before.places[to].scalar)):
        return _kept(before, after)
    found = _kept(before, after)
    old = Counter(line.strip() for line in before.lines if line.strip())
    new = Counter(line.strip() for line in after.lines if line.strip())
    siblings = [p for p in before.places if p[:-1] == path[:-1] and len(p) == len(path)]
    landed = _landed(path, to, operation["index"])
    styles = before.places[path].style, after.places[landed].style
    if styles[0] in ("|", ">") and styles[1] == '"':
        return found  # in lines it would have taken in what stands below
    if len(siblings) > 1 and not before.places[path].compact and to in before.places and old != new:
        at_compact = before.places.get((*to, 0))
        if not (at_compact and at_compact.compact and operation["index"] == 0):
            found.append("lines changed that were only to be moved")
    return found + _taken_along(before, path, after, landed)


def _own(witness: Witness, path: Path) -> list[str]:
    """Return the comments above an entry that are not indented deeper, as those of the entry before may be."""
    lines = [witness.lines[line] for line in witness.above(path)]
    return [line.strip() for line in lines if _indent(line) <= witness.places[path].column]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _landed(path: Path, to: Path, index: int) -> Path:
    """Return where an item is after its move."""
    depth = len(path) - 1
    if len(to) > depth and to[:depth] == path[:depth] and isinstance(to[depth], int) and to[depth] > path[depth]:  # type: ignore[operator]
        to = (*to[:depth], to[depth] - 1, *to[depth + 1 :])  # type: ignore[operator]
    return (*to, index)


def _taken_along(before: Witness, path: Path, after: Witness, landed: Path) -> list[str]:
    """Find fault with an item whose own comments are not above it any more, or that dragged foreign ones along."""
    if before.places[path].compact or (landed in after.places and after.places[landed].compact):
        return []
    own = _own(before, path)
    now = _own(after, landed)
    first = before.places.get((*landed[:-1], 0))
    if path == (0,) or landed == (0,) or (landed[-1] == 0 and first is not None and first.compact):
        return []  # beside the header of the file, or behind the dash of the list around
    if now[len(now) - len(own) :] != own:
        return ["an item lost the comments above it"]
    return [] if len(now) == len(own) else ["an item came to stand below foreign comments"]
