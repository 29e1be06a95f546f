"""The guarded client, against real HTTP and HTTPS servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import importlib
import resource
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from weft.sdk import ActionContext, ActionError, Connection
from weft.testing.http_server import Drip, Flood, HttpServer, Raw, Reply, drop, hang, head, reset

http = importlib.import_module("weft_core.actions._http")
pool = importlib.import_module("weft_core.actions._http_pool")
addresses = importlib.import_module("weft_core.actions._http_address")
answer = importlib.import_module("weft_core.actions._http_answer")

LOOPBACK = http.Rules(private_networks=addresses.networks(["127.0.0.0/8", "::1"]), timeout_s=10)
PUBLIC = "93.184.215.14"


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        yield server


class Barrier:
    """Counts how often the point of no return was reached, and how many requests had arrived by then."""

    def __init__(self, server: HttpServer | None = None) -> None:
        self.server = server
        self.reached: list[int] = []

    async def __call__(self) -> None:
        await asyncio.sleep(0.02)
        self.reached.append(len(self.server.requests) if self.server else 0)


def context(seconds: float = 20, **more: Any) -> ActionContext:
    facts = {
        "run_id": "r1",
        "path": "/call",
        "attempt": 1,
        "started_at": datetime(2026, 11, 22, tzinfo=UTC),
        "idempotency_key": "r1/call",
        "deadline": time.monotonic() + seconds,
        **more,
    }
    return ActionContext(**facts)


async def ask(url: str, given: Any = LOOPBACK, method: str = "GET", **more: Any) -> Any:
    where = more.pop("context", None) or context()
    return await http.exchange(http.Request(method, url, **more), given, where)


async def refused(url: str, given: Any = LOOPBACK, method: str = "GET", **more: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await ask(url, given, method, **more)
    return caught.value


def leading_to(*answers: Sequence[str]) -> tuple[Any, list[str]]:
    """A lookup that gives one answer after the other, and the hosts that it was asked for."""
    asked: list[str] = []

    async def look_up(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return look_up, asked


# -- what is sent and what comes back


async def test_an_exchange(server: HttpServer) -> None:
    """Method, address, headers and body arrive as given; status, headers and body come back as sent."""
    server.script([Reply(201, {"X-Said": "yes"}, b"made")])

    response = await ask(server.url("/a%20b?x=1&x=2"), method="POST", headers={"X-Own": "ä1"}, body=b"\0\xff")

    [request] = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/a%20b?x=1&x=2", b"\0\xff")
    assert request.headers["user-agent"] == "Weft"
    assert request.headers["accept-encoding"] == "gzip"
    assert "content-type" not in request.headers
    assert (response.status, response.headers["x-said"], response.body) == (201, "yes", b"made")


async def test_any_status_is_an_answer(server: HttpServer) -> None:
    """What a status means is for the caller to say."""
    server.script([Reply(500, body=b"no"), Reply(404), Reply(302, {"Location": "/x"}), Reply(204)])
    assert [(await ask(server.url())).status for _ in range(4)] == [500, 404, 302, 204]


async def test_a_compressed_answer(server: HttpServer) -> None:
    """Gzip and deflate are undone."""
    packed = {"gzip": gzip.compress(b"long " * 1000), "deflate": zlib.compress(b"long " * 1000)}
    for encoding, body in packed.items():
        server.script([Reply(200, {"Content-Encoding": encoding}, body)])
        assert (await ask(server.url())).body == b"long " * 1000
    server.script([Reply(200, {"Content-Encoding": "gzip", "Content-Length": "500000000"})])
    assert (await ask(server.url(), method="HEAD")).body == b""


async def test_nothing_comes_from_the_environment(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a proxy nor a netrc file of this machine has any effect."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login decoy password decoy")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("NO_PROXY")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    await ask(server.url())

    assert "authorization" not in server.requests[0].headers


async def test_no_cookie_is_kept(server: HttpServer) -> None:
    """What a server sets is not sent back to it."""
    server.script([Reply(200, {"Set-Cookie": "id=7"})])
    await ask(server.url())
    await ask(server.url())
    assert "cookie" not in server.requests[1].headers


async def test_connections_are_kept_only_for_what_may_be_sent_twice(server: HttpServer) -> None:
    """Reading shares a connection; each request that must not be repeated has its own."""
    for _ in range(3):
        await ask(server.url())
    assert server.connections == 1
    for _ in range(2):
        await ask(server.url(), method="POST")
    assert server.connections == 3
    assert server.requests[-1].headers["connection"] == "close"


async def test_one_exchange_is_one_request(server: HttpServer) -> None:
    """What is lost over a new connection is told; over a kept one, which may have been dead, it is sent once more."""
    server.script([drop, Reply()])
    assert (await refused(server.url())).kind == "lost"
    assert len(server.requests) == 1
    server.script([Reply(), drop, Reply(body=b"third"), drop, drop])
    await ask(server.url())
    assert (await ask(server.url())).body == b"third"
    assert len(server.requests) == 4
    assert (await refused(server.url())).kind == "lost"
    assert len(server.requests) == 6


def test_the_pool_closes_with_its_loop() -> None:
    """Each loop has its own sessions; nothing stays open when it ends."""

    async def once() -> Any:
        async with HttpServer() as server:
            await ask(server.url())
            return pool._open[asyncio.get_running_loop()][0].kept

    first, second = asyncio.run(once()), asyncio.run(once())
    assert first is not second
    assert first.closed
    assert second.closed
    assert not any(loop.is_closed() for loop in pool._open)


# -- addresses

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::10.1.2.3",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:0808:0808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.1",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.1",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.1",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2001:4860:4860::8888",
]


@pytest.mark.parametrize("address", REFUSED)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """Whether a name leads there or it is written outright, no connection is tried."""
    look_up, _ = leading_to([address])
    error = await refused("http://inside.example/", http.Rules(lookup=look_up))
    assert (error.kind, error.effect, error.retryable) == ("address_refused", "none", False)
    literal = address.partition("%")[0]
    url = f"http://[{literal}]/" if ":" in address else f"http://{literal}/"
    assert (await refused(url, http.Rules())).kind == "address_refused"


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_allowed(address: str) -> None:
    """Neighbours of the refused networks, and IPv4 inside IPv6, are public."""
    assert addresses.refused(address) is None


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "0177.0.0.1", "0x7f.0.0.0xa", "127.0.0.1."]
)
async def test_other_spellings_of_an_address(host: str) -> None:
    """However this machine is written, it is not reached."""
    error = await refused(f"http://{host}/", http.Rules(timeout_s=5))
    assert error.kind in {"address_refused", "invalid_url", "unresolved"}
    assert error.effect == "none"


async def test_one_bad_address_refuses_the_name() -> None:
    """A name that leads to a public and to a private address is refused as a whole."""
    look_up, _ = leading_to([PUBLIC, "10.0.0.1"])
    assert (await refused("http://both.example/", http.Rules(lookup=look_up))).kind == "address_refused"


@given(st.ip_addresses())
def test_whatever_the_standard_library_calls_private_is_refused(found: Any) -> None:
    """Our list is no smaller than Python's; naming every network opens everything."""
    if not found.is_global and not getattr(found, "ipv4_mapped", None):
        assert addresses.refused(str(found))
    assert addresses.refused(str(found), addresses.networks(["0.0.0.0/0", "::/0"])) is None


async def test_a_host_is_looked_up_once(server: HttpServer) -> None:
    """A name server that changes its answer after the check gains nothing: the connection goes to what was checked."""
    async with HttpServer("127.0.0.2") as inside:
        look_up, asked = leading_to(["127.0.0.1"], ["127.0.0.2"])
        inside.port = server.port
        given = replace(LOOPBACK, private_networks=addresses.networks(["127.0.0.1"]), lookup=look_up)

        await ask(f"http://rebinding.example:{server.port}/", given, method="POST")
        error = await refused(f"http://rebinding.example:{server.port}/", given, method="POST")

        assert asked == ["rebinding.example"] * 2
        assert len(server.requests) == 1
        assert error.kind == "address_refused"
        assert inside.connections == 0


async def test_a_kept_connection_is_checked_by_the_rules_that_use_it(server: HttpServer) -> None:
    """What one connection may reach, another does not reach by finding the door open."""
    inside, _ = leading_to(["127.0.0.1"])
    outside, _ = leading_to([PUBLIC])
    url = f"http://shared.example:{server.port}/"
    await ask(url, replace(LOOPBACK, lookup=inside))

    error = await refused(url, http.Rules(lookup=outside, timeout_s=2))

    assert error.kind == "address_refused"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "file:///etc/passwd", "//example.com/", "example.com", "", "http://", "http:///x",
        "http://a b/", "http://example.com/\r\nX: 1", "http://user:pw@example.com/", "http://user@example.com/",
        "http://example.com:99999/", "http://[::1/", "http://example.com\\@evil.example/", "https://" + "a" * 20_000,
        "gopher://example.com/", "http://\u2028/", "http://exa\x00mple.com/",
    ],
)  # fmt: skip
async def test_an_address_that_is_none(url: str) -> None:
    """Only whole http(s) addresses without credentials are used."""
    error = await refused(url, http.Rules(lookup=leading_to([PUBLIC])[0]))
    assert (error.kind, error.effect) == ("invalid_url", "none")
    assert "pw" not in str(error)


# -- faults


async def test_nobody_there() -> None:
    """Without a connection nothing was sent, so that any method may be tried again."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        error = await refused(f"http://127.0.0.1:{held.getsockname()[1]}/", method="POST")
    assert (error.kind, error.effect, error.retryable) == ("unreachable", "none", True)


async def test_a_name_that_leads_nowhere() -> None:
    """A name without address is told as that."""

    async def fails(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    for look_up in (fails, leading_to([])[0]):
        error = await refused("http://nowhere.example/", http.Rules(lookup=look_up), method="POST")
        assert (error.kind, error.effect, error.retryable) == ("unresolved", "none", True)


FAULTS: dict[str, tuple[Any, str]] = {
    "hang": (hang, "timeout"),
    "drip": (Drip(), "timeout"),
    "drop": (drop, "lost"),
    "reset": (reset, "lost"),
    "cut": (Raw(head(200, {"Content-Length": "100"}) + b"part"), "incomplete"),
    "cut chunk": (Raw(head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nab"), "incomplete"),
    "garbage": (Raw(b"\x16\x03\x01 220 mail.example ESMTP\r\n\r\n"), "not_http"),
    "long header": (Raw(head(200, {"X": "y" * 100_000})), "not_http"),
    "cut gzip": (Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b"long " * 1000)[:-12]), "encoded"),
    "no gzip": (Reply(200, {"Content-Encoding": "gzip"}, b"plain"), "encoded"),
    "gzip twice": (Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b"a") * 2), "encoded"),
    "unknown encoding": (Reply(200, {"Content-Encoding": "br"}, b"x"), "encoded"),
    "flood": (Flood(200_000_000), "too_large"),
    "told flood": (Flood(200_000_000, told=True), "too_large"),
    "bomb": (Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000))), "too_large"),
}
PASSING = {"timeout", "lost", "incomplete"}


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_says_what_it_leaves_behind(server: HttpServer, name: str, method: str) -> None:
    """After reading nothing has happened; after anything else nobody knows, and only PUT may simply be repeated."""
    fault, kind = FAULTS[name]
    server.script([fault])
    given = replace(LOOPBACK, timeout_s=0.3 if kind == "timeout" else 10, max_bytes=1_000_000)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()

    error = await refused(server.url(), given, method, body=b"x" if method != "GET" else None)

    assert error.kind == kind
    assert error.effect == ("none" if method == "GET" else "unknown")
    assert error.retryable == (kind in PASSING and method != "POST")
    assert time.monotonic() - begun < (0.8 if kind == "timeout" else 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # kilobytes


async def test_a_post_that_may_be_repeated(server: HttpServer) -> None:
    """Where the caller knows that twice is as good as once, a lost POST may be sent again; its effect stays unknown."""
    server.script([drop])
    error = await refused(server.url(), method="POST", repeatable=True)
    assert (error.kind, error.effect, error.retryable) == ("lost", "unknown", True)


async def test_the_deadline_of_the_attempt_comes_first(server: HttpServer) -> None:
    """The exchange ends by itself before the attempt would be cancelled."""
    server.script([hang])
    begun = time.monotonic()
    assert (await refused(server.url(), context=context(0.6))).kind == "timeout"
    assert time.monotonic() - begun < 0.6


async def test_a_cancelled_exchange_closes_its_connection(server: HttpServer) -> None:
    """Whoever stops waiting leaves no connection behind that could be handed to the next request."""
    server.script([hang, Reply(body=b"second")])
    task = asyncio.create_task(ask(server.url()))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert (await ask(server.url())).body == b"second"
    assert server.connections == 2


async def test_the_point_of_no_return(server: HttpServer) -> None:
    """It is reached once, when the connection stands and before anything was sent; reading has none."""
    barrier = Barrier(server)
    for method in ("GET", "HEAD", "OPTIONS"):
        await ask(server.url(), method=method, context=context(barrier=barrier))
    assert barrier.reached == []
    await ask(server.url(), method="POST", context=context(barrier=barrier))
    assert barrier.reached == [3]
    unreachable = replace(LOOPBACK, private_networks=())
    await refused(server.url(), unreachable, method="POST", context=context(barrier=barrier))
    assert barrier.reached == [3]


async def test_a_barrier_that_refuses_keeps_the_request_here(server: HttpServer) -> None:
    """What cannot be put on record is not sent."""

    async def refuse() -> None:
        raise ActionError("not on record", kind="recorded", effect="none")

    assert (await refused(server.url(), method="POST", context=context(barrier=refuse))).kind == "recorded"
    assert server.requests == []


@pytest.mark.parametrize(
    "headers", [{"a b": "x"}, {"": "x"}, {"x": "a\r\nb: c"}, {"x": "a\0"}, {"x": " a"}, {"x": "y" * 40_000}]
)
async def test_headers_that_are_none(server: HttpServer, headers: dict[str, str]) -> None:
    """No header can end its line."""
    error = await refused(server.url(), headers=headers)
    assert (error.kind, error.effect) == ("invalid_header", "none")
    assert server.connections == 0


# -- redirects


async def test_redirects_are_not_followed_unasked(server: HttpServer) -> None:
    """A redirect is an answer like any other."""
    server.script([Reply(307, {"Location": "/elsewhere"})])
    assert (await ask(server.url(), method="POST")).status == 307
    assert len(server.requests) == 1


async def test_redirects_within_the_origin(server: HttpServer) -> None:
    """They keep everything; 303, and 301 and 302 after a POST, go on as GET without the body."""
    server.route("/see-other", Reply(303, {"Location": "moved"}))
    server.route("/moved", Reply(308, {"Location": server.url("/end")}))
    server.script([Reply(body=b"end")])

    response = await ask(
        server.url("/see-other"),
        replace(LOOPBACK, redirects=2),
        "POST",
        headers={"Authorization": "Bearer t", "Content-Type": "text/plain"},
        body=b"b",
    )

    assert response.body == b"end"
    assert response.url.path == "/end"
    assert [(r.method, r.body) for r in server.requests] == [("POST", b"b"), ("GET", b""), ("GET", b"")]
    assert all(request.headers["authorization"] == "Bearer t" for request in server.requests)
    assert "content-type" not in server.requests[1].headers
    server.route("/again", Reply(307, {"Location": "/end"}))
    await ask(server.url("/again"), replace(LOOPBACK, redirects=1), "POST", body=b"b")
    assert (server.requests[-1].method, server.requests[-1].body) == ("POST", b"b")


async def test_a_redirect_to_another_origin_gets_no_credentials(server: HttpServer) -> None:
    """Only what can be no credential goes along."""
    async with HttpServer() as other:
        server.script([Reply(302, {"Location": other.url("/x")})])
        headers = {"Authorization": "Bearer t", "X-Api-Key": "k", "Cookie": "c=1", "Accept": "text/csv"}
        await ask(server.url(), replace(LOOPBACK, redirects=1), headers=headers)
        [request] = other.requests
        assert request.headers["accept"] == "text/csv"
        assert not {"authorization", "x-api-key", "cookie"} & request.headers.keys()


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://169.254.169.254/latest/meta-data/", "address_refused"),
        ("http://10.0.0.1/", "address_refused"),
        ("http://[fd00:ec2::254]/", "address_refused"),
        ("file:///etc/passwd", "redirect"),
        ("http://user:pw@127.0.0.1/", "redirect"),
        ("http://[", "redirect"),
    ],
)
async def test_each_hop_is_checked(server: HttpServer, location: str, kind: str) -> None:
    """A redirect leads nowhere that the address itself could not."""
    server.script([Reply(302, {"Location": location})])
    error = await refused(server.url(), replace(LOOPBACK, redirects=3))
    assert error.kind == kind
    assert len(server.requests) == 1


async def test_a_body_is_not_handed_on(server: HttpServer) -> None:
    """A redirect that would send the same body to another origin is refused; the first server may have acted."""
    async with HttpServer() as other:
        server.script([Reply(307, {"Location": other.url()})])
        error = await refused(server.url(), replace(LOOPBACK, redirects=1), "POST", body=b"b")
        assert (error.kind, error.effect) == ("redirect", "unknown")
        assert other.connections == 0


async def test_a_circle_of_redirects_ends(server: HttpServer) -> None:
    """After as many hops as the rules allow, the redirect itself is the answer."""
    server.script([Reply(302, {"Location": "/"})])
    assert (await ask(server.url(), replace(LOOPBACK, redirects=4))).status == 302
    assert len(server.requests) == 5


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, *names: str, ask_client: bool = False) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(tls)
    if ask_client:
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(tls)
    return tls


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Iterator[Any]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return replace(LOOPBACK, ca_file=str(tmp_path / "ca.pem"))


async def test_an_authority_of_its_own(authority: trustme.CA, trusted: Any) -> None:
    """With `ca_file` a server is trusted; without it, or under another name, it is not."""
    async with HttpServer(tls=serving(authority, "127.0.0.1")) as server:
        assert (await ask(server.url(), trusted)).status == 200
        error = await refused(server.url(), method="POST")
        assert (error.kind, error.effect, error.retryable) == ("certificate", "none", False)
    async with HttpServer(tls=serving(authority, "other.example")) as server:
        assert (await refused(server.url(), trusted)).kind == "certificate"
        assert server.requests == []


async def test_the_certificate_is_checked_for_the_name(authority: trustme.CA, trusted: Any) -> None:
    """The name in the address is what counts, wherever it leads."""
    look_up, _ = leading_to(["127.0.0.1"])
    async with HttpServer(tls=serving(authority, "api.example.com")) as server:
        url = f"https://api.example.com:{server.port}/"
        assert (await ask(url, replace(trusted, lookup=look_up))).status == 200


async def test_a_client_certificate(authority: trustme.CA, trusted: Any, tmp_path: Path) -> None:
    """A server that asks for a certificate gets the connection's, key in the same file or in its own."""
    own = authority.issue_cert("weft@example.com")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    async with HttpServer(tls=serving(authority, "127.0.0.1", ask_client=True)) as server:
        for certificate, key in (("both.pem", None), ("cert.pem", str(tmp_path / "key.pem"))):
            given = replace(trusted, certificate_file=str(tmp_path / certificate), key_file=key)
            assert (await ask(server.url(), given)).status == 200
        assert (await refused(server.url(), trusted)).kind in {"tls", "lost"}
        assert len(server.requests) == 2


async def test_redirects_from_tls(authority: trustme.CA, trusted: Any, server: HttpServer, tmp_path: Path) -> None:
    """They lead to no plain HTTP, and another origin does not get to see the client's certificate."""
    own = authority.issue_cert("weft@example.com")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    given = replace(trusted, certificate_file=str(tmp_path / "own.pem"), redirects=1)
    tls = serving(authority, "127.0.0.1", ask_client=True)
    async with HttpServer(tls=tls) as secure, HttpServer(tls=tls) as other:
        secure.script([Reply(302, {"Location": server.url()}), Reply(302, {"Location": other.url()})])
        assert (await refused(secure.url(), given)).kind == "redirect"
        assert (await refused(secure.url(), given)).kind in {"tls", "lost"}
        assert len(secure.requests) == 2
        assert other.requests == server.requests == []


async def test_a_request_without_credentials_may_be_redirected_to_plain_http(server: HttpServer) -> None:
    """What is left of a request for another origin is not confidential any more."""
    request = http.Request("GET", http.URL(server.url()), {"X-Key": "k"}, confidential=True)
    server.script([Reply(302, {"Location": "http://public.example/"})])
    response = await ask(server.url())
    redirected = http._Exchange(request, LOOPBACK, context())._redirected(response)
    assert (redirected.confidential, redirected.headers) == (False, {})


async def test_certificate_files_that_cannot_be_used(server: HttpServer, tmp_path: Path) -> None:
    """A missing, wrong or locked file is told, and nobody is asked for a password at the terminal."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    lock = serialization.BestAvailableEncryption(b"pw")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    (tmp_path / "locked.pem").write_bytes(trustme.CA().issue_cert("a").cert_chain_pems[0].bytes() + pem)
    (tmp_path / "empty.pem").write_text("")
    for facts in (
        {"ca_file": str(tmp_path / "none.pem")},
        {"ca_file": str(tmp_path / "empty.pem")},
        {"certificate_file": str(tmp_path / "empty.pem")},
        {"certificate_file": str(tmp_path / "locked.pem")},
    ):
        error = await refused(server.url(), replace(LOOPBACK, **facts))
        assert (error.kind, error.effect) == ("bad_certificate_file", "none")


async def test_a_server_without_tls() -> None:
    """A wrong scheme is told as that, and not as a trouble that passes; the other way round it is no HTTP."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        error = await refused(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", method="POST")
    assert (error.kind, error.effect, error.retryable) == ("tls", "none", False)


async def test_credentials_need_tls_to_a_public_address() -> None:
    """Before the first byte: a request with credentials is not sent over plain HTTP to a public address."""
    barrier = Barrier()
    request = http.Request("POST", "http://api.example/", confidential=True)
    current = http._Exchange(request, http.Rules(), context(barrier=barrier))
    with pytest.raises(ActionError) as caught:
        await current.connected(PUBLIC, encrypted=False)
    assert (caught.value.kind, caught.value.effect, barrier.reached) == ("insecure", "none", [])
    await current.connected(PUBLIC, encrypted=True)
    assert barrier.reached == [0]


# -- what a status means


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize(
    ("status", "kind", "retryable", "effect"),
    [
        (302, "redirect", "", "unknown"),
        (400, "invalid_request", "", "none"),
        (401, "authentication", "", "none"),
        (403, "forbidden", "", "none"),
        (404, "not_found", "", "none"),
        (408, "timeout", "GET PUT POST", "none"),
        (409, "conflict", "", "none"),
        (422, "invalid_request", "", "none"),
        (429, "rate_limited", "GET PUT POST", "none"),
        (500, "server_error", "GET PUT", "unknown"),
        (501, "server_error", "", "unknown"),
        (503, "server_error", "GET PUT", "unknown"),
    ],
)
async def test_a_status_that_is_a_refusal(
    server: HttpServer, *, method: str, status: int, kind: str, retryable: str, effect: str
) -> None:
    """A 4xx did nothing; after a 5xx nobody knows, so that only what may be repeated is tried again."""
    server.script([Reply(status, {"Retry-After": "7"}, b"secret words")])
    error = answer.refusal(await ask(server.url(), method=method))
    assert (error.kind, error.status) == (kind, status)
    assert error.retryable == (method in retryable.split())
    assert error.effect == ("none" if method == "GET" else effect)
    assert error.retry_after_s == (7 if status in (429, 503) else None)
    assert "secret" not in str(error)
    assert "Said" not in str(error)


def test_how_long_to_wait() -> None:
    """Retry-After is seconds or a date; anything else says nothing."""
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    wanted = {
        "0": 0.0, "120": 120.0, "Sun, 22 Nov 2026 12:00:30 GMT": 30.0, "Sun, 22 Nov 2026 11:00:00 GMT": 0.0,
        "Sun, 22 Nov 2026 12:00:30 -0000": 30.0, "": None, "soon": None, "-5": None, "1.5": None, "9" * 20: None,
    }  # fmt: skip
    for text, seconds in wanted.items():
        assert answer.retry_after_s({"Retry-After": text}, lambda: now) == seconds


def test_rules_of_a_connection() -> None:
    """A connection's fields are the rules; a network that is none is told before anything is sent."""
    values = {"private_networks": ["10.0.0.0/8", "::1"], "request_timeout_s": 5, "max_response_mb": 0.5, "ca_file": "x"}
    found = http.rules(Connection("c", "http", values), redirects=2)
    assert (found.timeout_s, found.max_bytes, found.ca_file, found.redirects) == (5, 500_000, "x", 2)
    assert len(found.private_networks) == 2
    with pytest.raises(ActionError) as caught:
        http.rules(Connection("c", "http", {"private_networks": ["10.0.0.1/8"]}))
    assert caught.value.kind == "invalid_connection"
