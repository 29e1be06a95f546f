"""The shipped workflows: each passes its own tests, and together they show the whole language."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from weft import packs, source, structure
from weft.embedded.outbox import Outbox
from weft.rehearsal import junit
from weft.rehearsal.testing import run_file
from weft.runtime import Runtime
from weft.workflow import Workflow

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "workflows"
WORKFLOWS = sorted(path for path in GALLERY.glob("*.yaml") if "." not in path.stem)
NOT_SHOWN = {
    "Triggers.webhook": "no version answers requests yet",
    "Input.required": "each example runs as it is",
    "Step.connections": "needs accounts of two providers; docs/models has it",
}
"""What the language has and no example shows → why."""
FRESH = {
    "mail-each-customer": ["Your invoice, 12.5 francs", "Your invoice, 30 francs", "Your invoice, 7.25 francs"],
    "tell-on-failure": ["email-results has failed"],
}
"""Examples that ask no model → the mails that they send."""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
async def test_a_workflow_passes_its_own_tests(path: Path, tmp_path: Path) -> None:
    """`weft test` passes for each shipped workflow: there is a test beside it, and every case holds."""
    async with Runtime(tmp_path, packs.discover([]), environ={}) as runtime:
        result = await run_file(runtime, path.with_suffix(".test.yaml"), lambda name: True)

    assert [problem.message for problem in result.problems] == []
    assert result.cases
    missed = {case.name: [junit.lines(miss) for miss in case.misses] for case in result.cases if case.misses}
    assert missed == {}


def test_the_language_is_shown() -> None:
    """Each key that a workflow may have stands in at least one of them."""
    used = {key for path in WORKFLOWS for key in _keys(structure.load(source.read_file(path)))}
    known = {f"{model.__name__}.{name}" for model in _models(Workflow) for name in model.model_fields}

    assert {name.split(".")[0] for name in known} >= {"Step", "Schedule", "Budget", "Concurrency", "Approval", "Retry"}
    hidden = {name for name in known - used if name not in NOT_SHOWN and not name.startswith("Webhook.")}
    assert hidden == set()
    assert NOT_SHOWN.keys() <= known - used


def _keys(part: BaseModel) -> Iterator[str]:
    for name in part.model_fields_set:
        yield f"{type(part).__name__}.{name}"
        yield from _within(getattr(part, name))


def _within(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from _keys(value)
    elif isinstance(value, dict):
        yield from (key for item in value.values() for key in _within(item))
    elif isinstance(value, list):
        yield from (key for item in value for key in _within(item))


def _models(model: type[BaseModel], known: set[type[BaseModel]] | None = None) -> set[type[BaseModel]]:
    """Return a model and those of its fields, however deep."""
    found = set() if known is None else known
    if model not in found:
        found.add(model)
        for inner in _inner([field.annotation for field in model.model_fields.values()]):
            _models(inner, found)
    return found


def _inner(annotations: list[object]) -> Iterator[type[BaseModel]]:
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        yield from _inner(list(getattr(annotation, "__args__", ())))


@pytest.mark.parametrize(("name", "subjects"), FRESH.items())
def test_it_runs_on_a_fresh_machine(name: str, subjects: list[str], tmp_path: Path) -> None:
    """With nothing but this repository `weft run` sends real mails, and the outbox has them."""
    environ = {"PATH": "/usr/bin:/bin", "WEFT_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "weft", "run", str(GALLERY / f"{name}.yaml"), "--json"]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "succeeded"), done.stderr
    assert sorted(mail.subject for mail in Outbox(tmp_path / "outbox").messages()) == subjects


def test_the_page_of_the_gallery_is_complete() -> None:
    """docs/gallery.md names each workflow once, and shows pictures that are there."""
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    linked = re.findall(r"\(\.\./workflows/([\w-]+)\.yaml\)", text)
    shown = re.findall(r"\(images/flows/([\w-]+)\.svg\)", text)

    assert sorted(linked) == [path.stem for path in WORKFLOWS]
    titles = {path.stem: structure.load(source.read_file(path)).title for path in WORKFLOWS}
    assert [
        title for name, title in titles.items() if not name.startswith("notify-") and f"### {title}\n" not in text
    ] == []
    assert {name for name in linked if not name.startswith("notify-")} <= set(shown) <= set(linked)


def test_the_pictures_show_the_workflows_as_they_are() -> None:
    """Each picture is what `docs/images/make_flow_pictures.py` draws now."""
    spec = importlib.util.spec_from_file_location("make_flow_pictures", ROOT / "docs/images/make_flow_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = drawing  # dataclasses look for their module
    spec.loader.exec_module(drawing)

    drawn = {f"{name}.svg": text for name, text in drawing.pictures().items()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/images/flows").iterdir()}
    assert kept == drawn
