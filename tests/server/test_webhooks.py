"""Webhooks over real HTTP: who is taken, what a run sees, and one run for one message."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hooking import SECRETS, STEP, WORKFLOW, hook, problem
from premises import Served, serve

from weft.redaction import Secret
from weft.triggers import trigger_run_id
from weft.webhooks.reporting import report_of
from weft.webhooks.styles import Style


@pytest.fixture
async def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    for style, secret in SECRETS.items():
        monkeypatch.setenv(f"{style.upper()}_SIGNING_SECRET", secret)
    async with serve(place) as served:
        yield served


# ---- one message, one run
async def test_a_message_is_a_run(served: Served) -> None:
    """A11: 202 with the id of a run that is on record; the same message again is 200 with the same id, and no run."""
    orders = await hook(served)
    first = await orders.post({"n": 4})
    again = await orders.post({"n": 4})

    assert (first.status_code, again.status_code) == (202, 200)
    run_id = first.json()["run_id"]
    assert run_id == again.json()["run_id"] == first.headers["weft-run"] == trigger_run_id("webhook", *_key("standard"))
    assert await orders.runs() == [run_id]
    listed = await served.house.runtime.journal.status(run_id)
    assert json.loads(listed.row.inputs) == {"n": 4}


def _key(name: str, id_: str = "m1") -> tuple[str, str, str]:
    return name, name, f"id:{id_}"


async def test_the_same_id_with_another_body_is_a_conflict(served: Served) -> None:
    """A11: rightly signed, it is refused all the same, and starts nothing."""
    orders = await hook(served)
    await orders.post({"n": 4})

    assert problem(await orders.post({"n": 5})) == (409, "other_request")
    assert len(await orders.runs()) == 1


async def test_a_run_sees_the_request(served: Served) -> None:
    """`trigger` has the body, the query and the usual headers; never a signature, a cookie or a credential."""
    orders = await hook(served, more="headers: [x-shop]")
    text = "{{ 7*7 }} {% raw %} \\u0000 <script>"
    body = json.dumps({"n": 2, "text": text, "nul": "\x00"}).encode()
    answer = await orders.client.post(
        f"{orders.path}?source=a%26b",
        content=body,
        headers={
            **orders.headers(body),
            "authorization": "Bearer canary-1",
            "cookie": "canary-2",
            "x-api-key": "canary-3",
            "x-shop": "north",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        },
    )
    trigger = await orders.trigger(answer.json()["run_id"])

    assert trigger["body"] == {"n": 2, "text": text, "nul": "\x00"}
    assert trigger["query"] == {"source": "a&b"}
    assert (trigger["type"], trigger["method"], trigger["webhook"], trigger["id"]) == (
        *("webhook", "POST", "standard", "m1"),
    )
    assert {"content-type", "webhook-id", "webhook-timestamp", "x-shop"} <= trigger["headers"].keys()
    assert "canary" not in json.dumps(trigger)
    assert "webhook-signature" not in trigger["headers"]
    assert trigger["traceparent"].startswith("00-0af7651916cd43dd")


@pytest.mark.parametrize("style", ["github", "slack", "stripe"])
async def test_each_style_names_its_messages(served: Served, style: Style) -> None:
    """A11: GitHub by its delivery, Slack and Stripe by the id of the event: one run each, however often they are sent."""
    events = await hook(served, style)
    bodies: dict[Style, dict[str, Any]] = {
        "github": {"n": 1},
        "slack": {"type": "event_callback", "event_id": "Ev1", "n": 1},
        "stripe": {"id": "evt_1", "pending_webhooks": 2, "n": 1},
    }
    first = await events.post(bodies[style])
    again = await events.post({**bodies[style], **({"pending_webhooks": 1} if style == "stripe" else {})})
    changed = await events.post({**bodies[style], "n": 2})
    other = await events.post({**bodies[style], "event_id": "Ev2", "id": "evt_2"}, "m2")

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert first.json() == again.json()
    assert problem(changed) == (409, "other_request")
    assert len(await events.runs()) == 2


async def test_what_only_asks_whether_somebody_is_there_starts_nothing(served: Served) -> None:
    """Slack gets its challenge back, GitHub's ping is answered; both only when they are signed."""
    slack, github = await hook(served, "slack"), await hook(served, "github")
    challenge = await slack.post(
        {"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}
    )
    ping = await github.post({"zen": "Design for failure."}, **{"x-github-event": "ping"})
    unsigned = await slack.client.post(slack.path, json={"type": "url_verification", "challenge": "x"})

    assert (challenge.status_code, challenge.text) == (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
    assert challenge.headers["content-type"].startswith("text/plain")
    assert (ping.status_code, ping.json()) == (200, {"pong": True})
    assert problem(unsigned) == (401, "unsigned")
    assert [*await slack.runs(), *await github.runs()] == []


async def test_a_slash_command_is_a_form(served: Served) -> None:
    """The fields of a form are data; posted once more as it was, with its time, it is the same message (A11)."""
    slack = await hook(served, "slack")
    body = b"command=%2Fgo&text=now+%7B%7B1%7D%7D&user_id=U1"
    headers = {**slack.headers(body, at=time.time()), "content-type": "application/x-www-form-urlencoded"}
    answers = [await slack.client.post(slack.path, content=body, headers=headers) for _ in range(3)]
    later = slack.headers(body, at=time.time() + 5)
    other = await slack.client.post(
        slack.path, content=body, headers={**headers, **later, "content-type": headers["content-type"]}
    )

    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert other.status_code == 202
    trigger = await slack.trigger(answers[0].json()["run_id"])
    assert trigger["body"] == {"command": "/go", "text": "now {{1}}", "user_id": "U1"}


async def test_a_window_makes_the_same_body_one_message(served: Served) -> None:
    """A11: where the sender proves no id, the author's window counts; after it the same body is a new message."""
    github = await hook(served, "github", more="window: 1s")
    together = await asyncio.gather(*(github.post({"n": 1}, f"d{n}") for n in range(5)))
    ids = {answer.json()["run_id"] for answer in together}

    assert sorted(answer.status_code for answer in together) == [200, 200, 200, 200, 202]
    assert len(ids) == 1
    await asyncio.sleep(1.1)
    assert (await github.post({"n": 1}, "d9")).json()["run_id"] not in ids


async def test_without_an_id_each_post_is_a_run(served: Served) -> None:
    """A11: nobody guesses that two posts are one."""
    github = await hook(served, "github")
    body = b'{"n": 1}'
    headers = {name: text for name, text in github.headers(body).items() if name != "x-github-delivery"}
    answers = [await github.client.post(github.path, content=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(await github.runs()) == 2


async def test_a_message_stays_what_it_was_when_the_workflow_changes(served: Served) -> None:
    """A11: redelivered after an edit that would not take it any more, it answers as the first time."""
    orders = await hook(served)
    first = await orders.post({"n": 1})
    text = WORKFLOW.format(name="standard", style="standard", more="", steps=STEP)
    served.write("standard", text.replace("type: integer, default: 0", "type: boolean, default: false"))

    again = await orders.post({"n": 1})
    assert (again.status_code, again.json()) == (200, first.json())
    refused = await orders.post({"n": 1}, "m2")
    assert problem(refused) == (422, "unfit")
    assert "boolean" not in refused.text


async def test_what_a_limit_leaves_out_is_not_sent_again(served: Served) -> None:
    """Where the author says that one more run is skipped, the sender is told so with success."""
    more = "\nconcurrency: {limit: 1, policy: skip}\n#"
    orders = await hook(served, steps="{id: a, wait: {for: 1h}}")
    served.write(
        "standard", WORKFLOW.format(name="standard", style="standard", more="", steps="{id: a, wait: {for: 1h}}") + more
    )
    first, second = await orders.post({"n": 1}), await orders.post({"n": 1}, "m2")

    assert first.status_code == 202
    assert (second.status_code, second.json()) == (200, {"run_id": None, "skipped": "at_the_limit"})


# ---- the address
async def test_an_address_stays_over_edits_and_ends_when_it_is_turned(served: Served) -> None:
    """256 random bits; rotated, the old one is gone at once, or reached for as long as was said."""
    orders = await hook(served)
    assert len(orders.path.rpartition("/")[2]) == 43
    assert (await hook(served, more="synchronous: false")).path == orders.path
    editor = await served.client("edit")
    turned = (await editor.post("/api/v1/webhooks/standard/standard/rotate", json={})).json()
    assert turned["url"] != orders.path
    assert problem(await orders.post({"n": 1})) == (410, "gone")

    orders.path = turned["url"]
    assert (await orders.post({"n": 1})).status_code == 202
    again = (await editor.post("/api/v1/webhooks/standard/standard/rotate", json={"overlap": "1s"})).json()
    assert (await orders.post({"n": 1})).status_code == 200
    await asyncio.sleep(1.1)
    assert (await orders.post({"n": 1})).status_code == 410
    orders.path = again["url"]
    assert (await orders.post({"n": 1})).status_code == 200


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("enabled: true", "enabled: false"), (404, "disabled")),
        (("on:\n  webhook:", "variables:\n  webhook:"), (410, "gone")),
        (("steps:", "stpes:"), (503, "faulty_workflow")),
    ],
)
async def test_what_takes_nothing_says_why(served: Served, change: tuple[str, str], found: tuple[int, str]) -> None:
    """At once, also right after a message was taken: disabled 404, taken out 410, with faults 503, to be sent again."""
    orders = await hook(served)
    assert (await orders.post({"n": 1}, "before")).status_code == 202
    file = served.workspace / "standard.yaml"
    file.write_text(file.read_text().replace(*change))

    assert problem(await orders.post({"n": 1})) == found
    file.unlink()
    assert problem(await orders.post({"n": 1})) == (410, "gone")
    assert len(await orders.runs()) == 1


async def test_two_secrets_while_one_is_being_replaced(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender may change over when it likes; once the old one is taken away, it is worth nothing."""
    orders = await hook(served)
    monkeypatch.setenv("STANDARD_SIGNING_SECRET", "whsec_" + "A" * 32)
    assert problem(await orders.post({"n": 1})) == (401, "bad_signature")
    monkeypatch.setenv("STANDARD_PREVIOUS_SIGNING_SECRET", SECRETS["standard"])
    assert (await orders.post({"n": 1})).status_code == 202
    orders.secret = Secret("whsec_" + "A" * 32)
    assert (await orders.post({"n": 1}, "m2")).status_code == 202


async def test_without_its_secret_a_webhook_takes_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is gone closes the door, it does not open it; the answer does not name it."""
    orders = await hook(served)
    monkeypatch.delenv("STANDARD_SIGNING_SECRET")
    refused = await orders.post({"n": 1})

    assert problem(refused) == (503, "unchecked")
    assert "retry-after" in refused.headers
    assert (await report_of(served.house.runtime, "", "standard")).state == "unsigned"
    assert await orders.runs() == []


# ---- waiting for the end
async def test_the_answer_holds_the_outputs(served: Served) -> None:
    """A synchronous webhook answers with what the run returns; asked once more, with the same."""
    orders = await hook(served, more="synchronous: true")
    first, again = await orders.post({"n": 21}), await orders.post({"n": 21})

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["doubled"] == 42
    assert first.json() == again.json()
    assert [first.headers["weft-run"]] == await orders.runs()


async def test_a_run_that_takes_longer_is_named(served: Served) -> None:
    """After its time the answer is 202 with the run, which goes on."""
    orders = await hook(served, more="synchronous: true\n      timeout: 300ms", steps="{id: a, wait: {for: 2s}}")
    began = time.monotonic()
    slow = await orders.post({"n": 1})

    assert slow.status_code == 202
    assert 0.3 <= time.monotonic() - began < 1.5
    assert [slow.json()["run_id"]] == await orders.runs()


async def test_a_failed_run_is_told_without_its_inside(served: Served) -> None:
    """500 with the id of the run and nothing of why it failed."""
    steps = '{id: a, uses: fail, with: {message: "canary inside"}}'
    orders = await hook(served, more="synchronous: true", steps=steps)
    failed = await orders.post({"n": 1})

    assert problem(failed) == (500, "run_failed")
    assert [failed.headers["weft-run"]] == await orders.runs()
    assert "canary" not in failed.text


# ---- the API and the command line beside it
async def test_addresses_are_for_those_who_may_edit(served: Served) -> None:
    """Who may only look sees that there is a webhook, not where; who may not edit cannot turn it. Turning is on record."""
    orders = await hook(served)
    viewer, editor = await served.client("view"), await served.client("view", "edit")
    [seen], [known] = (await viewer.get("/api/v1/webhooks")).json(), (await editor.get("/api/v1/webhooks")).json()

    assert (seen["url"], known["url"]) == (None, orders.path)
    assert {**seen, "url": orders.path} == known
    assert (await viewer.post("/api/v1/webhooks/standard/standard/rotate", json={})).status_code == 403
    assert (await editor.post("/api/v1/webhooks/standard/nothing/rotate", json={})).status_code == 404
    assert (await editor.post("/api/v1/webhooks/standard/standard/rotate", json={"overlap": "x"})).status_code == 422
    await editor.post("/api/v1/webhooks/standard/standard/rotate", json={})
    assert [entry.action for entry in await served.house.audit.list()] == ["webhook.rotated"]
