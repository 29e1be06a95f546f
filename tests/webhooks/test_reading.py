"""Bodies: one strict parser for each content type, and limits before any of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import InvalidInputs
from weft.outcome import encode
from weft.webhooks.limits import BURST_S, MOST_KNOWN, Gatekeeper, Limits, Rates
from weft.webhooks.messages import message_of
from weft.webhooks.reading import DEEPEST, body_of, json_of, once
from weft.webhooks.requests import Headers, Refused
from weft.webhooks.styles import Signed

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def read(body: bytes, kind: str | None = JSON) -> object:
    return body_of(Headers([] if kind is None else [("Content-Type", kind)]), body)


def refused(body: bytes, kind: str | None = JSON) -> tuple[int, str]:
    with pytest.raises(Refused) as found:
        read(body, kind)
    return found.value.status, found.value.problem.code


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(_VALUES)
def test_every_json_value_is_read_as_it_is(value: object) -> None:
    """What JSON can say is read as it was written, and can be kept."""
    text = encode(value)

    assert json_of(text) == value
    encode(json_of(text))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[-Infinity]",
        b"[1e999]",
        b'{"a": 1, "a": 2}',
        b'["\\ud800"]',
        b'{"\\udfff": 1}',
        b'"\xff"',
        b"'a'",
        b"[1,]",
        b"[" * 100_000,
        b"[" * (DEEPEST + 1) + b"1" + b"]" * (DEEPEST + 1),
        b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1),
        b"9" * 5_000,
    ],
)
def test_json_is_read_strictly(body: bytes) -> None:
    """What is not JSON, or what two readers would understand differently, is refused as such."""
    assert refused(body) == (400, "bad_body")


def test_the_deepest_that_is_taken() -> None:
    """Up to the limit values are taken, however deep."""
    assert read(b"[" * DEEPEST + b"]" * DEEPEST)


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("Application/Vnd.Acme+JSON", b'{"a": null}', {"a": None}),
        (FORM, b"command=%2Fgo&text=a+b&empty=", {"command": "/go", "text": "a b", "empty": ""}),
        (FORM, b"", {}),
        (FORM, b"payload=%7B%22a%22%3A1%7D", {"payload": '{"a":1}'}),
        ("text/plain", "{{ 7*7 }} é".encode(), "{{ 7*7 }} é"),
        ("text/csv; charset=US-ASCII", b"a,b", "a,b"),
    ],
)
def test_each_type_has_its_reader(kind: str, body: bytes, value: object) -> None:
    """JSON is a value, a form its fields, a text itself."""
    assert read(body, kind) == value


@pytest.mark.parametrize(
    "kind",
    [
        *(None, "", "json", "*/*", "application/octet-stream", "multipart/form-data; boundary=x", "application/xml"),
        *("application/jsonp", "text/plain; charset=utf-16", "application/json; charset=utf-7"),
    ],
)
def test_other_types_are_refused(kind: str | None) -> None:
    """What nobody has said how to read is not guessed."""
    assert refused(b"{}", kind) == (415, "unknown_type")


@pytest.mark.parametrize("body", [b"a=1&a=2", b"a", b"=&=", b"a=%ff", b"&".join(b"f%d=1" % n for n in range(1_001))])
def test_forms_are_read_strictly(body: bytes) -> None:
    """A name stands in a form once; what is no form is refused, and so are more fields than there can be."""
    assert refused(body, FORM)[0] == 400


def test_a_name_stands_in_the_query_once() -> None:
    """Two values under one name are read differently by whoever reads them."""
    assert once([("a", "1"), ("b", "")]) == {"a": "1", "b": ""}
    with pytest.raises(Refused):
        once([("a", "1"), ("a", "1")])


# ---- limits
def test_a_bucket_fills_at_its_rate() -> None:
    """So many at once, then so many in a second; whoever waits as long as told gets through."""
    rates = Rates(10)
    assert [rates.take("a", 0.0) for _ in range(int(10 * BURST_S))] == [0.0] * 40
    wait_s = rates.take("a", 0.0)

    assert math.isclose(wait_s, 0.1)
    assert rates.take("b", 0.0) == 0.0
    assert rates.take("a", wait_s / 2) > 0
    assert rates.take("a", wait_s) == 0.0


def test_buckets_take_no_memory_without_end() -> None:
    """However many senders there are, only so many are counted."""
    rates = Rates(1)
    for n in range(MOST_KNOWN + 100):
        rates.take(str(n), 0.0)

    assert len(rates._buckets) == MOST_KNOWN


def gate(limits: Limits, headers: dict[str, str], address: str = "10.0.0.1", times: int = 1) -> Refused | None:
    keeper = Gatekeeper(limits)
    try:
        for _ in range(times):
            keeper.admit("p", address, Headers(headers.items()), 0.0)
    except Refused as refused:
        return refused
    return None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "1001"}, 413),
        ({"content-length": "1000"}, None),
        ({"content-length": "99999999999999"}, 400),
        ({"content-length": "-1"}, 400),
        ({"content-length": "+5"}, 400),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "identity"}, None),
    ],
)
def test_the_head_is_judged_before_the_body(headers: dict[str, str], status: int | None) -> None:
    """A length beyond the limit and a compressed body are refused by the head alone."""
    found = gate(Limits(largest=1_000), headers)

    assert (found and found.status) == status


def test_webhooks_and_addresses_are_counted() -> None:
    """Both have a rate; hosts that share an IPv6 network count as one."""
    assert gate(Limits(rate=1, rate_of_address=100), {}, times=5) is not None
    assert gate(Limits(rate=100, rate_of_address=1), {}, times=5) is not None
    keeper = Gatekeeper(Limits(rate=100, rate_of_address=1))
    for n in range(4):
        keeper.admit("p", f"2001:db8::{n}", Headers([]), 0.0)
    with pytest.raises(Refused) as refused:
        keeper.admit("p", "2001:db8::ffff", Headers([]), 0.0)
    assert refused.value.status == 429
    assert refused.value.retry_after_s
    keeper.admit("p", "2001:db8:0:1::1", Headers([]), 0.0)


async def test_a_body_is_read_no_further_than_the_limit() -> None:
    """What has no length is counted while it comes; the rest is never asked for."""
    asked = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 400

    with pytest.raises(Refused) as refused:
        await Gatekeeper(Limits(largest=1_000)).whole(chunks())
    assert (refused.value.status, asked) == (413, 3)


def test_limits_come_from_the_environment() -> None:
    """Numbers in their range are taken, anything else is refused by name."""
    assert Limits.of({}) == Limits()
    assert Limits.of({"WEFT_WEBHOOK_RATE": "2.5", "WEFT_WEBHOOK_LARGEST": "5000000"}) == Limits(2.5, 50.0, 5_000_000)
    for wrong in ("x", "nan", "0", "-1", "1e9"):
        with pytest.raises(InvalidInputs, match="WEFT_WEBHOOK_RATE_PER_ADDRESS"):
            Limits.of({"WEFT_WEBHOOK_RATE_PER_ADDRESS": wrong})


# ---- which message
def test_an_event_of_stripe_is_the_same_with_another_count() -> None:
    """A11: the count of deliveries that are left differs each time an event is sent; all else makes another content."""
    events = [{"id": "evt_1", "pending_webhooks": n, "data": {"n": 1}} for n in (2, 1)]
    changed = {"id": "evt_1", "pending_webhooks": 1, "data": {"n": 2}}
    found = [message_of("stripe", Signed(timestamp="1"), each, b"") for each in (*events, changed)]

    assert found[0] == found[1]
    assert found[0].id == found[2].id == "evt_1"
    assert found[0].digest != found[2].digest


def test_a_request_that_is_sent_once_more_is_the_same() -> None:
    """A11: where the sender gives no id, a signed time makes two posts of the same bytes one; without it each is its own."""
    slack = message_of("slack", Signed(timestamp="5"), {"command": "/go"}, b"b")
    github = message_of("github", Signed(), {}, b"b")

    assert slack.key(Signed(timestamp="5"), b"b") == slack.key(Signed(timestamp="5"), b"b")
    assert slack.key(Signed(timestamp="5"), b"b") != slack.key(Signed(timestamp="6"), b"b")
    assert github.key(Signed(), b"b") is None
