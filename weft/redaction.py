"""Secrets that do not print, and the filter that keeps them out of every sink."""

from __future__ import annotations

import base64
import hmac
import html
import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Never

MASK = "••••••"
SHORTEST_SEARCHED = 6
"""Shorter secrets would mask ordinary words; they are protected by never being handed out as text."""


class Secret:
    """A value that is shown to nobody: no text, no JSON, no pickle.

    It leaves by `reveal()` alone, which only the code that speaks to the other side calls.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> Never:
        raise TypeError("a secret cannot be pickled or copied")


def _base64_forms(data: bytes) -> Iterable[str]:
    """Base64 of `data` at each of the three offsets it may have inside a longer text, both alphabets."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data).decode()
        start = (offset * 8 + 5) // 6  # characters that also hold bits of what stands before
        end = len(encoded.rstrip("=")) - (1 if (len(data) + offset) % 3 else 0)
        yield (core := encoded[start:end])
        yield core.replace("+", "-").replace("/", "_")


_KEPT_IN_URLS = (  # characters that are not escaped, and whether a blank is `+`
    ("", False),
    ("/", False),
    ("/", True),
    ("", True),
    ("?/:@!$'()*,", True),  # yarl, a part of a query
    ("?/:@!$'()*,&;=+", True),  # yarl, a query that is given whole
    ("!$&'()*+,/:;=@", False),  # yarl, a path
    ("!$&'()*+,;=", False),  # yarl, a name or a password
    ("!*'()", False),  # encodeURIComponent
    ("!*'();,/?:@&=+$#", False),  # encodeURI
)
_ESCAPED_IN_JSON = ("&<>", "&<>'", "&<>'\"+`")
"""What is written as `\\u0026` although it need not be: by Go and Rails, by Jinja, by .NET."""


def _quoted(text: str) -> Iterable[str]:
    """Yield a text as it stands between quotes in JSON and in Python, whatever else stands there."""
    escaped = json.dumps(text)[1:-1]
    yield escaped
    yield _upper(escaped)
    yield escaped.replace("/", "\\/")  # as PHP writes it
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield repr(text + "'\"")[1:-4]  # beside quotes of both kinds, where its own need a backslash


def _careful_json(text: str) -> Iterable[str]:
    """Yield a text as writers of JSON have it that escape what HTML could understand."""
    for spelling in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        for characters in _ESCAPED_IN_JSON:
            yield (written := _as_escapes(spelling, characters))
            yield _upper(written)


def _upper(text: str) -> str:
    return re.sub(r"\\u[0-9a-f]{4}", lambda found: f"\\u{found[0][2:].upper()}", text)


def _as_escapes(text: str, characters: str) -> str:
    if '"' in characters:
        text = text.replace('\\"', "\\u0022")
    return re.sub(f"[{characters.replace(chr(34), '')}]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _url_forms(value: str) -> Iterable[str]:
    """Yield a text as a part of a URL has it, once and twice escaped, hexadecimal digits in either case."""
    quoted = {
        (urllib.parse.quote_plus if plus else urllib.parse.quote)(value, safe=safe, errors="replace")
        for safe, plus in _KEPT_IN_URLS
    }
    quoted.add(urllib.parse.quote_plus(value, safe="*", errors="replace").replace("~", "%7E"))  # URLSearchParams
    quoted |= {urllib.parse.quote(text, safe="") for text in quoted} | {text.replace("%", "%25") for text in quoted}
    for text in quoted:
        yield text
        yield re.sub("%(?:25)?[0-9A-F]{2}", lambda found: found[0].lower(), text)


def _html_forms(value: str) -> Iterable[str]:
    """Yield a text as HTML has it; quotes have several names, and need none in a text or beside the other kind."""
    bare = html.escape(value, quote=False)
    for double in ('"', "&quot;", "&#34;"):
        for single in ("'", "&#x27;", "&#39;", "&#039;", "&apos;"):
            yield bare.replace('"', double).replace("'", single)
    mustache = html.escape(value, quote=False).replace('"', "&quot;").replace("'", "&#39;")
    yield mustache.replace("/", "&#x2F;").replace("`", "&#x60;").replace("=", "&#x3D;")


def forms(value: str) -> set[str]:
    """Return the spellings under which `value` may turn up: as is, JSON, URL, HTML, hexadecimal, base64, repr.

    Each of them also between quotes, and those between quotes again.
    """
    data = value.encode("utf-8", "surrogatepass")
    found = {
        value,
        *_quoted(value),
        *_url_forms(value),
        *_html_forms(value),
        *(
            written
            for text in (value, html.escape(value), html.escape(value, quote=False))
            for written in _careful_json(text)
        ),
        data.hex(),
        data.hex().upper(),
        repr(data)[2:-1],
        *_base64_forms(data),
        *(line for line in value.splitlines() if len(line) >= 2 * SHORTEST_SEARCHED),
    }
    for _ in range(2):  # JSON in the JSON of an answer, and that in a traceback
        found |= {outer for form in found for outer in _quoted(form)}
    return {form for form in found if len(form) >= SHORTEST_SEARCHED}


_BEGINNING = 64
"""Characters of a form among which its core is looked for; the rest of a key in PEM would only cost time."""


def _by_core(found: set[str]) -> dict[str, list[str]]:
    """Return groups of forms by a text that all of a group have: where it is not, none of them is.

    Forms that a mask may complete, once one stands beside them, have none: they are always looked for.
    """
    pieces = {
        form: [form[at : at + SHORTEST_SEARCHED] for at in range(len(form[:_BEGINNING]) - SHORTEST_SEARCHED + 1)]
        for form in found
    }
    counts = Counter(piece for parts in pieces.values() for piece in set(parts))
    groups: dict[str, list[str]] = {}
    for form, parts in pieces.items():
        core = "" if MASK[0] in form else max(parts, key=lambda piece: (counts[piece], piece))
        groups.setdefault(core, []).append(form)
    return {_longest(core, those): those for core, those in groups.items()}


def _longest(core: str, those: list[str]) -> str:
    """Return a core with what stands around it in all of its forms: a longer text is found faster."""
    if not core:
        return core
    parts = [form.partition(core) for form in those]
    before = _common_beginning([before[::-1] for before, _, _ in parts])[::-1]
    return before + core + _common_beginning([after for _, _, after in parts])


def _common_beginning(texts: list[str]) -> str:
    first, last = min(texts), max(texts)  # whatever these two share, those between them have too
    length = 0
    while length < len(first) and first[length] == last[length]:
        length += 1
    return first[:length]


class Redactor:
    """Replaces every known secret, in any of its forms, by a mask."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: list[str] = []
        self._groups: dict[str, list[str]] = {}
        self._watched: set[str] = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Watch for `secret` from now on; adding it twice changes nothing."""
        value = secret.reveal()
        if value in self._watched:  # a connection is opened for each attempt
            return
        self._watched.add(value)
        new = forms(value) - set(self._forms)
        if new:  # longest first, so that no part of a secret stays beside a mask
            self._forms = sorted({*self._forms, *new}, key=len, reverse=True)
            for core, those in _by_core(new).items():
                self._groups.setdefault(core, []).extend(those)

    def text(self, text: str) -> str:
        """Return `text` with every secret masked."""
        possible = [form for core, those in self._groups.items() if core in text for form in those]
        for form in sorted(possible, key=len, reverse=True):
            if form in text:
                text = text.replace(form, MASK)
        return text

    def unfinished(self, text: str) -> int:
        """Return how many characters at the end of `text` may be the beginning of a secret."""
        longest = 0
        for form in self._forms:
            start = text.find(form[0], max(0, len(text) - len(form) + 1))
            while 0 <= start < len(text) - longest:
                if form.startswith(text[start:]):
                    longest = len(text) - start
                start = text.find(form[0], start + 1)
        return longest

    def value(self, value: Any) -> Any:
        """Return a JSON value with every secret masked, in keys too; containers are copied."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


class Pieces:
    """Masks secrets in a text that comes piece by piece.

    An end that may be the beginning of a secret is held back until it is known whether it is one.
    """

    def __init__(self, redactor: Redactor, show: Callable[[str], None]) -> None:
        self._redactor = redactor
        self._show = show
        self._held = ""

    def add(self, piece: str) -> None:
        """Show what of the text can be shown now that `piece` has come."""
        text = self._redactor.text(self._held + piece)
        kept = self._redactor.unfinished(text)
        self._held = text[len(text) - kept :]
        if shown := text[: len(text) - kept]:
            self._show(shown)

    def end(self) -> None:
        """Show what was held back: nothing more comes."""
        if self._held:
            self._show(self._held)
        self._held = ""


PATTERNS = re.compile(
    r"sk-(?:proj|ant|or|svcacct)?-?[A-Za-z0-9_-]{20,}"
    r"|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|AIza[0-9A-Za-z_-]{35}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|whsec_[A-Za-z0-9+/=]{24,}|-----BEGIN [A-Z ]*KEY-----"
    r"|\bweft_[A-Za-z0-9_-]{43}\b"
)
"""Shapes of well-known credentials, for refusing one that was pasted into a document."""
