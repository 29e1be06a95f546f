"""Row 2: the power goes, in the middle of everything; what was acknowledged must be on the disk.

An ext4 file system on a loop device is shut down without a flush of its log (`EXT4_IOC_SHUTDOWN`), which loses what was
not flushed, as a power cut does. The processes stand still then: the kernel could otherwise blame a correct setting.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

from faults.breaking import BREAK
from faults.kills import replayed
from faults.ledger import OUTCOMES, Ledger, Log
from faults.nursery import Child, Nursery
from faults.places import SqlitePlace

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
IMAGE_BYTES = 48 << 20
TO_THE_END = 10
"""At every such cut, whatever is left is brought to its end."""


def impossible() -> str | None:
    """Say why it cannot be tried here, if so."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [tool for tool in ("losetup", "mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not there"
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"no loop device: {found.stderr.strip()}"


class Disk:
    """A file system that can be cut off from its power."""

    def __init__(self, directory: Path) -> None:
        self._image, self.mount = directory / "image", directory / "disk"

    def __enter__(self) -> Disk:
        self.mount.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)
        self._attach()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.mount], check=False, capture_output=True)
        self._image.unlink()

    def _attach(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self.mount], check=True)

    def cut(self) -> None:
        handle = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def come_back(self) -> None:
        """Mount it again, as after a restart; everything that had it open has ended."""
        subprocess.run(["umount", self.mount], check=True)
        self._attach()


def cut_once(nursery: Nursery, directory: Path, seed: str, *, to_the_end: bool, broken: str | None = None) -> Ledger:
    """Cut the power under workers and submitters once, at a random moment; return what was lost."""
    dice = random.Random(seed)
    more = {BREAK: broken} if broken else {}
    with Disk(directory) as disk:
        place = SqlitePlace(nursery, directory)
        place.home = disk.mount / "home"
        ledger, log = Ledger(may_lose=broken is not None), Log(place.effects)
        inputs = json.dumps({"seconds": 0.02, "rest": "300ms"})
        words = [("submit", "five-steps", name, "0", "500", "0.01", inputs) for name in "abcd"]
        living: list[Child] = [place.start(*each, env=more) for each in words]
        living += [place.worker(env=more), place.worker(env=more)]
        while len(ledger.ended) < 2:
            time.sleep(0.05)
            ledger.read(log.news())
            if any(child.poll() is not None for child in living):
                raise RuntimeError(place.output()[-2000:])
        time.sleep(dice.uniform(0, 1.5))
        for child in living:
            child.stop()
        ledger.read(log.news())
        ledger.counts["ended before a cut"] += len(ledger.ended)
        disk.cut()
        ledger.counts["cuts"] += 1
        for child in living:
            child.kill()
            ledger.kill(child.pid, child.killed_at or 0.0)
        disk.come_back()
        ledger.look(place.snapshot())
        if to_the_end:
            _end(place, ledger)
            ledger.read(log.news())
            ledger.look(place.snapshot())
            ledger.wrong += replayed(place)
    shutil.rmtree(directory, ignore_errors=True)
    ledger.counts["cuts that lost"] += any(
        ledger.counts[each] for each in ("lost", "acknowledged records lost", "ends lost")
    )
    return ledger


def _end(place: SqlitePlace, ledger: Ledger) -> None:
    worker = place.worker()
    until = time.monotonic() + 90
    while time.monotonic() < until:
        states = place.states()
        if all(state in OUTCOMES for state in states.values()):
            break
        time.sleep(0.1)
    else:
        ledger.wrong.append(f"not everything has ended: {place.states()}")
    if worker.terminate() != 0:
        ledger.wrong.append(f"the worker left with {worker.poll()}")
