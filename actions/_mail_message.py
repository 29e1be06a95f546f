"""A mail as the bytes that are sent, and the last look at them before they go."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, Literal

from weft.sdk import ActionError

from ._mail_address import Mailbox
from ._mail_body import Body
from ._mail_headers import LONGEST_LINE, check_text, refusal, unstructured

Priority = Literal["low", "normal", "high"]


class _Headers(HeaderRegistry):
    """Reads the header of a part once: the same few stand in most mails, and what was read never changes."""

    def __init__(self) -> None:
        super().__init__()
        self._read = lru_cache(maxsize=256)(super().__call__)
        self._kind = lru_cache(maxsize=256)(super().__getitem__)

    def __call__(self, name: str, value: Any) -> Any:
        return self._read(name, value)

    def __getitem__(self, name: str) -> Any:
        return self._kind(name)


# 7bit: every server takes it, and no part is ever re-encoded on the way
_POLICY = policy.SMTP.clone(cte_type="7bit", header_factory=_Headers())
_PART_HEADERS = frozenset(
    ("content-type", "content-transfer-encoding", "content-disposition", "content-id", "mime-version")
)
_CONTENT_TYPE = re.compile(
    r"(?P<main>[a-z]+)/(?P<sub>[a-z0-9][a-z0-9!#$&^_.+-]{0,126})(?:; *charset=(?P<charset>[a-z0-9_-]{1,40}))?"
)
_CONTENT_ID = re.compile(r"[A-Za-z0-9._@+-]{1,120}")
_LINE = re.compile(rb"[!-9;-~]+:[^\r\n]*|[ \t]+[^ \t\r\n][^\r\n]*")
_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_TYPES = mimetypes.MimeTypes(filenames=())  # not this machine's own list: the same mail everywhere


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that travels with the mail."""

    filename: str
    content: bytes
    content_type: str
    content_id: str | None = None  #: under which HTML shows it as a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail whose every part has been checked."""

    sender: Mailbox
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: Mailbox | None = None
    subject: str
    body: Body
    attachments: tuple[Attachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    priority: Priority = "normal"
    message_id: str
    in_reply_to: str | None = None
    repeat: int | None = None  #: the number of the attempt, when an earlier one may have arrived

    @property
    def recipients(self) -> tuple[Mailbox, ...]:
        return (*self.to, *self.cc, *self.bcc)

    @property
    def needs_utf8(self) -> bool:
        """Whether an address has a part that only SMTPUTF8 (RFC 6531) can carry."""
        everyone = (self.sender, *self.recipients, *filter(None, [self.reply_to]))
        return not all(item.local.isascii() for item in everyone)


def filename(text: str, field: str) -> str:
    """Return `text` as a name for a file, without anything that leads out of a directory.

    Raises:
        ActionError: It holds a control character or line separator, or is empty or too long.
    """
    name = re.sub(r'[/\\:*?"<>|]', "_", check_text(text, field, kind="invalid_attachment")).strip(" .")
    if not name or len(name.encode()) > 200:
        raise refusal("A file's name has 1 to 200 bytes.", kind="invalid_attachment", field=field)
    return name


def content_type(text: str | None, field: str, *, name: str, default: str = "application/octet-stream") -> str:
    """Return the media type of an attachment: the given one, or what the file's name says.

    Raises:
        ActionError: It is no media type, or one that makes the mail's own structure.
    """
    if text is None:
        return _TYPES.guess_type(name, strict=False)[0] or default
    parts = _CONTENT_TYPE.fullmatch(check_text(text, field, kind="invalid_attachment").lower())
    if parts is None or parts["main"] in ("multipart", "message"):
        raise refusal(
            "A content type looks like application/pdf; multipart/… and message/… cannot be attached.",
            kind="invalid_attachment",
            field=field,
            remedy="Leave it out, or use application/octet-stream.",
        )
    return parts[0]


def content_id(text: str, field: str) -> str:
    """Return `text` as the name under which HTML may show an attachment: `logo` for `cid:logo`.

    Raises:
        ActionError: It has other characters than letters, digits and `. _ @ + -`.
    """
    if not _CONTENT_ID.fullmatch(text):
        raise refusal(
            "A content id has 1 to 120 letters, digits and . _ @ + -.", kind="invalid_attachment", field=field
        )
    return text


def render(letter: Letter, date: datetime) -> bytes:
    """Return the mail as it is sent, with `CRLF` line ends and without any `Bcc`.

    Raises:
        ActionError: The result, read again, is not what was asked for. Nothing that has passed the checks leads here;
            it guards against faults in them and in the interpreter's library.
    """
    lines = _header(letter, date)
    mime = _mime(letter)
    message = b"".join(f"{line}\r\n".encode() for _, line in lines) + mime.as_bytes(policy=_POLICY)
    _guard(message, [*(name for name, _ in lines), *mime], parts=sum(1 for _ in mime.walk()))
    return message


def _header(letter: Letter, date: datetime) -> list[tuple[str, str]]:
    """The header's fields: name, and the whole folded line."""
    fields = {
        "Date": format_datetime(date),
        "From": str(letter.sender),
        "Reply-To": str(letter.reply_to) if letter.reply_to else "",
        "To": _list(letter.to),
        "Cc": _list(letter.cc),
        "Message-ID": letter.message_id,
        "In-Reply-To": letter.in_reply_to or "",
        "Weft-Possible-Repeat": str(letter.repeat or ""),
    }
    free = [("Subject", letter.subject), *letter.headers]
    if letter.in_reply_to and not any(name.lower() == "references" for name, _ in free):
        fields["References"] = letter.in_reply_to
    if letter.priority != "normal":
        fields["Importance"] = letter.priority
        fields["X-Priority"] = "1" if letter.priority == "high" else "5"
    lines = [(name, f"{name}: {value}") for name, value in fields.items() if value]
    return lines + [(name, unstructured(name, text)) for name, text in free]


def _list(boxes: Sequence[Mailbox]) -> str:
    return ",\r\n ".join(map(str, boxes))


def _mime(letter: Letter) -> EmailMessage:
    mime = EmailMessage(_POLICY)
    mime.set_content(letter.body.text, cte=_transfer(letter.body.text))
    pictures = [item for item in letter.attachments if item.content_id in letter.body.pictures]
    if letter.body.html:
        mime.add_alternative(letter.body.html, subtype="html", cte=_transfer(letter.body.html))
        page = mime.get_body(("html",))
        assert isinstance(page, EmailMessage)  # noqa: S101 - it was added in the line before
        for item in pictures:
            page.add_related(item.content, cid=f"<{item.content_id}>", disposition="inline", **_described(item))
    for item in letter.attachments:
        if item not in pictures:
            mime.add_attachment(item.content, disposition="attachment", **_described(item))
    return mime


def _transfer(text: str) -> str | None:
    """The transfer encoding for `text`: the library's choice, but never bare control characters."""
    return "quoted-printable" if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text.replace("\r\n", "\n")) else None


def _described(item: Attachment) -> dict[str, Any]:
    kind, _, charset = item.content_type.partition(";")
    main, _, sub = kind.partition("/")
    params = {"charset": charset.partition("=")[2]} if charset else {}
    return {"maintype": main, "subtype": sub, "filename": item.filename, "params": params}


def _guard(message: bytes, names: Sequence[str], *, parts: int) -> None:
    head = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
    parsed = BytesParser(policy=policy.compat32).parsebytes(message)
    inner = [[name.lower() for name in part] for part in parsed.walk()][1:]
    sound = (
        all(_LINE.fullmatch(line) and len(line) <= LONGEST_LINE for line in head)
        and not _STRAY.search(message)
        and message.endswith(b"\r\n")
        and parsed.keys() == list(names)
        and len(inner) == parts - 1
        and all(_PART_HEADERS.issuperset(keys) and len(set(keys)) == len(keys) for keys in inner)
    )
    if not sound:
        raise ActionError(
            "The mail would not have had exactly the headers and parts that the step asks for; it was not sent.",
            kind="unsafe_message",
            effect="none",
            remedy="Please report this with the step's arguments.",
        )
