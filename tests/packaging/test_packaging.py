"""The project as it is installed: wheel, sdist, editable, checkout, beside a pack of others; the locks."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
THIRD_PARTY = Path(__file__).parent / "third_party"
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACK = ("actions", "manifests", "workflows")

PROBE = """
import json
from weft import packs
registry = packs.discover()
for action in registry.actions():
    action.load()
print(json.dumps({
    "actions": {action.id: action.pack for action in registry.actions()},
    "connection types": [each.id for each in registry.connection_types()],
    "workflows": {name: str(path) for name, path in registry.workflows().items()},
    "roots": {pack.name: str(pack.root) for pack in registry.packs},
    "broken": {name: [problem.code for problem in problems] for name, problems in registry.broken.items()},
}))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command, show what it printed when it fails, and return what it printed."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_", "COVERAGE_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=variables | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy(source: Path, to: Path) -> Path:
    """Copy what a clone would have; building then leaves nothing in the tree."""
    clutter = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "corpora")
    return Path(shutil.copytree(source, to, ignore=clutter))


def build(source: Path, to: Path) -> Path:
    """Build an sdist, from it a wheel, and return the wheel."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", to, source, cwd=to.parent)
    (wheel,) = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(ROOT, tmp_path_factory.mktemp("tree") / "weft")


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, tmp_path_factory.mktemp("built") / "weft")


@pytest.fixture(scope="session")
def third_party_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("third-party")
    return build(copy(THIRD_PARTY, place / "tree"), place / "built")


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that shows what is installed here, without Weft itself."""
    place = tmp_path_factory.mktemp("libraries")
    for path in SITE_PACKAGES.iterdir():
        if not re.match(r"weft|__editable__|__pycache__", path.name) and path.suffix != ".pth":
            (place / path.name).symlink_to(path)
    return place


class Environment:
    """A virtual environment that borrows the libraries installed here."""

    def __init__(self, place: Path, libraries: Path) -> None:
        venv.create(place / "venv", with_pip=False)
        self.python = place / "venv" / "bin" / "python"
        self.elsewhere = place / "elsewhere"
        self.elsewhere.mkdir()
        (self.site_packages,) = (place / "venv" / "lib").glob("python*/site-packages")
        (self.site_packages / "libraries.pth").write_text(f"{libraries}\n")

    def install(self, *words: str | Path) -> None:
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
        run(sys.executable, "-m", "pip", "--python", self.python, "install", *offline, *words, cwd=self.elsewhere)

    def probe(self, **environment: str) -> dict[str, Any]:
        """Return what discovery finds, asked from another directory."""
        found: dict[str, Any] = json.loads(run(self.python, "-c", PROBE, cwd=self.elsewhere, **environment))
        return found


@pytest.fixture
def environment(tmp_path: Path, libraries: Path) -> Environment:
    return Environment(tmp_path, libraries)


def stems(directory: Path, pattern: str = "*.yaml") -> list[str]:
    return sorted(path.stem for path in directory.glob(pattern))


def assert_complete(found: dict[str, Any], root: Path) -> None:
    """Everything that is in the tree was found, under `root`."""
    assert list(found["actions"]) == stems(ROOT / "manifests")
    assert found["connection types"] == stems(ROOT / "manifests" / "connections")
    assert list(found["workflows"]) == [stem for stem in stems(ROOT / "workflows") if not stem.endswith(".test")]
    assert found["roots"]["core"] == str(root)
    assert all(Path(path).is_relative_to(root) for path in found["workflows"].values())
    assert found["broken"] == {}


def test_the_wheel_holds_what_the_tree_holds(wheel: Path) -> None:
    """Every file of the runtime and of the core pack is in the wheel, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    here = {
        f"{prefix}{path.relative_to(ROOT)}"
        for prefix, directories in (("", ["weft"]), ("weft_core/", PACK))
        for directory in directories
        for path in (ROOT / directory).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == here


def test_the_wheel_has_no_clutter(wheel: Path) -> None:
    """check-wheel-contents finds nothing, and the licence is inside."""
    run(Path(sys.executable).parent / "check-wheel-contents", wheel, cwd=ROOT)
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith("/LICENSE") for name in archive.namelist())


def test_works_from_a_wheel(wheel: Path, environment: Environment) -> None:
    """A wheel that was built from the sdist brings every action, connection type and workflow."""
    environment.install(wheel)
    assert_complete(environment.probe(), environment.site_packages / "weft_core")
    assert "Usage: weft" in run(environment.python.parent / "weft", "--help", cwd=environment.elsewhere)


def test_works_when_editable(tree: Path, tmp_path: Path, environment: Environment) -> None:
    """An editable install finds the same, and a new action without another install."""
    checkout = copy(tree, tmp_path / "checkout")
    environment.install("--editable", checkout)
    assert_complete(environment.probe(), checkout)

    for directory in ("actions", "manifests", "manifests/connections"):
        for path in (THIRD_PARTY / directory).glob("*[!_].*"):
            shutil.copy(path, checkout / directory)
    assert environment.probe()["actions"]["shout"] == "core"


def test_works_from_a_checkout(tree: Path, environment: Environment) -> None:
    """Weft runs from its source without being installed."""
    assert_complete(environment.probe(PYTHONPATH=str(tree)), tree)


def test_a_pack_of_others_installs_beside_the_core(
    wheel: Path, third_party_wheel: Path, environment: Environment
) -> None:
    """A pack with the same top level is found beside the core pack, and neither hides the other."""
    environment.install(wheel, third_party_wheel)
    found = environment.probe()
    assert [found["actions"].pop(name) for name in ("shout", "page_someone")] == ["shout"] * 2
    found["connection types"].remove("pager")
    assert Path(found["workflows"].pop("dinner")).parent.parent.name == "weft_shout"
    assert_complete(found, environment.site_packages / "weft_core")


def test_a_pack_of_others_tests_itself(wheel: Path, tmp_path: Path, environment: Environment) -> None:
    """The tests that a pack's author writes with weft.testing pass, his pack installed as editable."""
    environment.install(wheel)
    pack = copy(THIRD_PARTY, tmp_path / "pack")
    environment.install("--editable", pack)
    assert "8 passed" in run(environment.python, "-m", "pytest", "-p", "no:cacheprovider", "tests", cwd=pack)


def test_a_pack_runs_from_its_directory(wheel: Path, environment: Environment) -> None:
    """`--pack DIR` runs a workflow with an action of a pack that is not installed."""
    environment.install(wheel)
    workflow = THIRD_PARTY / "workflows" / "dinner.yaml"
    words = ("run", "--pack", THIRD_PARTY, workflow, "--input", "meal=Supper", "--json")
    report = json.loads(run(environment.python.parent / "weft", *words, cwd=environment.elsewhere))
    assert report["outputs"] == {"said": "SUPPER IS READY SUPPER IS READY"}


KNOWN_HOOKS = {
    "a1_coverage.pth": "coverage",
    "distutils-precedence.pth": "setuptools",
    "_virtualenv.pth": "virtualenv",
}


def test_no_unknown_start_up_hook() -> None:
    """Nothing installed here runs at the start of every Python, except what is known to."""
    owners = {
        str(file): distribution.name
        for distribution in importlib.metadata.distributions()
        for file in distribution.files or ()
        if file.suffix == ".pth"
    }
    hooks = {path.name: owners.get(path.name, "nobody") for path in SITE_PACKAGES.glob("*.pth")}
    unknown = {
        name: owner
        for name, owner in hooks.items()
        if KNOWN_HOOKS.get(name) != owner and not (name.startswith("__editable__.weft-") and owner == "weft")
    }
    assert unknown == {}
    assert [path for name in ("sitecustomize", "usercustomize") for path in SITE_PACKAGES.glob(f"{name}*")] == []


def pins(lock: str) -> dict[str, tuple[Requirement, int]]:
    """Return the pinned requirements of a lock by name, each with the number of its hashes."""
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        stated, *hashes = line.split("--hash=sha256:")
        requirement = Requirement(stated.strip())
        found[canonicalize_name(requirement.name)] = (requirement, len(hashes))
    return found


EXTRAS = PROJECT["project"]["optional-dependencies"]


def wanted(lock: str) -> Iterator[Requirement]:
    """Yield what pyproject.toml asks for directly."""
    yield from map(Requirement, PROJECT["project"]["dependencies"])
    for extra in ("local", "oidc", "otel"):
        yield from map(Requirement, PROJECT["project"]["optional-dependencies"][extra])
    yield from map(Requirement, PROJECT["dependency-groups"]["build"])
    if lock == "test.txt":
        yield from (Requirement(each) for each in PROJECT["dependency-groups"]["test"] if isinstance(each, str))


@pytest.mark.parametrize("lock", ["run.txt", "test.txt"])
def test_the_lock_pins_what_is_wanted(lock: str) -> None:
    """Each requirement has one exact version with hashes, and each direct dependency's version is allowed."""
    pinned = pins(lock)
    for name, (requirement, hashes) in pinned.items():
        assert [each.operator for each in requirement.specifier] == ["=="], name
        assert hashes, name
    for requirement in wanted(lock):
        pin = pinned[canonicalize_name(requirement.name)][0]
        (version,) = (each.version for each in pin.specifier)
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


def test_the_locks_agree() -> None:
    """What is tested is what runs: the same versions, by the same hashes."""
    run_pins, test_pins = pins("run.txt"), pins("test.txt")
    assert {name: str(pin.specifier) for name, (pin, _) in run_pins.items()} == {
        name: str(test_pins[name][0].specifier) for name in run_pins
    }


def test_what_is_imported_is_declared() -> None:
    """Every library that the code imports is a dependency of its own, and every dependency is imported."""
    owners = importlib.metadata.packages_distributions()
    imported = {
        name: {canonicalize_name(owner) for owner in owners.get(name, [name])}
        for directory in ("weft", "actions")
        for path in (ROOT / directory).rglob("*.py")
        for name in imports(path)
    }
    build_only = {"setuptools"}
    data_only = {"tzdata"}
    come_with_others = {"pydantic_core", "starlette", "mcp_types"}
    declared = {canonicalize_name(requirement.name) for requirement in wanted("run.txt")}
    declared |= {canonicalize_name(Requirement(each).name) for each in EXTRAS["testing"]}
    assert {name for name, owners in imported.items() if not owners & declared} - come_with_others == set()
    assert declared - set().union(*imported.values()) - build_only - data_only == set()


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level names of the libraries that a module imports."""
    ours = set(sys.stdlib_module_names) | {"weft"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names = [word.value for word in node.args if isinstance(word, ast.Constant)]
        else:
            continue
        yield from {name.split(".")[0] for name in names} - ours


def test_every_dependency_has_its_reason() -> None:
    """docs/decisions/dependencies.md names each direct dependency, and none that is gone."""
    text = (ROOT / "docs" / "decisions" / "dependencies.md").read_text()
    rows = re.findall(r"^\| ([a-z][^|]*?) +\| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    named = {re.sub(r" \(.*", "", name) for row in rows for name in row.split(", ")} - {"package"}
    assert {canonicalize_name(name) for name in named} == {canonicalize_name(each.name) for each in wanted("test.txt")}
