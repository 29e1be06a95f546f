"""A judge of the HTML of mails: it shares nothing with what cleans it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# A list of its own, so that a slip in the action's list is not repeated here.
TAGS = set(
    re.findall(
        r"\w+",
        "html head meta body a abbr address article aside b bdi bdo blockquote br caption center cite code col colgroup"
        " dd del details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li"
        " main mark nav ol p pre q s samp section small span strike strong sub summary sup table tbody td tfoot th"
        " thead time tr tt u ul var wbr",
    )
)
ATTRIBUTES = set(
    re.findall(
        r"\w+",
        "align alt bgcolor border cellpadding cellspacing charset color colspan content dir face height href lang name"
        " rel rowspan scope size span src start style title type valign width",
    )
)
HARMLESS_STYLE = re.compile(r"(?:[a-z-]+: [\w.%#, '!/-]*(?:rgba?\([\d.,%/ ]+\))?[\w.%#, '!/-]*(?:; |$))+")


class Inspector(HTMLParser):
    """Notes everything in a page that runs or fetches, or that is not known to do neither."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            if fault := self._attribute(tag, name, value or ""):
                self.faults.append(f"<{tag} {name}={value!r}> {fault}")

    def _attribute(self, tag: str, name: str, value: str) -> str | None:
        if name not in ATTRIBUTES:
            return "unknown"
        if name == "src" and not re.fullmatch(r"(?i)cid:[!-~]+", value):
            return "fetches"
        if name == "href" and not re.match(r"(?i)(https?://|mailto:)", value):
            return "leads elsewhere"
        if tag == "meta" and not (name in ("charset", "name", "content") and "url" not in value):
            return "acts"
        if name == "style":
            return self._style(value)
        return None

    def _style(self, value: str) -> str | None:
        lowered = value.lower()
        if re.search(r"url|expression|import|position|behavior|binding|\\|/\*|@|<|\{|var\(|attr\(|image", lowered):
            return "fetches or covers"
        if re.search(r"(?:^|[\s:;,])-\s*[\d.]", lowered):
            return "covers"
        return None if HARMLESS_STYLE.fullmatch(value) else "is not a plain style"

    def handle_decl(self, decl: str) -> None:
        if decl.lower() != "doctype html":
            self.faults.append(f"<!{decl}>")

    def handle_comment(self, data: str) -> None:
        self.faults.append("a comment")

    def handle_pi(self, data: str) -> None:
        self.faults.append(f"<?{data}>")


def faults(html: str) -> list[str]:
    """Return what runs or fetches in a page, or is not known to do neither."""
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    return inspector.faults
