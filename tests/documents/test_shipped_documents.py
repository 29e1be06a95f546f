"""Every document of the core pack is right, one by one: what a form or a person reads is what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from weft import arguments, manifest, plan, source, structure
from weft.errors import Problem
from weft.manifest import Parameter, Widget
from weft.registry import Registry
from weft.testing import check_pack
from weft.values import ValueCheck
from weft.workflow import BESIDE

ROOT = Path(__file__).parent.parent.parent
MANIFESTS = sorted((ROOT / "manifests").glob("*.yaml"))
CONNECTION_TYPES = sorted((ROOT / "manifests" / "connections").glob("*.yaml"))
WORKFLOWS = sorted(path for path in (ROOT / "workflows").glob("*.yaml") if not path.name.endswith(BESIDE))


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return check_pack(ROOT)


def test_nothing_is_missed() -> None:
    """There are manifests, connection types and workflows to check."""
    assert {path.stem for path in MANIFESTS} >= {"generate_chat_completion", "send_email"}
    assert CONNECTION_TYPES
    assert {path.stem for path in WORKFLOWS} >= {"email-results"}


def test_the_whole_pack(problems: list[Problem]) -> None:
    """What authors of packs use to check theirs finds nothing in ours."""
    assert problems == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_declares_what_its_action_takes(path: Path, core_registry: Registry) -> None:
    """Names, required and defaults of the manifest are those of the code, which refuses any other difference itself."""
    action = core_registry.action(path.stem)
    fields = {field.alias or name: field for name, field in action.load().arguments_model.model_fields.items()}
    parameters = {parameter.name: parameter for parameter in action.manifest.all_parameters}
    assert set(fields) == set(parameters)
    assert {name for name, field in fields.items() if field.is_required()} == {
        name for name, parameter in parameters.items() if parameter.required
    }


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_reads_well(path: Path) -> None:
    """Purpose and every parameter are sentences for people, with a widget that forms know and an example that is valid."""
    document = manifest.load(source.read_file(path))
    assert_sentence(document.purpose)
    names = [parameter.name for parameter in document.all_parameters]
    assert len(names) == len(set(names))
    for parameter in document.all_parameters:
        assert_readable(parameter)
        assert parameter.secret or parameter.example is not None, parameter.name
    assert ValueCheck(document.output.json_schema).problems(document.output.example) == []


@pytest.mark.parametrize("path", CONNECTION_TYPES, ids=lambda path: path.stem)
def test_a_connection_type_reads_well(path: Path) -> None:
    """Each field is described, its example is valid, secrets have no default, variables belong to fields."""
    document = manifest.load_connection_type(source.read_file(path))
    assert document.id == path.stem
    assert_sentence(document.purpose)
    for field in document.fields:
        assert_readable(field)
        assert not (field.secret and field.default)
    assert set(document.environment) <= {field.name for field in document.fields}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_compiles(path: Path, core_registry: Registry) -> None:
    """An example workflow is named like its file, described, switched off, and compiles without a warning."""
    text = source.read_file(path)
    document = structure.load(text)
    assert document.name == path.stem
    assert_sentence(document.description)
    assert not document.enabled
    assert plan.compile(document, text, core_registry).warnings == ()


def assert_sentence(text: str) -> None:
    assert text == text.strip()
    assert text[0].isupper() or text[0].isdigit(), text
    assert text.endswith((".", "?")), text


def assert_readable(parameter: Parameter) -> None:
    assert parameter.title == parameter.title.strip()
    assert_sentence(parameter.description)
    assert parameter.widget in get_args(Widget)
    alone = parameter.model_copy(update={"requires": [], "excludes": []})
    for value in (parameter.example, parameter.default):
        if value is not None:
            assert arguments.check([alone], {parameter.name: value}) == [], parameter.name
