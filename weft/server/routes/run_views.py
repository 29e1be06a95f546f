"""Other looks at a run's report: when each part was at work, and two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from weft.engine.report import AttemptReport, RunReport, RunSummary, StepReport
from weft.server.routes.run_shapes import Bar, Difference, RunComparison, Side, StepComparison, Timeline, Use
from weft.types import Json


def timeline(summary: RunSummary, report: RunReport) -> Timeline:
    """Return when each step and each attempt was at work."""
    attempts = [each for step in report.steps for each in step.attempts]
    return Timeline(run=summary, bars=list(_bars(report)), use=use_of(attempts))


def _bars(report: RunReport) -> Iterator[Bar]:
    for step in report.steps:
        if step.started_at is not None:
            yield Bar(
                path=step.path,
                title=step.title,
                kind="step",
                state=step.state,
                started_at=step.started_at,
                offset_ms=_since(report, step),
                ms=step.ms,
                use=use_of(step.attempts),
            )
        for each in step.attempts:
            yield Bar(
                path=step.path,
                title=step.title,
                kind="attempt",
                attempt=each.number,
                turn=each.turn,
                variant=each.variant,
                state=each.state,
                started_at=each.started_at,
                offset_ms=_since(report, each),
                ms=each.ms,
                inherited=each.inherited,
                use=_use(each),
            )


def _since(report: RunReport, part: StepReport | AttemptReport) -> int:
    began = part.started_at or report.started_at
    return round((began - report.started_at).total_seconds() * 1000)


# ---- what was used
def use_of(attempts: Iterable[AttemptReport]) -> Use:
    """Return what attempts used that their run has made itself."""
    uses = [_use(each) for each in attempts if not each.inherited]
    costs: dict[str, float] = {}
    for each in uses:
        for currency, amount in each.costs.items():
            costs[currency] = costs.get(currency, 0.0) + amount
    return Use(
        prompt_tokens=_sum(each.prompt_tokens for each in uses),
        completion_tokens=_sum(each.completion_tokens for each in uses),
        costs=costs,
        unknown_cost=any(each.unknown_cost for each in uses),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [each for each in counts if each is not None]
    return sum(known) if known else None


def _use(attempt: AttemptReport) -> Use:
    """Return what one attempt itself used, as its output or its failure says; without those before it."""
    output, details = _object(attempt.output), attempt.details
    made = _object(output.get("weft")).get("attempts")
    cost = (_object(made[-1]) if isinstance(made, list) and made else details).get("cost")
    tokens = _object(output.get("usage")) or _object(details.get("usage"))
    amount = _object(cost).get("amount")
    currency = str(_object(cost).get("currency", "USD"))
    return Use(
        prompt_tokens=_count(tokens.get("prompt_tokens")),
        completion_tokens=_count(tokens.get("completion_tokens")),
        costs={currency: float(amount)} if isinstance(amount, int | float) else {},
        unknown_cost=cost == "unknown",
    )


def _object(value: Json) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# ---- side by side
def comparison(
    summaries: tuple[RunSummary, RunSummary], reports: tuple[RunReport, RunReport], *, same_document: bool
) -> RunComparison:
    """Return two runs side by side."""
    a, b = reports
    here, there = ({step.path: step for step in each.steps} for each in reports)
    paths = [*here, *(path for path in there if path not in here)]
    return RunComparison(
        a=summaries[0],
        b=summaries[1],
        same_document=same_document,
        inputs=_differences(a.inputs, b.inputs),
        outputs=_differences(a.outputs, b.outputs),
        steps=[_compared(path, here.get(path), there.get(path)) for path in paths],
    )


def _differences(a: Json, b: Json) -> list[Difference]:
    if not isinstance(a, dict) and not isinstance(b, dict):
        return [] if a is None and b is None else [Difference(name="", a=a, b=b, equal=a == b)]
    of_a, of_b = _object(a), _object(b)
    names = [*of_a, *(name for name in of_b if name not in of_a)]
    return [
        Difference(name=name, a=of_a.get(name), b=of_b.get(name), equal=_same(of_a.get(name), of_b.get(name)))
        for name in names
    ]


def _compared(path: str, a: StepReport | None, b: StepReport | None) -> StepComparison:
    given = [[each.arguments for each in step.attempts[-1:]] for step in (a, b) if step is not None]
    gave = [step.output for step in (a, b) if step is not None]
    title = next((step.title for step in (a, b) if step is not None), "")
    both = len(gave) == 2
    return StepComparison(
        path=path,
        title=title,
        a=_side(a),
        b=_side(b),
        same_arguments=both and _same(given[0], given[1]),
        same_output=both and _same(gave[0], gave[1]),
    )


def _side(step: StepReport | None) -> Side | None:
    if step is None:
        return None
    return Side(state=step.state, ms=step.ms, attempts=len(step.attempts), use=use_of(step.attempts))


def _same(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same; 1, 1.0 and true are three values."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
