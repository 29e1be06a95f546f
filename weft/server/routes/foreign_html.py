"""HTML of a mail, made harmless: it is taken apart and written anew, with nothing in it that was not let through.

What is shown comes from a list of elements and attributes that mail needs for its text. All else is left out, so that what
a browser makes of unknown or broken markup does not matter. Whoever shows it puts it into a frame with `sandbox`, too.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from typing import Final

ELEMENTS: Final = frozenset(
    [
        "a",
        "abbr",
        "address",
        "article",
        "b",
        "blockquote",
        "br",
        "caption",
        "center",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "font",
        "footer",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "main",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "section",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "time",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
        "wbr",
    ]
)
EMPTY: Final = frozenset(("br", "col", "hr", "img", "wbr"))
WITH_CONTENT: Final = frozenset(
    [
        "script",
        "style",
        "title",
        "head",
        "template",
        "textarea",
        "select",
        "option",
        "noscript",
        "noembed",
        "noframes",
        "iframe",
        "object",
        "embed",
        "applet",
        "svg",
        "math",
        "xmp",
        "plaintext",
        "audio",
        "video",
        "canvas",
        "frameset",
    ]
)
"""Elements of which the content is left out, too."""

ATTRIBUTES: Final = frozenset(
    [
        "align",
        "alt",
        "border",
        "cellpadding",
        "cellspacing",
        "colspan",
        "dir",
        "height",
        "lang",
        "rowspan",
        "scope",
        "start",
        "title",
        "valign",
        "width",
    ]
)
LINK: Final = re.compile(r"(?:https?|mailto):[^\x00-\x20]*", re.IGNORECASE)
INLINE_IMAGE: Final = re.compile(r"data:image/(?:png|gif|jpeg|webp);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
LARGEST: Final = 2_000_000
DEEPEST: Final = 200


def harmless(html: str) -> str:
    """Return HTML with its text, its tables and its links, without anything that runs, is sent or is fetched."""
    writer = _Writer()
    writer.feed(html[:LARGEST])
    writer.close()
    return writer.result()


class _Writer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._left_out: list[str] = []  #: elements that are open, and of which nothing is shown

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._left_out or tag in WITH_CONTENT:
            if tag in WITH_CONTENT and tag != "embed" and len(self._left_out) < DEEPEST:
                self._left_out.append(tag)  # no deeper: each end of an element is looked for among them
            return
        if tag not in ELEMENTS or len(self._open) >= DEEPEST:
            return
        self._parts.append(f"<{tag}{''.join(_attributes(tag, attrs))}>")
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in WITH_CONTENT:
            return
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._left_out:
            if tag in self._left_out:
                while self._left_out.pop() != tag:
                    pass
            return
        if tag in self._open:
            while (last := self._open.pop()) != tag:
                self._parts.append(f"</{last}>")
            self._parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._left_out:
            self._parts.append(escape(data, quote=False))

    def result(self) -> str:
        return "".join([*self._parts, *(f"</{tag}>" for tag in reversed(self._open))])


def _attributes(tag: str, attrs: list[tuple[str, str | None]]) -> list[str]:
    found = []
    for name, value in attrs:
        text = (value or "").strip()
        is_plain = name in ATTRIBUTES
        is_link = tag == "a" and name == "href" and LINK.fullmatch(text)
        is_image = tag == "img" and name == "src" and INLINE_IMAGE.fullmatch(text)
        if is_plain or is_link or is_image:
            found.append(f' {name}="{escape(text)}"')
    if tag == "a":
        found.append(' target="_blank" rel="noopener noreferrer nofollow"')
    return found
