"""Row 3: the disk fails, or is full. What cannot be written is not acknowledged, and goes on when it can be."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from faults.aiming import HOLD
from faults.kills import replayed
from faults.ledger import OUTCOMES, Ledger, Log
from faults.places import SqlitePlace
from faults.watching import Watch

BACK_S = 10.0
"""Within which everything goes on by itself when there is room again."""

ROOM = 65_536
"""Bytes; the journal's log is longer, the effects log shorter."""

FAULTS = (("fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EIO"))
FARTHEST = 400


def full(place: SqlitePlace, seconds: float) -> Ledger:
    """No file may grow for a while (RLIMIT_FSIZE, so that it needs no rights): as a disk without room."""
    watch = Watch(place)
    watch.submit("five-steps", 30, pause_s=0.02, seconds=0.1, rest="100ms")
    worker = watch.work()
    watch.until(lambda: watch.noted("begin") > 20, what="runs are under way")
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        watch.look()
    output = place.output()
    watch.ledger.look(place.snapshot(watch.workers))
    if "journal_away" not in output:
        watch.ledger.wrong.append("the worker did not say that the journal cannot be written")
    before = watch.noted("kept")
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    took = watch.until(lambda: watch.noted("kept") > before, longest_s=60, what="something is written again")
    watch.ledger.counts["back after, ms"] = round(1000 * took)
    if took > BACK_S:
        watch.ledger.wrong.append(f"it took {took:.1f} s until something was written again")
    return watch.finish()


def small_disk(place: SqlitePlace) -> Ledger:
    """A file system of 400 KB that is full while runs are under way, and grows later."""
    mount = place.directory / "small"
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", mount], check=True)
    try:
        place.home = mount / "home"
        watch = Watch(place)
        watch.submit("five-steps", 150, pause_s=0.005, seconds=0.05, rest="100ms")
        watch.work()
        watch.until(lambda: "journal_away" in place.output(), longest_s=60, what="the disk is full")
        time.sleep(2)
        watch.look()
        watch.ledger.look(place.snapshot(watch.workers))
        before = watch.noted("kept")
        subprocess.run(["mount", "-o", "remount,size=40m", mount], check=True)
        took = watch.until(lambda: watch.noted("kept") > before, longest_s=60, what="something is written again")
        watch.ledger.counts["back after, ms"] = round(1000 * took)
        if took > BACK_S:
            watch.ledger.wrong.append(f"it took {took:.1f} s until something was written again")
        return watch.finish()
    finally:
        subprocess.run(["umount", mount], check=False)


# ---- at every call
def impossible() -> str | None:
    """Say why single calls cannot be made to fail here, if so."""
    if shutil.which("strace") is None:
        return "strace is not there"
    found = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"strace may not trace: {found.stderr.strip()[:200]}"


def every_call(make: Callable[[str], SqlitePlace], *, step: int = 1, at_once: int = 4) -> Iterator[Ledger]:
    """Let the n-th call of a worker fail, for each n, each in a place of its own."""
    for call, error in FAULTS:
        with ThreadPoolExecutor(at_once) as pool:
            for first in range(1, FARTHEST, at_once * step):
                numbers = range(first, first + at_once * step, step)
                found = list(pool.map(lambda n: failing(make(f"{call}-{error}-{n}"), call, error, n), numbers))  # noqa: B023
                yield from found
                if not all(ledger.counts["calls that failed"] for ledger in found):
                    break


def failing(place: SqlitePlace, call: str, error: str, number: int) -> Ledger:
    """Let one call of a worker fail while it does a run."""
    ledger, log = Ledger(), Log(place.effects)
    inputs = json.dumps({"seconds": 0.01, "rest": "100ms"})
    if place.start("submit", "five-steps", "r", "0", "1", "0", inputs).wait() != 0:
        raise RuntimeError(place.output())
    worker = place.worker(env={HOLD: "1"})
    trace = place.directory / "trace"
    inject = f"inject={call}:error={error}:when={number}"
    command = ["strace", "-f", "-qq", "-p", str(worker.pid), "-o", str(trace), "-e", f"trace={call}", "-e", inject]
    with (place.directory / "strace").open("wb") as said:
        tracer = subprocess.Popen(command, stderr=said, stdout=said)
    began = time.monotonic()
    while time.monotonic() - began < 60 and worker.poll() is None:
        if (states := place.states()) and all(state in OUTCOMES for state in states.values()):
            break
        time.sleep(0.1)
    else:
        ledger.wrong.append(f"did not end: {place.states()}, worker {worker.poll()}: {place.output()[-1500:]}")
    if (code := worker.terminate()) != 0:
        ledger.wrong.append(f"the worker left with {code}: {place.output()[-1500:]}")
    tracer.wait(30)
    injected = len(re.findall(r"\(INJECTED\)", trace.read_text()))
    ledger.counts["calls that failed"] = injected
    ledger.counts[f"{call} {error}"] = injected
    ledger.read(log.news())
    ledger.look(place.snapshot())
    ledger.wrong += replayed(place)
    ledger.wrong = [f"{call} {error} {number} in {place.directory}: {each}" for each in ledger.wrong]
    return ledger
