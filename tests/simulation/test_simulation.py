"""The engine in a world where everything goes wrong: it comes to what it would have come to in a calm one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from itertools import chain

import pytest
from simulation import aimed
from simulation.documents import Document, depends, read
from simulation.mutants import MUTANTS, broken
from simulation.seeds import play
from simulation.world import FAULTS, World

from weft.journal.base import ENDS

SEEDS = 70
"""`python tests/simulation/run.py --seeds 10000` plays more."""


def judged(worlds: Iterable[tuple[World, list[str]]]) -> list[World]:
    """Return the worlds; fail with the first in which something is wrong."""
    found = []
    for world, wrong in worlds:
        assert not wrong, "\n".join([str(world.chaos), *wrong, *map(str, world.log)])
        found.append(world)
    return found


def test_whatever_goes_wrong_a_run_comes_to_the_same() -> None:
    """Rules A2, A3, A6, A8-A10, A16-A20: results and paths as undisturbed, nothing recorded runs again, repeats are told."""
    worlds = []
    for seed in range(SEEDS):
        world, wrong = play(seed)
        assert not wrong, f"python tests/simulation/run.py --seed {seed}\n" + "\n".join(wrong)
        worlds.append(world)

    faults = Counter(fault for world in worlds for fault in world.faults.values())
    states = Counter(run.status.state for world in worlds for run in world.store.runs.values())
    repeated = sum(seen.what == "effect" and seen.more.startswith("repeated") for world in worlds for seen in world.log)
    assert set(faults) == set(FAULTS)
    assert set(states) == {"succeeded", "failed", "cancelled"}
    assert repeated > 10


@pytest.mark.parametrize("name", aimed.DOCUMENTS)
def test_a_fault_at_every_point_changes_nothing(name: str) -> None:
    """A crash, a stop, a lost, late or refused answer before and after each operation: all is as in a calm world."""
    worlds = judged(aimed.single(name, every=5))

    assert len(worlds) > 0.6 * aimed.points(name)


def test_a9_a_time_that_is_up_is_a_record_before_anything_acts_on_it() -> None:
    """A9: with a fault at every point of a group, a wait and a child with timeouts, what was begun is as undisturbed."""
    worlds = judged(chain(*(aimed.single(name, every=9) for name in ("groups", "family"))))

    late = [run for world in worlds for run in world.store.runs.values() if ("/slow", 0, "rang") in run.records]
    assert len(late) > 10


def test_a21_a_tree_of_runs_ends_together_whatever_is_cancelled_when() -> None:
    """A21: with a cancel at every point, a child is begun with its record or not at all, and ends before its parent."""
    worlds = judged(aimed.cancelled("family"))

    families = [world.store.runs for world in worlds]
    assert all(run.status.state in ENDS for runs in families for run in runs.values())
    assert sum(len(runs) > 1 for runs in families) > 0.5 * len(families)


@pytest.mark.parametrize("name", aimed.DOCUMENTS)
def test_a18_a_cancel_at_every_point_ends_the_run(name: str) -> None:
    """A18: nothing outside `finally` begins any more, and what is in doubt says so."""
    worlds = judged(aimed.cancelled(name))

    states = Counter(run.status.state for world in worlds for run in world.store.runs.values())
    assert states["cancelled"] > 0.7 * len(worlds)  # the others had not begun, or had ended


def test_a18_two_cancels_at_every_point_end_the_run() -> None:
    """A18: the second one ends `finally`, too."""
    judged(aimed.cancelled("tiny", twice=True, every=5))


def test_two_faults_change_nothing() -> None:
    """Of all pairs of faults in a small document, some: the long run tries each."""
    assert len(judged(aimed.double("tiny", every=801))) > 10


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_noticed(name: str) -> None:
    """Each guarantee, taken away on purpose, shows: at some point of a small document, or within some seeds."""
    with broken(name):
        small = chain(*(aimed.single(document, every=5) for document in ("groups", "family")))
        worlds = chain(map(play, range(15)), aimed.single("tiny"), small, map(play, range(15, 100)))
        assert any(wrong for _, wrong in worlds)


def test_a_seed_is_played_alike_each_time() -> None:
    """A failure can be looked at again."""
    first, second = (play(12)[0].log for _ in range(2))

    assert first == second
    assert len(first) > 10


def test_the_log_is_not_silenced_by_a_world() -> None:
    """What a world switches off it switches on again."""
    play(0)

    assert logging.root.manager.disable == logging.NOTSET


DOCUMENT: Document = {
    "steps": [
        {"id": "a", "uses": "work", "with": {"value": [1], "fails": 1, "tries": 2}},
        {"id": "b", "if": "steps.a.state == 'failed'", "uses": "work", "with": {"value": []}},
        {
            "id": "c",
            "for_each": [5, 6],
            "max_parallel": 1,
            "steps": [{"id": "d", "uses": "send", "with": {"value": []}}],
        },
        {"id": "e", "approval": {"message": "?"}, "on_error": {"steps": [{"id": "f", "wait": {"for": "1s"}}]}},
    ],
    "outputs": {},
}


def test_the_second_reading_knows_where_a_document_leads() -> None:
    """Attempts, pauses between them, turns, answers, steps for a failure; a step whose condition fails is not reached."""
    rejected = {"/e": {"answer": "reject", "by": None}}
    reading = read(DOCUMENT, 0, rejected)

    paths = {("/a", 1), ("/a", -1), ("/a", 2), ("/c[0]/d", 1), ("/c[1]/d", 1), ("/e", -1), ("/e/@on_error/f", -1)}
    assert (reading.state, reading.reached.must, reading.reached.may) == ("succeeded", paths, paths)


@pytest.mark.parametrize(
    ("path", "other", "does"),
    [
        ("/c[0]/d", "/a", True),
        ("/c[0]/d", "/c[1]/d", False),
        ("/e/@on_error/f", "/e", True),
        ("/a", "/c[0]/d", False),
        ("/@finally/x", "/a", True),
    ],
)
def test_the_second_reading_knows_what_depends_on_what(path: str, other: str, does: bool) -> None:
    """A step must not begin before the record of those that it needs."""
    assert depends({**DOCUMENT, "finally": [{"id": "x"}]}, path, other) is does
