"""Send a mail through the step's SMTP connection."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject, Problem, Variant

from ._mail_address import Mailbox, allows, mailbox, without_repeats
from ._mail_body import Format, body, check_body, check_characters
from ._mail_dkim import Signer, signer
from ._mail_headers import check_message_id, check_name, check_text, refusal
from ._mail_ledger import Entry, Ledger
from ._mail_message import Attachment, Letter, content_id, content_type, filename, render
from ._mail_session import server
from ._mail_smtp import Envelope, Handover, Report

MOST_RECIPIENTS = 100  #: RFC 5321 §4.5.3.1.8: what every server must take in one mail
MOST_ATTACHMENTS = 20
FORMATS: tuple[Format, ...] = get_args(Format)
SOURCES = ("content", "content_base64", "artifact")
MEGABYTE = 1_000_000
SMALL = 20_000  #: characters and bytes of a mail that is put together at once: a thread would cost more
WAITS_S = (60.0, 300.0, 900.0, 3600.0)
"""Before the second try, the third …: what a server asks to try later is rarely ready within seconds (greylisting), and
mostly within hours (RFC 5321 §4.5.4.1)."""

Addresses = Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class File(Model):
    """An attachment as the step describes it: one of `content`, `content_base64` and `artifact`."""

    filename: str
    content: str | None = None
    content_base64: str | None = None
    artifact: str | None = None
    content_type: str | None = None
    content_id: str | None = None


class Arguments(Model):
    to: Addresses
    cc: Addresses | None = None
    bcc: Addresses | None = None
    sender: str | None = Field(None, alias="from")
    reply_to: str | None = None
    subject: str = Field(max_length=998)
    body: str = Field(max_length=1_000_000)
    format: Format = "text"
    attachments: list[File] | None = Field(None, max_length=MOST_ATTACHMENTS)
    headers: dict[str, str] | None = None
    priority: Literal["low", "normal", "high"] = "normal"
    message_id: str | None = None
    in_reply_to: str | None = None
    delivery_reports: list[Report] | None = None
    retries: int = Field(4, ge=0, le=10)


def attempts(arguments: Mapping[str, Json]) -> list[Variant]:
    """Return the one way to send a mail, with its tries and the minutes between them."""
    retries = arguments.get("retries")
    tries = 1 + (retries if isinstance(retries, int) else len(WAITS_S))
    return [Variant("default", tries, waits_s=WAITS_S)]


async def send_email(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Build the mail, hand it over, and report who it was taken for.

    The Message-ID comes from the step's idempotency key, so that every attempt has the same; `Date` is the moment of
    the attempt, which RFC 5322 §3.6.1 asks for.

    Raises:
        ActionError: Nothing was sent (`effect` none), or nobody knows (`effect` unknown, kind `delivery_unknown`), or
            some recipients are to be tried later (kind `recipients_deferred`): the next attempt names only those.
    """
    connection = context.connection
    if connection is None:
        raise ActionError("Send Email needs a connection of type smtp.", kind="connection_missing", effect="none")
    where = server(connection)
    letter = await _letter(arguments, connection, context)
    key = signer(connection, letter.sender.domain)
    small = key is None and len(letter.body.text) + sum(len(item.content) for item in letter.attachments) < SMALL
    message = _signed(letter, key) if small else await asyncio.to_thread(_signed, letter, key)
    _check_size(len(message), connection)
    reports = None if arguments.delivery_reports is None else tuple(dict.fromkeys(arguments.delivery_reports))
    ledger = Ledger.of((item.address for item in letter.recipients), context.previous)
    envelope = Envelope(
        letter.sender.address, ledger.left, message, utf8=letter.needs_utf8, reports=reports, id=letter.message_id
    )
    handover = Handover(where, envelope, context)
    try:
        reply = await handover.run()
    except ActionError as error:
        raise ledger.after(handover.refused, taken=False).noted(error, repeated=context.repeated) from None
    ledger = ledger.after(handover.refused, taken=reply is not None)
    output: JsonObject = {
        "state": "partly_refused" if ledger.missing else "sent",
        "message_id": letter.message_id,
        "accepted": [*ledger.accepted],
        "refused": [{"address": item.address, "code": item.code, "message": item.message} for item in ledger.missing],
        "server_reply": reply or _reply_before(context),
        "size_bytes": len(message),
        "possible_repeat": letter.repeat is not None,
        "delivery_reports": handover.reports,
    }
    if unfinished := _unfinished(ledger, output, context):
        raise ledger.noted(unfinished, repeated=context.repeated)
    context.log("mail accepted", recipients=len(ledger.accepted), refused=len(ledger.missing))
    return output


def _signed(letter: Letter, key: Signer | None) -> bytes:
    now = datetime.now(UTC)
    message = render(letter, now)
    return message if key is None else key.sign(message, now)


def _reply_before(context: ActionContext) -> str:
    """What the server answered when it last took the mail for some, if this attempt found nobody more to take it."""
    outputs = (attempt.details.get("output") for attempt in reversed(context.previous))
    return next((str(output.get("server_reply", "")) for output in outputs if isinstance(output, dict)), "")


def _unfinished(ledger: Ledger, output: JsonObject, context: ActionContext) -> ActionError | None:
    """The error of a step that is not done: nobody has the mail, or some are to be tried once more."""
    if not ledger.accepted:
        first = ledger.missing[0]
        return ActionError(
            f"The server took none of the {len(ledger.missing)} recipients; {_told(first)}.",
            kind="recipients_refused",
            effect="none",
            retryable=bool(ledger.deferred),
            status=first.code,
        )
    if not ledger.deferred or context.attempt >= context.variant.tries:
        return None
    later = ledger.deferred
    return ActionError(
        f"The mail was taken for {len(ledger.accepted)} of {len(ledger.entries)} recipients; the server asks to try"
        f" {len(later)} later: {_told(later[0])}.",
        kind="recipients_deferred",
        effect="none",
        retryable=True,
        status=later[0].code,
        remedy="Nobody who has the mail gets it again: only the others are tried.",
        details={"output": output},
    )


def _told(entry: Entry) -> str:
    return f'{entry.address}: {entry.code} "{entry.message}"'


async def _letter(arguments: Arguments, connection: Connection, context: ActionContext) -> Letter:
    """Check every part and put the mail together."""
    sender = _sender(arguments.sender, connection)
    to, cc, bcc = _recipients(arguments, connection)
    attachments = await _attachments(arguments.attachments or [], connection, context)
    pictures = frozenset(item.content_id for item in attachments if item.content_id)
    return Letter(
        sender=sender,
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=mailbox(arguments.reply_to, "reply_to") if arguments.reply_to is not None else None,
        subject=check_text(arguments.subject, "subject"),
        body=body(arguments.body, "text")
        if arguments.format == "text"
        else await asyncio.to_thread(body, arguments.body, arguments.format, pictures),
        attachments=attachments,
        headers=_headers(arguments.headers or {}),
        priority=arguments.priority,
        message_id=_message_id(arguments.message_id, sender, context),
        in_reply_to=_maybe(arguments.in_reply_to, "in_reply_to"),
        repeat=context.attempt if context.repeated else None,
    )


def _sender(given: str | None, connection: Connection) -> Mailbox:
    """The step's sender if the connection lets it be used, else the connection's own."""
    own = connection.get("from")
    default = mailbox(own, "from") if own else None
    if given is None:
        if default is None:
            raise refusal(
                f"The step has no `from`, and the connection {connection.name!r} has none either.",
                kind="invalid_address",
                field="from",
                remedy="Give the connection a sender.",
            )
        return default
    sender = mailbox(given, "from")
    if (default and sender.key == default.key) or allows(connection.get("allow_from", []), sender):
        return sender
    raise refusal(
        f"The connection {connection.name!r} does not allow mail from {sender.address}.",
        kind="sender_not_allowed",
        field="from",
        remedy="Leave `from` out, or add the address or its domain to the connection's `allow_from`.",
    )


def _recipients(arguments: Arguments, connection: Connection) -> tuple[tuple[Mailbox, ...], ...]:
    """To, cc and bcc, each address in the first of them only."""
    groups = [_mailboxes(name, getattr(arguments, name)) for name in ("to", "cc", "bcc")]
    if sum(map(len, groups)) > MOST_RECIPIENTS:
        raise _too_many(sum(map(len, groups)))
    allowed = connection.get("allowed_recipient_domains")
    for item in (item for group in groups for item in group):
        if allowed is not None and not allows(allowed, item):
            raise refusal(
                f"The connection {connection.name!r} does not allow mail to {item.domain}.",
                kind="recipient_not_allowed",
                field="to",
                remedy="Add the domain to the connection's `allowed_recipient_domains`.",
            )
    return without_repeats(*groups)


def _too_many(count: int) -> ActionError:
    return refusal(
        f"A mail has at most {MOST_RECIPIENTS} recipients; this one has {count}.",
        kind="invalid_address",
        field="to",
        remedy="Repeat the step with `for_each`.",
    )


def _mailboxes(name: str, value: str | list[str] | None) -> tuple[Mailbox, ...]:
    return tuple(mailbox(text, field) for field, text in _texts(name, value))


def _texts(name: str, value: Json | list[str]) -> Iterator[tuple[str, str]]:
    """Each address of a parameter that takes one or several, with the field it stands in."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        yield from ((f"{name}[{at}]", item) for at, item in enumerate(value) if isinstance(item, str))


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    seen = {"importance", "x-priority"}  # the parameter `priority` makes these
    for name, text in headers.items():
        _header(name, text)
        if name.lower() in seen:
            raise refusal(f"The header {name!r} is set twice.", kind="invalid_header", field=f"headers.{name}")
        seen.add(name.lower())
    return tuple(headers.items())


def _header(name: str, text: str) -> None:
    check_name(name, "headers")
    check_text(text, f"headers.{name}")


def _message_id(given: str | None, sender: Mailbox, context: ActionContext) -> str:
    if given is not None:
        return check_message_id(given, "message_id")
    digest = hashlib.sha256(context.step_key.encode()).hexdigest()[:40]
    return f"<{digest}@{sender.domain}>"


def _maybe(given: str | None, field: str) -> str | None:
    return None if given is None else check_message_id(given, field)


async def _attachments(files: list[File], connection: Connection, context: ActionContext) -> tuple[Attachment, ...]:
    found: list[Attachment] = []
    _check_ids(file.content_id for file in files)
    for at, file in enumerate(files):
        field = f"attachments[{at}]"
        content = await _content(file, field, context)
        found.append(_attachment(file.model_dump(exclude_none=True), field, content))
        _check_size(sum(len(item.content) for item in found), connection)
    return tuple(found)


async def _content(file: File, field: str, context: ActionContext) -> bytes:
    _check_source(file.model_dump(exclude_none=True), field)
    if file.content is not None:
        return check_characters(file.content, f"{field}.content", kind="invalid_attachment").encode()
    if file.content_base64 is not None:
        return _decoded(file.content_base64, f"{field}.content_base64")
    if context.artifacts is None:
        raise refusal("This run keeps no artifacts.", kind="invalid_attachment", field=f"{field}.artifact")
    return await context.artifacts.read(file.artifact or "")


def _attachment(file: Mapping[str, Json], field: str, content: bytes = b"") -> Attachment:
    """The attachment, its description checked."""
    name = filename(str(file["filename"]), f"{field}.filename")
    given, identifier = file.get("content_type"), file.get("content_id")
    text = "content" in file
    kind = content_type(
        None if given is None else str(given),
        f"{field}.content_type",
        name=name,
        default="text/plain" if text else "application/octet-stream",
    )
    return Attachment(
        name,
        content,
        f"{kind}; charset=utf-8" if text and kind.startswith("text/") and "charset" not in kind else kind,
        None if identifier is None else content_id(str(identifier), f"{field}.content_id"),
    )


def _check_ids(identifiers: Iterable[Json]) -> None:
    given = [identifier for identifier in identifiers if identifier is not None]
    if len(set(map(str, given))) < len(given):
        raise refusal("Two attachments have the same content id.", kind="invalid_attachment", field="attachments")


def _check_source(file: Mapping[str, Json], field: str) -> None:
    given = [name for name in SOURCES if name in file]
    if len(given) != 1:
        raise refusal(
            f"An attachment has exactly one of content, content_base64 and artifact; this one has {len(given)}.",
            kind="invalid_attachment",
            field=field,
        )


def _decoded(text: str, field: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise refusal("This is not base64.", kind="invalid_attachment", field=field) from None


def _check_size(size: int, connection: Connection) -> None:
    limit = connection.get("max_message_mb", 25)
    if size > limit * MEGABYTE:
        raise refusal(
            f"The mail has {size / MEGABYTE:.1f} MB; the connection {connection.name!r} allows {limit} MB.",
            kind="too_large",
            field="attachments",
            remedy="Send less, or raise the connection's `max_message_mb`.",
        )


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the arguments that are known."""
    for rule in _rules(arguments):
        try:
            rule()
        except ActionError as error:
            yield from error.problems


def _rules(arguments: Mapping[str, Json]) -> Iterator[Callable[[], object]]:
    """The checks that apply, each on a value that is there and whole."""
    boxes = [pair for name in ("to", "cc", "bcc") for pair in _texts(name, arguments.get(name))]
    if len(boxes) > MOST_RECIPIENTS:
        yield lambda: _raise(_too_many(len(boxes)))
    single = [pair for name in ("from", "reply_to") for pair in _texts(name, arguments.get(name))]
    yield from (_rule(mailbox, text, field) for field, text in (*boxes, *single))
    for field, text in _texts("subject", arguments.get("subject")):
        yield _rule(check_text, text, field)
    if (form := arguments.get("format", "text")) in FORMATS:
        yield from (_rule(check_body, text, form) for _, text in _texts("body", arguments.get("body")))
    for name in ("message_id", "in_reply_to"):
        yield from (_rule(check_message_id, text, field) for field, text in _texts(name, arguments.get(name)))
    if isinstance(headers := arguments.get("headers"), dict):
        yield lambda: _headers({name: text for name, text in headers.items() if isinstance(text, str)})
    if isinstance(files := arguments.get("attachments"), list):
        yield lambda: _check_ids(file.get("content_id") for file in files if isinstance(file, dict))
        for at, file in enumerate(files):
            if isinstance(file, dict) and isinstance(file.get("filename"), str):
                yield from _file_rules(file, f"attachments[{at}]")


def _file_rules(file: Mapping[str, Json], field: str) -> Iterator[Callable[[], object]]:
    given = {name: value for name, value in file.items() if value is not None}
    yield lambda: _check_source(given, field)
    yield lambda: _attachment(given, field)
    if isinstance(text := given.get("content"), str):
        yield lambda: check_characters(text, f"{field}.content", kind="invalid_attachment")
    if isinstance(encoded := given.get("content_base64"), str):
        yield _rule(_decoded, encoded, f"{field}.content_base64")


def _rule(function: Callable[[str, Any], object], text: str, field: str) -> Callable[[], object]:
    return lambda: function(text, field)


def _raise(error: ActionError) -> None:
    raise error
