"""Makes `flows/NAME.svg` for each shipped workflow: its steps as boxes, from left to right as they need each other.

    python docs/images/make_flow_pictures.py

What is drawn is read from the documents, so that a picture never says anything else.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft import source, structure
from weft.workflow import ErrorSteps, Step, Workflow

ROOT = Path(__file__).parents[2]
FLOWS = ROOT / "docs" / "images" / "flows"
WIDTH, HEIGHT, GAP, FRAME, LABEL = 132, 40, 26, 12, 16
COLOURS = {"action": "#1f6feb", "model": "#8957e5", "send": "#2da44e", "wait": "#9a6700", "approval": "#bf3989"}
SENDS = ("send_", "http_request")
STYLE = """<style>
text { font-family: system-ui, sans-serif; font-size: 12px; fill: #57606a; }
.name { font-size: 13px; font-weight: 600; fill: #24292f; }
rect { fill: #ffffff; stroke-width: 1.5; }
.ground { stroke: none; }
.frame { fill: #f6f8fa; stroke: #8c959f; stroke-dasharray: 4 3; }
path { stroke: #8c959f; stroke-width: 1.5; fill: none; marker-end: url(#tip); }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<polygon points="0 0, 8 4, 0 8" fill="#8c959f"/></marker></defs>
"""


@dataclass
class Drawing:
    """Something drawn, its upper left corner at 0, 0."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)
    edge: float = 0.0  #: where arrows leave it

    def put(self, other: Drawing, x: float, y: float) -> None:
        """Put another drawing into this one."""
        self.parts.append(f'<g transform="translate({x:g} {y:g})">{"".join(other.parts)}</g>')
        self.width, self.height = max(self.width, x + other.width), max(self.height, y + other.height)


def picture(workflow: Workflow) -> str:
    """Return the picture of a workflow as SVG."""
    whole = Drawing(0, 0)
    whole.put(_graph(workflow.steps), 0, 0)
    told = workflow.on_failure
    rows = {"finally": workflow.final, "on failure": [] if told is None else told.steps}
    for label, steps in rows.items():
        if steps:
            whole.put(_labelled(label, _graph(steps)), 0, whole.height + GAP)
    if told is not None and told.workflow:
        whole.put(_labelled("on failure", _box(told.workflow, "workflow", "action")), 0, whole.height + GAP)
    width, height = whole.width + 2 * FRAME, whole.height + 2 * FRAME
    ground = f'<rect class="ground" width="{width:g}" height="{height:g}" rx="6"/>'
    body = f'<g transform="translate({FRAME} {FRAME})">{"".join(whole.parts)}</g>'
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{STYLE}{ground}\n{body}\n</svg>\n'


def _labelled(label: str, drawing: Drawing) -> Drawing:
    found = Drawing(0, 0, [f'<text x="0" y="11">{label}</text>'])
    found.put(drawing, 0, LABEL)
    return found


def _graph(steps: Sequence[Step]) -> Drawing:
    """Draw steps in columns: each to the right of all that it needs."""
    needs = {step.id: _needed(steps, i) for i, step in enumerate(steps)}
    columns = _columns(needs)
    drawn = {step.id: _step(step) for step in steps}
    found, places, x = Drawing(0, 0), dict[str, tuple[float, float]](), 0.0
    for column in range(max(columns.values()) + 1):
        y = 0.0
        inside = [step.id for step in steps if columns[step.id] == column]
        for name in inside:
            found.put(drawn[name], x, y)
            places[name] = (x, y)
            y += drawn[name].height + GAP / 2
        x += max(drawn[name].width for name in inside) + GAP
    for name, wanted in needs.items():
        for other in wanted:
            found.parts.append(_arrow(places[other], drawn[other], places[name], drawn[name]))
    return found


def _needed(steps: Sequence[Step], i: int) -> list[str]:
    given = steps[i].needs
    return list(given) if given is not None else [steps[i - 1].id] if i else []


def _columns(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    while len(found) < len(needs):
        for name, wanted in needs.items():
            if all(other in found for other in wanted):
                found[name] = max((found[other] + 1 for other in wanted), default=0)
    return found


def _arrow(start: tuple[float, float], first: Drawing, end: tuple[float, float], second: Drawing) -> str:
    x, y = start[0] + first.edge, start[1] + min(first.height, HEIGHT) / 2
    to_x, to_y = end[0], end[1] + min(second.height, HEIGHT) / 2
    middle = (x + to_x) / 2
    return f'<path d="M{x:g} {y:g} C{middle:g} {y:g} {middle:g} {to_y:g} {to_x - 1:g} {to_y:g}"/>'


def _step(step: Step) -> Drawing:
    drawn = _framed(step) if step.steps else _box(step.id, _said(step), _kind(step))
    drawn.edge = drawn.width
    beside = dict[str, Sequence[Step]]()
    if isinstance(step.on_error, ErrorSteps):
        beside["when it fails"] = step.on_error.steps
    if step.approval is not None and step.approval.notify:
        beside["tells"] = step.approval.notify
    for label, steps in beside.items():
        drawn.put(_labelled(label, _graph(steps)), 0, drawn.height + GAP / 2)
    return drawn


def _framed(step: Step) -> Drawing:
    inside = _graph(step.steps or [])
    found = Drawing(0, 0)
    width, height = inside.width + 2 * FRAME, inside.height + LABEL + 2 * FRAME
    found.parts += [
        f'<rect class="frame" width="{width:g}" height="{height:g}" rx="6"/>',
        f'<text x="{FRAME}" y="{FRAME + 5}">{html.escape(" · ".join([step.id, *_notes(step)]))}</text>',
    ]
    found.put(inside, FRAME, LABEL + FRAME)
    found.width, found.height = width, height
    return found


def _box(name: str, said: str, kind: str) -> Drawing:
    width = max(WIDTH, 16 + 6.6 * len(said), 16 + 7.8 * len(name))
    return Drawing(
        width,
        HEIGHT,
        [
            f'<rect width="{width:g}" height="{HEIGHT}" rx="6" stroke="{COLOURS[kind]}"/>',
            f'<text class="name" x="8" y="17">{html.escape(name)}</text>',
            f'<text x="8" y="33">{html.escape(said)}</text>',
        ],
    )


def _kind(step: Step) -> str:
    if step.wait is not None:
        return "wait"
    if step.approval is not None:
        return "approval"
    uses = step.uses or ""
    return "model" if uses == "generate_chat_completion" else "send" if uses.startswith(SENDS) else "action"


def _said(step: Step) -> str:
    return " · ".join([_what(step), *_notes(step)])


def _what(step: Step) -> str:
    if step.wait is not None:
        return "wait"
    if step.approval is not None:
        return "ask people"
    return (
        (step.uses or "").removeprefix("workflow:").replace("generate_chat_completion", "ask a model").replace("_", " ")
    )


def _notes(step: Step) -> Iterator[str]:
    if step.for_each is not None:
        yield "for each"
    if step.condition not in (None, True):
        yield "if"
    if step.retry is not None:
        yield f"{step.retry.attempts} tries"
    if step.disabled:
        yield "off"


def pictures() -> dict[str, str]:
    """Return the pictures of all shipped workflows by name."""
    paths = sorted(path for path in (ROOT / "workflows").glob("*.yaml") if "." not in path.stem)
    return {path.stem: picture(structure.load(source.read_file(path))) for path in paths}


def main() -> None:
    FLOWS.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (FLOWS / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
