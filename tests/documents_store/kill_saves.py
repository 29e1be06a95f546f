"""Kills a process while it saves, again and again: `python tests/documents_store/kill_saves.py 500`.

After each kill the file holds a whole text that was being saved, the list names no other workflow, and the text is a
version by whoever saved it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from weft.documents import directory, history
from weft.documents.base import OUTSIDE
from weft.state import State


def text(number: int) -> str:
    """Return a text that tells whether it is whole."""
    body = f"name: w\n# {number}\n" + "# filled up\n" * (number % 40 * 100)
    return f"{body}# {hashlib.sha256(body.encode()).hexdigest()}\n"


def is_whole(content: str) -> bool:
    body, _, last = content.rstrip("\n").rpartition("\n")
    return bool(body) and last == "# " + hashlib.sha256((body + "\n").encode()).hexdigest()


def store(place: Path) -> tuple[directory.DirectoryDocuments, State]:
    state = State(place / "home/state.db")

    async def opened() -> State:
        await state.open()
        return state

    return directory.DirectoryDocuments(place / "workflows", place / "home", opened), state


async def save(place: Path, begun: int) -> str:
    """Save one text after another until somebody ends it; say so after the first."""
    documents, _ = store(place)
    number = random.randrange(10**9)
    while True:
        now = (await documents.read("w")).etag
        number += 1
        await documents.save("w", text(number), if_match=now, by="saver")
        os.write(begun, b".")


async def look(place: Path) -> str:
    """Return what is wrong after a kill; nothing, if all is well."""
    documents, state = store(place)
    names = [facts.name for facts in await documents.list()]
    if names != ["w"]:
        return f"listed: {names}"
    if not is_whole((await documents.peek("w")).text):
        return "the text is neither the old one nor the new one"
    newest, *_ = await documents.versions("w", limit=1)
    if newest.by == OUTSIDE or newest.etag != (await documents.peek("w")).etag:
        return f"the newest version is {newest}"
    await documents.close()
    await state.close()
    return ""


def in_child(work: Callable[[], Coroutine[object, object, str]]) -> int:
    """Do work in a fork, and return its process; nothing has begun a thread here."""
    child = os.fork()
    if child:
        return child
    try:
        found = asyncio.run(work())
        if found:
            print(found, flush=True)
    except BaseException as error:  # noqa: BLE001  a fork must not go on as its parent
        print(repr(error), flush=True)
        os._exit(2)
    os._exit(1 if found else 0)


def trial(place: Path, times: int) -> None:
    async def begin() -> str:
        documents, state = store(place)
        await documents.save("w", text(0), if_match=None, by="saver")
        await state.close()
        return ""

    assert os.waitstatus_to_exitcode(os.waitpid(in_child(begin), 0)[1]) == 0
    parts = 0
    for number in range(times):
        begun, says = os.pipe()
        child = in_child(functools.partial(save, place, says))
        os.close(says)
        os.read(begun, 1)
        time.sleep(random.random() * 0.03)  # two or three saves long
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        os.close(begun)
        parts += len(list((place / "workflows").glob(".weft-*")))
        if os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: look(place)), 0)[1]):
            raise SystemExit(f"kill {number}")
        for part in (place / "workflows").glob(".weft-*"):
            os.utime(part, (0, 0))  # as if it had been left long ago: the next save clears it away
    saves = asyncio.run(_versions(place))
    print(f"killed {times} times during {saves} saves; {parts} incomplete files were cleared away")


async def _versions(place: Path) -> int:
    documents, state = store(place)
    (newest,) = await documents.versions("w", limit=1)
    await state.close()
    return newest.number


if __name__ == "__main__":
    assert history.REMOVED == ""  # imported before the first fork
    with tempfile.TemporaryDirectory() as found:
        trial(Path(found), int(sys.argv[1]) if len(sys.argv) > 1 else 500)
