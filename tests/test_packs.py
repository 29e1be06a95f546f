"""Packs are found and read without importing their code; a broken one takes nothing else with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from weft import packs
from weft.errors import NotFound, PackError, Problem
from weft.registry import Registry
from weft.testing import check_pack, run_action

SHOUT = Path(__file__).parent / "packaging" / "third_party"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of a good pack, to be spoilt."""
    return Path(shutil.copytree(SHOUT, tmp_path / "noise", ignore=shutil.ignore_patterns("__pycache__")))


def installed(
    pack: Path, place: Path, monkeypatch: pytest.MonkeyPatch, name: str = "noise", prefix: str = "noise_pack"
) -> None:
    """Lay the pack out as an installer would, and let Python find it."""
    for module in [name for name in sys.modules if name.split(".")[0] == prefix]:
        monkeypatch.delitem(sys.modules, module)  # of another test
    shutil.copytree(pack, place / prefix)
    info = place / f"{prefix}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {prefix}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[weft.packs]\n{name} = {prefix}.actions\n")
    monkeypatch.syspath_prepend(place)


def test_the_core_pack_is_found(core_registry: Registry) -> None:
    """The core pack's two actions are there, and none is broken."""
    assert {"generate_chat_completion", "send_email"} <= {action.id for action in core_registry.actions()}
    assert core_registry.packs[0].name == "core"
    assert core_registry.broken == {}


def test_a_directory_is_a_pack(pack: Path) -> None:
    """A directory that is not installed is loaded, a relative import in it too, and nothing of the host is shadowed."""
    registry = packs.discover([pack])
    action = registry.action("shout")
    assert action.pack == "noise"
    module = sys.modules[action.load().function.__module__]
    assert module.__file__ == str(pack / "actions" / "shout.py")
    assert "actions" not in sys.modules or Path(sys.modules["actions"].__file__ or "").parent != pack / "actions"
    assert registry.workflows()["dinner"] == pack / "workflows" / "dinner.yaml"


def test_two_directories_do_not_mix(tmp_path: Path) -> None:
    """Two directory packs keep their own modules, those of one name too."""
    for name, word in (("one", "upper"), ("two", "lower")):
        copy = Path(shutil.copytree(SHOUT, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")))
        (copy / "workflows" / "dinner.yaml").unlink()
        for path in ("manifests/page_someone.yaml", "actions/page_someone.py", "actions/_connection_pager.py"):
            (copy / path).unlink()
        shutil.rmtree(copy / "manifests" / "connections")
        letters = copy / "actions" / "_letters.py"
        letters.write_text(letters.read_text().replace("upper", word))
        for directory, suffix in (("actions", "py"), ("manifests", "yaml")):
            path = copy / directory / f"shout.{suffix}"
            text = path.read_text().replace("def shout", f"def shout_{name}").replace("id: shout", f"id: shout_{name}")
            path.with_name(f"shout_{name}.{suffix}").write_text(text)
            path.unlink()
    registry = packs.discover([tmp_path / "one", tmp_path / "two"])
    said = {}
    for name in ("one", "two"):
        function = registry.action(f"shout_{name}").load().function
        said[name] = sys.modules[function.__module__].capitals("Hey")
    assert said == {"one": "HEY", "two": "hey"}


def test_the_same_directory_twice_is_one_pack(pack: Path) -> None:
    """A directory that is named twice, by another spelling too, is loaded once."""
    registry = packs.discover([pack, pack / "actions" / ".."])
    assert [each.name for each in registry.packs].count("noise") == 1


def test_discovery_imports_no_action(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An action's module is imported when the action is used, not when it is found."""
    (pack / "actions" / "shout.py").write_text("raise RuntimeError('imported')\n")
    installed(pack, tmp_path / "site", monkeypatch)
    action = packs.discover().action("shout")
    with pytest.raises(PackError, match=r"noise_pack\.actions\.shout.*imported") as caught:
        action.load()
    assert caught.value.problem.code == "import"


def spoil_manifest(pack: Path) -> None:
    path = pack / "manifests" / "shout.yaml"
    path.write_text(path.read_text().replace("retry: safe", "retry: perhaps"))


SPOILT = {
    "manifest": (spoil_manifest, "shout.yaml"),
    "no module": (lambda pack: (pack / "actions" / "shout.py").unlink(), "no_module"),
    "no manifest": (lambda pack: (pack / "actions" / "extra.py").touch(), "no_manifest"),
    "other id": (lambda pack: (pack / "manifests" / "shout.yaml").rename(pack / "manifests" / "cry.yaml"), "name"),
    "no init": (lambda pack: (pack / "actions" / "__init__.py").unlink(), "no_init"),
    "suffix": (lambda pack: (pack / "workflows" / "more.yml").touch(), "suffix"),
    "suffix of a connection type": (
        lambda pack: (pack / "manifests/connections/x.yml").touch(),
        "suffix",
    ),
    "nested": (
        lambda pack: ((pack / "actions" / "deep").mkdir(), (pack / "actions/deep/__init__.py").touch()),
        "nested",
    ),
    "no manifest at all": (lambda pack: shutil.rmtree(pack / "manifests"), "no_manifest"),
    "empty": (lambda pack: [shutil.rmtree(pack / name) for name in ("actions", "manifests", "workflows")], "no_pack"),
}


@pytest.mark.parametrize(("spoil", "sign"), SPOILT.values(), ids=SPOILT)
def test_a_broken_directory_is_refused(spoil: object, sign: str, pack: Path) -> None:
    """A pack that was asked for by its directory is refused, with the place of each fault."""
    spoil(pack)  # type: ignore[operator]
    with pytest.raises(PackError) as caught:
        packs.discover([pack])
    found = caught.value.problems
    assert sign in {problem.code for problem in found} | {Path(problem.where.file or "").name for problem in found}
    assert all(problem.where.file for problem in found)


def test_all_faults_are_told_at_once(pack: Path) -> None:
    """Faults of several files come together."""
    spoil_manifest(pack)
    (pack / "actions" / "extra.py").touch()
    (pack / "workflows" / "more.yml").touch()
    with pytest.raises(PackError) as caught:
        packs.discover([pack])
    assert {"no_manifest", "suffix"} < {problem.code for problem in caught.value.problems}
    assert len(caught.value.problems) == 3


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """A directory that does not exist is refused by name."""
    with pytest.raises(PackError, match="nowhere"):
        packs.discover([tmp_path / "nowhere"])


def test_an_installed_pack_is_found(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point is enough; the directories beside the actions belong to the pack."""
    installed(pack, tmp_path / "site", monkeypatch)
    registry = packs.discover()
    assert registry.action("shout").pack == "noise"
    assert registry.action("shout").load().function.__module__ == "noise_pack.actions.shout"
    assert "dinner" in registry.workflows()


@pytest.mark.parametrize(("spoil", "sign"), SPOILT.values(), ids=SPOILT)
def test_a_broken_pack_leaves_the_others(
    spoil: object, sign: str, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed pack that cannot be used is told, its action is missed with the reason, the core pack works."""
    spoil(pack)  # type: ignore[operator]
    installed(pack, tmp_path / "site", monkeypatch)
    registry = packs.discover()
    assert list(registry.broken) == ["noise"]
    assert registry.action("send_email").pack == "core"
    with pytest.raises(NotFound, match=None if not (pack / "manifests/shout.yaml").exists() else "pack 'noise'"):
        registry.action("shout")


def test_a_pack_whose_entry_point_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points that name nothing, a plain module, or what fails when imported are told as broken packs."""
    for name, value in (("a", "nothing.at_all"), ("b", "json.decoder"), ("c", "angry.actions"), ("d", "json.")):
        info = tmp_path / f"{name}pack-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}pack\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[weft.packs]\n{name} = {value}\n")
    (tmp_path / "angry").mkdir()
    (tmp_path / "angry" / "__init__.py").write_text("1/0\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = packs.discover()
    assert sorted(registry.broken) == ["a", "b", "c", "d"]
    assert "ZeroDivisionError" in str(registry.broken["c"][0])
    assert registry.action("send_email").pack == "core"


def test_names_that_the_core_has_are_not_taken_over(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack that calls itself core, or brings an action that the core has, is left out."""
    installed(pack, tmp_path / "first", monkeypatch, name="core", prefix="other_core")
    for directory, suffix in (("actions", "py"), ("manifests", "yaml")):
        text = (pack / directory / f"shout.{suffix}").read_text().replace("shout", "send_email")
        (pack / directory / f"send_email.{suffix}").write_text(text)
        (pack / directory / f"shout.{suffix}").unlink()
    installed(pack, tmp_path / "second", monkeypatch)
    registry = packs.discover()
    assert registry.action("send_email").pack == "core"
    assert sorted(problems[0].code for problems in registry.broken.values()) == ["duplicate", "duplicate"]
    assert "noise" in registry.broken


def test_discovery_is_cheap() -> None:
    """Finding, reading and checking the core pack takes little more than parsing its documents, and no LiteLLM."""
    code = """
        import jsonschema, sys, time, yaml
        from weft import packs
        start = time.process_time()
        documents = packs.discover().packs[0].root.glob("manifests/**/*.yaml")
        found = time.process_time()
        for document in documents:
            yaml.load(document.read_bytes(), yaml.CSafeLoader)
        parsed = time.process_time()
        print((found - start) / (parsed - found), "litellm" in sys.modules)
    """
    measured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ratios = []
    for _ in range(3):
        done = subprocess.run(command, env=measured, capture_output=True, text=True, check=True, timeout=60)
        ratio, litellm = done.stdout.split()
        assert litellm == "False"
        ratios.append(float(ratio))
    assert min(ratios) < 8


def test_a_type_of_connection_that_nobody_brings_breaks_the_pack(pack: Path) -> None:
    """An action that needs an account of an unknown type is told where it says so, with the nearest one."""
    manifest = pack / "manifests" / "page_someone.yaml"
    manifest.write_text(manifest.read_text().replace("connection: pager", "connection: pagger"))
    with pytest.raises(PackError) as caught:
        packs.discover([pack])

    problem = caught.value.problem
    assert (problem.code, problem.where.line, problem.remedy) == ("unknown_connection_type", 7, "Did you mean 'pager'?")


def test_check_pack_finds_a_module_that_tests_no_connection(pack: Path) -> None:
    """A module that is there to test a type of connection exports a test."""
    module = pack / "actions" / "_connection_pager.py"
    module.write_text(module.read_text().replace("async def test(", "async def tested("))
    assert [problem.code for problem in check_pack(pack)] == ["no_test"]


def test_check_pack_finds_nothing_in_a_good_pack(pack: Path) -> None:
    """A good pack has no problems."""
    assert check_pack(pack) == []


def edited(pack: Path, file: str, old: str, new: str) -> list[Problem]:
    path = pack / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    return check_pack(pack)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("manifests/shout.yaml", "retry: safe", "retry: perhaps", "retry"),
        ("manifests/shout.yaml", "      default: 1\n", "      default: 2\n", "default is 2"),
        ("manifests/shout.yaml", "      example: 2\n", "      example: two\n", "must be an integer"),
        ("manifests/shout.yaml", "      example: 2\n", "", "has no example"),
        ("manifests/shout.yaml", "    text: DINNER", "    said: DINNER", "'example' needs 'text'"),
        ("actions/shout.py", "times: int = 1", "times: int = 1, more: str = ''", "more"),
        ("actions/shout.py", "from ._letters", "from ._lost", "_lost"),
        ("workflows/dinner.yaml", "uses: shout", "uses: shuot", "shuot"),
        ("workflows/dinner.yaml", "name: dinner", "name: supper", "supper"),
        ("workflows/dinner.yaml", "steps.call.output", "steps.cal.output", "cal"),
    ],
)
def test_check_pack_finds(pack: Path, file: str, old: str, new: str, told: str) -> None:
    """Each fault of a pack is found and placed in a file."""
    found = edited(pack, file, old, new)
    assert any(told in str(problem) for problem in found), found


async def test_run_action(pack: Path) -> None:
    """A pack's author runs an action with defaults added and output checked."""
    assert await run_action(pack, "shout", {"text": "hey"}) == {"text": "HEY"}


async def test_run_action_checks_arguments_and_output(pack: Path) -> None:
    """Arguments that break the manifest are refused before the call, an output that breaks it after."""
    from weft.errors import ActionError, InvalidArguments, WeftError

    with pytest.raises(InvalidArguments, match="times"):
        await run_action(pack, "shout", {"text": "hey", "times": "twice"})
    with pytest.raises(ActionError, match="nothing to shout"):
        await run_action(pack, "shout", {"text": " "})
    path = pack / "manifests" / "shout.yaml"
    path.write_text(path.read_text().replace("text: {type: string}", "text: {type: string, maxLength: 2}"))
    with pytest.raises(WeftError):
        await run_action(pack, "shout", {"text": "hey"})
