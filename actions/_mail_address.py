"""One mailbox from one text, so that an address made from data is never two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import idna

from weft.sdk import ActionError

from ._mail_headers import check_text, encoded, is_plain, refusal

_NAMED = re.compile(r"(?P<name>.*?) *<(?P<address>[^<>]*)>", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a0-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Somebody's address, with the name to show beside it."""

    name: str
    local: str
    domain: str  #: ASCII; an international name in its encoded form

    @property
    def address(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The same text for every spelling of the address that people take for the same."""
        return self.address.casefold()

    def __str__(self) -> str:
        """The mailbox as it is written in a header."""
        if not self.name:
            return self.address
        if _PHRASE.fullmatch(self.name) and is_plain(self.name):
            return f"{self.name} <{self.address}>"
        if is_plain(self.name):
            quoted = self.name.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{quoted}" <{self.address}>'
        return f"{encoded(self.name)}\r\n <{self.address}>"


def mailbox(text: str, field: str) -> Mailbox:
    """Return the one mailbox that `text` names: `ada@example.com` or `Ada <ada@example.com>`.

    A name with one of `, ; : < > @` must stand in double quotes, so that a list in a text is never read as a name.

    Raises:
        ActionError: The text is not exactly one mailbox.
    """
    bare = check_text(text, field, kind="invalid_address").strip(" ")
    named = _NAMED.fullmatch(bare)
    name, address = (named["name"], named["address"].strip(" ")) if named else ("", bare)
    local, at, domain = address.rpartition("@")
    if not at or re.search(r'[\s,;:<>()\[\]"\\@]', local + domain):
        raise _wrong(
            "This is not exactly one mail address.",
            field,
            "Write ada@example.com or Ada <ada@example.com>; for several give a list, one address in each item.",
        )
    if not _LOCAL.fullmatch(local) or len(local.encode()) > 64 or "=?" in local:
        raise _wrong("The part before the @ is not one that a mailbox can have.", field)
    return Mailbox(_name(name, field), local, _domain(domain, field))


def _name(text: str, field: str) -> str:
    if quoted := _QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", r"\1", quoted[1]).strip(" ")
    if re.search(r'[,;:<>@"]', text):
        raise _wrong("A name with one of , ; : < > @ must stand in double quotes.", field)
    return text


def _domain(text: str, field: str) -> str:
    """Return `text` as a host name in ASCII (IDNA 2008, RFC 5891); the standard library has only the rules of 2003."""
    try:
        domain = idna.encode(text, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        raise _wrong("The part after the @ is not a domain.", field) from None
    if len(domain) > 253 or domain.endswith("."):
        raise _wrong("The part after the @ is not a domain.", field)
    return domain


def _wrong(message: str, field: str, remedy: str | None = None) -> ActionError:
    return refusal(message, kind="invalid_address", field=field, remedy=remedy)


def without_repeats(*groups: Iterable[Mailbox]) -> tuple[tuple[Mailbox, ...], ...]:
    """Return the groups without the addresses that stand in them, or before them, already."""
    seen: set[str] = set()
    return tuple(tuple(item for item in group if not (item.key in seen or seen.add(item.key))) for group in groups)  # type: ignore[func-returns-value]


def allows(rules: Iterable[str], item: Mailbox) -> bool:
    """Whether one of `rules` covers the mailbox: an address, a domain, `*.domain` for those below it, or `*`."""
    return any(rule == "*" or _covers(rule, item) for rule in rules)


def _covers(rule: str, item: Mailbox) -> bool:
    local, at, named = rule.strip().rpartition("@")
    below = named.startswith("*.") and not at
    try:
        domain = _domain(named[2:] if below else named, "rule")
    except ActionError:  # a rule that is no domain covers nothing
        return False
    if at:
        return f"{local}@{domain}".casefold() == item.key
    return item.domain.endswith(f".{domain}") if below else item.domain == domain
