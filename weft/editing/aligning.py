"""Two sequences side by side: what they have in common, found in bounded time."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

MOST_PAIRS = 1_000_000
"""How many pairs of elements are compared at most; where more would have to be, all of that part counts as replaced."""

Code: TypeAlias = tuple[Literal["replace", "delete", "insert", "equal"], int, int, int, int]


def common_ends(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """Return how many elements two sequences have in common at their begin, and behind that at their end."""
    limit = min(len(one), len(other))
    prefix = 0
    while prefix < limit and one[prefix] == other[prefix]:
        prefix += 1
    suffix = 0
    while suffix < limit - prefix and one[-1 - suffix] == other[-1 - suffix]:
        suffix += 1
    return prefix, suffix


def opcodes(one: Sequence[str], other: Sequence[str]) -> list[Code]:
    """Return how one sequence becomes the other, as `difflib` tells it."""
    prefix, suffix = common_ends(one, other)
    old, new = one[prefix : len(one) - suffix], other[prefix : len(other) - suffix]
    if len(old) * len(new) > MOST_PAIRS:
        middle: list[Code] = [("replace", 0, len(old), 0, len(new))]
    else:
        middle = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    codes: list[Code] = [("equal", 0, prefix, 0, prefix)] if prefix else []
    codes += [(tag, i + prefix, j + prefix, k + prefix, m + prefix) for tag, i, j, k, m in middle]
    if suffix:
        codes.append(("equal", len(one) - suffix, len(one), len(other) - suffix, len(other)))
    return codes
