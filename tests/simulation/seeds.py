"""From a number to a world: what runs there are, what people do, what goes wrong."""

from __future__ import annotations

import random
from dataclasses import replace

from simulation.documents import Maker
from simulation.judges import against_calm, judge
from simulation.world import Chaos, Order, World


def scene(seed: int) -> tuple[list[Order], Chaos, int]:
    """Return the orders, the chaos and the number of processes of a seed."""
    rng = random.Random(f"scene {seed}")
    orders = []
    gated = rng.choice((None, None, None, "queue", "cancel"))
    for i in range(rng.choice((1, 1, 1, 2)) + bool(gated)):
        maker = Maker(rng, rng.randint(3, 25))
        document = maker.document()
        if gated:
            document["concurrency"] = {"policy": gated}
        cancels: tuple[float, ...] = ()
        if rng.random() < 0.2:
            cancels = tuple(rng.choice((0.1, 1.0, 10.0)) * rng.random() for _ in range(rng.choice((1, 1, 2))))
        orders.append(
            Order(
                f"r{i}",
                document,
                rng.randint(0, 4),
                cancels=cancels,
                foreground=rng.random() < 0.2,
                children=maker.children,
            )
        )
    chaos = Chaos(
        rate=rng.choice((0.01, 0.03, 0.1)),
        most=rng.choice((3, 8, 20)),
        slow=rng.choice((0.0, 0.0, 0.05, 0.3)),
        drains=rng.choice((0.0, 0.0, 0.03)),
    )
    return orders, chaos, rng.choice((1, 2, 3))


def play(seed: int, spared: frozenset[int] = frozenset()) -> tuple[World, list[str]]:
    """Play a seed; return the world and what is wrong with it."""
    orders, chaos, processes = scene(seed)
    world = World.run(seed, orders, replace(chaos, spared=spared), processes=processes)
    return world, judge(world) or against_calm(world)


def shrink(seed: int, wrong: list[str]) -> tuple[World, list[str], frozenset[int]]:
    """Leave out faults as long as something is still wrong; return what is left, which is shorter to read."""
    spared: frozenset[int] = frozenset()
    world, wrong = play(seed)
    for point in sorted(world.faults, reverse=True):
        again, still = play(seed, spared | {point})
        if still:
            world, wrong, spared = again, still, spared | {point}
    return world, wrong, spared
