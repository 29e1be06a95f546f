"""The text and the HTML of a mail, from what an author or a model wrote.

Whatever the format, the HTML that is sent has passed the sanitiser last: nothing in it runs, and nothing in it is
fetched when the mail is opened. A picture comes from the mail itself (`cid:`) or stays a link.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import css_inline
import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from ._mail_headers import refusal
from ._mail_text import BLOCKS, text_of, with_aligned_tables

LONGEST = {"text": 1_000_000, "markdown": 100_000, "html": 200_000}
"""Characters. Readers of mail cut pages off earlier, and hostile Markdown costs 15 µs of CPU a character."""
MOST_ELEMENTS = 2_000_000
DEEPEST = 2500  #: elements inside each other; a parser looks through all open ones at each tag

Format = Literal["text", "markdown", "html"]

_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr b bdi bdo br cite code col colgroup del dfn em font i img ins kbd mark q s samp small span strike strong"
        " sub sup time tt u var wbr",
    )
)
_KNOWN = BLOCKS | _INLINE
_ATTRIBUTES = {
    "*": {"align", "bgcolor", "dir", "height", "lang", "style", "title", "valign", "width"},
    "a": {"href"},
    "col": {"span"},
    "font": {"color", "face", "size"},
    "img": {"alt", "src"},
    "ol": {"start", "type"},
    "table": {"border", "cellpadding", "cellspacing"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
_STYLES = re.compile(
    r"(?:background-color|border(?:-(?:top|right|bottom|left|collapse|color|radius|spacing|style|width))*|color"
    r"|font-(?:family|size|style|weight)|height|letter-spacing|line-height|list-style-type|max-width|min-width"
    r"|(?:margin|padding)(?:-(?:top|right|bottom|left))?|text-(?:align|decoration|indent|transform)|vertical-align"
    r"|white-space|width|word-break)"
)
_STYLE_VALUE = re.compile(r"(?:[A-Za-z0-9.%#, '!/]|(?<=[A-Za-z])-(?=[A-Za-z])|rgba?\([0-9.,%/ ]+\))+")
"""A value without functions (so no `url()`), escapes, comments or negative lengths, which could lay it over the rest."""

_FORMATTING = re.compile(r"<(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])[^>]*>?", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-z][^\s/<>]*)([^<>]*)", re.IGNORECASE)
_LEFT_OPEN = frozenset(
    re.findall(
        r"\w+",
        "a area base br button col colgroup dd dt embed h1 h2 h3 h4 h5 h6 hr img input li link meta nobr optgroup option p"
        " param source tbody td tfoot th thead tr track wbr",
    )
)
"""Elements that have no end, or that the next of their kind ends: leaving them open nests nothing."""

_SIMPLE_TAG = re.compile(r'<\w+(?:\s+[\w-]+="[^"<>]*")*\s*>')

_SHEET = """
h1 { font-size: 22px; line-height: 1.3; margin: 0 0 12px; font-weight: 600 }
h2 { font-size: 18px; line-height: 1.3; margin: 22px 0 10px; font-weight: 600 }
h3, h4, h5, h6 { font-size: 15px; line-height: 1.4; margin: 18px 0 8px; font-weight: 600 }
p, ul, ol { margin: 0 0 12px }
li { margin: 0 0 4px }
li > p, blockquote > p { margin: 0 0 6px }
a { color: #0b5cad }
blockquote { margin: 0 0 12px; padding: 4px 0 1px 14px; border-left: 3px solid #d0d7de; color: #57606a }
code { font-family: Menlo, Consolas, monospace; font-size: 13px; background-color: #f3f4f6; padding: 1px 4px }
pre { background-color: #f3f4f6; padding: 12px 14px; margin: 0 0 12px; border-radius: 6px; white-space: pre-wrap }
pre code { padding: 0 }
table { border-collapse: collapse; margin: 0 0 12px }
th, td { border: 1px solid #d0d7de; padding: 6px 10px }
th { background-color: #f3f4f6; font-weight: 600 }
hr { border: 0; border-top: 1px solid #d0d7de; margin: 18px 0 }
"""
_PAGE = (
    '<!doctype html>\n<html><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head>\n'
    '<body style="margin: 0; padding: 20px; font-family: -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif;'
    ' font-size: 15px; line-height: 1.5; color: #1f2328">\n{}\n</body></html>\n'
)


@dataclass(frozen=True, slots=True)
class Body:
    """What a mail says: always as text, and as a page of HTML where the format has one."""

    text: str
    html: str | None = None
    pictures: frozenset[str] = frozenset()  #: content ids of the attachments that the HTML shows


def check_characters(text: str, field: str, *, kind: str = "invalid_body") -> str:
    """Return `text` if an encoding can carry it.

    Raises:
        ActionError: It holds half a character (a lone surrogate).
    """
    if found := re.search("[\ud800-\udfff]", text):
        raise refusal(f"The text has half a character (U+{ord(found[0]):04X}).", kind=kind, field=field)
    return text


def check_body(source: str, form: Format) -> str:
    """Return `source` if a body of this format can be made of it in reasonable time and space.

    Formatting that is left open is opened again in every later paragraph (the HTML standard, §13.2.4.3), at most three
    times where it is written alike; a few thousand characters of that would grow to gigabytes.

    Raises:
        ActionError: It holds half a character, is too long for a page, is nested too deeply, or is such a page.
    """
    check_characters(source, "body")
    if len(source) > LONGEST[form]:
        raise refusal(
            f"A body in {form} has at most {LONGEST[form]:,} characters; this one has {len(source):,}.",
            kind="invalid_body",
            field="body",
            remedy="Attach it, or send it as text.",
        )
    if form == "html":
        _check_markup(source)
    return source


def _check_markup(html: str) -> None:
    if _depth(html) > DEEPEST:
        raise refusal(
            f"The HTML has more than {DEEPEST} elements inside each other.",
            kind="invalid_body",
            field="body",
            remedy="Close the elements that are open.",
        )
    found = [tag[0] for tag in _FORMATTING.finditer(html)]
    alike = [tag for tag in found if _SIMPLE_TAG.fullmatch(tag)]
    if 3 * (len(set(alike)) + len(found) - len(alike)) * html.count("<") > MOST_ELEMENTS:
        raise refusal(
            "The HTML has too many kinds of formatting tags for its length.",
            kind="invalid_body",
            field="body",
            remedy='Write attributes in double quotes, or use <span style="…"> for what differs each time.',
        )


def _depth(html: str) -> int:
    """Return how many elements are open at once, at most; tags in comments count too."""
    still_open: Counter[str] = Counter()
    depth = deepest = 0
    for end, written, rest in _TAG.findall(html):
        name = written.lower()
        ended = rest.endswith("/") and name not in _KNOWN  # as in SVG; HTML's own elements stay open
        if name in _LEFT_OPEN or ended:
            continue
        if not end:
            still_open[name] += 1
            depth += 1
            deepest = max(deepest, depth)
        elif still_open[name]:
            still_open[name] -= 1
            depth -= 1
    return deepest


def body(source: str, form: Format, pictures: frozenset[str] = frozenset()) -> Body:
    """Return the body of a mail that was written as `form` and may show these attachments, by content id.

    Raises:
        ActionError: As `check_body` says.
    """
    check_body(source, form)
    if form == "text":
        return Body(source)
    if form == "markdown":
        reader = _markdown()
        tokens = reader.parse(source)
        html = reader.renderer.render(tokens, reader.options, {"pictures": pictures})
        safe = clean(_inliner().inline_fragment(html, _SHEET), pictures)
        text = with_aligned_tables(source, tokens)
    else:
        safe = clean(source, pictures)
        text = text_of(safe)
    return Body(text, _PAGE.format(safe), frozenset(re.findall(r'src="cid:([^"]+)"', safe)))


@cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    reader.add_render_rule("image", _picture)
    return reader


def _picture(renderer: RendererHTML, tokens: list[Token], at: int, options: OptionsDict, env: EnvType) -> str:
    """Show a picture of this mail; link to any other, which would tell its server who reads what."""
    token = tokens[at]
    address = str(token.attrGet("src") or "")
    words = renderer.renderInlineAsText(token.children, options, env) or "picture"
    if address.lower().startswith("cid:"):
        shown = address[4:] in env["pictures"]
        return renderer.image(tokens, at, options, env) if shown else nh3.clean_text(words)
    link = Token("link_open", "a", 1, attrs={"href": address})
    return f"<a{renderer.renderAttrs(link)}>{nh3.clean_text(words)}</a>"


@cache
def _inliner() -> css_inline.CSSInliner:
    return css_inline.CSSInliner(load_remote_stylesheets=False)


def clean(html: str, pictures: frozenset[str] = frozenset()) -> str:
    """Return `html` with only what neither runs nor fetches anything, and no pictures but these attachments."""
    return _cleaner(pictures).clean(html)


@lru_cache(maxsize=16)
def _cleaner(pictures: frozenset[str]) -> nh3.Cleaner:
    def attribute(tag: str, name: str, value: str) -> str | None:
        if (tag, name) == ("img", "src"):
            return f"cid:{value[4:]}" if value[:4].lower() == "cid:" and value[4:] in pictures else None
        return _attribute(tag, name, value)

    return nh3.Cleaner(
        tags=set(_KNOWN),
        clean_content_tags={
            "script",
            "style",
            "title",
            "template",
            "noscript",
            "textarea",
            "iframe",
            "object",
            "svg",
            "math",
        },
        attributes=_ATTRIBUTES,
        attribute_filter=attribute,
        url_schemes={"http", "https", "mailto", "cid"},
        url_relative="deny",
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    match tag, name:
        case "a", "href":
            return value if re.match(r"(?i)(?:https?://|mailto:)", value) else None
        case _, "style":
            return "; ".join(filter(None, map(_declaration, value.split(";")))) or None
        case _:
            return value


def _declaration(text: str) -> str | None:
    name, _, value = (part.strip() for part in text.partition(":"))
    safe = _STYLES.fullmatch(name.lower()) and _STYLE_VALUE.fullmatch(value)
    return f"{name.lower()}: {value}" if safe else None
