"""From budgets and connections to meters, and back to what people are told."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from weft import plan, source, structure
from weft.budgets import Budgets, units
from weft.budgets.keys import Kept
from weft.connections import Connections, Environment
from weft.errors import Problem
from weft.executor import Call
from weft.journal.base import Full, Meter, Settled
from weft.outcome import Failure, Outcome
from weft.plan import Plan
from weft.redaction import Redactor
from weft.registry import Registry
from weft.sdk import Variant
from weft.types import JsonObject
from weft.workflow import DayBudget
from weft.workspace import WorkspaceBudget

NOON = 1_772_366_400.0  #: 2026-03-01
DAY = "2026-03-01"
COST = Kept("cost", "run", "r1", currency="USD").key
STEP = "steps: [{id: ask, uses: generate_chat_completion, connection: openai, with: {provider: openai, model: m, messages: [{role: user, content: Hi}]}"
ASKED: JsonObject = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1000,
}
KEY = {"OPENAI_API_KEY": "sk-lab"}


class Bench:
    """A workflow of one step, an attempt of it, and what brakes it."""

    def __init__(self, registry: Registry, text: str, *, environ: Mapping[str, str] = KEY, **more: Any) -> None:
        document = source.read(textwrap.dedent(text), "lab.yaml")
        types = {kind.id: kind for kind in registry.connection_types()}
        from weft.catalogue import load

        connections = Connections([Environment(types, environ, load())], Redactor())
        self.plan: Plan = plan.compile(structure.load(document), document, registry, connections=connections)
        self.now = NOON
        self.brake = Budgets(connections, lambda: self.now, more.get("workspace"))

    def call(self, given: JsonObject | None = None, **more: Any) -> Call:
        facts: dict[str, Any] = {"run_id": "r1", "path": "/ask", "number": 1} | more
        variant = facts.pop("variant", Variant("openai/gpt-4o-mini", provider="openai"))
        return Call(
            step=self.plan.steps[0],
            arguments={**ASKED, **(given or {})},
            variant=variant,
            run_started_at=NOON,
            idempotency_key="k",
            step_key="k",
            **facts,
        )

    def meters(self, given: JsonObject | None = None, **more: Any) -> dict[str, Meter]:
        found = self.brake.meters(self.call(given, **more), self.plan)
        assert isinstance(found, tuple), found
        return {meter.key: meter for meter in found}

    def failure(self, given: JsonObject | None = None, **more: Any) -> Failure:
        found = self.brake.meters(self.call(given, **more), self.plan)
        assert isinstance(found, Failure)
        return found

    def settled(self, meters: Mapping[str, Meter], outcome: Outcome) -> Settled:
        return self.brake.settled(self.call(), tuple(meters.values()), outcome)


@pytest.fixture
def bench(core_registry: Registry) -> Any:
    return lambda text, **more: Bench(core_registry, text, **more)


def with_budget(budget: str, step: str = "") -> str:
    return f"name: w\n{STEP}{step}}}]\n" + (f"budget: {budget}\n" if budget else "")


def answered(cost: Any, tokens: Any) -> Outcome:
    output: Any = {"weft": {"attempts": [{"cost": cost, "tokens": tokens}]}}
    return Outcome("succeeded", "openai/gpt-4o-mini", NOON, NOON, output=output)


def test_without_budget_and_limits_nothing_is_counted(bench: Any) -> None:
    """Most attempts take the path that they would take without any of this."""
    assert bench(with_budget("")).brake.meters(bench(with_budget("")).call(), bench(with_budget("")).plan) == ()


def test_every_cap_is_a_meter_of_its_own(bench: Any) -> None:
    """Step, run, workflow and workspace count beside each other, the narrowest first."""
    workspace = WorkspaceBudget(day=DayBudget(cost=9.0, steps=7))
    found = bench(
        with_budget("{cost: 1, tokens: 5000, day: {cost: 2.5, tokens: 9000, steps: 3}}", ", budget: {cost: 0.5}"),
        workspace=workspace,
    ).meters()
    assert {key: meter.most for key, meter in found.items()} == {
        "cost USD step - r1 /ask": 500_000_000,
        COST: 1_000_000_000,
        "tokens - run - r1": 5000,
        f"cost USD workflow {DAY} w": 2_500_000_000,
        f"tokens - workflow {DAY} w": 9000,
        f"steps - workflow {DAY} w": 3,
        f"cost USD workspace {DAY} ": 9_000_000_000,
        f"steps - workspace {DAY} ": 7,
    }
    costs = {meter.amount for key, meter in found.items() if key.startswith("cost")}
    assert len(costs) == 1
    assert 600_000 < costs.pop() < 1_000_000  # a thousand tokens of the answer, and the prompt
    assert found[f"steps - workspace {DAY} "].amount == 1
    assert all(meter.window_s is None and not meter.live for meter in found.values())


def test_the_day_is_that_of_the_reservation(bench: Any) -> None:
    """A run that goes on over midnight in UTC counts on both days."""
    lab = bench(with_budget("{day: {cost: 1}}"))
    before = list(lab.meters())
    lab.now += 43_200
    assert (before, list(lab.meters())) == (
        ["cost USD workflow 2026-03-01 w"],
        ["cost USD workflow 2026-03-02 w"],
    )


def test_a_step_of_the_day_counts_once(bench: Any) -> None:
    """Further attempts, and the repeat of one that a crash cut off, are none."""
    lab = bench(with_budget("{day: {steps: 3}}"))
    assert len(lab.meters()) == 1
    assert lab.meters(number=2) == {}
    assert lab.meters(begun=True) == {}


def test_a_fallback_has_an_estimate_of_its_own(bench: Any) -> None:
    """What is reserved is what this attempt may cost, not what the first model would have."""
    lab = bench(with_budget("{cost: 1}"))
    dear = Variant("openai/gpt-4o", arguments={"provider": "openai", "model": "gpt-4o"}, provider="openai")
    assert lab.meters(variant=dear)[COST].amount > 10 * lab.meters()[COST].amount


def test_an_action_that_uses_up_nothing_counts_as_a_step_alone(bench: Any) -> None:
    """Neither money nor tokens are reserved for it."""
    lab = bench(
        "name: w\nsteps: [{id: say, uses: log, with: {message: hi}}]\nbudget: {cost: 1, tokens: 5, day: {steps: 2}}\n"
    )
    assert list(lab.meters()) == [f"steps - workflow {DAY} w"]


@pytest.mark.parametrize(
    ("budget", "given", "code", "told"),
    [
        ("{cost: 1}", {"model": "new"}, "unknown_price", "has no price in the catalogue"),
        ("{day: {cost: 1}}", {"model": "new"}, "unknown_price", "the day's budget of workflow 'w'"),
        ("{cost: 1, currency: EUR}", {}, "unknown_price", "paid in USD, and the cap of the run's budget is in EUR"),
        ("{tokens: 9}", {"model": "new", "max_tokens": None}, "unknown_tokens", "Max Tokens is not given"),
    ],
)
def test_what_nobody_knows_is_loud(bench: Any, budget: str, given: JsonObject, code: str, told: str) -> None:
    """A call whose price or length has no bound is not made, and the remedies are told."""
    failure = bench(with_budget(budget)).failure(given)
    assert failure.kind == code
    assert told in failure.problem.message
    assert "unknown_price: allow" in failure.problem.remedy
    assert (failure.effect, failure.retryable, failure.details["fallback"]) == ("none", False, False)
    assert failure.problem.where.step == "ask"


def test_what_nobody_knows_may_be_allowed(bench: Any) -> None:
    """Then nothing is reserved, and what is known afterwards counts."""
    lab = bench(with_budget("{cost: 1, tokens: 9, unknown_price: allow}"))
    found = lab.meters({"model": "new", "max_tokens": None})
    assert [meter.amount for meter in found.values()] == [0, 0]
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert lab.settled(found, answered("unknown", counts)).amounts == {"tokens - run - r1": 7}


def test_a_cap_in_another_scope_still_blocks(bench: Any) -> None:
    """That a workflow allows unknown prices binds the workspace to nothing."""
    workspace = WorkspaceBudget(day=DayBudget(cost=9.0))
    failure = bench(with_budget("{cost: 1, unknown_price: allow}"), workspace=workspace).failure({"model": "new"})
    assert "the day's budget of the workspace" in failure.problem.message


def test_an_absurd_count_is_counted_as_much_as_can_be(bench: Any) -> None:
    """What a server tells of itself neither breaks the sums of a journal nor goes for nothing."""
    lab = bench(with_budget("{cost: 1, tokens: 90000}"))
    counts = {"prompt_tokens": 2**62, "completion_tokens": 2**62, "total_tokens": 2**63}
    settled = lab.settled(lab.meters(), answered({"amount": 1e300, "currency": "USD"}, counts))
    assert settled.amounts == {COST: units.LARGEST_COST, "tokens - run - r1": units.LARGEST_TOKENS}


def test_a_cap_that_no_journal_can_hold_is_the_largest_one(bench: Any) -> None:
    """Money and tokens alike; nothing ever comes near it."""
    huge = 2**63 - 1
    lab = bench(with_budget(f"{{cost: {huge}.0, tokens: {huge}, day: {{steps: {huge}}}}}"))
    assert {meter.most for meter in lab.meters().values()} == {units.LARGEST}


def test_what_returned_and_could_not_be_kept_stays_reserved(bench: Any) -> None:
    """The call was made and is paid for, though the run has no room for its answer."""
    lab = bench(with_budget("{cost: 1, tokens: 90000}"))
    failure = Failure(Problem("run_too_large", "."), effect="happened")
    assert lab.settled(lab.meters(), Outcome("failed", "v", NOON, NOON, failure=failure)).amounts == {}


def test_names_with_the_same_variables_share_a_limit(bench: Any) -> None:
    """`my-mail` and `my_mail` are one account when variables make them, with one password and one limit."""
    environ = {"MY_MAIL_HOST": "mail.example.com", "MY_MAIL_FROM": "a@example.com", "MY_MAIL_CONCURRENCY": "1"}
    mail = "with: {to: b@example.com, subject: Hi, body: Hi}"
    texts = [
        f"name: w\nsteps: [{{id: m, uses: send_email, connection: {name}, {mail}}}]\n"
        for name in ("my-mail", "my_mail")
    ]
    assert [list(bench(text, environ=environ).meters()) for text in texts] == [["slots@smtp/my-mail"]] * 2


def test_what_was_used_up_takes_the_place_of_what_was_reserved(bench: Any) -> None:
    """Cost and tokens of the answer, rounded up to a unit."""
    lab = bench(with_budget("{cost: 1, tokens: 90000, day: {steps: 3}}"))
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    settled = lab.settled(lab.meters(), answered({"amount": 0.0000000011, "currency": "USD"}, counts))
    assert settled == Settled("/ask", 1, {COST: 2, "tokens - run - r1": 7})


@pytest.mark.parametrize(
    ("outcome", "amounts"),
    [
        (answered("unknown", "unknown"), {}),
        (answered({"amount": 1, "currency": "EUR"}, "unknown"), {}),
        (Outcome("cancelled", "v", NOON, NOON), {}),
        (Outcome("failed", "v", NOON, NOON, failure=Failure(Problem("timeout", "."))), {}),
        (Outcome("failed", "v", NOON, NOON, failure=Failure(Problem("unknown_connection", "."))), {COST: 0}),
    ],
)
def test_what_is_not_known_stays_reserved(bench: Any, outcome: Outcome, amounts: dict[str, int]) -> None:
    """An attempt that may have run costs what was reserved, unless its usage is known."""
    lab = bench(with_budget("{cost: 1}"))
    assert lab.settled(lab.meters(), outcome).amounts == amounts


def test_a_full_budget_says_how_much_is_left(bench: Any) -> None:
    """What was asked for, what is left, of what, and what to do."""
    lab = bench(with_budget("{cost: 1}"))
    meters = lab.meters()
    failure = lab.brake.refused(lab.call(), tuple(meters.values()), Full(COST, 999_900_000, 1_000_000_000))
    assert failure.kind == "budget_exceeded"
    assert "the run's budget has 0.0001 USD left of 1.00 USD" in failure.problem.message
    assert failure.problem.remedy == "Raise the cap, or do less in one run."
    assert failure.details["budget"] == {
        "what": "cost",
        "scope": "run",
        "asked": meters[COST].amount / 1e9,
        "used": 0.9999,
        "cap": 1.0,
        "currency": "USD",
    }


@pytest.mark.parametrize(
    ("key", "most", "told", "remedy"),
    [
        (
            f"tokens - workflow {DAY} w",
            10,
            "10 tokens left of 10 tokens",
            "Allow the answer fewer tokens with Max Tokens",
        ),
        (
            f"steps - workspace {DAY} ",
            1,
            "counts as 1 step",
            "Wait until the next day in UTC, or raise the cap in works",
        ),
    ],
)
def test_the_remedy_is_that_of_the_cap(bench: Any, key: str, most: int, told: str, remedy: str) -> None:
    """A call that is larger than the whole cap will not fit tomorrow either."""
    lab = bench(with_budget("{day: {tokens: 10}}"), workspace=WorkspaceBudget(day=DayBudget(steps=1)))
    used = 0 if "tokens" in key else most
    failure = lab.brake.refused(lab.call(), tuple(lab.meters().values()), Full(key, used, most))
    assert told in failure.problem.message
    assert failure.problem.remedy.startswith(remedy)


# ---- connections
LIMITED = {**KEY, "OPENAI_CONCURRENCY": "3", "OPENAI_REQUESTS_PER_MINUTE": "60", "OPENAI_TOKENS_PER_MINUTE": "9000"}


def test_the_limits_of_the_connection_are_meters(bench: Any) -> None:
    """Slots while the attempt goes on, requests and tokens within 60 seconds."""
    found = bench(with_budget(""), environ=LIMITED).meters()
    slots, requests, tokens = found.values()
    assert (slots.key, slots.amount, slots.most, slots.live) == ("slots@model_provider/openai", 1, 3, True)
    assert (requests.key, requests.amount, requests.most, requests.window_s) == (
        "requests@model_provider/openai",
        1,
        60,
        60.0,
    )
    assert (tokens.key, tokens.most, tokens.window_s) == ("tokens@model_provider/openai", 9000, 60.0)
    assert 1000 < tokens.amount < 9000


def test_who_needs_more_than_a_minutes_tokens_waits_for_an_empty_one(bench: Any) -> None:
    """A call that is larger than the limit is not kept out for ever; neither is one without a bound."""
    lab = bench(with_budget(""), environ=LIMITED)
    for given in ({"max_tokens": 20_000}, {"model": "new", "max_tokens": None}):
        assert lab.meters(given)["tokens@model_provider/openai"].amount == 9000


def test_the_tokens_of_a_minute_are_corrected_too(bench: Any) -> None:
    """Others need not wait for tokens that were only reserved."""
    lab = bench(with_budget(""), environ=LIMITED)
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert lab.settled(lab.meters(), answered("unknown", counts)).amounts == {"tokens@model_provider/openai": 7}


def test_who_waits_for_a_connection_does_not_fail(bench: Any) -> None:
    """A full limit is no failure: there will be room."""
    lab = bench(with_budget(""), environ=LIMITED)
    meters = tuple(lab.meters().values())
    assert [lab.brake.refused(lab.call(), meters, Full(each.key, each.most, each.most)) for each in meters] == [
        None
    ] * 3


def test_who_waits_is_told_for_what(bench: Any) -> None:
    """The connection, and which of its limits is reached."""
    lab = bench(with_budget(""), environ=LIMITED)
    assert [lab.brake.waits(Full(each.key, each.most, each.most)) for each in lab.meters().values()] == [
        "Connection 'openai' has no room: 3 at once use it. The step waits.",
        "Connection 'openai' has no room: 60 have begun within a minute. The step waits.",
        "Connection 'openai' has no room: 9,000 tokens within a minute are taken. The step waits.",
    ]


def test_caps_come_before_limits(bench: Any) -> None:
    """Who has no money left need not wait for a slot to be told so."""
    keys = list(bench(with_budget("{cost: 1}"), environ=LIMITED).meters())
    assert keys[0] == COST
    assert keys[1].startswith("slots@")


def test_a_connection_that_is_not_there_has_no_limits(bench: Any) -> None:
    """The attempt itself says what is wrong with it."""
    assert bench(with_budget(""), environ={}).meters() == {}


def test_a_hook_that_is_broken_fails_the_step(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no estimate is told as the action's fault, and nothing is called."""
    lab = bench(with_budget("{cost: 1}"))
    action = lab.plan.steps[0].action
    wrong = SimpleNamespace(
        **{name: getattr(action.load(), name) for name in ("attempts", "usage")}, estimate=lambda *_: 3
    )
    lab.plan = replace(
        lab.plan,
        steps=(
            replace(lab.plan.steps[0], action=SimpleNamespace(id="a", load=lambda: wrong, manifest=action.manifest)),
        ),
    )
    failure = lab.failure()
    assert failure.kind == "broken_estimate"
    assert "no Estimate" in failure.problem.message
