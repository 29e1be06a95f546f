"""What may stand in the header of a mail, and how it is written there.

The rules and the writing are our own. Several releases of the standard library turn a line break that is hidden in an
encoded word into a real one, and with it a subject into a `Bcc` (CVE-2024-6923, CVE-2026-1299); nothing here depends on
which release runs.
"""

from __future__ import annotations

import base64
import binascii
import re

from weft.sdk import ActionError, Where

LONGEST_LINE = 998  #: octets without the line's end, RFC 5322 §2.1.1
LINE = 78  #: where a line should be folded, the same section

_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ENCODED_WORD = re.compile(r"=\?([^?]*)\?([bq])\?(.*?)\?=", re.IGNORECASE | re.DOTALL)
_PLAIN = re.compile(r"[!-~]{1,76}(?: [!-~]{1,76})*")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")  # ftext, RFC 5322 §2.2
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_OURS = re.compile(
    r"(?:from|sender|reply-to|to|cc|bcc|subject|date|message-id|in-reply-to|received|return-path|delivered-to"
    r"|authentication-results|dkim-signature|(?:resent|content|mime|arc|weft|x-envelope)-.*)",
    re.IGNORECASE,
)


def refusal(message: str, *, kind: str, field: str, remedy: str | None = None) -> ActionError:
    """Return the error for an argument that no mail can be made of; nothing has happened yet."""
    return ActionError(message, kind=kind, effect="none", where=Where(field=field), remedy=remedy)


def check_text(text: str, field: str, *, kind: str = "invalid_header") -> str:
    """Return `text` if it may stand in a header, also when a reader decodes the encoded words in it.

    Raises:
        ActionError: It holds a control character, a line separator or half a character, openly or encoded, or it is
            too long.
    """
    if len(text) > LONGEST_LINE:
        raise refusal(
            f"A header holds at most {LONGEST_LINE} characters; this one has {len(text)}.",
            kind=kind,
            field=field,
            remedy="Shorten it, or put the text into the body.",
        )
    for shape, seen in (("", text), (" inside an encoded word", _decoded(text, field, kind))):
        if found := _FORBIDDEN.search(seen):
            raise refusal(
                f"A header is one line of text; this one has the character U+{ord(found[0]):04X}{shape}.",
                kind=kind,
                field=field,
                remedy="Take out line breaks and control characters.",
            )
    return text


def _decoded(text: str, field: str, kind: str) -> str:
    """Return `text` as a generous reader would show it: encoded words decoded, also those inside others."""
    for _ in range(4):
        try:
            decoded = _ENCODED_WORD.sub(lambda word: _word(*word.groups()), text)
        except (LookupError, ValueError):  # an unknown charset; bytes that do not fit it
            decoded = None
        if decoded == text:
            return text
        if decoded is None:
            break
        text = decoded
    raise refusal(
        "The text holds an encoded word (=?charset?…?=) that cannot be read.",
        kind=kind,
        field=field,
        remedy="Write the text itself; it is encoded when it is sent.",
    )


def _word(charset: str, encoding: str, payload: str) -> str:
    data = payload.encode()
    if encoding in "bB":
        digits = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        data = base64.b64decode(digits + b"=" * (-len(digits) % 4))
    else:
        data = binascii.a2b_qp(data, header=True)
    line_break = "\n" if b"\n" in data or b"\r" in data else ""  # whatever the charset makes of it
    return data.decode(charset.partition("*")[0]) + line_break


def check_name(name: str, field: str) -> str:
    """Return `name` if an author may set a header of this name.

    Raises:
        ActionError: It is no field name, or one that is made from other parameters or by mail servers.
    """
    if not _FIELD_NAME.fullmatch(name):
        raise refusal(
            "A header's name has 1 to 76 characters, ASCII without spaces and colons.",
            kind="invalid_header",
            field=field,
        )
    if _OURS.fullmatch(name):
        raise refusal(
            f"The header {name!r} cannot be set here.",
            kind="invalid_header",
            field=field,
            remedy="Use the parameter of that name, if there is one; the others belong to mail servers.",
        )
    return name


def check_message_id(text: str, field: str) -> str:
    """Return `text` as a message id in angle brackets.

    Raises:
        ActionError: It is not one.
    """
    bare = check_text(text, field).strip(" ")
    identifier = bare if bare.startswith("<") else f"<{bare}>"
    if not _MESSAGE_ID.fullmatch(identifier) or "=?" in identifier or len(identifier) > 250:
        raise refusal(
            "A message id looks like <name@domain>: ASCII, no spaces, at most 250 characters.",
            kind="invalid_header",
            field=field,
        )
    return identifier


def is_plain(text: str) -> bool:
    """Whether `text` may be written as it is: ASCII words with single spaces, nothing that reads as encoded."""
    return _PLAIN.fullmatch(text) is not None and "=?" not in text


def encoded(text: str) -> str:
    """Return `text` as encoded words on lines of their own (RFC 2047), no character split between two."""
    words, part = [], b""
    for character in text:
        octets = character.encode()
        if len(part) + len(octets) > 45:  # 60 characters of base64; a word has at most 75
            words.append(part)
            part = b""
        part += octets
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in (*words, part))


def unstructured(name: str, text: str) -> str:
    """Return the header line for free text, folded; a reader gets back exactly `text`."""
    if not text:
        return f"{name}:"
    if not is_plain(text):
        return f"{name}: {encoded(text)}"
    lines = [f"{name}:"]
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > LINE:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)
