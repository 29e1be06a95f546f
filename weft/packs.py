"""Finds packs and reads their documents; an action's module is imported only when the action is first used.

A pack is a directory with `actions/`, `manifests/` (in it `connections/`) and `workflows/`. What tests a type of
connection is the module `actions/_connection_<id>.py`. An installed one is
found by its entry point in the group `weft.packs`, which names its `actions` package; the directory that holds
that package is the pack. This is so in a wheel and in a checkout alike.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from weft import manifest, source
from weft.errors import InvalidDocument, PackError, Problem, Where
from weft.manifest import ConnectionType
from weft.registry import Action, Pack, Registry
from weft.workflow import BESIDE

GROUP = "weft.packs"
CORE = "core"

Document = TypeVar("Document", manifest.Manifest, ConnectionType)


def discover(extra: Sequence[Path] = ()) -> Registry:
    """Return a registry of the core pack, the installed packs and those in the directories `extra`.

    A pack of others that cannot be used is left out and told in `Registry.broken`.

    Raises:
        PackError: The core pack or one of `extra` cannot be used; carries every problem of that pack.
    """
    entries = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name)
    registry = Registry([_core([entry for entry in entries if _is_core(entry)])])
    for entry in entries:
        if not _is_core(entry):
            _add_installed(registry, entry)
    for directory in extra:
        root = directory.resolve()
        if root not in (pack.root for pack in registry.packs):
            registry.add(read(root, root.name, package_of(root)))
    return registry


def _is_core(entry: importlib.metadata.EntryPoint) -> bool:
    return entry.name == CORE and entry.dist is not None and entry.dist.name == "weft"


def _core(entries: Sequence[importlib.metadata.EntryPoint]) -> Pack:
    """Return the core pack; when Weft is run from its source without being installed, the one beside it.

    A build may have left the metadata of an installation in the source.
    """
    beside = Path(__file__).resolve().parent.parent
    root = None
    try:
        root = _root_of(entries[0]) if entries else None
    except PackError:
        if not (beside / "pyproject.toml").is_file():
            raise
    return read(beside, CORE, package_of(beside)) if root is None else read(root, CORE, entries[0].value)


def _add_installed(registry: Registry, entry: importlib.metadata.EntryPoint) -> None:
    """Add a pack of others, or remember why it cannot be used."""
    root = None
    try:
        root = _root_of(entry)
        registry.add(read(root, entry.name, entry.value))
    except PackError as error:
        name = (
            entry.name if entry.name not in (pack.name for pack in registry.packs) else f"{entry.name} ({entry.value})"
        )
        registry.add_broken(name, error.problems, _stems(root / "manifests", "*.yaml") if root else ())


def _root_of(entry: importlib.metadata.EntryPoint) -> Path:
    """Return the directory that holds the package which `entry` names, without importing that package."""
    try:
        spec = importlib.util.find_spec(entry.value)
    except Exception as error:  # importing the parent package runs its author's code
        raise PackError(f"Pack {entry.name!r}: {entry.value!r} cannot be imported: {error!r}", code="import") from error
    if spec is None or not spec.submodule_search_locations:
        raise PackError(
            f"Pack {entry.name!r}: its entry point names {entry.value!r}, which is not a package.",
            code="entry_point",
            remedy="Install the pack again; if that does not help, it was built without its actions.",
        )
    return Path(next(iter(spec.submodule_search_locations))).resolve().parent


def package_of(root: Path) -> str:
    """Return the name under which the actions in directory `root` can be imported.

    The name is private to the directory, so that neither another pack nor a module of the host is shadowed.
    """
    parent = "weft_pack_" + hashlib.sha256(str(root).encode()).hexdigest()[:16]
    if parent not in sys.modules:
        spec = ModuleSpec(parent, None, is_package=True)
        spec.submodule_search_locations = [str(root)]
        sys.modules[parent] = importlib.util.module_from_spec(spec)
    return f"{parent}.actions"


def read(root: Path, name: str, package: str) -> Pack:
    """Read the pack in directory `root`, whose actions are importable as `package`.

    Raises:
        PackError: Something is wrong with it; carries every problem.
    """
    problems = list(_misplaced(root))
    manifests = list(_documents(root / "manifests", manifest.load, problems))
    types = list(_documents(root / "manifests" / "connections", manifest.load_connection_type, problems))
    problems += _unpaired(root)
    if problems:
        raise PackError(problems=(problem.at(Where(str(root))) for problem in problems))
    return Pack(
        name=name,
        root=root,
        actions=tuple(
            Action(document, name, text, _importer(f"{package}.{document.id}")) for document, text in manifests
        ),
        connection_types=tuple(document for document, _ in types),
        connection_tests={
            document.id: _importer(f"{package}._connection_{document.id}")
            for document, _ in types
            if (root / "actions" / f"_connection_{document.id}.py").is_file()
        },
        workflows={
            path.stem: path for path in sorted((root / "workflows").glob("*.yaml")) if not path.name.endswith(BESIDE)
        },
    )


def _importer(module: str) -> Callable[[], ModuleType]:
    def import_module() -> ModuleType:
        try:
            return importlib.import_module(module)
        except Exception as error:  # whatever the author's module raises while it is imported
            raise PackError(
                f"Module {module!r} cannot be imported: {error!r}",
                code="import",
                remedy="Install what it needs, or mend it.",
            ) from error

    return import_module


def _documents(
    directory: Path, load: Callable[[source.Source], Document], problems: list[Problem]
) -> Iterator[tuple[Document, source.Source]]:
    """Yield every document in `directory`; what is wrong with one is added to `problems`."""
    for path in sorted(directory.glob("*.yaml")):
        try:
            text = source.read_file(path)
            document = load(text)
        except InvalidDocument as error:
            problems += error.problems
            continue
        if document.id != path.stem:
            problems.append(
                Problem(
                    "name",
                    f"The id is {document.id!r}, the file {path.name!r}.",
                    "Give the two one name.",
                    text.where(("id",)),
                )
            )
        yield document, text


def _stems(directory: Path, pattern: str) -> set[str]:
    return {path.stem for path in directory.glob(pattern)}


def _unpaired(root: Path) -> Iterator[Problem]:
    """Yield a problem for each manifest without a module and each public module without a manifest."""
    manifests = _stems(root / "manifests", "*.yaml")
    modules = {name for name in _stems(root / "actions", "*.py") if not name.startswith("_")}
    for name in sorted(manifests - modules):
        yield Problem(
            "no_module",
            f"manifests/{name}.yaml has no actions/{name}.py.",
            "Write the module, or take the manifest away.",
            Where(str(root / "manifests" / f"{name}.yaml")),
        )
    for name in sorted(modules - manifests):
        yield Problem(
            "no_manifest",
            f"actions/{name}.py has no manifests/{name}.yaml.",
            "Write the manifest, or begin the module's name with an underscore if it is no action.",
            Where(str(root / "actions" / f"{name}.py")),
        )


def _misplaced(root: Path) -> Iterator[Problem]:
    """Yield a problem for each thing that would work here and be missing elsewhere, or the other way round."""
    actions = root / "actions"
    if not actions.is_dir() and not (root / "manifests").is_dir() and not (root / "workflows").is_dir():
        yield Problem(
            "no_pack",
            f"{root} holds none of actions/, manifests/ and workflows/.",
            "Name the directory that holds them.",
        )
    if (root / "pyproject.toml").is_file() and not (actions / "__init__.py").is_file():
        yield Problem(
            "no_init",
            "actions/ has no __init__.py; an editable install would not find it.",
            "Add an empty one.",
            Where(str(actions)),
        )
    for path in sorted(actions.glob("*/__init__.py")):
        yield Problem(
            "nested",
            f"actions/{path.parent.name}/ is a package; a pack's actions are flat.",
            "Make it a module beside the others.",
            Where(str(path.parent)),
        )
    for path in sorted(_files(root, "*.yml")):
        yield Problem("suffix", f"{path.name!r} would not be found.", "Name it .yaml.", Where(str(path)))


def _files(root: Path, pattern: str) -> Iterable[Path]:
    for directory in ("manifests", "manifests/connections", "workflows"):
        yield from (root / directory).glob(pattern)
