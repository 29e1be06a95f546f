"""Metrics for Prometheus: what was done in this process, and what the journal says is true for all of them.

Names and units follow prometheus.io/docs/practices/naming: base units, `_total` for what only grows, one thing a metric.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from weft import __version__
from weft.engine.events import AttemptEnded, Event, Observer, RunEnded, StepEnded, StepStarted
from weft.engine.report import step_of
from weft.journal.base import ENDS, Journal, Kept
from weft.plan import Plan
from weft.telemetry import completions, standing
from weft.telemetry.past import past_of, plain

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
"""The form that every Prometheus reads."""

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0)
"""Upper bounds, in seconds: of answers, and of what may wait for people."""

SCRAPE_S = 4.0
"""How long the journal may take to answer; then what it knows is left out, and `weft_journal_up` is 0."""


class Metrics:
    """Everything that this process can tell Prometheus.

    Args:
        journal: Knows of all runs.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        Gauge("weft_build_info", "The version of Weft.", ["version"], registry=registry).labels(__version__).set(1)
        self._ended = Counter("weft_runs_ended", "Runs that ended here.", ["workflow", "state"], registry=registry)
        self._run_s = Histogram(
            "weft_run_duration_seconds",
            "From the start of a run to its end, waits included.",
            ["workflow", "state"],
            buckets=LONG,
            registry=registry,
        )
        self._step_s = Histogram(
            "weft_step_duration_seconds",
            "From the start of a step to its end, waits included.",
            ["uses", "state"],
            buckets=LONG,
            registry=registry,
        )
        self._attempts = Counter(
            "weft_attempts", "Attempts that ended here.", ["action", "outcome", "kind"], registry=registry
        )
        self._attempt_s = Histogram(
            "weft_attempt_duration_seconds", "How long attempts took.", ["action"], buckets=SHORT, registry=registry
        )
        self._tokens = Counter(
            "weft_model_tokens", "Tokens that providers counted.", ["provider", "model", "type"], registry=registry
        )
        self._cost = Counter(
            "weft_model_cost",
            "What models cost, where it is known.",
            ["provider", "model", "currency"],
            registry=registry,
        )
        self._late_s = Histogram(
            "weft_schedule_lateness_seconds",
            "From the instant of a schedule to the start of its run.",
            ["workflow"],
            buckets=SHORT,
            registry=registry,
        )
        self._requests = Counter(
            "weft_http_requests", "Requests that were answered.", ["method", "route", "status"], registry=registry
        )
        self._request_s = Histogram(
            "weft_http_request_duration_seconds",
            "Until the answer began.",
            ["method", "route"],
            buckets=SHORT,
            registry=registry,
        )
        self._webhooks = Counter("weft_webhook_answers", "Webhooks that were answered.", ["status"], registry=registry)
        self._listeners = Gauge("weft_event_listeners", "Streams of live events that are open here.", registry=registry)

    # ---- runs of this process
    def watch(self, kept: Kept, plan: Plan) -> Observer:
        """Return what counts a run, for as long as this process has it in hand."""
        row = kept.row
        if row.scheduled_at is not None and not kept.records and kept.status.epoch <= 1:
            self._late_s.labels(row.workflow).observe(max(0.0, row.started_at - row.scheduled_at))
        steps, past = {step.path: step for step in plan.every_step()}, past_of(kept, plan)
        began = dict(past.began)

        def uses(path: str) -> str:
            step = steps.get(plain(path))
            return "" if step is None else step.uses or step.kind

        def count(event: Event) -> None:
            match event:
                case StepStarted():
                    began.setdefault(event.path, self._journal.now())
                case AttemptEnded() if (event.path, event.attempt) not in past.attempts and not _is_inherited(
                    kept, event
                ):
                    self._attempt(uses(event.path), event)
                case StepEnded() if event.path not in past.ended and event.state != "skipped":
                    since = began.pop(step_of(event.path), None)
                    seconds = event.ms / 1000 if since is None else max(0.0, self._journal.now() - since)
                    self._step_s.labels(uses(event.path), event.state).observe(seconds)
                case RunEnded() if event.state in ENDS:
                    self._ended.labels(row.workflow, event.state).inc()
                    self._run_s.labels(row.workflow, event.state).observe(event.ms / 1000)
                case _:
                    return

        return count

    def _attempt(self, action: str, ended: AttemptEnded) -> None:
        outcome = "cancelled" if ended.cancelled else "failed" if ended.problem else "succeeded"
        kind = "" if ended.problem is None or ended.cancelled else ended.problem.code
        self._attempts.labels(action, outcome, kind).inc()
        self._attempt_s.labels(action).observe(ended.ms / 1000)
        used = completions.spent(ended)
        labels = completions.model_of(ended)
        if used.input_tokens is not None:
            self._tokens.labels(*labels, "input").inc(used.input_tokens)
        if used.output_tokens is not None:
            self._tokens.labels(*labels, "output").inc(used.output_tokens)
        if used.cost is not None:
            self._cost.labels(*labels, used.currency).inc(max(0.0, used.cost))

    # ---- the server
    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered, by the route that it came to and not by its path."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(method, route).observe(seconds)
        if route.startswith("/hooks/"):
            self._webhooks.labels(str(status)).inc()

    def listening(self, count: Callable[[], float]) -> None:
        """Ask `count` for the open streams of live events whenever Prometheus asks."""
        self._listeners.set_function(count)

    # ---- the answer
    async def answer(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics as text, and the text's type.

        Args:
            accept: The forms that whoever asks can read.
        """
        openmetrics = "application/openmetrics-text" in accept
        known = await standing.of_journal(self._journal, SCRAPE_S)
        make, form = (generate_openmetrics, OPENMETRICS) if openmetrics else (generate_latest, PLAIN)
        here = await asyncio.to_thread(make, self.registry)
        there = make(known)
        return (here.removesuffix(b"# EOF\n") if openmetrics else here) + there, form


def _is_inherited(kept: Kept, ended: AttemptEnded) -> bool:
    return kept.row.origin is not None and ended.started_at < kept.row.started_at
