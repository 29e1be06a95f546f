"""The leading underscore says that this module is no action."""

from __future__ import annotations


def capitals(text: str) -> str:
    """Return `text` in capital letters."""
    return text.upper()
