"""Attempts of a completion step, through the engine and against a real server: how many, which, and what is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from servers.steps import Steps, in_plain_environment

from weft.engine.report import StepReport
from weft.registry import Registry
from weft.testing.model_server import (
    Answer,
    Cut,
    Events,
    Hang,
    ModelServer,
    Ok,
    Request,
    Reset,
    Status,
    anthropic_events,
)

PROVIDERS = ("openai", "anthropic", "gemini", "azure", "hosted_vllm")
KEY = "sk-attempts-CANARY-0123456789"
SPARE = "spare"  #: the model that always answers
AT_ONCE = 20  #: runs side by side
Family = str  #: whose shape an answer has: `openai`, `anthropic` or `google`


def family(provider: str) -> Family:
    return {"anthropic": "anthropic", "gemini": "google"}.get(provider, "openai")


# ---- what goes wrong


@dataclass(frozen=True)
class Failure:
    """What a server does, and what must become of it."""

    answer: Callable[[Family], Answer]
    kinds: tuple[str, ...]  #: any of these is right
    status: int | None
    tries: int  #: with Num Retries 2
    wait_s: float | None = None  #: asked for by the server


def error(status: int, code: str | None, anthropic: str, google: str, **headers: str) -> Callable[[Family], Answer]:
    """An error as the three families of providers write it."""
    message, kind = "Something that the test says.", "server_error" if status >= 500 else "invalid_request_error"
    bodies: dict[Family, Any] = {
        "openai": {"error": {"message": message, "type": code or kind, "param": None, "code": code}},
        "anthropic": {"type": "error", "error": {"type": anthropic, "message": message}, "request_id": "req_1"},
        "google": {"error": {"code": status, "message": message, "status": google}},
    }
    return lambda family: Status(
        status, bodies[family], {name.replace("_", "-"): text for name, text in headers.items()}
    )


def quota(family: Family) -> Answer:
    """A spent account, as each family documents it; Google tells a day's quota apart by its id."""
    if family == "anthropic":
        return error(402, None, "billing_error", "")(family)
    if family == "openai":
        return error(429, "insufficient_quota", "", "")(family)
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        "quotaValue": "20",
    }
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
    told = {"code": 429, "message": "Over.", "status": "RESOURCE_EXHAUSTED", "details": [failure]}
    return Status(429, {"error": told})


def nothing(family: Family) -> Answer:
    """A regular answer without a choice in it."""
    bodies: dict[Family, dict[str, Any]] = {
        "openai": {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": []},
        "anthropic": {**Ok("").anthropic({}), "content": []},
        "google": {"candidates": [], "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}},
    }
    return Status(200, bodies[family])


@dataclass(frozen=True)
class Filtered(Answer):
    """A question that the provider's filter stopped; Anthropic and Google say so with status 200."""

    family: Family

    async def reply(self, request: Request, http: web.Request) -> web.StreamResponse:
        if self.family == "openai":
            return await error(400, "content_filter", "", "")("openai").reply(request, http)
        if self.family == "google":
            told = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 1}}
            return await (Events([told]) if request.streams else Status(200, told)).reply(request, http)
        whole = {**Ok("").anthropic({}), "content": [], "stop_reason": "refusal"}
        answer = Events(anthropic_events(whole)) if request.streams else Status(200, whole)
        return await answer.reply(request, http)


def always(answer: Answer) -> Callable[[Family], Answer]:
    return lambda family: answer


HTML = {"content-type": "text/html"}
FAILURES: dict[str, Failure] = {
    "429 with Retry-After": Failure(
        error(429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED", retry_after="1"),
        ("rate_limited",), 429, 3, 1.0,
    ),
    "429": Failure(
        error(429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"), ("rate_limited",), 429, 3
    ),
    "429 without a body": Failure(always(Status(429, "")), ("rate_limited",), 429, 3),
    "spent quota": Failure(quota, ("quota_exhausted",), 429, 1),
    "408": Failure(error(408, None, "timeout_error", "DEADLINE_EXCEEDED"), ("timeout",), 408, 3),
    "409": Failure(error(409, None, "conflict_error", "ABORTED"), ("conflict",), 409, 3),
    "500": Failure(error(500, None, "api_error", "INTERNAL"), ("server_error",), 500, 3),
    "502": Failure(always(Status(502, "<html>502 Bad Gateway</html>", HTML)), ("server_error", "overloaded"), 502, 3),
    "503": Failure(error(503, None, "api_error", "UNAVAILABLE"), ("overloaded",), 503, 3),
    "504": Failure(error(504, None, "timeout_error", "DEADLINE_EXCEEDED"), ("timeout", "server_error"), 504, 3),
    "529": Failure(error(529, None, "overloaded_error", "UNAVAILABLE"), ("overloaded",), 529, 3),
    "client timeout": Failure(always(Hang()), ("timeout",), None, 3),
    "reset": Failure(always(Reset()), ("connection_failed",), None, 3),
    "cut body": Failure(always(Cut()), ("connection_failed",), 200, 3),
    "garbage": Failure(always(Status(200, "<<not json>>")), ("bad_response",), 200, 2),
    "cut JSON": Failure(always(Status(200, '{"id": "c", "choices": [')), ("bad_response",), 200, 2),
    "HTML": Failure(always(Status(200, "<html>login</html>", HTML)), ("bad_response",), 200, 2),
    "no body": Failure(always(Status(200, "")), ("bad_response", "empty_response"), 200, 2),
    "no choices": Failure(nothing, ("bad_response", "empty_response"), 200, 2),
    "400": Failure(error(400, None, "invalid_request_error", "INVALID_ARGUMENT"), ("invalid_request",), 400, 1),
    "401": Failure(error(401, "invalid_api_key", "authentication_error", "UNAUTHENTICATED"), ("authentication",), 401, 1),
    "402": Failure(error(402, None, "billing_error", ""), ("quota_exhausted",), 402, 1),
    "403": Failure(error(403, None, "permission_error", "PERMISSION_DENIED"), ("permission",), 403, 1),
    "404": Failure(error(404, "model_not_found", "not_found_error", "NOT_FOUND"), ("not_found",), 404, 1),
    "413": Failure(error(413, None, "request_too_large", ""), ("invalid_request", "context_window"), 413, 1),
    "422": Failure(error(422, None, "invalid_request_error", ""), ("invalid_request",), 422, 1),
    "content filter": Failure(Filtered, ("content_filter", "refused"), 400, 1),
    "context length": Failure(
        # Only OpenAI's family has a code for it.
        error(400, "context_length_exceeded", "invalid_request_error", "INVALID_ARGUMENT"),
        ("context_window", "invalid_request"), 400, 1,
    ),
}  # fmt: skip


def status_of(name: str, provider: str) -> int | None:
    """The status of an answer that the families give with different ones."""
    if family(provider) != "openai" and name == "content filter":
        return 200
    return 402 if (name, provider) == ("spent quota", "anthropic") else FAILURES[name].status


# ---- the runs, all at once


@dataclass(frozen=True)
class Ran:
    """One run: what the server saw, and what the report says."""

    requests: list[Request]
    spare: list[Request]
    step: StepReport

    @property
    def attempts(self) -> list[dict[str, Any]]:
        assert isinstance(self.step.output, dict)
        found: list[dict[str, Any]] = self.step.output["weft"]["attempts"]  # type: ignore[assignment, call-overload, index]
        return found


Runs = Mapping[tuple[str, str, str], Ran]
WAYS = {"alone": (0, False), "retried": (2, False), "watched": (2, True)}
"""Num Retries, and whether somebody watches; with retries there is a fallback that answers."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs(core_registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runs]:
    """Every failure of every provider in each of the ways."""
    many = asyncio.Semaphore(AT_ONCE)
    with in_plain_environment():
        async with ModelServer() as server:
            connections = {provider: server.connection(provider, KEY) for provider in PROVIDERS}
            connections |= {f"{name}-2s": {**entry, "request_timeout_s": 2} for name, entry in connections.items()}
            async with Steps(tmp_path_factory.mktemp("attempts"), core_registry, connections) as steps:

                async def ran(provider: str, name: str, way: str) -> Ran:
                    retries, watched = WAYS[way]
                    model = f"{name.replace(' ', '-').lower()}-{way}-{provider}"
                    spare = f"{SPARE}-{model}"
                    server.script(FAILURES[name].answer(family(provider)), model)
                    given = {"provider": provider, "model": model, "num_retries": retries}
                    given |= {"fallbacks": [spare]} if retries else {}
                    async with many:
                        account = f"{provider}-2s" if name == "client timeout" else provider
                        step = await steps.run(given, account, watched=watched)
                    return Ran(server.asked(model), server.asked(spare), step)

                for provider in PROVIDERS:  # imports and first uses have their own time
                    await steps.run({"provider": provider, "model": SPARE})
                cases = [(p, name, way) for name in FAILURES for p in PROVIDERS for way in WAYS]
                yield dict(zip(cases, await asyncio.gather(*(ran(*case) for case in cases)), strict=True))


each_case = pytest.mark.parametrize("provider", PROVIDERS)
each_failure = pytest.mark.parametrize("name", FAILURES)
each_way = pytest.mark.parametrize("way", ["retried", "watched"])


@each_failure
@each_case
def test_without_retries_one_request_is_made(runs: Runs, provider: str, name: str) -> None:
    """Num Retries 0 means one request, whatever goes wrong, and the step fails by the kind of it."""
    ran, failure = runs[provider, name, "alone"], FAILURES[name]

    assert len(ran.requests) == 1
    [attempt] = ran.step.attempts
    assert (ran.step.state, attempt.state, attempt.wait_s) == ("failed", "failed", 0)
    assert attempt.kind in failure.kinds
    assert ran.step.problem is not None
    assert ran.step.problem.code == attempt.kind
    assert ran.step.output is None


@each_failure
@each_case
@each_way
def test_requests_are_the_attempts(runs: Runs, provider: str, name: str, way: str) -> None:
    """With two retries: as many requests as the kind of failure allows, one for the fallback, and each is told."""
    ran, failure = runs[provider, name, way], FAILURES[name]

    assert len(ran.requests) == failure.tries
    assert len(ran.spare) == 1
    assert ran.step.state == "succeeded"
    assert [attempt.number for attempt in ran.step.attempts] == list(range(1, failure.tries + 2))
    assert [attempt.state for attempt in ran.step.attempts] == ["failed"] * failure.tries + ["succeeded"]
    assert len(ran.attempts) == failure.tries + 1


@each_failure
@each_case
@each_way
def test_each_attempt_is_on_record(runs: Runs, provider: str, name: str, way: str) -> None:
    """The output has of each attempt model, try, status, kind, time and wait, and the report says the same."""
    ran, failure = runs[provider, name, way], FAILURES[name]
    model, spare = (f"{provider}/{requests[0].model}" for requests in (ran.requests, ran.spare))

    *failed, last = ran.attempts
    assert [(a["model"], a["try"], a["status"]) for a in failed] == [
        (model, number, status_of(name, provider)) for number in range(1, failure.tries + 1)
    ]
    assert {a["kind"] for a in failed} <= set(failure.kinds)
    assert len({a["kind"] for a in failed}) == 1
    assert (last["model"], last["try"], last["status"], last["kind"], last["waited_s"]) == (spare, 1, 200, "ok", 0)
    assert [(a.variant, a.wait_s) for a in ran.step.attempts] == [(a["model"], a["waited_s"]) for a in ran.attempts]
    assert [a.kind for a in ran.step.attempts[:-1]] == [a["kind"] for a in failed]
    for told, record in zip(ran.step.attempts, ran.attempts, strict=True):
        assert 0 <= record["ms"] <= told.ms + 1  # the report's time begins with the connection
    if name == "client timeout":
        assert all(2000 <= a["ms"] < 4000 for a in failed)


@each_failure
@each_case
@each_way
def test_waits_are_those_on_record(runs: Runs, provider: str, name: str, way: str) -> None:
    """What the server asks for is waited, else half a second doubled with jitter; never before another model."""
    ran, failure = runs[provider, name, way], FAILURES[name]
    waits = [attempt["waited_s"] for attempt in ran.attempts]

    assert waits[failure.tries - 1 :] == [0, 0]
    for number, wait in enumerate(waits[: failure.tries - 1]):
        if failure.wait_s is not None:
            assert wait == failure.wait_s
        else:
            assert 0.25 * 2**number <= wait <= 0.5 * 2**number
    arrived = [request.at for request in (*ran.requests, *ran.spare)]
    for (before, after), wait in zip(pairwise(arrived), waits, strict=False):
        assert after - before >= wait - 0.01


# ---- fallbacks


def down(server: ModelServer, *models: str) -> None:
    """Let these models fail for good, all others answer."""
    for model in models:
        server.script(Status(503), model)


CHAINS: list[tuple[str, list[Any], list[str]]] = [
    ("as documented", [{"openai/*": ["gpt-4o-mini"]}], ["gpt-4o-mini"]),
    ("exact first", [{"*": ["a"], "openai/*": ["b"], "openai/gpt*": ["c"], "openai/gpt-4o": ["d"]}], ["d"]),
    ("exact without provider", [{"openai/gpt-4*": ["b"]}, {"gpt-4o": ["c"]}, {"*": ["d"]}], ["c"]),
    ("longest glob", [{"openai/*": ["a"]}, {"openai/gpt-4*": ["b"]}, {"openai/gpt*": ["c"]}, {"*": ["d"]}], ["b"]),
    ("anything", [{"groq/*": ["a"]}, {"*": ["b"]}], ["b"]),
    ("no match", [{"groq/*": ["a"], "gpt-4o-mini": ["b"]}], []),
    ("several in order", [{"openai/*": ["a", "b", "c"]}], ["a", "b", "c"]),
    ("plain texts", ["a", "b"], ["a", "b"]),
    ("plain texts come after patterns", ["a", {"openai/*": ["b"]}, "c"], ["b", "a", "c"]),
    ("none twice", [{"openai/*": ["a", "gpt-4o", "openai/a", "b"]}, "b", "openai/gpt-4o"], ["a", "b"]),
    ("no fallbacks of fallbacks", [{"openai/gpt-4o": ["a"]}, {"openai/a": ["b"]}, {"a": ["c"]}], ["a"]),
    ("a name with a slash", ["meta-llama/llama-3"], ["meta-llama/llama-3"]),
]


@pytest.mark.parametrize(("fallbacks", "wanted"), [row[1:] for row in CHAINS], ids=[row[0] for row in CHAINS])
async def test_the_chain_on_the_wire(
    model_server: ModelServer, core_registry: Registry, tmp_path: Path, fallbacks: list[Any], wanted: list[str]
) -> None:
    """The models that are asked, in their order, when all fail: each once, the last one's error is the step's."""
    model_server.script(Status(503))
    async with Steps(tmp_path, core_registry, {"openai": model_server.connection("openai", KEY)}) as steps:
        step = await steps.run({"provider": "openai", "model": "gpt-4o", "fallbacks": fallbacks})

    assert [request.json["model"] for request in model_server.requests] == ["gpt-4o", *wanted]
    assert [attempt.variant for attempt in step.attempts] == [f"openai/{model}" for model in ("gpt-4o", *wanted)]
    assert step.state == "failed"
    assert step.problem is not None
    assert step.problem.code == "overloaded"
    assert f"openai/{['gpt-4o', *wanted][-1]}" in step.problem.message


@pytest.mark.parametrize("failures", [0, 1, 2, 3, 4])
async def test_fallbacks_across_providers(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path, failures: int
) -> None:
    """The chain goes from provider to provider, ends with the first that answers, and its record says all of it."""
    chain = [f"{provider}/m-{provider}" for provider in PROVIDERS]
    down(model_server, *(f"m-{provider}" for provider in PROVIDERS[:failures]))
    accounts = {f"my-{provider}": model_server.connection(provider, KEY) for provider in PROVIDERS}
    async with Steps(tmp_path, core_registry, accounts) as steps:
        step = await steps.run(
            {"provider": "openai", "model": "m-openai", "fallbacks": [{"openai/*": chain[1:]}]},
            connections={provider: f"my-{provider}" for provider in PROVIDERS},
        )

    assert isinstance(step.output, dict)
    weft: Any = step.output["weft"]
    assert [attempt["model"] for attempt in weft["attempts"]] == chain[: failures + 1]
    assert [attempt["kind"] for attempt in weft["attempts"]] == ["overloaded"] * failures + ["ok"]
    assert (weft["provider"], weft["model"]) == (PROVIDERS[failures], f"m-{PROVIDERS[failures]}")
    assert [request.model for request in model_server.requests] == [f"m-{p}" for p in PROVIDERS[: failures + 1]]


async def test_all_attempts_of_all_models_fail(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path
) -> None:
    """The worst case is (1 + retries) x (1 + fallbacks) requests; the error is the last one's, the report has all."""
    model_server.script(Status(500), "a")
    model_server.script(Status(529), "b")
    model_server.script(Status(401, ""), "c")
    model_server.script([Status(503), Status(404, "")], "d")
    given = {"provider": "openai", "model": "a", "num_retries": 1, "fallbacks": [{"*": ["b", "c", "d"]}]}
    async with Steps(tmp_path, core_registry, {"openai": model_server.connection("openai", KEY)}) as steps:
        step = await steps.run(given)

    told = [(attempt.variant.removeprefix("openai/"), attempt.kind) for attempt in step.attempts]
    assert told == [
        ("a", "server_error"), ("a", "server_error"), ("b", "overloaded"), ("b", "overloaded"),
        ("c", "authentication"), ("d", "overloaded"), ("d", "not_found"),
    ]  # fmt: skip
    assert [request.model for request in model_server.requests] == [model for model, _ in told]
    assert step.problem is not None
    assert (step.problem.code, step.output) == ("not_found", None)
    assert "openai/d" in step.problem.message


UNSENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bad_key": ({"api_key": "sk with spaces"}, {}),
    "unsupported_parameter": ({}, {"model": "o3-mini", "temperature": 0.3}),
}


@pytest.mark.parametrize("kind", UNSENT)
async def test_what_was_never_sent_does_not_fall_back(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path, kind: str
) -> None:
    """A mistake of the step or of its connection is told, not covered by another model's answer."""
    fields, given = UNSENT[kind]
    accounts = {"openai": {**model_server.connection("openai", KEY), **fields}}
    model = "{{ ['" + given.get("model", "m") + "'] | first }}"  # not known before the run: the action must find it
    async with Steps(tmp_path, core_registry, accounts) as steps:
        step = await steps.run(
            {"provider": "openai", "fallbacks": ["gpt-4o"], "num_retries": 2, **given, "model": model}
        )

    assert step.problem is not None
    assert (step.state, step.problem.code) == ("failed", kind)
    assert len(step.attempts) <= 1
    assert model_server.requests == []


@pytest.mark.parametrize("vague", ["server_error", "api_error"])
async def test_a_vague_type_does_not_hide_the_status(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path, vague: str
) -> None:
    """Gateways put one type into all their errors; then the status says more."""
    wanted = {
        401: "authentication",
        402: "quota_exhausted",
        403: "permission",
        404: "not_found",
        400: "invalid_request",
    }
    for status in wanted:
        told = {"error": {"message": "No.", "type": vague, "param": None, "code": None}}
        model_server.script(Status(status, told), f"m-{status}")
    given = {"provider": "openai", "model": "m-400", "fallbacks": [f"m-{status}" for status in wanted]}
    async with Steps(tmp_path, core_registry, {"openai": model_server.connection("openai", KEY)}) as steps:
        step = await steps.run(given)

    assert {int(a.variant[-3:]): a.kind for a in step.attempts} == wanted


async def test_a_wait_that_google_asks_for_in_the_body(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path
) -> None:
    """Google says in `RetryInfo`, not in a header, how long to wait before a limit for a minute is over."""
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.25s"},
    ]
    told = {"error": {"code": 429, "message": "Slow.", "status": "RESOURCE_EXHAUSTED", "details": details}}
    model_server.script([Status(429, told), Ok()])
    async with Steps(tmp_path, core_registry, {"gemini": model_server.connection("gemini", KEY)}) as steps:
        step = await steps.run({"provider": "gemini", "model": "m", "num_retries": 1})

    assert isinstance(step.output, dict)
    weft: Any = step.output["weft"]
    assert [(a["kind"], a["waited_s"]) for a in weft["attempts"]] == [("rate_limited", 1.25), ("ok", 0)]


# ---- errors as people met them


RECORDED: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent.parent / "corpora/provider-errors/recorded.jsonl").read_text().splitlines()
]
"""Errors of providers as they stand in public issues; `source` says where, long texts and waits are shortened.

Several kinds stand in a row whose body tells the cause by its sentence alone: we go by codes and statuses.
"""
AWS = {"aws_region_name": "us-east-1", "aws_access_key_id": "AKIACANARY", "aws_secret_access_key": "SECRETCANARY"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(
    core_registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, Ran]]:
    """Each recorded error, met by a step that may try twice."""
    many = asyncio.Semaphore(AT_ONCE)
    with in_plain_environment():
        async with ModelServer() as server:
            accounts = {
                provider: server.connection(provider, KEY, **(AWS if provider == "bedrock" else {}))
                for provider in {row["provider"] for row in RECORDED}
            }
            async with Steps(tmp_path_factory.mktemp("recorded"), core_registry, accounts) as steps:

                async def ran(row: Mapping[str, Any]) -> Ran:
                    server.script(Status(row["status"], row["body"], row.get("headers", {})), row["id"])
                    model = f"converse/{row['id']}" if row["provider"] == "bedrock" else row["id"]
                    async with many:
                        step = await steps.run({"provider": row["provider"], "model": model, "num_retries": 1})
                    return Ran(server.asked(row["id"]), [], step)

                yield dict(zip((r["id"] for r in RECORDED), await asyncio.gather(*map(ran, RECORDED)), strict=True))


def test_the_recorded_errors_are_of_many_hands() -> None:
    """There are enough of them, each with its source, and most are told apart exactly."""
    assert len({row["id"] for row in RECORDED}) == len(RECORDED) >= 40
    assert len({row["provider"] for row in RECORDED}) >= 15
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", row["source"]) for row in RECORDED)
    assert sum(len(row["kinds"]) == 1 for row in RECORDED) >= 0.75 * len(RECORDED)


@pytest.mark.parametrize("row", RECORDED, ids=[row["id"] for row in RECORDED])
def test_a_recorded_error(recorded: Mapping[str, Ran], row: Mapping[str, Any]) -> None:
    """It is classified right, tried again only if that may help, and told in our own words."""
    ran = recorded[row["id"]]

    assert ran.step.problem is not None
    assert ran.step.problem.code in row["kinds"]
    assert len(ran.requests) == len(ran.step.attempts) == (2 if row["retried"] else 1)
    assert str(row["status"]) in ran.step.problem.message
    told = f"{ran.step.problem.message} {ran.step.problem.remedy}"
    for foreign in (*sentences(row["body"]), KEY, *AWS.values(), "Hello", "litellm", "Exception", "Traceback", "{"):
        assert foreign not in told


def sentences(body: Any) -> list[str]:
    """The texts of a body that are more than identifiers."""
    if isinstance(body, dict | list):
        inner = body.values() if isinstance(body, dict) else body
        return [found for part in inner for found in sentences(part)]
    return [body] if isinstance(body, str) and " " in body else []
