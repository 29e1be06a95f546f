"""The registry: names and what answers to them; the first import of an action, when code and manifest are compared."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from weft import manifest, source
from weft.contract import Callables, callables
from weft.errors import InvalidArguments, NotFound, PackError, Problem
from weft.manifest import ConnectionType
from weft.registry import Action, Pack, Registry
from weft.sdk import ActionContext

MANIFEST = """
id: shout
title: Shout
purpose: Say a text in capital letters.
category: Text
icon: megaphone
version: 1
effects: none
retry: safe
parameters:
  basic:
    - {name: text, title: Text, description: What to shout., type: string, required: true, widget: text, PLACE}
output:
  schema: {type: object}
  example: {}
"""

MODEL = """
    from __future__ import annotations
    from typing import Annotated, Any, Literal
    from pydantic import BaseModel, ConfigDict, Field, JsonValue
    from weft.sdk import ActionContext

    class Item(BaseModel):
        name: str

    class Arguments(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        FIELD

    async def shout(arguments: Arguments, context: ActionContext) -> dict[str, Any]:
        return arguments.model_dump(by_alias=True)
"""


def declared(text: str = "", parameter: str | None = None) -> source.Source:
    """Return the manifest with more said of its one parameter, or with another one."""
    document = MANIFEST.replace("widget: text, PLACE", f"widget: text{', ' if text else ''}{text}")
    if parameter is not None:
        lines = document.splitlines()
        place = next(i for i, line in enumerate(lines) if "- {name: text" in line)
        lines[place] = f"    - {{title: T, description: D., widget: json, {parameter}}}"
        document = "\n".join(lines)
    return source.read(document, "manifests/shout.yaml")


def module(code: str, name: str = "shout") -> ModuleType:
    made = ModuleType("action_under_test")
    made.__file__ = f"actions/{name}.py"
    sys.modules[made.__name__] = made  # where annotations are looked up
    exec(textwrap.dedent(code), made.__dict__)
    return made


def loaded(code: str, text: source.Source) -> Callables:
    return callables(module(code), manifest.load(text), text)


def problems(code: str, text: source.Source) -> tuple[Problem, ...]:
    with pytest.raises(PackError) as caught:
        loaded(code, text)
    return caught.value.problems


def context(**fields: Any) -> ActionContext:
    from datetime import UTC, datetime

    base = {"run_id": "r", "path": "/s", "attempt": 1, "started_at": datetime.now(UTC), "idempotency_key": "k"}
    return ActionContext(**base, deadline=0.0, **fields)  # type: ignore[arg-type]


ALIKE = {
    "text": ("name: text, type: string, required: true", "text: str"),
    "limits of a text": (
        "name: text, type: string, min_length: 1, max_length: 9, pattern: '[a-z]+'",
        'text: str | None = Field(None, min_length=1, max_length=9, pattern="^[a-z]+$")',
    ),
    "default": ("name: text, type: string, default: a", 'text: str = "a"'),
    "default of a list": ("name: text, type: array, items: {type: string}, default: []", "text: tuple[str, ...] = ()"),
    "made default": (
        "name: text, type: array, items: {type: string}, default: []",
        "text: list[str] = Field(default_factory=list)",
    ),
    "enumeration": ("name: text, type: string, enum: [a, b], default: a", 'text: Literal["b", "a"] = "a"'),
    "one value": ("name: text, type: string, enum: [a], required: true", 'text: Literal["a"]'),
    "number": ("name: text, type: number, minimum: 0, maximum: 2, default: 1", "text: float = Field(1.0, ge=0, le=2)"),
    "either number": (
        "name: text, type: number, minimum: 0, required: true",
        "text: int | float = Field(ge=0)",
    ),
    "integer": ("name: text, type: integer, minimum: 1", "text: int | None = Field(None, ge=1)"),
    "alias": ("name: from, type: string", 'sender: str | None = Field(None, alias="from")'),
    "one or several": (
        "name: text, type: [string, array], items: {type: string}, required: true",
        "text: str | list[str]",
    ),
    "length of either": (
        "name: text, type: [string, array], items: {type: string}, required: true, max_length: 4",
        "text: str | list[str] = Field(max_length=4)",
    ),
    "structure by type alone": (
        "name: text, type: array, items: {type: object, required: [name, more]}, required: true",
        "text: list[Item]",
    ),
    "object": ("name: text, type: object", "text: dict[str, JsonValue] | None = None"),
    "word or object": ("name: text, type: [string, object]", 'text: Literal["auto"] | Item | None = None'),
}


@pytest.mark.parametrize(("parameter", "field"), ALIKE.values(), ids=ALIKE)
def test_alike(parameter: str, field: str) -> None:
    """Manifest and model that say the same are accepted, whatever the spelling."""
    assert not loaded(MODEL.replace("FIELD", field), declared(parameter=parameter)).plain


DIFFERENT = {
    "type": ("name: text, type: string", "text: int | None = None", "type"),
    "narrower type": ("name: text, type: [string, array]", "text: str | None = None", "type"),
    "integer taken as any number": ("name: text, type: integer", "text: float | None = None", "type"),
    "required in the manifest": ("name: text, type: string, required: true", "text: str | None = None", "required"),
    "required in the code": ("name: text, type: string", "text: str", "required"),
    "default": ("name: text, type: string, default: a", 'text: str = "b"', "default"),
    "default in the code alone": ("name: text, type: string", 'text: str = "b"', "default"),
    "truth is no number": ("name: text, type: boolean, default: true", "text: bool = 1", "default"),
    "minimum": ("name: text, type: number, minimum: 1, required: true", "text: float = Field(ge=0)", "minimum"),
    "open minimum": ("name: text, type: number, minimum: 0, required: true", "text: float = Field(gt=0)", "minimum"),
    "maximum": ("name: text, type: number, required: true", "text: float = Field(le=9)", "maximum"),
    "length": ("name: text, type: string, max_length: 4, required: true", "text: str", "maximum length of string"),
    "length of a list": (
        "name: text, type: array, items: {type: string}, min_length: 1, required: true",
        "text: list[str]",
        "minimum length of array",
    ),
    "length of the text only": (
        "name: text, type: [string, array], items: {type: string}, min_length: 1, required: true",
        "text: Annotated[str, Field(min_length=1)] | list[str]",
        "minimum length of array",
    ),
    "pattern": ("name: text, type: string, pattern: a+, required: true", 'text: str = Field(pattern="b+")', "pattern"),
    "enumeration": ("name: text, type: string, enum: [a], required: true", 'text: Literal["a", "b"]', "enumeration"),
    "enumeration in the code alone": ("name: text, type: string, required: true", 'text: Literal["a"]', "enumeration"),
    "items": (
        "name: text, type: array, items: {type: string}, required: true",
        "text: list[int]",
        "type of items",
    ),
}


@pytest.mark.parametrize(("parameter", "field", "word"), DIFFERENT.values(), ids=DIFFERENT)
def test_different(parameter: str, field: str, word: str) -> None:
    """A difference is refused and named, with its line in the manifest."""
    found = problems(MODEL.replace("FIELD", field), declared(parameter=parameter))
    assert any(f"'text': {word} is" in problem.message for problem in found), found
    assert {(problem.code, problem.where.line) for problem in found} == {("differs", 12)}


def test_every_difference_is_told() -> None:
    """Parameters that only one side knows are told together with the others."""
    code = MODEL.replace("FIELD", "text: int\n        extra: str = ''")
    text = declared("max_length: 3}\n    - {name: more, title: M, description: M., type: string, widget: text")
    assert sorted(problem.code for problem in problems(code, text)) == ["differs", "differs", "not_taken", "undeclared"]


PLAIN = """
    from __future__ import annotations
    from weft.sdk import ActionContext

    SIGNATURE
        return {"text": text}
"""


def test_plain_keywords() -> None:
    """A function that takes keywords after the context is compared and called by them."""
    text = declared()
    found = loaded(PLAIN.replace("SIGNATURE", "def shout(context: ActionContext, text: str) -> dict:"), text)
    assert found.plain
    assert found.bind({"text": "hear"}, context())() == {"text": "hear"}


@pytest.mark.parametrize("name", ["schema", "json", "copy", "model_config"])
def test_a_plain_keyword_may_have_any_name(name: str) -> None:
    """A keyword is free to be named like something of pydantic's."""
    code = PLAIN.replace("SIGNATURE", f"def shout(context: ActionContext, {name}: str) -> dict:\n        text = {name}")
    found = loaded(code, declared(parameter=f"name: {name}, type: string, required: true"))
    assert found.bind({name: "hear"}, context())() == {"text": "hear"}


def test_plain_keywords_may_leave_limits_to_the_manifest() -> None:
    """A limit that a plain keyword does not state is the manifest's; one that it states is compared."""
    text = declared("max_length: 4, pattern: a+")
    loaded(PLAIN.replace("SIGNATURE", "def shout(context: ActionContext, text: str) -> dict:"), text)
    stated = "from typing import Annotated\n    from pydantic import Field\n    SIGNATURE"
    signature = "def shout(context: ActionContext, text: Annotated[str, Field(max_length=5)]) -> dict:"
    (problem,) = problems(PLAIN.replace("SIGNATURE", stated).replace("SIGNATURE", signature), text)
    assert "maximum length" in problem.message


def test_a_model_is_called_with_the_model() -> None:
    """A function that takes a model gets one, aliases resolved."""
    found = loaded(
        MODEL.replace("FIELD", 'sender: str = Field(alias="from")'),
        declared(parameter="name: from, type: string, required: true"),
    )
    call = found.bind({"from": "a@b.example"}, context())
    with pytest.raises(StopIteration) as ended:
        call().send(None)
    assert ended.value.value == {"from": "a@b.example"}


def test_a_misfit_names_the_place_and_hides_the_value() -> None:
    """Arguments that do not fit the model are refused without their values."""
    found = loaded(
        MODEL.replace("FIELD", "text: list[Item]"),
        declared(parameter="name: text, type: array, items: {type: object}, required: true"),
    )
    with pytest.raises(InvalidArguments) as caught:
        found.bind({"text": [{"name": ["hunter2"]}]}, context())
    assert caught.value.problem.where.field == "text[0].name"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "signature",
    [
        "async def shout(text: str):",
        "async def shout(text: str, context: ActionContext):",
        "async def shout(context: ActionContext, text):",
        "async def shout(context: ActionContext, *text: str):",
        "async def shout(context: ActionContext, **text: str):",
        "async def shout(context: ActionContext, text: str, /):",
        "async def shout(context: ActionContext, text: Unknown):",
        "async def shout(context: ActionContext, text: type(open)):",
    ],
)
def test_signatures_that_cannot_be_used(signature: str) -> None:
    """A signature of another shape is refused with the two that are right."""
    (problem,) = problems(PLAIN.replace("SIGNATURE", signature), declared())
    assert problem.code == "signature"
    assert problem.where.file == "actions/shout.py"
    assert "context: ActionContext" in (problem.remedy or "")


@pytest.mark.parametrize("config", ["frozen=True", 'extra="forbid"', 'frozen=True, extra="allow"'])
def test_a_model_is_frozen_and_closed(config: str) -> None:
    """A model that could be changed or takes unknown names is refused."""
    code = MODEL.replace("FIELD", "text: str").replace('frozen=True, extra="forbid"', config)
    (problem,) = problems(code, declared())
    assert problem.code == "signature"


def test_the_function_has_the_actions_name() -> None:
    """A module without a function of the action's name is refused."""
    (problem,) = problems("def whisper(): ...", declared())
    assert problem.code == "no_function"


def test_companions_are_functions() -> None:
    """`check`, `attempts` and `warm` are taken when they are functions and refused when they are not."""
    code = PLAIN.replace("SIGNATURE", "def shout(context: ActionContext, text: str) -> dict:")
    whole = loaded(
        f"{code}\n    def check(arguments): return []\n    def attempts(arguments): return []\n    def warm(): ...\n",
        declared(),
    )
    assert None not in (whole.check, whole.attempts, whole.warm)
    bare = loaded(code, declared())
    assert (bare.check, bare.attempts, bare.warm) == (None, None, None)
    assert [each.code for each in problems(f"{code}\n    check = 3\n    warm = 'x'\n", declared())] == [
        "not_callable"
    ] * 2


def pack(name: str, *ids: str, types: Mapping[str, str] | None = None, workflows: tuple[str, ...] = ()) -> Pack:
    actions = []
    for id_ in ids:
        text = source.read(MANIFEST.replace("id: shout", f"id: {id_}").replace(", PLACE", ""), f"{id_}.yaml")
        actions.append(Action(manifest.load(text), name, text, lambda: module("def other(): ...")))
    found = tuple(ConnectionType(id=id_, title=id_, purpose=id_, icon="x", fields=[]) for id_ in types or ())
    return Pack(name, Path("/packs") / name, tuple(actions), found, {each: Path(f"/{each}.yaml") for each in workflows})


def test_names_are_answered() -> None:
    """Actions, connection types and workflows of all packs are found by name and listed in order."""
    registry = Registry([pack("b", "zoom", "call", types={"zoom": ""}), pack("a", "shout", workflows=("w",))])
    assert [action.id for action in registry.actions()] == ["call", "shout", "zoom"]
    assert registry.action("zoom").pack == "b"
    assert registry.connection_type("zoom") in registry.connection_types()
    assert registry.workflows() == {"w": Path("/w.yaml")}


@pytest.mark.parametrize(
    "second",
    [
        pack("two", "call", "shout"),
        pack("two", types={"mail": ""}),
        pack("two", workflows=("w",)),
        pack("one"),
    ],
    ids=["action", "connection type", "workflow", "pack"],
)
def test_duplicates_are_refused(second: Pack) -> None:
    """A name that another pack has is refused, both packs are named, and nothing of the pack is taken in."""
    registry = Registry([pack("one", "shout", types={"mail": ""}, workflows=("w",))])
    with pytest.raises(PackError, match="one") as caught:
        registry.add(second)
    assert caught.value.problem.code == "duplicate"
    assert second.name in str(caught.value)
    assert [action.id for action in registry.actions()] == ["shout"]
    assert [each.name for each in registry.packs] == ["one"]


def test_the_nearest_name_is_told() -> None:
    """A name that is not there is refused with the nearest that is."""
    registry = Registry([pack("one", "shout", types={"mail": ""})])
    with pytest.raises(NotFound, match="Did you mean 'shout'") as caught:
        registry.action("shuot")
    assert caught.value.problem.code == "unknown_action"
    with pytest.raises(NotFound, match="Did you mean 'mail'"):
        registry.connection_type("mial")
    with pytest.raises(NotFound, match="weft actions list"):
        registry.action("quite_another")


def test_an_action_of_a_broken_pack_says_why() -> None:
    """An action that is missed because its pack is broken is not found, with the pack and the reason."""
    registry = Registry()
    registry.add_broken("sad", [Problem("import", "No module named 'x'.")], ["cry"])
    with pytest.raises(NotFound, match="pack 'sad', which cannot be used: No module named 'x'"):
        registry.action("cry")


def test_an_action_is_imported_once() -> None:
    """The module is imported at the first use and not again."""
    imported = []
    text = declared()

    def import_module() -> ModuleType:
        imported.append(1)
        return module(PLAIN.replace("SIGNATURE", "def shout(context: ActionContext, text: str) -> dict:"))

    action = Action(manifest.load(text), "one", text, import_module)
    assert imported == []
    assert action.load() is action.load()
    assert imported == [1]
