"""Starts processes of Weft quickly: they are forked from one that has imported it and has nothing else.

    with Nursery() as nursery:
        child = nursery.start(["worker"], env={…}, output=path)
        child.kill(); child.wait()

Each child opens its own files and connections, as a process of its own does. Every so often the suite starts one in the
ordinary way, to measure how long that takes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Child:
    """A process that was started here."""

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.started_at = time.time()
        self.killed_at: float | None = None
        self.ended_at: float | None = None
        self._code: int | None = None
        self._popen = popen
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        self._code = code
        self.ended_at = time.time()
        self._ended.set()

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it lives."""
        if self._popen is not None and self._code is None and (code := self._popen.poll()) is not None:
            self.end(code)
        return self._code

    def wait(self, timeout_s: float = 60.0) -> int:
        if self._popen is not None:
            self.end(self._popen.wait(timeout_s))
        elif not self._ended.wait(timeout_s):
            raise TimeoutError(f"process {self.pid} goes on after {timeout_s} s")
        assert self._code is not None
        return self._code

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def listens(self) -> None:
        """Return when it has a handler of its own for SIGTERM; until then it has begun nothing."""
        while self.poll() is None and not self._handles(signal.SIGTERM):
            time.sleep(0.01)

    def _handles(self, number: int) -> bool:
        try:
            [mask] = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{self.pid}/status").read_text())
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return False
        return bool(int(mask, 16) >> (number - 1) & 1)

    def terminate(self) -> int:
        """End it with SIGTERM, and return its exit code."""
        self.listens()
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.killed_at = time.time()
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Stop it with SIGSTOP, and wait until it stands."""
        self.send(signal.SIGSTOP)
        while self.poll() is None and not self._stands():
            time.sleep(0.001)

    def _stands(self) -> bool:
        try:
            tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
            return all((task / "stat").read_text().rpartition(")")[2].split()[0] in "TZX" for task in tasks)
        except (FileNotFoundError, ProcessLookupError):
            return True

    def go_on(self) -> None:
        self.send(signal.SIGCONT)


class Stranger(Child):
    """A process that a child has started."""

    def poll(self) -> int | None:
        return None if Path(f"/proc/{self.pid}").exists() else 0


class Nursery:
    """The process that others are forked from, and those others.

    Args:
        ready: What that process does before the first is born: `module:function`.
    """

    def __init__(self, *ready: str) -> None:
        self._ready = ready

    def __enter__(self) -> Nursery:
        self._mother = subprocess.Popen(
            [sys.executable, __file__, *self._ready],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=plain_environment(),
        )
        self._children: dict[int, Child] = {}
        self._lock = threading.Lock()
        self._born = threading.Condition(self._lock)
        self._one = threading.Lock()  #: an order at a time: the answers have no names
        self._last: int | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for child in list(self._children.values()):
            child.go_on()
            child.send(signal.SIGKILL)
        assert self._mother.stdin is not None
        self._mother.stdin.close()
        self._mother.wait(30)
        self._reader.join(5)
        assert self._mother.stdout is not None
        self._mother.stdout.close()

    def start(self, words: Sequence[str], env: Mapping[str, str], output: Path, *, fresh: bool = False) -> Child:
        """Start `launcher.py` with these words.

        Args:
            words: Its arguments.
            env: Its variables, beside the plain ones.
            output: What it prints is appended there.
            fresh: Start it in the ordinary way.
        """
        if fresh:
            with output.open("ab") as file:
                command = [sys.executable, str(HERE / "launcher.py"), *words]
                popen = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**plain_environment(), **env}
                )
            child = Child(popen.pid, popen)
            with self._lock:
                self._children[-popen.pid] = child
            return child
        assert self._mother.stdin is not None
        order = json.dumps({"words": list(words), "env": dict(env), "output": str(output)})
        with self._one, self._born:
            self._last = None
            self._mother.stdin.write(order.encode() + b"\n")
            self._mother.stdin.flush()
            if not self._born.wait_for(lambda: self._last is not None, timeout=60) or self._last is None:
                raise RuntimeError("the nursery gives no answer")
            return self._children[self._last]

    def _read(self) -> None:
        assert self._mother.stdout is not None
        for line in self._mother.stdout:
            told = json.loads(line)
            with self._born:
                if "born" in told:
                    self._children[told["born"]] = Child(told["born"])
                    self._last = told["born"]
                    self._born.notify_all()
                else:
                    self._children[told["ended"]].end(told["code"])


def plain_environment() -> dict[str, str]:
    """Return the variables that a process needs and that decide nothing."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}


# ---- the mother
def main() -> None:
    sys.path[0] = str(HERE.parent)
    from faults import launcher

    from weft import packs, runtime

    registry = packs.discover([launcher.PACK])
    runtime.discover = lambda extra=(): registry  # type: ignore[attr-defined]  # all have the same packs
    for name in ("aiosmtpd.smtp", "uvloop", "weft.cli.worker"):  # each worker would import them by itself
        importlib.import_module(name)
    for call in sys.argv[1:]:
        module, _, name = call.partition(":")
        getattr(importlib.import_module(module), name)()
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    alive: set[int] = set()
    text = b""
    while True:
        ready, _, _ = select.select([0, wakes], [], [])
        if wakes in ready:
            os.read(wakes, 4096)
            _reap(alive)
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return
        *orders, text = (text + data).split(b"\n")
        for order in orders:
            pid = _fork(json.loads(order), launcher.main)
            alive.add(pid)
            _tell({"born": pid})


def _fork(order: dict[str, Any], work: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(order["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(order["env"])
    code = 70
    try:
        work(order["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  a fork must never return into the loop of its mother
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)
    return 0


def _reap(alive: set[int]) -> None:
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        alive.discard(pid)
        _tell({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(told: dict[str, int]) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    main()
