"""One HTTP request to another system and its answer, under rules that hold whatever the author or the server says.

    response = await exchange(Request("POST", url, headers, body), rules(connection), context)

- A host is looked up once and the connection goes to exactly what was found, after all of it was checked; what was
  connected to is checked again. Addresses that are not public are refused unless the rules name their network.
- The whole exchange has one deadline and one limit to what is read, counted before and after decompression.
- Nothing comes from the environment: no proxy, no netrc. No cookies are kept, no redirect is followed unasked.
- Every fault says whether the request may have reached the server: until the connection stands nothing was sent.

Kinds of errors before anything was sent: `invalid_url`, `invalid_header`, `unresolved`, `address_refused`, `insecure`,
`unreachable`, `certificate`, `tls`, `bad_certificate_file`, `timeout`. After that: `timeout`, `lost`, `incomplete`,
`too_large`, `not_http`, `encoded`, `redirect`. `_http_answer.py` tells what a status means.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection

from . import _http_pool as _pool
from ._http_address import Network, networks, public, refused

MEGABYTE: Final = 1_000_000
MARGIN_S: Final = 0.25  #: before the attempt's deadline, to tell what is known rather than be cancelled
LONGEST_URL: Final = 16_384
LONGEST_HEADERS: Final = 32_768
CHUNK: Final = 65_536
USER_AGENT: Final = "Weft"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
IDEMPOTENT: Final = SAFE | {"PUT", "DELETE"}  # RFC 9110 §9.2.2
FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
KEPT_ELSEWHERE: Final = frozenset({"accept", "accept-language", "user-agent"})
"""The only headers that go along to another origin: any other may be a credential."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_BARRED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLANK = re.compile(r"[\x00-\x20\x7f\\]")

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""From host and port to addresses."""


async def _look_up(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Rules:
    """Where requests may go, whom they trust, and how long and how much is read."""

    private_networks: tuple[Network, ...] = ()  #: the only addresses, of those that are not public, to connect to
    ca_file: str | None = None  #: the only authorities to trust; None: those of this machine
    certificate_file: str | None = None  #: of ours, for servers that ask for one
    key_file: str | None = None  #: None: the key stands in `certificate_file`
    timeout_s: float = 60.0
    max_bytes: int = 10 * MEGABYTE
    redirects: int = 0  #: how many are followed
    lookup: Lookup = _look_up
    may: Callable[[URL], bool] = lambda url: True  #: whether a redirect may be followed there


def rules(connection: Connection, *, redirects: int = 0) -> Rules:
    """Return what a connection says; a type declares those of these fields that it offers.

    The fields are `private_networks`, `ca_file`, `client_certificate_file`, `client_key_file`, `request_timeout_s` and
    `max_response_mb`.

    Raises:
        ActionError: `private_networks` names something else than networks.
    """
    try:
        private = networks(connection.get("private_networks", []))
    except ValueError:
        raise ActionError(
            f"`private_networks` of connection {connection.name!r} holds something that is no network.",
            kind="invalid_connection",
            effect="none",
            remedy="Write networks or addresses such as 10.20.0.0/16 or 127.0.0.1.",
        ) from None
    return Rules(
        private_networks=private,
        ca_file=connection.get("ca_file"),
        certificate_file=connection.get("client_certificate_file"),
        key_file=connection.get("client_key_file"),
        timeout_s=float(connection.get("request_timeout_s", 60)),
        max_bytes=int(connection.get("max_response_mb", 10) * MEGABYTE),
        redirects=redirects,
    )


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    method: str
    url: URL | str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    confidential: bool = False  #: carries credentials: goes over TLS, or to an address that is not public
    harmless: bool = False  #: it only reads, whatever its method
    repeatable: bool | None = None  #: twice has the effect of once; None: as the method says (RFC 9110 §9.2.2)

    @property
    def safe(self) -> bool:
        return self.harmless or self.method in SAFE

    @property
    def may_repeat(self) -> bool:
        return self.safe or (self.method in IDEMPOTENT if self.repeatable is None else self.repeatable)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes  #: decompressed
    links: Mapping[str, str]  #: of the header Link: relation → address
    url: URL  #: that answered, after redirects
    request: Request  #: as it was sent to `url`


def host_of(url: URL) -> str:
    """Return how messages call the server: path and query may be secret, so they stand in none."""
    default = {"http": 80, "https": 443}.get(url.scheme)
    name = f"[{url.host}]" if ":" in (url.host or "") else str(url.host)
    return name if url.port == default else f"{name}:{url.port}"


def address(text: URL | str) -> URL:
    """Return the address of a request, without its fragment.

    Raises:
        ActionError: It is not an http(s) address that requests can go to.
    """
    if isinstance(text, str) and (_BLANK.search(text) or len(text) > LONGEST_URL):
        raise _bad_url("The address holds blanks, control characters or backslashes, or is too long.")
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except ValueError:
        usable = False
    if not usable:
        raise _bad_url("This is not an http(s) address.")
    if url.raw_user is not None or url.raw_password is not None:
        raise _bad_url("The address holds a user name or a password.", "Credentials belong to the connection.")
    return url.with_fragment(None)


def _bad_url(message: str, remedy: str = "Write it like https://api.example.com/items.") -> ActionError:
    return ActionError(message, kind="invalid_url", effect="none", remedy=remedy)


async def exchange(request: Request, given: Rules, context: ActionContext) -> Response:
    """Send `request` and return the answer, whatever its status.

    `point_of_no_return()` is awaited, for methods that are not safe, when the connection stands and nothing was sent.

    Raises:
        ActionError: There is no whole answer. `effect` is `unknown` only when the request may have arrived and its
            method is not safe; `retryable` then only when it may be repeated.
    """
    current = _Exchange(replace(request, url=address(request.url)), given, context)
    check_headers(request.headers)
    token = _pool.current.set(current)
    seconds = max(0.0, min(given.timeout_s, context.remaining_s() - MARGIN_S))
    try:
        async with asyncio.timeout(seconds):
            return await current.run()
    except TimeoutError:
        message = f"{current.host} has not answered in full within {seconds:.3g} s."
        raise current.fault("timeout", message, retryable=True) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise current.translated(error) from None
    finally:
        _pool.current.reset(token)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that cannot be written.

    Raises:
        ActionError: A name is no word, or a value could end its line (`invalid_header`).
    """
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _BARRED.search(value) or value != value.strip():
            raise ActionError(
                f"The header {name[:100]!r} cannot be sent: its name or its value holds characters that are not allowed.",
                kind="invalid_header",
                effect="none",
                remedy="Names are single words; values have no line breaks or control characters, and no blanks around.",
            )
    if sum(len(name) + len(value) for name, value in headers.items()) > LONGEST_HEADERS:
        raise ActionError("The headers are too long to be sent.", kind="invalid_header", effect="none")


class _Exchange:
    """The state of one exchange: where it is, and whether something that is not safe may have arrived."""

    def __init__(self, request: Request, given: Rules, context: ActionContext) -> None:
        self.request = request
        self.rules = given
        self.kept = False  #: the connection has served a request before
        self._unsafe_sent = False
        self._may_repeat = request.may_repeat
        self._context = context

    @property
    def url(self) -> URL:
        return URL(self.request.url)

    @property
    def host(self) -> str:
        return host_of(self.url)

    async def run(self) -> Response:
        """Send the request, and again to where redirects lead as far as the rules follow them."""
        for _ in range(self.rules.redirects):
            response = await self._send()
            if response.status not in FOLLOWED or hdrs.LOCATION not in response.headers:
                return response
            self.request = self._redirected(response)
        return await self._send()

    async def _send(self) -> Response:
        self._check_literal()
        files = (self.rules.ca_file, self.rules.certificate_file, self.rules.key_file)
        trust = await asyncio.to_thread(_pool.trust, *files)
        sessions = await _pool.sessions()
        headers = CIMultiDict({hdrs.USER_AGENT: USER_AGENT, hdrs.ACCEPT: "*/*"})
        headers.update(self.request.headers)
        headers[hdrs.ACCEPT_ENCODING] = "gzip"
        # A kept connection may be dead without our knowing. What must not be sent twice goes over a new one, so that
        # a fault of the old one never leaves a doubt; all else aiohttp sends once more over a new one.
        session = sessions.kept if self.request.method in IDEMPOTENT else sessions.fresh
        async with session.request(
            self.request.method,
            self.url,
            headers=headers,
            data=self.request.body,
            allow_redirects=False,
            ssl=trust,
        ) as response:
            body = await self._read(response)
            return Response(
                response.status,
                response.headers,
                body,
                _links(response),
                self.url,
                self.request,
            )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body within the limit; a little of it may become a lot, so both are counted."""
        if self.request.method != "HEAD" and (response.content_length or 0) > self.rules.max_bytes:
            raise self._too_large()
        unpack = self._unpacking(response.headers.get(hdrs.CONTENT_ENCODING, ""))
        body, received = bytearray(), 0
        async for chunk in response.content.iter_chunked(CHUNK):
            received += len(chunk)
            body += chunk if unpack is None else self._unpacked(unpack, chunk, self.rules.max_bytes + 1 - len(body))
            if max(received, len(body)) > self.rules.max_bytes:
                raise self._too_large()
        if unpack is not None and received and not unpack.eof:
            raise self._undecoded()
        return bytes(body)

    def _unpacking(self, encoding: str) -> Any:
        match encoding.strip().lower():
            case "" | "identity":
                return None
            case "gzip" | "x-gzip":
                return zlib.decompressobj(zlib.MAX_WBITS | 16)
            case "deflate":
                return zlib.decompressobj()
            case _:
                raise self._undecoded()

    def _unpacked(self, unpack: Any, chunk: bytes, most: int) -> bytes:
        try:
            data: bytes = unpack.decompress(chunk, most)
        except zlib.error:
            raise self._undecoded() from None
        if unpack.unused_data:
            raise self._undecoded()
        return data

    def _too_large(self) -> ActionError:
        return self.fault(
            "too_large",
            f"The answer of {self.host} is larger than {self.rules.max_bytes:,} bytes.",
            "Ask for less, or raise the connection's `max_response_mb`.",
        )

    def _undecoded(self) -> ActionError:
        return self.fault("encoded", f"The answer of {self.host} is compressed in a way that cannot be undone.")

    def _redirected(self, response: Response) -> Request:
        """Return the request that a redirect asks for (RFC 9110 §15.4), without credentials for another origin."""
        try:
            url = address(self.url.join(URL(response.headers[hdrs.LOCATION])))
        except (ValueError, ActionError):
            raise self._no_redirect("to no http(s) address") from None
        if not self.rules.may(url):
            raise self.fault(
                "host_not_allowed",
                f"{self.host} redirects the request to {host_of(url)}, where the connection may not be used.",
                "Add the host to the connection's `allowed_hosts` if requests may go there.",
            )
        request = self.request
        if response.status == 303 or (response.status in (301, 302) and request.method == "POST"):
            plain = {name: text for name, text in request.headers.items() if not name.lower().startswith("content-")}
            request = replace(request, method="HEAD" if request.method == "HEAD" else "GET", headers=plain, body=None)
        if url.origin() == self.url.origin():
            return replace(request, url=url)
        if self.url.scheme == "https" and url.scheme == "http":
            raise self._no_redirect("from TLS to a connection that everybody can read")
        if request.method not in SAFE:
            raise self._no_redirect(f"with everything it was sent to {host_of(url)}")
        self.rules = replace(self.rules, certificate_file=None, key_file=None)
        kept = {name: text for name, text in request.headers.items() if name.lower() in KEPT_ELSEWHERE}
        return replace(request, url=url, headers=kept, confidential=False)

    def _no_redirect(self, where: str) -> ActionError:
        return self.fault("redirect", f"{self.host} redirects the request {where}, which is refused.")

    def _check_literal(self) -> None:
        """Check a host that is an address: no lookup sees it."""
        with contextlib.suppress(ValueError):
            self.check_address(str(self.url.host))

    def check_address(self, found: str) -> None:
        """Refuse an address that the rules do not allow."""
        if what := refused(found, self.rules.private_networks):
            raise self.fault(
                "address_refused",
                f"{self.host} leads to {found}, which is not a public address ({what}).",
                "If this is meant, add the address or its network to the connection's `private_networks`.",
            )

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Look a host up, once, and refuse it unless every address is allowed."""
        found = await self.rules.lookup(host, port)
        for item in found:
            self.check_address(item)
        return found

    async def connected(self, peer: str, *, encrypted: bool) -> None:
        """Check where the connection has gone, and tell the run that from now on the request may arrive."""
        self.check_address(peer)
        if self.request.confidential and not encrypted and public(peer):
            raise self.fault(
                "insecure",
                f"The request carries credentials, and {self.host} would be spoken to without TLS.",
                "Use an https address.",
            )
        if not self.request.safe:
            await self._context.point_of_no_return()
            self._unsafe_sent = True

    def fault(self, kind: str, message: str, remedy: str | None = None, *, retryable: bool = False) -> ActionError:
        """Return the error of this exchange, with what it leaves behind; `retryable` is for what may pass by itself."""
        effect: Literal["none", "unknown"] = "unknown" if self._unsafe_sent else "none"
        told = f"{message} The request may have arrived." if self._unsafe_sent else message
        may = retryable and (self._may_repeat or not self._unsafe_sent)
        return ActionError(told, kind=kind, remedy=remedy, retryable=may, effect=effect)

    def translated(self, error: Exception) -> ActionError:
        """Return the error that stands for one of aiohttp's; its text may hold anything and is left out."""
        host = self.host
        match error:
            case aiohttp.ClientConnectorCertificateError():
                message = f"The certificate of {host} is not one that is trusted for this name."
                return self.fault("certificate", message, "A server with an authority of its own needs `ca_file`.")
            case aiohttp.ClientSSLError() | ssl.SSLError():
                return self.fault("tls", f"No TLS connection to {host} could be agreed on.", "Check address and port.")
            case aiohttp.ClientConnectorDNSError():
                return self.fault("unresolved", f"No address was found for {host}.", "Check the name.", retryable=True)
            case aiohttp.ClientConnectorError():
                return self.fault(
                    "unreachable", f"{host} cannot be reached.", "Check address and port.", retryable=True
                )
            case aiohttp.InvalidURL():
                return self.fault("invalid_url", "This is not an http(s) address.", "Correct the address.")
            case aiohttp.ClientPayloadError():
                return self.fault("incomplete", f"The answer of {host} broke off.", retryable=True)
            case aiohttp.ClientResponseError():
                return self.fault("not_http", f"What {host} answered is not HTTP.", "Check address and port.")
            case aiohttp.ClientError() | OSError():
                return self.fault("lost", f"The connection to {host} was lost.", retryable=True)
        return self.fault("invalid_request", "This request cannot be written as HTTP.")


def _links(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    try:
        return {str(rel): str(link["url"]) for rel, link in response.links.items() if "url" in link}
    except ValueError:  # an address in them is none
        return {}
