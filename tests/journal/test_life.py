"""Whether a process lives is told by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from weft.journal.life import Life, clear_away, is_alive

SCRIPT = """
    import sys, time
    from pathlib import Path
    from weft.journal.life import Life
    life = Life(Path(sys.argv[1]))
    life.begin()
    print(life.name, flush=True)
    time.sleep(60)
"""


def test_a_process_is_alive_until_the_kernel_ends_it(tmp_path: Path) -> None:
    """A13: stopped it still lives; killed it does not, and nothing of it is left."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    try:
        assert is_alive(tmp_path, name)
        os.kill(child.pid, signal.SIGSTOP)
        assert is_alive(tmp_path, name)
    finally:
        child.kill()
        child.communicate()
    assert not is_alive(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_child_of_the_process_does_not_stand_for_it(tmp_path: Path) -> None:
    """What a process started may outlive it without keeping its lock."""
    life = Life(tmp_path)
    life.begin()
    name = life.name
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        assert life._handle is not None
        os.close(life._handle)  # as the kernel does when a process dies
        until = time.monotonic() + 10  # the kernel closes the child's copy while it starts its program
        while is_alive(tmp_path, name):
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()


def test_a_process_sees_itself(tmp_path: Path) -> None:
    """The lock holds against the same process, too; it ends when the process says so."""
    life = Life(tmp_path / "made")
    assert not is_alive(tmp_path / "made", life.name)
    life.begin()
    life.begin()
    assert is_alive(tmp_path / "made", life.name)
    life.end()
    life.end()
    assert not is_alive(tmp_path / "made", life.name)


def test_observers_at_the_birth_do_not_hide_it(tmp_path: Path) -> None:
    """Whoever looks while a process begins never leaves it without its file."""
    lives = [Life(tmp_path) for _ in range(200)]
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for life in lives:
                is_alive(tmp_path, life.name)

    observers = [threading.Thread(target=look) for _ in range(3)]
    for observer in observers:
        observer.start()
    for life in lives:
        life.begin()
    done.set()
    for observer in observers:
        observer.join()

    assert all(is_alive(tmp_path, life.name) for life in lives)
    for life in lives:
        life.end()


def test_a_life_whose_file_was_deleted_knows_it(tmp_path: Path) -> None:
    """A13: the lock is held as before, but on a file that nobody else can find; another file in its place is no proof."""
    life = Life(tmp_path)
    assert not life.holds()
    life.begin()
    assert life.holds()
    (file,) = tmp_path.iterdir()
    file.unlink()
    assert not life.holds()
    file.touch()
    assert not life.holds()
    assert not is_alive(tmp_path, life.name)
    life.end()


def test_what_the_dead_left_is_cleared_away(tmp_path: Path) -> None:
    """Files of processes that ended without a word go, those of the living stay."""
    life = Life(tmp_path)
    life.begin()
    (tmp_path / "dead.alive").touch()
    (tmp_path / "else").touch()
    clear_away(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["else", f"{life.name}.alive"])
    life.end()
