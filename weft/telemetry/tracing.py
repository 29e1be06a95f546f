"""A span for each run, each step and each attempt.

A run's trace has an id that follows from the run's, and so has every span in it: a run that rests, and goes on in another
process, stays one trace. Each span is made when what it tells of has ended, by the process that saw it end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from weft import __version__
from weft.engine.events import Asked, AttemptEnded, Event, Observer, RunEnded, StepEnded, StepStarted
from weft.engine.report import step_of, turn_of
from weft.errors import Problem
from weft.journal.base import ENDS, Kept
from weft.plan import Plan, PlannedStep
from weft.redaction import MASK, PATTERNS, Redactor
from weft.telemetry import completions
from weft.telemetry.completions import Value
from weft.telemetry.exporting import Careful
from weft.telemetry.identity import read_traceparent, span_id, trace_id
from weft.telemetry.past import enclosing, past_of, plain

MODEL_CONNECTION = "model_provider"
"""Steps whose action needs a connection of this type ask a model."""

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""Set to `true`, what models are asked and answer is told, too; the name is that of OpenTelemetry's instrumentations."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _Ids(IdGenerator):  # type: ignore[misc, unused-ignore]  # of a package that may be missing
    """Gives the ids that were put here just before."""

    def __init__(self) -> None:
        self.trace = self.span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


@dataclass(frozen=True, slots=True)
class Told:
    """What a span is to tell."""

    run_id: str
    own: int  #: id of the span
    parent: int | None  #: id of the span around it; None for a run
    name: str
    begin: float  #: seconds since 1970, UTC
    end: float
    attributes: Iterable[tuple[str, Value]]
    kind: SpanKind = SpanKind.INTERNAL
    problem: Problem | None = None
    links: Iterable[Link] = ()


class Tracing:
    """Watches runs, and hands their spans on to be sent in the background.

    Args:
        exporter: Sends spans.
        redactor: Knows the secrets that no span may hold.
        environ: OpenTelemetry's own variables, which the library reads itself, are not meant.
    """

    def __init__(self, exporter: Careful, redactor: Redactor, environ: Mapping[str, str]) -> None:
        self._redactor = redactor
        self._with_content = environ.get(CONTENT, "").strip().lower() == "true"
        self._ids = _Ids()
        name = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "weft"}
        resource = Resource.create({**name, "service.version": __version__})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("weft", __version__)
        self._exporter = exporter

    def watch(self, kept: Kept, plan: Plan) -> Observer | None:
        """Return what is told of a run; None when its trace is not among those that are sampled."""
        sampler: Sampler = self._provider.sampler
        if (
            not sampler.should_sample(None, trace_id(kept.row.id), f"run {kept.row.workflow}").decision
            is not Decision.DROP
        ):
            return None
        return _RunSpans(self, kept, plan)

    def close(self, timeout_s: float) -> None:
        """Send what waits, for so long and no longer; to be called in a thread."""
        self._exporter.hurry(timeout_s)
        # Only what is inside has a limit: the processor itself waits for 30 seconds.
        self._processor._batch_processor.shutdown(timeout_millis=round(timeout_s * 1000))

    def span(self, told: Told) -> None:
        """Make a span of something that has ended; this is the one door, and nothing secret goes through it."""
        trace_ = trace_id(told.run_id)
        self._ids.trace, self._ids.span = trace_, told.own
        above = trace.INVALID_SPAN
        if told.parent is not None:
            above = NonRecordingSpan(SpanContext(trace_, told.parent, is_remote=False, trace_flags=_SAMPLED))
        span = self._tracer.start_span(
            self._masked(told.name),
            context=trace.set_span_in_context(above),
            kind=told.kind,
            attributes={key: self._clean(value) for key, value in told.attributes},
            links=tuple(told.links),
            start_time=round(told.begin * 1e9),
        )
        if told.problem is not None:
            span.set_attribute("error.type", told.problem.code)
            span.set_status(Status(StatusCode.ERROR, self._masked(told.problem.message)))
        span.end(round(max(told.begin, told.end) * 1e9))

    @property
    def with_content(self) -> bool:
        """Whether what models are asked and answer is wanted."""
        return self._with_content

    def _clean(self, value: Value) -> Value:
        if isinstance(value, str):
            return self._masked(value)
        if isinstance(value, bool | int | float):
            return value
        return [self._masked(each) for each in value]

    def _masked(self, text: str) -> str:
        return PATTERNS.sub(MASK, self._redactor.text(text))


class _RunSpans:
    """Makes the spans of one run, for as long as this process has it in hand."""

    def __init__(self, tracing: Tracing, kept: Kept, plan: Plan) -> None:
        self._tracing = tracing
        self._kept = kept
        self._steps: dict[str, PlannedStep] = {step.path: step for step in plan.every_step()}
        self._past = past_of(kept, plan)
        self._began = dict(self._past.began)

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._began.setdefault(event.path, time.time())
            case Asked():
                self._spread(event.path, event.at.timestamp())
            case AttemptEnded():
                self._attempt(event)
            case StepEnded() if event.path not in self._past.ended:
                self._step(event)
            case RunEnded() if event.state in ENDS:
                self._run(event)
            case _:  # what actions log is output: it is not told unasked
                return

    def _attempt(self, ended: AttemptEnded) -> None:
        row = self._kept.row
        if (ended.path, ended.attempt) in self._past.attempts or self._is_inherited(ended.started_at):
            return
        self._spread(ended.path, ended.started_at)
        step = self._step_at(ended.path)
        asks_model = _asks_model(step)
        name = f"chat {completions.model_of(ended)[1]}" if asks_model else f"attempt {_uses(step)}"
        told = Told(
            row.id,
            span_id(row.id, ended.path, ended.attempt),
            span_id(row.id, step_of(ended.path)),
            name,
            ended.started_at,
            ended.started_at + ended.ms / 1000,
            self._of_attempt(ended, step, asks_model=asks_model),
            kind=SpanKind.CLIENT if _calls_others(step) else SpanKind.INTERNAL,
            problem=ended.problem,
        )
        self._tracing.span(told)

    def _of_attempt(
        self, ended: AttemptEnded, step: PlannedStep | None, *, asks_model: bool
    ) -> Iterator[tuple[str, Value]]:
        yield from self._common(ended.path, step)
        yield "weft.attempt.number", ended.attempt
        yield "weft.attempt.variant", ended.variant
        yield "weft.attempt.state", _state(ended)
        yield "weft.attempt.repeated", ended.repeated
        if ended.wait_s:
            yield "weft.attempt.next_wait_s", ended.wait_s
        if ended.status is not None:
            yield "weft.attempt.status", ended.status
        if asks_model:
            yield from completions.attributes(ended)
            if self._tracing.with_content:
                yield from completions.content(ended)

    def _step(self, ended: StepEnded) -> None:
        row, step, now = self._kept.row, self._step_at(ended.path), time.time()
        if ended.state == "skipped":
            return
        parents = list(enclosing(ended.path))[1:]
        told = Told(
            row.id,
            span_id(row.id, ended.path),
            span_id(row.id, parents[0]) if parents else span_id(row.id),
            f"step {plain(ended.path).lstrip('/')}",
            self._began.pop(ended.path, now),
            now,
            [*self._common(ended.path, step), ("weft.step.state", ended.state)],
            problem=ended.problem if ended.state == "failed" else None,
        )
        self._tracing.span(told)

    def _run(self, ended: RunEnded) -> None:
        row = self._kept.row
        told = Told(
            row.id,
            span_id(row.id),
            None,
            f"run {row.workflow}",
            row.started_at,
            row.started_at + ended.ms / 1000,
            self._of_run(ended),
            problem=ended.problem if ended.state == "failed" else None,
            links=self._links(),
        )
        self._tracing.span(told)

    def _of_run(self, ended: RunEnded) -> Iterator[tuple[str, Value]]:
        row = self._kept.row
        yield "weft.run.id", row.id
        yield "weft.workflow", row.workflow
        yield "weft.run.state", ended.state
        yield "gen_ai.operation.name", "invoke_workflow"
        yield "gen_ai.workflow.name", row.workflow
        yield "weft.document", row.document
        trigger = _trigger(row.trigger)
        if isinstance(kind := trigger.get("type"), str):
            yield "weft.trigger", kind
        if row.schedule is not None:
            yield "weft.schedule", row.schedule
        if row.origin is not None:
            yield "weft.origin", row.origin
        if row.parent is not None:
            yield "weft.parent.run.id", row.parent.run_id
            yield "weft.parent.path", row.parent.path

    def _links(self) -> Iterator[Link]:
        """Yield what the run has come from: the step that started it, the run that it repeats, the request that asked for it."""
        row = self._kept.row
        if row.parent is not None:
            yield _link(row.parent.run_id, step_of(row.parent.path), "parent")
        if row.origin is not None:
            yield _link(row.origin, "", "origin")
        asked = _trigger(row.trigger).get("traceparent")
        found = read_traceparent(asked) if isinstance(asked, str) else None
        if found is not None:
            trace_, span, flags = found
            yield Link(
                SpanContext(trace_, span, is_remote=True, trace_flags=TraceFlags(flags)), {"weft.link": "request"}
            )

    def _common(self, path: str, step: PlannedStep | None) -> Iterator[tuple[str, Value]]:
        yield "weft.run.id", self._kept.row.id
        yield "weft.workflow", self._kept.row.workflow
        yield "weft.step.path", step_of(path)
        yield "weft.step.uses", _uses(step)
        if (turn := turn_of(path)) is not None:
            yield "weft.step.turn", turn

    def _step_at(self, path: str) -> PlannedStep | None:
        return self._steps.get(plain(path))

    def _spread(self, path: str, at: float) -> None:
        for each in enclosing(path):
            self._began[each] = min(self._began.get(each, at), at)

    def _is_inherited(self, began: float) -> bool:
        return self._kept.row.origin is not None and began < self._kept.row.started_at


def _link(run_id: str, path: str, what: str) -> Link:
    context = SpanContext(trace_id(run_id), span_id(run_id, path), is_remote=True, trace_flags=_SAMPLED)
    return Link(context, {"weft.link": what, "weft.run.id": run_id})


def _asks_model(step: PlannedStep | None) -> bool:
    return step is not None and step.action is not None and step.action.manifest.connection == MODEL_CONNECTION


def _calls_others(step: PlannedStep | None) -> bool:
    return step is not None and step.action is not None and step.action.manifest.connection is not None


def _uses(step: PlannedStep | None) -> str:
    return "" if step is None else step.uses or step.kind


def _state(ended: AttemptEnded) -> str:
    return "cancelled" if ended.cancelled else "succeeded" if ended.problem is None else "failed"


def _trigger(text: str) -> Mapping[str, object]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
