"""Names and what answers to them: actions, types of connections, example workflows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

from weft import wording
from weft.contract import Callables, ConnectionTest, callables, connection_test
from weft.errors import NotFound, PackError, Problem
from weft.manifest import ConnectionType, Manifest
from weft.source import Source

__all__ = ["Action", "Callables", "ConnectionTest", "Pack", "Registry"]


@dataclass(frozen=True, eq=False)
class Action:
    """A manifest and, once somebody needs it, the code that it declares."""

    manifest: Manifest
    pack: str
    source: Source  #: of the manifest
    import_module: Callable[[], ModuleType] = field(repr=False)

    @property
    def id(self) -> str:
        return self.manifest.id

    def load(self) -> Callables:
        """Import the action's module and return what it exports; the second call costs nothing.

        Raises:
            PackError: It cannot be imported, or it and the manifest disagree; carries every difference.
        """
        return self._callables

    @cached_property
    def _callables(self) -> Callables:
        return callables(self.import_module(), self.manifest, self.source)


@dataclass(frozen=True, slots=True)
class Pack:
    """What one pack brings."""

    name: str
    root: Path
    actions: tuple[Action, ...] = ()
    connection_types: tuple[ConnectionType, ...] = ()
    workflows: Mapping[str, Path] = field(default_factory=dict)  #: examples, by name
    connection_tests: Mapping[str, Callable[[], ModuleType]] = field(default_factory=dict)  #: by type, imported late


class Registry:
    """All packs' names, each answered by one thing."""

    def __init__(self, packs: Iterable[Pack] = ()) -> None:
        self._packs: dict[str, Pack] = {}
        self._actions: dict[str, Action] = {}
        self._connection_types: dict[str, ConnectionType] = {}
        self._connection_tests: dict[str, Callable[[], ModuleType]] = {}
        self._workflows: dict[str, Path] = {}
        self._broken: dict[str, tuple[Problem, ...]] = {}
        self._lost: dict[str, str] = {}
        for pack in packs:
            self.add(pack)

    def add(self, pack: Pack) -> None:
        """Take in a pack, or none of it.

        Raises:
            PackError: Names that another pack has already; carries all of them.
        """
        problems = [*self._taken(pack), *self._unknown_types(pack)]
        if problems:
            raise PackError(problems=problems)
        self._packs[pack.name] = pack
        self._actions.update((action.id, action) for action in pack.actions)
        self._connection_types.update((each.id, each) for each in pack.connection_types)
        self._connection_tests.update(pack.connection_tests)
        self._workflows.update(pack.workflows)

    def add_broken(self, name: str, problems: Iterable[Problem], actions: Iterable[str] = ()) -> None:
        """Remember a pack that cannot be used and the ids of the actions that are missed for it."""
        self._broken[name] = tuple(problems)
        self._lost.update((id_, name) for id_ in actions if id_ not in self._actions)

    @property
    def packs(self) -> tuple[Pack, ...]:
        """The packs in use, in the order in which they came."""
        return tuple(self._packs.values())

    @property
    def broken(self) -> Mapping[str, tuple[Problem, ...]]:
        """Why each installed pack that is not in use cannot be used."""
        return self._broken

    def action(self, id_: str) -> Action:
        """Return the action `id_`.

        Raises:
            NotFound: There is none; names the nearest, or the broken pack that would have brought it.
        """
        if id_ in self._actions:
            return self._actions[id_]
        if id_ in self._lost:
            pack = self._lost[id_]
            raise NotFound(
                f"Action {id_!r} is in pack {pack!r}, which cannot be used: {self._broken[pack][0]}",
                code="unknown_action",
                remedy="Mend the pack, or uninstall it.",
            )
        raise _not_found("action", id_, self._actions, "`weft actions list` shows all.")

    def actions(self) -> tuple[Action, ...]:
        """Return all actions by id."""
        return tuple(self._actions[id_] for id_ in sorted(self._actions))

    def connection_type(self, id_: str) -> ConnectionType:
        """Return the type of connection `id_`, or raise `NotFound` that names the nearest."""
        if id_ in self._connection_types:
            return self._connection_types[id_]
        raise _not_found("connection_type", id_, self._connection_types)

    def connection_types(self) -> tuple[ConnectionType, ...]:
        """Return all types of connections by id."""
        return tuple(self._connection_types[id_] for id_ in sorted(self._connection_types))

    def connection_test(self, id_: str) -> ConnectionTest | None:
        """Import and return what tests connections of type `id_`; None when its pack brings no test.

        Raises:
            PackError: It cannot be imported, or is no test.
        """
        importer = self._connection_tests.get(id_)
        return None if importer is None else connection_test(importer())

    def workflows(self) -> Mapping[str, Path]:
        """Return the example workflows of all packs, by name."""
        return dict(sorted(self._workflows.items()))

    def _unknown_types(self, pack: Pack) -> Iterable[Problem]:
        """Yield a problem for each action in `pack` that needs a connection of a type that there is not."""
        known = {*self._connection_types, *(each.id for each in pack.connection_types)}
        for action in pack.actions:
            wanted = action.manifest.connection
            if wanted is not None and wanted not in known:
                near = wording.meant(wanted, known) or f"There are: {', '.join(sorted(known))}."
                message = f"There is no connection type {wanted!r}."
                where = action.source.where(("connection",))
                yield Problem("unknown_connection_type", message, near, where)

    def _taken(self, pack: Pack) -> Iterable[Problem]:
        """Yield a problem for each name in `pack` that is taken."""
        if pack.name in self._packs:
            other = self._packs[pack.name]
            yield Problem(
                "duplicate",
                f"Two packs are named {pack.name!r}: {other.root} and {pack.root}.",
                "Take one of them away, or rename it.",
            )
        for other in self._packs.values():
            for kind, names, others in (
                ("action", {each.id for each in pack.actions}, {each.id for each in other.actions}),
                (
                    "connection type",
                    {each.id for each in pack.connection_types},
                    {each.id for each in other.connection_types},
                ),
                ("workflow", set(pack.workflows), set(other.workflows)),
            ):
                for name in sorted(names & others):
                    yield Problem(
                        "duplicate",
                        f"Packs {other.name!r} and {pack.name!r} both bring {kind} {name!r}.",
                        "Take one of the packs away, or rename it there.",
                    )


def _not_found(kind: str, name: str, names: Collection[str], otherwise: str | None = None) -> NotFound:
    remedy = wording.meant(name, names) or otherwise
    return NotFound(f"There is no {kind.replace('_', ' ')} {name!r}.", code=f"unknown_{kind}", remedy=remedy)
