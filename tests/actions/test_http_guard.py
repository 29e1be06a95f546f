"""However an address inside is written, in a step or in a redirect, no connection to it is tried."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from servers.webhooks import attempt

from weft.sdk import ActionError, Connection, Secret
from weft.testing.http_server import HttpServer, Reply

http = importlib.import_module("weft_core.actions._http")
addresses = importlib.import_module("weft_core.actions._http_address")
sender = importlib.import_module("weft_core.actions.send_webhook")

LOOPBACK = [
    *("127.0.0.1", "localhost", "LOCALHOST", "127.1", "127.0.1", "127.1.", "127.0.0.1."),
    *("2130706433", "0x7f000001", "0x7f.1", "0x7F.0.0.0x1", "017700000001", "0177.0.0.1", "127.000.000.001"),
    *("127.0.0.01", "00000127.0.0.1", "0", "0x0", "0.0.0.0", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]"),
    *("[::ffff:0:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("[fe80::1%25lo]", "[fe80::5efe:7f00:1]", "user@127.0.0.1", "example.com@127.0.0.1", "example.com:80@127.0.0.1"),
    *("127.0.0.1\\@example.com", "127.0.0.1%00.example.com", "127.0.0.1%2f.example.com", "127.0.0.1#@example.com"),
]
"""This machine, written in every way that some parser reads as that."""
INSIDE = [
    *("10.0.0.1", "10.1", "0xA000001", "192.168.1.1", "0300.0250.1.1", "3232235777", "172.16.0.1", "100.64.0.1"),
    *("169.254.169.254", "169.254.43518", "0xA9FEA9FE", "0251.0376.0251.0376", "2852039166", "[::ffff:a9fe:a9fe]"),
    *("[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fe80::a9fe:a9fe]"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "[fc00::1]", "[fec0::1]", "[ff02::1]", "255.255.255.255"),
    *("224.0.0.1", "198.18.0.1", "192.0.2.1", "[2001:db8::1]", "[2001::7f00:1]", "[100::1]", "[3fff::1]", "240.0.0.1"),
]
"""Networks inside, services of clouds, and what is no place at all."""
NAMES = {"localhost.": "127.0.0.1", "metadata.google.internal": "169.254.169.254", "inside.example": "fd00:ec2::254"}


async def look_up(host: str, port: int) -> Sequence[str]:
    """A name server that leads inside; what is no such name is an address, which needs none."""
    return [NAMES[host]] if host in NAMES else await http._look_up(host, port)


@pytest.fixture
async def inside() -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        yield server


async def refusal(url: str, rules: object) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await http.exchange(http.Request("GET", url), rules, attempt(None, seconds=5))
    return caught.value


def test_there_are_enough_forms() -> None:
    """The trial covers what it says, and no form twice."""
    assert len({*LOOPBACK, *INSIDE, *NAMES}) == len(LOOPBACK) + len(INSIDE) + len(NAMES) >= 72


@pytest.mark.parametrize("host", [*LOOPBACK, *INSIDE, *NAMES])
async def test_no_form_of_an_address_inside_is_reached(inside: HttpServer, host: str) -> None:
    """Refused before a connection, without effect, and not to be tried again."""
    error = await refusal(f"http://{host}:{inside.port}/", http.Rules(lookup=look_up, timeout_s=5))

    assert error.problem.code in ("address_refused", "invalid_url", "unresolved")
    assert error.effect == "none"
    assert inside.connections == 0


@pytest.mark.parametrize(
    "host", ["localhost", "0x7f000001", "[::ffff:7f00:1]", "①②⑦.⓪.⓪.①", "[64:ff9b::7f00:1]", "10.1"]
)
async def test_no_redirect_leads_inside(inside: HttpServer, host: str) -> None:
    """A server that may be asked sends nobody to one that may not."""
    async with HttpServer("127.0.0.2") as outside:
        outside.script([Reply(302, headers={"Location": f"http://{host}:{inside.port}/"})])
        rules = http.Rules(private_networks=addresses.networks(["127.0.0.2"]), redirects=3, timeout_s=5)
        error = await refusal(f"http://127.0.0.2:{outside.port}/", rules)

    assert error.problem.code in ("address_refused", "invalid_url", "redirect")
    assert (len(outside.requests), inside.connections) == (1, 0)


async def test_what_a_connection_names_is_reached(inside: HttpServer) -> None:
    """The guard is what refuses: with the network named, the same request arrives."""
    rules = http.Rules(private_networks=addresses.networks(["127.0.0.1"]), timeout_s=5)
    answer = await http.exchange(http.Request("GET", f"http://0x7f000001:{inside.port}/"), rules, attempt(None))
    assert answer.status == 200
    assert await refusal(f"http://127.0.0.1:{inside.port}/", replace(rules, private_networks=()))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "169.254.169.254"])
async def test_events_are_posted_outside_only(inside: HttpServer, host: str) -> None:
    """The address of a receiver comes from a connection, and is guarded all the same."""
    secret = Secret("whsec_" + "A" * 32)
    values = {"url": Secret(f"http://{host}:{inside.port}/"), "signing_secret": secret}
    with pytest.raises(ActionError) as caught:
        await sender.send_webhook(sender.Arguments(data={}), attempt(Connection("shop", "webhook", values)))

    assert (caught.value.problem.code, caught.value.effect) == ("address_refused", "none")
    assert inside.connections == 0
