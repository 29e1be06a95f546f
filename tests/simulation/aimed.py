"""Faults aimed at every point of small documents: one at a time, and two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from simulation.judges import judge
from simulation.world import FAULTS, Chaos, Order, World

SEED = "aimed"


def _send(name: str, **more: Any) -> dict[str, Any]:
    given = {key: more.pop(key) for key in ("fails", "doubt", "tries", "others", "wait_s", "heals") if key in more}
    return {"id": name, "uses": "send", "with": {"value": [name], "seconds": 0.1, **given}, **more}


TINY = {
    "name": "random",
    "steps": [
        _send("a", fails=1, tries=2, wait_s=3),
        {"id": "b", "uses": "work", "with": {"value": ["{{ steps.a.output }}"]}},
    ],
    "outputs": {"out": ["{{ steps.b.output }}"]},
}
MAILS = {
    "name": "random",
    "steps": [
        {
            "id": "each",
            "for_each": "{{ range(3) | list }}",
            "max_parallel": 2,
            "steps": [_send("x", fails="{{ 1 if index == 1 else 0 }}", doubt=True, tries=2), _send("y", needs=["x"])],
        },
        _send("last", fails=2, tries=2, others=1),
    ],
    "outputs": {"out": ["{{ steps.each.output }}", "{{ steps.last.output }}"]},
    "finally": [_send("tidy")],
}
ASKING = {
    "name": "random",
    "steps": [
        {"id": "ok", "approval": {"message": "Go on?", "deadline": "15s", "default": "reject"}, "on_error": "continue"},
        {"id": "pause", "needs": [], "wait": {"for": "3s"}},
        _send("told", needs=["ok", "pause"], **{"if": "steps.ok.state == 'succeeded'"}),
        {
            "id": "bad",
            "uses": "work",
            "with": {"fails": 99, "wait_s": 1, "tries": 2},
            "on_error": {"steps": [_send("sorry")]},
        },
    ],
    "outputs": {"out": ["{{ steps.ok.output }}", "{{ steps.told.output }}", "{{ steps.bad.state }}"]},
}
FAILING = {
    "name": "random",
    "steps": [_send("a", fails=99, tries=2, doubt=True, delivery="at_most_once"), _send("b")],
    "on_failure": {"steps": [_send("tell"), _send("others")]},
    "finally": [_send("tidy"), _send("up")],
}
DOUBTS = {
    "name": "random",
    "steps": [
        _send("a", fails=2, doubt=True, delivery="at_most_once", on_error="continue"),
        {"id": "each", "for_each": [1, 2], "steps": [_send("b", delivery="at_most_once")], "on_error": "continue"},
        _send("last", delivery="at_most_once", **{"if": "steps.a.state == 'succeeded'"}),
    ],
    "outputs": {"out": ["{{ steps.a.output }}", "{{ steps.each.state }}"]},
}
GROUPS = {
    "name": "random",
    "steps": [
        {
            "id": "g",
            "retry": {"attempts": 2, "backoff": "3s", "jitter": False},
            "steps": [_send("a"), _send("once", delivery="at_most_once"), _send("b", fails=99, heals=2)],
        },
        {
            "id": "slow",
            "timeout": "5s",
            "on_error": "continue",
            "steps": [_send("c"), {"id": "w", "wait": {"for": "1h"}}, _send("never")],
        },
        {
            "id": "ok",
            "approval": {"message": "Go on?", "deadline": "15s", "notify": [_send("tell", on_error="continue")]},
        },
    ],
    "outputs": {"out": ["{{ steps.g.output }}", "{{ steps.slow.state }}"]},
}
FAMILY = {
    "name": "random",
    "steps": [
        {"id": "c", "uses": "workflow:child", "with": {"k": 1}},
        {"id": "late", "needs": [], "timeout": "6s", "on_error": "continue", "uses": "workflow:waiting"},
        _send("after", needs=["c", "late"]),
    ],
    "outputs": {"out": ["{{ steps.c.output }}", "{{ steps.late.state }}"]},
}
CHILDREN = {
    "child": {
        "name": "child",
        "inputs": {"k": {"type": "integer", "default": 0}},
        "steps": [_send("a"), _send("b")],
        "outputs": {"b": "{{ steps.b.output }}"},
    },
    "waiting": {
        "name": "waiting",
        "inputs": {"k": {"type": "integer", "default": 0}},
        "steps": [{"id": "w", "wait": {"for": "2h"}}],
        "outputs": {},
        "finally": [_send("tidy")],
    },
}
DOCUMENTS = {
    "tiny": TINY,
    "mails": MAILS,
    "asking": ASKING,
    "failing": FAILING,
    "doubts": DOUBTS,
    "groups": GROUPS,
    "family": FAMILY,
}


def points(name: str, chaos: Chaos | None = None) -> int:
    """Return how many points a world with this document has."""
    return _play(name, chaos or Chaos()).points


def single(name: str, every: int = 1) -> Iterator[tuple[World, list[str]]]:
    """Play a document with each fault at each point, of these one in `every`."""
    for at in range(1, points(name) + 1):
        for i, fault in enumerate(FAULTS):
            if (at + i) % every:
                continue
            world = _play(name, Chaos(at={at: fault}))
            if world.faults:
                yield world, judge(world)


def cancelled(name: str, *, twice: bool = False, every: int = 1) -> Iterator[tuple[World, list[str]]]:
    """Play a document with a cancel just before each point, or two of them, of these one in `every`."""
    most = points(name)
    for first in range(1, most + 1):
        for second in range(first + 1, most + 1) if twice else (0,):
            if (first + second) % every:
                continue
            world = _play(name, Chaos(cancel_at=frozenset({first, second})))
            yield world, judge(world)


def double(name: str, every: int = 1) -> Iterator[tuple[World, list[str]]]:
    """Play a document with each pair of faults, of these one in `every`."""
    number = 0
    for first in range(1, points(name) + 1):
        for fault in FAULTS:
            chaos = Chaos(at={first: fault})
            world = _play(name, chaos)
            for second in range(first + 1, world.points + 1) if world.faults else ():
                for another in FAULTS:
                    number += 1
                    if number % every == 0:
                        again = _play(name, replace(chaos, at={first: fault, second: another}))
                        yield again, judge(again)


def _play(name: str, chaos: Chaos) -> World:
    document = {"inputs": {"k": {"type": "integer", "default": 0}}, "outputs": {}, **DOCUMENTS[name]}
    order = Order("r", document, 0, children=CHILDREN if name == "family" else {})
    return World.run(SEED, [order], chaos, processes=2)
