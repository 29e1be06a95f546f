"""HTTP Request, against real HTTP servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from weft import arguments, packs
from weft.errors import InvalidArguments
from weft.redaction import Redactor, forms
from weft.registry import Action
from weft.sdk import ActionContext, ActionError, Connection, JsonObject, Known, Secret
from weft.testing.http_server import HttpServer, Received, Reply, drop, hang
from weft.values import ValueCheck

http_request = importlib.import_module("weft_core.actions.http_request")
probe = importlib.import_module("weft_core.actions._connection_http")

ROOT = Path(__file__).parents[2]
KEY = "canary-7f3d9b51e0"
CANARIES = [
    json.loads(line)["value"]
    for line in (ROOT / "tests/corpora/secrets/canaries.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        yield server


class Kept:
    """Artifacts of a run."""

    def __init__(self) -> None:
        self.saved: list[tuple[bytes, str, str]] = []

    async def save(self, content: bytes, *, name: str, content_type: str) -> JsonObject:
        self.saved.append((content, name, content_type))
        return {"artifact": "sha256:1", "name": name, "content_type": content_type, "size": len(content)}

    async def read(self, artifact: str) -> bytes:
        raise NotImplementedError


def connection(server: HttpServer | None = None, **values: Any) -> Connection:
    base = {} if server is None else {"base_url": server.origin}
    secret = {"password", "token", "api_key", "client_secret"}
    wrapped = {name: Secret(value) if name in secret else value for name, value in values.items()}
    return Connection("service", "http", {**base, "private_networks": ["127.0.0.0/8"], **wrapped})


def context(where: Connection, **more: Any) -> ActionContext:
    facts = {
        "run_id": "r1",
        "path": "/call",
        "attempt": 1,
        "started_at": datetime(2026, 11, 22, tzinfo=UTC),
        "idempotency_key": "r1/call",
        "deadline": time.monotonic() + 20,
        "connection": where,
        **more,
    }
    return ActionContext(**facts)


@cache
def action() -> Action:
    return packs.discover([]).action("http_request")


async def ask(where: HttpServer | Connection, url: str = "/", *, around: Mapping[str, Any] = {}, **given: Any) -> Any:
    """Make one call as a step makes it, checked before and after."""
    parameters, code = action().manifest.all_parameters, action().load()
    given = {"url": url, **given}
    problems = arguments.check(parameters, given)
    complete = arguments.with_defaults(parameters, given)
    if problems := problems or list(code.check(complete, Known()) if code.check else ()):
        raise InvalidArguments(problems=problems)
    account = where if isinstance(where, Connection) else connection(where)
    output = await code.bind(complete, context(account, **around))()
    assert ValueCheck(action().manifest.output.json_schema).problems(output) == []
    return output


async def refused(where: HttpServer | Connection, url: str = "/", **given: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await ask(where, url, **given)
    return caught.value


# -- the request


async def test_a_request_with_everything_in_it(server: HttpServer) -> None:
    """Path, query, headers and JSON arrive as given; numbers, lists and null keep their meaning."""
    server.script([Reply(201, {"X-Id": "7"}, json={"id": 7})])
    given: Any = {"name": 'Ada "x"\n{{ y }}', "count": 3, "price": 1.5, "tags": [], "none": None}

    output = await ask(
        server,
        "/orders",
        method="POST",
        query={"a": "1&b=2", "n": 2, "f": 0.5, "yes": True, "tag": ["x", "y"], "gone": None},
        headers={"X-Own": "1"},
        json=given,
    )

    [request] = server.requests
    assert (request.method, request.path, request.json) == ("POST", "/orders", given)
    pairs = [("a", "1&b=2"), ("n", "2"), ("f", "0.5"), ("yes", "true"), ("tag", "x"), ("tag", "y")]
    assert request.query == pairs
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-own"] == "1"
    assert output == {
        "status": 201,
        "headers": {"content-type": "application/json", "content-length": "9", "x-id": "7"},
        "body": {"id": 7},
        "body_type": "json",
        "size_bytes": 9,
        "pages": 1,
        "complete": True,
        "possible_repeat": False,
    }


@pytest.mark.parametrize(
    ("given", "kind", "body"),
    [
        ({"json": [1]}, "application/json", b"[1]"),
        ({"json": False}, "application/json", b"false"),
        ({"json": "ä"}, "application/json", '"ä"'.encode()),
        ({"form": {"a b": "1&2", "l": [1, True], "n": None}}, "application/x-www-form-urlencoded", b"a+b=1%262&l=1&l=true"),
        ({"text": "ä"}, "text/plain; charset=utf-8", "ä".encode()),
        ({"text": "<x/>", "headers": {"Content-Type": "application/xml"}}, "application/xml", b"<x/>"),
        ({"content_base64": "AP8="}, "application/octet-stream", b"\0\xff"),
        ({}, None, b""),
    ],
)  # fmt: skip
async def test_a_body(server: HttpServer, given: dict[str, Any], kind: str | None, body: bytes) -> None:
    """Each kind of body is sent as it is, with its type."""
    await ask(server, method="PUT", **given)
    [request] = server.requests
    assert (request.headers.get("content-type"), request.body) == (kind, body)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_every_method(server: HttpServer, method: str) -> None:
    """Each method is sent as it is; HEAD has headers and no body."""
    server.script([Reply(body=b"x")])
    output = await ask(server, method=method)
    assert server.requests[0].method == method
    assert output["body"] == (None if method == "HEAD" else "x")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"json": 1}, "json"),
        ({"method": "POST", "json": 1, "text": "x"}, "text"),
        ({"headers": {"Authorization": "Bearer x"}}, "headers"),
        ({"headers": {"HOST": "x"}}, "headers"),
        ({"headers": {"a": "1", "A": "2"}}, "headers"),
        ({"headers": {"a": "1\r\nb: 2"}}, "headers"),
        ({"method": "POST", "content_base64": "no!"}, "content_base64"),
        ({"expect": [42]}, "expect[0]"),
        ({"pagination": "link", "method": "POST"}, "pagination"),
        ({"pagination": "cursor"}, "cursor_path"),
        ({"pagination": "page", "items_path": "a..b"}, "items_path"),
        ({"pagination": "link", "page_parameter": "p"}, "page_parameter"),
        ({"pagination": "link", "read_as": "text"}, "read_as"),
        ({"idempotency_key": True}, "idempotency_key"),
        ({"query": {"a": {"b": 1}}}, "query.a"),
    ],
)
async def test_arguments_that_do_not_go_together(server: HttpServer, given: dict[str, Any], field: str) -> None:
    """They are found before anything is sent, and named."""
    with pytest.raises(InvalidArguments) as caught:
        await ask(server, **given)
    assert field in {problem.where.field for problem in caught.value.problems}
    assert server.requests == []


def test_the_check_copes_with_arguments_that_are_not_known() -> None:
    """Whatever is left out, the check neither fails nor invents a fault."""
    whole = {"url": "/x", "method": "POST", "headers": {"a": "b"}, "json": {"a": 1}, "pagination": "none"}
    for name in whole:
        assert (
            list(http_request.check({key: value for key, value in whole.items() if key != name})) == []
            or name == "method"
        )
    assert list(http_request.check({})) == []


# -- where it may go


@pytest.mark.parametrize(
    ("base", "given", "wanted"),
    [
        ("", "/a", "/a"),
        ("", "", "/"),
        ("/v1", "a/b", "/v1/a/b"),
        ("/v1/", "/a?x=1", "/v1/a?x=1"),
        ("/v1", "", "/v1"),
        ("/v1", "?x=1", "/v1?x=1"),
        ("/v1", "//evil.example/a", "/v1/evil.example/a"),
        ("/v1", "/b#part", "/v1/b"),
    ],
)
async def test_a_path_below_the_base_url(server: HttpServer, base: str, given: str, wanted: str) -> None:
    """A path is put below the base address, whatever it looks like."""
    await ask(connection(base_url=server.origin + base), given)
    assert server.requests[0].target == wanted


@pytest.mark.parametrize(
    "path", ["/../admin", "../admin", "a/../../admin", "/%2e%2e/admin", "/..%2fadmin", "/a%5c..%5c..%5cadmin"]
)
async def test_a_path_that_leads_out(server: HttpServer, path: str) -> None:
    """No path leads above the base address."""
    error = await refused(connection(base_url=server.origin + "/v1"), path)
    assert error.kind == "invalid_url"
    assert server.requests == []


@pytest.mark.parametrize(
    "auth",
    [
        {"auth": "bearer", "token": KEY},
        {"auth": "basic", "username": "robot", "password": KEY},
        {"auth": "api_key", "api_key": KEY},
        {"auth": "api_key", "api_key": KEY, "api_key_in": "query"},
        {"headers": {"X-Tenant": "t1"}},
        {},
    ],
)
async def test_credentials_go_nowhere_else(server: HttpServer, auth: dict[str, Any]) -> None:
    """Whatever an address is made of, a connection with a base address is used for its origin alone."""
    async with HttpServer() as other:
        for url in (
            other.url(),
            f"http://localhost:{server.port}/",
            "http://169.254.169.254/",
            "https://evil.example/",
        ):
            error = await refused(connection(server, **auth), url)
            assert (error.kind, error.effect) == ("host_not_allowed", "none")
        assert other.connections == 0
        allowed = connection(server, allowed_hosts=[f"127.0.0.1:{other.port}"], **auth)
        await ask(allowed, other.url())
        assert len(other.requests) == 1
    await ask(connection(server, **auth), server.url("/whole"))


@pytest.mark.parametrize(
    ("allowed", "host", "fits"),
    [
        ("a.example", "https://a.example/", True),
        ("A.Example", "https://a.EXAMPLE:8443/", True),
        ("a.example:8443", "https://a.example/", False),
        ("a.example:443", "https://a.example/", True),
        ("*.example", "https://a.b.example/", True),
        ("*.example", "https://example/", False),
        ("*.example", "https://evilexample/", False),
        ("a.example", "https://a.example.evil/", False),
        ("a.example", "https://xa.example/", False),
    ],
)
def test_allowed_hosts(allowed: str, host: str, fits: bool) -> None:
    """A host is allowed by its whole name, with a port only at that port, below a name by a star."""
    account = http_request.Account(connection(allowed_hosts=[allowed]))
    with contextlib.nullcontext() if fits else pytest.raises(ActionError, match="may not be used"):
        account.place(host)


async def test_a_connection_without_credentials_goes_anywhere_public(server: HttpServer) -> None:
    """Without base address and hosts any address is asked, private ones only if they are named."""
    assert (await ask(connection(), server.url()))["status"] == 200
    error = await refused(Connection("web", "http", {}), server.url())
    assert error.kind == "address_refused"
    assert (await refused(connection(), "/path")).kind == "invalid_url"


@pytest.mark.parametrize(
    "values",
    [
        {"auth": "bearer"},
        {"auth": "basic", "username": "robot"},
        {"auth": "api_key"},
        {"auth": "oauth2", "token_url": "https://login.example/"},
        {"auth": "bearer", "token": KEY, "base_url": None},
        {"headers": {"X-Tenant": "1"}, "base_url": None},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"host": "evil.example"}},
        {"base_url": "ftp://example.com"},
        {"base_url": "https://example.com/?x=1"},
        {"base_url": "nonsense"},
        {"private_networks": ["everything"]},
    ],
)
async def test_a_connection_that_does_not_go_together(server: HttpServer, values: dict[str, Any]) -> None:
    """What is missing or wrong is told before anything is sent."""
    error = await refused(connection(server, **values))
    assert (error.kind, error.effect) == ("invalid_connection", "none")
    assert server.requests == []


# -- credentials


@pytest.mark.parametrize(
    ("values", "header", "query"),
    [
        (
            {"auth": "basic", "username": "robot", "password": "pä:s"},
            ("authorization", "Basic " + base64.b64encode("robot:pä:s".encode()).decode()),
            [],
        ),
        ({"auth": "bearer", "token": KEY}, ("authorization", f"Bearer {KEY}"), []),
        ({"auth": "api_key", "api_key": KEY}, ("x-api-key", KEY), []),
        ({"auth": "api_key", "api_key": KEY, "api_key_name": "X-Own"}, ("x-own", KEY), []),
        ({"auth": "api_key", "api_key": "a&b", "api_key_in": "query"}, None, [("x", "1"), ("api_key", "a&b")]),
        ({"headers": {"X-Tenant": "t1"}}, ("x-tenant", "t1"), []),
    ],
)
async def test_credentials_of_the_connection(
    server: HttpServer, values: dict[str, Any], header: tuple[str, str] | None, query: list[tuple[str, str]]
) -> None:
    """Each kind stands where the service wants it, and a step cannot put another in its place."""
    url = "/?x=1&api_key=theirs" if query else "/"
    await ask(connection(server, **values), url)
    [request] = server.requests
    if header:
        assert request.headers[header[0]] == header[1]
    if query:
        assert request.query == query
    if values.get("api_key_name"):
        assert (await refused(connection(server, **values), headers={"x-OWN": "mine"})).kind == "invalid_header"


class Tokens:
    """A token server and a service that takes its tokens."""

    def __init__(self, server: HttpServer, *, life: Any = 3600) -> None:
        self.valid: set[str] = set()
        self.given = 0
        self.life = life
        server.route("/token", self.give)
        server.script([self.serve])

    async def give(self, request: Received, stream: asyncio.StreamWriter) -> None:
        self.given += 1
        token = f"granted-token-{self.given:04}"
        self.valid = {token}
        await asyncio.sleep(0.02)
        await Reply(json={"access_token": token, "token_type": "Bearer", "expires_in": self.life})(request, stream)

    async def serve(self, request: Received, stream: asyncio.StreamWriter) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        echo = {"you sent": f"Bearer {token}"}
        await Reply(200 if token in self.valid else 401, {"X-Echo": token}, json=echo)(request, stream)


def oauth(server: HttpServer, **values: Any) -> Connection:
    facts = {"token_url": server.url("/token"), "client_id": "weft &", "client_secret": KEY, "scope": "read"}
    return connection(server, auth="oauth2", **{**facts, **values})


@pytest.mark.parametrize("where", ["header", "form"])
async def test_a_token_is_fetched_once(server: HttpServer, where: str) -> None:
    """Steps side by side share one token, asked for as RFC 6749 says."""
    tokens = Tokens(server)
    account = oauth(server, client_auth=where)

    await asyncio.gather(*(ask(account) for _ in range(5)))

    assert tokens.given == 1
    request = next(request for request in server.requests if request.path == "/token")
    form = dict(part.split("=") for part in request.body.decode().split("&"))
    assert (request.method, form["grant_type"], form["scope"]) == ("POST", "client_credentials", "read")
    if where == "header":
        encoded = base64.b64encode(f"weft+%26:{KEY}".encode()).decode()
        assert request.headers["authorization"] == f"Basic {encoded}"
        assert "client_secret" not in form
    else:
        assert (form["client_id"], form["client_secret"]) == ("weft+%26", KEY)


async def test_a_token_that_is_not_taken_any_more_is_replaced_once(server: HttpServer) -> None:
    """A kept token that is refused is fetched anew; a new one that is refused is an error."""
    tokens = Tokens(server)
    account = oauth(server)
    await ask(account)
    tokens.valid = set()
    assert (await ask(account, method="POST"))["status"] == 200
    assert tokens.given == 2

    server.script([Reply(401)])
    error = await refused(account)
    assert (error.kind, error.status) == ("authentication", 401)
    assert tokens.given == 3
    assert len([r for r in server.requests if r.path == "/"]) == 5


async def test_a_new_token_that_is_refused_is_not_replaced(server: HttpServer) -> None:
    """The service does not want this account, and asking again would not help."""
    tokens = Tokens(server)
    server.script([Reply(401)])
    assert (await refused(oauth(server, client_id="unwanted"))).kind == "authentication"
    assert tokens.given == 1
    assert [request.path for request in server.requests] == ["/token", "/"]


@pytest.mark.parametrize("life", [0, -5, 1e9, "3600", None, True])
async def test_the_life_of_a_token(server: HttpServer, life: Any) -> None:
    """A token is kept for the time that was told, or a usual one; one that ends at once is not kept."""
    tokens = Tokens(server, life=life)
    account = oauth(server, client_id=f"client of {life}")
    await ask(account)
    await ask(account)
    assert tokens.given == (2 if life in (0, -5) else 1)


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (Reply(400, json={"error": "invalid_client"}), "token_refused", False),
        (Reply(401), "token_refused", False),
        (Reply(429, {"Retry-After": "3"}), "rate_limited", True),
        (Reply(503), "server_error", True),
        (Reply(200, body=b"<html>"), "token_refused", False),
        (Reply(200, json={"access_token": "a\nb"}), "token_refused", False),
        (Reply(200, json=["token"]), "token_refused", False),
        (Reply(302, {"Location": "/"}), "redirect", False),
        (drop, "lost", True),
    ],
)
async def test_no_token(server: HttpServer, answer: Any, kind: str, retryable: bool) -> None:
    """Without a token nothing was done, and the error says whose fault it is."""
    server.route("/token", answer)
    error = await refused(oauth(server, client_id=kind), method="POST")
    assert (error.kind, error.retryable, error.effect) == (kind, retryable, "none")
    assert [request.path for request in server.requests] == ["/token"]


async def test_a_token_is_never_shown(server: HttpServer) -> None:
    """A token becomes known to the redactor, kept or fetched: a service may show what it was sent."""
    Tokens(server)
    account = oauth(server, client_id="echo")
    for _ in range(2):
        redactor = Redactor()
        output = await ask(account, around={"protect": redactor.add})
        assert "granted-token" in json.dumps(output)
        assert "granted-token" not in json.dumps(redactor.value(output))
    error = await refused(account, expect=[404], around={"protect": redactor.add})
    assert "granted-token" not in redactor.text(str(error)) + json.dumps(redactor.value(error.details))


@pytest.mark.parametrize("canary", CANARIES, ids=lambda value: value[:8])
@pytest.mark.parametrize(
    "fault", [Reply(403), drop, Reply(200, {"Content-Encoding": "gzip"}, b"x"), "http://127.0.0.1:1/"]
)
async def test_no_secret_in_an_error(
    server: HttpServer, fault: Any, canary: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither message nor details of any error, nor the log, hold the key, in a header, a query or Basic."""
    caplog.set_level("DEBUG")
    kept = canary.replace("\n", "").replace("\r", "").strip() or "k"
    url = fault if isinstance(fault, str) else "/"
    if not isinstance(fault, str):
        server.script([fault])
    accounts = [
        {"auth": "basic", "username": "robot", "password": kept},
        {"auth": "api_key", "api_key": kept, "api_key_in": "query"},
        {"auth": "bearer", "token": kept},
    ]
    for values in accounts:
        error = await refused(connection(server, allowed_hosts=["127.0.0.1"], **values), url)
        told = str(error) + json.dumps(error.details) + repr(error) + caplog.text
        assert [form for form in forms(kept) if form in told] == []
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


# -- the answer


@pytest.mark.parametrize(
    ("reply", "wanted", "kind", "body"),
    [
        (Reply(json={"a": 1}), "auto", "json", {"a": 1}),
        (Reply(200, {"Content-Type": "application/problem+json; charset=utf-8"}, b"[1]"), "auto", "json", [1]),
        (Reply(200, {"Content-Type": "application/json"}, b"{broken"), "auto", "text", "{broken"),
        (Reply(200, {"Content-Type": "application/json"}, b'{"a":1,"a":2}'), "auto", "text", '{"a":1,"a":2}'),
        (Reply(200, {"Content-Type": "application/json"}, b"[NaN]"), "auto", "text", "[NaN]"),
        (Reply(200, {"Content-Type": "text/plain"}, b'{"a": 1}'), "auto", "text", '{"a": 1}'),
        (Reply(200, {"Content-Type": "text/plain"}, b'{"a": 12345678901234567890}'), "json", "json", {"a": 12345678901234567890}),
        (Reply(200, {"Content-Type": "text/html; charset=iso-8859-1"}, b"\xe4"), "auto", "text", "ä"),
        (Reply(200, {"Content-Type": "text/html; charset=nonsense"}, b"x"), "auto", "base64", "eA=="),
        (Reply(200, {"Content-Type": "text/html; charset=hex"}, b"78"), "auto", "base64", "Nzg="),
        (Reply(200, {}, b"\xff\xd8"), "auto", "base64", "/9g="),
        (Reply(200, {}, b"a\0b"), "auto", "base64", "YQBi"),
        (Reply(200, {}, b"text"), "base64", "base64", "dGV4dA=="),
        (Reply(200, {}, b""), "auto", "none", None),
        (Reply(204), "auto", "none", None),
        (Reply(204), "json", "none", None),
    ],
)  # fmt: skip
async def test_a_body_that_comes_back(server: HttpServer, reply: Reply, wanted: str, kind: str, body: Any) -> None:
    """JSON where it says so and is, else text where it is, else base64; or as the step asks."""
    server.script([reply])
    output = await ask(server, read_as=wanted)
    assert (output["body_type"], output["body"]) == (kind, body)


@pytest.mark.parametrize(("wanted", "body"), [("json", b"<html>"), ("json", b"\xff"), ("text", b"\xff"), ("json", b"")])
async def test_a_body_that_is_not_what_was_asked_for(server: HttpServer, wanted: str, body: bytes) -> None:
    """It is an error, after reading without an effect, after sending with one that nobody can take back."""
    server.script([Reply(200, {}, body)])
    error = await refused(server, read_as=wanted)
    assert (error.kind, error.effect, error.retryable) == ("bad_response", "none", False)
    assert (await refused(server, read_as=wanted, method="POST")).effect == "unknown"


async def test_a_file(server: HttpServer) -> None:
    """As an artifact a body is kept with the run, for example to be attached to a mail."""
    server.script([Reply(200, {"Content-Type": "application/pdf"}, b"%PDF")])
    kept = Kept()
    output = await ask(server, "/files/report.pdf", read_as="artifact", around={"artifacts": kept})
    assert kept.saved == [(b"%PDF", "report.pdf", "application/pdf")]
    assert (output["body_type"], output["body"]["artifact"]) == ("artifact", "sha256:1")
    assert (await refused(server, read_as="artifact")).kind == "no_artifacts"


async def test_a_large_body_is_kept_apart(server: HttpServer) -> None:
    """What would be too large for the run's records becomes an artifact by itself."""
    server.script([Reply(200, {}, b"x" * 2_100_000)])
    output = await ask(server, around={"artifacts": Kept()})
    assert (output["body_type"], output["size_bytes"]) == ("artifact", 2_100_000)
    assert (await ask(server))["body_type"] == "text"


async def test_headers_that_come_back(server: HttpServer) -> None:
    """Names are in lower case, repeated ones joined, and credentials stay out."""

    async def reply(request: Received, stream: asyncio.StreamWriter) -> None:
        lines = [b"HTTP/1.1 200 OK", b"Content-Length: 0", b"X-A: 1", b"x-a: 2", b"Set-Cookie: s=1", b"X-Raw: \xff"]
        stream.write(b"\r\n".join(lines) + b"\r\n\r\n")

    server.script([reply])
    assert (await ask(server))["headers"] == {"content-length": "0", "x-a": "1, 2", "x-raw": "?"}


async def test_statuses_that_are_expected(server: HttpServer) -> None:
    """Another status than expected is an error with the begin of what was answered."""
    server.script([Reply(404, json={"why": "gone"})])
    assert (await ask(server, expect=[200, 404]))["body"] == {"why": "gone"}
    error = await refused(server)
    assert (error.kind, error.status) == ("not_found", 404)
    assert error.details == {"status": 404, "body": '{"why": "gone"}'}
    server.script([Reply(200)])
    assert (await refused(server, expect=[201])).kind == "unexpected_status"


async def test_a_refusal_is_cut_after_its_secrets_are_masked(server: HttpServer) -> None:
    """A secret that stands where the body is cut leaves no part of itself."""
    where = connection(server, auth="bearer", token=KEY)
    redactor = Redactor([Secret(KEY)])
    for before in range(1_980, 2_001):
        server.script([Reply(400, body=b"-" * before + KEY.encode() + b" and more")])
        with pytest.raises(ActionError) as caught:
            await ask(where, around={"mask": redactor.text})
        assert KEY[:4] not in str(caught.value.details["body"])


async def test_a_redirect_leads_to_no_host_that_is_not_allowed(server: HttpServer) -> None:
    """A server cannot send the step on to where the connection itself may not be used."""
    async with HttpServer() as other:
        there = {"allowed_hosts": [f"127.0.0.1:{other.port}"]}
        for where, kind in ((connection(server), "host_not_allowed"), (connection(server, **there), None)):
            server.script([Reply(302, {"Location": other.url("/x")})])
            other.script([Reply(200, json=[1])])
            if kind is None:
                assert (await ask(where, redirects=1))["body"] == [1]
            else:
                assert (await refused(where, redirects=1)).kind == kind
                assert other.requests == []


@pytest.mark.parametrize("target", ["javascript:x", "mailto:a@b.example", "file:///etc/passwd", "http://["])
async def test_a_next_page_that_is_no_address(server: HttpServer, target: str) -> None:
    """It ends the step with an error of the page."""
    server.script([Reply(200, {"Link": f"<{target}>; rel=next"}, json=[1])])
    if target == "http://[":  # not even a link
        assert (await ask(server, pagination="link"))["complete"]
    else:
        assert (await refused(server, pagination="link")).kind == "bad_page"
    server.script([Reply(200, json={"i": [1], "n": target})])
    error = await refused(server, pagination="next_url", items_path="i", cursor_path="n")
    assert error.kind == "bad_page"


async def test_redirects(server: HttpServer) -> None:
    """Unasked they are an error that says so; asked for they are followed."""
    server.route("/old", Reply(301, {"Location": "/new"}))
    error = await refused(server, "/old")
    assert (error.kind, error.retryable) == ("redirect", False)
    await ask(server, "/old", redirects=1)
    assert server.requests[-1].path == "/new"


# -- trying again


@pytest.mark.parametrize(
    ("given", "retryable", "effect"),
    [
        ({"method": "GET"}, True, "none"),
        ({"method": "PUT"}, True, "unknown"),
        ({"method": "DELETE"}, True, "unknown"),
        ({"method": "POST"}, False, "unknown"),
        ({"method": "PATCH"}, False, "unknown"),
        ({"method": "POST", "only_reads": True}, True, "none"),
        ({"method": "POST", "idempotency_key": True}, True, "unknown"),
        ({"method": "POST", "headers": {"Idempotency-Key": "order-7"}}, True, "unknown"),
    ],
)
@pytest.mark.parametrize("fault", [drop, hang, Reply(503)])
async def test_what_may_be_tried_again(
    server: HttpServer, fault: Any, given: dict[str, Any], retryable: bool, effect: str
) -> None:
    """Reading, and what is the same twice; a plain POST that may have arrived is never repeated by itself."""
    server.script([fault])
    error = await refused(connection(server, request_timeout_s=0.2), **given)
    assert (error.retryable, error.effect) == (retryable, effect)


async def test_the_idempotency_key(server: HttpServer) -> None:
    """It is the step's, the same for every attempt, unless the author names one."""
    await ask(server, method="POST", idempotency_key=True, around={"idempotency_key": "k1", "attempt": 2})
    await ask(server, method="POST", idempotency_key=True, headers={"Idempotency-Key": "own"})
    await ask(server, method="POST")
    assert [request.headers.get("idempotency-key") for request in server.requests] == ["k1", "own", None]


async def test_a_possible_repeat_is_told(server: HttpServer) -> None:
    """After an attempt that may have arrived the output says so, unless the request only reads."""
    again = {"repeated": True, "attempt": 2}
    assert (await ask(server, method="POST", around=again))["possible_repeat"] is True
    assert (await ask(server, around=again))["possible_repeat"] is False


async def test_the_point_of_no_return(server: HttpServer) -> None:
    """It stands on record before a request that changes something, and for no other."""
    reached: list[int] = []

    async def barrier() -> None:
        reached.append(len(server.requests))

    Tokens(server)
    account = oauth(server, client_id="barrier")
    await ask(account, around={"barrier": barrier})
    await ask(account, method="POST", only_reads=True, around={"barrier": barrier})
    assert reached == []
    await ask(account, method="DELETE", around={"barrier": barrier})
    assert reached == [3]


# -- pages


def numbered(count: int, size: int, **more: Any) -> list[Reply]:
    return [Reply(json=list(range(at, min(at + size, count))), **more) for at in range(0, count, size)]


async def test_pages_by_link(server: HttpServer) -> None:
    """The header Link names the next page, relative or whole, until it does not."""
    link = {"Link": '</items?page=2>; rel="next", <https://x.example/>; rel="last"'}
    server.script([Reply(200, link, json=[1, 2]), Reply(json=[3])])
    output = await ask(connection(server, auth="bearer", token=KEY), "/items?a=1", pagination="link")
    assert (output["body"], output["pages"], output["complete"]) == ([1, 2, 3], 2, True)
    assert [request.target for request in server.requests] == ["/items?a=1", "/items?page=2"]
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("kind", ["link", "next_url"])
async def test_a_next_page_elsewhere_gets_no_credentials(server: HttpServer, kind: str) -> None:
    """A page of another origin is refused: the credentials would go there."""
    async with HttpServer() as other:
        server.script([Reply(200, {"Link": f'<{other.url()}>; rel="next"'}, json={"i": [1], "next": other.url()})])
        given = {"cursor_path": "next"} if kind == "next_url" else {}
        error = await refused(connection(server, auth="bearer", token=KEY), pagination=kind, items_path="i", **given)
        assert error.kind == "host_not_allowed"
        assert other.connections == 0


async def test_pages_by_address_in_the_body(server: HttpServer) -> None:
    """A key with a dot in it is a path too."""
    server.script([Reply(json={"value": [1], "@odata.next": "/b?x=2"}), Reply(json={"value": [2]})])
    output = await ask(server, "/a", pagination="next_url", items_path="value", cursor_path="@odata.next")
    assert output["body"] == [1, 2]
    assert server.requests[1].target == "/b?x=2"


async def test_pages_by_cursor(server: HttpServer) -> None:
    """The cursor of one page is the parameter of the next; other parameters stay."""
    server.script(
        [
            Reply(json={"data": {"items": [1, 2]}, "meta": [{"next": "a&b"}]}),
            Reply(json={"data": {"items": [3]}, "meta": [{"next": None}]}),
        ]
    )
    output = await ask(
        server, "/", query={"limit": 2}, pagination="cursor", items_path="data.items",
        cursor_path="meta[0].next", page_parameter="after",
    )  # fmt: skip
    assert output["body"] == [1, 2, 3]
    assert server.requests[1].query == [("limit", "2"), ("after", "a&b")]


async def test_pages_by_number_and_by_offset(server: HttpServer) -> None:
    """They go on until a page is empty."""
    server.script([*numbered(5, 2), Reply(json=[])])
    output = await ask(server, pagination="page", page_parameter="p", first_page=0)
    assert (output["body"], output["complete"]) == ([0, 1, 2, 3, 4], True)
    assert [request.query for request in server.requests] == [[("p", str(n))] for n in range(4)]

    server.requests.clear()
    server.script([*numbered(5, 2), Reply(json=[])])
    await ask(server, pagination="offset")
    assert [request.query for request in server.requests] == [[("offset", n)] for n in ("0", "2", "4", "5")]


async def test_limits_of_pages(server: HttpServer) -> None:
    """Pages, items and bytes are bounded over all pages, and the output says when there is more."""
    server.script([Reply(json=[1, 2, 3])])
    output = await ask(server, pagination="page", max_pages=2)
    assert (output["body"], output["pages"], output["complete"]) == ([1, 2, 3] * 2, 2, False)
    output = await ask(server, pagination="page", max_items=4)
    assert (output["body"], output["pages"], output["complete"]) == ([1, 2, 3, 1], 2, False)
    error = await refused(connection(server, max_response_mb=0.000_02), pagination="page")
    assert error.kind == "too_large"


async def test_pages_that_go_round(server: HttpServer) -> None:
    """A next page that has been read already is a fault, and not a run without end."""
    server.script([Reply(200, {"Link": '</>; rel="next"'}, json=[1])])
    assert (await refused(server, pagination="link")).kind == "bad_page"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ({"items": None}, {"pagination": "page", "items_path": "items"}),
        ({"items": [1]}, {"pagination": "page"}),
        ({"i": [1], "c": {"x": 1}}, {"pagination": "cursor", "items_path": "i", "cursor_path": "c"}),
        ({"i": [1], "c": 7}, {"pagination": "next_url", "items_path": "i", "cursor_path": "c"}),
    ],
)
async def test_pages_of_another_shape(server: HttpServer, body: Any, given: dict[str, Any]) -> None:
    """What is not where it should be is told with its path."""
    server.script([Reply(json=body)])
    assert (await refused(server, **given)).kind == "bad_page"


# -- the connection's test


async def prove(account: Connection) -> str:
    told = await probe.test(account, context(account))
    assert isinstance(told, str)
    return told


async def test_a_connection_that_works(server: HttpServer) -> None:
    """With an address that needs the credentials the test says that they are taken; it only reads."""
    Tokens(server)
    server.route("/me", Reply(200), Reply(401))
    told = await prove(oauth(server, client_id="probe", test_url="/me"))
    assert told == f"127.0.0.1:{server.port} answered 200 to these credentials; nothing was changed."
    asked = [(r.method, "authorization" in r.headers) for r in server.requests if r.path != "/token"]
    assert asked == [("GET", True), ("GET", False)]
    server.script([Reply(404)])
    assert "can be reached" in await prove(connection(server))


@pytest.mark.parametrize(
    ("values", "reply", "kind"),
    [
        ({"auth": "bearer", "token": KEY}, Reply(200), "untestable"),
        ({"auth": "bearer", "token": KEY}, Reply(404), "untestable"),
        ({"auth": "bearer", "token": KEY}, Reply(401), "authentication"),
        ({"auth": "bearer", "token": KEY}, Reply(500), "server_error"),
        ({"auth": "bearer", "token": KEY, "test_url": "/me"}, Reply(404), "not_found"),
        ({"auth": "bearer", "token": KEY, "test_url": "/me"}, Reply(200), "untestable"),
        ({"auth": "api_key", "api_key": KEY, "api_key_in": "query", "test_url": "/me"}, Reply(200), "untestable"),
        ({"auth": "bearer", "token": KEY, "test_url": "https://evil.example/"}, Reply(200), "host_not_allowed"),
        ({"auth": "bearer"}, Reply(200), "invalid_connection"),
        ({"base_url": None}, Reply(200), "untestable"),
        ({}, drop, "lost"),
    ],
)
async def test_a_connection_that_does_not(server: HttpServer, values: Any, reply: Any, kind: str) -> None:
    """A fault is told as a fault, and what an answer does not prove is not called proved."""
    server.script([reply])
    with pytest.raises(ActionError) as caught:
        await prove(connection(server, **values))
    assert (caught.value.kind, caught.value.effect) == (kind, "none")


async def test_every_field_of_the_connection_is_looked_at() -> None:
    """Each field of the type is read by the code: none does nothing."""
    fields = {
        field["name"] for field in yaml.safe_load((ROOT / "manifests/connections/http.yaml").read_text())["fields"]
    }
    code = "".join(path.read_text() for path in (ROOT / "actions").glob("*http*.py"))
    assert {field for field in fields if f'"{field}"' not in code} == set()
