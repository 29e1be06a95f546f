"""Plays many seeds: `python tests/simulation/run.py --seeds 10000`; `--seed 17` plays one and tells its story.

`--pairs` plays each pair of faults in the smallest document instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simulation import aimed
from simulation.seeds import play, shrink


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="play only this one, and tell everything")
    parser.add_argument("--most", type=int, default=1, help="end after so many failures")
    parser.add_argument("--pairs", action="store_true", help="play each pair of faults in the smallest document")
    parser.add_argument("--every", type=int, default=1, help="of the pairs, one in so many")
    args = parser.parse_args()
    if args.pairs:
        return pairs(args.every)
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    counts: Counter[str] = Counter()
    began, failed = time.monotonic(), 0
    for seed in seeds:
        world, wrong = play(seed)
        counts.update(f"fault: {fault}" for fault in world.faults.values())
        counts.update(f"runs {run.status.state}" for run in world.store.runs.values())
        counts.update(worlds=1, points=world.points, attempts=sum(world.begun.values()))
        counts["records"] += sum(len(run.records) for run in world.store.runs.values())
        counts["repeats"] += sum(seen.what == "begin" and "repeated" in seen.more for seen in world.log)
        if wrong:
            failed += 1
            tell(seed, wrong)
            if failed >= args.most:
                break
        elif args.seed is not None:
            print(*world.log, sep="\n")
    print(f"{time.monotonic() - began:.1f} s, {failed} failed;", dict(sorted(counts.items())))
    return 1 if failed else 0


def pairs(every: int) -> int:
    played = failed = 0
    for world, wrong in aimed.double("tiny", every):
        played += 1
        failed += bool(wrong)
        if wrong and failed == 1:
            print(world.chaos.at, *world.log, sep="\n")
            print(*(f"WRONG {each}" for each in wrong[:6]), sep="\n")
    print(f"{played} pairs, {failed} failed")
    return 1 if failed else 0


def tell(seed: int, wrong: list[str]) -> None:
    world, wrong, spared = shrink(seed, wrong)
    print(f"== seed {seed}, with {len(world.faults)} faults left ({len(spared)} were not needed)")
    for order in world.orders:
        print(order.run_id, f"k={order.k}", order.text)
    print(*world.log, sep="\n")
    print(*(f"WRONG {each}" for each in wrong[:6]), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
