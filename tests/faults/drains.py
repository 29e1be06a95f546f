"""Row 18: SIGTERM at random moments; a worker leaves in time, with code 0, and nothing fails of it."""

from __future__ import annotations

import random
import time
from signal import SIGTERM

from faults.kills import AnyPlace
from faults.ledger import Ledger
from faults.watching import Watch

SPARE_S = 1.0
"""Beyond the grace."""
MANY = 100
"""As many are judged by the promise itself: they are played alone."""
BUSY_S = 4.0
"""The same, where other trials keep the machine busy: a process that ends takes its time to be seen."""


def drained(place: AnyPlace, *, terms: int, seed: str) -> Ledger:
    """End workers one after the other while runs are under way, half of them with a grace shorter than a step."""
    dice = random.Random(seed)
    watch = Watch(place)
    watch.submit("long-steps", terms, pause_s=0.9, seconds=0.8)
    watch.submit("five-steps", terms, pause_s=0.9, seconds=0.3, rest="300ms")
    longest = 0.0
    for _ in range(terms):
        grace_s = dice.choice([0.0, 0.2, 5.0, 30.0])
        worker = watch.work("--grace", str(grace_s))
        worker.listens()
        time.sleep(dice.uniform(0, 1.5))
        watch.look()
        watch.ledger.left.add(worker.pid)  # what the grace was too short for
        began = time.monotonic()
        worker.send(SIGTERM)
        try:
            code = worker.wait(grace_s + 20)
        except TimeoutError:
            watch.ledger.wrong.append(f"a worker goes on 20 s after its grace of {grace_s} s")
            worker.kill()
            continue
        took = time.monotonic() - began
        longest = max(longest, took - grace_s)
        watch.workers.remove(worker)
        watch.ledger.counts["SIGTERMs"] += 1
        if code != 0:
            watch.ledger.wrong.append(f"a worker left with {code}: {place.output()[-1500:]}")
        if took > grace_s + (SPARE_S if terms >= MANY else BUSY_S):
            watch.ledger.wrong.append(f"a worker with {grace_s} s left after {took:.1f} s")
    watch.ledger.counts["most beyond the grace, ms"] = round(1000 * max(0.0, longest))
    watch.work()
    ledger = watch.finish()
    failed = [line for line in place.effects.read_text().splitlines() if line.endswith(("failed", "cancelled"))]
    wrong = [line for line in failed if " /again 1 " not in line]
    ledger.counts["failed by it"] = len(wrong)
    ledger.wrong += wrong
    return ledger
