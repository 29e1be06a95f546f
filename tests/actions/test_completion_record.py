"""What a completion says of its attempts, their tokens and their cost."""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from weft.catalogue import Catalogue, Model, Prices, load
from weft.errors import ActionError
from weft.sdk import ActionContext, Attempt, Connection, Json, Secret, Variant
from weft.testing.model_server import Answer, Ok, Status

chat = importlib.import_module("weft_core.actions.generate_chat_completion")
record = importlib.import_module("weft_core.actions._chat_record")

PRICES = Prices("EUR", input=100.0, output=1000.0)
NOTHING: Json = {"amount": 0, "currency": "USD"}
COUNTED = {"prompt_tokens": 21, "completion_tokens": 12, "total_tokens": 33}
COST = {"amount": pytest.approx(0.0141), "currency": "EUR"}


def with_own_prices(*names: str) -> Catalogue:
    """A catalogue in which somebody has written down what models of a server of his own cost."""
    models = {name: Model("openai", name, prices=PRICES, own=True) for name in names}
    provider = replace(load().provider("openai"), models=models)
    return Catalogue(lambda: {"openai": lambda: provider})


async def complete(server: Any, answer: Answer, **facts: Any) -> Any:
    server.script(answer)
    given = {"provider": "openai", "model": "mine", "messages": [{"role": "user", "content": "Hello"}]}
    values = {"provider": "openai", "api_key": Secret("key"), "api_base": server.base_url}
    values |= facts.pop("values", {})
    context = ActionContext(
        run_id="run",
        path="/answer",
        attempt=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        idempotency_key="key",
        deadline=time.monotonic() + facts.pop("seconds", 30),
        connection=Connection("mine", "model_provider", values),
        catalogue=facts.pop("catalogue", with_own_prices("mine")),
        **{name: facts.pop(name) for name in ("previous", "variant", "watched") if name in facts},
    )
    return await chat.generate_chat_completion(chat.Arguments(**{**given, **facts}), context)


async def failure(server: Any, answer: Answer, **facts: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await complete(server, answer, **facts)
    return caught.value


@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
async def test_an_answer_with_a_price(model_server: Any, watched: bool) -> None:
    """Prices that the operator has written down hold for a server of his own, in his currency."""
    output = await complete(model_server, Ok(), watched=watched)
    [attempt] = output["weft"]["attempts"]
    assert (attempt["cost"], attempt["tokens"]) == (COST, COUNTED)
    assert (output["weft"]["cost"], output["weft"]["tokens"]) == (COST, COUNTED)


async def test_a_private_server_is_not_priced_as_the_public_one(model_server: Any) -> None:
    """A model of the same name on another server costs nobody knows what; tokens are counted all the same."""
    output = await complete(model_server, Ok(), catalogue=load(), model="gpt-4o-mini")
    assert (output["weft"]["cost"], output["weft"]["tokens"]) == ("unknown", COUNTED)


def test_the_public_server_has_public_prices() -> None:
    """The shipped catalogue prices a model of the provider's own server."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    cost = record.price(usage, load(), "openai", "gpt-4o-mini", public=True)
    assert cost == {"amount": pytest.approx(0.00045), "currency": "USD"}
    assert record.price(usage, load(), "openai", "nobody-knows-it", public=True) == "unknown"
    assert record.price(None, load(), "openai", "gpt-4o-mini", public=True) == "unknown"
    assert record.price(usage, load(), "openai", "gpt-4o-mini", public=False) == "unknown"


async def test_nobody_counted(model_server: Any) -> None:
    """Tokens that nobody counted are unknown, and so is their cost."""
    output = await complete(model_server, Ok(usage=None))
    assert (output["weft"]["cost"], output["weft"]["tokens"]) == ("unknown", "unknown")


BILLED: list[tuple[Answer, str]] = [
    (Ok("", finish_reason="length"), "truncated"),
    (Ok("", finish_reason="content_filter"), "content_filter"),
    (Ok(None, message={"refusal": "no"}), "refused"),
    (Ok(""), "empty_response"),
]


@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("answer", "kind"), BILLED)
async def test_a_failure_that_is_paid_for(model_server: Any, answer: Answer, kind: str, watched: bool) -> None:
    """An answer that is no success has its tokens and its cost on record."""
    error = await failure(model_server, answer, watched=watched)
    assert (error.kind, error.details["usage"], error.details["cost"]) == (kind, COUNTED, COST)


@pytest.mark.parametrize(
    ("status", "cost"),
    [
        (401, {"amount": 0, "currency": "EUR"}),
        (404, {"amount": 0, "currency": "EUR"}),
        (429, {"amount": 0, "currency": "EUR"}),
        (400, "unknown"),
        (500, "unknown"),
        (529, "unknown"),
    ],
)
async def test_the_cost_of_a_refusal(model_server: Any, status: int, cost: Json) -> None:
    """Who was turned away pays nothing; whether a request that broke was worked on, nobody tells."""
    error = await failure(model_server, Status(status))
    assert error.details["cost"] == cost
    assert "usage" not in error.details


async def test_what_was_not_sent_costs_nothing(model_server: Any, unused_tcp_port: int) -> None:
    """Where there was no connection, or the request was refused by us, the cost is zero and not unknown."""
    gone = f"http://127.0.0.1:{unused_tcp_port}/v1"
    error = await failure(model_server, Ok(), values={"api_base": gone})
    assert (error.kind, error.details["cost"]["amount"]) == ("connection_failed", 0)
    refused = await failure(model_server, Ok(), additional_parameters={"mock_delay": 1})
    assert record.earlier(Attempt("openai/mine", 1, refused.kind, None, 1, 0.0, refused.details))["cost"] == NOTHING
    assert model_server.requests == []


PAID: Json = {"amount": 0.5, "currency": "EUR"}
TOTALS: list[tuple[Attempt, Json, Json]] = [
    (
        Attempt("openai/mine", 1, "truncated", 200, 9, 0.0, {"cost": PAID, "usage": COUNTED}),
        {"amount": pytest.approx(0.5141), "currency": "EUR"},
        {"prompt_tokens": 42, "completion_tokens": 24, "total_tokens": 66},
    ),
    (Attempt("openai/mine", 1, "rate_limited", 429, 9, 0.0, {"cost": NOTHING}), COST, COUNTED),
    (Attempt("openai/mine", 1, "unknown_connection", None, 0, 0.0), COST, COUNTED),
    (Attempt("openai/mine", 1, "timeout", None, 9, 0.0), "unknown", "unknown"),
    (Attempt("openai/mine", 1, "server_error", 500, 9, 0.0, {"cost": "unknown"}), "unknown", "unknown"),
    (
        Attempt("openai/x", 1, "truncated", 200, 9, 0.0, {"cost": {"amount": 1, "currency": "USD"}, "usage": COUNTED}),
        "unknown",
        {"prompt_tokens": 42, "completion_tokens": 24, "total_tokens": 66},
    ),
]


@pytest.mark.parametrize(("before", "cost", "tokens"), TOTALS)
async def test_the_total_of_a_step(model_server: Any, before: Attempt, cost: Json, tokens: Json) -> None:
    """All attempts are added up; one of unknown cost, or in another currency, makes the sum unknown."""
    output = await complete(model_server, Ok(), previous=(before,))
    assert (output["weft"]["cost"], output["weft"]["tokens"]) == (cost, tokens)
    assert [attempt["kind"] for attempt in output["weft"]["attempts"]] == [before.kind, "ok"]


async def test_a_fallback_leaves_out_what_its_model_does_not_take(model_server: Any) -> None:
    """What the author asked of the first model is no reason for a fallback to fail; the record tells what is missing."""
    before = Attempt("openai/mine", 1, "overloaded", 503, 9, 0.0, {"dropped_parameters": ["seed"]})
    output = await complete(
        model_server,
        Ok(),
        catalogue=load(),
        previous=(before,),
        variant=Variant("openai/o3-mini", arguments={"provider": "openai", "model": "o3-mini"}, provider="openai"),
        model="o3-mini",
        temperature=0.3,
    )
    assert "temperature" not in model_server.requests[0].json
    assert output["weft"]["dropped_parameters"] == ["temperature"]
    assert [attempt["dropped_parameters"] for attempt in output["weft"]["attempts"]] == [["seed"], ["temperature"]]


async def test_a_failed_fallback_tells_what_it_left_out(model_server: Any) -> None:
    """What was left out stands in the details of a failure as well, for the record of the chain."""
    variant = Variant("openai/o3-mini", arguments={"model": "o3-mini"}, provider="openai")
    error = await failure(
        model_server, Status(503), catalogue=load(), variant=variant, model="o3-mini", temperature=0.3
    )
    assert error.details["dropped_parameters"] == ["temperature"]


async def test_tools_are_left_out_with_all_that_needs_them(model_server: Any) -> None:
    """A fallback without tools gets neither a choice among them nor a word on calling them at once."""
    tool: Json = {"type": "function", "function": {"name": "look"}}
    output = await complete(
        model_server,
        Ok(),
        catalogue=load(),
        variant=Variant("perplexity/sonar", arguments={"model": "sonar"}, provider="perplexity"),
        values={"provider": "perplexity"},
        provider="perplexity",
        model="sonar",
        tools=[tool],
        tool_choice="auto",
        parallel_tool_calls=False,
    )
    assert set(output["weft"]["dropped_parameters"]) == {"tools", "tool_choice", "parallel_tool_calls"}
    assert model_server.requests[0].json.keys() == {"model", "messages"}
