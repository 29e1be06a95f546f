"""Answers that come in pages: which request asks for the next one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from yarl import URL

from weft.sdk import ActionError, Json

from ._http import Response, address

Kind = Literal["none", "link", "next_url", "cursor", "page", "offset"]

_PART = re.compile(r"[^.\[\]]+|\[[0-9]{1,6}\]")
_PATH = re.compile(r"[^.\[\]]+(\.[^.\[\]]+|\[[0-9]{1,6}\])*|")


@dataclass(frozen=True, slots=True)
class Pages:
    """How a server cuts its answers into pages."""

    kind: Kind
    items_path: str  #: where the items stand in the body; empty: the body is the list
    cursor_path: str  #: where the next page's cursor or address stands
    parameter: str  #: of the query, for cursor, number or offset
    first: int  #: number or offset of the first page

    def begin(self, url: URL) -> URL:
        """Return the address of the first page."""
        if self.kind in ("page", "offset"):
            return url.update_query({self.parameter: str(self.first)})
        return url

    def items(self, body: Json) -> list[Json]:
        """Return the items of a page.

        Raises:
            ActionError: There is no list where they should be (`bad_page`).
        """
        found = at(body, self.items_path)
        if not isinstance(found, list):
            place = f"{self.items_path!r} of the answer" if self.items_path else "the answer"
            raise ActionError(
                f"The items of a page should be {place}, and there is no list.",
                kind="bad_page",
                effect="none",
                remedy="Correct `items_path`.",
            )
        return found

    def next(self, response: Response, body: Json, url: URL, seen: int) -> URL | None:
        """Return the address of the next page, None after the last.

        Args:
            response: The page.
            body: Its body.
            url: Its address, as it was asked for.
            seen: How many items have come so far.
        """
        if self.kind == "link":
            target = response.links.get("next")
            return None if target is None else _linked(target)
        if self.kind == "next_url":
            return self._by_address(at(body, self.cursor_path), response.url)
        if not self.items(body):
            return None
        if self.kind == "cursor":
            return self._by_cursor(at(body, self.cursor_path), url)
        if self.kind == "page":
            return url.update_query({self.parameter: str(int(url.query[self.parameter]) + 1)})
        return url.update_query({self.parameter: str(self.first + seen)})

    def _by_address(self, target: Any, url: URL) -> URL | None:
        if target in (None, "", False):
            return None
        try:
            return address(url.join(URL(target)))
        except (ValueError, TypeError, ActionError):
            raise self._no_cursor("address") from None

    def _by_cursor(self, cursor: Any, url: URL) -> URL | None:
        if cursor in (None, "", False):
            return None
        if not isinstance(cursor, str | int):
            raise self._no_cursor("text and no integer")
        return url.update_query({self.parameter: str(cursor)})

    def _no_cursor(self, what: str) -> ActionError:
        message = f"What stands at {self.cursor_path!r} of the answer is no {what}."
        return ActionError(message, kind="bad_page", effect="none", remedy="Correct `cursor_path`.")


def _linked(target: str | URL) -> URL:
    try:
        return address(target)
    except ActionError:
        message = "The address of the next page in the header Link is no http(s) address."
        remedy = "Choose another kind of pagination, or none."
        raise ActionError(message, kind="bad_page", effect="none", remedy=remedy) from None


def is_path(text: str) -> bool:
    """Return whether `text` is a path such as `data.items` or `pages[0].next`."""
    return _PATH.fullmatch(text) is not None


def at(value: Any, path: str) -> Any:
    """Return what stands at `path` in `value`, None when there is nothing; a key may itself be the whole path."""
    if isinstance(value, dict) and path in value:
        return value[path]
    for part in _PART.findall(path):
        if part.startswith("["):
            index = int(part[1:-1])
            value = value[index] if isinstance(value, list) and index < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
