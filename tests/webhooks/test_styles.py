"""Signatures of four kinds: the vendors' own examples, and everything that is nearly right."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from weft.redaction import Secret
from weft.webhooks import styles
from weft.webhooks.requests import Headers, Refused, Request
from weft.webhooks.styles import BadSecret, Signed, Style, sign, verify

STANDARD = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
PLAIN = Secret("a secret of some length")
NOW = 1_800_000_000.0
STYLES: tuple[Style, ...] = ("standard", "github", "slack", "stripe")


def request(headers: dict[str, str], body: bytes, at: float = NOW) -> Request:
    return Request(Headers(headers.items()), (), body, at)


def secret_of(style: Style) -> Secret:
    return STANDARD if style == "standard" else PLAIN


def refusal(style: Style, taken: Request, *secrets: Secret) -> str:
    with pytest.raises(Refused) as refused:
        verify(style, secrets or [secret_of(style)], taken)
    assert refused.value.status in (400, 401)
    return refused.value.problem.code


# ---- what the vendors publish
def test_the_example_of_standard_webhooks() -> None:
    """The example of the specification's reference implementations (standardwebhooks.com) is accepted, and made anew."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'

    assert verify("standard", [STANDARD], request(headers, body, 1614265330)) == Signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
    )
    assert sign("standard", STANDARD, body, id_="msg_p5jXN8AQM9LWM0D4loKWxJek", at=1614265330) == headers


def test_the_example_of_github() -> None:
    """The example of GitHub's page "Validating webhook deliveries" is accepted, whatever the time."""
    secret, body = Secret("It's a Secret to Everybody"), b"Hello, World!"
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}

    assert verify("github", [secret], request(headers, body)) == Signed("72d3162e-cc78-11e3-81ab-4c9367dc0958")
    assert sign("github", secret, body, id_="x", at=NOW)["x-hub-signature-256"] == signature


def test_the_example_of_slack() -> None:
    """The example of Slack's page "Verifying requests from Slack" is accepted."""
    secret = Secret("8f742231b10e8888abcd99yyyzzz85a5")
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }

    assert verify("slack", [secret], request(headers, body, 1531420618)) == Signed(timestamp="1531420618")
    assert sign("slack", secret, body, id_="", at=1531420618) == headers


def test_the_steps_of_stripe() -> None:
    """Stripe publishes steps and no example: HMAC-SHA256 over time, full stop and body; unknown schemes are ignored."""
    secret, body = Secret("whsec_test_secret"), b'{"id": "evt_1", "object": "event"}'
    expected = hmac.new(b"whsec_test_secret", b"1492774577." + body, hashlib.sha256).hexdigest()
    header = f"t=1492774577,v1={expected},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"

    found = verify("stripe", [secret], request({"stripe-signature": header}, body, 1492774577))
    assert found == Signed(timestamp="1492774577")
    assert refusal("stripe", request({"stripe-signature": f"{header},t=1492774577"}, body, 1492774577), secret)
    assert refusal("stripe", request({"stripe-signature": header.replace("v1=", "v2=")}, body, 1492774577), secret)


@given(st.text(max_size=200), st.text("abc_123", min_size=1))
def test_it_agrees_with_the_reference_library(body: str, id_: str) -> None:
    """What the library of Standard Webhooks signs is accepted, and it accepts what is signed here."""
    library, at = standardwebhooks.Webhook(STANDARD.reveal()), int(time.time())
    headers = {"webhook-id": id_, "webhook-timestamp": str(at)}
    theirs = library.sign(id_, datetime.fromtimestamp(at, UTC), body)
    content = body.encode()

    assert verify("standard", [STANDARD], request({**headers, "webhook-signature": theirs}, content, at)).id == id_
    library.verify(content, sign("standard", STANDARD, content, id_=id_, at=at), json_parse=False)


# ---- what is nearly right
@pytest.mark.parametrize("style", STYLES)
def test_what_is_signed_is_accepted_by_any_of_the_secrets(style: Style) -> None:
    """While a secret is being replaced both are good, in whichever order; a third one is not."""
    other = Secret("whsec_" + base64.b64encode(b"o" * 24).decode())
    signed = sign(style, secret_of(style), b"{}", id_="m1", at=NOW)

    verify(style, [secret_of(style), other], request(signed, b"{}"))
    verify(style, [other, secret_of(style)], request(signed, b"{}"))
    assert refusal(style, request(signed, b"{}"), other) == "bad_signature"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("body", [b"", b"{} ", b"{", b"\xff\x00"])
def test_another_body_is_refused(style: Style, body: bytes) -> None:
    """One byte more or less, and the signature does not fit."""
    assert refusal(style, request(sign(style, secret_of(style), b"{}", id_="m1", at=NOW), body)) == "bad_signature"


@pytest.mark.parametrize("style", STYLES)
def test_no_header_may_be_missing_or_changed(style: Style) -> None:
    """Without one of its headers a request is unsigned; with any one changed it is refused, the delivery id excepted."""
    signed = sign(style, secret_of(style), b"{}", id_="m1", at=NOW)
    for name, value in signed.items():
        if name == "x-github-delivery":  # GitHub does not sign it
            continue
        without = {key: text for key, text in signed.items() if key != name}
        assert refusal(style, request(without, b"{}")) == "unsigned"
        for changed in (
            "",
            "x",
            value[:-1],
            value + "A",
            value.upper(),
            value.replace("1", "2"),
            "é",
            "v1,",
            "v1," * 5,
        ):
            assert changed == value or refusal(style, request({**signed, name: changed}, b"{}"))


@pytest.mark.parametrize("style", ["standard", "slack", "stripe"])
@pytest.mark.parametrize(("off_s", "is_taken"), [(-301, False), (-299, True), (0, True), (299, True), (301, False)])
def test_time_counts_in_both_directions(style: Style, off_s: float, is_taken: bool) -> None:
    """Signed more than 300 s ago or ahead, a request is refused, however right its signature."""
    taken = request(sign(style, secret_of(style), b"{}", id_="m1", at=NOW + off_s), b"{}")

    if is_taken:
        verify(style, [secret_of(style)], taken)
    else:
        assert refusal(style, taken) == "stale"


@pytest.mark.parametrize("time_", ["", "1e9", "-1", "١٢٣", "1" * 13, "0x10", "1 "])
def test_a_time_is_digits(time_: str) -> None:
    """What is no number of seconds is refused, also where Python would read it as one."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = base64.b64encode(hmac.digest(key, f"m1.{time_}.".encode() + b"{}", "sha256")).decode()
    headers = {"webhook-id": "m1", "webhook-timestamp": time_, "webhook-signature": f"v1,{signature}"}

    assert refusal("standard", Request(Headers(headers.items()), (), b"{}", 1.0)) in ("unsigned", "bad_signature")


def test_a_full_stop_in_an_id_moves_no_border() -> None:
    """What is signed as id, time and body is not taken as another id, time and body of the same bytes."""
    signed = sign("standard", STANDARD, f"{int(NOW)}.{{}}".encode(), id_="m1", at=NOW)
    moved = {**signed, "webhook-id": f"m1.{int(NOW)}"}

    assert refusal("standard", request(moved, b"{}")) == "bad_signature"


@pytest.mark.parametrize("style", STYLES)
def test_a_repeated_header_is_refused(style: Style) -> None:
    """Nobody knows which of two values another reader has believed."""
    signed = sign(style, secret_of(style), b"{}", id_="m1", at=NOW)
    name = list(signed)[-1]
    twice = Headers([*signed.items(), (name.title(), signed[name])])

    assert refusal(style, Request(twice, (), b"{}", NOW)) == "repeated_header"


def test_many_signatures_cost_little() -> None:
    """A header with more signatures than a change of secrets needs is refused before any is compared."""
    signed = sign("standard", STANDARD, b"{}", id_="m1", at=NOW)
    many = " ".join([signed["webhook-signature"]] * 11)

    assert refusal("standard", request({**signed, "webhook-signature": many}, b"{}")) == "bad_signature"


@pytest.mark.parametrize("secret", ["whsec_", "whsec_AAAA", "whsec_***", "hello"])
def test_a_secret_without_the_form_is_told(secret: str) -> None:
    """A secret that is not base64, or too short, lets nobody in; what it holds is not told."""
    with pytest.raises(BadSecret) as bad:
        verify("standard", [Secret(secret)], request({}, b""))
    assert "hello" not in str(bad.value)


@pytest.mark.parametrize("style", STYLES)
def test_comparing_takes_every_pair(style: Style, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each secret is compared with each signature by `compare_digest`, also after one has fitted."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(styles.hmac, "compare_digest", lambda a, b: (compared.append((a, b)), real(a, b))[1])
    other = Secret("whsec_" + base64.b64encode(b"o" * 24).decode())
    verify(style, [secret_of(style), other], request(sign(style, secret_of(style), b"{}", id_="m", at=NOW), b"{}"))

    assert len(compared) == 2
    assert json.dumps([len(a) for a, _ in compared]) == "[32, 32]"
